import Causality

/// Reads the canonical content of a change set without copying it.
///
/// Making a reader validates everything: after that, visiting the rows cannot fail, and whoever holds a
/// write transaction never meets malformed bytes. The memory must outlive the reader. Cost: one pass.
///
/// The layout is the table in `ChangeSet+Content.swift`.
package struct ChangeSetReader {
    package let header: ChangeSetHeader
    /// Ascending by table number.
    package let blocks: [TableBlock]
    /// Rows in all blocks.
    package let rowCount: Int

    /// The order of shapes, and whether integers are differences, are the writer's choice; all else has one form only.
    ///
    /// - Throws: ``ChangeSetFailure`` for anything else that the encoder would not write. Arbitrary bytes never
    ///   trap, and nothing is allocated for a count that the bytes cannot hold.
    package init(_ content: UnsafeRawBufferPointer) throws(ChangeSetFailure) {
        guard content.count <= ChangeSet.contentBytesMax else { throw .tooLarge(bytes: content.count) }
        var reader = ByteReader(content)
        do throws(MalformedBytes) {
            let format = try reader.byte()
            guard ContentFormat.isKnown(format) else { throw .outOfRange("format", offset: 0) }
            header = try Self.header(from: &reader, format)
            blocks = try Self.blocks(from: &reader)
            try reader.finish()
        } catch {
            if let format = content.first, !ContentFormat.isKnown(format) { throw .unknownFormat(format) }
            throw .malformed(error)
        }
        rowCount = blocks.reduce(0) { $0 + $1.rowCount }
    }

    private static func header(
        from reader: inout ByteReader,
        _ format: UInt8
    ) throws(MalformedBytes) -> ChangeSetHeader {
        let id = try reader.changeSetID()
        let schemaVersion = try reader.varint()
        guard schemaVersion <= UInt64(Int32.max) else {
            throw .outOfRange("schema version", offset: reader.offset)
        }
        var lives: [ChangeSetID] = []
        for _ in 0..<(try reader.count(bytesEach: 2)) {
            let life = try reader.changeSetID()
            if let last = lives.last, life.origin <= last.origin {
                throw .outOfRange("order of lives", offset: reader.offset)
            }
            lives.append(life)
        }
        var hubs: [LogPrefix] = []
        for _ in 0..<(try reader.count(bytesEach: 9)) {
            hubs.append(LogPrefix(position: try reader.varint(), digest: try reader.fixed64()))
        }
        return ChangeSetHeader(
            id: id,
            schemaVersion: Int(schemaVersion),
            context: CausalContext(lives: lives, hubs: hubs),
            previousChain: try reader.fixed64(),
            extensions: format == ContentFormat.extended ? try extensions(from: &reader) : ChangeSetExtensions()
        )
    }

    private static func extensions(from reader: inout ByteReader) throws(MalformedBytes) -> ChangeSetExtensions {
        var extensions = ChangeSetExtensions()
        let count = try reader.count(bytesEach: 2, max: ChangeSetExtensions.countMax)
        guard count > 0 else { throw .outOfRange("number of extensions", offset: reader.offset) }
        var last: UInt64 = 0
        for _ in 0..<count {
            let kind = try reader.varint()
            guard kind > last else { throw .outOfRange("kind of extension", offset: reader.offset) }
            last = kind
            extensions[kind] = [UInt8](try reader.sized())
        }
        try extensions.validate()
        return extensions
    }

    private static func blocks(from reader: inout ByteReader) throws(MalformedBytes) -> [TableBlock] {
        var blocks: [TableBlock] = []
        for _ in 0..<(try reader.count(bytesEach: 7)) {
            let start = reader.offset
            let number = try reader.varint()
            guard number > 0, number <= UInt64(Int32.max), Int(number) > blocks.last?.number ?? 0 else {
                throw .outOfRange("table number", offset: start)
            }
            blocks.append(try TableBlock(number: Int(number), try reader.sized()))
        }
        return blocks
    }
}

/// What rows of a block have in common: what was done, and to which columns.
struct RowShape: Hashable {
    let operation: RowOperation
    let columns: ColumnMask
}

