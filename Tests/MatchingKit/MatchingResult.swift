import CRM
import Causality

/// How well matching found who is who.
package struct MatchingResult: Sendable {
    package let records: Int
    /// Pairs of records of one person.
    package let truePairs: Int
    /// Pairs that were named, and those of them that are right.
    package let found: Int
    package let right: Int

    package var precision: Double { found == 0 ? 1 : Double(right) / Double(found) }
    package var recall: Double { truePairs == 0 ? 1 : Double(right) / Double(truePairs) }
    package var f1: Double { precision + recall == 0 ? 0 : 2 * precision * recall / (precision + recall) }

    /// The counts of two populations together.
    package static func + (left: MatchingResult, right: MatchingResult) -> MatchingResult {
        MatchingResult(
            records: left.records + right.records,
            truePairs: left.truePairs + right.truePairs,
            found: left.found + right.found,
            right: left.right + right.right
        )
    }

    private init(records: Int, truePairs: Int, found: Int, right: Int) {
        (self.records, self.truePairs, self.found, self.right) = (records, truePairs, found, right)
    }

    /// Counts.
    package init(_ pairs: some Sequence<CustomerPair>, among entries: [CustomerGenerator.Entry]) {
        records = entries.count
        let people = Dictionary(uniqueKeysWithValues: entries.map { ($0.record.id, $0.person) })
        var sizes: [Int: Int] = [:]
        for entry in entries { sizes[entry.person, default: 0] += 1 }
        truePairs = sizes.values.reduce(0) { $0 + $1 * ($1 - 1) / 2 }
        var (found, right) = (0, 0)
        for pair in pairs {
            found += 1
            if people[pair.low] == people[pair.high] { right += 1 }
        }
        (self.found, self.right) = (found, right)
    }
}

extension MatchingIndex {
    /// An index of all entries.
    package init(_ entries: [CustomerGenerator.Entry], weights: MatchingWeights = .customers) {
        self.init(weights: weights)
        for entry in entries { set(entry.record) }
    }
}
