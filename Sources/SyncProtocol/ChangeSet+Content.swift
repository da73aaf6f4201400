import Causality

// The canonical content of a change set. It is hashed and signed as it stands here, stored and sent
// compressed. `v` is a LEB128 number, at most 10 bytes.
//
//   bytes  content
//   1      format: 1, or 2 when there are extensions
//   v      origin                                      } the identity
//   v      seq                                         }
//   v      schema version of the writer
//   v      number of former lives in the context;      each: origin v, seq v, ascending
//   v      number of hub prefixes in the context;      each: position v, digest 8
//   8      first 8 bytes of the chain up to seq - 1
//   v      only in format 2: number of extensions, at least 1; each: kind v, length v, bytes; ascending by kind
//   v      number of table blocks, ascending by table number
//
// A table block:
//
//   v      table number
//   v      bytes of the rest of the block, so that an unknown table can be stepped over
//   v      columns the writer's schema gives this table, 1...64
//   v      number of rows, n, at least 1
//   v      number of shapes, s, at least 1;            each: operation 1, column mask v
//   n x v  only if s > 1: which shape each row has
//   n x v  identifiers, ascending: the first, then differences
//   v      number of columns that follow, ascending by number
//
// A column, present when a row that carries it has a value other than null:
//
//   v      column number
//   1      form: 1 integers, 2 integers as differences, 3 texts, 4 blobs; +16 when some are null
//   v      bytes of the rest of the column
//   m/8    only with +16: a bit for each of the m rows that carry it, lowest first, 1 = null
//   ...    integers: zigzag v each (form 2: each minus the one before, the first minus 0)
//   ...    texts, blobs: lengths v each, then the bytes of all of them
//
// Extensions, which any node keeps and passes on whether it knows their kind or not:
//
//   1      first identity of a change set that was issued again: origin v, seq v, chain 32
//   2      rows that got another number then: count v; each: table v, former identifier v, present one v; ascending
//
// Identifiers, shapes and columns are written in one way only, so equal change sets have equal bytes.

enum ContentFormat {
    static let plain: UInt8 = 1
    static let extended: UInt8 = 2

    /// Whether this program reads a format.
    static func isKnown(_ format: UInt8) -> Bool { format == plain || format == extended }
    static let nullsFlag: UInt8 = 16

    enum Form: UInt8 {
        case integers = 1
        case differences = 2
        case texts = 3
        case blobs = 4
    }
}

extension ChangeSet {
    /// Returns the canonical content, as the table above says.
    ///
    /// - Throws: ``ChangeSetFailure/tooLarge(bytes:)`` when the transaction is larger than one change
    ///   set may be, ``ChangeSetFailure/mixedTypes(table:column:)`` when a column holds values of several types.
    package func content() throws(ChangeSetFailure) -> [UInt8] {
        try header.content(of: tables.map { WrittenRows($0) })
    }
}

extension ChangeSetHeader {
    /// Returns the canonical content of a change set with this header; see ``ChangeSet/content()``.
    ///
    /// - Parameter tables: In any order, none without rows.
    package func content(of tables: [WrittenRows]) throws(ChangeSetFailure) -> [UInt8] {
        var writer = ByteWriter(capacity: tables.reduce(256) { $0 + $1.byteCount })
        writer.byte(extensions.isEmpty ? ContentFormat.plain : ContentFormat.extended)
        writer.varint(UInt64(id.origin.rawValue))
        writer.varint(id.seq)
        writer.varint(UInt64(schemaVersion))
        writer.varint(UInt64(context.lives.count))
        for life in context.lives {
            writer.varint(UInt64(life.origin.rawValue))
            writer.varint(life.seq)
        }
        writer.varint(UInt64(context.hubs.count))
        for hub in context.hubs {
            writer.varint(hub.position)
            writer.fixed64(hub.digest)
        }
        writer.fixed64(previousChain)
        if !extensions.isEmpty {
            let extensions = extensions.sorted
            writer.varint(UInt64(extensions.count))
            for (kind, bytes) in extensions {
                writer.varint(kind)
                writer.sized(bytes)
            }
        }
        writer.varint(UInt64(tables.count))
        for table in tables.sorted(by: { $0.number < $1.number }) {
            let block = try table.block()
            writer.varint(UInt64(table.number))
            writer.sized(block)
            guard writer.count <= ChangeSet.contentBytesMax else { throw .tooLarge(bytes: writer.count) }
        }
        return writer.bytes
    }
}

extension TableChanges {
    func block() throws(ChangeSetFailure) -> [UInt8] { try WrittenRows(self).block() }
}

extension WrittenRows {
    /// The rows as a table block, without its number and length.
    func block() throws(ChangeSetFailure) -> [UInt8] {
        let rows = rows.sortedByID()
        var writer = ByteWriter(capacity: byteCount)
        writer.varint(UInt64(columnCount))
        writer.varint(UInt64(rows.count))
        writeShapes(of: rows, to: &writer)
        var previous: Int64 = 0
        for row in rows {
            writer.varint(UInt64(row.id - previous))
            previous = row.id
        }
        let columns = rows.reduce(into: ColumnMask()) { $0.formUnion($1.columns) }
        var written: [[UInt8]] = []
        for column in columns.numbers {
            if let bytes = try block(of: column, rows) { written.append(bytes) }
        }
        writer.varint(UInt64(written.count))
        for column in written { writer.raw(column) }
        return writer.bytes
    }

