import Causality

/// The records that are one customer, found from the rows around one of them.
///
/// The same records as ``CustomerClusters`` gives for all rows at once. Costs a few look-ups by index for each member.
/// A deleted record takes part through decisions; links by rule are made between live ones.
package struct CustomerCluster: Sendable {
    /// All members, deleted and erased ones too, in ascending order.
    package let members: [RowID]
    /// Those of them that are live.
    package let visible: [RowID]
    /// Links among the records around it that were left out.
    package let contradictions: [CustomerClusters.Contradiction]

    /// The identifier that stands for the customer; nil when no member is live.
    package var golden: RowID? { visible.first }

    /// Finds the cluster of a record.
    package init(of id: RowID, from source: some RowSource) throws {
        var search = try Search(source)
        try search.reach(from: id)
        let clusters = CustomerClusters(decisions: search.decisions, links: search.links)
        members = clusters.members(of: id)
        visible = try clusters.members(of: id).filter { try source.values(.customer, id: $0) != nil }
        contradictions = clusters.contradictions
    }

    /// The columns that links by rule are found through.
    package static let columnsOfRules = ["nationalCode", "legalId", "mobile"]

    /// Whether a rule links a record with another one.
    package static func isLinkedByRule(_ id: RowID, from source: some RowSource) throws -> Bool {
        try !Search(source).links(of: id).isEmpty
    }

    /// Follows links from record to record. What cannot be reached cannot stand in the cluster.
    private struct Search<Source: RowSource> {
        let source: Source
        /// What head office has named as nobody's own.
        private let named: Set<MatchingKey>
        private(set) var decisions: [CustomerPair: IdentityVerdict] = [:]
        private(set) var links: [RuleLink] = []

        init(_ source: Source) throws {
            self.source = source
            named = try GenericValues.keys(from: source)
        }

        mutating func reach(from first: RowID) throws {
            var reached: Set<RowID> = [first]
            var waiting = [first]
            while let id = waiting.popLast() {
                let decided = try IdentityDecisions.states(of: id, from: source)
                decisions.merge(decided) { one, _ in one }
                let found = try links(of: id)
                links += found
                for pair in decided.filter({ $0.value == .same }).keys.sorted() + found.map(\.pair) {
                    for other in [pair.low, pair.high] where reached.insert(other).inserted { waiting.append(other) }
                }
            }
        }

        /// The links by rule of one record. Who shares a code or mobile number with it is found by the indexes of
        /// these columns, and how many names share it tells whether it is generic.
        func links(of id: RowID) throws -> [RuleLink] {
            guard let row = try source.values(.customer, id: id) else { return [] }
            let own = MatchingRecord(row)
            let (codeMax, contactMax) = (MatchingWeights.namesOfCodeMax, MatchingWeights.namesOfContactMax)
            let evidence: [(column: String, key: MatchingKey?, namesMax: Int)] = [
                ("nationalCode", own.nationalCode.map { KeyMaker.code("nationalCode", $0) }, codeMax),
                ("legalId", own.legalId.map { KeyMaker.code("legalId", $0) }, codeMax),
                ("mobile", own.mobile > 0 ? KeyMaker.mobile(own.mobile) : nil, contactMax),
            ]
            var generic = named
            var others: [RowID: MatchingRecord] = [:]
            for (column, key, namesMax) in evidence {
                guard let key, own.keys.contains(key) else { continue }
                var names: Set<UInt64> = []
                for holder in try source.values(.customer, where: column, is: row[column]) {
                    let record = MatchingRecord(holder)
                    names.insert(record.soundNumber)
                    others[holder.id] = record
                }
                if names.count > namesMax { generic.insert(key) }
            }
            let comparison = MatchingComparison(genericValues: generic)
            return others.values.sorted { $0.id < $1.id }.compactMap { other in
                guard let pair = CustomerPair(id, other.id), let rule = comparison.rule(own, other) else { return nil }
                return RuleLink(pair: pair, rule: rule)
            }
        }
    }
}

/// What people decided about pairs of records, out of its rows.
package enum IdentityDecisions {
    /// The live rows about one pair: several when offices decided without knowing of each other.
    package static func rows(of pair: CustomerPair, from source: some RowSource) throws -> [RowValues] {
        try source.values(.identityDecision, where: "low", is: .integer(pair.low.rawValue))
            .filter { $0.reference("high") == pair.high }
    }

    /// What holds for each pair that a record is in; nothing for those of which nothing is decided.
    package static func states(of id: RowID, from source: some RowSource) throws -> [CustomerPair: IdentityVerdict] {
        let reference = FieldValue.integer(id.rawValue)
        return states(
            of: try source.values(.identityDecision, where: "low", is: reference)
                + source.values(.identityDecision, where: "high", is: reference)
        )
    }

    /// What holds for the pairs of these rows, all rows of a pair being among them.
    package static func states(of rows: [RowValues]) -> [CustomerPair: IdentityVerdict] {
        var verdicts: [CustomerPair: [IdentityVerdict]] = [:]
        for row in rows {
            guard let low = row.reference("low"), let high = row.reference("high"), let pair = CustomerPair(low, high),
                let verdict = row.text("verdict").flatMap(IdentityVerdict.init)
            else { continue }
            verdicts[pair, default: []].append(verdict)
        }
        return verdicts.compactMapValues { IdentityVerdict.state(of: $0) }
    }
}
