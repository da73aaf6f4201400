import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

/// What a replica knows about itself, in numbers that can be checked.
package struct ReplicaStatus: Sendable {
    /// One origin's progress here.
    package struct Progress: Sendable {
        package let origin: Origin
        /// The name of the node that has, or had, this origin; nil when no row of `branch` tells.
        package let node: String?
        package let seq: UInt64
    }

    /// One replicated table.
    package struct TableState: Sendable {
        package let name: String
        package let digest: DigestSum
    }

    package let node: LocalNode
    /// The end of this node's own log.
    package let end: LogPrefix
    /// How much of the hub's log it has taken.
    package let cursor: LogPrefix
    /// Own change sets that the hub has not acknowledged, and their rows.
    package let ahead: (changeSets: UInt64, rows: Int)
    /// Change sets of the hub's log that are missing here, as far as the last contact told; nil before it.
    package let behind: UInt64?
    /// Rows that other programs have written and that are not sealed yet.
    package let unsealedRows: Int
    /// Losing writes that wait for somebody.
    package let conflicts: Int
    /// Changes that could not be applied and wait, why the first of them does, and how many were given up.
    package let parked: Int
    package let parkedReason: ParkingReason?
    package let dropped: Int
    /// Change sets of which a newer schema knows more.
    package let newerChangeSets: Int
    /// Milliseconds since 1970-01-01 UTC.
    package let lastContact: UInt64?
    /// This node's clock minus the hub's.
    package let skewMilliseconds: Int64?
    /// Whether head office may trust its own clock; a branch follows head office's.
    package let clockTrust: ClockTrust
    /// Whether a session is open now.
    package let isConnected: Bool
    /// Why the hub turned this node away when it last called; nil when it did not.
    package let turnedAway: Refusal.Code?
    /// The position up to which this node and its hub were last proved equal, and where they were found different.
    package let provedEqualAt: UInt64?
    package let divergedAt: UInt64?
    /// What this node and another hold with different content.
    package let contradictions: [Contradiction]
    package let lives: LifeState
    package let vector: [Progress]
    package let tables: [TableState]
    package let databaseBytes: Int
    package let walBytes: Int
    /// Who keeps the write-ahead log from being emptied, when it is large.
    package let walReader: String?
    package let freeBytes: Int
    package let bytesToday: (sent: Int, received: Int)
    /// How many writes to erased rows were dropped here.
    package let erasedDropped: Int
    /// Whether bytes of erased rows may still lie in the file.
    package let isScrubDue: Bool
    /// What is known of rows that are not what they should be.
    package let soundness: Soundness

    /// From this size on something keeps the write-ahead log from being emptied.
    package static let walBytesMax = 256 << 20
}

/// What head office knows of one node.
package struct RegisteredNodeState: Sendable {
    package let node: UniqueID
    package let name: String
    package let origin: Origin
    package let enrolledAt: UInt64
    /// When it was retired; nil while it takes part.
    package let retiredAt: UInt64?
    /// What head office has decided about it.
    package let standing: NodeStanding
    /// Of its newest key: the SHA-256, and when the certificate for it ends; nil when it has none.
    package let key: (digest: [UInt8], validUntil: UInt64?)?
    /// Days of head office's own life for which what the node lacks is kept, and how many there were at the last
    /// contact.
    package let leaseDaysLeft: UInt64?
    package let leaseDays: UInt64
    package let lastContact: UInt64?
    package let isConnected: Bool
    /// Change sets that it has announced and that are not here yet.
    package let ahead: UInt64
    /// Change sets of head office's log that it has not acknowledged.
    package let behind: UInt64
    /// Its clock minus head office's.
    package let skewMilliseconds: Int64?
    package let parked: Int
    package let conflicts: Int
    package let software: String?
    package let divergedAt: UInt64?
    package let provedEqualAt: UInt64?
    /// Set when it was restored or copied.
    package let fork: RegisteredFork?
    package let refusals: Int
    package let lastRefusal: String?
    /// What it and head office hold with different content.
    package let contradictions: [Contradiction]
    package let bytesToday: (sent: Int, received: Int)
}

