import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// Comparing a branch with head office, row by row, and repairing the branch. The questions stand in
// `Comparison.swift`.

// MARK: - Head office answers

extension Replica {
    /// Answers a question of a comparison.
    func answerComparison(_ question: SyncQuestion, from peer: SyncPeer) throws -> SyncAnswer {
        let organisation = node.organisation ?? []
        return try read { reader in
            try question.payload.withUnsafeBytes { bytes in
                do {
                    var payload = ByteReader(bytes)
                    var answer = ByteWriter(capacity: 4096)
                    guard try SharedKnowledge(&payload, child: peer.origin).holds(in: reader.db) else {
                        return SyncAnswer(payload: [0])
                    }
                    answer.byte(1)
                    switch QuestionKind(rawValue: question.kind) {
                    case .bucketSums: try Self.bucketSums(&payload, reader, &answer)
                    case .bucketRows: try Self.bucketRows(&payload, reader, organisation, &answer)
                    default: try Self.rowStates(&payload, reader, &answer)
                    }
                    try payload.finish()
                    return SyncAnswer(payload: answer.bytes)
                } catch let failure as MalformedBytes {
                    throw Refusal(.invalidChange, "A question about rows cannot be read. \(failure)")
                }
            }
        }
    }

    private static func bucketSums(
        _ payload: inout ByteReader,
        _ reader: ReplicaReader,
        _ answer: inout ByteWriter
    ) throws {
        let roots = try DigestBuckets.tableRoots(reader.db)
        var differing: [Int] = []
        for _ in 0..<(try payload.count(bytesEach: 18, max: 256)) {
            let number = Int(clamping: try payload.varint())
            let rows = try payload.zigzag()
            let root = DigestSum(rows: rows, sum1: try payload.fixed64(), sum2: try payload.fixed64())
            if reader.schema.table(number: number) != nil, roots[number] ?? .zero != root { differing.append(number) }
        }
        answer.varint(UInt64(differing.count))
        for number in differing {
            answer.varint(UInt64(number))
            for sum in try DigestBuckets.buckets(of: number, reader.db) { answer.fixed64(sum.folded) }
        }
    }

    private static func bucketRows(
        _ payload: inout ByteReader,
        _ reader: ReplicaReader,
        _ organisation: [UInt8],
        _ answer: inout ByteWriter
    ) throws {
        let table = try payload.table(reader.schema)
        let found = try BucketRows(
            try payload.buckets(),
            of: table,
            organisation: organisation,
            rowsMax: Comparison.rowsMax,
            reader.db
        )
        answer.varint(UInt64(found.answered))
        answer.varint(UInt64(found.damaged.count))
        for bucket in found.damaged { answer.varint(UInt64(bucket)) }
        answer.varint(UInt64(found.rows.count))
        var last: Int64 = 0
        for row in found.rows {
            answer.varint(UInt64(row.id - last))
            answer.fixed64(row.hash)
            last = row.id
        }
    }

    private static func rowStates(
        _ payload: inout ByteReader,
        _ reader: ReplicaReader,
        _ answer: inout ByteWriter
    ) throws {
        let table = try payload.table(reader.schema)
        let ids = try payload.ascendingIdentifiers(max: Comparison.statesMax)
        let source = try RowStateSource(table, reader.db)
        var states: [RowState] = []
        var (bytes, answered) = (0, 0)
        for id in ids {
            if let state = try source.state(of: id) {
                bytes += state.byteCount
                if answered > 0, bytes > Comparison.stateBytesMax { break }
                states.append(state)
            }
            answered += 1
        }
        answer.varint(UInt64(answered))
        let encoded = try RowStates.encoded(
            [TableStates(number: table.number, columnCount: table.columns.count, rows: states)],
            schemaVersion: reader.schema.version,
            compressor: ZstdCompressor()
        )
        answer.raw(encoded)
    }
}

extension RowState {
    /// About how many bytes it takes.
    fileprivate var byteCount: Int {
        values.reduce(32) { sum, value in
            switch value {
            case .null: sum + 1
            case .integer: sum + 9
            case .text(let text): sum + text.utf8.count
            case .blob(let bytes): sum + bytes.count
            }
        }
    }
}

// MARK: - A branch asks

extension Replica {
    /// Asks for a comparison at the next contact; with `repairs`, for a repair.
    package func wish(_ wish: ComparisonWish) { comparisonWish.withLock { $0 = wish } }

    /// How many rows the last repair has put in place.
    package var lastRepair: Int { lastRepaired.withLock { $0 } }

