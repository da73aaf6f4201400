import ReplicaStore

/// One line of `refusals` in `fleet --json`: how often peers of one kind were turned away for one reason.
struct PrintedRefusals: Codable, Sendable {
    /// The name of the node; null for strangers.
    @OrNull var node: String?
    /// For scripts; permanent.
    let code: String
    let count: Int
    let lastAt: String
    /// What the last one was told.
    let sentence: String
}

/// Lists who was turned away, the latest first.
struct ListRefusals: NodeRequest {
    static let name = "refusals"

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [PrintedRefusals] {
        let names = try Dictionary(
            node.replica.registeredNodes().map { ($0.node, $0.name) },
            uniquingKeysWith: { first, _ in first }
        )
        return try node.replica.refusals().map { refusal in
            PrintedRefusals(
                node: refusal.node.flatMap { names[$0] },
                code: refusal.code.description,
                count: refusal.count,
                lastAt: rfc3339(refusal.lastAt) ?? "",
                sentence: refusal.sentence
            )
        }
    }
}
