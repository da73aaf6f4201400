import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

extension Replica: SyncStore {
    package func nowMilliseconds() -> UInt64 { wallClock() }

    /// Name and version of this program, as peers see it.
    package static let software = "peyvand 0.1.0"

    // MARK: Greeting

    package func childFacts() throws(SyncStoreFailure) -> Hello {
        try throwingStoreFailure {
            try self.withWriter { writer in
                try writer.sealIfNeeded()
                let node = writer.node
                guard node.isJoined, let organisation = node.organisation.flatMap(UniqueID.init(bytes:)),
                    let id = UniqueID(bytes: node.node), let key = Key256(bytes: node.nodeKey)
                else { throw StoreFailure.notJoined }
                let own = writer.vector[node.origin]
                var hello = Hello(
                    schemaVersion: UInt32(self.schema.version),
                    organisationPrefix: organisation.prefix,
                    node: id,
                    key: key,
                    origin: node.origin,
                    ownSeq: own?.seq ?? 0,
                    ownChain: own?.chain.prefix ?? ChangeChain.empty.prefix,
                    cursor: writer.cursor,
                    sentAtMilliseconds: self.readClockForHello(),
                    parked: UInt64(writer.parked.count),
                    conflicts: UInt64(clamping: try ReplicaReader(writer.db, schema: self.schema).openConflicts()),
                    software: try writer.hasToldSoftware() ? "" : Self.software
                )
                hello.extras.wantsOrganisationKey = try OrganisationKey.read(writer.db) == nil
                try self.addRefillFacts(to: &hello, writer)
                try self.noteLoading(in: &hello, writer)
                if let hub = node.hub?.node.flatMap(UniqueID.init(bytes:)) {
                    try self.tellAudit(in: &hello.extras, to: hub, writer)
                }
                return hello
            }
        }
    }

    package func decideWelcome(
        _ hello: Hello,
        receivedAtMilliseconds: UInt64
    ) throws(SyncStoreFailure) -> Welcome {
        try countingRefusals(of: hello.node) {
            try self.withWriter { writer in
                try writer.sealIfNeeded()
                let node = writer.node
                guard let id = UniqueID(bytes: node.node),
                    node.organisation.flatMap(UniqueID.init(bytes:))?.prefix == hello.organisationPrefix
                else {
                    throw Refusal(
                        .wrongOrganisation,
                        "This head office belongs to another organisation. Check the address of the hub."
                    )
                }
                let accepted = writer.vector[hello.origin]
                try self.checkSchema(hello.schemaVersion, of: "the branch")
                if let proof = try self.check(hello, writer) {
                    var welcome = self.welcome(hello, receivedAtMilliseconds, writer, id)
                    welcome.mode = .consult
                    welcome.extras.formerLife = proof
                    let skew = Int64(clamping: hello.sentAtMilliseconds) - Int64(clamping: receivedAtMilliseconds)
                    welcome.extras.isClockTrusted =
                        try writer.hearClock(of: hello.node, hello.origin, skew: skew) == .trusted
                    return welcome
                }
                let isCursorKnown = try writer.begins(with: hello.cursor)
                try writer.hear(hello, at: receivedAtMilliseconds)
                let isEqualKnowledge =
                    hello.cursor == writer.end && hello.ownSeq == accepted?.seq ?? 0
                    && self.isComparable(peerSchema: hello.schemaVersion, peerParked: hello.parked, writer)
                let skew = Int64(clamping: hello.sentAtMilliseconds) - Int64(clamping: receivedAtMilliseconds)
                self.contacts.withLock {
                    $0.schemas[hello.origin] = (hello.schemaVersion, hello.parked)
                    if isCursorKnown { $0.acknowledgedByLife[hello.origin] = hello.cursor }
                    $0[hello.node].claimedSeq = hello.ownSeq
                    $0[hello.node].parked = hello.parked
                    $0[hello.node].conflicts = hello.conflicts
                    if !hello.software.isEmpty { $0[hello.node].software = hello.software }
                    $0[hello.node].lastContact = receivedAtMilliseconds
                    if isCursorKnown { $0[hello.node].acknowledged = hello.cursor }
                    if hello.extras.offered == nil { $0.held[hello.origin] = nil }
                    $0[hello.node].isConnected = true
                    $0[hello.node].skewMilliseconds = skew
                }
                var welcome = self.welcome(hello, receivedAtMilliseconds, writer, id)
                if isEqualKnowledge {
                    welcome.root = DatabaseRoot(try writer.databaseRoot())
                } else if let accepted {
                    let last = ChangeSetID(origin: hello.origin, seq: accepted.seq)
                    welcome.extras.acceptedTime = try writer.time(of: last)
                }
                if hello.extras.wantsOrganisationKey { try writer.tellOrganisationKey(in: &welcome) }
                welcome.extras.isClockTrusted =
                    try writer.hearClock(of: hello.node, hello.origin, skew: skew) == .trusted
                try self.tellRetention(in: &welcome, writer)
                try self.hearAudit(hello.extras, from: hello.node, writer)
                try self.answerAudit(hello.extras, in: &welcome.extras, to: hello.node, writer)
                try writer.giveVoucher(to: hello, in: &welcome)
                try writer.noteLostLog(hello, in: &welcome)
                if isCursorKnown, welcome.mode == .both, let reason = try self.snapshotReason(for: hello, writer) {
                    welcome.mode = .handIn
                    welcome.extras.snapshotReason = reason
                }
                return welcome
            }
        }
    }

