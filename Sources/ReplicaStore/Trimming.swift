import Causality
import Foundation
import GRDB
import SyncProtocol

// Letting go of the past. The rows of the log stay for ever, with chain and digest; only bodies go, and never by
// age alone: everybody who has a lease must have them, and they must be safe.

extension ReplicaWriter {
    /// The first change set of the log of which something could not be applied yet.
    func firstUnapplied() throws -> UInt64? {
        try Int64.fetchOne(db.cachedStatement(sql: "SELECT min(position) FROM log JOIN neededBody USING (origin, seq)"))
            .map { UInt64(clamping: $0) }
    }

    /// The bodies that must stay although everybody has them: something in them could not be applied yet, or is
    /// still to be signed.
    func unfinishedBodies() throws -> Set<UInt64> {
        if isPlanted(.parkedBodyTrimmed) { return [] }
        return Set(
            try Int64.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT position FROM log JOIN neededBody USING (origin, seq)
                        UNION SELECT position FROM unsignedBody
                        """
                )
            ).map { UInt64(clamping: $0) }
        )
    }
}

extension Replica {
    /// Change sets looked at in one transaction, so that nobody waits long for the writer.
    private static let changeSetsPerPiece = 256

    /// Lets go of bodies of the log that nobody needs any more, piece by piece.
    ///
    /// - Returns: Whether nothing more can be let go now.
    @discardableResult
    package func trimLog(piecesMax: Int = .max) throws -> Bool {
        guard try mayTrim() else { return true }
        // The search index follows the bodies.
        guard try followLogForSearch(piecesMax: piecesMax) else { return false }
        for piece in 0..<piecesMax {
            if try trimPiece(looksBack: piece == 0) { return true }
        }
        return false
    }

    /// Whether there is anything to let go; looks at one row.
    private func mayTrim() throws -> Bool {
        let now = wallClock()
        let policy = policy.withLock { $0 }
        return try withWriter { writer in
            let trimmed = try writer.trimmedPosition()
            let limit = try TrimLimit(writer, policy, now: now)
            guard limit.position > trimmed else { return try !Self.kept(writer).isEmpty }
            let next = try Row.fetchOne(
                writer.db.cachedStatement(sql: "SELECT origin, seq, time, hubPosition FROM log WHERE position = ?"),
                arguments: [Int64(clamping: trimmed + 1)]
            )
            return try next.map { limit.allows($0) } ?? true || !Self.kept(writer).isEmpty
        }
    }

    private func trimPiece(looksBack: Bool) throws -> Bool {
        let now = wallClock()
        let policy = policy.withLock { $0 }
        return try withWriter { writer in
            let trimmed = try writer.trimmedPosition()
            let limit = try TrimLimit(writer, policy, now: now)
            let unfinished = try writer.unfinishedBodies()
            let kept = looksBack ? try Self.kept(writer).filter { !unfinished.contains($0) } : []
            guard limit.position > trimmed || !kept.isEmpty else { return true }
            let rows = try Row.fetchAll(
                writer.db.cachedStatement(
                    sql: """
                        SELECT position, origin, seq, time, hubPosition FROM log WHERE position > ? AND position <= ?
                        ORDER BY position LIMIT ?
                        """
                ),
                arguments: [Int64(clamping: trimmed), Int64(clamping: limit.position), Self.changeSetsPerPiece]
            ).prefix { limit.allows($0) }
            guard !rows.isEmpty || !kept.isEmpty else { return true }
            try writer.transaction {
                var last = trimmed
                for row in rows {
                    last = UInt64(clamping: row[0] as Int64)
                    if unfinished.contains(last) {
                        try writer.db.cachedStatement(sql: "INSERT OR IGNORE INTO untrimmedBody VALUES (?)").execute(
                            arguments: [row[0]]
                        )
                    } else {
                        try Self.letGo(row[0], writer)
                    }
                }
                for position in kept {
                    try Self.letGo(Int64(clamping: position), writer)
                    try writer.db.cachedStatement(sql: "DELETE FROM untrimmedBody WHERE position = ?").execute(
                        arguments: [Int64(clamping: position)]
                    )
                }
                try writer.note(.trimmedPosition, Int64(clamping: last))
            }
            return rows.count < Self.changeSetsPerPiece
        }
    }

    private static func kept(_ writer: ReplicaWriter) throws -> [UInt64] {
        try Int64.fetchAll(
            writer.db.cachedStatement(sql: "SELECT position FROM untrimmedBody ORDER BY position LIMIT ?"),
            arguments: [changeSetsPerPiece]
        ).map { UInt64(clamping: $0) }
    }

    private static func letGo(_ position: Int64, _ writer: ReplicaWriter) throws {
        try writer.db.cachedStatement(sql: "UPDATE log SET body = NULL WHERE position = ?")
            .execute(arguments: [position])
    }
}

/// How far bodies may go.
private struct TrimLimit {
    /// Nothing after this position of the own log.
    let position: UInt64
    private let safe: UInt64
    private let history: ClosedRange<UInt64>
    private let isHub: Bool
    private let own: Origin
    private let snapshot: (position: UInt64, ownSeq: UInt64)

    init(_ writer: ReplicaWriter, _ policy: ReplicaPolicy, now: UInt64) throws {
        let day = ReplicaWriter.dayMilliseconds
        isHub = writer.node.role == .headOffice
        own = writer.node.origin
        safe = try writer.safePosition()
        snapshot = (
            UInt64(clamping: try writer.fact(.snapshotPosition) ?? 0),
            UInt64(clamping: try writer.fact(.snapshotOwnSeq) ?? 0)
        )
        let days = isHub ? policy.historyDays : UInt64(clamping: try writer.fact(.historyDays) ?? 90)
        let age = min(days * day, now)
        // What claims to be from a later day than this tells nothing of its age.
        history = (now - age)...(now + day)
        if isHub {
            let all = try writer.positionOfAll(leaseDays: policy.leaseDays)
            position = isPlanted(.trimmedByAge) ? writer.end.position : min(safe, all ?? safe, writer.end.position)
        } else {
            position = safe == 0 ? 0 : writer.end.position
        }
    }

    /// Whether the body of a log row may go; when not, no later one may either, so that nothing is looked at twice.
    func allows(_ row: Row) -> Bool {
        guard !history.contains(UInt64(clamping: row["time"] as Int64) >> 16) else { return false }
        if isHub { return true }
        if let place = row["hubPosition"] as Int64? { return UInt64(clamping: place) <= safe }
        return row["origin"] as UInt32 == own.rawValue && UInt64(clamping: row["seq"] as Int64) <= snapshot.ownSeq
            && snapshot.position <= safe
    }
}
