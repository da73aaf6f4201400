import Causality

/// The rows of one table that a transaction has written, on their way into a change set.
///
/// They lie flat: one array for all rows, one for all values, one stretch of memory for all texts and blobs. So no
/// row costs an object, a string or a dictionary, and whoever writes the row to a table binds its values where they
/// lie here. Owned by one caller at a time.
package final class WrittenRows {
    /// The table's permanent number.
    package let number: Int
    /// How many columns the writer's schema gives the table, with the identifier.
    package let columnCount: Int

    struct Row {
        let id: Int64
        var operation: RowOperation
        var columns: ColumnMask
        /// Where its values begin, ascending by column.
        var first: Int
    }

    enum Value {
        case null
        case integer(Int64)
        /// Where the bytes lie.
        case text(at: Int, count: Int)
        case blob(at: Int, count: Int)
    }

    // Nothing here calls out while it changes what lies here, and there is one caller at a time: looking for
    // overlapping accesses at run time would cost a tenth of a local write.
    @exclusivity(unchecked) private(set) var rows: [Row] = []
    @exclusivity(unchecked) private var values: [Value] = []
    /// What is being written, and not yet one of the rows.
    @exclusivity(unchecked) private var draft: Row?
    /// The columns of the draft that have no value yet.
    @exclusivity(unchecked) private var missing = ColumnMask()
    /// The values of the draft, by column number.
    private let views: UnsafeMutablePointer<FieldView>
    @exclusivity(unchecked) private var bytes: UnsafeMutableRawBufferPointer
    @exclusivity(unchecked) private var bytesUsed = 0
    /// By identifier; nil as long as each row's was greater than those before.
    @exclusivity(unchecked) private var indexes: [Int64: Int]?
    /// About how many bytes the content will have; at least as many as its texts and blobs.
    @exclusivity(unchecked) package private(set) var byteCount = 0

    private static let columnsMax = SyncLimits.columnsMax

    package init(number: Int, columnCount: Int) {
        self.number = number
        self.columnCount = columnCount
        bytes = .allocate(byteCount: 1024, alignment: 1)
        views = .allocate(capacity: Self.columnsMax)
        views.initialize(repeating: .null, count: Self.columnsMax)
    }

    deinit {
        bytes.deallocate()
        views.deallocate()
    }

    package var rowCount: Int { rows.count }

    /// Forgets all rows, and keeps the memory for others.
    package func removeAll() {
        rows.removeAll(keepingCapacity: true)
        values.removeAll(keepingCapacity: true)
        draft = nil
        bytesUsed = 0
        indexes = nil
        byteCount = 0
    }

    /// Whether a row was written.
    package func contains(_ id: RowID) -> Bool { index(of: id.rawValue) != nil }

    private func index(of id: Int64) -> Int? {
        guard let last = rows.last, id <= last.id || indexes != nil else { return nil }
        if let indexes { return indexes[id] }
        var (low, high) = (0, rows.count - 1)
        while low < high {
            let middle = (low + high) / 2
            if rows[middle].id < id { low = middle + 1 } else { high = middle }
        }
        return rows[low].id == id ? low : nil
    }

    // MARK: Writing

    /// Begins to write a row: its values follow, one for each column, ascending, and then ``finish()``.
    package func begin(_ id: RowID, _ operation: RowOperation, _ columns: ColumnMask) {
        draft = Row(id: id.rawValue, operation: operation, columns: columns, first: values.count)
        missing = columns
    }

    /// Adds the next value.
    ///
    /// - Precondition: the draft has a column without one.
    package func append(_ value: FieldValue) {
        switch value {
        case .null: append(.null as FieldView)
        case .integer(let number): append(.integer(number) as FieldView)
        case .text(var text): text.withUTF8 { append(.text(UnsafeRawBufferPointer($0)) as FieldView) }
        case .blob(let blob): blob.withUnsafeBytes { append(.blob($0) as FieldView) }
        }
    }

    /// Adds the next value, which may lie anywhere but here.
    ///
    /// - Precondition: the draft has a column without one.
    package func append(_ value: FieldView) {
        guard let column = missing.first else { preconditionFailure("A row has more values than columns") }
        missing.subtract(ColumnMask(column: column))
        let stored: Value
        switch value {
        case .null: stored = .null
        case .integer(let number): stored = .integer(number)
        case .text(let text): stored = .text(at: store(text), count: text.count)
        case .blob(let blob): stored = .blob(at: store(blob), count: blob.count)
        }
        values.append(stored)
        views[column] = view(stored)
    }

    private func store(_ content: UnsafeRawBufferPointer) -> Int {
        let start = bytesUsed
        if bytes.count - start < content.count { grow(by: content.count) }
        UnsafeMutableRawBufferPointer(rebasing: bytes[start...]).copyMemory(from: content)
        bytesUsed += content.count
        return start
    }

    private func grow(by count: Int) {
        let grown = UnsafeMutableRawBufferPointer.allocate(byteCount: (bytesUsed + count) * 2, alignment: 1)
        grown.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<bytesUsed]))
        bytes.deallocate()
        bytes = grown
        // The draft's values were moved.
        guard let draft else { return }
        for (column, value) in zip(draft.columns.numbers, values[draft.first...]) { views[column] = view(value) }
    }

    /// The value of a column of the row that is being written. A view, valid until the next value is added.
    ///
    /// - Precondition: the row carries the column.
    package subscript(column: Int) -> FieldView { views[column] }

    /// Ends the row that was begun. Several writes of one row become one that says the same.
    ///
    /// - Precondition: as many values as columns were added.
    package func finish() {
        guard let row = draft else { preconditionFailure("No row is being written") }
        precondition(missing.isEmpty, "A row needs one value for each column")
        draft = nil
        byteCount += 16
        for value in values[row.first...] {
            switch value {
            case .null: byteCount += 1
            case .integer: byteCount += 9
            case .text(_, let count), .blob(_, let count): byteCount += count + 3
            }
        }
        if let index = index(of: row.id) {
            rows[index] = followed(rows[index], by: row)
            return
        }
        if let last = rows.last, row.id < last.id, indexes == nil {
            indexes = Dictionary(uniqueKeysWithValues: rows.enumerated().map { ($1.id, $0) })
        }
        indexes?[row.id] = rows.count
        rows.append(row)
    }

    /// Writes a row whose values are held as Swift values.
    package func add(_ change: RowChange) {
        begin(change.id, change.operation, change.columns)
        for value in change.values { append(value) }
        finish()
    }

    /// The one write that does what `earlier` and then `later` do.
    private func followed(_ earlier: Row, by later: Row) -> Row {
        let operation: RowOperation =
            switch (earlier.operation, later.operation) {
            // Nothing is left of what was written before.
            case (.erase, _), (_, .erase): .erase
            case (_, .delete): .delete
            // Born here and alive: still a birth, with the newest values.
            case (.birth, _): .birth
            // It was dead before this transaction, or died in it: say that it lives.
            case (.delete, _), (.restore, _): .restore
            case (.update, let operation): operation
            }
        var both = Row(id: later.id, operation: operation, columns: [], first: values.count)
        if operation == .erase { return both }
        both.columns = earlier.columns.union(later.columns)
        for column in both.columns.numbers {
            let newest = later.columns.contains(column: column) ? later : earlier
            values.append(values[newest.first + newest.columns.rank(of: column)])
        }
        return both
    }

    // MARK: Reading

    /// The rows that were written, in the order in which they were first.
    package var identifiers: some Sequence<Int64> { rows.lazy.map(\.id) }

    /// What was written to a row; nil when nothing was.
    package func change(of id: RowID) -> RowChange? { index(of: id.rawValue).map { change(rows[$0], id) } }

    private func change(_ row: Row, _ id: RowID) -> RowChange {
        RowChange(
            id: id,
            operation: row.operation,
            columns: row.columns,
            values: values[row.first..<row.first + row.columns.count].map { FieldValue(view($0)) }
        )
    }

    /// A value as it lies here: valid until the next one is added.
    func view(_ value: Value) -> FieldView {
        switch value {
        case .null: .null
        case .integer(let number): .integer(number)
        case .text(let start, let count): .text(UnsafeRawBufferPointer(rebasing: bytes[start..<start + count]))
        case .blob(let start, let count): .blob(UnsafeRawBufferPointer(rebasing: bytes[start..<start + count]))
        }
    }

    /// Copies bytes that lie here to a place in a buffer.
    func copy(_ start: Int, _ count: Int, to buffer: UnsafeMutableBufferPointer<UInt8>, at offset: inout Int) {
        let place = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[offset...])
        place.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[start..<start + count]))
        offset += count
    }

    /// The value of a column that a row carries.
    func value(_ column: Int, of row: Row) -> Value { values[row.first + row.columns.rank(of: column)] }
}

extension WrittenRows {
    /// Takes in changes that are held as Swift values.
    package convenience init(_ changes: TableChanges) {
        self.init(number: changes.number, columnCount: changes.columnCount)
        for change in changes.rows { add(change) }
    }
}
