import ArgumentParser

/// `parked`: changes that could not be applied.
struct ParkedCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "parked",
        abstract: "Changes of rows that could not be applied and wait, each with its reason.",
        subcommands: [ListParkedCommand.self, RetryParkedCommand.self, DropParkedCommand.self],
        defaultSubcommand: ListParkedCommand.self
    )
}

/// `parked list`
private struct ListParkedCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "What waits, in the order in which it will be tried."
    )

    @OptionGroup var node: NodeOptions
    @OptionGroup var list: ListLimit

    func run(_ session: CommandSession) async throws {
        let parked = try await session.ask(ListParked(limit: list.limit))
        try session.output.result(["parked": parked], text: session.words.parked(parked, session.output.style))
    }
}

/// `parked retry [ID]`
private struct RetryParkedCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "retry",
        abstract: "Try again, in order: one row, or all."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "An id of the list: its row is tried. Without one, all are.") var id: String?
    @Flag(help: "Try all.") var all = false

    func check(_ words: Words) throws {
        guard id == nil || !all else { throw CommandFailure(.usage, words.eitherIdOrAll) }
    }

    func run(_ session: CommandSession) async throws {
        let outcome = try await session.ask(RetryParked(id: id))
        try session.output.result(outcome, text: session.words.retried(outcome))
    }
}

/// `parked drop ID`
private struct DropParkedCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "drop",
        abstract: "Give one up for good: this node's row never has the change."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "An id of the list.") var id: String
    @Flag(help: "Say that you mean it.") var yes = false

    func check(_ words: Words) throws {
        guard yes else { throw CommandFailure(.usage, words.dropNeedsYes(id)) }
    }

    func run(_ session: CommandSession) async throws {
        let outcome = try await session.ask(DropParked(id: id))
        try session.output.result(outcome, text: session.words.dropped(id, outcome))
    }
}
