import Causality
import TestKit
import Testing

@testable import SyncProtocol

/// A child and a hub that talk over a line of bytes in memory, performing the actions of their sessions in
/// an order that a seed decides. The line breaks after a given number of messages.
private struct Conversation {
    private struct Side {
        var session: SyncSession
        let store: MemoryStore
        let codec = SyncMessageCodec()
        var todo: [SyncSession.Action] = []
        var inbox: [FramedMessage] = []
    }

    private var sides: [Side]
    private(set) var delivered = 0
    private let deliveredMax: Int

    init(child: MemoryStore, hub: MemoryStore, limits: SyncLimits, deliveredMax: Int = .max) {
        sides = [
            Side(session: SyncSession(role: .child(isOneShot: true), limits: limits), store: child),
            Side(session: SyncSession(role: .hub, limits: limits), store: hub),
        ]
        self.deliveredMax = deliveredMax
    }

    var childTotals: SessionTotals { sides[0].session.totals }

    /// Runs until both sides are closed, and returns why each was.
    mutating func run(_ random: inout SeededRandom) -> [SyncFailure?] {
        var ends: [SyncFailure??] = [nil, nil]
        for index in sides.indices { sides[index].todo += sides[index].session.handle(.linkOpened) }
        while ends.contains(where: { $0 == nil }) {
            // A step of either side: an action it has to do, or a message that waits for it.
            let choices = sides.indices.flatMap { index -> [(side: Int, isAction: Bool)] in
                (sides[index].todo.isEmpty ? [] : [(index, true)])
                    + (sides[index].inbox.isEmpty || ends[index] != nil ? [] : [(index, false)])
            }
            guard let choice = choices.randomElement(using: &random) else {
                // Nobody has anything to do: only a broken line can end this.
                for index in sides.indices { sides[index].todo += sides[index].session.handle(.linkClosed) }
                if sides.allSatisfy(\.todo.isEmpty) { break }
                continue
            }
            if choice.isAction {
                if let end = perform(sides[choice.side].todo.removeFirst(), of: choice.side) {
                    ends[choice.side] = end
                }
            } else {
                deliver(to: choice.side)
            }
        }
        return ends.map { $0 ?? .linkLost }
    }

    private mutating func deliver(to index: Int) {
        let framed = sides[index].inbox.removeFirst()
        guard delivered < deliveredMax else { return }
        delivered += 1
        do {
            let message = try sides[index].codec.decode(framed)
            sides[index].todo += sides[index].session.handle(.received(message, atMilliseconds: 0))
        } catch {
            Issue.record(error)
        }
    }

    private mutating func perform(_ action: SyncSession.Action, of index: Int) -> SyncFailure?? {
        let store = sides[index].store
        func result<Value>(_ body: () throws(SyncStoreFailure) -> Value) -> Result<Value, SyncStoreFailure> {
            do throws(SyncStoreFailure) { return .success(try body()) } catch { return .failure(error) }
        }
        var event: SyncSession.Event?
        switch action {
        case .send(let message):
            sides[1 - index].inbox.append(sides[index].codec.encode(message))
        case .readFacts:
            event = .factsRead(result { () throws(SyncStoreFailure) in try store.childFacts() })
        case .adoptWelcome(let welcome, let clock):
            event = .welcomeAdopted(
                result { () throws(SyncStoreFailure) in
                    try store.adoptWelcome(welcome, clock: clock)
                    return SyncSession.Nothing()
                }
            )
        case .decideWelcome(let hello, let time):
            event = .welcomeDecided(
                result { () throws(SyncStoreFailure) in
                    try store.decideWelcome(hello, receivedAtMilliseconds: time)
                }
            )
        case .readBatch(.own(let seq, let bytes, let entries)):
            event = .batchRead(
                result { () throws(SyncStoreFailure) in
                    try store.readOwn(afterSeq: seq, bytesMax: bytes, entriesMax: entries)
                }
            )
        case .readBatch(.log(let position, let reader, let bytes, let entries)):
            event = .batchRead(
                result { () throws(SyncStoreFailure) in
                    try store.readLog(
                        afterPosition: position,
                        for: reader,
                        bytesMax: bytes,
                        entriesMax: entries
                    )
                }
            )
        case .apply(let batches, let peer):
            event = .applied(result { () throws(SyncStoreFailure) in try store.apply(batches, from: peer) })
        case .readRoot(let prefix, let child):
            event = .rootRead(
                result { () throws(SyncStoreFailure) in try store.currentRoot(at: prefix, child: child) }
            )
        case .record(let fact, let peer):
            try? store.record(fact, of: peer)
        case .close(let failure):
            return .some(failure)
        case .startTimer, .decideJoin, .joined:
            break
        }
        if let event { sides[index].todo += sides[index].session.handle(event) }
        return nil
    }
}