extension Replica {
    /// Reads what `status` shows. Does not seal, so that it never waits for another program's transaction.
    package func status() throws -> ReplicaStatus {
        let notes = contacts.withLock { $0 }
        let contact = notes.own
        let node = self.node
        let today = Int64(wallClock() / 86_400_000)
        let soundness = try soundness()
        return try read { reader in
            let db = reader.db
            let state = try Row.fetchOne(db, sql: "SELECT * FROM localState, localContact")
            guard let state else { throw StoreFailure.database("The replica has lost its state; restore a backup.") }
            let last = try Row.fetchOne(
                db.cachedStatement(sql: "SELECT position, digest FROM log ORDER BY position DESC LIMIT 1")
            )
            let end = last.map { LogPrefix(stored: $0[0], $0[1]) } ?? .empty
            let cursor = LogPrefix(stored: state["cursorPosition"], state["cursorDigest"])
            let accepted = contact.acceptedSeq.map { Int64(clamping: $0) } ?? state["acceptedSeq"] as Int64
            let ahead =
                node.role == .headOffice
                ? nil
                : try Row.fetchOne(
                    db.cachedStatement(
                        sql: "SELECT count(*), coalesce(sum(rows), 0) FROM log WHERE origin = ? AND seq > ?"
                    ),
                    arguments: [node.origin.rawValue, accepted]
                )
            let hubPosition = contact.hubPosition ?? (state["hubPosition"] as Int64?).map { UInt64(clamping: $0) }
            let names = try Self.branchNames(db)
            let lives = try LifeState.read(db)
            let vector = try Row.fetchAll(
                db.cachedStatement(sql: "SELECT origin, seq FROM heldSeq ORDER BY origin")
            )
            let roots = try DigestBuckets.tableRoots(db)
            let unapplied = try reader.unapplied()
            let walBytes = Self.size(of: Self.path(in: directory) + "-wal")
            return ReplicaStatus(
                node: node,
                end: end,
                cursor: cursor,
                ahead: (
                    UInt64(clamping: (ahead?[0] as Int64?) ?? 0) + lives.waiting.changeSets,
                    ((ahead?[1] as Int?) ?? 0) + lives.waiting.rows
                ),
                behind: hubPosition.map { $0 > cursor.position ? $0 - cursor.position : 0 },
                unsealedRows: try Int.fetchOne(db.cachedStatement(sql: "SELECT count(*) FROM pending")) ?? 0,
                conflicts: try reader.openConflicts(),
                parked: unapplied.parked,
                parkedReason: unapplied.parked > 0 ? try reader.parkedRows(limit: 1).first?.reason : nil,
                dropped: unapplied.dropped,
                newerChangeSets: unapplied.newer,
                lastContact: contact.lastContact ?? (state["lastContact"] as Int64?).map { UInt64(clamping: $0) },
                skewMilliseconds: contact.skewMilliseconds ?? state["skewMilliseconds"],
                clockTrust: node.role == .headOffice ? try clockTrust(db, notes) : .trusted,
                isConnected: contact.isConnected,
                turnedAway: try LocalFact.read(.turnedAway, db).map { Refusal.Code(number: UInt16(clamping: $0)) },
                provedEqualAt: (state["provedEqualAt"] as Int64?).map { UInt64(clamping: $0) },
                divergedAt: (state["divergedAt"] as Int64?).map { UInt64(clamping: $0) },
                contradictions: try Contradiction.all(db),
                lives: lives,
                vector: try vector.compactMap { row in
                    try Origin(rawValue: row[0]).map {
                        ReplicaStatus.Progress(
                            origin: $0,
                            node: try names[$0] ?? reader.nodeName(of: $0),
                            seq: UInt64(clamping: row[1] as Int64)
                        )
                    }
                },
                tables: schema.tables.map { table in
                    ReplicaStatus.TableState(name: table.name, digest: roots[table.number] ?? .zero)
                },
                databaseBytes: Self.size(of: Self.path(in: directory)),
                walBytes: walBytes,
                walReader: walBytes > ReplicaStatus.walBytesMax ? LockHolder.reader(of: Self.path(in: directory)) : nil,
                freeBytes: Self.freeBytes(in: directory),
                bytesToday: try Self.traffic(db, day: today, node: nil, notes),
                erasedDropped: Int(clamping: try LocalFact.read(.erasedDropped, db) ?? 0),
                isScrubDue: try LocalFact.read(.scrubDue, db) != nil,
                soundness: soundness
            )
        }
    }

