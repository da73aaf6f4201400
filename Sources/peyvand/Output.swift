import Foundation

/// Where a command prints: one JSON document, or text for people. Messages go to standard error.
struct Output: Sendable {
    let isJSON: Bool
    let language: Language

    var words: Words { Words(language) }

    /// How standard output shows text.
    var style: ConsoleStyle { .detected(.output, isPersian: language == .fa) }

    /// Prints a result: as JSON if that was asked for, else the text.
    func result(_ document: some Encodable, text: @autoclosure () -> String) throws {
        if isJSON {
            try print(bytes: Self.json(Document(content: document)) + [UInt8(ascii: "\n")])
        } else {
            try print(bytes: Array(text().utf8))
        }
    }

    /// Prints bytes as they are, at once.
    ///
    /// - Throws: ``CommandFailure`` when standard output does not take them; ``ClosedOutput`` when nobody reads
    ///   it any more.
    func print(bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { buffer in
            var rest = buffer[...]
            while !rest.isEmpty {
                let written = write(
                    STDOUT_FILENO,
                    UnsafeRawBufferPointer(rebasing: rest).baseAddress,
                    rest.count
                )
                if written < 0, errno == EINTR { continue }
                if written < 0, errno == EPIPE { throw ClosedOutput() }
                guard written > 0 else {
                    throw CommandFailure(.failed, words.outputFailed(String(cString: strerror(errno))))
                }
                rest = rest.dropFirst(written)
            }
        }
    }

    /// Tells people something beside the result.
    func message(_ sentence: String) { Terminal.write(sentence + "\n", to: .error) }

    /// The canonical form of JSON output: keys sorted, slashes as they are.
    static func json(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return [UInt8](try encoder.encode(value))
    }

    /// A document with the number of its shape at the top.
    private struct Document<Content: Encodable>: Encodable {
        private enum Keys: CodingKey { case schema }

        let content: Content

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: Keys.self)
            try container.encode(1, forKey: .schema)
            try content.encode(to: encoder)
        }
    }
}

/// Nobody reads standard output any more: the command ends in silence.
struct ClosedOutput: Error {}
