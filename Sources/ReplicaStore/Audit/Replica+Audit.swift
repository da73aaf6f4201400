import Causality
import Foundation
import GRDB
import SyncProtocol

// The audit log: a chain of hashes, so that an entry cannot be changed or taken out in the middle. A chain alone could be
// made anew from the first entry on, or cut at its end; so each session tells the other side how far it reaches, who keeps
// that and tells it back.

extension ReplicaWriter {
    /// Adds an entry to the audit log; part of the present transaction.
    ///
    /// - Parameter actor: Who did it, if not the account that is at work.
    func audit(_ action: AuditAction, _ object: String, outcome: String = "done", by actor: String? = nil) throws {
        let last = try AuditHead.read(db)
        let number = (last?.number ?? 0) + 1
        let at = wallClock()
        let actor = actor ?? Actor.name
        let version = rights?.version ?? 0
        let hash = AuditEntry.hash(
            after: last?.hash ?? AuditEntry.beginning(of: node.node),
            number: number,
            at: at,
            actor: actor,
            action: action.rawValue,
            object: object,
            outcome: outcome,
            policyVersion: version
        )
        try db.cachedStatement(sql: "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)").execute(arguments: [
            Int64(clamping: number), Int64(clamping: at), actor, action.rawValue, object, outcome,
            Int64(clamping: version), Data(hash),
        ])
    }
}

/// How far an audit log reaches.
struct AuditHead: Hashable {
    let number: UInt64
    /// 32 bytes.
    let hash: [UInt8]

    static func read(_ db: Database) throws -> AuditHead? {
        try Row.fetchOne(db.cachedStatement(sql: "SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")).map {
            AuditHead(number: UInt64(clamping: $0[0] as Int64), hash: [UInt8]($0[1] as Data))
        }
    }

    /// The last one that is kept of a node, or that it has told of this one.
    static func latest(_ table: String, of node: UniqueID, _ db: Database) throws -> SyncExtras.AuditHead? {
        try Row.fetchOne(
            db.cachedStatement(
                sql: "SELECT number, hash FROM \(table) WHERE node = ? ORDER BY number DESC, seenAt LIMIT 1"
            ),
            arguments: [Data(node.bytes)]
        ).map { SyncExtras.AuditHead(number: UInt64(clamping: $0[0] as Int64), hash: [UInt8]($0[1] as Data)) }
    }

    /// Whether one is kept already.
    static func isKnown(
        _ head: SyncExtras.AuditHead,
        _ table: String,
        of node: UniqueID,
        _ db: Database
    ) throws -> Bool {
        try Bool.fetchOne(
            db.cachedStatement(
                sql: "SELECT EXISTS (SELECT 1 FROM \(table) WHERE node = ? AND number = ? AND hash = ?)"
            ),
            arguments: [Data(node.bytes), Int64(clamping: head.number), Data(head.hash)]
        ) ?? false
    }
}

/// What is wrong with an audit log.
package struct AuditFinding: Hashable, Sendable {
    /// Raw values are permanent: they are printed.
    package enum Code: String, Sendable {
        /// An entry is not what it was when it was made.
        case edited
        /// An entry is missing between others.
        case missing
        /// It ends before an entry that another node knows of.
        case cut
        /// Another node knows another entry of this number: the log was made anew.
        case forked
    }

    package let code: Code
    /// The entry's.
    package let number: UInt64
    /// Who knows it otherwise; nil where the log itself shows it.
    package let witness: String?
}

/// What came of a look at the audit log.
package struct AuditVerdict: Sendable {
    package let entries: UInt64
    /// Up to where other nodes have confirmed it; what comes after could still be cut unseen.
    package let anchoredThrough: UInt64
    /// The first of each kind, and for each witness.
    package let findings: [AuditFinding]
    /// Of the logs of others, whose heads this node has seen differ under one number.
    package let forkedElsewhere: [String]
}

extension Replica {
    /// Adds an entry to the audit log, for what is no write.
    package func audit(_ action: AuditAction, _ object: String) throws {
        try withWriter { writer in try writer.transaction { try writer.audit(action, object) } }
    }

    /// The entries of the audit log, the newest first.
    package func auditEntries(limit: Int) throws -> [AuditEntry] {
        try read { reader in
            try Row.fetchAll(
                reader.db.cachedStatement(sql: "SELECT * FROM audit ORDER BY number DESC LIMIT ?"),
                arguments: [limit]
            ).map(AuditEntry.init)
        }
    }

