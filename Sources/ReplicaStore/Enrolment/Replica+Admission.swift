import Foundation
import GRDB
import SyncProtocol
import Trust

// Who may take part, as head office's table of nodes says. A certificate proves only who somebody is.

extension Replica: NodeTable {
    package func admit(_ peer: CertifiedPeer) throws(SyncStoreFailure) -> NodeAdmission {
        try countingRefusals(of: peer.node) {
            guard peer.organisation.bytes == self.node.organisation else {
                throw Refusal(
                    .wrongOrganisation,
                    "This head office belongs to another organisation. Check the address of the hub."
                )
            }
            let now = self.wallClock()
            guard now >= peer.validFrom else {
                throw Refusal(
                    .certificateNotYetValid,
                    "The certificate of this node is not valid yet by head office's clock. Check that clock."
                )
            }
            let admission = try self.readState { try Admission.read(peer.node, peer.key, $0) }
            let admitted = now <= peer.validUntil ? NodeAdmission.full : .renewalOnly
            if admitted == .renewalOnly { try Self.checkExpired(peer, now: now, approvedAt: admission?.approvedAt) }
            if try admission?.check() == .newKey { try self.register(peer) }
            return admitted
        }
    }

    /// For how long after its end a certificate may still be renewed, and for how long without asking anybody.
    private static let renewalDays: UInt64 = 60
    private static let renewalDaysAlone: UInt64 = 30

    /// - Throws: When a certificate has been expired for too long.
    private static func checkExpired(_ peer: CertifiedPeer, now: UInt64, approvedAt: UInt64?) throws {
        let days = (now - peer.validUntil) / ReplicaWriter.dayMilliseconds
        guard days < renewalDays else {
            throw Refusal(
                .certificateExpired,
                "The certificate of this node expired \(days) days ago. What it had not sent is still on this machine: "
                    + "keep the directory, and ask head office."
            )
        }
        guard days < renewalDaysAlone || approvedAt.map({ $0 > peer.validUntil }) ?? false else {
            throw Refusal(
                .waitsForApproval,
                "The certificate of this node expired \(days) days ago. Head office renews it after "
                    + "`peyvand node approve NAME` there; compare fingerprints by telephone first."
            )
        }
    }

    package func observeNodes(_ callback: @escaping @Sendable () -> Void) -> @Sendable () -> Void {
        let number = nodeObservers.withLock { $0.add(callback) }
        return { [weak self] in self?.nodeObservers.withLock { $0.remove(number) } }
    }

    /// Tells whoever holds sessions that somebody may have to leave.
    func tellNodeObservers() {
        for observer in nodeObservers.withLock({ $0.all }) { observer() }
    }

    /// Knows a key that this head office has signed and forgotten, because it was restored from a backup since.
    private func register(_ peer: CertifiedPeer) throws {
        try withWriter { writer in
            try writer.transaction { try writer.register(key: peer.key.bytes, of: peer.node) }
        }
    }
}

/// What the table of nodes says of one that wants to come in.
struct Admission {
    /// Whether its key is one that head office knows.
    enum KeyState {
        case known
        /// Not in the table, but there is a reason why it may be missing.
        case newKey
        case foreign
    }

    let standing: NodeStanding
    let key: KeyState
    /// When somebody has approved it last.
    let approvedAt: UInt64?

