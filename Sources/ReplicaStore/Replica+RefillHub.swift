import Causality
import Foundation
import GRDB
import SyncProtocol

// At a head office that has lost the end of its log: what it says to a branch that has taken more, and how it takes
// back what was lost.

extension Replica {
    /// Origins that one vector may name.
    static let vectorEntriesMax = SyncLimits.vectorEntriesMax
    /// Prefixes that one question may name.
    static let prefixesAskedMax = 64

    /// Answers the questions of a refill.
    func answerRefill(_ kind: QuestionKind, _ payload: [UInt8], from peer: SyncPeer) throws -> SyncAnswer {
        guard node.role == .headOffice else {
            throw Refusal(.invalidChange, "Only a head office can be refilled; this node is a branch.")
        }
        var answer = ByteWriter()
        switch kind {
        case .refillCommonPrefix:
            let prefixes = try reading(payload) { reader throws(MalformedBytes) in
                try reader.prefixes(max: Self.prefixesAskedMax)
            }
            answer.varint(UInt64(try lastCommon(prefixes, with: peer)))
        case .refillVectors:
            let vector = try reading(payload) { reader throws(MalformedBytes) in
                try reader.vector(max: Self.vectorEntriesMax)
            }
            try compareVectors(vector, with: peer, &answer)
        case .refillOffer:
            let offer = try reading(payload) { reader throws(MalformedBytes) in try reader.refillOffer() }
            let (outcome, taken) = try take(offer, from: peer)
            answer.write(outcome)
            answer.varint(UInt64(taken))
            answer.write([try withWriterState { $0.end }])
        case .refillPiece:
            answer.varint(try keepPiece(payload, from: peer))
        case .refillProgress:
            let (prefix, progress) = try reading(payload) { reader throws(MalformedBytes) in
                let prefix = try reader.prefixes(max: 1).first
                var progress: [ChangeSetID] = []
                for _ in 0..<(try reader.count(bytesEach: 2, max: Self.vectorEntriesMax)) {
                    progress.append(try reader.changeSetID())
                }
                return (prefix, progress)
            }
            let isHeld = try withWriter { writer in
                try writer.transaction { try prefix.map { try writer.noteFormerPrefix($0, of: progress) } ?? true }
            }
            answer.byte(isHeld ? 1 : 0)
            answer.byte(try isAnyoneAwaited(besides: peer.node) ? 1 : 0)
        default:
            throw Refusal(.protocolVersion, "This is no question of a refill.")
        }
        return SyncAnswer(payload: answer.bytes)
    }

    /// Whether another node, that takes part and has not called since this log was lost, may still bring something
    /// of it.
    private func isAnyoneAwaited(besides node: UniqueID) throws -> Bool {
        try withWriter { writer in
            let lostAt = try Int64.fetchOne(writer.db.cachedStatement(sql: "SELECT max(endedAt) FROM formerLife"))
            // Nobody has noticed when that was.
            guard let lostAt else { return true }
            return try Row.fetchAll(
                writer.db.cachedStatement(
                    sql: "SELECT node, coalesce(lastContact, 0) FROM registeredNode WHERE retiredAt IS NULL"
                )
            ).contains { row in
                guard let other = UniqueID(bytes: [UInt8](row[0] as Data)), other != node else { return false }
                let told = contacts.withLock { $0[other].lastContact }.map { Int64(clamping: $0) }
                return max(told ?? 0, row[1]) <= lostAt
            }
        }
    }

    /// The last of some prefixes that is one of this node's log. The branch will go on from there or from later, so
    /// that is all it has acknowledged.
    private func lastCommon(_ prefixes: [LogPrefix], with peer: SyncPeer) throws -> Int {
        try withWriter { writer in
            let index = try prefixes.lastIndex { try writer.begins(with: $0) }
            guard let index else {
                throw Refusal(.invalidChange, "Not even an empty log is common to this node and head office.")
            }
            try writer.transaction {
                try writer.db.cachedStatement(
                    sql: "UPDATE registeredNode SET acknowledgedPosition = min(acknowledgedPosition, ?) WHERE node = ?"
                ).execute(arguments: [Int64(clamping: prefixes[index].position), Data(peer.node.bytes)])
                try writer.db.cachedStatement(
                    sql: """
                        UPDATE registeredLife SET acknowledgedPosition = min(acknowledgedPosition, ?) WHERE origin = ?
                        """
                ).execute(arguments: [Int64(clamping: prefixes[index].position), peer.origin.rawValue])
            }
            self.contacts.withLock {
                $0[peer.node].acknowledged = nil
                $0.acknowledgedByLife[peer.origin] = nil
            }
            return index
        }
    }

