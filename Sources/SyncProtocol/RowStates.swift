import Causality

/// A row as a node holds it: everything that was ever written to it, and by whom, without the history between.
package struct RowState: Hashable, Sendable {
    package let id: RowID
    /// Whether it lies in its table, or in the graveyard.
    package let isAlive: Bool
    package let clock: RowClock
    /// A value for each column that the clock speaks for, ascending.
    package let values: [FieldValue]

    /// - Precondition: as many values as the clock has columns.
    package init(id: RowID, isAlive: Bool, clock: RowClock, values: [FieldValue]) {
        precondition(clock.columns.count == values.count, "A row needs one value for each column of its clock")
        self.id = id
        self.isAlive = isAlive
        self.clock = clock
        self.values = values
    }
}

/// Rows of one table, as a node holds them.
package struct TableStates: Hashable, Sendable {
    /// The table's permanent number.
    package let number: Int
    /// How many columns the sender's schema gives the table, with the identifier.
    package let columnCount: Int
    /// In any order; at most one a row.
    package var rows: [RowState]

    package init(number: Int, columnCount: Int, rows: [RowState]) {
        self.number = number
        self.columnCount = columnCount
        self.rows = rows
    }
}

// Rows as they are, for a receiver that joins them into its own. Format 1; `v` is a LEB128 number.
//
//   bytes  content
//   8      first 8 bytes of the SHA-256 of what follows
//   1      form: 0 plain, 1 one zstd frame
//   ...    content:
//   1        format, 1
//   v        schema version of the sender
//   v        number of tables, ascending by table number; each:
//   v          table number
//   v          length, then the values: a table block as in a change set, operation 1 for a row that lives, 2 for
//              one that is deleted, with all columns that its clock speaks for
//   v          length, then the clocks: a table block with the same identifiers and three columns:
//              1 newest time, 2 newest origin, 3 the rest as a row stores it, null when the clock speaks for all
//              columns of the sender and all bear the newest stamp
//
// Row states do not lie in any log, so nobody signs or hashes them for ever; the checksum finds accidents.

enum RowStatesFormat {
    static let version: UInt8 = 1
    static let checksumBytes = 8
    static let clockColumns = 4
    static let clockMask = ColumnMask(first: clockColumns).subtracting(ColumnMask(column: 0))
}

/// Puts rows into bytes.
package enum RowStates {
    /// The largest content, before compression, that a receiver takes.
    package static let contentBytesMax = ChangeSet.contentBytesMax

    /// Returns the rows of some tables as the table above says.
    ///
    /// - Parameter compressor: Nil to leave the content plain.
    /// - Throws: ``ChangeSetFailure/mixedTypes(table:column:)`` when a column holds values of several types,
    ///   ``ChangeSetFailure/tooLarge(bytes:)``.
    package static func encoded(
        _ tables: [TableStates],
        schemaVersion: Int,
        compressor: ZstdCompressor?
    ) throws(ChangeSetFailure) -> [UInt8] {
        let written = tables.map { table in
            let states = WrittenStates(number: table.number, columnCount: table.columnCount)
            for row in table.rows { states.add(row) }
            return states
        }
        return try encoded(written, schemaVersion: schemaVersion, compressor: compressor)
    }

    /// The same of rows that lie flat.
    package static func encoded(
        _ tables: [WrittenStates],
        schemaVersion: Int,
        compressor: ZstdCompressor?
    ) throws(ChangeSetFailure) -> [UInt8] {
        let tables = tables.filter { $0.rowCount > 0 }.sorted { $0.number < $1.number }
        var writer = ByteWriter(capacity: 1024)
        writer.byte(RowStatesFormat.version)
        writer.varint(UInt64(schemaVersion))
        writer.varint(UInt64(tables.count))
        for table in tables {
            writer.varint(UInt64(table.number))
            writer.sized(try table.values.block())
            writer.sized(try table.clocks.block())
            guard writer.count <= contentBytesMax else { throw .tooLarge(bytes: writer.count) }
        }
        var body = [0] + writer.bytes
        if let frame = compressor?.compress(writer.bytes), frame.count < writer.count { body = [1] + frame }
        var result = ByteWriter(capacity: body.count + RowStatesFormat.checksumBytes)
        result.fixed64(body.withUnsafeBytes { ChangeChain.checksum(of: $0) })
        result.raw(body)
        return result.bytes
    }
}

