import Causality

/// Who may write what, as head office has decided: a list of rules, of which the first that speaks of a write decides. What
/// no rule speaks of is allowed.
package struct WritePolicy: Hashable, Sendable, Codable {
    /// What is done to a row.
    package enum Verb: String, Hashable, Sendable, Codable, CaseIterable {
        case create, edit
        /// And to bring back what was deleted.
        case delete
    }

    /// Which rows a rule leaves open.
    package enum Scope: String, Hashable, Sendable, Codable, CaseIterable {
        case all
        /// Rows of a branch in the same province, or under the same parent.
        case ownRegion = "own-region"
        case ownBranch = "own-branch"
        case none
    }

    /// Which writes it speaks of, and which rows they may touch.
    package struct Rule: Hashable, Sendable, Codable {
        /// Names of nodes; nil for all branches.
        package let nodes: [String]?
        /// Names of tables; nil for all.
        package let tables: [String]?
        /// Names of columns: the rule then speaks of edits of any of them. Nil for whole rows.
        package let columns: [String]?
        /// Nil for all.
        package let verbs: [Verb]?
        package let scope: Scope

        package init(
            nodes: [String]? = nil,
            tables: [String]? = nil,
            columns: [String]? = nil,
            verbs: [Verb]? = nil,
            scope: Scope
        ) {
            self.nodes = nodes
            self.tables = tables
            self.columns = columns
            self.verbs = verbs
            self.scope = scope
        }
    }

    private enum CodingKeys: String, CodingKey {
        case rules = "rule"
    }

    /// How many rules there may be.
    package static let rulesMax = 256

    package let rules: [Rule]

    package init(rules: [Rule]) { self.rules = rules }

    package init(from decoder: any Decoder) throws {
        rules = try decoder.container(keyedBy: CodingKeys.self).decodeIfPresent([Rule].self, forKey: .rules) ?? []
    }

    /// Checks the names in it.
    ///
    /// - Throws: ``WritePolicyFailure`` with the first that is wrong.
    package func check(_ schema: Schema) throws(WritePolicyFailure) {
        guard rules.count <= Self.rulesMax else { throw .tooMany(rules: rules.count) }
        for (index, rule) in rules.enumerated() {
            for name in rule.tables ?? [] where schema.table(named: name) == nil {
                throw .unknownTable(rule: index + 1, name)
            }
            let tables = rule.tables?.compactMap { schema.table(named: $0) } ?? schema.tables
            for name in rule.columns ?? [] where !tables.contains(where: { $0.column(named: name) != nil }) {
                throw .unknownColumn(rule: index + 1, name)
            }
        }
    }

    /// The number, from 0, of the rule that decides about a write; nil when none does.
    package func rule(for node: String, _ table: TableDescription, _ verb: Verb, _ columns: ColumnMask) -> Int? {
        rules.firstIndex { rule in
            guard rule.nodes?.contains(node) ?? true, rule.tables?.contains(table.name) ?? true,
                rule.verbs?.contains(verb) ?? true
            else { return false }
            guard let named = rule.columns else { return true }
            return verb == .edit && columns.numbers.contains { named.contains(table.columns[$0].name) }
        }
    }
}

/// Why a policy cannot be used.
package enum WritePolicyFailure: Error, Hashable, CustomStringConvertible {
    case tooMany(rules: Int)
    case unknownTable(rule: Int, String)
    case unknownColumn(rule: Int, String)

    package var description: String {
        switch self {
        case .tooMany(let rules): "There are \(rules) rules; at most \(WritePolicy.rulesMax) are allowed."
        case .unknownTable(let rule, let name): "Rule \(rule) names the table \"\(name)\", which there is not."
        case .unknownColumn(let rule, let name):
            "Rule \(rule) names the column \"\(name)\", which none of its tables has."
        }
    }
}
