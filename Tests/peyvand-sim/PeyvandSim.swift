import ArgumentParser
import SimulationKit

@main
struct PeyvandSim: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peyvand-sim",
        abstract: "Proves what nodes promise, under virtual time, on disks and lines that fail.",
        subcommands: [
            SeedsCommand.self, CrashCommand.self, FramesCommand.self, ShufflesCommand.self, MutantsCommand.self,
        ],
        defaultSubcommand: SeedsCommand.self
    )
}

extension Script {
    /// The script of a file.
    init(file: String) throws {
        guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
            throw ValidationError(
                "\(file) cannot be read as text. Give a file that --show has written, or one of Tests/Corpus."
            )
        }
        try self.init(text: text)
    }
}
