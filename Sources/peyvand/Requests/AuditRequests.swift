import CRM
import ReplicaStore

/// One entry of the audit log, as it is shown.
struct PrintedAuditEntry: Codable, Sendable {
    let id: String
    /// RFC 3339.
    @OrNull var at: String?
    let actor: String
    let action: String
    let object: String
    let outcome: String
    let policyVersion: UInt64
    /// The SHA-256 of everything up to and with this entry, in hexadecimal.
    let hash: String

    init(_ entry: AuditEntry) {
        id = String(entry.number)
        at = CivilTime.rfc3339(ofMilliseconds: Int64(clamping: entry.at))
        actor = entry.actor
        action = entry.action
        object = entry.object
        outcome = entry.outcome
        policyVersion = entry.policyVersion
        hash = entry.hash.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}

/// Reads the audit log.
struct ListAudit: NodeRequest {
    static let name = "audit.list"

    let limit: Int

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [PrintedAuditEntry] {
        try node.replica.auditEntries(limit: limit).map(PrintedAuditEntry.init)
    }
}

/// What came of a look at the audit log.
struct PrintedAuditVerdict: Codable, Sendable {
    struct Finding: Codable, Sendable {
        /// `edited`, `missing`, `cut` or `forked`.
        let code: String
        let number: UInt64
        @OrNull var witness: String?
    }

    /// `ok`, or the code of the first finding.
    let result: String
    let entries: UInt64
    /// The last entry that another node has confirmed; 0 for none.
    let anchoredThrough: UInt64
    let findings: [Finding]
    /// Nodes that showed this one two logs of their own.
    let forkedElsewhere: [String]
}

/// Looks whether the audit log is whole.
struct VerifyAudit: NodeRequest {
    static let name = "audit.verify"

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedAuditVerdict {
        let verdict = try node.replica.verifyAudit()
        return PrintedAuditVerdict(
            result: verdict.findings.first?.code.rawValue ?? (verdict.forkedElsewhere.isEmpty ? "ok" : "forked"),
            entries: verdict.entries,
            anchoredThrough: verdict.anchoredThrough,
            findings: verdict.findings.map {
                PrintedAuditVerdict.Finding(code: $0.code.rawValue, number: $0.number, witness: $0.witness)
            },
            forkedElsewhere: verdict.forkedElsewhere
        )
    }
}