    /// Looks whether the audit log is what it was: by its own hashes, and by what other nodes have kept.
    package func verifyAudit() throws -> AuditVerdict {
        let names = try nodeNames()
        return try read { reader in
            let db = reader.db
            var findings: [AuditFinding] = []
            func add(_ finding: AuditFinding) {
                if !findings.contains(where: { $0.code == finding.code && $0.witness == finding.witness }) {
                    findings.append(finding)
                }
            }
            var previous = AuditEntry.beginning(of: node.node)
            var count: UInt64 = 0
            var due: UInt64 = 1
            let rows = try Row.fetchCursor(db, sql: "SELECT * FROM audit ORDER BY number")
            while let row = try rows.next() {
                let entry = AuditEntry(row)
                if entry.number != due {
                    add(AuditFinding(code: .missing, number: due, witness: nil))
                } else if entry.hash(after: previous) != entry.hash {
                    add(AuditFinding(code: .edited, number: entry.number, witness: nil))
                }
                previous = entry.hash
                due = entry.number + 1
                count += 1
            }
            var anchored: UInt64 = 0
            let told = try Row.fetchAll(
                db,
                sql: """
                    SELECT auditWitness.node, auditWitness.number, auditWitness.hash, audit.hash
                    FROM auditWitness LEFT JOIN audit USING (number) ORDER BY auditWitness.number
                    """
            )
            for row in told {
                let number = UInt64(clamping: row[1] as Int64)
                let witness = names[row[0] as Data] ?? "?"
                guard let own = row[3] as Data? else {
                    add(AuditFinding(code: .cut, number: number, witness: witness))
                    continue
                }
                if own.starts(with: row[2] as Data) {
                    anchored = max(anchored, number)
                } else {
                    add(AuditFinding(code: .forked, number: number, witness: witness))
                }
            }
            let elsewhere = try Data.fetchAll(
                db,
                sql: "SELECT DISTINCT node FROM auditAnchor GROUP BY node, number HAVING count(*) > 1"
            )
            return AuditVerdict(
                entries: count,
                anchoredThrough: anchored,
                findings: findings,
                forkedElsewhere: elsewhere.map { names[$0] ?? "?" }
            )
        }
    }

    /// What the nodes are called that this one meets.
    private func nodeNames() throws -> [Data: String] {
        try read { reader in
            var names: [Data: String] = [:]
            for row in try Row.fetchAll(reader.db, sql: "SELECT node, name FROM registeredNode") {
                names[row[0]] = row[1]
            }
            if let hub = node.hub?.node { names[Data(hub)] = node.hub?.name ?? "head office" }
            return names
        }
    }

    // MARK: What is told on the line

    /// How many heads of one node are kept.
    private static let headsKeptMax = 256

    /// Tells head office how far this node's log reaches, and how far head office's did when this node heard of it.
    func tellAudit(in extras: inout SyncExtras, to hub: UniqueID, _ writer: ReplicaWriter) throws {
        extras.auditHead = try AuditHead.read(writer.db).map(SyncExtras.AuditHead.init)
        extras.auditHeadKept = try AuditHead.latest("auditAnchor", of: hub, writer.db)
    }

    /// Answers with what the child does not know yet; nothing when it knows all, which is nearly always.
    func answerAudit(
        _ told: SyncExtras,
        in extras: inout SyncExtras,
        to child: UniqueID,
        _ writer: ReplicaWriter
    ) throws {
        let own = try AuditHead.read(writer.db).map(SyncExtras.AuditHead.init)
        if own != told.auditHeadKept { extras.auditHead = own }
        let kept = try AuditHead.latest("auditAnchor", of: child, writer.db)
        if kept != told.auditHead { extras.auditHeadKept = kept }
    }

    /// Keeps what a peer tells.
    func hearAudit(_ extras: SyncExtras, from peer: UniqueID, _ writer: ReplicaWriter) throws {
        let heads = [("auditAnchor", extras.auditHead), ("auditWitness", extras.auditHeadKept)]
        let new = try heads.compactMap { table, head -> (table: String, head: SyncExtras.AuditHead)? in
            guard let head, try !AuditHead.isKnown(head, table, of: peer, writer.db) else { return nil }
            return (table, head)
        }
        guard !new.isEmpty else { return }
        try writer.transaction {
            let now = Int64(clamping: writer.wallClock())
            for (table, head) in new {
                try writer.db.cachedStatement(sql: "INSERT OR IGNORE INTO \(table) VALUES (?, ?, ?, ?)").execute(
                    arguments: [Data(peer.bytes), Int64(clamping: head.number), Data(head.hash), now]
                )
                // The oldest go first, but never the first of all: it shows a log that was made anew.
                try writer.db.cachedStatement(
                    sql: """
                        DELETE FROM \(table) WHERE node = ?1 AND number IN (
                            SELECT number FROM \(table) WHERE node = ?1 ORDER BY number DESC LIMIT -1 OFFSET ?2
                        ) AND number > (SELECT min(number) FROM \(table) WHERE node = ?1)
                        """
                ).execute(arguments: [Data(peer.bytes), Self.headsKeptMax])
            }
        }
    }

    /// A step of the consultation: keeps what head office tells of its log and of this node's.
    func noteAudit(_ occasion: ConsultationOccasion) throws -> SyncStep {
        guard case .welcomed(let welcome, _) = occasion else { return .goOn }
        try withWriter { try hearAudit(welcome.extras, from: welcome.node, $0) }
        return .goOn
    }
}

extension SyncExtras.AuditHead {
    fileprivate init(_ head: AuditHead) {
        self.init(number: head.number, hash: Array(head.hash.prefix(Self.hashBytes)))
    }
}

extension AuditEntry {
    fileprivate init(_ row: Row) {
        self.init(
            number: UInt64(clamping: row["number"] as Int64),
            at: UInt64(clamping: row["at"] as Int64),
            actor: row["actor"],
            action: row["action"],
            object: row["object"],
            outcome: row["outcome"],
            policyVersion: UInt64(clamping: row["policyVersion"] as Int64),
            hash: [UInt8](row["hash"] as Data)
        )
    }
}
