import Causality
import Foundation
import GRDB
import SyncProtocol

/// What sessions have told, until it is written down.
///
/// A session tells often and a power cut may forget it: the next session tells again.
struct ContactNotes {
    /// Of one child, at its hub.
    struct Child {
        var acknowledged: LogPrefix?
        var claimedSeq: UInt64?
        var lastContact: UInt64?
        /// Its clock minus this node's.
        var skewMilliseconds: Int64?
        var parked: UInt64 = 0
        var conflicts: UInt64 = 0
        var software = ""
        var comparison: (isEqual: Bool, at: LogPrefix)?
        var isConnected = false
        /// Bytes on the line that are not in the table yet.
        var unsaved = (sent: 0, received: 0)
    }

    /// Of the hub, at its child.
    struct Own {
        var acceptedSeq: UInt64?
        var hubPosition: UInt64?
        var lastContact: UInt64?
        /// This node's clock minus the hub's.
        var skewMilliseconds: Int64?
        var comparison: (isEqual: Bool, at: LogPrefix)?
        var isConnected = false
        /// The clocks when this node said hello.
        var greeting: NodeClock.Reading?
        /// The hub did not know this node when it last called.
        var isForgotten = false
        /// The hub's schema.
        var schema: UInt32?
    }

    var own = Own()
    /// What each child said of its tables when it came, by origin.
    var schemas: [Origin: (schema: UInt32?, parked: UInt64)] = [:]
    /// At a hub: how far each life has acknowledged the log.
    var acknowledgedByLife: [Origin: LogPrefix] = [:]
    private(set) var children: [UniqueID: Child] = [:]
    /// By the origin of a child that had to go back in this node's log: what it holds all the same.
    var held: [Origin: [Origin: UInt64]] = [:]

    subscript(node: UniqueID) -> Child {
        get { children[node] ?? Child() }
        set { children[node] = newValue }
    }
}

extension Replica {
    /// Notes what a session learned; written down when tables were compared, and when the session ends.
    package func record(_ fact: SyncFact, of peer: SyncPeer) throws(SyncStoreFailure) {
        if case .lifeRefused = fact {
            return try throwingStoreFailure {
                try self.withWriter { writer in try writer.transaction { try writer.mustRenew(.refused) } }
            }
        }
        if case .turnedAway(let refusal) = fact { return try noteTurnedAway(refusal) }
        let now = wallClock()
        let mustSave = contacts.withLock { notes in
            notes[peer.node].lastContact = now
            switch fact {
            case .childAcknowledged(let prefix):
                notes[peer.node].acknowledged = prefix
                notes.acknowledgedByLife[peer.origin] = prefix
                return false
            case .hubAccepted(let seq, _):
                notes.own.acceptedSeq = seq
                notes.own.lastContact = now
                return false
            case .hubEnd(let end):
                notes.own.hubPosition = end.position
                notes.own.lastContact = now
                return false
            case .compared(let isEqual, let prefix):
                notes[peer.node].comparison = (isEqual, prefix)
                notes.own.comparison = (isEqual, prefix)
                return true
            case .traffic(let sent, let received):
                notes[peer.node].unsaved.sent += sent
                notes[peer.node].unsaved.received += received
                return false
            case .forgotten:
                notes.own.isForgotten = true
                return false
            case .lifeRefused, .turnedAway:
                return false
            case .ended:
                notes[peer.node].isConnected = false
                notes.own.isConnected = false
                return true
            }
        }
        if case .ended(let failure) = fact {
            try throwingStoreFailure {
                try self.withWriter { $0.isInSession = false }
                try self.countViolation(failure, of: peer.node)
                try self.noteEnd(failure)
            }
        }
        guard mustSave else { return }
        let isGood =
            switch fact {
            case .ended(nil), .compared: true
            default: false
            }
        try throwingStoreFailure { try self.saveContact(with: peer, forgettingRefusal: isGood) }
    }

    /// Remembers at a branch that head office does not let it in, so that `status` says it.
    private func noteTurnedAway(_ refusal: Refusal) throws(SyncStoreFailure) {
        try throwingStoreFailure {
            try self.withWriter { writer in
                try writer.transaction { try writer.note(.turnedAway, Int64(refusal.code.number)) }
            }
        }
    }

