import CRM
import Causality
import ReplicaStore

/// A pair that may be one customer.
struct PrintedDuplicate: Codable, Sendable {
    /// One field that was compared.
    struct Reason: Codable, Sendable {
        let field: String
        let level: String
        let weight: Int
        /// As compared: folded letters, digits only.
        let low: String
        let high: String
    }

    /// Both identifiers, the smaller one first.
    let id: String
    let low: String
    let high: String
    let lowName: String
    let highName: String
    let score: Int
    let reasons: [Reason]
}

/// The queue of likely duplicates.
struct Duplicates: Codable, Sendable {
    /// The first of them, highest score first.
    let duplicates: [PrintedDuplicate]
    /// How many there are.
    let count: Int
}

/// Reads the queue: pairs that look like one customer and about which nothing is decided.
struct ListDuplicates: NodeRequest {
    static let name = "customer.duplicates"

    var limit = 100
    /// Compares everything anew instead of what has changed.
    var rebuilds = false

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Duplicates {
        let told = { (count: Int, total: Int) in try progress(ProgressReport(count: count, total: total)) }
        if rebuilds {
            try node.replica.rebuildMatching(progress: told)
        } else {
            try node.replica.followMatching(progress: told)
        }
        return try node.replica.read { reader in
            let comparison = MatchingComparison(genericValues: try reader.genericKeys())
            return Duplicates(
                duplicates: try reader.openDuplicates(limit: limit).map { try print($0, comparison, reader) },
                count: try reader.openDuplicateCount()
            )
        }
    }

    private func print(
        _ scored: ScoredPair,
        _ comparison: MatchingComparison,
        _ reader: ReplicaReader
    ) throws -> PrintedDuplicate {
        let pair = scored.pair
        func name(_ id: RowID) throws -> String {
            try reader.values(.customer, id: id).map(CustomerView.name) ?? ""
        }
        var reasons: [PrintedDuplicate.Reason] = []
        if let low = try reader.matchingRecord(of: pair.low), let high = try reader.matchingRecord(of: pair.high) {
            reasons = comparison.reasons(low, high).map {
                PrintedDuplicate.Reason(
                    field: $0.field.rawValue,
                    level: $0.level.rawValue,
                    weight: $0.weight,
                    low: $0.left,
                    high: $0.right
                )
            }
        }
        return PrintedDuplicate(
            id: "\(pair.low) \(pair.high)",
            low: pair.low.description,
            high: pair.high.description,
            lowName: try name(pair.low),
            highName: try name(pair.high),
            score: scored.score,
            reasons: reasons
        )
    }
}
