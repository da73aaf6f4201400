import Causality
import Foundation
import GRDB
import SyncProtocol

// At a branch whose head office has lost the end of its log: it goes back to the last common prefix, remembers what
// stood above it, and offers all of that until head office holds it again.

/// How far a branch has come with refilling its hub. Nothing of it need survive: it is begun again.
struct RefillRun {
    /// The hub's log is known not to have this prefix. While the last common one is looked for.
    var unknown = LogPrefix.empty
    /// What the hub holds, per origin.
    var held: [Origin: UInt64] = [:]
    /// Lost logs that are still to be offered, newest first, and how far the first of them has come.
    var numberings: [KeptNumbering] = []
    var offered: LogPrefix?
    /// Of the first of them, the hub was told what stood in the part that this branch never had.
    var isProgressTold = false
    /// Those in which something was missing then. They are told once more when all else was offered.
    var incomplete: [KeptNumbering] = []
    /// All else was offered.
    var isAllOffered = false
    /// Those in which something is still missing, and no other branch can bring it.
    var hopeless: [KeptNumbering] = []
    /// One change set of the own log that is to be offered in no known order.
    struct LoosePlace: Hashable {
        let position: Int64
        let origin: Origin
        /// No hub has ever had it.
        let isFresh: Bool
    }

    /// Still to be offered, in the order of the own log; nil before they were looked up.
    var loose: [LoosePlace]?
    /// Not all of a lost log could be taken: what names its later part has to wait.
    var mustWait = false
    /// The change set that the hub has all pieces of.
    var spooled: ChangeSetID?
    /// The prefix up to each entry of the last offer, if they were in order, to go on from.
    var lastOffer: RefillOffer?
    /// Everything was offered, and something has to wait for another branch. Own change sets go up to here only.
    var sendLimit: UInt64?
    /// Where the hub's log ended when it last answered.
    var hubEnd = LogPrefix.empty
    /// Where the cursor stood when everything had been offered.
    var cursorAtEnd = LogPrefix.empty
    /// The next hello says that all was offered.
    var isOffered = false

    /// The next change set of an origin has to wait for something, and so have all after it.
    mutating func skip(_ origin: Origin) {
        loose?.removeAll { $0.origin == origin }
    }

    /// Goes on to the next lost log.
    mutating func leaveNumbering() {
        numberings.removeFirst()
        offered = nil
        isProgressTold = false
    }
}

extension Replica {
    /// Bytes of bodies in one question; a larger body goes in pieces.
    private static let offerBytesMax = 700 << 10
    private static let offerEntriesMax = 4096
    private static let looseEntriesMax = 500
    /// The body, unless it goes in pieces, and its length.
    private static let smallBody = "iif(length(body) <= \(offerBytesMax), body, NULL), length(body)"
    /// Prefixes between two that are asked for at a time.
    private static let searchWidth: UInt64 = 32

    /// What the hello says of lost logs.
    func addRefillFacts(to hello: inout Hello, _ writer: ReplicaWriter) throws {
        hello.extras.keptPrefixes = try KeptNumbering.all(writer.db).map(\.end)
        refillRun.withLock { run in
            guard run.isOffered else { return }
            hello.extras.offered = OfferedLogs(seq: run.sendLimit ?? hello.ownSeq, hubEnd: run.hubEnd)
        }
        try addVoucher(to: &hello, writer)
    }

    /// The last own change set that may be sent now; nil when all may.
    var sendLimit: UInt64? { refillRun.withLock { $0.sendLimit } }

    /// A step of the consultation.
    func refill(_ occasion: ConsultationOccasion) throws -> SyncStep {
        switch occasion {
        case .welcomed(let welcome, _):
            guard let lost = welcome.extras.lost else {
                let wasOffered = refillRun.withLock { run in
                    defer { run.isOffered = false }
                    if !run.isOffered { run = RefillRun() }
                    return run.isOffered
                }
                if !wasOffered { try forgetContradictions() }
                return .goOn
            }
            return try beginRefill(lost)
        case .during(.settled):
            // What had to wait may have come from another branch meanwhile.
            let (limit, cursor) = refillRun.withLock { ($0.sendLimit, $0.cursorAtEnd) }
            guard limit != nil, try withWriterState({ $0.cursor }) != cursor else { return .goOn }
            refillRun.withLock { $0 = RefillRun() }
            return .reconnect
        case .during:
            return .goOn
        }
    }

