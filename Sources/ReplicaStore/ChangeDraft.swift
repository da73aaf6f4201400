import CRM
import Causality
import SyncProtocol

/// What a transaction has done so far, row by row, on its way to a change set.
struct ChangeDraft {
    private struct Rows {
        let columnCount: Int
        var changes: [RowChange] = []
        var indexByID: [RowID: Int] = [:]
    }

    private var rowsByTable: [Int: Rows] = [:]
    private(set) var rowCount = 0
    /// About how many bytes the content will have; at least as many as its texts and blobs.
    private(set) var byteCount = 0

    var isEmpty: Bool { rowCount == 0 }

    /// Ascending by number.
    var tables: [TableChanges] {
        rowsByTable.sorted { $0.key < $1.key }.map { number, rows in
            TableChanges(number: number, columnCount: rows.columnCount, rows: rows.changes)
        }
    }

    /// Whether this transaction has written the row.
    func contains(_ id: RowID, of table: TableDescription) -> Bool {
        rowsByTable[table.number]?.indexByID[id] != nil
    }

    /// Adds a change; several of one row become one that says the same.
    mutating func add(_ change: RowChange, to table: TableDescription) {
        byteCount += change.values.reduce(16) { $0 + $1.byteCount }
        var rows = rowsByTable.removeValue(forKey: table.number) ?? Rows(columnCount: table.columns.count)
        if let index = rows.indexByID[change.id] {
            rows.changes[index] = rows.changes[index].followed(by: change)
        } else {
            rows.indexByID[change.id] = rows.changes.count
            rows.changes.append(change)
            rowCount += 1
        }
        rowsByTable[table.number] = rows
    }
}

extension RowChange {
    /// The one change that does what this one and then `later` do.
    fileprivate func followed(by later: RowChange) -> RowChange {
        var valueOf: [Int: FieldValue] = [:]
        for change in [self, later] {
            var index = 0
            for column in change.columns.numbers {
                valueOf[column] = change.values[index]
                index += 1
            }
        }
        // Nothing is left of what was written before.
        if self.operation == .erase || later.operation == .erase {
            return RowChange(id: id, operation: .erase, columns: [], values: [])
        }
        let columns = columns.union(later.columns)
        var values: [FieldValue] = []
        for column in columns.numbers { values.append(valueOf[column] ?? .null) }
        let operation: RowOperation =
            switch (self.operation, later.operation) {
            case (.erase, _), (_, .erase): .erase
            case (_, .delete): .delete
            // Born here and alive: still a birth, with the newest values.
            case (.birth, _): .birth
            // It was dead before this transaction, or died in it: say that it lives.
            case (.delete, _), (.restore, _): .restore
            case (.update, let operation): operation
            }
        return RowChange(id: id, operation: operation, columns: columns, values: values)
    }
}

extension FieldValue {
    /// About how many bytes the value takes in a change set.
    fileprivate var byteCount: Int {
        switch self {
        case .null: 1
        case .integer: 9
        case .text(let text): text.utf8.count + 3
        case .blob(let bytes): bytes.count + 3
        }
    }
}