/// The rows of one table in a change set. A view into the content.
package struct TableBlock {
    package let number: Int
    /// How many columns the writer's schema gave the table, with the identifier.
    package let columnCount: Int
    package let rowCount: Int

    let shapes: [RowShape]
    /// One number a row, or nil when all rows have the first shape.
    let shapeIndexes: UnsafeRawBufferPointer?
    let identifiers: UnsafeRawBufferPointer
    let columns: [ColumnBlock]

    /// Validates the bytes of one block.
    init(number: Int, _ bytes: UnsafeRawBufferPointer) throws(MalformedBytes) {
        self.number = number
        var reader = ByteReader(bytes)
        let columnCount = try reader.varint()
        guard columnCount > 0, columnCount <= UInt64(SyncLimits.columnsMax) else {
            throw .outOfRange("column count", offset: 0)
        }
        self.columnCount = Int(columnCount)
        // A row takes at least one byte, of its identifier.
        rowCount = try reader.count(bytesEach: 1)
        guard rowCount > 0 else { throw .outOfRange("row count", offset: reader.offset) }
        shapes = try Self.shapes(from: &reader, columnCount: self.columnCount)

        var rowsOfShape = [Int](repeating: 0, count: shapes.count)
        if shapes.count == 1 {
            shapeIndexes = nil
            rowsOfShape[0] = rowCount
        } else {
            let start = reader.offset
            for _ in 0..<rowCount {
                let index = try reader.varint()
                guard index < UInt64(shapes.count) else {
                    throw .outOfRange("row shape", offset: reader.offset)
                }
                rowsOfShape[Int(index)] += 1
            }
            shapeIndexes = UnsafeRawBufferPointer(rebasing: bytes[start..<reader.offset])
        }

        let start = reader.offset
        var identifier: UInt64 = 0
        for _ in 0..<rowCount {
            let (next, overflow) = identifier.addingReportingOverflow(try reader.varint())
            guard !overflow, next > identifier, next <= UInt64(Int64.max), RowID(rawValue: Int64(next)) != nil
            else { throw .outOfRange("identifier", offset: reader.offset) }
            identifier = next
        }
        identifiers = UnsafeRawBufferPointer(rebasing: bytes[start..<reader.offset])

        var columns: [ColumnBlock] = []
        for _ in 0..<(try reader.count(bytesEach: 4, max: SyncLimits.columnsMax)) {
            let number = try reader.varint()
            guard number < columnCount, Int(number) > columns.last?.number ?? 0 else {
                throw .outOfRange("column number", offset: reader.offset)
            }
            var carriers = 0
            for (shape, rows) in zip(shapes, rowsOfShape) where shape.columns.contains(column: Int(number)) {
                carriers += rows
            }
            columns.append(try ColumnBlock(number: Int(number), carriers: carriers, from: &reader))
        }
        try reader.finish()
        self.columns = columns
    }

    private static func shapes(
        from reader: inout ByteReader,
        columnCount: Int
    ) throws(MalformedBytes) -> [RowShape] {
        let all = ColumnMask(first: columnCount).subtracting(ColumnMask(column: 0))
        let count = try reader.count(bytesEach: 2)
        guard count > 0 else { throw .outOfRange("number of shapes", offset: reader.offset) }
        var shapes: [RowShape] = []
        for _ in 0..<count {
            guard let operation = RowOperation(rawValue: try reader.byte()) else {
                throw .outOfRange("an operation that this version does not know", offset: reader.offset)
            }
            let columns = ColumnMask(rawValue: try reader.varint())
            guard columns.isSubset(of: all), operation != .birth || columns == all,
                operation != .erase || columns.isEmpty
            else {
                throw .outOfRange("column mask", offset: reader.offset)
            }
            shapes.append(RowShape(operation: operation, columns: columns))
        }
        return shapes
    }

    /// The columns that at least one row carries.
    package var writtenColumns: ColumnMask { shapes.reduce(into: []) { $0.formUnion($1.columns) } }

    /// The columns that have values other than null, and whether those are integers, texts or blobs.
    package var storedForms: [(column: Int, form: StoredForm)] {
        columns.map { column in
            switch column.form {
            case .integers, .differences: (column.number, .integers)
            case .texts: (column.number, .texts)
            case .blobs: (column.number, .blobs)
            }
        }
    }

    /// What kind of values a column of a block has.
    package enum StoredForm: Hashable, Sendable {
        case integers, texts, blobs
    }

    /// Whether it orders any row to be erased.
    package var erasesRows: Bool { shapes.contains { $0.operation == .erase } }

    /// Whether it writes any of the given rows, other than to order its erasure. Cost: one look for each row,
    /// without its values.
    package func writesRow(in rows: Set<Int64>) -> Bool {
        var offset = 0
        var shapeOffset = 0
        var identifier: Int64 = 0
        for _ in 0..<rowCount {
            identifier &+= Int64(bitPattern: ChangeCursor.varint(in: identifiers, at: &offset))
            let shape = shapeIndexes.map { Int(ChangeCursor.varint(in: $0, at: &shapeOffset)) } ?? 0
            if rows.contains(identifier), shapes[shape].operation != .erase { return true }
        }
        return false
    }

    /// Starts before the first row.
    package func makeCursor() -> ChangeCursor { ChangeCursor(self) }
}