    /// A step of the consultation: when both know the same and the sums differ, or somebody wants to know, looks for
    /// the rows that differ.
    func compare(_ occasion: ConsultationOccasion) throws -> SyncStep {
        guard case .during(.settled(let prefix, let ownSeq, let isEqual)) = occasion else { return .goOn }
        let wish = comparisonWish.withLock { $0 }
        if isEqual == true { try forgetDifferences() }
        guard isEqual == false || wish != .none else { return .goOn }
        comparisonWish.withLock { $0 = .none }
        // Tables and columns that only one of both knows are no difference.
        guard contacts.withLock({ $0.own.schema }) == UInt32(schema.version) else { return .goOn }
        let child = ChangeSetID(origin: node.origin, seq: ownSeq)
        let knowledge = SharedKnowledge(prefix: prefix, child: child)
        let question = try read { reader -> SyncQuestion? in
            guard try knowledge.holds(in: reader.db) else { return nil }
            let roots = try DigestBuckets.tableRoots(reader.db)
            var payload = ByteWriter(capacity: 512)
            knowledge.write(to: &payload)
            payload.varint(UInt64(schema.tables.count))
            for table in schema.tables {
                let root = roots[table.number] ?? .zero
                payload.varint(UInt64(table.number))
                payload.zigzag(root.rows)
                payload.fixed64(root.sum1)
                payload.fixed64(root.sum2)
            }
            return SyncQuestion(kind: QuestionKind.bucketSums.rawValue, payload: payload.bytes)
        }
        guard let question else { return .goOn }
        comparison.withLock { $0 = Comparison(knowledge: knowledge, repairs: wish == .compare(repairs: true)) }
        return .ask(question)
    }

