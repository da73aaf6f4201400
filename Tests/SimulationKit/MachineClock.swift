import ReplicaStore
import Synchronization
import TestKit

/// The time that passes for everybody, in milliseconds since 1970-01-01 UTC, and passes when somebody says so.
package final class VirtualTime: Sendable {
    private let now: Mutex<UInt64>
    /// Where every simulation begins.
    package static let beginning: UInt64 = 1_800_000_000_000
    package static let day: UInt64 = 86_400_000

    package init(_ milliseconds: UInt64 = VirtualTime.beginning) { now = Mutex(milliseconds) }

    package var milliseconds: UInt64 {
        get { now.withLock { $0 } }
        set { now.withLock { $0 = newValue } }
    }
}

/// What one machine has: a wall clock that anybody may set, the time since the start, which nobody can, and chance.
package final class MachineClock: Sendable {
    private struct State {
        /// The wall clock minus the true time.
        var wrong: Int64 = 0
        /// What the wall clock shows for ever.
        var frozenAt: UInt64?
        var startedAt = VirtualTime.beginning - 1_000_000
        var boot: UInt64 = 1
        var random: SeededRandom
    }

    package let time: VirtualTime
    private let state: Mutex<State>

    package init(_ time: VirtualTime = VirtualTime(), seed: UInt64) {
        self.time = time
        state = Mutex(State(random: SeededRandom(seed: seed)))
    }

    /// What a node on this machine takes its time from.
    package var nodeClock: NodeClock { NodeClock(chance: { self.draw() }, read: { self.reading }) }

    private func draw() -> UInt64 { state.withLock { $0.random.next() } }

    package var reading: NodeClock.Reading {
        let now = time.milliseconds
        return state.withLock { state in
            NodeClock.Reading(
                wallMilliseconds: state.frozenAt ?? UInt64(clamping: Int64(now) + state.wrong),
                sinceBootMilliseconds: now - state.startedAt,
                boot: state.boot
            )
        }
    }

    /// Sets the wall clock off by so many milliseconds; it goes on from there.
    package func set(off milliseconds: Int64) {
        state.withLock { ($0.wrong, $0.frozenAt) = (milliseconds, nil) }
    }

    func freeze() {
        let now = reading.wallMilliseconds
        state.withLock { $0.frozenAt = now }
    }

    /// Starts the machine again.
    package func start() {
        let now = time.milliseconds
        state.withLock { ($0.startedAt, $0.boot) = (now, $0.boot + 1) }
    }
}
