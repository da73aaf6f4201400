import ArgumentParser
import CRM

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
