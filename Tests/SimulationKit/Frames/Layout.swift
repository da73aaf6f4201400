import Causality
import SyncProtocol

/// Where the fields of a message lie in its bytes, and what stands around them: so a mutation can change one field and
/// leave everything else lawful, or change just the length that announces it.
struct Layout {
    enum Kind {
        case number, fixed, text, bytes, item
    }

    /// A piece of the bytes that means one thing.
    struct Field {
        let kind: Kind
        let start: Int
        let end: Int
        /// The innermost wrap that has to be settled when this changes its size; -1 for none.
        let wrap: Int
    }

    /// Something that depends on the bytes behind it.
    struct Wrap {
        enum Kind {
            case length, count, checksum
        }

        let kind: Kind
        let start: Int
        let end: Int
        /// Where the bytes end that it is about.
        var contentEnd: Int
        let outer: Int
    }

    private(set) var fields: [Field] = []
    private(set) var items: [Field] = []
    private(set) var texts: [Field] = []
    private var wraps: [Wrap] = []

    /// Puts other bytes in the place of a range, and makes the wraps around it right again.
    ///
    /// - Parameters:
    ///   - wrap: The innermost wrap; -1 to leave all of them as they were, so that they lie.
    ///   - countBy: How many items more there are in the innermost list.
    func replace(
        _ range: Range<Int>,
        of bytes: inout [UInt8],
        with new: some Collection<UInt8>,
        wrap: Int,
        countBy: Int = 0
    ) {
        bytes.replaceSubrange(range, with: new)
        var grown = new.count - range.count
        var countBy = countBy
        var index = wrap
        while index >= 0 {
            let wrap = wraps[index]
            let content = wrap.end..<(wrap.contentEnd + grown)
            switch wrap.kind {
            case .count:
                if countBy != 0 {
                    let value = Self.number(in: bytes, at: wrap.start) &+ UInt64(bitPattern: Int64(countBy))
                    grown += Self.write(value, over: wrap.start..<wrap.end, of: &bytes)
                    countBy = 0
                }
            case .length:
                grown += Self.write(UInt64(content.count), over: wrap.start..<wrap.end, of: &bytes)
            case .checksum:
                let sum = bytes.withUnsafeBytes {
                    ChangeChain.checksum(of: UnsafeRawBufferPointer(rebasing: $0[content]))
                }
                var writer = ByteWriter(capacity: 8)
                writer.fixed64(sum)
                bytes.replaceSubrange(wrap.start..<wrap.end, with: writer.bytes)
            }
            index = wrap.outer
        }
    }

    private static func write(_ number: UInt64, over range: Range<Int>, of bytes: inout [UInt8]) -> Int {
        var writer = ByteWriter(capacity: 10)
        writer.varint(number)
        bytes.replaceSubrange(range, with: writer.bytes)
        return writer.count - range.count
    }

    /// The number that begins somewhere; 0 where none is.
    static func number(in bytes: [UInt8], at start: Int) -> UInt64 {
        bytes.withUnsafeBytes { bytes in
            guard start < bytes.count else { return 0 }
            var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[start...]))
            return (try? reader.varint()) ?? 0
        }
    }
}

// MARK: - Finding it

extension Layout {
    /// The layout of a message.
    ///
    /// - Parameter asked: The question, when the message is an answer.
    init(of message: FramedMessage, asked: UInt16?) {
        var scanner = LayoutScanner(message.payload)
        scanner.scan { scanner throws(MalformedBytes) in try scanner.message(message.type, asked) }
        self = scanner.layout
    }

    fileprivate mutating func add(_ field: Field) {
        if field.kind == .item { items.append(field) } else { fields.append(field) }
        if field.kind == .text { texts.append(field) }
    }

    fileprivate mutating func add(_ wrap: Wrap) -> Int {
        wraps.append(wrap)
        return wraps.count - 1
    }
}

/// Walks through a message by the tables that say what its bytes are.
private struct LayoutScanner {
    typealias Body = (inout LayoutScanner) throws(MalformedBytes) -> Void

