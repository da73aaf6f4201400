import Causality

/// What a change set says beside its rows, by kind. A node keeps what it does not know, and passes it on.
package struct ChangeSetExtensions: Hashable, Sendable {
    /// Permanent, because they are part of what is hashed.
    private enum Kind {
        static let firstIdentity: UInt64 = 1
        static let renumbered: UInt64 = 2
        static let opening: UInt64 = 3
    }

    /// How many kinds one change set may have.
    static let countMax = 64

    private var fields: [UInt64: [UInt8]] = [:]

    package init() {}

    package var isEmpty: Bool { fields.isEmpty }

    /// Ascending by kind.
    var sorted: [(kind: UInt64, bytes: [UInt8])] {
        fields.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// The bytes of a kind; nil when the change set does not have it.
    subscript(kind: UInt64) -> [UInt8]? {
        get { fields[kind] }
        set { fields[kind] = newValue }
    }

    /// Of a change set that was issued again in a later life: what it was called the first time.
    package var firstIdentity: FirstIdentity? {
        get { decoded(Kind.firstIdentity, FirstIdentity.init(from:)) }
        set { fields[Kind.firstIdentity] = newValue.map { $0.bytes } }
    }

    /// Of a change set that was issued again: its new rows whose numbers had to change.
    package var renumbered: [RenumberedRow] {
        get { decoded(Kind.renumbered, RenumberedRow.list(from:)) ?? [] }
        set { fields[Kind.renumbered] = newValue.isEmpty ? nil : RenumberedRow.bytes(of: newValue) }
    }

    /// Of the first change set after a file was opened: a number drawn by chance.
    ///
    /// Two states of one file may go on side by side, or one in the place of the other, and write the same under the
    /// same number at different times. By this their change sets, and all that follow, have different chains.
    package var opening: UInt64? {
        get { decoded(Kind.opening) { reader throws(MalformedBytes) in try reader.varint() } }
        set {
            fields[Kind.opening] = newValue.map { number in
                var writer = ByteWriter(capacity: 10)
                writer.varint(number)
                return writer.bytes
            }
        }
    }

    /// - Throws: When a kind that this program knows is not what it should be.
    func validate() throws(MalformedBytes) {
        if let bytes = fields[Kind.firstIdentity] { _ = try Self.decode(bytes, FirstIdentity.init(from:)) }
        if let bytes = fields[Kind.renumbered] { _ = try Self.decode(bytes, RenumberedRow.list(from:)) }
        if let bytes = fields[Kind.opening] {
            _ = try Self.decode(bytes) { reader throws(MalformedBytes) in try reader.varint() }
        }
    }

    private func decoded<Value>(
        _ kind: UInt64,
        _ read: (inout ByteReader) throws(MalformedBytes) -> Value
    ) -> Value? {
        fields[kind].flatMap { try? Self.decode($0, read) }
    }

    /// Reads all of some bytes.
    private static func decode<Value>(
        _ bytes: [UInt8],
        _ read: (inout ByteReader) throws(MalformedBytes) -> Value
    ) throws(MalformedBytes) -> Value {
        let result = bytes.withUnsafeBytes { buffer -> Result<Value, MalformedBytes> in
            var reader = ByteReader(buffer)
            do throws(MalformedBytes) {
                let value = try read(&reader)
                try reader.finish()
                return .success(value)
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}

/// What a change set was called when its life began: the same for all copies of a node that issue it again.
package struct FirstIdentity: Hashable, Sendable {
    package let id: ChangeSetID
    /// Over everything that its first life had written up to it: tells apart what two copies wrote under one number.
    package let chain: ChangeChain

    package init(id: ChangeSetID, chain: ChangeChain) {
        self.id = id
        self.chain = chain
    }

    /// origin v, seq v, chain 32.
    package init(from reader: inout ByteReader) throws(MalformedBytes) {
        id = try reader.changeSetID()
        let offset = reader.offset
        guard let chain = ChangeChain(bytes: [UInt8](try reader.raw(ChangeChain.byteCount))) else {
            throw .outOfRange("chain", offset: offset)
        }
        self.chain = chain
    }

    /// Writes what the initialiser reads.
    package func write(to writer: inout ByteWriter) {
        writer.varint(UInt64(id.origin.rawValue))
        writer.varint(id.seq)
        writer.raw(chain.bytes)
    }

    fileprivate var bytes: [UInt8] {
        var writer = ByteWriter(capacity: 48)
        write(to: &writer)
        return writer.bytes
    }
}

/// A row that got another number when the change set that makes it was issued again.
package struct RenumberedRow: Hashable, Comparable, Sendable {
    /// The permanent number of the table.
    package let table: Int
    /// A number that it had before, perhaps on paper.
    package let former: RowID
    package let present: RowID

    package init(table: Int, former: RowID, present: RowID) {
        self.table = table
        self.former = former
        self.present = present
    }

    package static func < (left: RenumberedRow, right: RenumberedRow) -> Bool {
        (left.table, left.former, left.present) < (right.table, right.former, right.present)
    }

    /// count v, then each: table v, former v, present v; ascending.
    package static func list(from reader: inout ByteReader) throws(MalformedBytes) -> [RenumberedRow] {
        var rows: [RenumberedRow] = []
        for _ in 0..<(try reader.count(bytesEach: 15)) {
            let start = reader.offset
            let table = try reader.varint()
            let former = Int64(exactly: try reader.varint()).flatMap(RowID.init(rawValue:))
            let present = Int64(exactly: try reader.varint()).flatMap(RowID.init(rawValue:))
            guard table > 0, table <= UInt64(Int32.max), let former, let present else {
                throw .outOfRange("renumbered row", offset: start)
            }
            let row = RenumberedRow(table: Int(table), former: former, present: present)
            if let last = rows.last, row <= last { throw .outOfRange("order of renumbered rows", offset: start) }
            rows.append(row)
        }
        return rows
    }

    /// Writes what ``list(from:)`` reads, in any order given.
    package static func bytes(of rows: [RenumberedRow]) -> [UInt8] {
        var writer = ByteWriter(capacity: rows.count * 20)
        writer.varint(UInt64(rows.count))
        for row in rows.sorted() {
            writer.varint(UInt64(row.table))
            writer.varint(UInt64(row.former.rawValue))
            writer.varint(UInt64(row.present.rawValue))
        }
        return writer.bytes
    }
}

extension ByteReader {
    /// Takes the name of a change set: origin v, seq v.
    package mutating func changeSetID() throws(MalformedBytes) -> ChangeSetID {
        let start = offset
        let number = try varint()
        guard number > 0, number <= UInt64(Origin.rawValueMax), let origin = Origin(rawValue: UInt32(number))
        else { throw .outOfRange("origin", offset: start) }
        let seq = try varint()
        // Stored as a signed integer.
        guard seq > 0, seq <= UInt64(Int64.max) else { throw .outOfRange("seq", offset: start) }
        return ChangeSetID(origin: origin, seq: seq)
    }
}
