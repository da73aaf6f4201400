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
        var writer = ByteWriter(capacity: 1024)
        writer.byte(header.extensions.isEmpty ? ContentFormat.plain : ContentFormat.extended)
        writer.varint(UInt64(header.id.origin.rawValue))
        writer.varint(header.id.seq)
        writer.varint(UInt64(header.schemaVersion))
        writer.varint(UInt64(header.context.lives.count))
        for life in header.context.lives {
            writer.varint(UInt64(life.origin.rawValue))
            writer.varint(life.seq)
        }
        writer.varint(UInt64(header.context.hubs.count))
        for hub in header.context.hubs {
            writer.varint(hub.position)
            writer.fixed64(hub.digest)
        }
        writer.fixed64(header.previousChain)
        if !header.extensions.isEmpty {
            let extensions = header.extensions.sorted
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
            guard writer.count <= Self.contentBytesMax else { throw .tooLarge(bytes: writer.count) }
        }
        return writer.bytes
    }
}

extension TableChanges {
    func block() throws(ChangeSetFailure) -> [UInt8] {
        let rows = rows.sorted { $0.id < $1.id }
        var writer = ByteWriter(capacity: rows.count * 64)
        writer.varint(UInt64(columnCount))
        writer.varint(UInt64(rows.count))
        writeShapes(of: rows, to: &writer)
        var previous: Int64 = 0
        for row in rows {
            writer.varint(UInt64(row.id.rawValue - previous))
            previous = row.id.rawValue
        }
        let columns = rows.reduce(into: ColumnMask()) { $0.formUnion($1.columns) }
        var written: [[UInt8]] = []
        // Where each row's next value lies: columns are visited ascending, as the values are.
        var cursors = [Int](repeating: 0, count: rows.count)
        for column in columns.numbers {
            if let bytes = try self.column(column, of: rows, cursors: &cursors) { written.append(bytes) }
        }
        writer.varint(UInt64(written.count))
        for column in written { writer.raw(column) }
        return writer.bytes
    }

    private func writeShapes(of rows: [RowChange], to writer: inout ByteWriter) {
        var shapes: [RowShape] = []
        var indexOfShape: [RowShape: Int] = [:]
        let indexes = rows.map { row in
            let shape = RowShape(operation: row.operation, columns: row.columns)
            if let last = shapes.last, last == shape { return shapes.count - 1 }
            if let index = indexOfShape[shape] { return index }
            indexOfShape[shape] = shapes.count
            shapes.append(shape)
            return shapes.count - 1
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
    private func column(
        _ column: Int,
        of rows: [RowChange],
        cursors: inout [Int]
    ) throws(ChangeSetFailure) -> [UInt8]? {
        var nulls: [UInt8] = []
        var carried = 0
        var present = 0
        var form: ContentFormat.Form?
        var integers: [Int64] = []
        var lengths = ByteWriter()
        var bytes = ByteWriter()
        for index in rows.indices where rows[index].columns.contains(column: column) {
            if carried % 8 == 0 { nulls.append(0) }
            let valueForm: ContentFormat.Form
            switch rows[index].values[cursors[index]] {
            case .null:
                nulls[carried / 8] |= 1 << UInt8(carried % 8)
                cursors[index] += 1
                carried += 1
                continue
            case .integer(let value):
                valueForm = .integers
                integers.append(value)
            case .text(let value):
                valueForm = .texts
                var value = value
                value.withUTF8 { utf8 in
                    lengths.varint(UInt64(utf8.count))
                    bytes.raw(UnsafeRawBufferPointer(utf8))
                }
            case .blob(let value):
                valueForm = .blobs
                lengths.varint(UInt64(value.count))
                bytes.raw(value)
            }
            guard form == nil || form == valueForm else {
                throw .mixedTypes(table: number, column: column)
            }
            form = valueForm
            present += 1
            cursors[index] += 1
            carried += 1
        }
        guard var form else { return nil }
        if form == .integers {
            (form, bytes) = Self.shortest(integers)
        }
        let hasNulls = present < carried
        var writer = ByteWriter(capacity: bytes.count + lengths.count + nulls.count + 16)
        writer.varint(UInt64(column))
        writer.byte(form.rawValue | (hasNulls ? ContentFormat.nullsFlag : 0))
        writer.varint(UInt64((hasNulls ? nulls.count : 0) + lengths.count + bytes.count))
        if hasNulls { writer.raw(nulls) }
        writer.raw(lengths.bytes)
        writer.raw(bytes.bytes)
        return writer.bytes
    }

    /// Integers as they are, or as differences, whichever takes fewer bytes; as they are when equal.
    private static func shortest(_ integers: [Int64]) -> (ContentFormat.Form, ByteWriter) {
        var plain = ByteWriter(capacity: integers.count * 4)
        var differences = ByteWriter(capacity: integers.count * 4)
        var previous: Int64 = 0
        for value in integers {
            plain.zigzag(value)
            differences.zigzag(value &- previous)
            previous = value
        }
        return differences.count < plain.count ? (.differences, differences) : (.integers, plain)
    }
}
