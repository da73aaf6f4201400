import Causality
import SyncProtocol
import Synchronization

/// A store in memory that keeps the promises of ``SyncStore``: what a hub or a child knows, without tables.
///
/// A body is the identity of its change set and some ballast. Every change set has two rows.
final class MemoryStore: SyncStore {
    struct Entry: Hashable {
        let id: ChangeSetID
        let time: HybridTimestamp
        let body: ChangeBody
    }

    fileprivate struct State {
        var log: [Entry] = []
        var prefixes: [LogPrefix] = [.empty]
        var cursor = LogPrefix.empty
        var held: Set<ChangeSetID> = []
        var facts: [SyncFact] = []
        var observers: [Int: @Sendable () -> Void] = [:]
        var observersMade = 0
        var applyFailure: SyncStoreFailure?
        var applies = 0
        var spools: [LargeBody: [UInt8]] = [:]
        var partsSpooled = 0
        var rootIsWrong = false
    }

    let isHub: Bool
    let node: UniqueID
    let origin: Origin
    /// Called inside ``apply(_:from:)``, before anything is changed.
    let onApply: @Sendable () -> Void
    private let state = Mutex(State())

    init(hub: Bool, origin: Origin = .child, onApply: @escaping @Sendable () -> Void = {}) {
        isHub = hub
        self.origin = hub ? .hub : origin
        node = .sample(hub ? 9 : UInt8(truncatingIfNeeded: origin.rawValue))
        self.onApply = onApply
    }

    // MARK: What tests do and look at

    /// Writes change sets of this node.
    func write(_ count: Int, bytesEach: Int = 20) {
        let observers = state.withLock { state in
            for _ in 0..<count {
                let seq = state.lastSeq(of: origin) + 1
                state.append(Entry(ChangeSetID(origin: origin, seq: seq), bytes: bytesEach))
            }
            return Array(state.observers.values)
        }
        for observer in observers { observer() }
    }

    var held: [ChangeSetID] { state.withLock { $0.held.sorted() } }
    var facts: [SyncFact] { state.withLock { $0.facts } }
    var end: LogPrefix { state.withLock { $0.prefixes.last ?? .empty } }
    var cursor: LogPrefix { state.withLock { $0.cursor } }
    var applies: Int { state.withLock { $0.applies } }
    /// Parts of large change sets that have arrived here.
    var partsSpooled: Int { state.withLock { $0.partsSpooled } }
    var observerCount: Int { state.withLock { $0.observers.count } }

    func failApplies(_ failure: SyncStoreFailure?) { state.withLock { $0.applyFailure = failure } }
    func spoilRoot() { state.withLock { $0.rootIsWrong = true } }

    // MARK: SyncStore

    func nowMilliseconds() -> UInt64 { 1_700_000_000_000 }

    func observeCommits(_ callback: @escaping @Sendable () -> Void) -> @Sendable () -> Void {
        let number = state.withLock { state in
            state.observersMade += 1
            state.observers[state.observersMade] = callback
            return state.observersMade
        }
        return { [weak self] in self?.state.withLock { $0.observers[number] = nil } }
    }

    func childFacts() throws(SyncStoreFailure) -> Hello {
        state.withLock { state in
            var hello = Hello.sample(
                ownSeq: state.lastSeq(of: origin),
                cursor: state.cursor,
                sentAtMilliseconds: nowMilliseconds()
            )
            hello.node = node
            hello.origin = origin
            return hello
        }
    }

    func adoptWelcome(_ welcome: Welcome, clock: ClockMeasurement) throws(SyncStoreFailure) -> SyncStep {
        let seq = state.withLock { $0.lastSeq(of: origin) }
        guard welcome.acceptedSeq <= seq else {
            throw .refused(Refusal(.forked, "The hub has more of this node than this node."))
        }
        return .goOn
    }

    func take(_ answer: SyncAnswer, to question: SyncQuestion) throws(SyncStoreFailure) -> SyncStep { .goOn }

    func consult(on occasion: SyncOccasion) throws(SyncStoreFailure) -> SyncStep { .goOn }

    func answer(_ question: SyncQuestion, from peer: SyncPeer) throws(SyncStoreFailure) -> SyncAnswer {
        SyncAnswer(payload: question.payload)
    }

    func decideJoin(_ join: Join) throws(SyncStoreFailure) -> Joined {
        guard join.proof == Join.sample.proof else {
            throw .refused(Refusal(.invitationUnknown, "There is no such invitation. Ask for a new one."))
        }
        return .sample
    }