    private func compareVectors(_ theirs: [ChainHead], with peer: SyncPeer, _ answer: inout ByteWriter) throws {
        let (outcome, own) = try withWriter { writer -> (RefillOutcome, [ChainHead]) in
            var outcome = RefillOutcome.all
            for head in theirs where head.id.seq <= writer.vector[head.id.origin]?.seq ?? 0 {
                guard let chain = try writer.chain(of: head.id), chain.prefix != head.chain else { continue }
                outcome = .contradicts(head.id, here: chain.prefix, there: head.chain)
                try writer.transaction { try writer.note(outcome, with: peer) }
                break
            }
            let own = writer.vector.sorted { $0.key < $1.key }.map {
                ChainHead(id: ChangeSetID(origin: $0.key, seq: $0.value.seq), chain: $0.value.chain.prefix)
            }
            return (outcome, own)
        }
        contacts.withLock { notes in
            notes.held[peer.origin] = Dictionary(
                theirs.map { ($0.id.origin, $0.id.seq) },
                uniquingKeysWith: max
            )
        }
        answer.write(outcome)
        answer.write(own)
        answer.write([try withWriterState { $0.end }])
    }

    /// Takes what can be taken of an offer, in one transaction.
    private func take(_ offer: RefillOffer, from peer: SyncPeer) throws -> (RefillOutcome, taken: Int) {
        let compressor = ZstdCompressor()
        let decompressor = ZstdDecompressor()
        func decode(_ time: HybridTimestamp, _ body: ChangeBody) throws -> IncomingChangeSet {
            try IncomingChangeSet(
                time: time,
                body: body,
                schema: schema,
                compressor: compressor,
                decompressor: decompressor,
                scratch: spool.directory
            )
        }
        // Decoded here, outside the writer's turn.
        let sets = try offer.entries.map { entry -> IncomingChangeSet? in
            switch entry.body {
            case .none: return nil
            case .whole(let time, let body): return try decode(time, body)
            case .pieces(let time, let bytes):
                return try IncomingChangeSet(
                    time: time,
                    file: joinPieces(of: entry.head.id, bytes: bytes, from: peer),
                    schema: schema,
                    decompressor: decompressor,
                    scratch: spool.directory
                )
            }
        }
        return try withWriter { writer in
            try writer.transaction {
                var prefix: LogPrefix? = offer.kind == .inOrder ? offer.start : nil
                if let start = prefix, try writer.resolve(start) == nil { return (.waits, 0) }
                for (index, entry) in offer.entries.enumerated() {
                    let outcome = try writer.take(entry.head, sets[index], offer.kind, from: peer)
                    guard outcome == .all else {
                        try writer.note(outcome, with: peer)
                        return (outcome, index)
                    }
                    guard let chain = try writer.chain(of: entry.head.id) else { return (.waits, index) }
                    prefix = try prefix.map { try writer.extendFormerNumbering($0, by: entry.head.id, chain: chain) }
                }
                return (.all, offer.entries.count)
            }
        }
    }

    // MARK: Large change sets

