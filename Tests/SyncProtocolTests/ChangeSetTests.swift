import Causality
import TestKit
import Testing

@testable import SyncProtocol

@Suite("Change set content")
struct ChangeSetTests {
    @Test("What was written is what is read")
    func roundTrip() throws {
        var random = SeededRandom(seed: testSeed("change set round trip"))
        for _ in 0..<300 {
            let changeSet = Self.changeSet(&random)
            let content = try changeSet.content()
            let read = try content.withUnsafeBytes { ChangeSet(try ChangeSetReader($0)) }
            #expect(read.header == changeSet.header)
            #expect(read.tables == changeSet.tables.map(Self.sorted))
            #expect(try read.content() == content)
        }
    }

    @Test("The order in which rows were written does not change the bytes")
    func canonical() throws {
        var random = SeededRandom(seed: testSeed("change set order"))
        for _ in 0..<100 {
            let changeSet = Self.changeSet(&random)
            let shuffled = ChangeSet(
                header: changeSet.header,
                tables: changeSet.tables.map {
                    TableChanges(
                        number: $0.number,
                        columnCount: $0.columnCount,
                        rows: $0.rows.shuffled(using: &random)
                    )
                }.shuffled(using: &random)
            )
            #expect(try shuffled.content() == changeSet.content())
        }
    }

    @Test("Arbitrary and damaged bytes are refused or read, but never trap")
    func fuzz() throws {
        var random = SeededRandom(seed: testSeed("change set fuzz"))
        let samples = try (0..<30).map { _ in try Self.changeSet(&random).content() }
        var accepted = 0
        for round in 0..<10_000 {
            var bytes = samples[random.below(samples.count)]
            switch random.below(5) {
            case 0: bytes = (0..<random.below(200)).map { _ in UInt8(random.below(256)) }
            case 1: bytes = Array(bytes.prefix(random.below(bytes.count)))
            case 2:
                for _ in 0...random.below(3) { bytes[random.below(bytes.count)] = UInt8(random.below(256)) }
            case 3: bytes[random.below(bytes.count)] ^= UInt8(1 << random.below(8))
            default:
                let place = random.below(bytes.count)
                bytes.replaceSubrange(place..<place, with: [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F])
            }
            if round % 7 == 0, !bytes.isEmpty { bytes[0] = UInt8(1 + round % 2) }
            bytes.withUnsafeBytes { buffer in
                guard let reader = try? ChangeSetReader(buffer) else { return }
                accepted += 1
                #expect(ChangeSet(reader).tables.reduce(0) { $0 + $1.rows.count } == reader.rowCount)
            }
        }
        #expect(accepted > 0)
    }

    @Test("A count that the bytes cannot hold is refused before anything is allocated")
    func lyingCount() {
        // Header of 1:1 with no context, then 2^60 table blocks.
        let bytes: [UInt8] =
            [1, 1, 1, 1, 0, 0] + [UInt8](repeating: 0, count: 8) + [
                0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10,
            ]
        #expect(throws: ChangeSetFailure.self) { try bytes.withUnsafeBytes { _ = try ChangeSetReader($0) } }
    }

