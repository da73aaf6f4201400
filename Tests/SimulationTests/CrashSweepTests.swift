import SimulationKit
import TestKit
import Testing

/// What a node promises holds wherever its disk goes wrong.
@Suite("Power cuts and disk errors at every operation", .serialized)
struct CrashSweepTests {
    @Test("Nothing acknowledged is lost and nothing is torn when the power goes", arguments: CrashScript.chosen)
    func powerCut(script: CrashScript) throws {
        let clock = ContinuousClock()
        let begin = clock.now
        let sweep = try CrashSweep(script, seed: testSeed("power cut: \(script.name)"))
        let outcome = try sweep.cutPower()
        print(
            "power cut: \(script.name): \(outcome.places) places, \(outcome.cuts) cuts, \(outcome.states) states, "
                + "\(outcome.openings) openings, \(outcome.meetings) meetings, \(clock.now - begin)"
        )
        #expect(outcome.places > 3)
        #expect(outcome.problems.isEmpty, "\(outcome.problems.joined(separator: "\n"))")
    }

    /// A way in which a disk fails.
    struct Failing: Sendable, CustomTestStringConvertible {
        let name: String
        let operations: CrashDisk.Operations
        let fault: CrashDisk.Fault
        let forEver: Bool
        var testDescription: String { name }

        static let all = [
            Failing(name: "a write fails once", operations: .writes, fault: .inputOutput, forEver: false),
            Failing(name: "writes fail", operations: .writes, fault: .inputOutput, forEver: true),
            Failing(name: "the disk is full for a moment", operations: .writes, fault: .full, forEver: false),
            Failing(name: "the disk is full", operations: .writes, fault: .full, forEver: true),
            Failing(name: "a sync fails once", operations: .syncs, fault: .inputOutput, forEver: false),
            Failing(name: "syncs fail", operations: .syncs, fault: .inputOutput, forEver: true),
            Failing(name: "a read fails once", operations: .reads, fault: .inputOutput, forEver: false),
            Failing(name: "reads fail", operations: .reads, fault: .inputOutput, forEver: true),
            Failing(name: "a file cannot be cut", operations: .truncations, fault: .inputOutput, forEver: false),
            Failing(name: "a file cannot be removed", operations: .removals, fault: .inputOutput, forEver: false),
        ]
    }

    @Test("A disk that fails takes nothing that was acknowledged, and the node goes on", arguments: Failing.all)
    func diskError(failing: Failing) throws {
        let seed = testSeed("disk error: \(failing.name)")
        var places = 0
        for (index, script) in CrashScript.chosen.enumerated() {
            // A quarter of the scripts, others in every run.
            guard CrashSweep.triesEverything || (UInt64(index) &+ seed) % 4 == 0 else { continue }
            let sweep = try CrashSweep(script, seed: seed)
            let outcome = try sweep.fail(
                failing.operations,
                with: failing.fault,
                forEver: failing.forEver,
                placesMax: 2
            )
            places += outcome.places
            #expect(
                outcome.problems.isEmpty,
                "\(script.name), \(failing.name): \(outcome.problems.joined(separator: "\n"))"
            )
        }
        print("disk error: \(failing.name): \(places) places")
        #expect(places > 0)
    }
}

extension CrashScript: CustomTestStringConvertible {
    package var testDescription: String { name }
}
