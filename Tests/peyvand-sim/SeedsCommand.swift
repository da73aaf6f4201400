import ArgumentParser
import Foundation
import Rainbow
import SimulationKit

/// Plays scripts that are drawn from seeds, or one from a file.
struct SeedsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "seeds",
        abstract: "Plays histories of whole organisations, and looks for what must never be.",
        discussion: """
            Every seed draws a script: people work at head office and its branches, lines, disks, clocks and machines \
            fail, and in the end all must be equal, complete and explained. The same seed is the same run, everywhere.
            """
    )

    @Option(help: "Plays this seed alone, and says all about it.")
    var seed: UInt64?

    @Option(help: "Plays so many seeds.")
    var seeds: UInt64?

    @Option(help: "The first of several seeds.")
    var from: UInt64 = 1

    @Option(help: "Plays seeds for so many minutes.")
    var minutes: Double?

    @Option(help: "Plays the script of a file.", completion: .file())
    var script: String?

    @Option(help: "Plays so many at a time.")
    var jobs = ProcessInfo.processInfo.activeProcessorCount

    @Flag(help: "Prints the script, and does not play it.")
    var show = false

    @Flag(help: "Makes the script of what fails as short as can be, and prints it.")
    var shrink = false

    @Option(help: "Tells where the text of this write went, as 17 for w17-, and what befell nodes.")
    var follow: Int?

    func validate() throws {
        guard [seed == nil, seeds == nil, script == nil, minutes == nil].filter({ !$0 }).count <= 1 else {
            throw ValidationError("Choose one of --seed, --seeds, --minutes and --script.")
        }
        guard jobs > 0, seeds ?? 1 > 0, minutes ?? 1 > 0 else {
            throw ValidationError("--jobs, --seeds and --minutes need a number above 0: nothing played proves nothing.")
        }
        guard from <= UInt64(Int64.max) else { throw ValidationError("--from is at most \(Int64.max).") }
    }

    func run() throws {
        let one =
            try script.map { try Script(file: $0) }
            ?? seed.map { Script(drawnFrom: $0) }
        if show { return print(one ?? Script(drawnFrom: from), terminator: "") }
        if let one { try play(one) } else { try playMany() }
    }

    // MARK: One

    private func play(_ script: Script) throws {
        let simulation = try Simulation(playing: script, following: follow) { print($0) }
        print("trace \(simulation.hash), \(simulation.tally.summary)")
        simulation.tally.show()
        guard let violation = simulation.violation else { return printVerdict(0) }
        print("\(violation)".red)
        for line in simulation.logs { print(line.dim) }
        if shrink { print(Self.shortest(script, violating: violation.invariant)) }
        throw ExitCode.failure
    }

    /// So often a seed is played twice, to see whether it is the same run.
    private static let repeatedEvery: UInt64 = 50

    private static func play(_ seed: UInt64) throws -> Simulation {
        let script = Script(drawnFrom: seed)
        let simulation = try Simulation(playing: script)
        guard seed % repeatedEvery == 0, simulation.violation == nil else { return simulation }
        return try simulation.confirmed(by: Simulation(playing: script))
    }

    private static func shortest(_ script: Script, violating invariant: String) -> Script {
        shrunk(
            script,
            while: { (try? Simulation(playing: $0))?.violation?.invariant == invariant },
            playsMax: 2000
        )
    }

    // MARK: Many

    private func playMany() throws {
        let clock = ContinuousClock()
        let begin = clock.now
        let deadline = minutes.map { begin + .seconds($0 * 60) }
        let first = from
        let count = minutes == nil ? Int(clamping: seeds ?? 300) : Int.max
        let line = ProgressLine()
        var done = 0
        var tally = Tally()
        var trace = TraceHash()
        var failed: [UInt64] = []
        let hasTime: @Sendable () -> Bool = { deadline.map { clock.now < $0 } ?? true }
        inOrder(count, jobs: jobs, while: hasTime) { number in
            // What a crash says of itself names the thread.
            Thread.current.name = "seed \(first + UInt64(number))"
            return Result { try Self.play(first + UInt64(number)) }
        } then: { number, result in
            done += 1
            let what: String?
            switch result {
            case .success(let simulation):
                tally.add(simulation.tally)
                trace.add(simulation.hash)
                what = simulation.violation.map { "\($0)" }
            case .failure(let error):
                what = "it could not be played: \(error)"
            }
            if let what {
                failed.append(first + UInt64(number))
                line.clear()
                print("seed \(first + UInt64(number)): \(what)".red)
            }
            if let minutes {
                line.show("seconds", Int((clock.now - begin).seconds), of: Int(minutes * 60))
            } else {
                line.show("seeds", done, of: count)
            }
        }
        line.clear()
        print("\(done) seeds from \(first) in \(Int((clock.now - begin).seconds)) s: \(tally.summary), trace \(trace)")
        tally.show()
        for seed in failed { print("    scripts/simulate --seed \(seed) --shrink") }
        printVerdict(failed.count)
        if !failed.isEmpty { throw ExitCode.failure }
    }
}

extension Duration {
    /// In seconds.
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}

extension Tally {
    /// Prints how often what happened.
    func show() {
        printSummary(faults.sorted { $0.key < $1.key }.map { ($0.key, grouped($0.value)) })
        print()
        printSummary(outcomes.sorted { $0.key < $1.key }.map { ($0.key, grouped($0.value)) })
    }

    /// The numbers by which a run is measured.
    var summary: String {
        "\(busyNodeHours) busy node-hours, \(writes) writes, \(sessions) sessions, "
            + "\(faults.values.reduce(0, +)) faults of \(faults.count) kinds"
    }
}
