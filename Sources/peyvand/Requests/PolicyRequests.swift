import CRM
import ReplicaStore

/// The policy about what branches may write, as it is shown.
struct PrintedPolicy: Codable, Sendable {
    /// 0 where there is none.
    let version: UInt64
    @OrNull var author: String?
    /// RFC 3339.
    @OrNull var madeAt: String?
    let rule: [WritePolicy.Rule]
}

/// Reads the policy in force.
struct ShowPolicy: NodeRequest {
    static let name = "policy.show"

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedPolicy {
        let last = try node.replica.writePolicies().last
        return PrintedPolicy(
            version: last?.version ?? 0,
            author: last?.author,
            madeAt: last.flatMap { CivilTime.rfc3339(ofMilliseconds: Int64(clamping: $0.madeAt)) },
            rule: last?.policy.rules ?? []
        )
    }
}

/// Decides what branches may write.
struct SetPolicy: NodeRequest {
    struct Reply: Codable, Sendable {
        let id: String
        let version: UInt64
    }

    static let name = "policy.set"

    let policy: WritePolicy
    /// Which version is in force, as whoever wrote this believes.
    let expected: UInt64?

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Reply {
        do {
            let version = try node.replica.setWritePolicy(policy, after: expected)
            return Reply(id: String(version), version: version)
        } catch let failure as WritePolicyRefusal {
            throw CommandFailure(.refused, failure.description)
        } catch let failure as WritePolicyFailure {
            throw CommandFailure(.usage, failure.description)
        }
    }
}

/// A write of a branch that had no effect, as it is shown.
struct PrintedVoidedRow: Codable, Sendable {
    let id: String
    /// RFC 3339.
    @OrNull var at: String?
    let node: String
    let table: String
    let row: String
    /// `ORIGIN/SEQ`.
    let changeSet: String
    let rule: Int
    let policyVersion: UInt64
}

/// Lists what branches wrote and may not.
struct ListVoided: NodeRequest {
    static let name = "policy.void"

    let limit: Int

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [PrintedVoidedRow] {
        try node.replica.voidedRows(limit: limit).map { row in
            PrintedVoidedRow(
                id: String(row.number),
                at: CivilTime.rfc3339(ofMilliseconds: Int64(clamping: row.at)),
                node: row.node,
                table: row.table,
                row: row.row.description,
                changeSet: "\(row.set.origin)/\(row.set.seq)",
                rule: row.rule,
                policyVersion: row.policyVersion
            )
        }
    }
}