    private func forgetDifferences() throws {
        let isAny = try read { reader in
            try Bool.fetchOne(
                reader.db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM difference WHERE fromHub = 1)")
            ) == true
                || (LocalFact.read(.differingRows, reader.db) ?? 0) > 0
        }
        guard isAny else { return }
        try withWriter { writer in
            try writer.transaction {
                try writer.db.cachedStatement(sql: "DELETE FROM difference WHERE fromHub = 1").execute()
                try writer.note(.differingRows, 0)
            }
        }
    }

    /// Takes an answer of a comparison, and says what is asked next.
    func takeComparison(_ answer: SyncAnswer, to question: SyncQuestion) throws -> SyncStep {
        guard var comparison = comparison.withLock({ $0 }) else { return .goOn }
        let isAnswered = try answer.payload.withUnsafeBytes { bytes in
            do {
                var payload = ByteReader(bytes)
                guard try payload.byte() == 1 else { return false }
                switch QuestionKind(rawValue: question.kind) {
                case .bucketSums: try takeBucketSums(&payload, &comparison)
                case .bucketRows: try takeBucketRows(&payload, &comparison)
                default: try takeRowStates(&payload, &comparison)
                }
                return true
            } catch let failure as MalformedBytes {
                throw Refusal(.invalidChange, "Head office's answer about rows cannot be read. \(failure)")
            }
        }
        // Somebody has written meanwhile: the next end that both reach is the next chance.
        guard isAnswered else {
            self.comparison.withLock { $0 = nil }
            return .goOn
        }
        if let next = try nextQuestion(comparison) {
            self.comparison.withLock { $0 = comparison }
            return .ask(next)
        }
        self.comparison.withLock { $0 = nil }
        return try conclude(comparison)
    }

    private func nextQuestion(_ comparison: Comparison) throws -> SyncQuestion? {
        var payload = ByteWriter(capacity: 1024)
        comparison.knowledge.write(to: &payload)
        if let (table, buckets) = comparison.buckets.first, comparison.found.count < Comparison.foundMax {
            payload.varint(UInt64(table))
            let asked = buckets.prefix(Comparison.bucketsMax)
            payload.varint(UInt64(asked.count))
            for bucket in asked { payload.varint(UInt64(bucket)) }
            return SyncQuestion(kind: QuestionKind.bucketRows.rawValue, payload: payload.bytes)
        }
        let ids = comparison.nextIdentifiers
        guard let table = ids.table, comparison.damagedAtHub == 0 else { return nil }
        payload.varint(UInt64(table))
        payload.ascending(ids.ids)
        return SyncQuestion(kind: QuestionKind.rowStates.rawValue, payload: payload.bytes)
    }

    private func takeBucketSums(_ payload: inout ByteReader, _ comparison: inout Comparison) throws {
        var buckets: [Int: Set<Int>] = [:]
        let tables = try payload.count(bytesEach: 1 + 8 * DigestBuckets.bucketCount, max: 256)
        for _ in 0..<tables {
            let table = try payload.table(schema)
            let own = try read { try DigestBuckets.buckets(of: table.number, $0.db) }
            for bucket in 0..<DigestBuckets.bucketCount where try payload.fixed64() != own[bucket].folded {
                buckets[table.number, default: []].insert(bucket)
            }
        }
        try payload.finish()
        // What does not add up here is looked at as well: a row that has changed by itself is in no sum.
        for row in try read({ try Row.fetchAll($0.db, sql: "SELECT tableNumber, bucket FROM damagedBucket") }) {
            buckets[row[0], default: []].insert(row[1])
        }
        comparison.buckets = buckets.sorted { $0.key < $1.key }.map { ($0.key, $0.value.sorted()) }
        comparison.lookedAt = comparison.buckets
    }

    private func takeBucketRows(_ payload: inout ByteReader, _ comparison: inout Comparison) throws {
        guard let (number, buckets) = comparison.buckets.first, let table = schema.table(number: number) else {
            throw MalformedBytes.outOfRange("an answer that was not asked for", offset: 0)
        }
        let answered = Int(clamping: try payload.varint())
        guard (1...buckets.count).contains(answered) else {
            throw MalformedBytes.outOfRange("\(answered) buckets", offset: payload.offset)
        }
        comparison.damagedAtHub += try payload.buckets().count
        var theirs: [Int64: UInt64] = [:]
        var last: Int64 = 0
        for _ in 0..<(try payload.count(bytesEach: 9)) {
            last = try payload.nextIdentifier(after: last)
            theirs[last] = try payload.fixed64()
        }
        try payload.finish()
        let organisation = node.organisation ?? []
        let own = try read { reader in
            try BucketRows(
                Array(buckets.prefix(answered)),
                of: table,
                organisation: organisation,
                rowsMax: .max,
                reader.db
            )
        }
        for row in own.rows {
            guard let hash = theirs.removeValue(forKey: row.id) else {
                comparison.found.append((number, row.id, .extra))
                continue
            }
            if hash != row.hash { comparison.found.append((number, row.id, .differs)) }
        }
        comparison.found += theirs.keys.map { (number, $0, .missing) }
        comparison.found.sort { ($0.table, $0.id) < ($1.table, $1.id) }
        comparison.buckets[0].buckets.removeFirst(answered)
        if comparison.buckets[0].buckets.isEmpty { comparison.buckets.removeFirst() }
    }

    private func takeRowStates(_ payload: inout ByteReader, _ comparison: inout Comparison) throws {
        let asked = comparison.nextIdentifiers
        guard let number = asked.table, let table = schema.table(number: number) else { return }
        let answered = Int(clamping: try payload.varint())
        guard (1...max(asked.ids.count, 1)).contains(answered) else {
            throw MalformedBytes.outOfRange("\(answered) rows", offset: payload.offset)
        }
        let states: RowStatesReader
        do {
            states = try RowStatesReader(try payload.raw(payload.remaining), decompressor: ZstdDecompressor())
        } catch let failure as ChangeSetFailure {
            throw Refusal(.invalidChange, "Head office's rows cannot be read. \(failure)")
        }
        guard states.blocks.allSatisfy({ $0.number == number }) else {
            throw MalformedBytes.outOfRange("a table that was not asked for", offset: 0)
        }
        let ids = Array(asked.ids.prefix(answered))
        let range = comparison.done..<(comparison.done + answered)
        if comparison.named.count < Self.namedRowsMax {
            let theirs = Dictionary(
                states.blocks.flatMap { TableStates($0).rows }.map { ($0.id.rawValue, $0) },
                uniquingKeysWith: { first, _ in first }
            )
            comparison.named += try read { reader in
                let source = try RowStateSource(table, reader.db)
                return comparison.found[range].compactMap { difference in
                    guard let id = RowID(rawValue: difference.id) else { return nil }
                    let own = try? source.state(of: difference.id)
                    let columns = table.differing(own, theirs[difference.id])
                    return RowDifference(table: table.name, id: id, kind: difference.kind, columns: columns)
                }
            }
        }
        comparison.done += answered
        // What was wrong is named before it is put right.
        if comparison.repairs {
            comparison.repaired += try repair(ids, of: table, states, comparison.knowledge)
        }
    }

    /// Keeps what was found; after a repair, meets head office again at once, to compare.
    private func conclude(_ comparison: Comparison) throws -> SyncStep {
        let now = Int64(clamping: wallClock())
        let isRepaired = comparison.repairs && comparison.damagedAtHub == 0
        try withWriter { writer in
            try writer.transaction {
                if isRepaired {
                    // Also when all rows were equal: then only the sums kept of them were wrong.
                    for (number, buckets) in comparison.lookedAt {
                        guard let table = schema.table(number: number) else { continue }
                        try writer.recount(Set(buckets), of: table)
                    }
                }
                try writer.db.cachedStatement(sql: "DELETE FROM difference WHERE fromHub = 1").execute()
                try writer.note(.comparedAt, now)
                try writer.note(.differingRows, Int64(isRepaired ? 0 : comparison.found.count))
                try writer.note(.damagedAtHub, comparison.damagedAtHub == 0 ? nil : Int64(comparison.damagedAtHub))
                guard !isRepaired else { return }
                for row in comparison.named { try writer.note(row, fromHub: true) }
            }
        }
        lastRepaired.withLock { $0 = comparison.repaired }
        return isRepaired && !comparison.lookedAt.isEmpty ? .reconnect : .goOn
    }

    /// Puts head office's rows in the place of this node's, if both still know the same.
    private func repair(
        _ ids: [Int64],
        of table: TableDescription,
        _ states: RowStatesReader,
        _ knowledge: SharedKnowledge
    ) throws -> Int {
        try withWriter { writer in
            try writer.transaction {
                // Sealing, which comes first, may have made a change set: nothing of it is overwritten then.
                guard try knowledge.holds(in: writer.db) else { return 0 }
                let merge = try writer.merge(of: table)
                var left = Set(ids)
                for block in states.blocks {
                    try table.checkTypes(of: block.values, in: "A repair")
                    var row = block.makeCursor()
                    while row.advance() {
                        guard left.remove(row.values.id) != nil else { continue }
                        let clock = row.clock.restricted(toColumns: table.columns.count)
                        try merge.replace(row.values.id, with: clock, isAlive: row.isAlive, row.values)
                    }
                }
                // Head office has never heard of these.
                for id in left { try merge.replace(id, with: nil, isAlive: false, NoFields()) }
                if table.number == TableDescription.customer.number {
                    for id in ids { try indexForSearch(id, writer) }
                }
                try writer.noteMatching(ids, of: table)
                return ids.count
            }
        }
    }
}

