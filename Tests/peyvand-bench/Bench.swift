import ArgumentParser
import Foundation
import Rainbow

/// Measures Peyvand beside plain SQLite.
@main
struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peyvand-bench",
        abstract: "Measures what a node does beside plain SQLite, in turns and in one run.",
        discussion: """
            Ratios hold on any machine, seconds do not. In each round both sides write the same rows; who begins changes \
            from round to round, and at the end both must hold the same. What counts is processor time; the time that \
            passed stands beside it. Memory is the most that the process had in use while it did Peyvand's side.
            """
    )

    @Flag(help: "A tenth of the data.")
    var quick = false

    @Option(help: "How often each side does each work.")
    var rounds = 6

    @Option(help: "The numbers that must be reached.")
    var floors: String?

    @Option(help: "Writes the results to this file, as JSON.")
    var json: String?

    @Option(help: "What the data is drawn from.")
    var seed: UInt64 = 1

    @Argument(help: "The works to do; all when none is named.")
    var names: [String] = []

    func validate() throws {
        guard rounds > 0 else { throw ValidationError("--rounds needs a number above 0.") }
        let known = Set(Works(isQuick: true, seed: seed).all.map(\.name))
        let unknown = names.filter { !known.contains($0) }
        guard unknown.isEmpty else {
            throw ValidationError(
                "There is no work called \(unknown.joined(separator: ", ")). There are: "
                    + known.sorted().joined(separator: ", ") + "."
            )
        }
    }

    func run() throws {
        let floors = try floors.map { file in
            try JSONDecoder().decode([String: Floor].self, from: Data(contentsOf: URL(filePath: file)))
        }
        var works = Works(isQuick: quick, seed: seed).all.filter { names.isEmpty || names.contains($0.name) }
        let (table, progress) = (Table(), Progress())
        var reports: [Report] = []
        table.begin()
        while !works.isEmpty {
            // What only this one needs goes with it.
            let work = works.removeFirst()
            let report = try measure(work, floor: floors?[work.name], progress)
            progress.clear()
            table.show(report)
            reports.append(report)
        }
        if let json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            try encoder.encode(reports).write(to: URL(filePath: json))
        }
        let missed = reports.filter { !$0.isKept }
        for report in missed { table.complain(of: report) }
        if !missed.isEmpty { throw ExitCode(1) }
    }

    private func measure(_ work: Work, floor: Floor?, _ progress: Progress) throws -> Report {
        progress.show("\(work.name): getting ready")
        func inRounds<Outcome>(_ round: (Int) throws -> Outcome) throws -> [Outcome] {
            try (0..<rounds).map { number in
                progress.show("\(work.name): round \(number + 1) of \(rounds)")
                return try round(number)
            }
        }
        switch work.kind {
        case .figure(let unit, let take):
            return Report(work, unit, [try take()], floor: floor)
        case .timed(let unit, let convert, let make):
            let go = try make()
            let costs = try inRounds { _ in try go() }
            return Report(
                work,
                unit,
                costs.map { convert($0.processor) },
                wall: costs.map { convert($0.wall) },
                costs: costs,
                floor: floor
            )
        case .compared(let comparison, let make):
            let contest = try make()
            let costs = try inRounds(contest.round)
            try contest.finish()
            return Report(
                work,
                comparison.rawValue,
                costs.map { comparison.ratio(plain: $0.plain.processor, peyvand: $0.peyvand.processor) },
                wall: costs.map { comparison.ratio(plain: $0.plain.wall, peyvand: $0.peyvand.wall) },
                plain: costs.map(\.plain.processor),
                costs: costs.map(\.peyvand),
                floor: floor
            )
        case .growth(let make):
            let (small, large) = try make()
            let costs = try inRounds { (small: try small.round($0), large: try large.round($0)) }
            for contest in [small, large] { try contest.finish() }
            return Report(
                work,
                "growth",
                costs.map { $0.large.peyvand.processor / $0.small.peyvand.processor },
                wall: costs.map { $0.large.peyvand.wall / $0.small.peyvand.wall },
                plain: costs.map { $0.large.plain.processor / $0.small.plain.processor },
                costs: costs.map(\.large.peyvand),
                floor: floor
            )
        }
    }
}