    private func welcome(
        _ hello: Hello,
        _ receivedAtMilliseconds: UInt64,
        _ writer: ReplicaWriter,
        _ id: UniqueID
    ) -> Welcome {
        let accepted = writer.vector[hello.origin]
        return Welcome(
            schemaVersion: UInt32(schema.version),
            node: id,
            origin: writer.node.origin,
            acceptedSeq: accepted?.seq ?? 0,
            acceptedChain: accepted?.chain.prefix ?? ChangeChain.empty.prefix,
            end: writer.end,
            receivedAtMilliseconds: receivedAtMilliseconds,
            sentAtMilliseconds: wallClock(),
            root: nil
        )
    }

    /// Whether a child may come in.
    ///
    /// - Returns: What proves that it is a former life, which may only consult; nil when nothing does.
    func check(_ hello: Hello, _ writer: ReplicaWriter) throws -> String? {
        try writer.readmitIfForgotten(hello)
        let isRetired = try Bool.fetchOne(
            writer.db.cachedStatement(sql: "SELECT retiredAt IS NOT NULL FROM registeredNode WHERE node = ?"),
            arguments: [Data(hello.node.bytes)]
        )
        if isRetired == true {
            throw Refusal.retired
        }
        let life = try writer.life(of: hello)
        let told = contacts.withLock { $0.acknowledgedByLife[hello.origin]?.position } ?? 0
        let acknowledged = max(told, life.acknowledgedPosition)
        if let proof = try writer.formerLifeProof(hello, acknowledged: acknowledged) { return proof }
        // A head office that has lost the end of its log must not write under its number until it has that back.
        if !life.hasBegun, try writer.begins(with: hello.cursor) {
            try writer.transaction { try writer.begin(life, hello, LocalTransaction(writer)) }
            contacts.withLock { $0[hello.node].acknowledged = nil }
        }
        return nil
    }

    /// The first step of every session: is it our hub?
    func noteWelcome(_ occasion: ConsultationOccasion) throws -> SyncStep {
        guard case .welcomed(let welcome, let clock) = occasion else { return .goOn }
        try checkSchema(welcome.schemaVersion, of: "head office")
        try self.withWriter { writer in
            let node = writer.node
            guard node.hub?.node == welcome.node.bytes else {
                throw Refusal(
                    .wrongOrganisation,
                    "Another node answers at \(node.hub?.address ?? "") than the head office that was joined."
                )
            }
            if node.hub?.origin != welcome.origin {
                try writer.transaction {
                    var node = writer.node
                    node.hub?.origin = welcome.origin
                    try writer.updateNode(node)
                }
            }
            self.contacts.withLock {
                $0.own.schema = welcome.schemaVersion
                $0.own.acceptedSeq = welcome.acceptedSeq
                $0.own.hubPosition = welcome.end.position
                $0.own.lastContact = self.wallClock()
                $0.own.isConnected = true
                $0.own.skewMilliseconds = -clock.offsetMilliseconds
            }
        }
        return .goOn
    }

