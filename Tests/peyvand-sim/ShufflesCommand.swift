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
    var perHistory = 50

    @Option(help: "Plays so many histories at a time.")
    var jobs = ProcessInfo.processInfo.activeProcessorCount

    @Option(help: "Plays one order, after the first one of its history.")
    var only: UInt64?

    func validate() throws {
        guard shuffles > 0, changeSets > 20, perHistory > 1 else {
            throw ValidationError("There are at least one order, 21 change sets, and two orders of a history.")
        }
        guard jobs > 0 else { throw ValidationError("--jobs needs a number above 0.") }
    }

    /// What came of the orders of one history.
    private struct Outcome: Sendable {
        var tally = Shuffles.Tally()
        var summary: [(String, Int)] = []
        var problems: [(order: UInt64, found: [String])] = []
    }

    func run() throws {
        let progress = ProgressLine()
        let begin = clock()
        let histories: [[UInt64]] =
            if let only {
                [[only - only % UInt64(perHistory), only]]
            } else {
                stride(from: 0, to: shuffles, by: perHistory).map { first in
                    (first..<min(first + perHistory, shuffles)).map { UInt64($0) }
                }
            }
        let (seed, each, changeSets) = (seed, UInt64(perHistory), changeSets)
        var done = Shuffles.Tally()
        var summary: [(String, Int)] = []
        var violations = 0
        var failure: (any Error)?
        inOrder(histories.count, jobs: jobs) { number in
            Result { try Self.play(histories[number], seed: seed &+ histories[number][0] / each, changeSets) }
        } then: { number, result in
            switch result {
            case .success(let outcome):
                done.add(outcome.tally)
                summary = outcome.summary
                violations += outcome.problems.count
                if !outcome.problems.isEmpty { progress.clear() }
                for (order, found) in outcome.problems {
                    print("order \(order):")
                    for problem in found { print("    \(problem.prefix(600))") }
                    print("    peyvand-sim shuffles --seed \(seed) --change-sets \(changeSets) --only \(order)")
                }
            case .failure(let error):
                failure = error
            }
            progress.show("histories", number + 1, of: histories.count)
        }
        progress.clear()
        if let failure { throw failure }
        let coreSeconds = Double(clock() - begin) / Double(CLOCKS_PER_SEC)
        printSummary(
            [("histories", grouped(histories.count))] + summary.map { ("  last: " + $0.0, grouped($0.1)) } + [
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

    private static func play(_ orders: [UInt64], seed: UInt64, _ changeSets: Int) throws -> Outcome {
        let shuffles = try Shuffles(seed: seed, changeSets: changeSets)
        var outcome = Outcome(summary: shuffles.summary)
        for order in orders {
            let found = try shuffles.play(order)
            if !found.isEmpty { outcome.problems.append((order, found)) }
            if outcome.problems.count >= 20 { break }
        }
        outcome.tally = shuffles.tally
        return outcome
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
