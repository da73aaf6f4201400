import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// The queue of likely duplicates follows the log, as the search index does: it remembers up to which position it has
// noted who changed, and compares those again when there is time. Nothing is added to the cost of a write or a merge.
//
// Where much has changed, or nothing is known yet, everything is compared in memory, from one state of the rows, and
// written down in pieces; what was written meanwhile follows by the log.

extension Replica {
    /// What is followed in one transaction, so that others need not wait long.
    private static let changeSetsPerPiece = 1000
    /// So many changed customers are noted in one transaction, or those of one change set.
    private static let notedMax = 20_000
    /// Rows that are written down in one transaction.
    private static let rowsPerPiece = 10_000
    /// From so many changed customers on it is quicker to compare all, if they are more than a tenth of them.
    private static let changedMany = 2000
    /// After so many customers it is asked whether to go on.
    fileprivate static let customersPerCheckpoint = 1000
    /// So few are compared in no time, while somebody waits.
    private static let quicklyCompared = 2000

    private enum Piece {
        case more, done
        /// Everything has to be compared anew.
        case rebuild
    }

    /// How far the queue is behind the log.
    package struct MatchingLag: Sendable {
        /// The end of this node's log.
        package let end: UInt64
        package let isDone: Bool
    }

    /// Looks how far the queue is behind; cheap enough to be asked several times a second.
    package func matchingLag() throws -> MatchingLag {
        let isLoading = firstLoadProgress?.isFresh == true
        return try read { reader in
            let end = try Int64.fetchOne(reader.db.cachedStatement(sql: "SELECT max(position) FROM log")) ?? 0
            let due = try Bool.fetchOne(
                reader.db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM matchingDue)")
            )
            let matched = try LocalFact.read(.matchedPosition, reader.db)
            return MatchingLag(end: UInt64(clamping: end), isDone: isLoading || matched == end && due == false)
        }
    }

    /// Brings the queue to the end of the log, piece by piece, so that nobody waits long for the writer.
    ///
    /// - Parameters:
    ///   - progress: Told how many customers are compared, and of how many, when all have to be.
    ///   - checkpoint: Called again and again; what it throws ends the work, which goes on at the next call.
    package func followMatching(
        progress: (Int, Int) throws -> Void = { _, _ in },
        checkpoint: () throws -> Void = {}
    ) throws {
        try matchingTurn.withLock {
            try sealForeignWrites()
            while true {
                try checkpoint()
                switch try matchNextPiece() {
                case .done: return
                case .more: continue
                case .rebuild: try compareAll(progress, checkpoint)
                }
            }
        }
    }

    /// The same, if it is a matter of moments and nobody else is at it.
    ///
    /// - Returns: Whether the queue is at the end of the log.
    package func followMatchingQuickly(piecesMax: Int = 4) throws -> Bool {
        guard matchingTurn.try() else { return false }
        defer { matchingTurn.unlock() }
        for _ in 0..<piecesMax {
            switch try matchNextPiece() {
            case .done: return true
            case .more: continue
            case .rebuild:
                guard try read({ try $0.hasAtMost(Self.quicklyCompared, of: .customer) }) else { return false }
                try compareAll({ _, _ in }, {})
            }
        }
        return false
    }

    /// Compares everything anew, whatever is known.
    package func rebuildMatching(progress: (Int, Int) throws -> Void = { _, _ in }) throws {
        try matchingTurn.withLock { try compareAll(progress, {}) }
        try followMatching(progress: progress)
    }

    private func matchNextPiece() throws -> Piece {
        try withWriter { writer in
            guard let position = try writer.matchedPosition() else { return .rebuild }
            if position < writer.end.position {
                return try writer.transaction { try noteChanged(after: position, writer) }
            }
            let start = ContinuousClock.now
            let limit = matchingPace.withLock { $0.units }
            let due = try Int64.fetchAll(
                writer.db.cachedStatement(sql: "SELECT customer FROM matchingDue ORDER BY customer LIMIT ?"),
                arguments: [limit]
            )
            if due.isEmpty { return .done }
            if due.count == limit, try isMuchDue(writer) { return .rebuild }
            try writer.transaction {
                var tables = try MatchingTables(writer)
                try tables.take(due.compactMap(RowID.init(rawValue:)))
            }
            matchingPace.withLock { $0.took(ContinuousClock.now - start, for: due.count) }
            return .more
        }
    }

    private func isMuchDue(_ writer: ReplicaWriter) throws -> Bool {
        let due = try Int.fetchOne(writer.db.cachedStatement(sql: "SELECT count(*) FROM matchingDue")) ?? 0
        guard due >= Self.changedMany else { return false }
        return try ReplicaReader(writer.db, schema: schema).hasAtMost(due * 10, of: .customer)
    }

    /// Notes who was changed by the change sets after a position.
    private func noteChanged(after position: UInt64, _ writer: ReplicaWriter) throws -> Piece {
        let decompressor = ZstdDecompressor()
        let rows = try Row.fetchCursor(
            writer.db,
            sql: """
                SELECT position, CASE WHEN length(body) <= ? THEN body END, length(body) FROM log
                WHERE position > ? ORDER BY position LIMIT ?
                """,
            arguments: [LogBody.pieceBytes, Int64(clamping: position), Self.changeSetsPerPiece]
        )
        let followed: [TableDescription] = [.customer, .contactPoint, .identityDecision, .policy]
        var reached = position
        var changed: [Int: Set<Int64>] = [:]
        var count = 0
        while count < Self.notedMax, let row = try rows.next() {
            reached = UInt64(bitPattern: row[0] as Int64)
            // Its body was let go of before anybody looked.
            guard let length = row[2] as Int? else { return .rebuild }
            try withContent(of: row[1], isLarge: length > LogBody.pieceBytes, reached, decompressor, writer) { reader in
                for block in reader.blocks where followed.contains(where: { $0.number == block.number }) {
                    var cursor = block.makeCursor()
                    while cursor.advance() {
                        changed[block.number, default: []].insert(cursor.id)
                        count += 1
                    }
                }
            }
        }
        for table in followed { try writer.noteMatching(changed[table.number] ?? [], of: table) }
        if changed[TableDescription.policy.number] != nil {
            var tables = try MatchingTables(writer)
            try tables.takeNamed()
        }
        try writer.note(.matchedPosition, Int64(clamping: reached))
        return .more
    }

    // MARK: Everything

    /// What one state of the rows says.
    private struct Everything {
        var index = MatchingIndex()
        var ids: [RowID] = []
        let decisions: [CustomerPair: IdentityVerdict]
        /// The end of the log in this state.
        let end: Int64

        init(_ reader: ReplicaReader, _ checkpoint: () throws -> Void) throws {
            end = try Int64.fetchOne(reader.db.cachedStatement(sql: "SELECT max(position) FROM log")) ?? 0
            var points: [RowID: [RowValues]] = [:]
            try reader.forEachRow(.contactPoint) { row in
                let point = RowValues(row)
                if let customer = point.reference("customer") { points[customer, default: []].append(point) }
            }
            var decided: [RowValues] = []
            try reader.forEachRow(.identityDecision) { decided.append(RowValues($0)) }
            decisions = IdentityDecisions.states(of: decided)
            var (index, ids) = (MatchingIndex(named: try GenericValues.keys(from: reader)), [RowID]())
            try reader.forEachRow(.customer) { row in
                index.set(MatchingRecord(RowValues(row), contactPoints: points[row.id] ?? []))
                ids.append(row.id)
                if ids.count % Replica.customersPerCheckpoint == 0 { try checkpoint() }
            }
            (self.index, self.ids) = (index, ids)
        }
    }

    private func compareAll(_ progress: (Int, Int) throws -> Void, _ checkpoint: () throws -> Void) throws {
        try sealForeignWrites()
        let all = try read { try Everything($0, checkpoint) }
        let matches = try all.index.allMatches {
            try checkpoint()
            try progress($0, all.ids.count)
        }
        let clusters = CustomerClusters(decisions: all.decisions, links: matches.links)
        try progress(all.ids.count, all.ids.count)
        try withWriter { writer in
            try writer.transaction {
                for table in MatchingTables.names { try writer.db.execute(sql: "DELETE FROM \(table)") }
                try writer.note(.matchedPosition, nil)
                try writer.note(.matchedRules, writer.matchingRules)
                for key in all.index.comparing.genericValues {
                    try writer.db.cachedStatement(sql: "INSERT INTO genericKey VALUES (?)")
                        .execute(arguments: [Int64(bitPattern: key.rawValue)])
                }
            }
        }
        var keys: [(key: Int64, customer: Int64)] = []
        try inPieces(all.ids.count, checkpoint, "INSERT OR REPLACE INTO matchingRecord VALUES (?, ?, ?)") {
            place,
            statement in
            guard let record = all.index[all.ids[place]] else { return false }
            let customer = record.id.rawValue
            keys += record.keys.map { (Int64(bitPattern: $0.rawValue), customer) }
            statement.bind(1, customer)
            statement.bind(2, record.soundNumber)
            statement.bind(3, blob: [UInt8](MatchingTables.bytes(record.keys)))
            return true
        }
        // In the order of the table, so that each page is written once.
        keys.sort { $0 < $1 }
        try inPieces(keys.count, checkpoint, "INSERT OR REPLACE INTO matchingKey VALUES (?, ?)") { place, statement in
            statement.bind(1, keys[place].key)
            statement.bind(2, keys[place].customer)
            return true
        }
        var pairs: [CustomerPair: (score: Int, rule: Int)] = [:]
        for link in matches.links {
            guard let low = all.index[link.pair.low], let high = all.index[link.pair.high] else { continue }
            pairs[link.pair] = (all.index.comparing.score(low, high), link.rule.rawValue)
        }
        for likely in matches.likely { pairs[likely.pair] = (likely.score, pairs[likely.pair]?.rule ?? 0) }
        let threshold = all.index.comparing.weights.threshold
        let sorted = pairs.sorted { $0.key < $1.key }
        try inPieces(sorted.count, checkpoint, "INSERT OR REPLACE INTO matchingPair VALUES (?, ?, ?, ?, ?)") {
            place,
            statement in
            let (pair, found) = sorted[place]
            let isOpen = found.score >= threshold && all.decisions[pair] == nil && !clusters.areOne(pair)
            statement.bind(1, pair.low.rawValue)
            statement.bind(2, pair.high.rawValue)
            statement.bind(3, Int64(found.score))
            statement.bind(4, Int64(found.rule))
            statement.bind(5, Int64(isOpen ? 1 : 0))
            return true
        }
        try withWriter { writer in try writer.transaction { try writer.note(.matchedPosition, all.end) } }
    }

    /// Writes rows, some in each transaction.
    ///
    /// - Parameter bind: Gives the values of a row; false when there is none.
    private func inPieces(
        _ count: Int,
        _ checkpoint: () throws -> Void,
        _ sql: String,
        _ bind: (Int, RawStatement) throws -> Bool
    ) throws {
        var start = 0
        while start < count {
            try checkpoint()
            let end = min(start + Self.rowsPerPiece, count)
            try withWriter { writer in
                try writer.transaction {
                    let statement = try RawStatement(sql, in: writer.db)
                    for place in start..<end where try bind(place, statement) { try statement.run() }
                }
            }
            start = end
        }
    }
}

extension ReplicaReader {
    /// Whether a table has no more rows than that; looks at no more.
    fileprivate func hasAtMost(_ count: Int, of table: TableDescription) throws -> Bool {
        try Int.fetchOne(
            db.cachedStatement(sql: "SELECT count(*) FROM (SELECT 1 FROM \(table.name) LIMIT ?)"),
            arguments: [count + 1]
        ).map { $0 <= count } ?? true
    }
}
