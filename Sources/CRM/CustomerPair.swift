import Causality

/// Two different records of customers, without an order of their own.
package struct CustomerPair: Hashable, Comparable, Sendable {
    /// The smaller identifier.
    package let low: RowID
    /// The larger identifier.
    package let high: RowID

    /// Makes a pair; nil when both are one record.
    package init?(_ one: RowID, _ other: RowID) {
        guard one != other else { return nil }
        (low, high) = one < other ? (one, other) : (other, one)
    }

    package static func < (left: CustomerPair, right: CustomerPair) -> Bool {
        (left.low, left.high) < (right.low, right.high)
    }
}

/// A pair that looks like one customer.
package struct ScoredPair: Hashable, Sendable {
    package let pair: CustomerPair
    package let score: Int

    package init(pair: CustomerPair, score: Int) {
        self.pair = pair
        self.score = score
    }

    /// Whether `left` stands before `right` in the queue: by score, then by pair.
    package static func queueOrder(_ left: ScoredPair, _ right: ScoredPair) -> Bool {
        left.score == right.score ? left.pair < right.pair : left.score > right.score
    }
}

/// A pair that is one customer by rule.
package struct RuleLink: Hashable, Sendable {
    package let pair: CustomerPair
    package let rule: LinkRule

    package init(pair: CustomerPair, rule: LinkRule) {
        self.pair = pair
        self.rule = rule
    }
}
