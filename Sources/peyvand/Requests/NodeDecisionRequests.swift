import ReplicaStore

/// Decides about a node.
struct DecideNode: NodeRequest {
    struct Reply: Codable, Sendable {
        let id: String
        let name: String
        let decision: NodeDecision
        /// False when it had been decided before.
        let isChanged: Bool
    }

    static let name = "node.decide"

    let node: String
    let decision: NodeDecision

    func perform(in service: NodeService, progress: (ProgressReport) throws -> Void) throws -> Reply {
        do {
            let isChanged = try service.replica.decide(decision, about: node)
            return Reply(id: node, name: node, decision: decision, isChanged: isChanged)
        } catch let failure as RetirementFailure {
            throw CommandFailure(.refused, failure.description)
        }
    }
}