    private func beginRefill(_ lost: LostLog) throws -> SyncStep {
        var run = RefillRun()
        defer { refillRun.withLock { $0 = run } }
        guard lost.isCursorLost else { return try askVectors() }
        let positions = try withWriter { writer -> [UInt64] in
            try writer.transaction { try writer.completeHubDigests() }
            run.unknown = writer.cursor
            var positions: [UInt64] = []
            var back: UInt64 = 1
            while back < writer.cursor.position {
                positions.append(writer.cursor.position - back)
                back *= 2
            }
            return positions
        }
        return try askCommonPrefix(at: positions, from: .empty, &run)
    }

    // MARK: The last common prefix

    /// Asks which of the known prefixes at some positions the hub has; when there are none between, the last common
    /// one is found.
    private func askCommonPrefix(
        at positions: [UInt64],
        from low: LogPrefix,
        _ run: inout RefillRun
    ) throws -> SyncStep {
        let high = run.unknown
        let between = try withWriter { writer in
            try writer.hubPrefixes(at: positions).filter { low.position < $0.position && $0.position < high.position }
        }
        guard !between.isEmpty else { return try fallBack(to: low) }
        var writer = ByteWriter()
        writer.write([low] + between)
        return .ask(SyncQuestion(kind: QuestionKind.refillCommonPrefix.rawValue, payload: writer.bytes))
    }

    /// Takes the answer to ``QuestionKind/refillCommonPrefix``.
    func takeCommonPrefix(_ answer: SyncAnswer, to question: SyncQuestion) throws -> SyncStep {
        let asked = try reading(question.payload) { reader throws(MalformedBytes) in
            try reader.prefixes(max: Self.prefixesAskedMax)
        }
        let index = try reading(answer.payload) { reader throws(MalformedBytes) in try reader.varint() }
        guard index < UInt64(asked.count) else {
            throw Refusal(.invalidChange, "Head office names a prefix of its log that it was not asked for.")
        }
        var run = refillRun.withLock { $0 }
        defer { refillRun.withLock { $0 = run } }
        let low = asked[Int(index)]
        if Int(index) + 1 < asked.count { run.unknown = asked[Int(index) + 1] }
        let gap = run.unknown.position - low.position
        let steps = min(Self.searchWidth, gap - 1)
        let positions = (0..<steps).map { low.position + ($0 + 1) * gap / (steps + 1) }
        return try askCommonPrefix(at: positions, from: low, &run)
    }

    private func fallBack(to base: LogPrefix) throws -> SyncStep {
        try withWriter { writer in try writer.transaction { try writer.fallBack(to: base) } }
        return try askVectors()
    }

    // MARK: Vectors

    private func askVectors() throws -> SyncStep {
        // Of these the hub sends the numbers only, so all must be in the log.
        let own = try withWriter { try $0.loggedHeads() }
        var writer = ByteWriter()
        writer.write(own)
        return .ask(SyncQuestion(kind: QuestionKind.refillVectors.rawValue, payload: writer.bytes))
    }

    /// Takes the answer to ``QuestionKind/refillVectors``.
    func takeVectors(_ answer: SyncAnswer) throws -> SyncStep {
        let (outcome, heads, end) = try reading(answer.payload) { reader throws(MalformedBytes) in
            (
                try reader.refillOutcome(), try reader.vector(max: Self.vectorEntriesMax),
                try reader.prefixes(max: 1).first
            )
        }
        try stop(at: outcome)
        var run = refillRun.withLock { $0 }
        defer { refillRun.withLock { $0 = run } }
        run.hubEnd = end ?? .empty
        run.held = Dictionary(heads.map { ($0.id.origin, $0.id.seq) }, uniquingKeysWith: max)
        return try withWriter { writer in
            run.numberings = try KeptNumbering.all(writer.db)
            return try self.offer(&run, writer)
        }
    }

    /// Ends the session when one change set has two contents.
    private func stop(at outcome: RefillOutcome) throws {
        guard case .contradicts(let id, let here, let there) = outcome else { return }
        throw try contradiction(id, atHeadOffice: here, here: there)
    }

    /// Remembers that one change set has two contents, for `status`; what the session ends with.
    func contradiction(_ id: ChangeSetID, atHeadOffice: UInt64, here: UInt64) throws -> Refusal {
        let hub = node.hub?.node ?? []
        try withWriter { writer in
            try writer.transaction {
                try writer.noteContradiction(id, with: hub, here: atHeadOffice, there: here)
            }
        }
        return .contradiction(id, here: atHeadOffice, there: here)
    }

