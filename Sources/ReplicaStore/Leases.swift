import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// What head office keeps for whom. A lease counts days on which head office heard any node, so a clock that jumps,
// or a head office that was switched off for a year, expires nobody.

extension ReplicaWriter {
    static let dayMilliseconds = UInt64(CivilTime.dayMilliseconds)

    /// The log is in a verified backup up to here; 0 when nobody knows of one.
    func safePosition() throws -> UInt64 { UInt64(clamping: try fact(.safePosition) ?? 0) }

    /// Bodies of the log may be missing up to here.
    func trimmedPosition() throws -> UInt64 { UInt64(clamping: try fact(.trimmedPosition) ?? 0) }

    /// At head office: notes that a child is there. Writes at most once a day and child.
    func hear(_ hello: Hello, at now: UInt64) throws {
        let day = now / Self.dayMilliseconds
        let known = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT registeredNode.livedDay, livedDay.number, registeredNode.loadingFrom FROM registeredNode
                    LEFT JOIN livedDay ON livedDay.day = ? WHERE node = ?
                    """
            ),
            arguments: [Int64(clamping: day), Data(hello.node.bytes)]
        )
        guard let known else { return }
        let isLoading = hello.extras.loadingSnapshot != nil
        let isHeard = known[1] as Int64? == known[0] as Int64
        guard !isHeard || !isLoading && known[2] as Int64? != nil else { return }
        try transaction {
            try hear(hello.node, on: day)
            if !isLoading { try noteLoading(from: nil, by: hello.node) }
        }
    }

    /// Notes that a node was heard on a day; part of a transaction.
    func hear(_ node: UniqueID, on day: UInt64) throws {
        try db.cachedStatement(
            sql: "INSERT OR IGNORE INTO livedDay SELECT ?, coalesce(max(number), 0) + 1 FROM livedDay"
        ).execute(arguments: [Int64(clamping: day)])
        // A day that comes again after the clock was set back is an old one, and nobody gets younger by it.
        try db.cachedStatement(
            sql: "UPDATE registeredNode SET livedDay = (SELECT max(number) FROM livedDay) WHERE node = ?"
        ).execute(arguments: [Data(node.bytes)])
    }

    /// Keeps the log after a position for a node that loads a snapshot; nil when it does not any more.
    func noteLoading(from position: UInt64?, by node: UniqueID) throws {
        try db.cachedStatement(sql: "UPDATE registeredNode SET loadingFrom = ? WHERE node = ?").execute(arguments: [
            position.map { Int64(clamping: $0) }, Data(node.bytes),
        ])
    }

    func loadingPosition(of node: UniqueID) throws -> UInt64? {
        try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT loadingFrom FROM registeredNode WHERE node = ?"),
            arguments: [Data(node.bytes)]
        ).map { UInt64(clamping: $0) }
    }

    /// The position up to which every node with a lease has the log; nil when there is no such node.
    func positionOfAll(leaseDays: UInt64) throws -> UInt64? {
        try Int64.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT min(coalesce(loadingFrom, acknowledgedPosition)) FROM registeredNode
                    WHERE retiredAt IS NULL AND (SELECT coalesce(max(number), 0) FROM livedDay) - livedDay < ?
                    """
            ),
            arguments: [Int64(clamping: leaseDays)]
        ).map { UInt64(clamping: $0) }
    }
}

extension Replica {
    /// At head office: tells a child how long it may stay away, and what is safe.
    func tellRetention(in welcome: inout Welcome, _ writer: ReplicaWriter) throws {
        let policy = policy.withLock { $0 }
        // What is usual is not told: most sessions find nothing new, and a line may be metered.
        let usual = ReplicaPolicy()
        if policy.leaseDays != usual.leaseDays { welcome.extras.leaseDays = policy.leaseDays }
        if policy.historyDays != usual.historyDays { welcome.extras.historyDays = policy.historyDays }
        let safe = try writer.safePosition()
        if safe > 0 { welcome.extras.safePosition = safe }
    }

    /// At a branch: notes what head office tells. The end of the lease is rounded, so that it is seldom written.
    func noteRetention(_ occasion: ConsultationOccasion) throws -> SyncStep {
        guard case .welcomed(let welcome, _) = occasion else { return .goOn }
        let extras = welcome.extras
        let usual = ReplicaPolicy()
        let day = ReplicaWriter.dayMilliseconds
        let expires = welcome.sentAtMilliseconds + (extras.leaseDays ?? usual.leaseDays) * day
        var facts: [(LocalFact, UInt64)] = [
            (.leaseExpiresAt, expires - expires % (day / 4)),
            (.historyDays, extras.historyDays ?? usual.historyDays),
        ]
        if let safe = extras.safePosition { facts.append((.safePosition, safe)) }
        try withWriter { writer in
            let seen = UInt64(clamping: try writer.fact(.hubTimeSeen) ?? 0)
            facts.append((.hubTimeSeen, max(seen, welcome.sentAtMilliseconds / day * day)))
            let changed = try facts.filter { try writer.fact($0.0) != Int64(clamping: $0.1) }
            guard !changed.isEmpty else { return }
            try writer.transaction { for (fact, value) in changed { try writer.note(fact, Int64(clamping: value)) } }
        }
        return .goOn
    }
}

/// A node left for good, or nobody knows it.
package enum RetirementFailure: Error, Hashable, Sendable, CustomStringConvertible {
    case notHeadOffice
    case unknownNode(String)

    package var description: String {
        switch self {
        case .notHeadOffice: "Only head office retires nodes; run this on head office's directory."
        case .unknownNode(let name): "No node is called \(name). `peyvand node list` shows all."
        }
    }
}

extension Replica {
    /// Lets a node take part no more: it is refused from now on, and nothing is kept for it.
    ///
    /// - Returns: Whether it took part until now.
    @discardableResult
    package func retire(_ name: String) throws -> Bool {
        let now = Int64(clamping: wallClock())
        let isChanged = try withWriter { writer in
            try writer.transaction {
                guard writer.node.role == .headOffice else { throw RetirementFailure.notHeadOffice }
                let known = try Row.fetchOne(
                    writer.db.cachedStatement(
                        sql: "SELECT node, branchRow, retiredAt FROM registeredNode WHERE name = ?"
                    ),
                    arguments: [name]
                )
                guard let known else { throw RetirementFailure.unknownNode(name) }
                guard known["retiredAt"] as Int64? == nil else { return false }
                try writer.db.cachedStatement(
                    sql: "UPDATE registeredNode SET retiredAt = ?, loadingFrom = NULL WHERE node = ?"
                ).execute(arguments: [now, known["node"] as Data])
                if let row = RowID(rawValue: known["branchRow"]) {
                    let transaction = LocalTransaction(writer)
                    try transaction.update("branch", id: row, ["active": .integer(0)])
                    _ = try transaction.finish()
                }
                try writer.audit(.retire, name)
                return true
            }
        }
        if isChanged { tellNodeObservers() }
        return isChanged
    }
}