    private func writeShapes(of rows: [Row], to writer: inout ByteWriter) {
        var shapes: [RowShape] = []
        var indexOfShape: [RowShape: Int] = [:]
        var last = (shape: RowShape(operation: .birth, columns: []), index: -1)
        let indexes = rows.map { row in
            let shape = RowShape(operation: row.operation, columns: row.columns)
            if last.index >= 0, last.shape == shape { return last.index }
            let index = indexOfShape[shape] ?? shapes.count
            if index == shapes.count {
                indexOfShape[shape] = index
                shapes.append(shape)
            }
            last = (shape, index)
            return index
        }
        writer.varint(UInt64(shapes.count))
        for shape in shapes {
            writer.byte(shape.operation.rawValue)
            writer.varint(shape.columns.rawValue)
        }
        if shapes.count > 1 {
            for index in indexes { writer.varint(UInt64(index)) }
        }
    }

    /// The bytes of one column with its number and form; nil when all its values are null.
    private func block(of column: Int, _ rows: [Row]) throws(ChangeSetFailure) -> [UInt8]? {
        let kept = try ColumnOutline(of: column, in: self, rows)
        guard kept.present > 0 else { return nil }
        let nullBytes = kept.present < kept.carried ? (kept.carried + 7) / 8 : 0
        let isPlain = kept.plainBytes <= kept.differenceBytes
        let form = kept.form == .integers && !isPlain ? .differences : kept.form
        let count = nullBytes + (form == .differences ? kept.differenceBytes : kept.plainBytes) + kept.contentBytes
        var head = ByteWriter(capacity: 16)
        head.varint(UInt64(column))
        head.byte(form.rawValue | (nullBytes > 0 ? ContentFormat.nullsFlag : 0))
        head.varint(UInt64(count))
        return [UInt8](unsafeUninitializedCapacity: head.count + count) { bytes, written in
            _ = bytes.initialize(fromContentsOf: head.bytes)
            let nulls = UnsafeMutableBufferPointer(rebasing: bytes[head.count..<head.count + nullBytes])
            nulls.initialize(repeating: 0)
            var numbers = head.count + nullBytes
            var content = head.count + count - kept.contentBytes
            var carried = 0
            var previous: Int64 = 0
            for row in rows where row.columns.contains(column: column) {
                switch value(column, of: row) {
                case .null:
                    nulls[carried / 8] |= 1 << UInt8(carried % 8)
                case .integer(let value):
                    let base = form == .differences ? previous : 0
                    bytes.write(varint: (value &- base).zigzagEncoded, at: &numbers)
                    previous = value
                case .text(let start, let length), .blob(let start, let length):
                    bytes.write(varint: UInt64(length), at: &numbers)
                    self.copy(start, length, to: bytes, at: &content)
                }
                carried += 1
            }
            written = head.count + count
        }
    }
}

/// How long a column will be, found before anything is written.
private struct ColumnOutline {
    /// Rows that carry the column.
    var carried = 0
    /// Those of them with a value.
    var present = 0
    var form = ContentFormat.Form.integers
    /// The integers, or the lengths.
    var plainBytes = 0
    var differenceBytes = 0
    var contentBytes = 0

    init(of column: Int, in table: WrittenRows, _ rows: [WrittenRows.Row]) throws(ChangeSetFailure) {
        var previous: Int64 = 0
        for row in rows where row.columns.contains(column: column) {
            carried += 1
            let valueForm: ContentFormat.Form
            switch table.value(column, of: row) {
            case .null:
                continue
            case .integer(let value):
                valueForm = .integers
                plainBytes += value.zigzagEncoded.varintCount
                differenceBytes += (value &- previous).zigzagEncoded.varintCount
                previous = value
            case .text(_, let count):
                valueForm = .texts
                plainBytes += UInt64(count).varintCount
                contentBytes += count
            case .blob(_, let count):
                valueForm = .blobs
                plainBytes += UInt64(count).varintCount
                contentBytes += count
            }
            guard present == 0 || form == valueForm else {
                throw .mixedTypes(table: table.number, column: column)
            }
            form = valueForm
            present += 1
        }
    }
}

extension [WrittenRows.Row] {
    /// The rows, ascending; usually they are.
    fileprivate func sortedByID() -> [WrittenRows.Row] {
        for index in indices.dropFirst() where self[index - 1].id > self[index].id { return sorted { $0.id < $1.id } }
        return self
    }
}

extension UnsafeMutableBufferPointer<UInt8> {
    /// Writes a LEB128 number, for which there must be room.
    fileprivate func write(varint value: UInt64, at offset: inout Int) {
        var rest = value
        while rest >= 0x80 {
            self[offset] = UInt8(truncatingIfNeeded: rest) | 0x80
            rest >>= 7
            offset += 1
        }
        self[offset] = UInt8(truncatingIfNeeded: rest)
        offset += 1
    }
}
