import ArgumentParser
import CRM

/// `customer duplicates`
struct ListDuplicatesCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "duplicates",
        abstract: "Pairs of records that may be one customer, with reasons; `link` or `unlink` settles one."
    )

    @OptionGroup var node: NodeOptions
    @Flag(help: "Compare everything anew, not only what has changed.") var rebuild = false
    @OptionGroup var list: ListLimit

    func run(_ session: CommandSession) async throws {
        var isShown = false
        var line = ProgressLine.onStandardError(
            session.words.choose("Comparing customers", "مقایسهٔ مشتریان"),
            isPersian: session.output.language == .fa
        )
        let found = try await session.connection.perform(ListDuplicates(limit: list.limit, rebuilds: rebuild)) {
            isShown = true
            line.update(count: $0.count, total: $0.total)
        }
        if isShown { line.finish() }
        try session.output.result(found, text: text(found, session))
    }

    private func text(_ found: Duplicates, _ session: CommandSession) -> String {
        let words = session.words
        if found.duplicates.isEmpty { return words.noDuplicates }
        var table = TextTable([
            .init(words.score, .right), .init(words.title("id")), .init(words.title("name"), widthMax: 30),
            .init(words.title("id")), .init(words.title("name"), widthMax: 30),
            .init(words.reasons, widthMax: 70),
        ])
        for pair in found.duplicates {
            table.add([
                .init(String(pair.score)), .init(pair.low), .init(pair.lowName), .init(pair.high),
                .init(pair.highName), .init(words.reasons(of: pair)),
            ])
        }
        return table.rendered(session.output.style) + words.shown(found.duplicates.count, of: found.count)
    }
}

/// `customer link CUSTOMER OTHER`
struct LinkCustomers: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "link",
        abstract: "Say that two records are one customer. Both stay as they are."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "A record: its id, national code or mobile number.") var customer: String
    @Argument(help: "Another record of the same customer.") var other: String
    @Flag(help: "Take back what was decided about the two: the rules decide again.") var undo = false
    @Option(help: "Why; kept with the decision.") var reason: String?

    func run(_ session: CommandSession) async throws {
        try await session.judge(customer, other, undo ? .retracted : .same, reason)
    }
}

/// `customer unlink CUSTOMER OTHER`
struct UnlinkCustomers: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "unlink",
        abstract: "Say that two records are different customers, whatever the rules say."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "A record: its id, national code or mobile number.") var customer: String
    @Argument(help: "A record of another customer.") var other: String
    @Flag(help: "Take back what was decided about the two: the rules decide again.") var undo = false
    @Option(help: "Why; kept with the decision.") var reason: String?

    func run(_ session: CommandSession) async throws {
        try await session.judge(customer, other, undo ? .retracted : .different, reason)
    }
}

/// `customer split CUSTOMER`
struct SplitCustomer: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "split",
        abstract: "Let a record stand alone: it is a different customer from each other one it was with."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "The record: its id.") var customer: String
    @Option(help: "Why; kept with the decision.") var reason: String?

    func run(_ session: CommandSession) async throws {
        try await session.judge(customer, nil, .different, reason)
    }
}

extension CommandSession {
    /// Writes a decision, and prints who is one customer now.
    fileprivate func judge(
        _ customer: String,
        _ other: String?,
        _ verdict: IdentityVerdict,
        _ reason: String?
    ) async throws {
        let request = JudgeCustomers(customer: customer, other: other, verdict: verdict, reason: reason)
        let written = try await ask(request)
        try output.result(written, text: words.decided(written))
    }
}

/// `customer generic`
struct GenericCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "generic",
        abstract: "Numbers, mail addresses and codes that are nobody's own, and make no two records one customer.",
        discussion: """
            A number that more than ten people share is left aside by itself; head office names those that are known to be a \
            switchboard, an office or a shop. All offices follow.
            """,
        subcommands: [ListGenericCommand.self, AddGenericCommand.self, RemoveGenericCommand.self],
        defaultSubcommand: ListGenericCommand.self
    )
}

/// `customer generic list`
private struct ListGenericCommand: SessionCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Those that head office has named.")

    @OptionGroup var node: NodeOptions

    func run(_ session: CommandSession) async throws {
        let values = try await session.ask(ListGeneric())
        var table = TextTable([.init(session.words.title("id")), .init(session.words.title("value"), widthMax: 60)])
        for value in values { table.add(value.id, value.value) }
        let text = values.isEmpty ? session.words.noGenericValues : table.rendered(session.output.style)
        try session.output.result(["generic": values], text: text)
    }
}

/// `customer generic add VALUE`
private struct AddGenericCommand: SessionCommand {
    static let configuration = CommandConfiguration(commandName: "add", abstract: "Head office: name one.")

    @OptionGroup var node: NodeOptions
    @Argument(help: "A telephone number, mail address, national code or legal id.") var value: String

    func run(_ session: CommandSession) async throws {
        let named = try await session.ask(NameGeneric(value: value))
        try session.output.result(named, text: session.words.namedGeneric(named.value))
    }
}

/// `customer generic remove VALUE`
private struct RemoveGenericCommand: SessionCommand {
    static let configuration = CommandConfiguration(commandName: "remove", abstract: "Head office: take one back.")

    @OptionGroup var node: NodeOptions
    @Argument(help: "The value, as it was named or as people write it.") var value: String

    func run(_ session: CommandSession) async throws {
        let named = try await session.ask(NameGeneric(value: value, isUndone: true))
        try session.output.result(named, text: session.words.removedGeneric(named.value))
    }
}
