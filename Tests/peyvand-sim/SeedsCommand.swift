import ArgumentParser
import Foundation
import Rainbow
import SimulationKit
import Synchronization

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

    func validate() throws {
        guard [seed == nil, seeds == nil, script == nil, minutes == nil].filter({ !$0 }).count <= 1 else {
            throw ValidationError("Choose one of --seed, --seeds, --minutes and --script.")
        }
        guard jobs > 0 else { throw ValidationError("--jobs needs a number above 0.") }
    }

    func run() throws {
        let one =
            try script.map { try Script(text: String(contentsOfFile: $0, encoding: .utf8)) }
            ?? seed.map { Script(drawnFrom: $0) }
        if show { return print(one ?? Script(drawnFrom: from), terminator: "") }
        if let one { try play(one) } else { try playMany() }
    }

    // MARK: One

    private func play(_ script: Script) throws {
        let simulation = try Simulation(playing: script)
        print("trace \(simulation.hash), \(simulation.tally.summary)")
        simulation.tally.show()
        guard let violation = simulation.violation else { return print("Nothing that must not be.".green) }
        print("\(violation)".red)
        for line in simulation.logs { print(line.dim) }
        if shrink { print(Self.shortest(script, violating: violation.invariant)) }
        throw ExitCode.failure
    }

    private static func shortest(_ script: Script, violating invariant: String) -> Script {
        shrunk(
            script,
            while: { (try? Simulation(playing: $0))?.violation?.invariant == invariant },
            playsMax: 2000
        )
    }

    // MARK: Many

    private struct Progress {
        var next: UInt64
        var done = 0
        var tally = Tally()
        var failures: [(seed: UInt64, what: String)] = []
    }

    private func playMany() throws {
        let clock = ContinuousClock()
        let begin = clock.now
        let last = minutes == nil ? from + (seeds ?? 300) : UInt64.max
        let deadline = minutes.map { begin + .seconds($0 * 60) }
        let progress = Mutex(Progress(next: from))
        let line = ProgressLine()
        DispatchQueue.concurrentPerform(iterations: jobs) { _ in
            while true {
                let seed = progress.withLock { progress -> UInt64? in
                    guard progress.next < last, deadline.map({ clock.now < $0 }) ?? true else { return nil }
                    defer { progress.next += 1 }
                    return progress.next
                }
                guard let seed else { return }
                let result = Result { try Simulation(playing: Script(drawnFrom: seed)) }
                progress.withLock { progress in
                    progress.done += 1
                    switch result {
                    case .success(let simulation):
                        progress.tally.add(simulation.tally)
                        if let violation = simulation.violation { progress.failures.append((seed, "\(violation)")) }
                    case .failure(let error):
                        progress.failures.append((seed, "it could not be played: \(error)"))
                    }
                    if let failure = progress.failures.last, failure.seed == seed {
                        line.clear()
                        print("seed \(seed): \(failure.what)".red)
                    }
                    if let minutes {
                        line.show("seconds", Int(begin.duration(to: clock.now).seconds), of: Int(minutes * 60))
                    } else {
                        line.show("seeds", progress.done, of: Int(last - from))
                    }
                }
            }
        }
        try progress.withLock { progress in
            let seconds = begin.duration(to: clock.now).seconds
            line.clear()
            print("\(progress.done) seeds from \(from) in \(Int(seconds)) s: \(progress.tally.summary)")
            progress.tally.show()
            guard !progress.failures.isEmpty else { return print("Nothing that must not be.".green) }
            print("\(progress.failures.count) of them violate what must hold. Each is played again by one line:".red)
            for failure in progress.failures.sorted(by: { $0.seed < $1.seed }) {
                print("    scripts/simulate --seed \(failure.seed) --shrink")
            }
            throw ExitCode.failure
        }
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