/// Rows of one table as a node holds them, on their way to another: flat, as ``WrittenRows`` are.
package final class WrittenStates {
    let values: WrittenRows
    let clocks: WrittenRows
    private var last: RowID?

    /// - Parameter columnCount: How many columns the sender's schema gives the table, with the identifier.
    package init(number: Int, columnCount: Int) {
        values = WrittenRows(number: number, columnCount: columnCount)
        clocks = WrittenRows(number: number, columnCount: RowStatesFormat.clockColumns)
    }

    package var number: Int { values.number }
    package var rowCount: Int { values.rowCount }
    /// About how many bytes they will take before compression.
    package var byteCount: Int { values.byteCount }
    /// The row that was added last.
    package var lastID: RowID? { last }

    /// Begins a row: a value follows for each column that its clock speaks for, ascending, and then the clock.
    package func begin(_ id: RowID, isAlive: Bool, _ columns: ColumnMask) {
        values.begin(id, isAlive ? .update : .delete, columns)
        last = id
    }

    /// Adds the next value.
    package func append(_ value: FieldView) { values.append(value) }

    /// Ends the row that was begun.
    ///
    /// - Parameter fields: The rest of its clock as a row stores it whose table had all columns from the beginning.
    package func finish(newest: Stamp, fields: FieldView) {
        guard let last else { preconditionFailure("No row was begun") }
        values.finish()
        clocks.begin(last, .update, RowStatesFormat.clockMask)
        clocks.append(FieldView.integer(Int64(bitPattern: newest.time.packed)))
        clocks.append(FieldView.integer(Int64(newest.origin.rawValue)))
        clocks.append(fields)
        clocks.finish()
    }

    /// Ends the row that was begun.
    package func finish(_ clock: RowClock) {
        guard let fields = clock.fields(baseColumnCount: values.columnCount) else {
            return finish(newest: clock.newest, fields: .null)
        }
        fields.withUnsafeBytes { finish(newest: clock.newest, fields: .blob($0)) }
    }

    /// Adds a row that is held as Swift values.
    package func add(_ row: RowState) {
        begin(row.id, isAlive: row.isAlive, row.clock.columns)
        for value in row.values { values.append(value) }
        finish(row.clock)
    }
}

/// Reads rows as a node holds them, without copying their values.
///
/// Making a reader validates everything, so that visiting the rows cannot fail. Keeps the bytes it looks at.
package final class RowStatesReader {
    /// The rows of one table. A view, valid while the reader is.
    package struct Block {
        package let number: Int
        /// The values; their operations tell where each row lies.
        package let values: TableBlock
        fileprivate let clocks: TableBlock

        /// Starts before the first row.
        package func makeCursor() -> RowStateCursor { RowStateCursor(self) }
    }

    /// The schema of the sender.
    package let schemaVersion: Int
    /// Ascending by table number.
    package let blocks: [Block]
    package let rowCount: Int
    private let storage: UnsafeMutableRawBufferPointer

    /// - Throws: ``ChangeSetFailure`` for anything that the encoder would not write. Arbitrary bytes never trap.
    package init(_ bytes: UnsafeRawBufferPointer, decompressor: ZstdDecompressor) throws(ChangeSetFailure) {
        let content = try Self.content(of: bytes, decompressor)
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: max(content.count, 1), alignment: 8)
        content.withUnsafeBytes { storage.copyMemory(from: $0) }
        self.storage = storage
        do throws(MalformedBytes) {
            var reader = ByteReader(UnsafeRawBufferPointer(rebasing: storage[0..<content.count]))
            (schemaVersion, blocks) = try Self.read(&reader)
            rowCount = blocks.reduce(0) { $0 + $1.values.rowCount }
        } catch {
            storage.deallocate()
            throw .malformed(error)
        }
    }

    deinit { storage.deallocate() }

    private static func content(
        of bytes: UnsafeRawBufferPointer,
        _ decompressor: ZstdDecompressor
    ) throws(ChangeSetFailure) -> [UInt8] {
        var reader = ByteReader(bytes)
        let body: UnsafeRawBufferPointer
        let form: UInt8
        do throws(MalformedBytes) {
            let sum = try reader.fixed64()
            let rest = UnsafeRawBufferPointer(rebasing: bytes[reader.offset...])
            form = try reader.byte()
            guard form <= 1 else { throw .outOfRange("form", offset: 8) }
            guard ChangeChain.checksum(of: rest) == sum else { throw .outOfRange("checksum", offset: 0) }
            body = try reader.raw(reader.remaining)
        } catch {
            throw .malformed(error)
        }
        guard form == 1 else {
            guard body.count <= RowStates.contentBytesMax else { throw .tooLarge(bytes: body.count) }
            return [UInt8](body)
        }
        do {
            return try decompressor.decompress(body, sizeMax: RowStates.contentBytesMax)
        } catch {
            throw .inconsistent("\(error)")
        }
    }

    private static func read(
        _ reader: inout ByteReader
    ) throws(MalformedBytes) -> (schemaVersion: Int, blocks: [Block]) {
        guard try reader.byte() == RowStatesFormat.version else { throw .outOfRange("format", offset: 0) }
        let version = try reader.varint()
        guard version <= UInt64(Int32.max) else { throw .outOfRange("schema version", offset: 1) }
        var blocks: [Block] = []
        for _ in 0..<(try reader.count(bytesEach: 13)) {
            let start = reader.offset
            let number = try reader.varint()
            guard number > 0, number <= UInt64(Int32.max), Int(number) > blocks.last?.number ?? 0 else {
                throw .outOfRange("table number", offset: start)
            }
            let block = Block(
                number: Int(number),
                values: try TableBlock(number: Int(number), try reader.sized()),
                clocks: try TableBlock(number: Int(number), try reader.sized())
            )
            try validate(block, offset: start)
            blocks.append(block)
        }
        try reader.finish()
        return (Int(version), blocks)
    }

    /// Checks that each row has a clock that fits its values.
    private static func validate(_ block: Block, offset: Int) throws(MalformedBytes) {
        let forms = Dictionary(uniqueKeysWithValues: block.clocks.storedForms.map { ($0.column, $0.form) })
        guard block.clocks.columnCount == RowStatesFormat.clockColumns,
            block.clocks.rowCount == block.values.rowCount,
            block.clocks.shapes == [RowShape(operation: .update, columns: RowStatesFormat.clockMask)],
            forms[1] == .integers, forms[2] == .integers, forms[3] ?? .blobs == .blobs
        else { throw .outOfRange("clocks", offset: offset) }
        var values = block.values.makeCursor()
        var clocks = block.clocks.makeCursor()
        while values.advance(), clocks.advance() {
            guard values.id == clocks.id, values.operation == .update || values.operation == .delete,
                case .integer(let time) = clocks[1], case .integer(let origin) = clocks[2],
                HybridTimestamp(packed: UInt64(bitPattern: time)) != nil, origin > 0,
                origin <= Int64(Origin.rawValueMax)
            else { throw .outOfRange("row", offset: offset) }
            let clock = try RowStateCursor.clock(clocks, columnCount: block.values.columnCount)
            guard clock.columns == values.columns, clock.columnCount <= block.values.columnCount else {
                throw .outOfRange("columns of a row", offset: offset)
            }
        }
    }
}