    /// Keeps the next piece of a large change set; of each branch, one change set at a time.
    private func keepPiece(_ payload: [UInt8], from peer: SyncPeer) throws -> UInt64 {
        let (id, first, bytes) = try reading(payload) { reader throws(MalformedBytes) in
            let id = try reader.changeSetID()
            let first = try reader.varint()
            return (id, first, [UInt8](try reader.raw(reader.remaining)))
        }
        guard first <= UInt64(ChangeSet.contentBytesMax), !bytes.isEmpty else {
            throw Refusal(.invalidChange, "A piece of change set \(id) lies beyond what one may hold.")
        }
        return try withWriter { writer in
            try writer.transaction {
                try writer.db.cachedStatement(
                    sql: "DELETE FROM refillPiece WHERE node = ? AND (origin <> ? OR seq <> ? OR first >= ?)"
                ).execute(arguments: [
                    Data(peer.node.bytes), id.origin.rawValue, Int64(clamping: id.seq), Int64(clamping: first),
                ])
                let held = try Int64.fetchOne(
                    writer.db.cachedStatement(
                        sql: "SELECT coalesce(max(first + length(bytes)), 0) FROM refillPiece WHERE node = ?"
                    ),
                    arguments: [Data(peer.node.bytes)]
                )
                guard held == Int64(clamping: first) else { return UInt64(clamping: held ?? 0) }
                try writer.db.cachedStatement(sql: "INSERT INTO refillPiece VALUES (?, ?, ?, ?, ?)").execute(
                    arguments: [
                        Data(peer.node.bytes), Int64(clamping: first), id.origin.rawValue, Int64(clamping: id.seq),
                        Data(bytes),
                    ]
                )
                return first + UInt64(bytes.count)
            }
        }
    }

    private func joinPieces(of id: ChangeSetID, bytes: Int, from peer: SyncPeer) throws -> MappedFile {
        try MappedFile(scratchIn: spool.directory, byteCount: bytes) { memory in
            try readState { db in
                let pieces = try Row.fetchCursor(
                    db,
                    sql: "SELECT bytes FROM refillPiece WHERE node = ? AND origin = ? AND seq = ? ORDER BY first",
                    arguments: [Data(peer.node.bytes), id.origin.rawValue, Int64(clamping: id.seq)]
                )
                var joined = 0
                while let piece = try pieces.next()?[0] as Data? {
                    guard joined + piece.count <= bytes else { break }
                    piece.withUnsafeBytes {
                        UnsafeMutableRawBufferPointer(rebasing: memory[joined...]).copyMemory(from: $0)
                    }
                    joined += piece.count
                }
                guard joined == bytes else {
                    throw Refusal(.invalidChange, "Of change set \(id), \(joined) of \(bytes) bytes have arrived.")
                }
            }
        }
    }
}

extension ReplicaWriter {
    /// Looks, in the greeting, whether this node still has everything that a child has taken of its log.
    func noteLostLog(_ hello: Hello, in welcome: inout Welcome) throws {
        guard node.role == .headOffice else { return }
        let isCursorKnown = try begins(with: hello.cursor)
        let isComplete = try hello.extras.keptPrefixes.allSatisfy { try resolve($0) != nil }
        let wasOffered = try hello.extras.offered.map { try begins(with: $0.hubEnd) } ?? false
        if isCursorKnown, isComplete || wasOffered {
            if isComplete, try hasContradictions(with: hello.node) {
                try transaction {
                    try db.cachedStatement(sql: "DELETE FROM contradiction WHERE node = ?").execute(arguments: [
                        Data(hello.node.bytes)
                    ])
                }
            }
            return
        }
        welcome.mode = .consult
        welcome.root = nil
        welcome.extras.lost = LostLog(isCursorLost: !isCursorKnown)
    }

    /// Whether a child that stands before what it has acknowledged went back because it had to: this log was lost
    /// for a while, and the child shows that it had taken it up to there.
    func hasFallenBack(_ hello: Hello, from acknowledged: UInt64) throws -> Bool {
        try hello.extras.keptPrefixes.contains { prefix in
            guard prefix.position >= acknowledged else { return false }
            // One that is not known yet is refilled first.
            return try resolve(prefix).map { $0.position >= acknowledged } ?? true
        }
    }

