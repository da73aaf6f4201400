import Causality
import Foundation

@testable import ReplicaStore

/// Plays a script while its victim's disk goes wrong at every place.
///
/// Power cuts: the script runs once, undisturbed. At each of its changes many ways are drawn in which a power cut could
/// leave the disk, and SQLite recovers each that is not byte for byte one of before. Whatever comes out that no cut has
/// left so far, or when something more was promised, is then opened as a node on a disk of its own, looked at through
/// and through, and meets its peer. Errors: the script runs again for each place.
package final class CrashSweep {
    /// How far it goes.
    package struct Options: Sendable {
        package var seed: UInt64 = 1
        /// So many ways of losing writes are drawn at each place.
        package var ways = 42
        /// So many places are tried for each way in which a disk fails, evenly spread.
        package var failuresMax = 2
        /// Whether a node is opened after every cut, and every operation fails once, however long it takes.
        package var triesEverything = false
        /// The only place that is tried.
        package var place: Int?
        /// Problems after which it ends: the rest would say the same.
        package var problemsMax = 6
        package init() {}
    }

    /// What came of it.
    package struct Outcome: Sendable {
        /// Places at which the victim's disk could lose its power.
        package var places = 0
        /// Different disks that power cuts have left, each recovered by SQLite.
        package var cuts = 0
        /// Different nodes among them, with what was promised then.
        package var states = 0
        /// Nodes that were opened and looked at, and those that met their peer then.
        package var openings = 0
        package var meetings = 0
        /// Operations that have failed, each in a run of its own.
        package var failures = 0
        package var problems: [Problem] = []

        package static func += (left: inout Outcome, right: Outcome) {
            left.places += right.places
            left.cuts += right.cuts
            left.states += right.states
            left.openings += right.openings
            left.meetings += right.meetings
            left.failures += right.failures
            left.problems += right.problems
        }
        package init() {}
    }

    /// A promise that was not kept.
    package struct Problem: Sendable {
        /// Which change lost the power, or which operation failed.
        package let place: Int
        /// Nil: a power cut.
        package let failing: DiskFailing?
        package let text: String
    }

    let script: CrashScript
    let options: Options
    private let stage: Stage
    /// Where what a cut has left is looked at.
    private let other: Stage
    private let beginning: Stage.Mark
    private var outcome = Outcome()
    /// What SQLite makes of the disks that cuts have left.
    private var recoveries: [UInt64: Recovery] = [:]
    private var seen: Set<Found> = []
    /// How many operations of each kind there are when nothing fails.
    private var counts: [Int32: Int]?

    private struct Recovery: Hashable {
        let code: Int
        let print: UInt64
    }

    /// What is left of a node that has promised something, and what its peer holds.
    private struct Found: Hashable {
        let recovery: Recovery
        let promise: Stage.Promise
        let peer: Recovery
    }

    private var victim: CrashNode { script.victim(of: stage) }
    private var peer: CrashNode { script.peer(of: stage) }

    /// So often a node that is known is opened all the same: its files are other ones.
    private static let placesPerOpening = 48
    /// After so many ways that have left what another one has, a place has no others.
    private static let repetitionsMax = 16

    package init(_ script: CrashScript, _ options: Options = Options()) throws {
        self.script = script
        self.options = options
        stage = try Stage()
        try script.prepare(stage)
        for node in [stage.hub, stage.branch] where node.isOpen { try node.close() }
        beginning = stage.mark()
        other = try stage.twin()
    }

    private func play() throws {
        // Opening takes longer than most scripts, and not all need the peer.
        peer.opensWhenNeeded = script.hasPeer
        if script.opensVictim { try victim.open() }
        try script.play(stage)
        try victim.close()
    }

    // MARK: Power cuts

    /// Cuts the power at every change.
    ///
    /// - Parameter whileLying: Lets the disk's syncs do nothing: then something must be found.
    package func cutPower(whileLying: Bool = false) throws -> Outcome {
        outcome = Outcome()
        (recoveries, seen) = ([:], [])
        stage.goBack(to: beginning)
        victim.disk.lie(whileLying)
        victim.disk.watchChanges { [unowned self] in
            outcome.places += 1
            guard options.place ?? outcome.places == outcome.places, outcome.problems.count < options.problemsMax
            else { return }
            cut(outcome.places)
        }
        defer {
            victim.disk.watchChanges(nil)
            victim.disk.lie(false)
        }
        try play()
        return outcome
    }

    private func cut(_ place: Int) {
        let present = victim.disk.state()
        let (promise, held) = (stage.promise(of: victim), whatPeerHolds())
        var mark: Stage.Mark?
        var repetitions = 0
        for number in 0..<(present.unsynced == 0 ? 1 : options.ways) where repetitions < Self.repetitionsMax {
            // What was in flight may be there whole, or not at all, and then in any other way.
            let manner: CrashDisk.Manner =
                switch number {
                case 0: .allKept
                case 1: .allDropped
                default: [.inOrder, .anyhow, .pages, .garbled][number % 4]
                }
            let seed = options.seed &+ UInt64(place) &* 1000 &+ UInt64(number)
            let left = present.cut(seed: seed, manner: manner)
            let recovery = recovery(of: left)
            outcome.cuts += recovery.isNew ? 1 : 0
            repetitions = recovery.isNew ? 0 : repetitions + 1
            // The same bytes with another promise, or another peer, are another state.
            let isNew = seen.insert(Found(recovery: recovery.result, promise: promise, peer: held)).inserted
            outcome.states += isNew ? 1 : 0
            let isDue = number == 0 && place % Self.placesPerOpening == 0
            guard isNew || isDue || (options.triesEverything && recovery.isNew) else { continue }
            let isFirst = isNew || options.triesEverything
            let moment = mark ?? stage.mark()
            mark = moment
            other.begin(moment, at: script.victim(of: other), left: left, takesBackFence: seed % 2 == 1)
            var found = check(other, meets: script.hasPeer && isFirst)
            if recovery.result.code != 0 {
                found.append("SQLite recovers it with code \(recovery.result.code)")
            }
            outcome.problems += found.map { Problem(place: place, failing: nil, text: "\(manner), \(seed): \($0)") }
        }
    }

    /// Lets SQLite recover what a cut has left, unless it has done so already.
    private func recovery(of left: CrashDisk.State) -> (result: Recovery, isNew: Bool) {
        let disk = left.print()
        if let known = recoveries[disk] { return (known, false) }
        let path = Replica.path(in: CrashNode.directoryOnDisk)
        let (code, recovered) = left.has(path) ? left.recovered(path) : (0, left)
        // Only the fence and the databases count from here on: what recovery does with the journals has been seen.
        let print = recovered.print(ofFilesEndingIn: ".db") &+ recovered.print(ofFilesEndingIn: "/fence")
        let result = Recovery(code: code, print: print)
        recoveries[disk] = result
        return (result, true)
    }

    private func whatPeerHolds() -> Recovery { recovery(of: peer.disk.state().cut(seed: 0, manner: .allKept)).result }

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

    /// How many operations of a kind there are when nothing fails.
    private func count(_ operations: CrashDisk.Operations) throws -> Int {
        if let count = counts?[operations.rawValue] { return count }
        stage.goBack(to: beginning)
        let kinds = Set(DiskFailing.all.map(\.operations.rawValue)).union([operations.rawValue])
        let before = kinds.map { ($0, victim.disk.count(CrashDisk.Operations(rawValue: $0))) }
        try play()
        let found = Dictionary(
            uniqueKeysWithValues: before.map { kind, begin in
                (kind, victim.disk.count(CrashDisk.Operations(rawValue: kind)) - begin)
            }
        )
        counts = found
        return found[operations.rawValue] ?? 0
    }

    /// The places to be tried, out of so many.
    private func places(_ count: Int, _ failing: DiskFailing) -> [Int] {
        if let one = options.place { return [one] }
        let atMost = options.failuresMax
        guard !options.triesEverything, count > atMost else { return count == 0 ? [] : Array(1...count) }
        let number = UInt64(DiskFailing.all.firstIndex { $0.name == failing.name } ?? 0)
        let offset = Int((options.seed &* 31 &+ number &* 7) % UInt64(count))
        return (0..<atMost).map { 1 + ($0 * count + offset) / atMost % count }
    }

    /// Lets the disk fail in a way, at each place in a run of its own; then cuts the power.
    package func fail(_ failing: DiskFailing) throws -> Outcome {
        outcome = Outcome()
        for place in places(try count(failing.operations), failing) {
            stage.goBack(to: beginning)
            victim.disk.fail(failing.operations, at: place, with: failing.fault, forEver: failing.forEver)
            var error: (any Error)?
            do { try play() } catch let thrown { error = thrown }
            var found: [String] = []
            if victim.disk.failures == 0, let error { found.append("it failed although nothing was: \(error)") }
            outcome.failures += victim.disk.failures > 0 ? 1 : 0
            victim.disk.mend()
            // A head office that does not know that it was put back must not write.
            if victim.isOpen, script.opensVictim, !stage.mayRewriteLog {
                // It goes on as if nothing had been: what is acknowledged from here on is kept like any other.
                do {
                    try stage.add("پس از خطا", at: victim)
                } catch StoreFailure.firstLoad, StoreFailure.notJoined {
                    // It says so, and a session ends it.
                } catch {
                    found.append("it does not go on: \(error)")
                }
            }
            let promise = stage.promise(of: victim)
            for node in [victim, peer] { node.die() }
            let left = victim.disk.state().cut(seed: 0, manner: .allDropped)
            // Most errors end where another one has ended: with the same bytes at both, and the same promises.
            let end = Found(recovery: recovery(of: left).result, promise: promise, peer: whatPeerHolds())
            if seen.insert(end).inserted {
                stage.begin(stage.mark(), at: victim, left: left, takesBackFence: false)
                found += check(stage, meets: script.hasPeer)
            }
            outcome.problems += found.map { Problem(place: place, failing: failing, text: $0) }
            if outcome.problems.count >= options.problemsMax { break }
        }
        return outcome
    }
}
