import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

/// What the log says that fields hold: each field's stamp names the change set that wrote it.
///
/// A second opinion on a row that may have changed on disk by itself. Keeps the last change set that was read,
/// because rows that are looked at one after the other often came together.
final class LoggedValues {
    private let db: Database
    private let decompressor = ZstdDecompressor()
    private var lastStamp = Stamp.zero
    /// Its rows by table number and identifier; nil when its body is not here, or too large.
    private var lastRows: [Int: [RowID: RowChange]]?
    private var lastRowsMax = 0

    /// Change sets with more rows are not read for a look at some of their rows.
    static let rowsMaxThorough = 100_000
    /// Change sets that are read for the sake of one row while somebody waits.
    static let rowsMaxQuick = 100

    init(_ db: Database) { self.db = db }

    /// The value that a column of a row was given under a stamp; nil when the log cannot tell.
    ///
    /// - Parameter rowsMax: Larger change sets are not read.
    func value(
        of column: Int,
        id: RowID,
        table: TableDescription,
        stamp: Stamp,
        rowsMax: Int = LoggedValues.rowsMaxThorough
    ) throws -> FieldValue? {
        guard let change = try rows(of: stamp, max: rowsMax)?[table.number]?[id],
            change.columns.contains(column: column)
        else {
            return nil
        }
        var index = 0
        for number in change.columns.numbers {
            if number == column { return change.values[index] }
            index += 1
        }
        return nil
    }

    private func rows(of stamp: Stamp, max rowsMax: Int) throws -> [Int: [RowID: RowChange]]? {
        if stamp == lastStamp, rowsMax <= lastRowsMax { return lastRows }
        lastStamp = stamp
        lastRows = nil
        lastRowsMax = rowsMax
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: "SELECT position, CASE WHEN rows <= ? THEN body END FROM log WHERE origin = ? AND time = ?"
            ),
            arguments: [rowsMax, Int64(stamp.origin.rawValue), Int64(bitPattern: stamp.time.packed)]
        )
        guard let row, let body = row[1] as Data? else { return nil }
        let position = UInt64(clamping: row[0] as Int64)
        // A body that cannot be read tells nothing.
        let content = try? Replica.withContent(of: body, position: position, decompressor) { ChangeSet($0) }
        guard let content else { return nil }
        let rows = content.tables.map { table in
            (table.number, Dictionary(table.rows.map { ($0.id, $0) }) { first, _ in first })
        }
        lastRows = Dictionary(uniqueKeysWithValues: rows)
        return lastRows
    }
}