    @Test("A change set of a later format says what to do")
    func laterFormat() {
        #expect(throws: ChangeSetFailure.unknownFormat(9)) {
            try [UInt8(9), 1, 1].withUnsafeBytes { _ = try ChangeSetReader($0) }
        }
    }

    @Test("The chain covers every byte of the content and everything before")
    func chain() throws {
        var random = SeededRandom(seed: testSeed("chain"))
        let content = try Self.changeSet(&random).content()
        let chain = content.withUnsafeBytes { ChangeChain.empty.appending(content: $0) }
        for index in content.indices {
            var changed = content
            changed[index] ^= 1
            #expect(changed.withUnsafeBytes { ChangeChain.empty.appending(content: $0) } != chain)
        }
        #expect(content.withUnsafeBytes { chain.appending(content: $0) } != chain)
    }

    @Test("A compressed block that announces too much is refused unread")
    func zstdLimits() throws {
        let frame = ZstdCompressor().compress([UInt8](repeating: 7, count: 1 << 20))
        let decompressor = ZstdDecompressor()
        #expect(throws: ZstdFailure.tooLarge(1 << 20, limit: 1 << 19)) {
            try frame.withUnsafeBytes { _ = try decompressor.decompress($0, sizeMax: 1 << 19) }
        }
        let whole = try frame.withUnsafeBytes { try decompressor.decompress($0, sizeMax: 1 << 20) }
        #expect(whole.count == 1 << 20)
        for length in [0, 1, 5, frame.count - 1] {
            #expect(throws: ZstdFailure.self) {
                try frame[..<length].withUnsafeBytes { _ = try decompressor.decompress($0, sizeMax: 1 << 20) }
            }
        }
    }

    // MARK: Samples

    static func sorted(_ table: TableChanges) -> TableChanges {
        TableChanges(
            number: table.number,
            columnCount: table.columnCount,
            rows: table.rows.sorted { $0.id < $1.id }
        )
    }

    static func changeSet(_ random: inout SeededRandom) -> ChangeSet {
        let origin = Origin(rawValue: UInt32(1 + random.below(300))) ?? .none
        let hubs = random.oneIn(2) ? [] : [LogPrefix(position: random.next() >> 30, digest: random.next())]
        let lives = random.oneIn(3) ? [ChangeSetID(origin: origin, seq: 1 + random.next() >> 40)] : []
        let header = ChangeSetHeader(
            id: ChangeSetID(origin: origin, seq: 1 + random.next() >> 40),
            schemaVersion: 1 + random.below(3),
            context: CausalContext(lives: lives, hubs: hubs),
            previousChain: random.next(),
            extensions: extensions(origin, &random)
        )
        var tables: [TableChanges] = []
        for number in 1...5 where random.oneIn(2) {
            tables.append(table(number, origin, &random))
        }
        return ChangeSet(header: header, tables: tables)
    }

    private static func extensions(_ origin: Origin, _ random: inout SeededRandom) -> ChangeSetExtensions {
        var extensions = ChangeSetExtensions()
        guard random.oneIn(3) else { return extensions }
        let chain = (0..<32).map { _ in UInt8(random.below(256)) }
        extensions.firstIdentity = ChangeChain(bytes: chain).map {
            FirstIdentity(id: ChangeSetID(origin: origin, seq: 1 + random.next() >> 40), chain: $0)
        }
        extensions.renumbered = (0..<random.below(4)).map { number in
            RenumberedRow(
                table: 1 + number,
                former: RowID(origin: origin, counter: 1 + Int64(random.below(1000))),
                present: RowID(origin: origin, counter: 1 + Int64(random.below(1000)))
            )
        }
        if random.oneIn(2) { extensions[1000] = [] }
        return extensions
    }

    private static func table(_ number: Int, _ origin: Origin, _ random: inout SeededRandom) -> TableChanges {
        let columnCount = random.oneIn(5) ? 64 : 4 + random.below(8)
        let all = ColumnMask(first: columnCount).subtracting(ColumnMask(column: 0))
        var rows: [RowChange] = []
        var counter: Int64 = 0
        for _ in 0..<(1 + random.below(40)) {
            counter += Int64(1 + random.below(3))
            let operation = RowOperation(rawValue: UInt8(random.below(4))) ?? .update
            let columns =
                operation == .birth ? all : ColumnMask(rawValue: random.next() & random.next()).intersection(all)
            var values: [FieldValue] = []
            for column in columns.numbers { values.append(value(column: column, &random)) }
            rows.append(
                RowChange(
                    id: RowID(origin: origin, counter: counter),
                    operation: operation,
                    columns: columns,
                    values: values
                )
            )
        }
        return TableChanges(number: number, columnCount: columnCount, rows: rows)
    }

    private static func value(column: Int, _ random: inout SeededRandom) -> FieldValue {
        if random.oneIn(3) { return .null }
        switch column % 3 {
        case 0:
            let texts = ["", "مریم رضایی", "a", "پیگیری ثبت‌نام", String(repeating: "س", count: random.below(300))]
            return .text(texts[random.below(texts.count)])
        case 1:
            let numbers = [0, -1, 1, .max, .min, Int64(bitPattern: random.next() >> UInt64(random.below(64)))]
            return .integer(numbers[random.below(numbers.count)])
        default:
            return .blob((0..<random.below(20)).map { _ in UInt8(random.below(256)) })
        }
    }
}