@Suite("Whole exchanges")
struct SyncExchangeTests {
    private static let small: SyncLimits = {
        var limits = SyncLimits()
        limits.batchBytesMax = 100
        limits.bytesInFlightMax = 250
        limits.batchesInFlightMax = 3
        return limits
    }()

    private static func offices(_ random: inout SeededRandom) -> (child: MemoryStore, hub: MemoryStore) {
        let child = MemoryStore(hub: false)
        let hub = MemoryStore(hub: true)
        child.write(random.below(30), bytesEach: random.below(60))
        hub.write(random.below(30), bytesEach: random.below(60))
        // One change set that is larger than a batch and a window.
        if random.oneIn(2) { hub.write(1, bytesEach: 700) }
        if random.oneIn(2) { child.write(1, bytesEach: 700) }
        child.write(random.below(5))
        hub.write(random.below(5))
        return (child, hub)
    }

    @Test("One session leaves both with the same, in whatever order things happen")
    func converges() {
        let seed = testSeed("exchange")
        var random = SeededRandom(seed: seed)
        for _ in 0..<300 {
            let (child, hub) = Self.offices(&random)
            var conversation = Conversation(child: child, hub: hub, limits: Self.small)
            let ends = conversation.run(&random)
            #expect(ends == [nil, nil], "seed \(seed)")
            #expect(child.held == hub.held, "seed \(seed)")
            #expect(child.cursor == hub.end, "seed \(seed)")
            #expect(hub.facts.contains(.compared(isEqual: true, at: hub.end)), "seed \(seed)")
        }
    }

    @Test("A line cut after any message loses nothing, and the next session finishes the work")
    func cutEverywhere() {
        let seed = testSeed("cut exchange")
        var random = SeededRandom(seed: seed)
        for _ in 0..<10 {
            let (child, hub) = Self.offices(&random)
            var whole = Conversation(child: child, hub: hub, limits: Self.small)
            _ = whole.run(&random)
            for cut in 0..<whole.delivered {
                let (child, hub) = Self.offices(&random)
                var broken = Conversation(child: child, hub: hub, limits: Self.small, deliveredMax: cut)
                _ = broken.run(&random)
                var next = Conversation(child: child, hub: hub, limits: Self.small)
                #expect(next.run(&random) == [nil, nil], "seed \(seed)")
                #expect(child.held == hub.held, "seed \(seed)")
                #expect(child.cursor == hub.end, "seed \(seed)")
            }
        }
    }

    @Test("A second session with nothing new moves nothing")
    func nothingNew() {
        var random = SeededRandom(seed: testSeed("nothing new"))
        let (child, hub) = Self.offices(&random)
        var first = Conversation(child: child, hub: hub, limits: Self.small)
        _ = first.run(&random)
        let applies = child.applies + hub.applies
        var second = Conversation(child: child, hub: hub, limits: Self.small)
        #expect(second.run(&random) == [nil, nil])
        #expect(child.applies + hub.applies == applies)
        // hello, welcome, the comparison, bye.
        #expect(second.delivered == 4)
        #expect(second.childTotals.sent.changeSets + second.childTotals.received.changeSets == 0)
    }

    @Test("The totals count what became durable")
    func totals() {
        var random = SeededRandom(seed: testSeed("totals"))
        let child = MemoryStore(hub: false)
        let hub = MemoryStore(hub: true)
        child.write(30)
        hub.write(20)
        var conversation = Conversation(child: child, hub: hub, limits: Self.small)
        _ = conversation.run(&random)
        #expect(conversation.childTotals.sent.changeSets == 30)
        #expect(conversation.childTotals.sent.rows == 60)
        #expect(conversation.childTotals.received.changeSets == 20)
        #expect(conversation.childTotals.received.rows == 40)
    }

    @Test("Tables that differ are noticed by both sides")
    func differingTables() {
        var random = SeededRandom(seed: testSeed("differing tables"))
        let (child, hub) = Self.offices(&random)
        child.spoilRoot()
        var conversation = Conversation(child: child, hub: hub, limits: Self.small)
        #expect(conversation.run(&random) == [nil, nil])
        #expect(hub.facts.contains(.compared(isEqual: false, at: hub.end)))
        #expect(child.facts.contains(.compared(isEqual: false, at: hub.end)))
    }
}