    let bytes: [UInt8]
    var layout = Layout()
    private var at = 0
    private var end: Int
    private var wrap = -1

    /// More fields than this are not looked for: every further row of a large change set is like the ones before.
    private static let fieldsMax = 600

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        end = bytes.count
    }

    private var remaining: Int { end - at }
    var isAtEnd: Bool { at == end }
    var next: UInt8? { at < end ? bytes[at] : nil }

    /// Takes what a body understands; what is left is a field of plain bytes.
    mutating func scan(_ body: Body) {
        try? body(&self)
        if !isAtEnd { take(.bytes, remaining) }
    }

    private mutating func take(_ kind: Layout.Kind, _ count: Int) {
        layout.add(Layout.Field(kind: kind, start: at, end: at + count, wrap: wrap))
        at += count
    }

    @discardableResult
    mutating func number() throws(MalformedBytes) -> UInt64 {
        guard layout.fields.count < Self.fieldsMax else { throw .leftOver(remaining) }
        var length = 0
        while at + length < end, length < 10 {
            length += 1
            if bytes[at + length - 1] < 0x80 { break }
        }
        guard length > 0 else { throw .truncated(offset: at, wanted: 1) }
        let value = Layout.number(in: bytes, at: at)
        take(.number, length)
        return value
    }

    mutating func fixed(_ count: Int) throws(MalformedBytes) {
        guard count <= remaining else { throw .truncated(offset: at, wanted: count) }
        take(.fixed, count)
    }

    @discardableResult
    mutating func byte() throws(MalformedBytes) -> UInt8 {
        try fixed(1)
        return bytes[at - 1]
    }

    /// A length, and what it is the length of.
    mutating func sized(_ body: Body) throws(MalformedBytes) {
        let start = at
        let count = try number()
        guard count <= UInt64(remaining) else { throw .truncated(offset: at, wanted: 1) }
        let contentEnd = at + Int(count)
        within(Layout.Wrap(kind: .length, start: start, end: at, contentEnd: contentEnd, outer: wrap), body)
    }

    private mutating func within(_ new: Layout.Wrap, _ body: Body) {
        let (formerEnd, formerWrap) = (end, wrap)
        wrap = layout.add(new)
        end = new.contentEnd
        scan(body)
        (end, wrap) = (formerEnd, formerWrap)
    }

    mutating func text() throws(MalformedBytes) {
        try sized { scanner throws(MalformedBytes) in scanner.take(.text, scanner.remaining) }
    }

    mutating func blob() throws(MalformedBytes) {
        try sized { scanner throws(MalformedBytes) in scanner.take(.bytes, scanner.remaining) }
    }

    /// A count, and so many items.
    mutating func list(_ item: Body) throws(MalformedBytes) {
        let start = at
        let count = try number()
        let formerWrap = wrap
        wrap = layout.add(Layout.Wrap(kind: .count, start: start, end: at, contentEnd: end, outer: wrap))
        defer { wrap = formerWrap }
        for _ in 0..<min(count, 10_000) {
            let first = at
            try item(&self)
            layout.add(Layout.Field(kind: .item, start: first, end: at, wrap: wrap))
        }
    }

    mutating func prefix() throws(MalformedBytes) {
        try number()
        try fixed(8)
    }

    mutating func id() throws(MalformedBytes) {
        try number()
        try number()
    }

    mutating func root() throws(MalformedBytes) {
        guard try byte() == 1 else { return }
        try fixed(8)
        try fixed(8)
        try number()
    }

    // MARK: Messages

    mutating func message(_ type: UInt8, _ asked: UInt16?) throws(MalformedBytes) {
        switch type {
        case 1:
            for count in [16, 32, 16, 32] { try fixed(count) }
            try text()
        case 2:
            try fixed(16)
            try number()
            try text()
            try fixed(16)
            try text()
            try number()
            try fixed(8)
        case 3: try hello()
        case 4: try welcome()
        case 5:
            try number()
            try text()
            try number()
        case 6:
            guard try byte() == 0 else { return }
            try batch()
        case 7: try prefix()
        case 8:
            try number()
            try fixed(8)
        case 9:
            try prefix()
            try number()
            try root()
        case 10:
            try byte()
            try prefix()
        case 11, 12: try fixed(8)
        case 13: if try byte() == 0 { try text() }
        case 14:
            let kind = try number()
            try sized { scanner throws(MalformedBytes) in try scanner.question(kind) }
        case 15: try sized { scanner throws(MalformedBytes) in try scanner.answer(asked ?? 0) }
        case 16: try largeBody()
        case 17: try number()
        case 18:
            try number()
            try blob()
        default: break
        }
    }

    private mutating func hello() throws(MalformedBytes) {
        for _ in 0..<3 { try number() }
        for count in [8, 16, 32] { try fixed(count) }
        try id()
        try fixed(8)
        try prefix()
        for _ in 0..<3 { try number() }
        try text()
        try extras()
    }

    private mutating func welcome() throws(MalformedBytes) {
        try number()
        try number()
        try fixed(16)
        try number()
        if try byte() == 0 {
            try number()
            try fixed(8)
            try prefix()
        }
        try number()
        try number()
        try root()
        try byte()
        try extras()
    }

    private mutating func extras() throws(MalformedBytes) {
        try list { scanner throws(MalformedBytes) in
            let tag = try scanner.number()
            try scanner.sized { scanner throws(MalformedBytes) in
                switch tag {
                case 21: try scanner.fixed(8)
                case 30: try scanner.list { scanner throws(MalformedBytes) in try scanner.prefix() }
                case 31:
                    try scanner.number()
                    try scanner.list { scanner throws(MalformedBytes) in try scanner.prefix() }
                case 41: try scanner.prefix()
                case 70...72: try scanner.number()
                default: break
                }
            }
        }
    }

    private mutating func largeBody() throws(MalformedBytes) {
        try id()
        try number()
        try fixed(32)
    }

    private mutating func batch() throws(MalformedBytes) {
        try number()
        try prefix()
        try list { scanner throws(MalformedBytes) in
            switch try scanner.byte() {
            case 0: try scanner.id()
            case 3:
                try scanner.fixed(8)
                try scanner.largeBody()
            default:
                try scanner.fixed(8)
                try scanner.sized { scanner throws(MalformedBytes) in try scanner.content() }
            }
        }
    }

    // MARK: Contents

    /// A change set, or what an erasure has left of it.
    mutating func content() throws(MalformedBytes) {
        if next == 0x52 { for count in [1, 32, 64] { try fixed(count) } }
        guard next == 1 || next == 2 else { return }
        let format = try byte()
        try id()
        try number()
        try list { scanner throws(MalformedBytes) in try scanner.id() }
        try list { scanner throws(MalformedBytes) in try scanner.prefix() }
        try fixed(8)
        if format == 2 {
            try list { scanner throws(MalformedBytes) in
                try scanner.number()
                try scanner.blob()
            }
        }
        try list { scanner throws(MalformedBytes) in
            try scanner.number()
            try scanner.sized { scanner throws(MalformedBytes) in try scanner.block() }
        }
    }

    private mutating func block() throws(MalformedBytes) {
        try number()
        let rows = try number()
        var shapes = 0
        try list { scanner throws(MalformedBytes) in
            try scanner.byte()
            try scanner.number()
            shapes += 1
        }
        for _ in 0..<min(shapes > 1 ? rows : 0, 64) { try number() }
        for _ in 0..<min(rows, 64) { try number() }
        guard rows <= 64 else { return }
        try list { scanner throws(MalformedBytes) in
            try scanner.number()
            let form = try scanner.byte()
            try scanner.sized { scanner throws(MalformedBytes) in
                guard form < 16 else { return }
                for _ in 0..<rows { try scanner.number() }
                if form == 3 { scanner.take(.text, scanner.remaining) }
            }
        }
    }

    /// Rows as a node holds them.
    private mutating func rowStates() throws(MalformedBytes) {
        let start = at
        try fixed(8)
        within(Layout.Wrap(kind: .checksum, start: start, end: at, contentEnd: end, outer: wrap)) {
            scanner throws(MalformedBytes) in
            guard try scanner.byte() == 0 else { return }
            try scanner.byte()
            try scanner.number()
            try scanner.list { scanner throws(MalformedBytes) in
                try scanner.number()
                for _ in 0..<2 { try scanner.sized { scanner throws(MalformedBytes) in try scanner.block() } }
            }
        }
    }

    // MARK: Questions and answers

    private mutating func question(_ kind: UInt64) throws(MalformedBytes) {
        switch kind {
        case 1:
            try id()
            try number()
        case 2:
            try number()
            try text()
        case 3:
            try list { scanner throws(MalformedBytes) in
                try scanner.id()
                try scanner.fixed(32)
            }
        case 10: try list { scanner throws(MalformedBytes) in try scanner.prefix() }
        case 11: try list { scanner throws(MalformedBytes) in try scanner.head() }
        case 12: try offer()
        case 13:
            try id()
            try number()
        case 14:
            try list { scanner throws(MalformedBytes) in try scanner.prefix() }
            try list { scanner throws(MalformedBytes) in try scanner.id() }
        case 21:
            try prefix()
            try number()
            try number()
        case 30:
            try knowledge()
            try list { scanner throws(MalformedBytes) in
                try scanner.number()
                try scanner.number()
                try scanner.fixed(8)
                try scanner.fixed(8)
            }
        case 31, 32:
            try knowledge()
            try number()
            try list { scanner throws(MalformedBytes) in try scanner.number() }
        case 50: try list { scanner throws(MalformedBytes) in try scanner.id() }
        default: break
        }
    }

    private mutating func knowledge() throws(MalformedBytes) {
        try prefix()
        try number()
    }

    private mutating func head() throws(MalformedBytes) {
        try id()
        try fixed(8)
    }

    private mutating func offer() throws(MalformedBytes) {
        try byte()
        try prefix()
        try list { scanner throws(MalformedBytes) in
            try scanner.head()
            switch try scanner.byte() {
            case 0: break
            case 3:
                try scanner.fixed(8)
                try scanner.number()
            default:
                try scanner.fixed(8)
                try scanner.sized { scanner throws(MalformedBytes) in try scanner.content() }
            }
        }
    }

    private mutating func outcome() throws(MalformedBytes) {
        guard try byte() == 2 else { return }
        try head()
        try fixed(8)
    }

    private mutating func answer(_ asked: UInt16) throws(MalformedBytes) {
        switch asked {
        case 1:
            try list { scanner throws(MalformedBytes) in
                try scanner.fixed(8)
                try scanner.fixed(8)
            }
        case 2, 10, 13: try number()
        case 3:
            try list { scanner throws(MalformedBytes) in
                guard try scanner.byte() != 0 else { return }
                try scanner.id()
                try scanner.blob()
            }
        case 11:
            try outcome()
            try list { scanner throws(MalformedBytes) in try scanner.head() }
            try list { scanner throws(MalformedBytes) in try scanner.prefix() }
        case 12:
            try outcome()
            try number()
            try list { scanner throws(MalformedBytes) in try scanner.prefix() }
        case 14:
            try byte()
            try byte()
        case 20:
            try byte()
            try prefix()
            for _ in 0..<3 { try number() }
            try list { scanner throws(MalformedBytes) in
                try scanner.id()
                try scanner.fixed(32)
            }
            try list { scanner throws(MalformedBytes) in try scanner.id() }
        case 21:
            guard try byte() != 0 else { return }
            try number()
            try rowStates()
        case 30:
            guard try byte() == 1 else { return }
            try list { scanner throws(MalformedBytes) in
                try scanner.number()
                try scanner.fixed(4096 * 8)
            }
        case 31:
            guard try byte() == 1 else { return }
            try number()
            try list { scanner throws(MalformedBytes) in try scanner.number() }
            try list { scanner throws(MalformedBytes) in
                try scanner.number()
                try scanner.fixed(8)
            }
        case 32:
            guard try byte() == 1 else { return }
            try number()
            try rowStates()
        case 40:
            try fixed(64)
            try fixed(min(8, remaining))
        default: break
        }
    }
}
