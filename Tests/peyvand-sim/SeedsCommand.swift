import ArgumentParser
import Foundation
import SimulationKit

/// Plays scripts that are drawn from seeds, or one from a file.
struct SeedsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "seeds",
        abstract: "Plays histories of a whole organisation."
    )

    @Option(help: "Plays one seed.")
    var seed: UInt64?

    @Option(help: "Plays so many seeds.")
    var seeds: Int?

    @Option(help: "The first of several seeds.")
    var from: UInt64 = 1

    @Option(help: "Plays a script.")
    var script: String?

    @Flag(help: "Prints the script that a seed draws, and does not play it.")
    var show = false

    func run() throws {
        if show { return print(Script(drawnFrom: seed ?? from), terminator: "") }
        for number in from..<(from + UInt64(seeds ?? 1)) {
            let simulation = try Simulation(
                playing: script.map { try Script(text: String(contentsOfFile: $0, encoding: .utf8)) }
                    ?? Script(drawnFrom: seed ?? number)
            )
            let tally = simulation.tally
            print(
                seed ?? number,
                simulation.hash,
                tally.busyNodeHours,
                tally.writes,
                tally.sessions,
                tally.faults.values.reduce(0, +),
                simulation.script.branches,
                simulation.script.steps.count
            )
            for violation in simulation.violations { print("   ", violation) }
            if seed != nil {
                for (name, count) in (tally.faults.merging(tally.outcomes) { $1 }).sorted(by: { $0.key < $1.key }) {
                    print("   ", count, name)
                }
            }
        }
    }
}