    private func hasContradictions(with node: UniqueID) throws -> Bool {
        try Bool.fetchOne(
            db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM contradiction WHERE node = ?)"),
            arguments: [Data(node.bytes)]
        ) == true
    }

    /// Takes one change set of a lost log, or sees that it is held.
    fileprivate func take(
        _ head: ChainHead,
        _ set: IncomingChangeSet?,
        _ kind: RefillOffer.Kind,
        from peer: SyncPeer
    ) throws -> RefillOutcome {
        let last = vector[head.id.origin]
        if head.id.seq <= last?.seq ?? 0 {
            guard let chain = try chain(of: head.id) else { return .waits }
            return chain.prefix == head.chain
                ? .all : .contradicts(head.id, here: chain.prefix, there: head.chain)
        }
        guard head.id.seq == (last?.seq ?? 0) + 1, let set else { return .waits }
        let header = set.reader.header
        guard header.id == head.id else {
            throw Refusal(.invalidChange, "Change set \(header.id) was offered as \(head.id).")
        }
        let chain = last?.chain ?? .empty
        guard header.previousChain == chain.prefix else {
            return .contradicts(
                ChangeSetID(origin: head.id.origin, seq: head.id.seq - 1),
                here: chain.prefix,
                there: header.previousChain
            )
        }
        guard try provedChain(of: set, after: chain).prefix == head.chain else {
            throw Refusal(.invalidChange, "Change set \(head.id) is not the one that its chain names.")
        }
        guard try isHeld(header.context) else { return .waits }
        switch kind {
        case .fresh:
            _ = try takeFromChild([set], peer: peer)
        case .inOrder, .loose:
            try checkRights(of: set)
            _ = try take(set, from: .refill)
        }
        try db.cachedStatement(sql: "DELETE FROM refillPiece WHERE node = ?").execute(arguments: [Data(peer.node.bytes)]
        )
        return .all
    }

    /// What only head office writes comes from a life of head office, also when a branch brings it back.
    private func checkRights(of set: IncomingChangeSet) throws {
        let writesReserved = set.reader.blocks.contains {
            schema.table(number: $0.number)?.writers == .headOfficeOnly
        }
        guard writesReserved else { return }
        let isBranch = try Bool.fetchOne(
            db,
            // Former lives of a branch are a branch's, too.
            sql: "SELECT EXISTS (SELECT 1 FROM registeredLife WHERE origin = ?)",
            arguments: [set.reader.header.id.origin.rawValue]
        )
        guard isBranch != true else {
            throw Refusal(
                .invalidChange,
                "Change set \(set.reader.header.id) of a branch writes what only head office may."
            )
        }
    }

    /// Remembers that one change set has two contents; the exchange with that node stops.
    fileprivate func note(_ outcome: RefillOutcome, with peer: SyncPeer) throws {
        guard case .contradicts(let id, let here, let there) = outcome else { return }
        try noteContradiction(id, with: peer.node.bytes, here: here, there: there)
        try db.cachedStatement(sql: "UPDATE registeredNode SET refusals = refusals + 1, lastRefusal = ? WHERE node = ?")
            .execute(arguments: [Refusal.contradiction(id, here: here, there: there).sentence, Data(peer.node.bytes)])
    }

    /// Remembers for `status` that one change set has two contents, at head office and at a branch.
    ///
    /// - Parameter node: The other side's.
    func noteContradiction(_ id: ChangeSetID, with node: [UInt8], here: UInt64, there: UInt64) throws {
        try db.cachedStatement(sql: "INSERT OR IGNORE INTO contradiction VALUES (?, ?, ?, ?, ?, ?)").execute(
            arguments: [
                Data(node), id.origin.rawValue, Int64(clamping: id.seq), Int64(bitPattern: here),
                Int64(bitPattern: there), Int64(clamping: wallClock()),
            ]
        )
    }
}

extension Refusal {
    /// Two contents for one change set: what both sides say.
    static func contradiction(_ id: ChangeSetID, here: UInt64, there: UInt64) -> Refusal {
        Refusal(
            .forked,
            "Change set \(id) exists twice: head office holds it with chain \(hexadecimal(here)), the branch with "
                + "chain \(hexadecimal(there)). Head office was put back to an older copy and has written since. The "
                + "exchange with that branch has stopped; both contents stay readable (`peyvand log`). Keep both "
                + "directories and let the administrator decide which head office goes on."
        )
    }
}

private func hexadecimal(_ number: UInt64) -> String {
    let digits = String(number, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
}
