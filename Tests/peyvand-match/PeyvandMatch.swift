import ArgumentParser
import CRM
import Foundation
import Glibc
import MatchingKit
import Rainbow

/// Measures how well duplicates are found, and what that costs.
@main
struct PeyvandMatch: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peyvand-match",
        abstract: "Measures how well records of one customer are found, on data of which it is known who is who.",
        discussion: """
            Precision tells how many of the named pairs are right, recall how many of the right ones are named, F1 is the \
            harmonic mean of both. The queue is what is put before people, links are what the rules unite by themselves. \
            Weights and threshold stand in MatchingWeights.swift, the noise of the invented customers in CustomerNoise.swift. \
            Ends with failure when a floor is not reached.
            """
    )

    @Option(help: "What the customers are drawn from.")
    var seed: UInt64 = 1

    @Option(help: "How many people are invented for one population; half of them are held out.")
    var people = 12_000

    @Option(help: "How many populations are matched, each by itself, and counted together.")
    var populations = 5

    @Option(help: "How many records the whole matching is measured on; 0 leaves it out.")
    var records = 100_000

    func validate() throws {
        guard people > 1, populations > 0, records >= 0 else {
            throw ValidationError("--people and --populations need a number above 0, --records one from 0 on.")
        }
    }

    func run() throws {
        var board = Board()
        board.begin()
        for (name, floor) in [("dataset1", 0.985), ("dataset2", 0.975)] {
            let entries = try FEBRLFile.entries(name)
            let matches = MatchingIndex(entries, weights: .febrl).allMatches()
            board.add("FEBRL \(name), queue", MatchingResult(matches.likely.map(\.pair), among: entries), f1: floor)
        }
        for (name, noise, isFloored) in [
            ("Persian", CustomerNoise(), true), ("Persian, first noise", CustomerNoise.first, false),
        ] {
            for half in [0, 1] {
                var (queue, links): (MatchingResult?, MatchingResult?) = (nil, nil)
                for population in 0..<populations {
                    var generator = CustomerGenerator(seed: seed &+ UInt64(population), noise: noise)
                    let entries = generator.entries(people: people).filter { $0.person % 2 == half }
                    let matches = MatchingIndex(entries).allMatches()
                    let likely = MatchingResult(matches.likely.map(\.pair), among: entries)
                    let linked = MatchingResult(matches.links.map(\.pair), among: entries)
                    queue = queue.map { $0 + likely } ?? likely
                    links = links.map { $0 + linked } ?? linked
                }
                guard let queue, let links else { continue }
                let title = name + (half == 1 ? ", held out" : ", seen")
                board.add("\(title), queue", queue, f1: isFloored && half == 1 ? 0.98 : nil)
                board.add("\(title), links", links, precision: 0.999)
            }
        }
        if records > 0 { measure(&board) }
        if board.failed > 0 {
            throw Missed(description: "\(board.failed) of the floors are not reached; they are marked above.")
        }
    }

    private func measure(_ board: inout Board) {
        var generator = CustomerGenerator(seed: seed)
        let entries = generator.entries(count: records)
        let before = peakMegabytes()
        let start = ContinuousClock.now
        var index = MatchingIndex(entries)
        let matches = index.allMatches()
        let done = ContinuousClock.now
        var slowest = Duration.zero
        for entry in entries.prefix(1000) {
            let began = ContinuousClock.now
            index.remove(entry.record.id)
            index.set(entry.record)
            _ = index.matches(of: entry.record)
            slowest = max(slowest, ContinuousClock.now - began)
        }
        print()
        print(
            "\(records) records: \(matches.comparedCount) pairs compared, \(matches.likely.count) in the queue, ",
            terminator: ""
        )
        print("\(matches.links.count) links by rule")
        board.floor("indexing and matching all", done - start, limit: .seconds(60))
        board.floor("one record, the slowest of 1000", slowest, limit: .milliseconds(50))
        let peak = peakMegabytes()
        board.floor("memory in MB, of which \(before) for the invented records", peak, limit: 300)
    }

    /// The most memory that this process had in use so far.
    private func peakMegabytes() -> Int {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return usage.ru_maxrss / 1024
    }
}

/// Floors that were not reached.
private struct Missed: Error, CustomStringConvertible {
    let description: String
}

/// Prints one line for each result, and counts the floors that were not reached.
private struct Board {
    private(set) var failed = 0

    func begin() {
        print(line("", "records", "pairs", "found", "right", "precision", "recall", "F1").bold)
    }

    mutating func add(_ name: String, _ result: MatchingResult, f1: Double? = nil, precision: Double? = nil) {
        let isReached = result.f1 >= f1 ?? 0 && result.precision >= precision ?? 0
        if !isReached { failed += 1 }
        let text = line(
            name,
            "\(result.records)",
            "\(result.truePairs)",
            "\(result.found)",
            "\(result.right)",
            String(format: "%.4f", result.precision),
            String(format: "%.4f", result.recall),
            String(format: "%.4f", result.f1)
        )
        let floors = [f1.map { "F1 from \($0)" }, precision.map { "precision from \($0)" }].compactMap { $0 }
        print(text + "  " + verdict(floors.joined(separator: ", "), isReached))
    }

    mutating func floor<Value: Comparable>(_ name: String, _ value: Value, limit: Value) {
        if value > limit { failed += 1 }
        print("  \(name): \(value)  \(verdict("at most \(limit)", value <= limit))")
    }

    private func verdict(_ floor: String, _ isReached: Bool) -> String {
        guard !floor.isEmpty else { return "" }
        return isReached ? "\(floor): reached".green : "\(floor): NOT REACHED".red
    }

    private func line(_ name: String, _ values: String...) -> String {
        name.padding(toLength: 38, withPad: " ", startingAt: 0)
            + values.map { String(repeating: " ", count: max(1, 10 - $0.count)) + $0 }.joined()
    }
}
