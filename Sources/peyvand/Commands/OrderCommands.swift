import ArgumentParser
import CRM

/// `order`: inquiries, quotes, orders, invoices, credit notes.
struct OrderCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "order",
        abstract: "Inquiries, quotes, orders, invoices and credit notes.",
        subcommands: [
            AddOrderCommand.self, EditCommand<OrderNoun>.self, ListCommand<OrderNoun>.self,
            ShowOrderCommand.self,
            DeleteCommand<OrderNoun>.self, RestoreCommand<OrderNoun>.self,
        ]
    )
}

/// `order add CUSTOMER`
private struct AddOrderCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Record an order and its lines."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "The customer's id, national code or mobile number.") var customer: String
    @Option(help: "inquiry, quote, order, invoice or creditNote.") var kind = "order"
    @Option(help: "The day, Jalali or Gregorian (default: today).") var day: String?
    @Option(help: "The total in rial (default: what the lines add up to).") var total: String?
    @Option(
        name: .customLong("line"),
        help: ArgumentHelp("A line: what, how many, rial each.", valueName: "text;quantity;unitPrice")
    )
    var lines: [String] = []
    @OptionGroup var fields: FieldSettings

    func check(_ words: Words) throws {
        for line in lines where line.count(where: { $0 == ";" }) > 2 {
            throw CommandFailure(.usage, "A --line has at most three parts: text;quantity;unitPrice.")
        }
    }

    func run(_ session: CommandSession) async throws {
        let entries = lines.map { line in
            let parts = line.split(separator: ";", maxSplits: 2, omittingEmptySubsequences: false).map(
                String.init
            )
            return OrderLineEntry(
                text: parts[0],
                quantity: parts.count > 1 ? parts[1] : nil,
                unitPrice: parts.count > 2 ? parts[2] : nil
            )
        }
        let inputs = fields.inputs([("customer", customer), ("kind", kind), ("day", day), ("total", total)])
        let written = try await session.ask(AddOrder(fields: inputs, lines: entries))
        try session.report(written, .order, text: session.words.made)
    }
}

/// `order show ID`
private struct ShowOrderCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show one order with its lines."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "Its id or number.") var id: String

    func run(_ session: CommandSession) async throws {
        let order = try await session.ask(ShowOrder(order: id))
        try session.output.result(order, text: text(order, session))
    }

    private func text(_ order: PrintedOrder, _ session: CommandSession) -> String {
        let words = session.words
        let page = RowText(session).page(order.id, order.fields, .order)
        guard !order.lines.isEmpty else { return page }
        var table = TextTable([
            .init(words.title("id")), .init(words.title("text"), widthMax: 60),
            .init(words.title("quantity"), .right), .init(words.title("unitPrice"), .right),
            .init(words.title("total"), .right),
        ])
        for line in order.lines {
            table.add([
                .init(line.id), .init(line.text ?? ""), .init(line.quantity.map(Quantity.text) ?? ""),
                .init(line.unitPrice.map(words.money) ?? ""), .init(line.total.map(words.money) ?? ""),
            ])
        }
        return "\(page)\n\(table.rendered(session.output.style))"
    }
}
