/// One property of a vCard or iCalendar file.
///
/// - Source: RFC 6350 section 3; RFC 5545 section 3.1; RFC 6868 for quotes and line breaks in parameters.
package struct ContentLine: Hashable, Sendable {
    /// In capital letters, without the name of a group before it.
    package let name: String
    /// In the order in which they stand; names in capital letters.
    package let parameters: [Parameter]
    /// As it stands in the file: escapes are not resolved, since where a value is divided depends on the property.
    package let value: String
    /// The line in which it begins, from 1; 0 for one that is to be written.
    package let line: Int

    /// A parameter with its values.
    package struct Parameter: Hashable, Sendable {
        package let name: String
        package let values: [String]
    }

    package init(_ name: String, _ parameters: [(String, String)] = [], value: String) {
        self.name = name
        self.parameters = parameters.map { Parameter(name: $0.0, values: [$0.1]) }
        self.value = value
        line = 0
    }

    /// A property whose value is text.
    package init(_ name: String, _ parameters: [(String, String)] = [], text: String) {
        self.init(name, parameters, value: Self.escaped(text))
    }

    /// Says that a value was made of others.
    ///
    /// - Source: RFC 9073 section 5.3; RFC 9554 section 4.3.
    static let derived = [("DERIVED", "TRUE")]

    var isDerived: Bool { values("DERIVED").contains("true") }

    /// The values of a parameter, in small letters.
    package func values(_ name: String) -> [String] {
        parameters.filter { $0.name == name }.flatMap(\.values)
            .flatMap { $0.split(separator: ",").map { $0.lowercased() } }
    }

    // MARK: Text

    /// A text as it stands in a value.
    package static func escaped(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.replacing("\r\n", with: "\n").unicodeScalars {
            switch scalar {
            case "\\", ";", ",": result.append(contentsOf: ["\\", scalar])
            case "\n", "\r": result.append(contentsOf: "\\n".unicodeScalars)
            // Other control characters are not allowed.
            case "\u{0}"..."\u{8}", "\u{B}"..."\u{1F}", "\u{7F}": continue
            default: result.append(scalar)
            }
        }
        return String(result)
    }

    /// The text that a value, or a part of one, holds.
    package static func unescaped(_ value: some StringProtocol) -> String {
        var result = String.UnicodeScalarView()
        var isEscaped = false
        for scalar in value.unicodeScalars {
            if isEscaped {
                result.append(scalar == "n" || scalar == "N" ? "\n" : scalar)
                isEscaped = false
            } else if scalar == "\\" {
                isEscaped = true
            } else {
                result.append(scalar)
            }
        }
        return String(result)
    }

    /// The parts of a value between separators that are not escaped, resolved.
    package func parts(_ separator: Unicode.Scalar = ";") -> [String] {
        var parts = [String.UnicodeScalarView()]
        var isEscaped = false
        for scalar in value.unicodeScalars {
            if scalar == separator, !isEscaped {
                parts.append(String.UnicodeScalarView())
            } else {
                parts[parts.count - 1].append(scalar)
            }
            isEscaped = scalar == "\\" && !isEscaped
        }
        return parts.map { Self.unescaped(String($0)) }
    }

    /// The whole value as text.
    package var text: String { Self.unescaped(value) }

    // MARK: Writing

    private static let octetsMax = 75

    /// The property as lines of at most 75 octets, divided between characters and ended by CR LF.
    package var folded: String {
        var line = name
        for parameter in parameters {
            line += ";\(parameter.name)=" + parameter.values.map(Self.quoted).joined(separator: ",")
        }
        line += ":" + value
        guard line.utf8.count > Self.octetsMax else { return line + "\r\n" }
        var result = ""
        var octets = 0
        for character in line {
            let count = character.utf8.count
            if octets + count > Self.octetsMax {
                result += "\r\n "
                octets = 1
            }
            result.append(character)
            octets += count
        }
        return result + "\r\n"
    }

    private static func quoted(_ value: String) -> String {
        let encoded = value.replacing("^", with: "^^").replacing("\n", with: "^n").replacing("\"", with: "^'")
        return encoded.contains { ":;,".contains($0) } ? "\"\(encoded)\"" : encoded
    }
}

/// Puts the lines of a file together into properties: a line that begins with a blank goes on with the one before.
package struct ContentLineReader {
    /// The longest property; a photograph is longer than any text.
    package static let octetsMax = 4 << 20

    private var pending: (line: Int, bytes: [UInt8])?
    /// Whether the pending line is divided in the way of quoted-printable.
    private var isSoft = false

    package init() {}

    /// Takes the next line, without its line break.
    ///
    /// - Returns: The property that the line before it ends.
    package mutating func take(_ bytes: [UInt8], line: Int) -> ContentLine? {
        var bytes = bytes
        if bytes.last == 0x0D { bytes.removeLast() }
        if isSoft {
            extend(bytes[...])
            isSoft = bytes.last == UInt8(ascii: "=")
            return nil
        }
        if let first = bytes.first, first == 0x20 || first == 0x09, pending != nil {
            extend(bytes.dropFirst())
            return nil
        }
        let finished = finish()
        if line == 1, bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes.removeFirst(3) }
        pending = (line, bytes)
        isSoft = bytes.last == UInt8(ascii: "=") && Self.isQuotedPrintable(bytes)
        return finished
    }

    /// The last property.
    package mutating func finish() -> ContentLine? {
        defer { pending = nil }
        return pending.flatMap { ContentLine($0.bytes, line: $0.line) }
    }

    private mutating func extend(_ bytes: ArraySlice<UInt8>) {
        guard let count = pending?.bytes.count, count + bytes.count <= Self.octetsMax else { return }
        if isSoft { pending?.bytes.removeLast() }
        pending?.bytes += bytes
    }

    private static func isQuotedPrintable(_ bytes: [UInt8]) -> Bool {
        let head = bytes.prefix { $0 != UInt8(ascii: ":") }
        return String(decoding: head, as: UTF8.self).uppercased().contains("QUOTED-PRINTABLE")
    }
}

