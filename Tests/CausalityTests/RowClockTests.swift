import Causality
import TestKit
import Testing

@Suite("Row clock")
struct RowClockTests {
    struct Write: Hashable {
        let columns: ColumnMask
        let stamp: Stamp
    }

    @Test("Any order of any writes, with repeats, ends in the same clock")
    func convergence() throws {
        var random = SeededRandom(seed: testSeed("row clock"))
        for _ in 0..<2_000 {
            let writes = (0..<(1 + random.below(7))).map { _ in write(&random) }
            let expected = merged(writes)
            for _ in 0..<4 {
                let shuffled = (writes + writes.prefix(random.below(writes.count + 1))).shuffled(using: &random)
                #expect(merged(shuffled) == expected)
            }
        }
    }

    @Test("Each column bears its own greatest stamp, and the row the greatest of all")
    func definition() throws {
        var random = SeededRandom(seed: testSeed("row clock definition"))
        for _ in 0..<2_000 {
            let writes = (0..<(1 + random.below(7))).map { _ in write(&random) }
            let clock = merged(writes)
            #expect(clock.newest == writes.map(\.stamp).max())
            for column in 1..<8 {
                let stamps = writes.filter { $0.columns.contains(column: column) }.map(\.stamp)
                #expect(clock.stamp(ofColumn: column) == stamps.max() ?? .zero)
            }
        }
    }

    @Test("A write that was merged before changes nothing, and says so")
    func idempotent() throws {
        var random = SeededRandom(seed: testSeed("row clock idempotence"))
        for _ in 0..<2_000 {
            let write = write(&random)
            var clock = merged((0..<random.below(4)).map { _ in self.write(&random) } + [write])
            let before = clock
            let outcome = clock.merge(write.columns, at: write.stamp)
            #expect(clock == before)
            #expect(!outcome.isChanged && outcome.won.isEmpty && !outcome.decidesExistence)
        }
    }

    @Test("The stored form of a clock is read back as the same clock")
    func storage() throws {
        var random = SeededRandom(seed: testSeed("row clock storage"))
        for _ in 0..<2_000 {
            let clock = merged((0..<(1 + random.below(7))).map { _ in write(&random) })
            let fields = clock.fields(baseColumnCount: 8)
            let read = try read(fields, newest: clock.newest)
            #expect(read == clock)
        }
    }

    @Test("The clock of a row that was written whole takes no bytes")
    func wholeRow() {
        let stamp = Stamp(time: HybridTimestamp(milliseconds: 5), origin: .none)
        #expect(RowClock(birth: stamp, columns: ColumnMask(rawValue: 0b1111_1110)).fields(baseColumnCount: 8) == nil)
    }

    @Test("A column that joined the schema later takes the first value that is written to it")
    func laterColumn() throws {
        let one = try #require(Origin(rawValue: 1))
        let two = try #require(Origin(rawValue: 2))
        // The writer of 5 did not know column 7; the writer of 4 did.
        var clock = RowClock(
            birth: Stamp(time: HybridTimestamp(milliseconds: 5), origin: one),
            columns: ColumnMask(rawValue: 0b0111_1110)
        )
        let late = Stamp(time: HybridTimestamp(milliseconds: 4), origin: two)
        let outcome = clock.merge(ColumnMask(column: 7), at: late)
        #expect(outcome.won.contains(column: 7))
        #expect(clock.stamp(ofColumn: 7) == late)
    }

    @Test("Damaged bytes are reported, never trusted and never a crash")
    func damaged() throws {
        var random = SeededRandom(seed: testSeed("row clock damage"))
        for _ in 0..<20_000 {
            var bytes = merged((0..<4).map { _ in write(&random) }).fields(baseColumnCount: 3) ?? [8, 0]
            switch random.below(3) {
            case 0: bytes = (0..<random.below(20)).map { _ in UInt8(random.below(256)) }
            case 1: bytes[random.below(bytes.count)] ^= UInt8(1 << random.below(8))
            default: bytes = Array(bytes.prefix(random.below(bytes.count + 1)))
            }
            _ = try? read(bytes, newest: Stamp(time: HybridTimestamp(milliseconds: 9), origin: .none))
        }
    }

    private func read(_ fields: [UInt8]?, newest: Stamp) throws -> RowClock {
        guard let fields else { return try RowClock(newest: newest, fields: nil, baseColumnCount: 8) }
        return try fields.withUnsafeBytes { try RowClock(newest: newest, fields: $0, baseColumnCount: 8) }
    }

    private func merged(_ writes: [Write]) -> RowClock {
        var clock = RowClock.unwritten
        for write in writes {
            _ = clock.merge(write.columns, at: write.stamp)
        }
        return clock
    }

    /// One (time, origin) is one write, so its content follows from its stamp.
    private func write(_ random: inout SeededRandom) -> Write {
        let time = 1 + random.below(6)
        let origin = 1 + random.below(3)
        var content = SeededRandom(seed: UInt64(time * 10 + origin))
        let columnCount = content.oneIn(3) ? 6 : 8
        let all = ColumnMask(first: columnCount).subtracting(ColumnMask(column: 0))
        let columns = content.oneIn(4) ? all : ColumnMask(rawValue: content.next()).intersection(all)
        return Write(
            columns: columns,
            stamp: Stamp(
                time: HybridTimestamp(milliseconds: UInt64(time)),
                origin: Origin(rawValue: UInt32(origin)) ?? .none
            )
        )
    }
}
