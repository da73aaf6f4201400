import Causality
import TestKit
import Testing

@testable import SyncProtocol

@Suite("Whole exchanges")
struct SyncExchangeTests {
    private static let small: SyncLimits = {
        var limits = SyncLimits()
        limits.batchBytesMax = 100
        limits.bytesInFlightMax = 250
        limits.batchesInFlightMax = 3
        limits.partBytesMax = 64
        return limits
    }()

    private static func offices(_ random: inout SeededRandom) -> (child: MemoryStore, hub: MemoryStore) {
        let child = MemoryStore(hub: false)
        let hub = MemoryStore(hub: true)
        child.write(random.below(30), bytesEach: random.below(60))
        hub.write(random.below(30), bytesEach: random.below(60))
        // One change set that is larger than a batch and a window: it goes in parts.
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

    @Test("After a cut in the middle of a large change set only the parts that are missing are sent")
    func resumes() {
        let seed = testSeed("resume")
        var random = SeededRandom(seed: seed)
        for toHub in [true, false] {
            let (child, hub) = (MemoryStore(hub: false), MemoryStore(hub: true))
            let (writer, reader) = toHub ? (child, hub) : (hub, child)
            writer.write(1, bytesEach: 6_400)
            var cuts = 0
            var limits = Self.small
            limits.partsInFlightMax = 2
            while reader.held != writer.held, cuts < 200 {
                var broken = Conversation(child: child, hub: hub, limits: limits, deliveredMax: 20)
                _ = broken.run(&random)
                cuts += 1
            }
            #expect(reader.held == writer.held, "seed \(seed)")
            // 101 parts of 64 bytes; none came twice.
            #expect(reader.partsSpooled == 101, "seed \(seed)")
            #expect(cuts > 5, "seed \(seed)")
        }
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