extension Comparison {
    /// The rows whose states are asked for next: of one table.
    fileprivate var nextIdentifiers: (table: Int?, ids: [Int64]) {
        let limit = repairs ? found.count : min(found.count, Replica.namedRowsMax)
        guard done < limit else { return (nil, []) }
        let table = found[done].table
        let rows = found[done..<limit].prefix { $0.table == table }.prefix(Self.statesMax)
        return (table, rows.map(\.id))
    }
}

extension TableDescription {
    /// The names of the columns in which two nodes' rows differ, in value or in stamp.
    fileprivate func differing(_ own: RowState?, _ other: RowState?) -> [String] {
        guard let own, let other else { return [] }
        let (ownValues, otherValues) = (own.valuesByColumn, other.valuesByColumn)
        return columns.dropFirst().filter { column in
            own.clock.stamp(ofColumn: column.number) != other.clock.stamp(ofColumn: column.number)
                || !(ownValues[column.number] ?? .null).isStoredAs(otherValues[column.number] ?? .null)
        }.map(\.name)
    }
}

extension RowState {
    fileprivate var valuesByColumn: [Int: FieldValue] {
        var result: [Int: FieldValue] = [:]
        for (index, column) in clock.columns.numbers.enumerated() { result[column] = values[index] }
        return result
    }
}

extension ReplicaWriter {
    /// Counts buckets again from their rows, and forgets that they were damaged. Part of the present transaction.
    func recount(_ buckets: Set<Int>, of table: TableDescription) throws {
        let hasher = RowHasher(organisation: node.organisation ?? [], table: table.number)
        var counted: [Int: DigestSum] = [:]
        let rows = try RawStatement("SELECT \(table.columnList) FROM \(table.name)", in: db)
        defer { rows.reset() }
        while try rows.step() {
            let id = rows.integer(0)
            let bucket = RowHasher.bucket(of: id)
            guard buckets.contains(bucket) else { continue }
            counted[bucket, default: .zero] += hasher.contribution(of: rows, id: id, in: table)
        }
        selfCheck = nil
        for bucket in buckets.sorted() {
            try digests.replace(counted[bucket] ?? .zero, table: table.number, bucket: bucket)
            try db.cachedStatement(sql: "DELETE FROM damagedBucket WHERE tableNumber = ? AND bucket = ?").execute(
                arguments: [table.number, bucket]
            )
        }
        for row in try Row.fetchAll(
            db.cachedStatement(sql: "SELECT id FROM difference WHERE fromHub = 0 AND tableNumber = ?"),
            arguments: [table.number]
        ) where buckets.contains(RowHasher.bucket(of: row[0])) {
            try db.cachedStatement(sql: "DELETE FROM difference WHERE fromHub = 0 AND tableNumber = ? AND id = ?")
                .execute(arguments: [table.number, row[0] as Int64])
        }
        damagedBuckets = nil
    }
}