    func decideWelcome(
        _ hello: Hello,
        receivedAtMilliseconds: UInt64
    ) throws(SyncStoreFailure) -> Welcome {
        let result = state.withLock { state -> Result<Welcome, SyncStoreFailure> in
            guard hello.key == Hello.sample().key else {
                return .failure(.refused(Refusal(.unknownNode, "This node is not known here.")))
            }
            guard state.prefixes.contains(hello.cursor), let end = state.prefixes.last else {
                return .failure(.refused(Refusal(.unknownCursor, "This place in the log is not known.")))
            }
            let accepted = state.lastSeq(of: hello.origin)
            var welcome = Welcome.sample(acceptedSeq: accepted, end: end)
            if end == hello.cursor, accepted == hello.ownSeq { welcome.root = state.root }
            return .success(welcome)
        }
        return try result.get()
    }

    func readOwn(
        afterSeq: UInt64,
        bytesMax: Int,
        entriesMax: Int
    ) throws(SyncStoreFailure) -> OutgoingBatch {
        state.withLock { state in
            let own = state.log.filter { $0.id.origin == origin && $0.id.seq > afterSeq }
            let taken = Self.take(own[...], bytesMax: bytesMax, entriesMax: entriesMax)
            let entries = taken.map { $0.entry(bytesMax: bytesMax) }
            return OutgoingBatch(
                batch: ChangeBatch(firstPosition: 0, entries: entries, end: .empty),
                changeSets: entries.count,
                rows: entries.count * 2,
                isAtEnd: taken.count == own.count
            )
        }
    }

    func readLog(
        afterPosition: UInt64,
        for reader: Origin,
        bytesMax: Int,
        entriesMax: Int
    ) throws(SyncStoreFailure) -> OutgoingBatch {
        state.withLock { state in
            let rest = state.log.dropFirst(Int(afterPosition))
            let taken = Self.take(rest, bytesMax: bytesMax, entriesMax: entriesMax)
            let entries = taken.map { entry in
                entry.id.origin == reader ? ChangeEntry.stub(entry.id) : entry.entry(bytesMax: bytesMax)
            }
            let batch = ChangeBatch(
                firstPosition: afterPosition + 1,
                entries: entries,
                end: state.prefixes[Int(afterPosition) + entries.count]
            )
            return OutgoingBatch(
                batch: batch,
                changeSets: batch.changeSetCount,
                rows: batch.changeSetCount * 2,
                isAtEnd: taken.count == rest.count
            )
        }
    }

    func readPart(_ request: PartRequest) throws(SyncStoreFailure) -> [UInt8] {
        let body = state.withLock { state in state.log.first { $0.id == request.body.id }?.body }
        guard let body, LargeBody(request.body.id, body) == request.body else {
            throw .unavailable("There is no such body.")
        }
        return Array(body.bytes.dropFirst(request.offset).prefix(request.bytesMax))
    }

    func openSpool(for body: LargeBody, from peer: SyncPeer) throws(SyncStoreFailure) -> Int {
        state.withLock { $0.spools[body]?.count ?? 0 }
    }

    func spool(
        _ part: [UInt8],
        at offset: Int,
        of body: LargeBody,
        from peer: SyncPeer
    ) throws(SyncStoreFailure) -> Int {
        try state.withLock { state -> Result<Int, SyncStoreFailure> in
            guard state.spools[body]?.count ?? 0 == offset else { return .failure(.unavailable("Not the next part.")) }
            state.spools[body, default: []] += part
            state.partsSpooled += 1
            return .success(offset + part.count)
        }.get()
    }

    func apply(_ batches: [ChangeBatch], from peer: SyncPeer) throws(SyncStoreFailure) -> ApplyOutcome {
        onApply()
        let result = state.withLock { state -> Result<ApplyOutcome, SyncStoreFailure> in
            if let failure = state.applyFailure { return .failure(failure) }
            state.applies += 1
            var changeSets = 0
            for entry in batches.flatMap(\.entries) {
                switch entry {
                case .stub(let id):
                    guard state.held.contains(id) else {
                        return .failure(.refused(Refusal(.forked, "A stub of \(id), which is not here.")))
                    }
                case .changeSet, .large:
                    guard let (time, body) = state.takeBody(of: entry) else {
                        return .failure(.refused(Refusal(.invalidChange, "A large body is not here.")))
                    }
                    guard let id = ChangeSetID(body: body) else {
                        return .failure(.refused(Refusal(.invalidChange, "A body cannot be read.")))
                    }
                    if state.held.contains(id) { continue }
                    guard id.seq == state.lastSeq(of: id.origin) + 1 else {
                        return .failure(.refused(Refusal(.invalidChange, "\(id) is not next.")))
                    }
                    changeSets += 1
                    state.append(Entry(id: id, time: time, body: body))
                }
            }
            let durable: ApplyOutcome.Durable
            if isHub {
                durable = .seq(state.lastSeq(of: peer.origin), chain: 7)
            } else {
                state.cursor = batches.last?.end ?? state.cursor
                durable = .position(state.cursor)
            }
            return .success(
                ApplyOutcome(
                    durable: durable,
                    changeSets: changeSets,
                    rows: changeSets * 2,
                    conflicts: 0,
                    parked: 0
                )
            )
        }
        let outcome = try result.get()
        let observers = state.withLock { Array($0.observers.values) }
        for observer in observers { observer() }
        return outcome
    }

