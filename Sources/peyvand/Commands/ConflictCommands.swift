import ArgumentParser
import CRM

/// `conflicts`: what was lost to somebody who did not know it.
struct ConflictCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conflicts",
        abstract: "Values that lost against others written at the same time: keep what stands, or take them back.",
        subcommands: [
            ListConflictsCommand.self, ShowConflictCommand.self, KeepConflictCommand.self, TakeConflictCommand.self,
        ],
        defaultSubcommand: ListConflictsCommand.self
    )
}

/// `conflicts list`
private struct ListConflictsCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "What waits for a decision; what this node lost comes first."
    )

    @OptionGroup var node: NodeOptions
    @Flag(help: "Also those that are decided, or need no decision any more.") var all = false

    func run(_ session: CommandSession) async throws {
        let conflicts = try await session.ask(ListConflicts(isAll: all))
        let style = session.output.style
        try session.output.result(
            ["conflicts": conflicts],
            text: session.words.conflicts(conflicts, isAll: all, style)
        )
    }
}

/// `conflicts show ID`
private struct ShowConflictCommand: SessionCommand {
    static let configuration = CommandConfiguration(commandName: "show", abstract: "Both sides of one conflict.")

    @OptionGroup var node: NodeOptions
    @Argument(help: "Its id.") var id: String

    func run(_ session: CommandSession) async throws {
        let conflict = try await session.ask(ShowConflict(conflict: id))
        try session.output.result(conflict, text: session.words.conflict(conflict, session.output.style))
    }
}

/// `conflicts keep ID`
private struct KeepConflictCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "keep",
        abstract: "Let stand what won; nobody is asked again."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "Its id.") var id: String

    func run(_ session: CommandSession) async throws {
        let resolved = try await session.ask(ResolveConflict(conflict: id, isTaken: false))
        try session.output.result(resolved, text: session.words.resolved(resolved))
    }
}

/// `conflicts take ID`
private struct TakeConflictCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "take",
        abstract: "Take back what lost: write the value again, or restore or delete the row."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "Its id.") var id: String

    func run(_ session: CommandSession) async throws {
        let resolved = try await session.ask(ResolveConflict(conflict: id, isTaken: true))
        try session.output.result(resolved, text: session.words.resolved(resolved))
    }
}

/// `why customer ID FIELD`
struct WhyCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "why",
        abstract: "Who set a value, where and when, what it replaced, and by which rule it stands."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "customer, activity, order, or the name of a table.") var table: String
    @Argument(help: "The row: its id; a customer also by national code or mobile number.") var id: String
    @Argument(help: "The field, as in --set.") var field: String

    func run(_ session: CommandSession) async throws {
        let reason = try await session.ask(ExplainField(table: table, row: id, field: field))
        try session.output.result(reason, text: session.words.reason(reason))
    }
}