    // MARK: Reading the log

    package func readOwn(
        afterSeq: UInt64,
        bytesMax: Int,
        entriesMax: Int
    ) throws(SyncStoreFailure) -> OutgoingBatch {
        try readBatch(
            "origin = ? AND seq > ? AND seq <= ? ORDER BY seq",
            [Int64(node.origin.rawValue), Int64(clamping: afterSeq), Int64(clamping: sendLimit ?? .max)],
            stubsFor: nil,
            bytesMax: bytesMax,
            entriesMax: entriesMax
        )
    }

    package func readLog(
        afterPosition: UInt64,
        for reader: Origin,
        bytesMax: Int,
        entriesMax: Int
    ) throws(SyncStoreFailure) -> OutgoingBatch {
        try readBatch(
            "position > ? ORDER BY position",
            [Int64(clamping: afterPosition)],
            stubsFor: reader,
            bytesMax: bytesMax,
            entriesMax: entriesMax
        )
    }

    /// Bodies that are smaller than this are sent plain, so that the frame compresses them together.
    private static let togetherBytesMax = 32 << 10

    private func readBatch(
        _ condition: String,
        _ arguments: StatementArguments,
        stubsFor reader: Origin?,
        bytesMax: Int,
        entriesMax: Int
    ) throws(SyncStoreFailure) -> OutgoingBatch {
        // After this log was lost and filled again, a child is spared what it holds.
        let held = reader.flatMap { reader in contacts.withLock { $0.held[reader] } } ?? [:]
        return try throwingStoreFailure {
            try self.readState { db in
                let cursor = try Row.fetchCursor(
                    db.cachedStatement(
                        // A body that is too large for the batch is not even read.
                        sql: """
                            SELECT position, origin, seq, time, rows, digest,
                                CASE WHEN length(body) <= ? THEN body END, length(body)
                            FROM log WHERE \(condition)
                            """
                    ),
                    arguments: [bytesMax] + arguments
                )
                let decompressor = ZstdDecompressor()
                var entries: [ChangeEntry] = []
                var first: UInt64 = 0
                var end = LogPrefix.empty
                var (bytes, changeSets, rows) = (0, 0, 0)
                var isAtEnd = true
                while let row = try cursor.next() {
                    let position = UInt64(bitPattern: row[0] as Int64)
                    guard let origin = Origin(rawValue: row[1]) else {
                        throw StoreFailure.damagedLog(position: position, reason: "It names no origin.")
                    }
                    // A change set that is larger than a batch travels alone, without the stubs that follow it.
                    if entries.count >= entriesMax || bytes > bytesMax {
                        isAtEnd = false
                        break
                    }
                    if origin == reader || (held[origin] ?? 0) >= UInt64(bitPattern: row[2] as Int64) {
                        entries.append(
                            .stub(ChangeSetID(origin: origin, seq: UInt64(bitPattern: row[2] as Int64)))
                        )
                    } else {
                        guard let time = HybridTimestamp(packed: UInt64(bitPattern: row[3] as Int64)) else {
                            throw StoreFailure.damagedLog(position: position, reason: "It has no time.")
                        }
                        if let count = row[7] as Int?, count > bytesMax {
                            isAtEnd = false
                            guard entries.isEmpty else { break }
                            let id = ChangeSetID(origin: origin, seq: UInt64(bitPattern: row[2] as Int64))
                            entries.append(.large(time: time, try Self.largeBody(id, at: row[0], db)))
                        } else {
                            let body = try Self.body(of: row, position: position, bytesMax: bytesMax, decompressor)
                            if bytes + body.bytes.count > bytesMax, !entries.isEmpty {
                                isAtEnd = false
                                break
                            }
                            bytes += body.bytes.count
                            entries.append(.changeSet(time: time, body: body))
                        }
                        changeSets += 1
                        rows += row[4] as Int
                    }
                    if entries.count == 1, reader != nil { first = position }
                    if reader != nil {
                        end = LogPrefix(position: position, digest: UInt64(bitPattern: row[5] as Int64))
                    }
                    if case .large? = entries.last { break }
                }
                return OutgoingBatch(
                    batch: ChangeBatch(firstPosition: first, entries: entries, end: end),
                    changeSets: changeSets,
                    rows: rows,
                    isAtEnd: isAtEnd
                )
            }
        }
    }

