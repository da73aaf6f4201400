import Causality

/// Which records are one customer.
///
/// A pure function of what was decided and of the links by rule: the same at every node, in whatever order they
/// arrived. Nothing is merged or deleted, so every link can be taken back.
///
/// Edges are taken decisions first, then rule 1, then rule 2, each in ascending order of pairs. An edge that would put
/// two records into one cluster of which it was decided that they differ is left out, and listed.
///
/// Deleted and erased records take part, unseen: what was linked through them stays together.
///
/// - Source: DOMAIN.md 3.7.
package struct CustomerClusters: Sendable {
    /// A link that was left out.
    package struct Contradiction: Hashable, Sendable {
        package let pair: CustomerPair
        /// Nil when somebody decided that the two are one.
        package let rule: LinkRule?
        /// The pair of the same would-be cluster that is decided to differ; the smallest of them.
        package let different: CustomerPair
    }

    /// Links that were left out, in the order in which edges are taken.
    package let contradictions: [Contradiction]
    /// The cluster that a record stands in, for those that are linked with another.
    private let numbers: [RowID: Int]
    /// Members in ascending order.
    private let clusters: [[RowID]]

    /// Unites records.
    ///
    /// - Parameters:
    ///   - decisions: The state of each pair, see ``IdentityVerdict/state(of:)``; retracted ones count for nothing.
    ///   - links: Links by rule. A pair found by both rules is taken by the first.
    package init(decisions: [CustomerPair: IdentityVerdict], links: [RuleLink]) {
        var union = Union(different: decisions.filter { $0.value == .different }.keys.sorted())
        var contradictions: [Contradiction] = []
        func take(_ pair: CustomerPair, _ rule: LinkRule?) {
            guard let different = union.unite(pair) else { return }
            contradictions.append(Contradiction(pair: pair, rule: rule, different: different))
        }
        for pair in decisions.filter({ $0.value == .same }).keys.sorted() { take(pair, nil) }
        for link in Set(links).sorted(by: { ($0.rule, $0.pair) < ($1.rule, $1.pair) }) { take(link.pair, link.rule) }
        self.contradictions = contradictions
        clusters = union.clusters()
        var numbers: [RowID: Int] = [:]
        for (number, members) in clusters.enumerated() {
            for member in members { numbers[member] = number }
        }
        self.numbers = numbers
    }

    /// The members of the cluster that a record stands in, in ascending order: at least the record itself.
    package func members(of id: RowID) -> [RowID] { numbers[id].map { clusters[$0] } ?? [id] }

    /// Whether two records are one customer.
    package func areOne(_ pair: CustomerPair) -> Bool {
        guard let one = numbers[pair.low], let other = numbers[pair.high] else { return false }
        return one == other
    }

    /// All clusters of more than one member, by their first.
    package var all: [[RowID]] { clusters }

    /// The identifier that stands for the customer: the smallest of the visible members.
    ///
    /// - Parameter isVisible: Whether a record is there for people to see.
    /// - Returns: Nil when no member is.
    package func golden(of id: RowID, isVisible: (RowID) throws -> Bool) rethrows -> RowID? {
        try members(of: id).first(where: isVisible)
    }
}

/// Sets of records that only grow, with pairs that must never be in one set.
private struct Union {
    private var parents: [RowID: RowID] = [:]
    private var members: [RowID: [RowID]] = [:]
    /// For each record, those it differs from, in ascending order.
    private var different: [RowID: [RowID]] = [:]

    init(different pairs: [CustomerPair]) {
        for pair in pairs {
            different[pair.low, default: []].append(pair.high)
            different[pair.high, default: []].append(pair.low)
        }
    }

    /// Unites the sets of two records.
    ///
    /// - Returns: Nil when done, else the smallest pair that forbids it; then nothing changed.
    mutating func unite(_ pair: CustomerPair) -> CustomerPair? {
        let (one, other) = (root(pair.low), root(pair.high))
        guard one != other else { return nil }
        let (left, right) = (members[one] ?? [one], members[other] ?? [other])
        let (small, large, target) = left.count < right.count ? (left, right, other) : (right, left, one)
        var forbidding: CustomerPair?
        for member in small {
            for stranger in different[member] ?? [] where root(stranger) == target {
                guard let found = CustomerPair(member, stranger) else { continue }
                forbidding = forbidding.map { min($0, found) } ?? found
            }
        }
        if let forbidding { return forbidding }
        let source = target == one ? other : one
        parents[source] = target
        members[source] = nil
        members[target] = large + small
        return nil
    }

    func clusters() -> [[RowID]] {
        members.values.map { $0.sorted() }.sorted { $0[0] < $1[0] }
    }

    private mutating func root(_ id: RowID) -> RowID {
        var root = id
        while let parent = parents[root] { root = parent }
        var place = id
        while let parent = parents[place], parent != root {
            parents[place] = root
            place = parent
        }
        return root
    }
}
