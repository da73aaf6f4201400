import ArgumentParser

/// `privacy`: a person's data, and its end.
struct PrivacyCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "privacy",
        abstract: "A person's data: all of it, or its erasure, which is final.",
        subcommands: [ExportPersonCommand.self, ErasePersonCommand.self, ListErasuresCommand.self]
    )
}

/// `privacy export CUSTOMER`
private struct ExportPersonCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Print every row of a person, one JSON object a line."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "Its id, national code or mobile number.") var customer: String

    func run(_ session: CommandSession) async throws {
        _ = try await session.connection.perform(ExportPerson(customer: customer)) { report in
            if let output = report.output { try session.output.print(bytes: output) }
        }
    }
}

/// `privacy erase CUSTOMER` or `privacy erase --deleted-before DAY`
private struct ErasePersonCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "erase",
        abstract: "Head office: erase a person with all that belongs to it, or what was deleted long ago. Final."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "A customer: its id, national code or mobile number.") var customer: String?
    @Option(help: ArgumentHelp("Instead: all rows that were deleted before this day.", valueName: "day"))
    var deletedBefore: String?

    func validate() throws {
        guard (customer == nil) != (deletedBefore == nil) else {
            throw ValidationError("Give either a customer or --deleted-before.")
        }
    }

    func run(_ session: CommandSession) async throws {
        let erasure = try await session.ask(ErasePerson(customer: customer, deletedBefore: deletedBefore))
        try session.output.result(erasure, text: session.words.erased(erasure))
    }
}

/// `privacy list`
private struct ListErasuresCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "The orders to erase, and which nodes have not heard of them yet."
    )

    @OptionGroup var node: NodeOptions

    func run(_ session: CommandSession) async throws {
        let orders = try await session.ask(ListErasures())
        let words = session.words
        var table = TextTable([
            .init(words.title("position"), .right), .init(words.title("time")), .init(words.title("rows"), .right),
            .init(words.waitingNodes),
        ])
        for order in orders {
            table.add(
                words.number(order.position),
                order.at.map(words.time) ?? "",
                words.number(order.rows),
                order.waiting.isEmpty ? "-" : order.waiting.joined(separator: ", ")
            )
        }
        let text = orders.isEmpty ? words.noErasures : table.rendered(session.output.style)
        try session.output.result(["erasures": orders], text: text)
    }
}