    private func forgetContradictions() throws {
        try withWriter { writer in
            let isAny = try Bool.fetchOne(writer.db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM contradiction)"))
            guard isAny == true else { return }
            try writer.transaction { try writer.db.cachedStatement(sql: "DELETE FROM contradiction").execute() }
        }
    }

    // MARK: Offers

    /// Offers the next change sets; says to come back when there are no more.
    private func offer(_ run: inout RefillRun, _ writer: ReplicaWriter) throws -> SyncStep {
        while let numbering = run.numberings.first {
            let start = run.offered ?? numbering.base
            if start.position < numbering.end.position,
                let step = try ask(readNumbering(numbering, after: start, run, writer), &run, writer)
            {
                return step
            }
            if run.offered != numbering.end, !run.isProgressTold {
                run.isProgressTold = true
                if let step = try askProgress(of: numbering, writer) { return step }
            }
            if run.offered != numbering.end { run.mustWait = true }
            run.leaveNumbering()
        }
        if run.loose == nil { run.loose = try loosePlaces(run, writer) }
        while let loose = run.loose, !loose.isEmpty {
            if let step = try ask(readLoose(&run, writer), &run, writer) { return step }
        }
        run.isAllOffered = true
        if let numbering = run.incomplete.first, let step = try askProgress(of: numbering, writer) { return step }
        if !run.hopeless.isEmpty { return try giveUp(&run, writer) }
        // Comes back as it is now: all that is missing under the kept prefixes was offered.
        run.sendLimit = run.mustWait ? run.held[writer.node.origin] ?? 0 : nil
        run.cursorAtEnd = writer.cursor
        run.isOffered = true
        run.lastOffer = nil
        return .reconnect
    }

    // MARK: What this branch never had

    /// Tells what stood in a lost log up to a prefix that this branch knows by a snapshot only; nil when it knows the
    /// log itself.
    private func askProgress(of numbering: KeptNumbering, _ writer: ReplicaWriter) throws -> SyncStep? {
        let progress = try numbering.progress(writer.db)
        guard !progress.isEmpty else { return nil }
        var bytes = ByteWriter()
        bytes.write([numbering.end])
        bytes.varint(UInt64(progress.count))
        for id in progress {
            bytes.varint(UInt64(id.origin.rawValue))
            bytes.varint(id.seq)
        }
        return .ask(SyncQuestion(kind: QuestionKind.refillProgress.rawValue, payload: bytes.bytes))
    }

    /// Takes the answer to ``QuestionKind/refillProgress``.
    func takeProgress(_ answer: SyncAnswer) throws -> SyncStep {
        let (isHeld, isAwaited) = try reading(answer.payload) { reader throws(MalformedBytes) in
            (try reader.byte() != 0, try reader.byte() != 0)
        }
        var run = refillRun.withLock { $0 }
        defer { refillRun.withLock { $0 = run } }
        if run.isAllOffered {
            guard let numbering = run.incomplete.first else { return .goOn }
            run.incomplete.removeFirst()
            if isHeld {
                // What was offered meanwhile has completed it: what builds on it can be offered in order now.
                run = RefillRun()
                return try askVectors()
            }
            if !isAwaited { run.hopeless.append(numbering) }
        } else if let numbering = run.numberings.first {
            if isHeld {
                run.offered = numbering.end
            } else {
                run.incomplete.append(numbering)
            }
        }
        return try withWriter { writer in try self.offer(&run, writer) }
    }

    /// Goes on without what nobody can bring back: work of this node that was written after it is issued again, by
    /// a new life, without naming it.
    private func giveUp(_ run: inout RefillRun, _ writer: ReplicaWriter) throws -> SyncStep {
        let own = writer.vector[writer.node.origin]?.seq ?? 0
        try writer.transaction {
            try writer.giveUp(run.hopeless)
            if own > run.held[writer.node.origin] ?? 0 { try writer.mustRenew(.lostLog) }
        }
        run = RefillRun()
        return .reconnect
    }

