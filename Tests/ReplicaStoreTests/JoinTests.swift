import CRM
import Causality
import GRDB
import SyncProtocol
import TestKit
import Testing

@testable import ReplicaStore

/// Joining rows as other nodes hold them, beside applying the writes that made them.
@Suite("Joining rows")
struct JoinTests {
    @Test("Joining and applying, in any order and repeatedly, gives the rows, clocks and sums of applying alone")
    func anyOrder() throws {
        var random = SeededRandom(seed: testSeed("join.anyOrder"))
        let (left, right) = (try Office.headOffice(), try Office.headOffice())
        let (oracle, joiner) = (try Office.headOffice(), try Office.headOffice())
        for round in 0..<4 as Range<Int64> {
            let writes = (0..<10).flatMap { Self.history(ofRow: 1 + 3 * (10 * round + $0), &random) }
            let (a, b) = (writes.filter { _ in random.below(2) == 0 }, writes.filter { _ in random.below(2) == 0 })
            let both = writes.filter { (a + b).contains($0) }
            try apply(a.shuffled(using: &random), at: left)
            try apply(b.shuffled(using: &random), at: right)
            try apply(both.shuffled(using: &random), at: oracle)
            try apply(both.filter { _ in random.below(3) == 0 }.shuffled(using: &random), at: joiner)
            for office in [left, right, left, right].shuffled(using: &random) {
                try join(office, into: joiner)
                try apply(both.filter { _ in random.below(4) == 0 }.shuffled(using: &random), at: joiner)
            }
            try join(joiner, into: left)
            let expected = try rows(of: oracle)
            try #require(try rows(of: joiner) == expected)
            try #require(try rows(of: left) == expected)
            try join(left, into: right)
        }
        for office in [joiner, left, right] {
            #expect(try office.replica.verify { _, _ in }.allSatisfy(\.isRight))
        }
    }

    private struct Write: Equatable {
        let id: Int64
        let operation: RowOperation
        let columns: ColumnMask
        let stamp: Stamp
        let values: [FieldValue]
    }

    /// Writes to three rows, two of them born in it, by three origins, with equal times now and then.
    private static func history(ofRow first: Int64, _ random: inout SeededRandom) -> [Write] {
        var writes: [Write] = []
        for row in first..<(first + 3) {
            let id = 2 << RowID.counterBits | row
            for number in 0..<8 {
                let isBirth = number == 0 && row < first + 2
                let stamp = Stamp(
                    time: HybridTimestamp(milliseconds: UInt64(1000 + (isBirth ? 0 : 1 + random.below(6)))),
                    origin: Origin(rawValue: UInt32(isBirth ? 2 : 2 + random.below(3)))!
                )
                guard !writes.contains(where: { $0.stamp == stamp && $0.id == id }) else { continue }
                let operation = isBirth ? .birth : [RowOperation.update, .delete, .restore][random.below(3)]
                var columns = TableDescription.activity.allColumns
                if !isBirth {
                    columns = operation == .update ? ColumnMask(column: [6, 8, 9][random.below(3)]) : []
                    if operation == .update, random.oneIn(3) { columns.formUnion(ColumnMask(column: 9)) }
                }
                let values = columns.numbers.map { column -> FieldValue in
                    let type = TableDescription.activity.columns[column].type
                    return random.oneIn(5)
                        ? .null : type.isInteger ? .integer(Int64(stamp.time.packed)) : .text("\(stamp) \(column)")
                }
                writes.append(
                    Write(id: id, operation: operation, columns: columns, stamp: stamp, values: Array(values))
                )
            }
        }
        return writes
    }

    private func apply(_ writes: [Write], at office: Office) throws {
        try office.replica.withWriter { writer in
            try writer.transaction {
                let merge = try writer.merge(of: .activity)
                let arena = FieldArena()
                for write in writes {
                    arena.load(write.columns, write.values)
                    let row = RowWrite(
                        id: write.id,
                        operation: write.operation,
                        columns: write.columns,
                        stamp: write.stamp
                    )
                    try merge.apply(row, arena)
                }
            }
        }
    }

    private func states(of office: Office) throws -> TableStates {
        try office.replica.read { reader in
            let source = try RowStateSource(.activity, reader.db)
            var rows: [RowState] = []
            var after: Int64 = 0
            while true {
                let piece = try source.states(after: after, bytesMax: 1)
                let bytes = try RowStates.encoded([piece.rows], schemaVersion: 1, compressor: nil)
                let read = try bytes.withUnsafeBytes { try RowStatesReader($0, decompressor: ZstdDecompressor()) }
                rows += read.blocks.flatMap { TableStates($0).rows }
                if piece.isLast { break }
                after = piece.lastID
            }
            return TableStates(
                number: TableDescription.activity.number,
                columnCount: TableDescription.activity.columns.count,
                rows: rows
            )
        }
    }

    private func join(_ source: Office, into office: Office) throws {
        let bytes = try RowStates.encoded(
            [try states(of: source)],
            schemaVersion: 1,
            compressor: ZstdCompressor()
        )
        let reader = try bytes.withUnsafeBytes { try RowStatesReader($0, decompressor: ZstdDecompressor()) }
        try office.replica.withWriter { writer in _ = try writer.transaction { try writer.join(reader) } }
    }

    /// The activities wherever they lie, as the file holds them.
    private func rows(of office: Office) throws -> [String] {
        try office.replica.read { reader in
            try ["activity", "activityGraveyard"].flatMap { place in
                try Row.fetchAll(reader.db, sql: "SELECT * FROM \(place) ORDER BY id").map {
                    place + " " + $0.databaseValues.map(\.description).joined(separator: "|")
                }
            }
        }
    }
}
