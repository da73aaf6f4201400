import CExpat
import Glibc

/// The name of an element, without a prefix. Lives as long as the call that it was given to.
struct XMLName {
    private let bytes: UnsafePointer<CChar>

    fileprivate init(_ name: UnsafePointer<CChar>) {
        var start = name
        var index = name
        while index.pointee != 0 {
            if index.pointee == 0x3A { start = index + 1 }
            index += 1
        }
        bytes = start
    }

    static func ~= (pattern: StaticString, name: XMLName) -> Bool { name == pattern }

    static func == (name: XMLName, other: StaticString) -> Bool {
        strcmp(name.bytes, UnsafeRawPointer(other.utf8Start).assumingMemoryBound(to: CChar.self)) == 0
    }
}

/// The value of an attribute, to be compared.
struct XMLValue {
    private let bytes: UnsafePointer<CChar>

    init(_ bytes: UnsafePointer<CChar>) { self.bytes = bytes }

    static func ~= (pattern: StaticString, value: XMLValue) -> Bool {
        strcmp(value.bytes, UnsafeRawPointer(pattern.utf8Start).assumingMemoryBound(to: CChar.self)) == 0
    }
}

/// The attributes of an element. They live as long as the call that they were given to.
struct XMLAttributes {
    fileprivate let list: UnsafeMutablePointer<UnsafePointer<CChar>?>?

    /// The value of an attribute that has no prefix.
    subscript(name: StaticString) -> UnsafePointer<CChar>? {
        find { strcmp($0, UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self)) == 0 }
    }

    /// The value of an attribute that has a prefix, whichever: the standard leaves it to the writer.
    func prefixed(_ name: StaticString) -> UnsafePointer<CChar>? {
        find { full in strchr(full, 0x3A) != nil && XMLName(full) == name }
    }

    /// The same as a text.
    func text(_ name: StaticString) -> String? { self[name].map { String(cString: $0) } }

    /// A whole number from 0 on; nil when there is none.
    func number(_ name: StaticString) -> Int? { text(name).flatMap { Int($0) }.flatMap { $0 >= 0 ? $0 : nil } }

    /// Whether a switch is on.
    func isOn(_ name: StaticString) -> Bool { ["1", "true"].contains(text(name)) }

    private func find(_ isMeant: (UnsafePointer<CChar>) -> Bool) -> UnsafePointer<CChar>? {
        guard var next = list else { return nil }
        while let name = next[0] {
            if isMeant(name) { return next[1] }
            next += 2
        }
        return nil
    }
}

/// What is made of the elements of a part.
protocol XMLElements: AnyObject {
    /// An element begins. `depth` is 1 for the outermost.
    func start(_ name: XMLName, _ attributes: XMLAttributes, depth: Int) throws(SpreadsheetFailure.Problem)

    /// Some of the text of the element that began last. Called for pieces of it.
    func text(_ bytes: UnsafeBufferPointer<UInt8>) throws(SpreadsheetFailure.Problem)

    /// An element ends. Returns whether reading shall pause behind it.
    func end(_ name: XMLName, depth: Int) throws(SpreadsheetFailure.Problem) -> Bool
}

extension XMLElements {
    func text(_ bytes: UnsafeBufferPointer<UInt8>) throws(SpreadsheetFailure.Problem) {}

    func end(_ name: XMLName, depth: Int) throws(SpreadsheetFailure.Problem) -> Bool { false }
}

/// Reads the open part of an archive as XML, a piece at a time. A document type is refused, and with it every entity.
final class XMLPart {
    /// Bytes of XML that were read so far.
    private(set) var bytesRead = 0

    private let archive: ZipArchive
    private let part: SpreadsheetFailure.Part
    private let elements: any XMLElements
    private let parser: XML_Parser
    private var depth = 0
    private var problem: SpreadsheetFailure.Problem?
    private var isPaused = false
    private var isAtEnd = false

