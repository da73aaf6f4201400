import Causality
import Foundation
import GRDB
import SyncProtocol

/// What `status` says of leases, backups and trimming.
package struct RetentionStatus: Sendable {
    /// At a branch: when its lease ends, as head office told it last, in milliseconds since 1970-01-01 UTC.
    package let leaseExpiresAt: UInt64?
    /// The position up to which every node with a lease has the log. At a branch: its own end.
    package let stablePosition: UInt64
    /// The log is in a verified backup up to here; 0 when none is known.
    package let safePosition: UInt64
    /// Bodies of the log were let go up to here.
    package let trimmedPosition: UInt64
    /// At head office: how many change sets are in no backup, and since when the first of them is there.
    package let unsafeChangeSets: UInt64
    package let unsafeSince: UInt64?
    /// Nodes that take part.
    package let activeNodes: Int
    /// Whether rows were found that differ from what was written.
    package let areTablesWrong: Bool
    /// How far a first load has come.
    package let firstLoad: FirstLoadProgress?
}

extension Replica {
    /// Reads what this node knows of leases, backups and trimming.
    package func retentionStatus() throws -> RetentionStatus {
        let notes = contacts.withLock { $0 }
        let leaseDays = policy.withLock { $0.leaseDays }
        let node = self.node
        return try read { reader in
            let db = reader.db
            func number(_ fact: LocalFact) throws -> UInt64 { UInt64(clamping: try LocalFact.read(fact, db) ?? 0) }
            let end = UInt64(
                clamping: try Int64.fetchOne(db.cachedStatement(sql: "SELECT max(position) FROM log")) ?? 0
            )
            let safe = try number(.safePosition)
            let days = try Int64.fetchOne(db.cachedStatement(sql: "SELECT coalesce(max(number), 0) FROM livedDay")) ?? 0
            let active = try Row.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT node, acknowledgedPosition, loadingFrom, livedDay FROM registeredNode
                        WHERE retiredAt IS NULL
                        """
                )
            )
            let positions = active.compactMap { row -> UInt64? in
                guard UInt64(clamping: days - (row["livedDay"] as Int64)) < leaseDays else { return nil }
                if let loading = row["loadingFrom"] as Int64? { return UInt64(clamping: loading) }
                let noted = UniqueID(bytes: [UInt8](row["node"] as Data)).flatMap {
                    notes.children[$0]?.acknowledged?.position
                }
                return max(noted ?? 0, UInt64(clamping: row["acknowledgedPosition"] as Int64))
            }
            let unsafeSince = try Int64.fetchOne(
                db.cachedStatement(sql: "SELECT time FROM log WHERE position > ? ORDER BY position LIMIT 1"),
                arguments: [Int64(clamping: safe)]
            )
            return RetentionStatus(
                leaseExpiresAt: node.role == .branch
                    ? try LocalFact.read(.leaseExpiresAt, db).map { UInt64(clamping: $0) } : nil,
                stablePosition: positions.min() ?? end,
                safePosition: safe,
                trimmedPosition: try number(.trimmedPosition),
                unsafeChangeSets: end - min(safe, end),
                unsafeSince: unsafeSince.map { UInt64(clamping: $0) >> 16 },
                activeNodes: active.count,
                areTablesWrong: try LocalFact.read(.tablesWrongAt, db) != nil,
                firstLoad: firstLoadProgress
            )
        }
    }
}
