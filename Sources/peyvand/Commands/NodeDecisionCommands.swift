import ArgumentParser
import ReplicaStore

/// A decision of head office about one node.
protocol NodeDecisionCommand: SessionCommand {
    static var decision: NodeDecision { get }
    var name: String { get }
}

extension NodeDecisionCommand {
    func run(_ session: CommandSession) async throws {
        let reply = try await session.ask(DecideNode(node: name, decision: Self.decision))
        try session.output.result(reply, text: session.words.decided(reply))
    }
}

extension NodeCommand {
    struct Approve: NodeDecisionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Head office: let a new node in, after comparing fingerprints by telephone."
        )
        static let decision = NodeDecision.approve

        @Argument(help: "What the node is called.") var name: String
        @OptionGroup var node: NodeOptions
    }

    struct Pause: NodeDecisionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Head office: let a node wait. Its session ends; everything is kept for it."
        )
        static let decision = NodeDecision.pause

        @Argument(help: "What the node is called.") var name: String
        @OptionGroup var node: NodeOptions
    }

    struct Resume: NodeDecisionCommand {
        static let configuration = CommandConfiguration(abstract: "Head office: a node that waits may come in again.")
        static let decision = NodeDecision.resume

        @Argument(help: "What the node is called.") var name: String
        @OptionGroup var node: NodeOptions
    }

    struct Revoke: NodeDecisionCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Head office: a node's certificates count no more, for one that was stolen. Its session ends at once."
        )
        static let decision = NodeDecision.revoke

        @Argument(help: "What the node is called.") var name: String
        @OptionGroup var node: NodeOptions
    }
}