extension ContentLine {
    /// Reads a property from its unfolded bytes; nil when it has no name or no colon.
    init?(_ bytes: [UInt8], line: Int) {
        var index = 0
        func isEnd(_ byte: UInt8) -> Bool { byte == UInt8(ascii: ":") || byte == UInt8(ascii: ";") }
        while index < bytes.count, !isEnd(bytes[index]) { index += 1 }
        guard index < bytes.count, index > 0 else { return nil }
        let head = String(decoding: bytes[..<index], as: UTF8.self)
        var parameters: [Parameter] = []
        while index < bytes.count, bytes[index] == UInt8(ascii: ";") {
            let start = index + 1
            index = start
            var isQuoted = false
            while index < bytes.count, isQuoted || !isEnd(bytes[index]) {
                if bytes[index] == UInt8(ascii: "\"") { isQuoted.toggle() }
                index += 1
            }
            parameters.append(Self.parameter(String(decoding: bytes[start..<index], as: UTF8.self)))
        }
        guard index < bytes.count else { return nil }
        var content = Array(bytes[(index + 1)...])
        let encodings = parameters.filter { $0.name == "ENCODING" || $0.values.isEmpty }
        if encodings.contains(where: { ($0.values.first ?? $0.name).uppercased() == "QUOTED-PRINTABLE" }) {
            content = Self.decodedQuotedPrintable(content)
        }
        name = (head.split(separator: ".").last.map(String.init) ?? head).uppercased()
        self.parameters = parameters
        value = String(decoding: content, as: UTF8.self)
        self.line = line
    }

    private static func parameter(_ text: String) -> Parameter {
        // Version 2.1 wrote types without their name.
        guard let sign = text.firstIndex(of: "=") else {
            let isEncoding = text.uppercased() == "QUOTED-PRINTABLE" || text.uppercased() == "BASE64"
            return Parameter(name: isEncoding ? "ENCODING" : "TYPE", values: [text])
        }
        var values: [String] = [""]
        var isQuoted = false
        for character in text[text.index(after: sign)...] {
            if character == "\"" {
                isQuoted.toggle()
            } else if character == ",", !isQuoted {
                values.append("")
            } else {
                values[values.count - 1].append(character)
            }
        }
        return Parameter(
            name: text[..<sign].uppercased(),
            values: values.map {
                $0.replacing("^n", with: "\n").replacing("^'", with: "\"").replacing("^^", with: "^")
            }
        )
    }

    /// - Source: RFC 2045 section 6.7.
    private static func decodedQuotedPrintable(_ bytes: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "="), index + 2 < bytes.count,
                let byte = UInt8(String(decoding: bytes[(index + 1)...(index + 2)], as: UTF8.self), radix: 16)
            {
                result.append(byte)
                index += 3
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return result
    }
}

/// A vCard, or an event, task or entry of a calendar: the properties between BEGIN and END.
package struct ContentComponent: Hashable, Sendable {
    /// Why it cannot be used.
    package enum Flaw: Hashable, Sendable {
        /// Another one begins, or the file ends, before it does.
        case noEnd
        /// It has more properties or text than anything of its kind.
        case tooLarge
    }

    /// In capital letters: `VCARD`, `VEVENT`, `VTODO`, `VJOURNAL`.
    package let kind: String
    /// The line in which it begins, from 1.
    package let line: Int
    package fileprivate(set) var properties: [ContentLine] = []
    package fileprivate(set) var flaw: Flaw?

    /// The first property of a name.
    package func first(_ name: String) -> ContentLine? { properties.first { $0.name == name } }

    /// All properties of a name.
    package func all(_ name: String) -> [ContentLine] { properties.filter { $0.name == name } }
}

/// Puts properties together into components; what stands inside of them or around is left out.
package struct ContentComponentReader {
    private static let propertiesMax = 10_000
    private static let octetsMax = 1 << 20

    private let kinds: Set<String>
    private var open: ContentComponent?
    private var octets = 0
    /// How many components are open inside it.
    private var depth = 0

    package init(_ kinds: Set<String>) { self.kinds = kinds }

    /// Takes the next property.
    ///
    /// - Returns: The component that it ends.
    package mutating func take(_ line: ContentLine) -> ContentComponent? {
        let word = line.value.uppercased().filter { !$0.isWhitespace }
        if line.name == "BEGIN", kinds.contains(word) {
            let unfinished = finish()
            open = ContentComponent(kind: word, line: line.line)
            octets = 0
            depth = 0
            return unfinished
        }
        guard let kind = open?.kind else { return nil }
        if line.name == "BEGIN" {
            depth += 1
        } else if line.name == "END", depth > 0 {
            depth -= 1
        } else if line.name == "END", word == kind {
            defer { open = nil }
            return open
        } else if depth == 0, open?.flaw == nil {
            // What is no text is not kept: photographs, keys, sounds.
            guard !["PHOTO", "LOGO", "SOUND", "KEY", "ATTACH"].contains(line.name) else { return nil }
            octets += line.value.utf8.count
            if open?.properties.count == Self.propertiesMax || octets > Self.octetsMax {
                open?.flaw = .tooLarge
                open?.properties = []
            } else {
                open?.properties.append(line)
            }
        }
        return nil
    }

    /// The component that is still open at the end of the file.
    package mutating func finish() -> ContentComponent? {
        defer { open = nil }
        guard var unfinished = open else { return nil }
        unfinished.flaw = .noEnd
        return unfinished
    }
}
