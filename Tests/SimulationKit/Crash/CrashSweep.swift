import Causality
import Foundation

@testable import ReplicaStore

/// Plays a script while its victim's disk goes wrong at every place.
///
/// Power cuts: the script runs once, undisturbed. At each of its changes what the disk holds is put on a second disk, as
/// a power cut would leave it, in several ways, and SQLite recovers it. Whatever comes out that no cut before has
/// left, byte for byte, or when something more was promised, is then opened as a node, looked at through and through, and
/// meets its peer. Errors: the script runs again for each place.
///
/// In the environment, `PEYVAND_CRASH_SEEDS` says how many ways of losing writes are tried at each place,
/// `PEYVAND_CRASH_EVERY` opens a node after every cut and lets every operation fail, `PEYVAND_CRASH_ONLY` chooses scripts by
/// a part of their names, and `PEYVAND_CRASH_AT=117` tries that place alone; with `PEYVAND_TEST_SEED` as it was printed,
/// that repeats a failure.
package final class CrashSweep {
    /// What came of it.
    package struct Outcome {
        /// Places at which the victim's disk could go wrong.
        package var places = 0
        package var cuts = 0
        /// Different states that cuts have left.
        package var states = 0
        /// Nodes that were opened and looked at, and those that met their peer then.
        package var openings = 0
        package var meetings = 0
        package var problems: [String] = []
    }

    let script: CrashScript
    let seed: UInt64
    private let stage: Stage
    /// Where what a cut has left is looked at.
    private let other: Stage
    private let beginning: Stage.Mark
    private var outcome = Outcome()
    private var seen: Set<State> = []

    /// What a cut has left.
    private struct State: Hashable {
        let print: UInt64
        let promised: LogPrefix?
        let acknowledged: Stage.Acknowledged
    }

    private var victim: CrashNode { script.victim(of: stage) }
    private var peer: CrashNode { script.peer(of: stage) }

    /// Failures after which a sweep ends: the rest would say the same.
    private static let problemsMax = 6
    /// So often a state that is known is opened as a node all the same: its files are other ones.
    private static let placesPerOpening = 48

    package init(_ script: CrashScript, seed: UInt64) throws {
        self.script = script
        self.seed = seed
        stage = try Stage()
        try script.prepare(stage)
        for node in [stage.hub, stage.branch] where node.isOpen { try node.close() }
        beginning = stage.mark()
        other = try stage.twin()
    }

    /// Whether everything is tried, however long it takes.
    package static var triesEverything: Bool { number("EVERY") != nil }

    private static func number(_ name: String) -> Int? {
        ProcessInfo.processInfo.environment["PEYVAND_CRASH_\(name)"].flatMap { Int($0) }
    }

    private func play() throws {
        if script.hasPeer { try peer.open() }
        if script.opensVictim { try victim.open() }
        try script.play(stage)
        try victim.close()
    }

    // MARK: Power cuts

    /// Cuts the power at every change.
    package func cutPower() throws -> Outcome {
        outcome = Outcome()
        seen = []
        stage.goBack(to: beginning)
        let only = Self.number("AT")
        victim.disk.watchChanges { [unowned self] in
            outcome.places += 1
            guard only == nil || only == outcome.places, outcome.problems.count < Self.problemsMax else { return }
            cut(outcome.places)
        }
        defer { victim.disk.watchChanges(nil) }
        try play()
        return outcome
    }

    private func cut(_ place: Int) {
        let left = stage.mark()
        for number in 0..<(Self.number("SEEDS") ?? 4) {
            // What was in flight may be there whole, or not at all, and then in any other way.
            let manner: CrashDisk.Manner = [.allKept, .allDropped, .anyhow, .inOrder, .anyhow][number % 5]
            let lossSeed = seed &+ UInt64(place) &* 1000 &+ UInt64(number)
            let what = "cut \(place), \(manner), seed \(lossSeed)"
            outcome.cuts += 1
            let victim = script.victim(of: other)
            other.begin(left, losing: victim, seed: lossSeed, manner: manner, withPeer: false)
            if victim.exists {
                let code = victim.disk.recover(Replica.path(in: victim.directory))
                if code != 0 { outcome.problems.append("\(what): SQLite recovers it with code \(code)") }
            }
            // The same bytes with another promise are another state.
            let state = State(
                print: victim.disk.print,
                promised: other.promisedEnd(of: victim),
                acknowledged: other.acknowledged
            )
            let isNew = seen.insert(state).inserted
            outcome.states += isNew ? 1 : 0
            let isDue = number == 0 && place % Self.placesPerOpening == 0
            guard isNew || isDue || Self.triesEverything else { continue }
            other.begin(left, losing: victim, seed: lossSeed, manner: manner)
            let meets = script.hasPeer && (isNew || Self.triesEverything)
            outcome.problems += check(other, meets: meets).map { "\(what): \($0)" }
        }
    }

    /// Opens the victim and looks at it; then lets it meet its peer.
    private func check(_ stage: Stage, meets: Bool) -> [String] {
        let (victim, peer) = (script.victim(of: stage), script.peer(of: stage))
        outcome.openings += 1
        outcome.meetings += meets ? 1 : 0
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
        if victim.isOpen { trying("looking") { try stage.problems(of: victim) } }
        if meets, found.isEmpty {
            trying("meeting") {
                try peer.open()
                try stage.sync()
                // What was broken on purpose may come back with what arrives.
                _ = try script.opensVictim ? script.recover(stage) : []
                try stage.sync()
                return try stage.problemsOfBoth() + stage.problems(of: stage.hub) + stage.problems(of: stage.branch)
            }
        }
        victim.die()
        peer.die()
        return found
    }

    // MARK: Errors

    /// The places to be tried, out of so many.
    private func places(_ count: Int, atMost: Int) -> [Int] {
        if let one = Self.number("AT") { return [one] }
        guard !Self.triesEverything, count > atMost else { return count == 0 ? [] : Array(1...count) }
        return (0..<atMost).map { 1 + ($0 * count + Int(seed % UInt64(count))) / atMost % count }
    }

    /// Lets operations of a kind fail, each one in a run of its own; then cuts the power.
    ///
    /// - Parameter placesMax: At so many of them only, evenly spread, unless `PEYVAND_CRASH_EVERY` is set.
    package func fail(
        _ operations: CrashDisk.Operations,
        with fault: CrashDisk.Fault,
        forEver: Bool,
        placesMax: Int
    ) throws -> Outcome {
        outcome = Outcome()
        stage.goBack(to: beginning)
        let before = victim.disk.count(operations)
        try play()
        for place in places(victim.disk.count(operations) - before, atMost: placesMax) {
            stage.goBack(to: beginning)
            victim.disk.fail(operations, at: place, with: fault, forEver: forEver)
            var error: (any Error)?
            do { try play() } catch let thrown { error = thrown }
            var found: [String] = []
            if victim.disk.failures == 0, let error { found.append("it failed although nothing was: \(error)") }
            outcome.places += victim.disk.failures > 0 ? 1 : 0
            victim.disk.mend()
            // A head office that does not know that it was put back must not write.
            if victim.isOpen, script.opensVictim, !stage.mayRewriteLog {
                // It goes on as if nothing had been: what is acknowledged from here on is kept like any other.
                do {
                    try stage.add("پس از خطا", at: victim)
                } catch StoreFailure.firstLoad {
                    // It says so, and a session ends it.
                } catch {
                    found.append("it does not go on: \(error)")
                }
            }
            for node in [victim, peer] { node.die() }
            stage.begin(stage.mark(), losing: victim, seed: 0, manner: .allDropped)
            outcome.cuts += 1
            found += check(stage, meets: script.hasPeer)
            outcome.problems += found.map { "operation \(place): \($0)" }
            if outcome.problems.count >= Self.problemsMax { break }
        }
        return outcome
    }
}