    init(_ archive: ZipArchive, _ part: SpreadsheetFailure.Part, _ elements: any XMLElements) {
        self.archive = archive
        self.part = part
        self.elements = elements
        guard let parser = XML_ParserCreate(nil) else { fatalError("There is no memory for a parser.") }
        self.parser = parser
        XML_SetUserData(parser, Unmanaged.passUnretained(self).toOpaque())
        XML_SetElementHandler(
            parser,
            { reader, name, attributes in
                guard let name else { return }
                XMLPart.with(reader) { part throws(SpreadsheetFailure.Problem) in
                    part.depth += 1
                    guard part.depth <= SpreadsheetLimits.depthMax else { throw part.damaged }
                    try part.elements.start(XMLName(name), XMLAttributes(list: attributes), depth: part.depth)
                }
            },
            { reader, name in
                guard let name else { return }
                XMLPart.with(reader) { part throws(SpreadsheetFailure.Problem) in
                    let mustPause = try part.elements.end(XMLName(name), depth: part.depth)
                    part.depth -= 1
                    if mustPause { XML_StopParser(part.parser, XML_Bool(XML_TRUE)) }
                }
            }
        )
        XML_SetCharacterDataHandler(parser) { reader, bytes, count in
            guard let bytes else { return }
            XMLPart.with(reader) { part throws(SpreadsheetFailure.Problem) in
                let start = UnsafeRawPointer(bytes).assumingMemoryBound(to: UInt8.self)
                try part.elements.text(UnsafeBufferPointer(start: start, count: Int(count)))
            }
        }
        XML_SetStartDoctypeDeclHandler(parser) { reader, _, _, _, _ in
            XMLPart.with(reader) { part throws(SpreadsheetFailure.Problem) in throw .documentType(part.part) }
        }
    }

    deinit { XML_ParserFree(parser) }

    /// Reads on until there is a pause.
    ///
    /// - Returns: False at the end.
    func advance() throws(SpreadsheetFailure.Problem) -> Bool {
        while true {
            let status: XML_Status
            if isPaused {
                isPaused = false
                status = XML_ResumeParser(parser)
            } else if isAtEnd {
                return false
            } else {
                status = try feed()
            }
            if let problem { throw problem }
            if status == XML_STATUS_SUSPENDED {
                isPaused = true
                return true
            }
            guard status == XML_STATUS_OK else { throw damaged }
            guard isAtEnd || bytesRead - Int(XML_GetCurrentByteIndex(parser)) <= SpreadsheetLimits.tokenBytesMax else {
                throw damaged
            }
        }
    }

    /// Reads all, for elements that never ask for a pause.
    func finish() throws(SpreadsheetFailure.Problem) {
        while try advance() {}
    }

    private var damaged: SpreadsheetFailure.Problem { .damaged(part, line: Int(XML_GetCurrentLineNumber(parser))) }

    private func feed() throws(SpreadsheetFailure.Problem) -> XML_Status {
        guard let buffer = XML_GetBuffer(parser, Int32(SpreadsheetLimits.chunkBytes)) else { throw damaged }
        let count = try archive.read(UnsafeMutableRawBufferPointer(start: buffer, count: SpreadsheetLimits.chunkBytes))
        isAtEnd = count == 0
        bytesRead += count
        return XML_ParseBuffer(parser, Int32(count), isAtEnd ? 1 : 0)
    }

    /// Calls from within the parser come here; a problem ends the parsing.
    private static func with(
        _ reader: UnsafeMutableRawPointer?,
        _ body: (XMLPart) throws(SpreadsheetFailure.Problem) -> Void
    ) {
        guard let reader else { return }
        Unmanaged<XMLPart>.fromOpaque(reader)._withUnsafeGuaranteedRef { part in
            // The parser may still call for the end of an element whose start has stopped it.
            guard part.problem == nil else { return }
            do throws(SpreadsheetFailure.Problem) {
                try body(part)
            } catch {
                // Only the parser knows the line.
                if case .damaged(part.part, _) = error { part.problem = part.damaged } else { part.problem = error }
                XML_StopParser(part.parser, XML_Bool(XML_FALSE))
            }
        }
    }
}