    /// Reads it; nil for a node that is not in the table. Such a one gets no further than its hello, unless it shows
    /// that it was, in a log that this head office has lost (see `Voucher`).
    static func read(_ node: UniqueID, _ key: Key256, _ db: Database) throws -> Admission? {
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT retiredAt, revokedAt, pausedAt, approvalDue, approvedAt,
                        EXISTS (SELECT 1 FROM registeredKey WHERE keyDigest = ?2 AND node = ?1) AS isKnown,
                        EXISTS (SELECT 1 FROM formerLife) AS wasRestored
                    FROM registeredNode WHERE node = ?1
                    """
            ),
            arguments: [Data(node.bytes), Data(key.bytes)]
        )
        return row.map { row in
            Admission(
                standing: NodeStanding(row),
                key: row["isKnown"] as Bool ? .known : row["wasRestored"] as Bool ? .newKey : .foreign,
                approvedAt: (row["approvedAt"] as Int64?).map { UInt64(clamping: $0) }
            )
        }
    }

    /// - Throws: Why the node may not come in.
    func check() throws -> KeyState {
        switch standing {
        case .active:
            break
        case .retired:
            throw Refusal.retired
        case .revoked:
            throw Refusal(
                .revoked,
                "The certificate of this node was revoked. What it had not sent is still on this machine: keep the "
                    + "directory, and ask head office."
            )
        case .waiting:
            throw Refusal(
                .waitsForApproval,
                "Head office has not approved this node yet. Compare fingerprints by telephone: `peyvand status` here, "
                    + "`peyvand node show NAME` there, then `peyvand node approve NAME`.",
                retryAfterSeconds: 30
            )
        case .paused:
            throw Refusal(
                .paused,
                "Head office lets this node wait (`peyvand node resume NAME` there). Nothing is lost; work goes on.",
                retryAfterSeconds: 60
            )
        }
        guard key != .foreign else {
            throw Refusal(.revoked, "The key of this node is not the one that head office has enrolled.")
        }
        return key
    }
}

extension Refusal {
    /// What a retired node is told.
    static let retired = Refusal(
        .revoked,
        "This node was retired by head office and takes part no more. What it had not sent is still on this "
            + "machine: keep the directory, and ask head office."
    )
}

extension ReplicaWriter {
    /// Knows a key of a node from now on; part of the present transaction.
    func register(key: [UInt8], of node: UniqueID) throws {
        try db.cachedStatement(
            sql: "INSERT OR IGNORE INTO registeredKey(keyDigest, node, registeredAt) VALUES (?, ?, ?)"
        )
        .execute(arguments: [Data(key), Data(node.bytes), Int64(clamping: wallClock())])
    }
}

// MARK: - Decisions about nodes

/// What head office has decided about a node.
package enum NodeStanding: String, Codable, Sendable {
    case active
    /// Nobody has compared its fingerprint yet.
    case waiting
    case paused, revoked, retired

    /// As the row of a registered node says.
    init(_ row: Row) {
        self =
            if row["retiredAt"] as Int64? != nil {
                .retired
            } else if row["revokedAt"] as Int64? != nil {
                .revoked
            } else if row["approvalDue"] as Bool {
                .waiting
            } else if row["pausedAt"] as Int64? != nil {
                .paused
            } else {
                .active
            }
    }
}

/// What people decide about a node that takes part.
package enum NodeDecision: String, Codable, Sendable {
    /// Fingerprints were compared: it may come in.
    case approve
    /// It waits until it is resumed; everything is kept for it.
    case pause
    case resume
    /// Its certificates count no more. Everything is kept for it until it is retired.
    case revoke

    /// What the audit log calls it.
    fileprivate var action: AuditAction {
        switch self {
        case .approve: .approve
        case .pause: .pause
        case .resume: .resume
        case .revoke: .revoke
        }
    }
}

extension Replica {
    /// Decides about a node; sessions of one that may not stay end at once.
    ///
    /// - Returns: Whether that was not decided before.
    /// - Throws: ``RetirementFailure``.
    @discardableResult
    package func decide(_ decision: NodeDecision, about name: String) throws -> Bool {
        let now = Int64(clamping: wallClock())
        let isChanged = try withWriter { writer in
            try writer.transaction {
                guard writer.node.role == .headOffice else { throw RetirementFailure.notHeadOffice }
                let isKnown = try Bool.fetchOne(
                    writer.db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM registeredNode WHERE name = ?)"),
                    arguments: [name]
                )
                guard isKnown == true else { throw RetirementFailure.unknownNode(name) }
                let (sql, values): (String, StatementArguments) =
                    switch decision {
                    case .approve:
                        // Again and again: one that was away for long is approved once more.
                        (
                            "UPDATE registeredNode SET approvalDue = 0, approvedAt = ? WHERE name = ? AND approvedAt IS NOT ?",
                            [now, name, now]
                        )
                    case .pause:
                        ("UPDATE registeredNode SET pausedAt = ? WHERE name = ? AND pausedAt IS NULL", [now, name])
                    case .resume:
                        ("UPDATE registeredNode SET pausedAt = NULL WHERE name = ? AND pausedAt IS NOT NULL", [name])
                    case .revoke:
                        ("UPDATE registeredNode SET revokedAt = ? WHERE name = ? AND revokedAt IS NULL", [now, name])
                    }
                try writer.db.cachedStatement(sql: sql).execute(arguments: values)
                let isChanged = writer.db.changesCount > 0
                try writer.audit(decision.action, name, outcome: isChanged ? "done" : "unchanged")
                return isChanged
            }
        }
        if isChanged { tellNodeObservers() }
        return isChanged
    }
}
