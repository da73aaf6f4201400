import Foundation
import SimulationKit
import Testing

@testable import ReplicaStore

/// Plays a script again and again, with its victim's disk going wrong at another place each time.
///
/// How far it goes: every place if `PEYVAND_CRASH_EVERY` is set in the environment, else as many as fit a quick test
/// run, evenly spread, others in every run. `PEYVAND_CRASH_SEEDS` says how many ways of losing writes are tried at
/// each place. A failure names place and seed; `PEYVAND_CRASH_AT=117` plays that place alone, with
/// `PEYVAND_TEST_SEED` as it was printed.
struct CrashSweep {
    /// What came of it.
    struct Outcome {
        /// Changes of the victim's disk in an undisturbed run.
        var changes = 0
        var places = 0
        var cuts = 0
        var meetings = 0
        var problems: [String] = []
    }

    let script: CrashScript
    let seed: UInt64
    private let stage: Stage
    private let beginning: Stage.Mark
    private var victim: CrashNode { script.victim(of: stage) }
    private var peer: CrashNode { script.peer(of: stage) }

    /// Failures after which a sweep ends: the rest would say the same.
    private static let problemsMax = 6

    init(_ script: CrashScript, seed: UInt64) throws {
        self.script = script
        self.seed = seed
        stage = try Stage()
        try script.prepare(stage)
        for node in [stage.hub, stage.branch] where node.isOpen { try node.close() }
        beginning = stage.mark()
    }

    private static func number(_ name: String) -> Int? {
        ProcessInfo.processInfo.environment["PEYVAND_CRASH_\(name)"].flatMap { Int($0) }
    }

    /// The places to be tried, out of so many.
    private func places(_ count: Int, atMost: Int) -> [Int] {
        if let one = Self.number("AT") { return [one] }
        guard Self.number("EVERY") == nil, count > atMost else { return Array(1...max(count, 1)) }
        return (0..<atMost).map { 1 + ($0 * count + Int(seed % UInt64(count))) / atMost % count }
    }

    private func play() throws {
        if script.hasPeer { try peer.open() }
        if script.opensVictim { try victim.open() }
        try script.play(stage)
        try victim.close()
    }

    /// Changes of the victim's disk, or other operations, in a run that nothing disturbs.
    func count(_ operations: CrashDisk.Operations) throws -> Int {
        stage.goBack(to: beginning)
        let before = victim.disk.count(operations)
        try play()
        return victim.disk.count(operations) - before
    }

    // MARK: Power cuts

    /// Cuts the power at every change.
    func cutPower(placesMax: Int) throws -> Outcome {
        var outcome = Outcome()
        outcome.changes = try count(.changes)
        let seeds = Self.number("SEEDS") ?? 3
        for place in places(outcome.changes, atMost: placesMax) {
            stage.goBack(to: beginning)
            victim.disk.cut(atChange: place)
            do {
                try play()
            } catch {
                if victim.disk.isPowered { outcome.problems.append("\(place): failed although nothing was: \(error)") }
            }
            guard !victim.disk.isPowered else { continue }
            outcome.places += 1
            victim.die()
            peer.die()
            let left = stage.mark()
            for number in 0..<seeds {
                let manner: CrashDisk.Manner =
                    number == 0 ? .anyhow : [.allDropped, .inOrder, .anyhow, .allKept][(place + number) % 4]
                stage.goBack(to: left)
                let lossSeed = seed &+ UInt64(place) &* 1000 &+ UInt64(number)
                // What head office and the branch say when they meet is one check for all seeds but the first.
                let meets = script.hasPeer && number == 0
                victim.disk.restart(left.state(of: victim, in: stage), seed: lossSeed, manner: manner)
                outcome.cuts += 1
                outcome.meetings += meets ? 1 : 0
                outcome.problems += try check(meets: meets).map { "cut \(place), \(manner), seed \(lossSeed): \($0)" }
            }
            if outcome.problems.count >= Self.problemsMax { break }
        }
        return outcome
    }

    /// Opens the victim again and looks at it; then lets it meet its peer.
    private func check(meets: Bool) throws -> [String] {
        var found: [String] = []
        func trying(_ what: String, _ body: () throws -> [String]) {
            do { found += try body() } catch { found.append("\(what) fails: \(error)") }
        }
        if script.opensVictim {
            trying("opening") {
                try victim.open()
                return []
            }
        }
        if found.isEmpty { trying("recovering") { try script.recover(stage) } }
        guard victim.isOpen else { return found }
        trying("looking") { try stage.problems(of: victim) }
        guard meets, found.isEmpty else { return found }
        trying("meeting") {
            try peer.open()
            try stage.sync()
            _ = try script.opensVictim ? script.recover(stage) : []
            try stage.sync()
            return try stage.problemsOfBoth()
                + stage.problems(of: stage.hub) + stage.problems(of: stage.branch)
        }
        return found
    }

    // MARK: Errors

    /// Lets every operation of a kind fail, one in each run, until none is left.
    func fail(
        _ operations: CrashDisk.Operations,
        with fault: CrashDisk.Fault,
        forEver: Bool,
        placesMax: Int
    ) throws -> Outcome {
        var outcome = Outcome()
        outcome.changes = try count(operations)
        for place in places(outcome.changes, atMost: placesMax) {
            stage.goBack(to: beginning)
            victim.disk.fail(operations, at: place, with: fault, forEver: forEver)
            var error: (any Error)?
            do { try play() } catch let thrown { error = thrown }
            guard victim.disk.failures > 0 else {
                if let error { outcome.problems.append("\(place): failed although nothing was: \(error)") }
                continue
            }
            outcome.places += 1
            victim.disk.mend()
            var found: [String] = []
            if victim.isOpen, script.opensVictim {
                // It goes on as if nothing had been: what is acknowledged from here on is kept like any other.
                do {
                    if try victim.replica.node.isJoined { try stage.add("پس از خطا", at: victim) }
                } catch {
                    found.append("it does not go on: \(error)")
                }
            }
            victim.die()
            peer.die()
            let left = stage.mark()
            victim.disk.restart(left.state(of: victim, in: stage), seed: 0, manner: .allDropped)
            outcome.cuts += 1
            outcome.meetings += script.hasPeer ? 1 : 0
            found += try check(meets: script.hasPeer)
            outcome.problems += found.map { "\(operations.rawValue) \(place) \(fault) \(forEver): \($0)" }
            if outcome.problems.count >= Self.problemsMax { break }
        }
        return outcome
    }
}

extension Stage.Mark {
    /// What a node's disk held.
    func state(of node: CrashNode, in stage: Stage) -> CrashDisk.State { node === stage.hub ? hub : branch }
}
