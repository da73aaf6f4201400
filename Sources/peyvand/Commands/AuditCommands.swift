import ArgumentParser

/// `audit`: who did what at this node.
struct AuditCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit",
        abstract: "Who decided what at this node, and whether that log is whole.",
        subcommands: [ListAuditCommand.self, VerifyAuditCommand.self],
        defaultSubcommand: ListAuditCommand.self
    )
}

/// `audit list`
private struct ListAuditCommand: SessionCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "What was done, the newest first.")

    @OptionGroup var node: NodeOptions
    @OptionGroup var list: ListLimit

    func run(_ session: CommandSession) async throws {
        let entries = try await session.ask(ListAudit(limit: list.limit))
        try session.output.result(["audit": entries], text: session.words.audit(entries, session.output.style))
    }
}

/// `audit verify`
private struct VerifyAuditCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Whether entries were changed, taken out or cut off. Exit: 0 whole, 2 not.",
        discussion: """
            The entries are a chain of hashes. Other nodes keep how far it reached when they met this one, and tell it at \
            their next contact: what they have confirmed cannot be cut off or made anew without being seen.
            """
    )

    @OptionGroup var options: NodeOptions

    func run() async throws {
        try await Health.report(options) { node, output in
            let verdict = try await node.perform(VerifyAudit())
            try output.result(verdict, text: output.words.verdict(verdict))
            return verdict.result == "ok" ? .green : .red
        }
    }
}