    private func ask(_ next: Offered, _ run: inout RefillRun, _ writer: ReplicaWriter) throws -> SyncStep? {
        switch next {
        case .nothing:
            return nil
        case .large(let id):
            return try askPiece(of: id, from: 0, writer)
        case .offer(let offer):
            var bytes = ByteWriter()
            run.lastOffer = offer
            bytes.write(offer)
            return .ask(SyncQuestion(kind: QuestionKind.refillOffer.rawValue, payload: bytes.bytes))
        }
    }

    /// What is sent next.
    private enum Offered {
        case nothing
        case large(ChangeSetID)
        case offer(RefillOffer)
    }

    private func readNumbering(
        _ numbering: KeptNumbering,
        after start: LogPrefix,
        _ run: RefillRun,
        _ writer: ReplicaWriter
    ) throws -> Offered {
        let rows = try Row.fetchCursor(
            writer.db,
            sql: """
                SELECT keptEntry.position, log.origin, log.seq, log.chain, log.time, \(Self.smallBody) FROM keptEntry
                JOIN log USING (origin, seq) WHERE numbering = ? AND keptEntry.position > ? ORDER BY keptEntry.position
                """,
            arguments: [numbering.number, Int64(clamping: start.position)]
        )
        var offer = RefillOffer(kind: .inOrder, start: start, entries: [])
        return try fill(&offer, from: rows, run) { row, count in
            // A gap: this branch began with a snapshot, and another one has to tell what stood there.
            UInt64(bitPattern: row[0] as Int64) == start.position + UInt64(count) + 1
        }
    }

    /// Fills an offer from rows of (position, origin, seq, chain, time, small body, length), as far as it goes.
    private func fill(
        _ offer: inout RefillOffer,
        from rows: RowCursor,
        _ run: RefillRun,
        while isNext: (Row, Int) -> Bool
    ) throws -> Offered {
        var bytes = 0
        // What the hub will hold when it has taken the entries before.
        var held = run.held
        while let row = try rows.next(), isNext(row, offer.entries.count), offer.entries.count < Self.offerEntriesMax {
            guard let origin = Origin(rawValue: row[1] as UInt32),
                let chain = ChangeChain(bytes: [UInt8](row[3] as Data)),
                let time = HybridTimestamp(packed: UInt64(bitPattern: row[4] as Int64))
            else { break }
            let id = ChangeSetID(origin: origin, seq: UInt64(bitPattern: row[2] as Int64))
            var body = RefillEntry.Body.none
            if id.seq > held[origin] ?? 0 {
                // A body that was trimmed: others have to bring it.
                guard let length = row[6] as Int? else { break }
                if length > Self.offerBytesMax {
                    guard run.spooled == id else {
                        guard offer.entries.isEmpty else { break }
                        return .large(id)
                    }
                    body = .pieces(time, bytes: length)
                } else {
                    // What is redacted and not signed yet: others have to bring it as well.
                    guard let stored = row[5] as Data?, !StoredContent.isUnsigned(stored) else { break }
                    guard bytes + stored.count <= Self.offerBytesMax else { break }
                    bytes += stored.count
                    let isCompressed = stored.first == Self.zstdFirstByte
                    body = .whole(time, ChangeBody(isCompressed: isCompressed, bytes: [UInt8](stored)))
                }
                held[origin] = id.seq
            }
            offer.entries.append(RefillEntry(head: ChainHead(id: id, chain: chain.prefix), body: body))
        }
        return offer.entries.isEmpty ? .nothing : .offer(offer)
    }

    /// Where change sets lie that the hub lacks and no kept numbering has told it of: former lives of this node, and
    /// what the lost hub had acknowledged. If something has to wait, also what no hub has had: the stream would stop
    /// at the first that waits.
    private func loosePlaces(_ run: RefillRun, _ writer: ReplicaWriter) throws -> [RefillRun.LoosePlace] {
        let own = writer.node.origin
        let acknowledged = try Int64.fetchOne(
            writer.db.cachedStatement(sql: "SELECT acceptedMost FROM localContact WHERE acceptedOrigin = ?"),
            arguments: [own.rawValue]
        )
        var places: [RefillRun.LoosePlace] = []
        for (origin, head) in writer.vector where head.seq > run.held[origin] ?? 0 {
            let rows = try Row.fetchCursor(
                writer.db,
                sql: "SELECT position, seq FROM log WHERE origin = ? AND seq > ?",
                arguments: [origin.rawValue, Int64(clamping: run.held[origin] ?? 0)]
            )
            while let row = try rows.next() {
                let isFresh = origin == own && row[1] as Int64 > acknowledged ?? 0
                if isFresh, !run.mustWait { break }
                places.append(.init(position: row[0], origin: origin, isFresh: isFresh))
            }
        }
        return places.sorted { $0.position < $1.position }
    }

