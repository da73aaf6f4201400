import ArgumentParser

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
