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

/// Finds pairs that look like one customer and about which nothing is decided.
///
/// Compares everything anew each time: nothing is kept from one time to the next.
struct ListDuplicates: NodeRequest {
    static let name = "customer.duplicates"

    var limit = 100

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Duplicates {
        let state = try node.replica.read(State.init)
        let matches = try state.index.allMatches { try progress(ProgressReport(count: $0, total: state.index.count)) }
        let clusters = CustomerClusters(decisions: state.decisions, links: matches.links)
        let open = matches.likely.filter { state.decisions[$0.pair] == nil && !clusters.areOne($0.pair) }
        return try node.replica.read { reader in
            let printed = try open.prefix(limit).map { try print($0, state, reader) }
            return Duplicates(duplicates: printed, count: open.count)
        }
    }

    /// What one state of the replica knows.
    private struct State {
        var index = MatchingIndex()
        var decisions: [CustomerPair: IdentityVerdict]

        init(_ reader: ReplicaReader) throws {
            var points: [RowID: [RowValues]] = [:]
            try reader.forEachRow(.contactPoint) { row in
                let point = RowValues(row)
                if let customer = point.reference("customer") { points[customer, default: []].append(point) }
            }
            var decided: [RowValues] = []
            try reader.forEachRow(.identityDecision) { decided.append(RowValues($0)) }
            decisions = IdentityDecisions.states(of: decided)
            var index = MatchingIndex()
            try reader.forEachRow(.customer) { row in
                index.set(MatchingRecord(RowValues(row), contactPoints: points[row.id] ?? []))
            }
            self.index = index
        }
    }

    private func print(_ scored: ScoredPair, _ state: State, _ reader: ReplicaReader) throws -> PrintedDuplicate {
        let pair = scored.pair
        func name(_ id: RowID) throws -> String {
            try reader.values(.customer, id: id).map(CustomerView.name) ?? ""
        }
        var reasons: [PrintedDuplicate.Reason] = []
        if let low = state.index[pair.low], let high = state.index[pair.high] {
            reasons = state.index.comparing.reasons(low, high).map {
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