/// Visits the rows of a validated block, in order of their identifiers.
package struct RowStateCursor {
    /// The row's identifier and values.
    package private(set) var values: ChangeCursor
    /// The row's clock.
    package private(set) var clock = RowClock.unwritten
    private var clocks: ChangeCursor
    private let columnCount: Int

    fileprivate init(_ block: RowStatesReader.Block) {
        values = block.values.makeCursor()
        clocks = block.clocks.makeCursor()
        columnCount = block.values.columnCount
    }

    /// Whether the row lies in its table, or in the graveyard.
    package var isAlive: Bool { values.operation != .delete }

    /// Moves to the next row; false after the last.
    package mutating func advance() -> Bool {
        // What was validated cannot fail here.
        guard values.advance(), clocks.advance(),
            let clock = try? Self.clock(clocks, columnCount: columnCount)
        else { return false }
        self.clock = clock
        return true
    }

    fileprivate static func clock(
        _ cursor: ChangeCursor,
        columnCount: Int
    ) throws(MalformedBytes) -> RowClock {
        guard case .integer(let time) = cursor[1], case .integer(let origin) = cursor[2],
            let time = HybridTimestamp(packed: UInt64(bitPattern: time)),
            let origin = Origin(rawValue: UInt32(truncatingIfNeeded: origin))
        else { throw .outOfRange("stamp", offset: 0) }
        var fields: UnsafeRawBufferPointer?
        if case .blob(let bytes) = cursor[3] { fields = bytes }
        let newest = Stamp(time: time, origin: origin)
        return try RowClock(newest: newest, fields: fields, baseColumnCount: columnCount)
    }
}

extension TableStates {
    /// Copies rows out of their bytes: for tests and for showing them. The merge reads the views.
    package init(_ block: RowStatesReader.Block) {
        var cursor = block.makeCursor()
        var rows: [RowState] = []
        while cursor.advance() {
            guard let id = RowID(rawValue: cursor.values.id) else { continue }
            var values: [FieldValue] = []
            for column in cursor.clock.columns.numbers { values.append(FieldValue(cursor.values[column])) }
            rows.append(RowState(id: id, isAlive: cursor.isAlive, clock: cursor.clock, values: values))
        }
        self.init(number: block.number, columnCount: block.values.columnCount, rows: rows)
    }
}
