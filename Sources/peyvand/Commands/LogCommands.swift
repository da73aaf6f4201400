import ArgumentParser

/// `log`: the change sets of this node.
struct LogCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log",
        abstract: "The change sets of this node, in the order in which it accepted them.",
        subcommands: [ListLogCommand.self, ShowLogCommand.self],
        defaultSubcommand: ListLogCommand.self
    )
}

/// `log list`
private struct ListLogCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "The newest change sets, or those after a position."
    )

    @OptionGroup var node: NodeOptions
    @Option(help: "Begin behind this position.") var after: UInt64?
    @Option(help: "At most so many.") var limit = 20

    func validate() throws {
        guard (1...100_000).contains(limit) else { throw ValidationError("--limit must be 1 to 100000.") }
    }

    func run(_ session: CommandSession) async throws {
        let entries = try await session.ask(ListLog(after: after, limit: limit))
        let words = session.words
        var table = TextTable([
            .init(words.title("position"), .right), .init(words.title("origin"), .right),
            .init(words.title("seq"), .right), .init(words.title("time")), .init(words.title("rows"), .right),
            .init(words.title("bytes"), .right),
        ])
        for entry in entries {
            table.add(
                entry.id,
                String(entry.origin),
                String(entry.seq),
                entry.time.map(words.time) ?? "",
                String(entry.rows),
                entry.bytes.map { String($0) } ?? "-"
            )
        }
        try session.output.result(["changeSets": entries], text: table.rendered(session.output.style))
    }
}

/// `log show POSITION`
private struct ShowLogCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "What one change set did to each row."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "Its position.") var position: UInt64

    func run(_ session: CommandSession) async throws {
        let shown = try await session.ask(ShowLog(position: position))
        try session.output.result(Document(shown: shown), text: text(shown, session))
    }

    /// The change set's own keys, and what it did.
    private struct Document: Encodable {
        private enum Keys: CodingKey { case changes }
        let shown: PrintedChangeSet

        func encode(to encoder: any Encoder) throws {
            try shown.entry.encode(to: encoder)
            var container = encoder.container(keyedBy: Keys.self)
            try container.encode(shown.changes, forKey: .changes)
        }
    }

    private func text(_ shown: PrintedChangeSet, _ session: CommandSession) -> String {
        let words = session.words
        var table = TextTable([
            .init(words.title("table")), .init(words.title("id")), .init(words.title("op")),
            .init(words.title("value"), widthMax: 100),
        ])
        for change in shown.changes ?? [] {
            let fields = change.set.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.text)" }
            table.add(change.table, change.id, change.op, fields.joined(separator: " "))
        }
        let entry = shown.entry
        let head = "\(entry.origin)/\(entry.seq)  \(entry.time.map(words.time) ?? "")\n"
        return head + table.rendered(session.output.style)
    }
}