/// The values of one column in a block. A view into the content.
struct ColumnBlock {
    let number: Int
    let form: ContentFormat.Form
    /// One bit for each row that carries the column, nil when none is null.
    let nulls: UnsafeRawBufferPointer?
    /// The integers, or the lengths.
    let numbers: UnsafeRawBufferPointer
    /// The bytes of texts and blobs.
    let content: UnsafeRawBufferPointer

    init(number: Int, carriers: Int, from reader: inout ByteReader) throws(MalformedBytes) {
        self.number = number
        let flags = try reader.byte()
        guard let form = ContentFormat.Form(rawValue: flags & ~ContentFormat.nullsFlag) else {
            throw .outOfRange("column form", offset: reader.offset)
        }
        self.form = form
        let bytes = try reader.sized()
        var inner = ByteReader(bytes)
        var present = carriers
        if flags & ContentFormat.nullsFlag != 0 {
            let nulls = try inner.raw((carriers + 7) / 8)
            present -= nulls.reduce(0) { $0 + $1.nonzeroBitCount }
            guard present < carriers, carriers % 8 == 0 || nulls[nulls.count - 1] >> UInt8(carriers % 8) == 0
            else { throw .outOfRange("null bits", offset: reader.offset) }
            self.nulls = nulls
        } else {
            nulls = nil
        }
        // A column of nulls only is not written.
        guard present > 0 else { throw .outOfRange("values in column", offset: reader.offset) }

        let start = inner.offset
        var contentCount: UInt64 = 0
        let lengthMax = UInt64(form == .texts ? ChangeSet.textBytesMax : ChangeSet.blobBytesMax)
        for _ in 0..<present {
            let value = try inner.varint()
            if form == .texts || form == .blobs {
                guard value <= lengthMax else { throw .outOfRange("field length", offset: reader.offset) }
                contentCount += value
            }
        }
        numbers = UnsafeRawBufferPointer(rebasing: bytes[start..<inner.offset])
        guard contentCount == UInt64(inner.remaining) else {
            throw .outOfRange("field lengths", offset: reader.offset)
        }
        content = try inner.raw(inner.remaining)
        if form == .texts { try validateTexts(present: present, offset: reader.offset) }
    }

    /// Checks that each text by itself is UTF-8.
    private func validateTexts(present: Int, offset: Int) throws(MalformedBytes) {
        guard String(validating: content.bindMemory(to: UInt8.self), as: UTF8.self) != nil else {
            throw .outOfRange("text is not UTF-8", offset: offset)
        }
        // All together are UTF-8, so each is, unless one begins in the middle of a character.
        var lengths = ByteReader(numbers)
        var start = 0
        for _ in 0..<present {
            if start < content.count, content[start] & 0xC0 == 0x80 {
                throw .outOfRange("text is not UTF-8", offset: offset)
            }
            start += Int(try lengths.varint())
        }
    }
}

/// A field as it lies in the content: a view, valid while the content is.
package enum FieldView {
    case null
    case integer(Int64)
    /// Valid UTF-8.
    case text(UnsafeRawBufferPointer)
    case blob(UnsafeRawBufferPointer)
}

extension FieldValue {
    /// Copies a view.
    package init(_ view: FieldView) {
        switch view {
        case .null: self = .null
        case .integer(let value): self = .integer(value)
        case .text(let bytes): self = .text(String(decoding: bytes, as: UTF8.self))
        case .blob(let bytes): self = .blob([UInt8](bytes))
        }
    }

