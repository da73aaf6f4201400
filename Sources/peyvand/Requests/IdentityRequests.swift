import CRM
import Causality
import ReplicaStore

/// What came of a decision about records of customers.
struct WrittenDecision: Codable, Sendable {
    /// One pair and the rows that now say so.
    struct Pair: Codable, Sendable {
        let low: String
        let high: String
        let ids: [String]
    }

    /// The record that was named first.
    let id: String
    let verdict: String
    let pairs: [Pair]
    /// The live records that are one customer with it now.
    let members: [String]
    let golden: String
    /// Where the change set stands in this node's log; nil when everything was decided so already.
    let position: UInt64?
}

/// Says that records are one customer, or not, or takes that back.
struct JudgeCustomers: NodeRequest {
    static let name = "customer.judge"

    let customer: String
    /// The other record; nil for each other member of the cluster.
    let other: String?
    let verdict: IdentityVerdict
    var reason: String?

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> WrittenDecision {
        let written = try node.replica.write { transaction in
            let reader = transaction.reader
            let id = try RowArgument.resolve(customer, in: .customer, reader, isToChange: true)
            _ = try reader.requiredRow(.customer, id: id)
            var pairs: [WrittenDecision.Pair] = []
            for stranger in try others(than: id, reader) {
                guard let pair = CustomerPair(id, stranger) else {
                    throw CommandFailure(.usage, "Both are the record \(id). Name two different ones.")
                }
                pairs.append(try write(pair, transaction, at: node.now))
            }
            return (id, pairs)
        }
        return try node.replica.read { reader in
            let cluster = try CustomerCluster(of: written.result.0, from: reader)
            return WrittenDecision(
                id: written.result.0.description,
                verdict: verdict.rawValue,
                pairs: written.result.1,
                members: cluster.visible.map(\.description),
                golden: (cluster.golden ?? written.result.0).description,
                position: written.position
            )
        }
    }

    private func others(than id: RowID, _ reader: ReplicaReader) throws -> [RowID] {
        if let other {
            let stranger = try RowArgument.resolve(other, in: .customer, reader, isToChange: true)
            _ = try reader.requiredRow(.customer, id: stranger)
            return [stranger]
        }
        // A decision needs two records that are there.
        let members = try CustomerCluster(of: id, from: reader).visible.filter { $0 != id }
        guard !members.isEmpty else {
            throw CommandFailure(.refused, "\(id) stands alone already: no other record is one customer with it.")
        }
        return members
    }

    /// Writes the verdict into every row of the pair, so that nothing that was decided before stands against it.
    private func write(
        _ pair: CustomerPair,
        _ transaction: LocalTransaction,
        at now: FieldValue
    ) throws -> WrittenDecision.Pair {
        let table = TableDescription.identityDecision
        let rows = try IdentityDecisions.rows(of: pair, from: transaction.reader)
        var values: [String: FieldValue] = [
            "verdict": .text(verdict.rawValue), "reason": reason.map { .text(PersianText.display($0)) } ?? .null,
            "decidedAt": now, "ruleVersion": .integer(Int64(MatchingWeights.ruleVersion)),
        ]
        var ids = rows.map(\.id)
        // A row that says so already keeps who said it, and when.
        for row in rows where row.text("verdict") != verdict.rawValue {
            try transaction.update(table.name, id: row.id, values)
        }
        if rows.isEmpty {
            guard verdict != .retracted else {
                throw CommandFailure(.refused, "Nothing was decided about \(pair.low) and \(pair.high).")
            }
            values["low"] = .integer(pair.low.rawValue)
            values["high"] = .integer(pair.high.rawValue)
            ids = [try transaction.insert(table.name, values)]
        }
        return WrittenDecision.Pair(
            low: pair.low.description,
            high: pair.high.description,
            ids: ids.map(\.description)
        )
    }
}
