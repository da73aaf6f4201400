import ArgumentParser
import Causality
import Foundation
import Rainbow
import SimulationKit

/// Plays the script of each planted bug, and says whether it was found.
struct MutantsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mutants",
        abstract: "Makes mistakes on purpose, one after the other, and says which are noticed."
    )

    @Option(help: "Makes this mistake only.")
    var only: [String] = []

    @Option(help: "Draws so many scripts for each mistake that nothing finds, and keeps a short one in the corpus.")
    var draw: Int?

    @Option(help: "Makes this script short for the mistake that --only names, and keeps it in the corpus.")
    var shorten: String?

    @Option(help: "The first seed of scripts that are drawn.")
    var from: UInt64 = 1

    @Option(help: "So often a script is played to make it short.")
    var plays = 400

    func run() throws {
        guard PlantedBug.areBuilt else {
            print("This build cannot make mistakes: build it for debugging.".red)
            throw ExitCode.failure
        }
        let mutants = try Mutant.all().filter { only.isEmpty || only.contains($0.bug.rawValue) }
        if let shorten {
            let script = try Script(file: shorten)
            for mutant in mutants {
                try keep(Mutant.shortest(script, finding: mutant.bug, playsMax: plays), mutant.bug)
            }
            return
        }
        var alive: [PlantedBug] = []
        let width = PlantedBug.allCases.map(\.rawValue.count).max() ?? 0
        let clock = ContinuousClock()
        let begin = clock.now
        for mutant in mutants {
            let start = clock.now
            let outcome = try mutant.hunt()
            if outcome?.finding == nil { alive.append(mutant.bug) }
            print(
                mutant.bug.rawValue.padding(toLength: width, withPad: " ", startingAt: 0),
                outcome?.finding == nil ? "ALIVE ".red : "killed".green,
                String(format: "%5d  %5.1f s ", outcome?.size ?? 0, (clock.now - start).seconds),
                outcome?.hunter.name ?? "nothing looks for it",
                outcome?.finding.map { "\n" + String(repeating: " ", count: width + 1) + $0.prefix(150) } ?? ""
            )
        }
        let killed = mutants.count - alive.count
        print("\(killed) of \(mutants.count) planted bugs were found, in \(Int((clock.now - begin).seconds)) s.")
        guard let draw else {
            if !alive.isEmpty { throw ExitCode.failure }
            return
        }
        for bug in alive {
            try keep(Mutant.draw(finding: bug, from: from, seeds: draw, playsMax: plays), bug)
        }
    }

    private func keep(_ found: (script: Script, violation: World.Violation)?, _ bug: PlantedBug) throws {
        guard let found else { return print("\(bug.rawValue): nothing finds it".red) }
        let name = try CorpusScript.keep(found.script, finding: bug, by: found.violation)
        print("\(bug.rawValue): \(name), \(found.script.steps.count) steps: \(found.violation)")
    }
}
