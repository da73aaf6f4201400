import CRM
import Causality
import SyncProtocol

/// What a transaction has done so far, on its way to a change set.
struct ChangeDraft {
    private let spare: SpareRows
    /// The tables that were written, in the order in which they were first.
    private(set) var tables: [WrittenRows] = []

    init(_ spare: SpareRows) { self.spare = spare }

    var isEmpty: Bool { tables.allSatisfy { $0.rowCount == 0 } }
    var rowCount: Int { tables.reduce(0) { $0 + $1.rowCount } }
    /// About how many bytes the content will have; at least as many as its texts and blobs.
    var byteCount: Int { tables.reduce(0) { $0 + $1.byteCount } }

    /// Where the rows of a table are added.
    mutating func rows(of table: TableDescription) -> WrittenRows {
        if let known = tables.first(where: { $0.number == table.number }) { return known }
        let made = spare.take(table)
        tables.append(made)
        return made
    }

    /// Adds a change; several of one row become one that says the same.
    mutating func add(_ change: RowChange, to table: TableDescription) { rows(of: table).add(change) }

    /// Gives the memory back, after the rows went into a change set.
    mutating func giveBack() {
        spare.giveBack(tables)
        tables = []
    }
}

/// Memory of drafts that are done, for those to come: a node writes to the same few tables over and over, and fresh
/// memory costs as much as the rows that it is for. Belongs to the writer.
final class SpareRows {
    /// Drafts that have become larger are let go.
    private static let bytesMax = 1 << 20
    private var byTable: [Int: WrittenRows] = [:]

    func take(_ table: TableDescription) -> WrittenRows {
        byTable.removeValue(forKey: table.number)
            ?? WrittenRows(number: table.number, columnCount: table.columns.count)
    }

    func giveBack(_ tables: [WrittenRows]) {
        for rows in tables where rows.byteCount <= Self.bytesMax {
            rows.removeAll()
            byTable[rows.number] = rows
        }
    }
}
