import ArgumentParser
import CRM

/// `activity`: calls, visits, meetings, messages, notes, tasks.
struct ActivityCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "activity",
        abstract: "Calls, visits, meetings, messages, notes and tasks.",
        subcommands: [
            AddActivity.self, EditCommand<ActivityNoun>.self, ListCommand<ActivityNoun>.self,
            ShowCommand<ActivityNoun>.self, DeleteCommand<ActivityNoun>.self,
            RestoreCommand<ActivityNoun>.self,
        ]
    )
}

/// `activity add CUSTOMER`
private struct AddActivity: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Record an activity with a customer."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "The customer's id, national code or mobile number.") var customer: String
    @Option(help: "call, visit, meeting, message, note or task.") var kind: String
    @Option(help: "What it was about.") var subject: String?
    @Option(help: "What was said.") var body: String?
    @Option(help: "in, out or none.") var direction: String?
    @Option(help: "phone, sms, email, web, inPerson or post.") var channel: String?
    @Option(help: "When it was (default: now).") var at: String?
    @Option(help: "done, reached, noAnswer, refused, wrongNumber or cancelled.") var outcome: String?
    @Option(help: "What is to be done next.") var nextStep: String?
    @Option(help: "When that is due.") var due: String?
    @OptionGroup var fields: FieldSettings

    func run(_ session: CommandSession) async throws {
        let inputs = fields.inputs([
            ("customer", customer), ("kind", kind), ("subject", subject), ("body", body),
            ("direction", direction),
            ("channel", channel), ("at", at), ("outcome", outcome), ("nextStep", nextStep), ("dueAt", due),
        ])
        let request = AddRow(table: TableDescription.activity.name, fields: inputs)
        try session.report(try await session.ask(request), .activity, text: session.words.made)
    }
}
