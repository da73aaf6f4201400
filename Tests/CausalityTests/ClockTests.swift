import Causality
import TestKit
import Testing

@Suite("Hybrid logical clock")
struct ClockTests {
    @Test("A clock set back still gives later timestamps")
    func wallClockBackwards() throws {
        var clock = HybridLogicalClock()
        let first = try clock.tick(wallMilliseconds: 1_000_000)
        let second = try clock.tick(wallMilliseconds: 10)
        #expect(second > first)
        #expect(second.milliseconds == 1_000_000)
    }

    @Test("What is written after accepting another's work is later than it, however slow the wall clock")
    func witness() throws {
        var clock = HybridLogicalClock()
        let remote = HybridTimestamp(milliseconds: 5_000_000)
        clock.witness(remote)
        #expect(try clock.tick(wallMilliseconds: 1) > remote)
    }

    @Test("A full counter carries into the milliseconds")
    func counterCarries() throws {
        let full = try #require(HybridTimestamp(packed: 7 << 16 | 0xFFFF))
        var clock = HybridLogicalClock(latest: full)
        let next = try clock.tick(wallMilliseconds: 0)
        #expect(next.milliseconds == 8)
        #expect(next.counter == 0)
    }

    @Test("A clock at the end of its range refuses instead of going back")
    func exhausted() {
        var clock = HybridLogicalClock(latest: .max)
        #expect(throws: ClockExhausted.self) { try clock.tick(wallMilliseconds: 0) }
        #expect(clock.latest == .max)
    }

    @Test("Timestamps rise over restarts, jumps of the clock and messages from anywhere")
    func monotonic() throws {
        var random = SeededRandom(seed: testSeed("clock"))
        var clock = HybridLogicalClock()
        var last = HybridTimestamp.zero
        for _ in 0..<20_000 {
            switch random.below(4) {
            case 0: clock.witness(HybridTimestamp(milliseconds: UInt64(random.below(2_000_000))))
            case 1: clock = HybridLogicalClock(latest: clock.latest)
            default:
                let next = try clock.tick(wallMilliseconds: UInt64(random.below(1_000_000)))
                #expect(next > last)
                last = next
            }
        }
    }
}

@Suite("Stamps")
struct StampTests {
    @Test("Any two stamps are ordered, and equal only when they are the same")
    func totalOrder() throws {
        var random = SeededRandom(seed: testSeed("stamps"))
        let stamps = (0..<300).map { _ in
            Stamp(
                time: HybridTimestamp(milliseconds: UInt64(random.below(8))),
                origin: Origin(rawValue: UInt32(random.below(5))) ?? .none
            )
        }
        for a in stamps {
            for b in stamps {
                #expect([a < b, a == b, b < a].count { $0 } == 1)
                for c in stamps.prefix(30) where a < b && b < c { #expect(a < c) }
            }
        }
    }

    @Test("Equal times are decided by the origin number")
    func tie() throws {
        let time = HybridTimestamp(milliseconds: 5)
        let second = Stamp(time: time, origin: try #require(Origin(rawValue: 2)))
        let third = Stamp(time: time, origin: try #require(Origin(rawValue: 3)))
        #expect(second < third)
    }
}

@Suite("Identifiers")
struct RowIDTests {
    @Test("A row is printed as its branch and its number there, and read back")
    func printed() throws {
        let origin = try #require(Origin(rawValue: 17))
        let id = RowID(origin: origin, counter: 4711)
        #expect(id.description == "17-4711")
        #expect(RowID(printed: "17-4711") == id)
        #expect(RowID(rawValue: id.rawValue) == id)
        #expect(RowID.range(of: origin).contains(id.rawValue))
    }

    @Test(
        "What is not an identifier is not read as one",
        arguments: [
            "", "17", "17-", "-5", "0-1", "1-0", "1-2-3", "+1-2", "1-+2", "1048576-1", "1-8796093022208", "۱-۲",
        ]
    )
    func refused(text: String) {
        #expect(RowID(printed: text) == nil)
    }

    @Test("The ranges of two origins never touch")
    func ranges() throws {
        let first = RowID.range(of: try #require(Origin(rawValue: 1)))
        let second = RowID.range(of: try #require(Origin(rawValue: 2)))
        #expect(first.upperBound < second.lowerBound)
        #expect(RowID.range(of: try #require(Origin(rawValue: Origin.rawValueMax))).upperBound == Int64.max)
    }
}