    func currentRoot(at prefix: LogPrefix, child: ChangeSetID) throws(SyncStoreFailure) -> DatabaseRoot? {
        state.withLock { state in
            let here = isHub ? state.prefixes.last : state.cursor
            return here == prefix && state.lastSeq(of: child.origin) == child.seq ? state.root : nil
        }
    }

    func record(_ fact: SyncFact, of peer: SyncPeer) throws(SyncStoreFailure) {
        state.withLock { $0.facts.append(fact) }
    }

    private static func take(_ entries: ArraySlice<Entry>, bytesMax: Int, entriesMax: Int) -> [Entry] {
        var taken: [Entry] = []
        var bytes = 0
        for entry in entries.prefix(entriesMax) {
            bytes += entry.body.bytes.count
            if bytes > bytesMax, !taken.isEmpty { break }
            taken.append(entry)
            if bytes > bytesMax { break }
        }
        return taken
    }
}

extension MemoryStore.State {
    fileprivate func lastSeq(of origin: Origin) -> UInt64 {
        held.reduce(0) { $1.origin == origin ? max($0, $1.seq) : $0 }
    }

    /// The body of an entry, wherever it is.
    fileprivate mutating func takeBody(of entry: ChangeEntry) -> (HybridTimestamp, ChangeBody)? {
        switch entry {
        case .stub: return nil
        case .changeSet(let time, let body): return (time, body)
        case .large(let time, let large):
            guard let bytes = spools.removeValue(forKey: large), bytes.count == large.byteCount else { return nil }
            return (time, ChangeBody(isCompressed: large.id.seq.isMultiple(of: 2), bytes: bytes))
        }
    }

    fileprivate var root: DatabaseRoot {
        let sum = held.reduce(UInt64(0)) { $0 &+ (UInt64($1.origin.rawValue) << 40 | $1.seq) &* 0x9E37_79B9 }
        return DatabaseRoot(first: rootIsWrong ? sum &+ 1 : sum, second: 0, rows: UInt64(held.count * 2))
    }

    fileprivate mutating func append(_ entry: MemoryStore.Entry) {
        log.append(entry)
        held.insert(entry.id)
        let last = prefixes.last ?? .empty
        let digest = (last.digest &+ UInt64(entry.id.origin.rawValue) << 40 &+ entry.id.seq) &* 0x9E37_79B9
        prefixes.append(LogPrefix(position: last.position + 1, digest: digest))
    }
}

extension MemoryStore.Entry {
    fileprivate init(_ id: ChangeSetID, bytes: Int) {
        var writer = ByteWriter()
        writer.varint(UInt64(id.origin.rawValue))
        writer.varint(id.seq)
        writer.raw([UInt8](repeating: 120, count: bytes))
        self.init(
            id: id,
            time: HybridTimestamp(milliseconds: id.seq),
            body: ChangeBody(isCompressed: id.seq.isMultiple(of: 2), bytes: writer.bytes)
        )
    }
}

extension MemoryStore.Entry {
    fileprivate func entry(bytesMax: Int) -> ChangeEntry {
        body.bytes.count <= bytesMax
            ? .changeSet(time: time, body: body) : .large(time: time, LargeBody(id, body))
    }
}

extension LargeBody {
    fileprivate init(_ id: ChangeSetID, _ body: ChangeBody) {
        let sum = body.bytes.reduce(UInt64(7)) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
        let hash = (0..<32).map { UInt8(truncatingIfNeeded: sum >> (8 * ($0 % 8))) }
        self.init(id: id, byteCount: body.bytes.count, hash: hash)
    }
}

extension ChangeSetID {
    fileprivate init?(body: ChangeBody) {
        let id = body.bytes.withUnsafeBytes { bytes -> ChangeSetID? in
            var reader = ByteReader(bytes)
            guard let number = try? reader.varint(), let seq = try? reader.varint(),
                let origin = Origin(rawValue: UInt32(truncatingIfNeeded: number))
            else { return nil }
            return ChangeSetID(origin: origin, seq: seq)
        }
        guard let id else { return nil }
        self = id
    }
}
