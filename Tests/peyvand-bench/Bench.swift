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
            Ratios hold on any machine, seconds do not. Each round lets both sides do the same with fresh files; who \
            begins changes from round to round. What counts is processor time; where the disk is waited for, the time \
            that passed stands beside it.
            """
    )

    @Flag(help: "A tenth of the data.")
    var quick = false

    @Option(help: "How often each side does each work.")
    var rounds = 5

    @Option(help: "The numbers that must be reached.")
    var floors: String?

    @Option(help: "Writes the results to this file, as JSON.")
    var json: String?

    @Option(help: "What the data is drawn from.")
    var seed: UInt64 = 1

    @Argument(help: "The works to do; all when none is named.")
    var names: [String] = []

    private struct Result: Encodable {
        let name: String
        let about: String
        /// `cost` or `speed` for a ratio, else the unit.
        let measure: String
        let processor: Spread?
        let wall: Spread?
        let value: Double?
        let floor: Floor?
        let isKept: Bool
        let peakMemoryBytes: Int

        /// What the floor is about.
        var measured: Double { processor?.median ?? value ?? 0 }
    }

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
        let works = Works(isQuick: quick, seed: seed).all.filter { names.isEmpty || names.contains($0.name) }
        var results: [Result] = []
        print(line(["work", "", "processor", "low - high", "wall", "floor"]).bold)
        for work in works {
            let result = try measure(work, floor: floors?[work.name])
            results.append(result)
            show(result)
        }
        print("\nPeak memory \(peakMemory() >> 20) MB, both sides and their data together.")
        if let json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            try encoder.encode(results).write(to: URL(filePath: json))
        }
        let missed = results.filter { !$0.isKept }
        for result in missed {
            let floor = result.floor?.description ?? ""
            print("\(result.name) is \(shown(result.measured)), and should be \(floor): \(result.about).".red)
        }
        if !missed.isEmpty { throw ExitCode(1) }
    }

    private func measure(_ work: Work, floor: Floor?) throws -> Result {
        switch work.kind {
        case .figure(let unit, let take):
            let value = try take()
            return Result(
                name: work.name,
                about: work.about,
                measure: unit,
                processor: nil,
                wall: nil,
                value: value,
                floor: floor,
                isKept: floor?.isKept(by: value) ?? true,
                peakMemoryBytes: peakMemory()
            )
        case .compared(let comparison, let make):
            var (processor, wall) = ([Double](), [Double]())
            for number in 0..<rounds {
                let round = try make()
                let (plain, peyvand): (Cost, Cost)
                if number % 2 == 0 {
                    plain = try Cost.of { try round.runPlain() }
                    peyvand = try Cost.of { try round.runPeyvand() }
                } else {
                    peyvand = try Cost.of { try round.runPeyvand() }
                    plain = try Cost.of { try round.runPlain() }
                }
                try round.check()
                let isSpeed = comparison == .speed
                processor.append(isSpeed ? plain.processor / peyvand.processor : peyvand.processor / plain.processor)
                wall.append(isSpeed ? plain.wall / peyvand.wall : peyvand.wall / plain.wall)
            }
            let spread = Spread(processor)
            return Result(
                name: work.name,
                about: work.about,
                measure: comparison.rawValue,
                processor: spread,
                wall: Spread(wall),
                value: nil,
                floor: floor,
                isKept: floor?.isKept(by: spread.median) ?? true,
                peakMemoryBytes: peakMemory()
            )
        }
    }

    // MARK: The table

    private func show(_ result: Result) {
        let spread = result.processor.map { "\(shown($0.low)) - \(shown($0.high))" } ?? ""
        let text = line([
            result.name, result.measure, shown(result.measured), spread,
            result.wall.map { shown($0.median) } ?? "", result.floor?.description ?? "",
        ])
        print(result.isKept ? text : text.red)
    }

    private func line(_ cells: [String]) -> String {
        let widths = [20, 14, 9, 13, 7, 0]
        let padded = zip(cells, widths).enumerated().map { index, cell in
            let gap = String(repeating: " ", count: max(0, cell.1 - cell.0.count))
            return index < 2 || index == 5 ? cell.0 + gap : gap + cell.0
        }
        return padded.joined(separator: "  ")
    }
}