    func saveContact(with peer: SyncPeer, forgettingRefusal isGood: Bool) throws {
        let node = peer.node
        let (own, child, acknowledged) = contacts.withLock { notes in
            defer { notes[node].unsaved = (0, 0) }
            return (notes.own, notes[node], notes.acknowledgedByLife[peer.origin])
        }
        let day = Int64(wallClock() / 86_400_000)
        try withWriter { writer in
            try writer.transaction {
                try writer.db.cachedStatement(
                    sql: """
                        INSERT INTO traffic VALUES (?, ?, ?, ?) ON CONFLICT(day, node) DO UPDATE
                        SET sent = sent + excluded.sent, received = received + excluded.received
                        """
                ).execute(
                    arguments: [day, Data(node.bytes), child.unsaved.sent, child.unsaved.received]
                )
                try writer.db.cachedStatement(sql: "DELETE FROM traffic WHERE day < ?").execute(arguments: [day - 31])
                if writer.node.role == .branch {
                    if isGood, try writer.fact(.turnedAway) != nil { try writer.note(.turnedAway, nil) }
                    try writer.db.cachedStatement(
                        sql: """
                            UPDATE localContact SET acceptedSeq = coalesce(?, acceptedSeq),
                                acceptedMost = max(coalesce(?, 0), iif(acceptedOrigin = ?, acceptedMost, 0)),
                                acceptedOrigin = ?,
                                lastContact = coalesce(?, lastContact), skewMilliseconds = coalesce(?, skewMilliseconds),
                                hubPosition = coalesce(?, hubPosition),
                                divergedAt = CASE ? WHEN 1 THEN NULL WHEN 0 THEN ? ELSE divergedAt END,
                                provedEqualAt = CASE ? WHEN 1 THEN ? ELSE provedEqualAt END
                            """
                    ).execute(
                        arguments: [
                            own.acceptedSeq.map { Int64(clamping: $0) }, own.acceptedSeq.map { Int64(clamping: $0) },
                            writer.node.origin.rawValue, writer.node.origin.rawValue,
                            own.lastContact.map { Int64(clamping: $0) },
                            own.skewMilliseconds, own.hubPosition.map { Int64(clamping: $0) },
                            own.comparison?.isEqual, own.comparison.map { Int64(clamping: $0.at.position) },
                            own.comparison?.isEqual, own.comparison.map { Int64(clamping: $0.at.position) },
                        ]
                    )
                } else {
                    try writer.db.cachedStatement(
                        sql: """
                            UPDATE registeredLife SET acknowledgedPosition = max(acknowledgedPosition, ?),
                                lastContact = ? WHERE origin = ?
                            """
                    ).execute(
                        arguments: [
                            Int64(clamping: acknowledged?.position ?? 0), child.lastContact.map { Int64(clamping: $0) },
                            peer.origin.rawValue,
                        ]
                    )
                    try writer.db.cachedStatement(
                        sql: """
                            UPDATE registeredNode SET acknowledgedPosition = max(acknowledgedPosition, coalesce(?, 0)),
                                claimedSeq = coalesce(?, claimedSeq), lastContact = coalesce(?, lastContact),
                                skewMilliseconds = coalesce(?, skewMilliseconds), parked = ?, conflicts = ?,
                                software = coalesce(nullif(?, ''), software),
                                lastRefusal = CASE WHEN ? THEN NULL ELSE lastRefusal END,
                                divergedAt = CASE ? WHEN 1 THEN NULL WHEN 0 THEN ? ELSE divergedAt END,
                                provedEqualAt = CASE ? WHEN 1 THEN ? ELSE provedEqualAt END
                            WHERE node = ?
                            """
                    ).execute(
                        arguments: [
                            child.acknowledged.map { Int64(clamping: $0.position) },
                            child.claimedSeq.map { Int64(clamping: $0) }, child.lastContact.map { Int64(clamping: $0) },
                            child.skewMilliseconds, Int64(clamping: child.parked), Int64(clamping: child.conflicts),
                            child.software, isGood,
                            child.comparison?.isEqual, child.comparison.map { Int64(clamping: $0.at.position) },
                            child.comparison?.isEqual, child.comparison.map { Int64(clamping: $0.at.position) },
                            Data(node.bytes),
                        ]
                    )
                }
            }
        }
    }
}
