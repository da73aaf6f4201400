import Causality
import GRDB
import SyncProtocol

/// One row of a replicated table, for look-ups.
struct RowKey: Hashable {
    let table: Int
    let id: Int64
}

/// Why a row of a change set waits instead of being applied. Holds no customer data.
package struct ParkingReason: Hashable, Sendable {
    /// Raw values are permanent: they are stored and printed.
    package enum Code: String, Hashable, Sendable, CaseIterable {
        /// A value is of another kind than its column holds.
        case wrongType
        /// The row that lies here cannot be read.
        case damagedRow
        /// The database did not take the row.
        case database
        /// It makes a row with a number of another origin.
        case foreignNumber
        /// An earlier change of the same row waits.
        case queued
        /// The change set's body is missing.
        case bodyMissing
    }

    package let code: Code
    /// What happened and what to do.
    package let sentence: String
}

extension ParkingReason {
    static let queued = ParkingReason(
        code: .queued,
        sentence: "An earlier change of this row is parked; this one follows it."
    )

    /// What an error says about one row; nil when it is about the whole node or the whole change set.
    init?(_ error: any Error) {
        switch error {
        case StoreFailure.damagedRow:
            self.init(code: .damagedRow, sentence: "\(error)")
        case let error as DatabaseError:
            // All else, a full disk or a lock for one, would stop every other row as well.
            let ofRow: [ResultCode] = [
                .SQLITE_CONSTRAINT, .SQLITE_MISMATCH, .SQLITE_TOOBIG, .SQLITE_RANGE, .SQLITE_ERROR,
            ]
            guard ofRow.contains(error.resultCode.primaryResultCode) else { return nil }
            self.init(
                code: .database,
                sentence: "The database did not take the row: \(error.message ?? error.resultCode.description). "
                    + "Mend what is named there, then run `peyvand parked retry`."
            )
        default:
            return nil
        }
    }
}

/// A row that could not be applied in a transaction that has no way back to before the row: the transaction
/// runs again, with one.
struct RowTrouble: Error {
    let reason: ParkingReason
}

/// How many changes wait, by row: looked at for every row that arrives, so it is kept in memory.
struct ParkedRows {
    /// A hundred thousand rows that cannot be applied are not a row's trouble any more.
    static let countMax = SyncLimits.parkedMax

    private var changes: [RowKey: Int] = [:]
    private(set) var count = 0

    /// Whether nothing waits: the usual case.
    var isEmpty: Bool { count == 0 }

    func contains(_ row: RowKey) -> Bool { changes[row] != nil }

    mutating func add(_ row: RowKey) {
        changes[row, default: 0] += 1
        count += 1
    }

    mutating func remove(_ row: RowKey) {
        guard let known = changes[row] else { return }
        changes[row] = known > 1 ? known - 1 : nil
        count -= 1
    }

    static func read(_ db: Database) throws -> ParkedRows {
        var rows = ParkedRows()
        let cursor = try Row.fetchCursor(db, sql: "SELECT tableNumber, id FROM parkedRow")
        while let row = try cursor.next() { rows.add(RowKey(table: row[0], id: row[1])) }
        return rows
    }
}
