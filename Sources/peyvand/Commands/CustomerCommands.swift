import ArgumentParser
import CRM

/// `customer`: people and organisations.
struct CustomerCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "customer",
        abstract: "Customers: people and organisations.",
        subcommands: [
            AddCustomer.self, EditCommand<CustomerNoun>.self, ShowCustomerCommand.self,
            ListCommand<CustomerNoun>.self, FindCustomer.self, DeleteCommand<CustomerNoun>.self,
            RestoreCommand<CustomerNoun>.self, ListDuplicatesCommand.self, LinkCustomers.self, UnlinkCustomers.self,
            SplitCustomer.self, GenericCommands.self,
        ]
    )
}

/// `customer add`
private struct AddCustomer: SessionCommand {
    static let configuration = CommandConfiguration(commandName: "add", abstract: "Record a customer.")

    @OptionGroup var node: NodeOptions
    @Option(help: "Full name.") var name: String?
    @Option(help: "Given name.") var givenName: String?
    @Option(help: "Family name.") var familyName: String?
    @Option(help: "Title, such as doctor.") var title: String?
    @Option(help: "person or organisation.") var kind: String?
    @Option(help: "Mobile number, as people write it.") var mobile: String?
    @Option(help: "Telephone number.") var phone: String?
    @Option(help: "E-mail address.") var email: String?
    @Option(help: "Province.") var province: String?
    @Option(help: "City.") var city: String?
    @Option(help: "Street and house.") var street: String?
    @Option(help: "Postal code.") var postalCode: String?
    @Option(help: "National code of a person.") var nationalCode: String?
    @Option(help: "Legal id of an organisation.") var legalId: String?
    @Option(help: "Birth day, Jalali or Gregorian.") var birthDay: String?
    @Option(help: "lead, prospect, customer or lost.") var stage: String?
    @Option(help: "A note.") var note: String?
    @OptionGroup var fields: FieldSettings

    private var inputs: [String: FieldInput] {
        fields.inputs([
            ("name", name), ("givenName", givenName), ("familyName", familyName), ("title", title),
            ("kind", kind),
            ("mobile", mobile), ("phone", phone), ("email", email), ("province", province), ("city", city),
            ("street", street), ("postalCode", postalCode), ("nationalCode", nationalCode),
            ("legalId", legalId),
            ("birthDay", birthDay), ("stage", stage), ("note", note),
        ])
    }

    func check(_ words: Words) throws {
        if inputs.isEmpty { throw CommandFailure(.usage, words.nothingToAdd(.customer)) }
    }

    func run(_ session: CommandSession) async throws {
        let request = AddRow(table: TableDescription.customer.name, fields: inputs)
        try session.report(try await session.ask(request), .customer, text: session.words.made)
    }
}

/// `customer find TEXT`
private struct FindCustomer: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "find",
        abstract: "Find customers by words of their names, numbers or notes."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "Words, or their beginnings.") var text: [String]
    @Option(help: "At most so many.") var limit = 20

    func validate() throws {
        guard (1...10_000).contains(limit) else { throw ValidationError("--limit must be 1 to 10000.") }
    }

    func run(_ session: CommandSession) async throws {
        // Much may have been written since the last search; the index follows first.
        var line = ProgressLine.onStandardError(
            session.words.choose("Indexing customers", "نمایه‌سازی مشتریان"),
            isPersian: session.output.language == .fa
        )
        var isShown = false
        let request = FindCustomers(text: text.joined(separator: " "), limit: limit)
        let rows = try await session.connection.perform(request) {
            isShown = true
            line.update(count: $0.count)
        }
        if isShown { line.finish() }
        try RowText(session).printList(rows, .customer)
    }
}

/// `customer show CUSTOMER`
private struct ShowCustomerCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Everything about one customer: who it is, and what happened."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "Its id, national code or mobile number.") var customer: String

    func run(_ session: CommandSession) async throws {
        let view = try await session.ask(ShowCustomer(customer: customer))
        try session.output.result(view, text: CustomerPage(view, session.output).text)
        let former = try await session.ask(FormerNumber(table: TableDescription.customer.name, row: customer))
        let others = former.filter { $0 != view.id }
        if former.contains(view.id) { session.output.message(session.words.nowNumbered(customer, view.id)) }
        if !others.isEmpty { session.output.message(session.words.alsoFormerNumber(customer, of: others)) }
    }
}
