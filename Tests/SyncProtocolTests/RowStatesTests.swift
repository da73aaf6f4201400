import Causality
import Foundation
import SyncProtocol
import TestKit
import Testing

/// Rows as they are, in bytes: what a snapshot and a repair carry.
@Suite("Row states")
struct RowStatesTests {
    @Test("Rows come back as they were, alive and deleted, with every stamp", arguments: [true, false])
    func roundTrip(isCompressed: Bool) throws {
        let bytes = try RowStates.encoded(
            Self.sample,
            schemaVersion: 3,
            compressor: isCompressed ? ZstdCompressor() : nil
        )
        let reader = try read(bytes)
        #expect(reader.schemaVersion == 3)
        #expect(reader.blocks.map(TableStates.init) == Self.sample)
        #expect(reader.rowCount == 4)
    }

    @Test("The bytes are those that were written when the format was first used")
    func golden() throws {
        let bytes = try RowStates.encoded(Self.sample, schemaVersion: 3, compressor: nil)
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("Golden/row-states.hex")
        let text = "states \(bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined())\n"
        let isWriting = ProcessInfo.processInfo.environment["PEYVAND_WRITE_GOLDEN"] != nil
        if isWriting, !FileManager.default.fileExists(atPath: file.path) {
            try text.write(to: file, atomically: true, encoding: .utf8)
        }
        #expect(try String(contentsOf: file, encoding: .utf8) == text)
    }

    @Test("Damaged and arbitrary bytes are refused and never trap")
    func damage() throws {
        var random = SeededRandom(seed: testSeed("rowStates.damage"))
        let bytes = try RowStates.encoded(Self.sample, schemaVersion: 3, compressor: nil)
        for _ in 0..<3000 {
            var damaged = bytes
            for _ in 0..<(1 + random.below(3)) {
                damaged[random.below(damaged.count)] = UInt8(truncatingIfNeeded: random.next())
            }
            if random.oneIn(4) { damaged.removeLast(random.below(damaged.count)) }
            if damaged == bytes { continue }
            #expect(throws: ChangeSetFailure.self) { try read(damaged) }
        }
    }

    @Test("Rows that contradict themselves are refused, even with the right checksum")
    func forged() throws {
        var random = SeededRandom(seed: testSeed("rowStates.forged"))
        let bytes = try RowStates.encoded(Self.sample, schemaVersion: 3, compressor: nil)
        for _ in 0..<3000 {
            var content = Array(bytes.dropFirst(8))
            content[1 + random.below(content.count - 1)] = UInt8(truncatingIfNeeded: random.next())
            // Some are other rows, and lawful; all others must be refused. None may trap.
            if let reader = try? read(checksummed(content)) { _ = reader.blocks.map(TableStates.init) }
        }
    }

    private func checksummed(_ body: [UInt8]) -> [UInt8] {
        let sum = body.withUnsafeBytes { ChangeChain.checksum(of: $0) }
        return (0..<8).map { UInt8(truncatingIfNeeded: sum >> (8 * UInt64($0))) } + body
    }

    private func read(_ bytes: [UInt8]) throws -> RowStatesReader {
        try bytes.withUnsafeBytes { try RowStatesReader($0, decompressor: ZstdDecompressor()) }
    }

    private static let sample: [TableStates] = {
        func stamp(_ time: UInt64, _ origin: Origin) -> Stamp {
            Stamp(time: HybridTimestamp(milliseconds: 1_800_000_000_000 + time), origin: origin)
        }
        let all = ColumnMask(first: 5).subtracting(ColumnMask(column: 0))
        let born = RowClock(birth: stamp(1, .child), columns: all)
        var edited = born
        _ = edited.merge(ColumnMask(column: 2), at: stamp(5, .other))
        var deleted = edited
        _ = deleted.merge([], at: stamp(9, .hub))
        // A row of which only one column is known yet.
        var partial = RowClock.unwritten
        _ = partial.merge(ColumnMask(column: 2), at: stamp(4, .child))
        func row(_ counter: Int64, _ isAlive: Bool, _ clock: RowClock, _ values: [FieldValue]) -> RowState {
            RowState(id: RowID(origin: .child, counter: counter), isAlive: isAlive, clock: clock, values: values)
        }
        let values: [FieldValue] = [.integer(7), .text("مریم رضایی"), .null, .blob([1, 2, 3])]
        return [
            TableStates(
                number: 1,
                columnCount: 5,
                rows: [row(1, true, born, values), row(2, true, edited, values), row(9, false, deleted, values)]
            ),
            TableStates(number: 4, columnCount: 5, rows: [row(1, true, partial, [.null, .text("تماس")])]),
        ]
    }()
}
