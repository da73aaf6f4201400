import ArgumentParser
import CRM

// The verbs that every noun shares. A noun is named by its type, so that each has its own help.

/// A noun of the command line.
protocol NounType: Sendable {
    static var noun: Noun { get }
}

enum CustomerNoun: NounType { static let noun = Noun.customer }
enum ActivityNoun: NounType { static let noun = Noun.activity }
enum OrderNoun: NounType { static let noun = Noun.order }

/// `--set field=value`, any number of times.
struct FieldSettings: ParsableArguments {
    @Option(
        name: .customLong("set"),
        help: ArgumentHelp("Set any field; `field=` clears it.", valueName: "field=value")
    )
    var settings: [FieldSetting] = []

    /// The fields that were given, together with those of other flags, over which they prevail.
    func inputs(_ flags: [(field: String, value: String?)] = []) -> [String: FieldInput] {
        var inputs: [String: FieldInput] = [:]
        for case (let field, let value?) in flags { inputs[field] = .text(value) }
        for setting in settings { inputs[setting.field] = .text(setting.value) }
        return inputs
    }
}

/// One `field=value`.
struct FieldSetting: ExpressibleByArgument {
    let field: String
    let value: String

    init?(argument: String) {
        guard let sign = argument.firstIndex(of: "="), sign > argument.startIndex else { return nil }
        field = String(argument[..<sign])
        value = String(argument[argument.index(after: sign)...])
    }
}

/// The page of a list.
struct ListOptions: ParsableArguments {
    @Flag(help: "The recycle bin: deleted ones only.")
    var deleted = false

    @Option(help: "At most so many.")
    var limit = 100

    @Option(help: ArgumentHelp("Begin behind this id.", valueName: "id"))
    var after: String?

    func validate() throws {
        guard (1...100_000).contains(limit) else { throw ValidationError("--limit must be 1 to 100000.") }
    }
}

/// `NOUN edit ID --set field=value ...`
struct EditCommand<Type: NounType>: SessionCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(commandName: "edit", abstract: "Change fields of one \(Type.noun.english).")
    }

    @OptionGroup var node: NodeOptions
    @Argument(help: "Its id.") var id: String
    @OptionGroup var fields: FieldSettings

    func check(_ words: Words) throws {
        if fields.settings.isEmpty { throw CommandFailure(.usage, words.nothingToEdit(Type.noun)) }
    }

    func run(_ session: CommandSession) async throws {
        let noun = Type.noun
        let written = try await session.ask(EditRow(table: noun.table.name, row: id, fields: fields.inputs()))
        let words = session.words
        try session.report(written, noun, text: written.position == nil ? words.unchanged : words.changed)
    }
}

/// `NOUN delete ID`
struct DeleteCommand<Type: NounType>: SessionCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "delete",
            abstract: "Delete one \(Type.noun.english); restore brings it back."
        )
    }

    @OptionGroup var node: NodeOptions
    @Argument(help: "Its id.") var id: String

    func run(_ session: CommandSession) async throws {
        let request = RemoveRow(table: Type.noun.table.name, row: id, isUndone: false)
        try session.report(try await session.ask(request), Type.noun, text: session.words.deleted)
    }
}

/// `NOUN restore ID`
struct RestoreCommand<Type: NounType>: SessionCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(commandName: "restore", abstract: "Bring a deleted \(Type.noun.english) back.")
    }

    @OptionGroup var node: NodeOptions
    @Argument(help: "Its id.") var id: String

    func run(_ session: CommandSession) async throws {
        let request = RemoveRow(table: Type.noun.table.name, row: id, isUndone: true)
        try session.report(try await session.ask(request), Type.noun, text: session.words.restored)
    }
}

/// `NOUN show ID`, for nouns that are one row.
struct ShowCommand<Type: NounType>: SessionCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(commandName: "show", abstract: "Show one \(Type.noun.english).")
    }

    @OptionGroup var node: NodeOptions
    @Argument(help: "Its id.") var id: String

    func run(_ session: CommandSession) async throws {
        let row = try await session.ask(ShowRow(table: Type.noun.table.name, row: id))
        try session.output.result(row, text: RowText(session).page(row.id, row.fields, Type.noun))
    }
}

/// `NOUN list`
struct ListCommand<Type: NounType>: SessionCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "list",
            abstract: "List \(Type.noun.plural) in the order of their ids."
        )
    }

    @OptionGroup var node: NodeOptions
    @OptionGroup var options: ListOptions
    @Option(
        help: ArgumentHelp(
            "Only those of one customer: its id, national code or mobile number.",
            visibility: Type.customerVisibility
        )
    )
    var customer: String?

    func check(_ words: Words) throws {
        guard customer == nil || Type.noun.table.column(named: "customer") != nil else {
            throw CommandFailure(.usage, "`\(Type.noun.english) list` has no option --customer.")
        }
        guard customer == nil || !options.deleted else {
            throw CommandFailure(.usage, "--customer and --deleted do not go together. Leave one out.")
        }
    }

    func run(_ session: CommandSession) async throws {
        let filter = customer.map { ListRows.Filter(column: "customer", row: $0) }
        let rows = try await session.ask(
            ListRows(
                table: Type.noun.table.name,
                isDeleted: options.deleted,
                limit: options.limit,
                after: options.after,
                filter: filter
            )
        )
        try RowText(session).printList(rows, Type.noun)
        if rows.count == options.limit, let last = rows.last, !session.output.isJSON {
            session.output.message(session.words.moreAfter(rows.count, last.id))
        }
    }
}

extension NounType {
    fileprivate static var customerVisibility: ArgumentVisibility {
        noun.table.column(named: "customer") == nil ? .hidden : .default
    }
}

/// Rows as tables and pages for people, and as lists in JSON.
struct RowText: Sendable {
    private let output: Output

    init(_ session: CommandSession) { self.init(session.output) }

    init(_ output: Output) { self.output = output }

    private var words: Words { output.words }

    /// Prints a list: in JSON one array named by the noun in the plural.
    func printList(_ rows: [PrintedRow], _ noun: Noun) throws {
        try output.result([noun.plural: rows.map(FlatRow.init)], text: table(rows, noun))
    }

    private func table(_ rows: [PrintedRow], _ noun: Noun) -> String {
        if rows.isEmpty { return words.nothingFound(noun) }
        let columns = noun.columns.compactMap(noun.table.column(named:))
        var table = TextTable(
            [.init(words.title("id"))]
                + columns.map { column in
                    .init(words.title(column.name), column.type == .money ? .right : .left, widthMax: 60)
                }
        )
        for row in rows {
            table.add([.init(row.id)] + columns.map { .init(value($0, row.fields)) })
        }
        return table.rendered(output.style)
    }

    /// One row, a line for each field.
    func page(_ id: String, _ fields: [String: PrintedField], _ noun: Noun) -> String {
        var table = TextTable([.init(words.title("field")), .init(words.title("value"))])
        table.add(words.title("id"), id)
        for column in noun.table.columns.dropFirst() where fields[column.name] != nil {
            table.add(words.title(column.name), value(column, fields))
        }
        return table.rendered(output.style)
    }

    func value(_ column: ColumnDescription, _ fields: [String: PrintedField]) -> String {
        fields[column.name].map { words.value($0, of: column) } ?? ""
    }
}

/// A list item: its id and its fields side by side.
private struct FlatRow: Encodable {
    let row: PrintedRow

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        var fields = row.fields
        fields["id"] = .text(row.id)
        try container.encode(fields)
    }
}
