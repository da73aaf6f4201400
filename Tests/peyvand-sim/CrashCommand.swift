import ArgumentParser
import Foundation
import SimulationKit

/// Cuts the power of nodes at every change of their disks, and lets the disks fail.
struct CrashCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "crash",
        abstract: "Cuts the power at every change of a disk, and lets disks fail.",
        discussion: "Ends with failure when a promise was not kept, and says how to see that again."
    )

    @Option(help: "Only scripts that have this in their names.")
    var script: String?

    @Option(help: "What is lost, and where disks fail, is drawn from this.")
    var seed: UInt64 = CrashSweep.Options().seed

    @Option(help: "So many ways of losing writes are drawn at each place.")
    var ways: Int = CrashSweep.Options().ways

    @Option(help: "So many operations fail for each way of failing and each script.")
    var failures: Int = CrashSweep.Options().failuresMax

    @Flag(help: "Opens a node after every cut, and lets every operation fail: takes hours.")
    var every = false

    @Option(help: "Only disks that fail in this way, and no power cuts; or \"power\": only those.")
    var fault: String?

    @Option(help: "Only this place of each script.")
    var at: Int?

    @Option(help: "So many scripts are played at a time.")
    var jobs = ProcessInfo.processInfo.activeProcessorCount

    func validate() throws {
        if let fault, fault != "power", !DiskFailing.all.contains(where: { $0.name == fault }) {
            let names = DiskFailing.all.map(\.name).joined(separator: "\n  ")
            throw ValidationError("No disk fails like that. Give one of:\n  power\n  \(names)")
        }
        if scripts.isEmpty {
            throw ValidationError(
                "No script has that in its name. There are:\n  "
                    + CrashScript.all.map(\.name).joined(separator: "\n  ")
            )
        }
        guard ways > 0, failures >= 0, jobs > 0 else { throw ValidationError("Give numbers above 0.") }
    }

    private var scripts: [CrashScript] {
        CrashScript.all.filter { script.map($0.name.contains) ?? true }
    }

    private struct Row: Sendable {
        var outcome = CrashSweep.Outcome()
        /// Of a processor.
        var seconds = 0.0
        var error: String?
    }

    func run() throws {
        let scripts = scripts
        let began = ContinuousClock().now
        var total = Row()
        print(Self.line("script", Self.titles))
        inOrder(scripts.count, jobs: jobs) { number in
            sweep(scripts[number])
        } then: { number, row in
            print(Self.line(scripts[number].name, Self.cells(row)))
            for problem in row.outcome.problems { print("  \(problem.text)\n    \(command(scripts[number], problem))") }
            if let error = row.error { print("  the script fails by itself: \(error)") }
            total.outcome += row.outcome
            total.seconds += row.seconds
            total.error = total.error ?? row.error
            fflush(nil)
        }
        print(Self.line("total", Self.cells(total)))
        let found = total.outcome
        print(
            "\(found.cuts) power cuts and \(found.failures) disk errors in \(Self.text(ContinuousClock().now - began)) s: "
                + (found.problems.isEmpty && total.error == nil
                    ? "nothing lost, nothing corrupt" : "\(found.problems.count) promises not kept")
        )
        guard found.problems.isEmpty, total.error == nil else { throw ExitCode.failure }
    }

    private func sweep(_ script: CrashScript) -> Row {
        var options = CrashSweep.Options()
        (options.seed, options.ways, options.failuresMax) = (seed, ways, failures)
        (options.triesEverything, options.place) = (every, at)
        var row = Row()
        let began = Self.processorSeconds()
        do {
            let sweep = try CrashSweep(script, options)
            if fault == nil || fault == "power" { row.outcome += try sweep.cutPower() }
            // A place of a power cut is none of an error.
            for failing in DiskFailing.all where fault == failing.name || (fault == nil && at == nil) {
                row.outcome += try sweep.fail(failing)
            }
        } catch {
            row.error = "\(error)"
        }
        row.seconds = Self.processorSeconds() - began
        return row
    }

    /// What this thread has used of a processor so far: others may have to share it.
    private static func processorSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    // MARK: Output

    private static let titles = ["places", "cuts", "nodes", "opened", "met", "errors", "core-s"]

    private static func cells(_ row: Row) -> [String] {
        let outcome = row.outcome
        return [
            outcome.places, outcome.cuts, outcome.states, outcome.openings, outcome.meetings, outcome.failures,
        ].map(String.init) + [String(format: "%.1f", row.seconds)]
    }

    private static func line(_ name: String, _ cells: [String]) -> String {
        let width = CrashScript.all.map(\.name.count).max() ?? 0
        return name.padding(toLength: max(width, name.count), withPad: " ", startingAt: 0)
            + cells.map { String(repeating: " ", count: max(1, 9 - $0.count)) + $0 }.joined()
    }

    private static func text(_ duration: Duration) -> String {
        String(format: "%.1f", Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18)
    }

    /// What shows a problem again.
    private func command(_ script: CrashScript, _ problem: CrashSweep.Problem) -> String {
        "peyvand-sim crash --script \"\(script.name)\" --at \(problem.place) --seed \(seed) --ways \(ways)"
            + " --fault \"\(problem.failing?.name ?? "power")\""
    }
}