    private func readLoose(_ run: inout RefillRun, _ writer: ReplicaWriter) throws -> Offered {
        while let first = run.loose?.first {
            let chunk = (run.loose ?? []).prefix(Self.looseEntriesMax).prefix { $0.isFresh == first.isFresh }
            let positions = chunk.map { String($0.position) }.joined(separator: ", ")
            let rows = try Row.fetchCursor(
                writer.db,
                sql: """
                    SELECT position, origin, seq, chain, time, \(Self.smallBody) FROM log WHERE position IN (\(positions))
                    ORDER BY position
                    """
            )
            var offer = RefillOffer(kind: first.isFresh ? .fresh : .loose, start: .empty, entries: [])
            let offered = try fill(&offer, from: rows, run) { _, _ in true }
            guard case .nothing = offered else { return offered }
            run.skip(first.origin)
        }
        return .nothing
    }

    /// Takes the answer to ``QuestionKind/refillOffer``.
    func takeOffered(_ answer: SyncAnswer) throws -> SyncStep {
        let (outcome, taken, end) = try reading(answer.payload) { reader throws(MalformedBytes) in
            (try reader.refillOutcome(), try reader.varint(), try reader.prefixes(max: 1).first)
        }
        try stop(at: outcome)
        var run = refillRun.withLock { $0 }
        defer { refillRun.withLock { $0 = run } }
        guard let offer = run.lastOffer, taken <= UInt64(offer.entries.count) else {
            throw Refusal(.invalidChange, "Head office took more than it was offered.")
        }
        return try withWriter { writer in
            run.hubEnd = end ?? .empty
            var prefix = offer.start
            for entry in offer.entries.prefix(Int(taken)) {
                let id = entry.head.id
                run.held[id.origin] = max(run.held[id.origin] ?? 0, id.seq)
                if offer.kind == .inOrder, let chain = try writer.chain(of: id) {
                    prefix = prefix.appending(id, chain: chain)
                }
            }
            run.spooled = nil
            switch offer.kind {
            case .inOrder:
                run.offered = prefix
                if outcome == .waits {
                    // The rest has to wait for another branch; what does not depend on it goes in no order.
                    run.mustWait = true
                    run.leaveNumbering()
                }
            case .loose, .fresh:
                run.loose?.removeFirst(Int(taken))
                if outcome == .waits, Int(taken) < offer.entries.count {
                    run.skip(offer.entries[Int(taken)].head.id.origin)
                }
            }
            return try self.offer(&run, writer)
        }
    }

    /// Sends the next piece of a large body; nil when there is none.
    private func askPiece(of id: ChangeSetID, from first: UInt64, _ writer: ReplicaWriter) throws -> SyncStep? {
        let piece = try Data.fetchOne(
            writer.db.cachedStatement(sql: "SELECT substr(body, ?, ?) FROM log WHERE origin = ? AND seq = ?"),
            arguments: [
                Int64(clamping: first) + 1, Self.offerBytesMax, id.origin.rawValue, Int64(clamping: id.seq),
            ]
        )
        guard let piece, !piece.isEmpty else { return nil }
        var bytes = ByteWriter()
        bytes.varint(UInt64(id.origin.rawValue))
        bytes.varint(id.seq)
        bytes.varint(first)
        bytes.raw(piece)
        return .ask(SyncQuestion(kind: QuestionKind.refillPiece.rawValue, payload: bytes.bytes))
    }

    /// Takes the answer to ``QuestionKind/refillPiece``.
    func takePiece(_ answer: SyncAnswer, to question: SyncQuestion) throws -> SyncStep {
        // No body is longer than a file can hold.
        let held = try reading(answer.payload) { reader throws(MalformedBytes) in
            try reader.varint(max: UInt64(Int32.max))
        }
        let id = try question.payload.withUnsafeBytes { buffer in
            var reader = ByteReader(buffer)
            return try reader.changeSetID()
        }
        var run = refillRun.withLock { $0 }
        defer { refillRun.withLock { $0 = run } }
        return try withWriter { writer in
            if let step = try self.askPiece(of: id, from: held, writer) { return step }
            run.spooled = id
            return try self.offer(&run, writer)
        }
    }
}