    private static func body(
        of row: Row,
        position: UInt64,
        bytesMax: Int,
        _ decompressor: ZstdDecompressor
    ) throws -> ChangeBody {
        guard let data = row[6] as Data? else {
            throw Refusal(
                .retryLater,
                "This node has let go of what stands at position \(position) of its log. The next session brings a "
                    + "snapshot.",
                retryAfterSeconds: 1
            )
        }
        guard let first = data.first else {
            throw StoreFailure.damagedLog(position: position, reason: "Its body is missing.")
        }
        let bytes = [UInt8](data)
        if StoredContent.isUnsigned(data) {
            throw StoreFailure.damagedLog(
                position: position,
                reason: "Rows of it were erased, and head office has not signed what is left."
            )
        }
        guard first == zstdFirstByte else { return ChangeBody(isCompressed: false, bytes: bytes) }
        guard bytes.count < togetherBytesMax else { return ChangeBody(isCompressed: true, bytes: bytes) }
        let content = try bytes.withUnsafeBytes { bytes in
            do {
                return try decompressor.decompress(bytes, sizeMax: ChangeSet.contentBytesMax)
            } catch {
                throw StoreFailure.damagedLog(position: position, reason: "\(error)")
            }
        }
        // What compresses very well may be too large to go plain.
        return content.count <= min(bytesMax, SyncLimits.standard.batchBytesMax / 2)
            ? ChangeBody(isCompressed: false, bytes: content) : ChangeBody(isCompressed: true, bytes: bytes)
    }

    /// A zstd frame begins with 0x28, content with its format.
    static let zstdFirstByte: UInt8 = 0x28

    // MARK: Comparing

    package func currentRoot(
        at prefix: LogPrefix,
        child: ChangeSetID
    ) throws(SyncStoreFailure) -> DatabaseRoot? {
        try throwingStoreFailure {
            try self.withWriter { writer in
                try writer.sealIfNeeded()
                let stands = writer.node.role == .headOffice ? writer.end : writer.cursor
                guard stands == prefix, writer.vector[child.origin]?.seq ?? 0 == child.seq,
                    self.isComparable(withPeerOf: child.origin, writer)
                else { return nil }
                return DatabaseRoot(try writer.databaseRoot())
            }
        }
    }
}

extension DatabaseRoot {
    init(_ sum: DigestSum) {
        self.init(first: sum.sum1, second: sum.sum2, rows: UInt64(clamping: sum.rows))
    }
}

extension ReplicaWriter {
    /// Whether this node's log begins with what a prefix names.
    func begins(with prefix: LogPrefix) throws -> Bool { try digest(at: prefix.position) == prefix.digest }

    /// The digest of this node's log at a position; nil when it is not that long.
    func digest(at position: UInt64) throws -> UInt64? {
        if position == 0 { return LogPrefix.empty.digest }
        return try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT digest FROM log WHERE position = ?"),
            arguments: [Int64(clamping: position)]
        ).map { UInt64(bitPattern: $0) }
    }

    /// The chain up to a change set that this node holds; nil when it does not.
    func chain(of id: ChangeSetID) throws -> ChangeChain? {
        if id.seq == 0 { return .empty }
        if let last = vector[id.origin], last.seq == id.seq { return last.chain }
        return try Data.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT chain FROM log WHERE origin = ?1 AND seq = ?2
                    UNION ALL SELECT chain FROM snapshotHead WHERE origin = ?1 AND seq = ?2 LIMIT 1
                    """
            ),
            arguments: [Int64(id.origin.rawValue), Int64(clamping: id.seq)]
        ).flatMap { ChangeChain(bytes: [UInt8]($0)) }
    }
}