    /// Reads what `fleet` shows, by origin.
    package func registeredNodes() throws -> [RegisteredNodeState] {
        let leaseDays = policy.withLock { $0.leaseDays }
        let notes = contacts.withLock { $0 }
        let today = Int64(wallClock() / 86_400_000)
        return try read { reader in
            let end = try Int64.fetchOne(reader.db.cachedStatement(sql: "SELECT max(position) FROM log")) ?? 0
            let lived = try Int64.fetchOne(reader.db.cachedStatement(sql: "SELECT max(number) FROM livedDay")) ?? 0
            let rows = try Row.fetchAll(
                reader.db.cachedStatement(
                    sql: """
                        SELECT registeredNode.*, coalesce(heldSeq.seq, 0) AS acceptedSeq
                        FROM registeredNode LEFT JOIN heldSeq USING (origin) ORDER BY origin
                        """
                )
            )
            let contradictions = try Contradiction.all(reader.db)
            let open = try reader.openConflicts()
            let forks = try RegisteredFork.all(reader.db)
            return try rows.compactMap { row -> RegisteredNodeState? in
                guard let id = UniqueID(bytes: [UInt8](row["node"] as Data)),
                    let origin = Origin(rawValue: row["origin"])
                else { return nil }
                let note = notes.children[id]
                let key = try Row.fetchOne(
                    reader.db.cachedStatement(
                        sql: """
                            SELECT keyDigest, validUntil FROM registeredKey WHERE node = ?
                            ORDER BY coalesce(validUntil, 0) DESC, registeredAt DESC LIMIT 1
                            """
                    ),
                    arguments: [Data(id.bytes)]
                )
                let claimed = note?.claimedSeq ?? UInt64(clamping: row["claimedSeq"] as Int64)
                let accepted = UInt64(clamping: row["acceptedSeq"] as Int64)
                let acknowledged = max(
                    note?.acknowledged?.position ?? 0,
                    UInt64(clamping: row["acknowledgedPosition"] as Int64)
                )
                let behind = UInt64(clamping: end) > acknowledged ? UInt64(clamping: end) - acknowledged : 0
                let conflicts: Int = (note?.conflicts).map { Int(clamping: $0) } ?? row["conflicts"]
                return RegisteredNodeState(
                    node: id,
                    name: row["name"],
                    origin: origin,
                    enrolledAt: UInt64(clamping: row["enrolledAt"] as Int64),
                    retiredAt: (row["retiredAt"] as Int64?).map { UInt64(clamping: $0) },
                    standing: NodeStanding(row),
                    key: key.map { key in
                        ([UInt8](key[0] as Data), (key[1] as Int64?).map { UInt64(clamping: $0) })
                    },
                    leaseDaysLeft: leaseDays - min(leaseDays, UInt64(clamping: lived - (row["livedDay"] as Int64))),
                    leaseDays: leaseDays,
                    lastContact: note?.lastContact ?? (row["lastContact"] as Int64?).map { UInt64(clamping: $0) },
                    isConnected: note?.isConnected ?? false,
                    ahead: claimed > accepted ? claimed - accepted : 0,
                    behind: behind,
                    skewMilliseconds: note?.skewMilliseconds ?? row["skewMilliseconds"],
                    parked: (note?.parked).map { Int(clamping: $0) } ?? row["parked"],
                    // It has said so when it came, and knows since what was decided elsewhere.
                    conflicts: behind == 0 ? min(conflicts, open) : conflicts,
                    software: row["software"],
                    divergedAt: (row["divergedAt"] as Int64?).map { UInt64(clamping: $0) },
                    provedEqualAt: (row["provedEqualAt"] as Int64?).map { UInt64(clamping: $0) },
                    fork: forks[id],
                    refusals: row["refusals"],
                    lastRefusal: row["lastRefusal"],
                    contradictions: contradictions.filter { $0.node == id },
                    bytesToday: try Self.traffic(reader.db, day: today, node: id, notes)
                )
            }
        }
    }

