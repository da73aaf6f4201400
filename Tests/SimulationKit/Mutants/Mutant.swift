import Causality
import TestKit

/// A planted bug, and what is to find it.
package struct Mutant: Sendable {
    /// What plays while the bug is active.
    package enum Hunter: Sendable {
        case script(CorpusScript)
        /// The power goes at each place of it.
        case powerCuts(CrashScript)

        package var name: String {
            switch self {
            case .script(let script): script.name
            case .powerCuts(let script): "power cuts: " + script.name
            }
        }
    }

    /// What came of playing.
    package struct Outcome: Sendable {
        package let hunter: Hunter
        /// What was found, in words; nil when nothing was.
        package let finding: String?
        /// Steps of the script, or places at which the power can go.
        package let size: Int
    }

    package let bug: PlantedBug
    package let hunters: [Hunter]

    /// All planted bugs, with the scripts of the corpus that name them.
    package static func all() throws -> [Mutant] {
        let corpus = try CorpusScript.all()
        return PlantedBug.allCases.map { bug in
            let scripts = corpus.filter { $0.finds.contains(bug) }.map(Hunter.script)
            return Mutant(bug: bug, hunters: scripts + sweeps(for: bug).map(Hunter.powerCuts))
        }
    }

    /// The scripts whose every place shows what goes wrong when the power goes there.
    private static func sweeps(for bug: PlantedBug) -> [CrashScript] {
        switch bug {
        case .cursorInSecondTransaction: [.sessionAtBranch]
        case .twoStepMigration: [.upgrade]
        default: []
        }
    }

    /// Lets all hunters loose, one after the other, until one finds something.
    ///
    /// - Returns: What the last one has found; nil when there is none.
    package func hunt() throws -> Outcome? {
        var last: Outcome?
        for hunter in hunters {
            let outcome = try hunt(hunter)
            last = outcome
            if outcome.finding != nil { break }
        }
        return last
    }

    private func hunt(_ hunter: Hunter) throws -> Outcome {
        switch hunter {
        case .script(let script):
            let violation = try Self.violation(of: script.script, making: bug)
            return Outcome(
                hunter: hunter,
                finding: violation.map { "\($0.invariant): \($0.sentence)" },
                size: script.script.steps.count
            )
        case .powerCuts(let script):
            // Prepared by nodes that are right.
            let sweep = try CrashSweep(script)
            do {
                let outcome = try Self.making(bug) { try sweep.cutPower() }
                return Outcome(hunter: hunter, finding: outcome.problems.first?.text, size: outcome.places)
            } catch {
                // It goes wrong with the power on already.
                return Outcome(hunter: hunter, finding: "\(error)", size: 0)
            }
        }
    }

    // MARK: Finding scripts

    /// What a script violates while all nodes make a mistake.
    package static func violation(of script: Script, making bug: PlantedBug?) throws -> World.Violation? {
        // The organisation is founded by nodes that are right.
        _ = try Founding.of(branches: script.branches)
        return try making(bug) { try Simulation(playing: script).violation }
    }

    private static func making<Result>(_ bug: PlantedBug?, _ body: () throws -> Result) rethrows -> Result {
        PlantedBug.active = bug
        defer { PlantedBug.active = nil }
        return try body()
    }

    /// Makes a script short that finds a bug, and finds nothing without it.
    ///
    /// - Returns: The script and what it finds; nil when it does not.
    package static func shortest(_ script: Script, finding bug: PlantedBug, playsMax: Int) -> (Script, World.Violation)?
    {
        func finding(_ script: Script) -> World.Violation? {
            guard let found = try? violation(of: script, making: bug) else { return nil }
            do { return try violation(of: script, making: nil) == nil ? found : nil } catch { return nil }
        }
        guard let first = finding(script) else { return nil }
        let short = shrunk(script, while: { finding($0)?.invariant == first.invariant }, playsMax: playsMax)
        return finding(short).map { (short, $0) }
    }

    /// Draws scripts until one finds a bug.
    package static func draw(finding bug: PlantedBug, from seed: UInt64, seeds: Int, playsMax: Int) -> (
        Script, World.Violation
    )? {
        for seed in seed..<(seed + UInt64(seeds)) {
            let script = Script(drawnFrom: seed).thinned(to: 150, branches: 3)
            if let found = shortest(script, finding: bug, playsMax: playsMax) { return found }
        }
        return nil
    }
}

extension Script {
    /// Fewer of the same steps, at fewer branches, so that it is played in no time.
    fileprivate func thinned(to count: Int, branches: Int) -> Script {
        var thin = self
        var random = SeededRandom(seed: seed)
        thin.branches = min(branches, thin.branches)
        thin.steps.removeAll { $0.node > thin.branches }
        // What is rare stays.
        let common: Set<Step.Verb> = [.add, .call, .edit, .many, .meet, .upkeep, .hangUp]
        let rare = thin.steps.count { !common.contains($0.verb) }
        let share = max(1, (thin.steps.count - rare) / max(1, count - rare))
        thin.steps.removeAll { common.contains($0.verb) && random.below(share) != 0 }
        return thin
    }
}
