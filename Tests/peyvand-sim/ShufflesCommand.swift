import ArgumentParser
import Foundation
import SimulationKit

/// Delivers one history in many orders.
struct ShufflesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "shuffles",
        abstract: "Delivers the same change sets in many orders, and looks whether all end as the same."
    )

    @Option(help: "How many orders.")
    var shuffles = 500

    @Option(help: "What the histories and orders follow from.")
    var seed: UInt64 = 1

    @Option(help: "How many change sets a history has.")
    var changeSets = 1000

    @Option(help: "How many orders of one history, before another one is drawn.")
    var perHistory = 125

    @Option(help: "Plays one order, after the first one of its history.")
    var only: UInt64?

    func validate() throws {
        guard shuffles > 0, changeSets > 20, perHistory > 1 else {
            throw ValidationError("There are at least one order, 21 change sets, and two orders of a history.")
        }
    }

    func run() throws {
        let progress = ProgressLine()
        let begin = clock()
        var violations = 0
        var histories = 0
        var done = Shuffles.Tally()
        var played = 0
        var summary: [(String, Int)] = []
        let numbers = only.map { [$0 - $0 % UInt64(perHistory), $0] } ?? (0..<UInt64(shuffles)).map { $0 }
        var proof: Shuffles?
        for number in numbers {
            if proof == nil || number % UInt64(perHistory) == 0 {
                if let proof { done.add(proof.tally) }
                let made = try Shuffles(seed: seed &+ number / UInt64(perHistory), changeSets: changeSets)
                summary = made.summary
                proof = made
                histories += 1
            }
            let problems = try proof?.play(number) ?? []
            played += 1
            if !problems.isEmpty {
                progress.clear()
                violations += 1
                print("order \(number):")
                for problem in problems { print("    \(problem.prefix(600))") }
                print("    peyvand-sim shuffles --seed \(seed) --change-sets \(changeSets) --only \(number)")
                if violations >= 20 { break }
            }
            progress.show("orders", played, of: numbers.count)
        }
        if let proof { done.add(proof.tally) }
        progress.clear()
        let coreSeconds = Double(clock() - begin) / Double(CLOCKS_PER_SEC)
        printSummary(
            [("histories", grouped(histories))] + summary.map { ("  last: " + $0.0, grouped($0.1)) } + [
                ("orders, one outcome for each history", grouped(done.shuffles)),
                ("change sets taken", grouped(done.changeSets)),
                ("batches", grouped(done.batches)),
                ("change sets sent twice", grouped(done.again)),
                ("rows compared with the definition", grouped(done.rows)),
                ("core-seconds", grouped(Int(coreSeconds))),
                ("change sets a core-second", grouped(Int(Double(done.changeSets) / max(coreSeconds, 0.001)))),
            ]
        )
        printVerdict(violations)
        if violations > 0 { throw ExitCode.failure }
    }
}

extension Shuffles.Tally {
    fileprivate mutating func add(_ other: Self) {
        shuffles += other.shuffles
        changeSets += other.changeSets
        batches += other.batches
        again += other.again
        rows += other.rows
    }
}
