import Glibc
import SyncProtocol
import Synchronization

/// Keeps a node's line within its ``BandwidthPlan``. One for all sessions of a node, because the line is one. Thread-safe.
package final class LineRate: Sendable {
    enum Direction: Int {
        case outgoing, incoming
    }

    private struct State {
        var plan: BandwidthPlan
        /// By direction: when what was let through so far will have passed.
        var free: [ContinuousClock.Instant?] = [nil, nil]
    }

    /// A pause is cut into pieces of this length, so that a changed plan, or an end, is noticed.
    private static let pauseMax = Duration.milliseconds(500)

    private let state: Mutex<State>
    private let minuteOfDay: @Sendable () -> Int

    /// - Parameter minuteOfDay: Local time, 0 to 1439.
    package init(
        _ plan: BandwidthPlan = .unlimited,
        minuteOfDay: @escaping @Sendable () -> Int = LineRate.localMinute
    ) {
        state = Mutex(State(plan: plan))
        self.minuteOfDay = minuteOfDay
    }

    /// The minute of the day on this machine.
    package static func localMinute() -> Int {
        var now = time(nil)
        var parts = tm()
        localtime_r(&now, &parts)
        return Int(parts.tm_hour) * 60 + Int(parts.tm_min)
    }

    /// Uses another plan from now on.
    package func adopt(_ plan: BandwidthPlan) { state.withLock { $0 = State(plan: plan) } }

    /// Whether the line is to be left alone now.
    package var isClosed: Bool { bytesPerSecond == 0 }

    private var bytesPerSecond: Int? {
        let minute = minuteOfDay()
        return state.withLock { $0.plan.bytesPerSecond(atMinute: minute) }
    }

    /// How many bytes are best written at once; nil when that does not matter.
    ///
    /// A closed line that is used all the same, because somebody asked for it or something urgent waits, is not slowed down.
    var pieceBytes: Int? {
        guard let rate = bytesPerSecond, rate > 0 else { return nil }
        return max(1 << 10, rate / 4)
    }

    /// Counts bytes, and returns how long the line is taken by them and those before.
    func take(_ bytes: Int, _ direction: Direction, now: ContinuousClock.Instant = .now) -> Duration {
        guard let rate = bytesPerSecond, rate > 0 else { return .zero }
        return state.withLock { state in
            let free = max(state.free[direction.rawValue] ?? now, now)
            let end = free + .seconds(1) * (Double(bytes) / Double(rate))
            state.free[direction.rawValue] = end
            return end - now
        }
    }

    /// Counts bytes, and waits until the line has carried them.
    ///
    /// - Parameter isOver: Ends the wait early.
    func pass(_ bytes: Int, _ direction: Direction, unless isOver: @Sendable () -> Bool) async {
        var rest = take(bytes, direction)
        while rest > .zero, !isOver(), !Task.isCancelled, pieceBytes != nil {
            let pause = min(rest, Self.pauseMax)
            try? await Task.sleep(for: pause)
            rest -= pause
        }
    }
}
