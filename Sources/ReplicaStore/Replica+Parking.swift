import CRM
import Causality
import GRDB
import SyncProtocol

/// A change of one row that could not be applied and waits.
package struct ParkedRow: Hashable, Sendable {
    /// Names it at this node, for ever.
    package let number: Int64
    package let set: ChangeSetID
    /// Where the change set stands in this node's log.
    package let position: UInt64
    package let table: String
    package let row: RowID
    package let reason: ParkingReason
    /// Milliseconds since 1970-01-01 UTC.
    package let parkedAt: UInt64
    /// How often it was tried again.
    package let attempts: Int
}

extension Replica {
    /// What waits, in the order in which it will be tried.
    ///
    /// - Parameter limit: At most so many.
    package func parkedRows(limit: Int = .max) throws -> [ParkedRow] {
        try read { try $0.parkedRows(limit: limit) }
    }

    /// Tries parked rows again, in order.
    ///
    /// - Parameter number: The row of this change only, or all.
    /// - Returns: How many changes were applied; nil when nothing of that number waits.
    package func retryParked(_ number: Int64? = nil) throws -> Int? {
        try withWriter { writer in
            if number == nil, writer.parked.isEmpty { return 0 }
            return try writer.transaction { () -> Int? in
                var wanted: Set<RowKey>?
                if let number {
                    let row = try Row.fetchOne(
                        writer.db.cachedStatement(sql: "SELECT tableNumber, id FROM parkedRow WHERE number = ?"),
                        arguments: [number]
                    )
                    guard let row else { return nil }
                    wanted = [RowKey(table: row[0], id: row[1])]
                }
                let applied = try writer.retryParked(wanted)
                // What follows the log has come further than this.
                for row in Set(applied) {
                    if row.table == TableDescription.customer.number { try indexForSearch(row.id, writer) }
                    if let table = schema.table(number: row.table) { try writer.noteMatching([row.id], of: table) }
                }
                return applied.count
            }
        }
    }

    /// Gives up a change that waits, for good. Its change set stays in the log; here its row never has it.
    ///
    /// - Returns: Whether anything of that number waited.
    package func dropParked(_ number: Int64) throws -> Bool {
        try withWriter { writer in
            try writer.transaction {
                let isDropped = try writer.dropParked(number)
                if isDropped { try writer.audit(.dropParked, "\(number)") }
                return isDropped
            }
        }
    }
}

extension ReplicaReader {
    /// What waits, in the order in which it will be tried.
    package func parkedRows(limit: Int) throws -> [ParkedRow] {
        let rows = try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT number, parkedRow.origin, parkedRow.seq, position, tableNumber, id, reason, sentence, parkedAt,
                        attempts
                    FROM parkedRow JOIN log USING (origin, seq) ORDER BY position, tableNumber, id LIMIT ?
                    """
            ),
            arguments: [limit]
        )
        return rows.compactMap { row in
            guard let origin = Origin(rawValue: row[1]), let table = schema.table(number: row[4]),
                let id = RowID(rawValue: row[5])
            else { return nil }
            return ParkedRow(
                number: row[0],
                set: ChangeSetID(origin: origin, seq: UInt64(clamping: row[2] as Int64)),
                position: UInt64(clamping: row[3] as Int64),
                table: table.name,
                row: id,
                reason: ParkingReason(code: ParkingReason.Code(rawValue: row[6]) ?? .database, sentence: row[7]),
                parkedAt: UInt64(clamping: row[8] as Int64),
                attempts: row[9]
            )
        }
    }

    /// How many changes wait, how many were given up, and how many change sets hold what only a newer schema knows.
    func unapplied() throws -> (parked: Int, dropped: Int, newer: Int) {
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT (SELECT count(*) FROM parkedRow), (SELECT count(*) FROM droppedRow),
                        (SELECT count(*) FROM (SELECT DISTINCT origin, seq FROM unknownPart))
                    """
            )
        )
        return (row?[0] ?? 0, row?[1] ?? 0, row?[2] ?? 0)
    }
}
