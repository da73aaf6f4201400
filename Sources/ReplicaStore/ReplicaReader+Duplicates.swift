import CRM
import Causality
import GRDB

// What matching has found, as far as it has come.

extension ReplicaReader {
    /// A pair as it is kept.
    struct MatchingPair {
        let scored: ScoredPair
        /// 0 when no rule says that the two are one.
        let rule: Int
        let isOpen: Bool
    }

    /// The pairs that wait for somebody, the likeliest first.
    package func openDuplicates(limit: Int) throws -> [ScoredPair] {
        try Row.fetchAll(
            db.cachedStatement(
                sql: "SELECT low, high, score FROM matchingPair WHERE isOpen = 1 ORDER BY score DESC, low, high LIMIT ?"
            ),
            arguments: [limit]
        ).compactMap(Self.scored)
    }

    /// How many pairs wait for somebody.
    package func openDuplicateCount() throws -> Int {
        try Int.fetchOne(db.cachedStatement(sql: "SELECT count(*) FROM matchingPair WHERE isOpen = 1")) ?? 0
    }

    /// The pairs of some customers that wait for somebody, the likeliest first.
    package func openDuplicates(of ids: [RowID]) throws -> [ScoredPair] {
        let found = try ids.flatMap { try matchingPairs(of: $0) }.filter(\.isOpen).map(\.scored)
        return Set(found).sorted(by: ScoredPair.queueOrder)
    }

    /// Keys of values that so many people share that they say nothing.
    package func genericKeys() throws -> Set<MatchingKey> {
        Set(
            try Int64.fetchAll(db.cachedStatement(sql: "SELECT key FROM genericKey")).map {
                MatchingKey(rawValue: UInt64(bitPattern: $0))
            }
        )
    }

    /// A customer as it is compared; nil when it does not live here.
    package func matchingRecord(of id: RowID) throws -> MatchingRecord? {
        guard let row = try values(.customer, id: id) else { return nil }
        let points = try values(.contactPoint, where: "customer", is: .integer(id.rawValue))
        return MatchingRecord(row, contactPoints: points)
    }

    func matchingPairs(of id: RowID) throws -> [MatchingPair] {
        try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT low, high, score, rule, isOpen FROM matchingPair WHERE low = ?1
                    UNION ALL SELECT low, high, score, rule, isOpen FROM matchingPair WHERE high = ?1
                    """
            ),
            arguments: [id.rawValue]
        ).compactMap { row in
            Self.scored(row).map { MatchingPair(scored: $0, rule: row[3], isOpen: row[4]) }
        }
    }

    private static func scored(_ row: Row) -> ScoredPair? {
        guard let low = RowID(rawValue: row[0]), let high = RowID(rawValue: row[1]), let pair = CustomerPair(low, high)
        else { return nil }
        return ScoredPair(pair: pair, score: row[2])
    }
}
