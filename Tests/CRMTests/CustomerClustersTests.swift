import Causality
import TestKit
import Testing

@testable import CRM

@Suite("Which records are one customer")
struct CustomerClustersTests {
    private func pair(_ one: Int64, _ other: Int64) -> CustomerPair { CustomerPair(record(one), record(other))! }

    private func link(_ one: Int64, _ other: Int64, _ rule: LinkRule = .code) -> RuleLink {
        RuleLink(pair: pair(one, other), rule: rule)
    }

    @Test("Links unite, and the smallest visible member stands for all")
    func golden() {
        let clusters = CustomerClusters(decisions: [pair(5, 3): .same], links: [link(3, 9), link(20, 21)])
        #expect(clusters.all == [[record(3), record(5), record(9)], [record(20), record(21)]])
        for member in [3, 5, 9] { #expect(clusters.golden(of: record(Int64(member))) { _ in true } == record(3)) }
        // The deleted record in the middle still holds the others together.
        #expect(clusters.golden(of: record(9)) { $0 != record(3) } == record(5))
        #expect(clusters.golden(of: record(9)) { _ in false } == nil)
        #expect(clusters.members(of: record(77)) == [record(77)])
    }

    @Test("A decision that two differ beats every chain between them, and the link left out is listed")
    func contradiction() {
        let clusters = CustomerClusters(
            decisions: [pair(1, 4): .different, pair(2, 3): .same],
            links: [link(1, 2), link(3, 4, .mobileAndBirthDay)]
        )
        #expect(clusters.all == [[record(1), record(2), record(3)]])
        #expect(
            clusters.contradictions == [.init(pair: pair(3, 4), rule: .mobileAndBirthDay, different: pair(1, 4))]
        )
        #expect(!clusters.areOne(pair(1, 4)))
    }

    @Test("What people decided is taken before what the rules say")
    func order() {
        let clusters = CustomerClusters(decisions: [pair(8, 9): .same, pair(1, 9): .different], links: [link(1, 8)])
        #expect(clusters.all == [[record(8), record(9)]])
        #expect(clusters.contradictions.map(\.pair) == [pair(1, 8)])
    }

    @Test("In rows made unaware of each other caution decides; a retracted one counts for nothing")
    func states() {
        #expect(IdentityVerdict.state(of: [.same, .different]) == .different)
        #expect(IdentityVerdict.state(of: [.retracted, .same]) == .same)
        #expect(IdentityVerdict.state(of: [.retracted]) == nil)
        #expect(IdentityVerdict.state(of: []) == nil)
    }

    @Test(
        "3,000 histories on five nodes: equal clusters in any order, nobody differs from himself, the informed prevail"
    )
    func histories() {
        var random = SeededRandom(seed: testSeed("Histories of decisions"))
        for _ in 0..<3000 {
            var history = DecisionHistory(&random)
            history.play(&random)
        }
    }
}

/// Five nodes that decide about eight records, and tell each other in any order, more than once, or late.
///
/// Rows are merged as the replica merges them: the verdict with the greater stamp stays.
private struct DecisionHistory {
    private struct Written: Equatable {
        let pair: CustomerPair
        let verdict: IdentityVerdict
        let stamp: Stamp
    }

    /// Rows by identifier.
    private var nodes: [[RowID: Written]] = Array(repeating: [:], count: 5)
    private var sent: [(id: RowID, written: Written)] = []
    private let links: [RuleLink]
    private var counter: Int64 = 0

    init(_ random: inout SeededRandom) {
        var links: [RuleLink] = []
        for _ in 0..<random.below(6) {
            links.append(RuleLink(pair: Self.pair(&random), rule: random.oneIn(2) ? .code : .mobileAndBirthDay))
        }
        self.links = links
    }

    private static func pair(_ random: inout SeededRandom) -> CustomerPair {
        let one = Int64(random.below(8))
        return CustomerPair(record(one + 1), record((one + 1 + Int64(random.below(7))) % 8 + 1))!
    }

    private func rows(_ node: Int, of pair: CustomerPair) -> [RowID] {
        nodes[node].filter { $0.value.pair == pair }.keys.sorted()
    }

    private func decisions(_ node: Int) -> [CustomerPair: IdentityVerdict] {
        Dictionary(grouping: nodes[node].values, by: \.pair)
            .compactMapValues { IdentityVerdict.state(of: $0.map(\.verdict)) }
    }

    private func clusters(_ node: Int) -> CustomerClusters {
        CustomerClusters(decisions: decisions(node), links: links)
    }

    /// Writes into every visible row of the pair, or makes one. Clocks are wrong, but later than all that was seen.
    private mutating func decide(_ pair: CustomerPair, _ verdict: IdentityVerdict, at node: Int, skew: UInt64) {
        let seen = nodes[node].values.map(\.stamp.time.packed).max() ?? 0
        let origin = Origin(rawValue: UInt32(node + 1)) ?? .none
        let stamp = Stamp(time: HybridTimestamp(packed: seen + 1 + skew) ?? .zero, origin: origin)
        var ids = rows(node, of: pair)
        if ids.isEmpty {
            counter += 1
            ids = [RowID(origin: origin, counter: counter)]
        }
        for id in ids {
            let written = Written(pair: pair, verdict: verdict, stamp: stamp)
            nodes[node][id] = written
            sent.append((id, written))
        }
    }

    private mutating func receive(_ index: Int, at node: Int) {
        let (id, written) = sent[index]
        if let present = nodes[node][id], present.stamp >= written.stamp { return }
        nodes[node][id] = written
    }

    mutating func play(_ random: inout SeededRandom) {
        for _ in 0..<random.below(25) {
            let node = random.below(5)
            if !sent.isEmpty, random.oneIn(2) {
                receive(random.below(sent.count), at: node)
            } else {
                let verdict = IdentityVerdict.allCases[random.below(3)]
                decide(Self.pair(&random), verdict, at: node, skew: UInt64(random.below(1000)))
            }
            keepsApart(node)
        }
        deliverAll(&random)

        // Whoever decides now has seen everything, so nothing older may stand against it.
        let (node, pair) = (random.below(5), Self.pair(&random))
        let before = clusters(node)
        let state = decisions(node)[pair]
        for verdict in [IdentityVerdict.same, .different, .retracted] {
            decide(pair, verdict, at: node, skew: 0)
            deliverAll(&random)
            #expect(decisions((node + 1) % 5)[pair] == (verdict == .retracted ? nil : verdict))
        }
        if state == nil {
            #expect(clusters(node).all == before.all)
            #expect(clusters(node).contradictions == before.contradictions)
        }
    }

    private mutating func deliverAll(_ random: inout SeededRandom) {
        for node in nodes.indices {
            for index in sent.indices.shuffled(using: &random) {
                receive(index, at: node)
                if random.oneIn(4) { receive(index, at: node) }
            }
        }
        let first = clusters(0)
        for node in 1..<5 {
            #expect(nodes[node] == nodes[0])
            #expect(clusters(node).all == first.all)
            #expect(clusters(node).contradictions == first.contradictions)
        }
        keepsApart(0)
    }

    private func keepsApart(_ node: Int) {
        let clusters = clusters(node)
        for (pair, verdict) in decisions(node) where verdict == .different { #expect(!clusters.areOne(pair)) }
        for contradiction in clusters.contradictions {
            #expect(decisions(node)[contradiction.different] == .different)
        }
        let members = clusters.all.flatMap(\.self)
        #expect(Set(members).count == members.count)
    }
}