    /// The invitations that nobody has used and that have not expired: name, and when they expire.
    package func openInvitations() throws -> [(name: String, expiresAt: UInt64)] {
        let now = Int64(clamping: wallClock())
        return try read { reader in
            try Row.fetchAll(
                reader.db.cachedStatement(
                    sql: "SELECT name, expiresAt FROM invitation WHERE usedBy IS NULL AND expiresAt > ? ORDER BY name"
                ),
                arguments: [now]
            ).map { ($0[0], UInt64(clamping: $0[1] as Int64)) }
        }
    }

    private func clockTrust(_ db: Database, _ notes: ContactNotes) throws -> ClockTrust {
        let now = wallClock()
        let witnesses = ClockWitnesses()
        try witnesses.load(db)
        for (node, child) in notes.children {
            guard let skew = child.skewMilliseconds, let heardAt = child.lastContact else { continue }
            witnesses.note(node, .none, skew: skew, atMilliseconds: heardAt)
        }
        let newest =
            try Int64.fetchOne(db.cachedStatement(sql: "SELECT timeMax FROM log ORDER BY position DESC LIMIT 1")) ?? 0
        return ClockTrust(
            now: now,
            newest: HybridTimestamp(packed: UInt64(bitPattern: newest)) ?? .zero,
            skews: witnesses.skews(atMilliseconds: now)
        )
    }

    private static func branchNames(_ db: Database) throws -> [Origin: String] {
        var names: [Origin: String] = [:]
        for row in try Row.fetchAll(db.cachedStatement(sql: "SELECT origin, name FROM branch WHERE origin IS NOT NULL"))
        {
            if let origin = Origin(rawValue: row[0]) { names[origin] = row[1] }
        }
        return names
    }

    /// The bytes of a day with one node, or with all; those that are not in the table yet included.
    private static func traffic(
        _ db: Database,
        day: Int64,
        node: UniqueID?,
        _ notes: ContactNotes
    ) throws -> (sent: Int, received: Int) {
        let bytes = node.map { Data($0.bytes) }
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT coalesce(sum(sent), 0), coalesce(sum(received), 0) FROM traffic
                    WHERE day = ? AND (? IS NULL OR node = ?)
                    """
            ),
            arguments: [day, bytes, bytes]
        )
        let unsaved = notes.children.filter { node == nil || $0.key == node }.map(\.value.unsaved)
        return (
            unsaved.reduce(row?[0] ?? 0) { $0 + $1.sent }, unsaved.reduce(row?[1] ?? 0) { $0 + $1.received }
        )
    }

    private static func size(of path: String) -> Int {
        var information = stat()
        return stat(path, &information) == 0 ? Int(information.st_size) : 0
    }

    private static func freeBytes(in directory: String) -> Int {
        var information = statvfs()
        guard statvfs(directory, &information) == 0 else { return 0 }
        return Int(clamping: UInt64(information.f_bavail) * UInt64(information.f_frsize))
    }
}

extension LogPrefix {
    /// Reads a stored prefix.
    init(stored position: Int64, _ digest: Int64) {
        self.init(position: UInt64(bitPattern: position), digest: UInt64(bitPattern: digest))
    }
}

/// Two contents for one change set. The exchange between the two nodes that hold them has stopped.
package struct Contradiction: Hashable, Sendable {
    /// At head office: the branch; at a branch: its head office.
    package let node: UniqueID
    package let change: ChangeSetID
    /// The first 8 bytes of the chain at head office, and at the branch.
    package let chainHere: UInt64
    package let chainThere: UInt64

    /// What people are told.
    package var sentence: String { Refusal.contradiction(change, here: chainHere, there: chainThere).sentence }
}

extension Contradiction {
    fileprivate static func all(_ db: Database) throws -> [Contradiction] {
        try Row.fetchAll(
            db.cachedStatement(
                sql: "SELECT node, origin, seq, chainHere, chainThere FROM contradiction ORDER BY node, origin, seq"
            )
        ).compactMap { row in
            guard let node = UniqueID(bytes: [UInt8](row[0] as Data)), let origin = Origin(rawValue: row[1] as UInt32)
            else { return nil }
            return Contradiction(
                node: node,
                change: ChangeSetID(origin: origin, seq: UInt64(clamping: row[2] as Int64)),
                chainHere: UInt64(bitPattern: row[3] as Int64),
                chainThere: UInt64(bitPattern: row[4] as Int64)
            )
        }
    }
}
