import ArgumentParser
import CRM
import Foundation
@preconcurrency import Rainbow

/// Shows how this node is.
struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "How this node is, and why if it is not green. Exit: 0 green, 1 yellow, 2 red, 3 unknown."
    )

    @OptionGroup var options: NodeOptions

    func run() async throws {
        try await Health.report(options) { node, output in
            let status = try await node.perform(ShowStatus())
            try output.result(status, text: output.words.status(status, output.style))
            return status.state
        }
    }
}

/// Shows every node that head office knows.
struct FleetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fleet",
        abstract: "Head office: one line per node. Exit: 0 all green, 1 yellow, 2 red, 3 unknown."
    )

    struct Document: Encodable {
        let nodes: [PrintedFleetNode]
        let refusals: [PrintedRefusals]
    }

    @OptionGroup var options: NodeOptions

    func run() async throws {
        try await Health.report(options) { node, output in
            let fleet = try await node.perform(ShowFleet())
            let refusals = try await node.perform(ListRefusals())
            try output.result(
                Document(nodes: fleet, refusals: refusals),
                text: output.words.fleet(fleet, output.style) + output.words.refusals(refusals, output.style)
            )
            return fleet.map(\.state).max() ?? .green
        }
    }
}

/// Shows who takes part.
struct NodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node",
        abstract: "The nodes that take part.",
        subcommands: [
            List.self, Show.self, Approve.self, Pause.self, Resume.self, Revoke.self, Retire.self,
        ],
        defaultSubcommand: List.self
    )

    struct Show: SessionCommand {
        static let configuration = CommandConfiguration(abstract: "Head office: one node.")

        @Argument(help: "What the node is called.") var name: String
        @OptionGroup var node: NodeOptions

        func run(_ session: CommandSession) async throws {
            let shown = try await session.ask(ShowNode(node: name))
            try session.output.result(shown, text: session.words.node(shown, session.output.style))
        }
    }

    struct Retire: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Head office: a node takes part no more; nothing is kept for it, and it is refused."
        )

        @Argument(help: "What the node is called.") var name: String
        @OptionGroup var node: NodeOptions

        func run(_ session: CommandSession) async throws {
            let reply = try await session.ask(RetireNode(node: name))
            try session.output.result(reply, text: session.words.retired(reply))
        }
    }

    struct List: SessionCommand {
        static let configuration = CommandConfiguration(abstract: "Head office: all nodes that were enrolled.")

        struct Document: Encodable {
            let nodes: [PrintedFleetNode]
        }

        @OptionGroup var node: NodeOptions

        func run(_ session: CommandSession) async throws {
            let fleet = try await session.ask(ShowFleet(withRetired: true))
            try session.output.result(Document(nodes: fleet), text: session.words.nodes(fleet, session.output.style))
        }
    }
}

/// Commands whose exit tells how well a node is.
enum Health {
    /// Runs one and leaves with its exit code; with "unknown" when it could not tell.
    static func report(
        _ options: NodeOptions,
        _ body: (NodeConnection, Output) async throws -> HealthState
    ) async throws {
        let state: HealthState
        var language = Language.en
        do {
            let settings = try options.settings()
            let output = try options.output(settings)
            language = output.language
            let node = try await NodeConnection.open(settings, language: output.language)
            state = try await body(node, output)
            try node.close()
        } catch is ClosedOutput {
            throw ExitCode(0)
        } catch {
            Terminal.write("peyvand: \(CommandFailure(error, language: language).sentence)\n", to: .error)
            throw ExitCode(healthUnknownExitCode)
        }
        throw ExitCode(state.exitCode)
    }
}
