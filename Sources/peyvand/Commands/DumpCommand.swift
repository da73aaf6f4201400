import ArgumentParser

/// `dump`: the canonical lines of all visible rows.
struct DumpCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "dump",
        abstract: "Print all visible rows as canonical lines: equal on converged nodes, byte for byte."
    )

    @OptionGroup var node: NodeOptions

    func run(_ session: CommandSession) async throws {
        _ = try await session.connection.perform(Dump()) { report in
            if let output = report.output { try session.output.print(bytes: output) }
        }
    }
}