    /// Whether this and a view are stored as the same bytes.
    package func isStored(as view: FieldView) -> Bool {
        switch (self, view) {
        case (.null, .null): true
        case (.integer(let left), .integer(let right)): left == right
        case (.text(let left), .text(let right)): left.utf8.elementsEqual(right)
        case (.blob(let left), .blob(let right)): left.elementsEqual(right)
        default: false
        }
    }
}

/// Visits the rows of a validated block, in order of their identifiers, without allocating for each.
package struct ChangeCursor {
    private struct ColumnPosition {
        let block: ColumnBlock
        var carrier = 0
        var number = 0
        var content = 0
        var previous: Int64 = 0
    }

    private let block: TableBlock
    private var rowsLeft: Int
    private var identifierOffset = 0
    private var shapeOffset = 0
    private var positions: [ColumnPosition]
    /// By column number; columns that no row has a value for stay null.
    private var fields: [FieldView]
    private var identifier: Int64 = 0
    private var shape: RowShape
    /// All of a row is shown, or these columns only, as if it had been a write of just those.
    private var part: ColumnMask?

    init(_ block: TableBlock) {
        self.block = block
        rowsLeft = block.rowCount
        positions = block.columns.map { ColumnPosition(block: $0) }
        fields = [FieldView](repeating: .null, count: 64)
        shape = block.shapes[0]
    }

    /// The row's stored identifier; a valid ``RowID``.
    package var id: Int64 { identifier }
    /// What was done to the row; a part of a birth is a write to a row that was born.
    package var operation: RowOperation {
        part != nil && shape.operation == .birth ? .update : shape.operation
    }
    /// The columns that the row carries.
    package var columns: ColumnMask { part.map(shape.columns.intersection) ?? shape.columns }

    /// Shows only some columns from here on: the rest was taken before.
    package mutating func show(only columns: ColumnMask) { part = columns }

    /// The value of a column that the row carries.
    package subscript(column: Int) -> FieldView { fields[column] }

    /// Moves to the next row; false after the last.
    package mutating func advance() -> Bool {
        guard rowsLeft > 0 else { return false }
        rowsLeft -= 1
        identifier &+= Int64(bitPattern: Self.varint(in: block.identifiers, at: &identifierOffset))
        if let indexes = block.shapeIndexes {
            shape = block.shapes[Int(Self.varint(in: indexes, at: &shapeOffset))]
        }
        for index in positions.indices where shape.columns.contains(column: positions[index].block.number) {
            fields[positions[index].block.number] = Self.next(&positions[index])
        }
        return true
    }

    private static func next(_ position: inout ColumnPosition) -> FieldView {
        let block = position.block
        if let nulls = block.nulls {
            let carrier = position.carrier
            position.carrier += 1
            if nulls[carrier / 8] & (1 << UInt8(carrier % 8)) != 0 { return .null }
        }
        let number = varint(in: block.numbers, at: &position.number)
        switch block.form {
        case .integers:
            return .integer(Int64(zigzag: number))
        case .differences:
            position.previous &+= Int64(zigzag: number)
            return .integer(position.previous)
        case .texts, .blobs:
            let start = position.content
            position.content += Int(number)
            let bytes = UnsafeRawBufferPointer(rebasing: block.content[start..<position.content])
            return block.form == .texts ? .text(bytes) : .blob(bytes)
        }
    }

    /// Reads a number that was validated before.
    @inline(__always)
    fileprivate static func varint(in bytes: UnsafeRawBufferPointer, at offset: inout Int) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let next = bytes[offset]
            offset += 1
            value |= UInt64(next & 0x7F) << shift
            if next < 0x80 { return value }
            shift += 7
        }
    }
}

extension ChangeSet {
    /// Copies a change set out of its content: for showing it, and for tests. The merge reads the views.
    package init(_ reader: ChangeSetReader) {
        self.init(
            header: reader.header,
            tables: reader.blocks.map { block in
                var cursor = block.makeCursor()
                var rows: [RowChange] = []
                while cursor.advance() {
                    guard let id = RowID(rawValue: cursor.id) else { continue }
                    var values: [FieldValue] = []
                    for column in cursor.columns.numbers { values.append(FieldValue(cursor[column])) }
                    rows.append(
                        RowChange(
                            id: id,
                            operation: cursor.operation,
                            columns: cursor.columns,
                            values: values
                        )
                    )
                }
                return TableChanges(number: block.number, columnCount: block.columnCount, rows: rows)
            }
        )
    }
}
