import ArgumentParser

/// `receipt`: whether this machine may be switched off and replaced.
///
/// Exit 0 when it may, 1 when something exists only here: then a script must not go on.
struct ReceiptCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "receipt",
        abstract: "Whether head office has everything of this branch. Exit: 0 it may be replaced, 1 it must not.",
        discussion: "What head office has is stated by head office, signed, at the last contact."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "At head office: the name or number of a branch. Prints what it would sign for it.")
    var name: String?

    func run(_ session: CommandSession) async throws {
        let receipt = try await session.ask(ShowReceipt(node: name))
        try session.output.result(receipt, text: session.words.receipt(receipt))
        if receipt.replaceable == false { throw ExitCode(ExitStatus.failed.rawValue) }
    }
}
