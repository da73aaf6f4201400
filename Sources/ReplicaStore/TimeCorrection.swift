import Causality
import SyncProtocol

/// When one change set of this node was written, as far as its own clocks could tell.
package struct Stamping: Hashable, Sendable {
    /// The greatest time that this node knew before.
    package var floor: HybridTimestamp
    /// The start of the machine.
    package var boot: UInt64
    /// Negative when it was written before that start, by another program.
    package var sinceBootMilliseconds: Int64
    /// What the wall clock showed, in milliseconds since 1970-01-01 UTC.
    package var wallMilliseconds: Int64
    /// Whether its time came from head office's clock, measured before, rather than from this node's.
    package var isMeasured: Bool

    package init(
        floor: HybridTimestamp,
        boot: UInt64,
        sinceBootMilliseconds: Int64,
        wallMilliseconds: Int64,
        isMeasured: Bool
    ) {
        self.floor = floor
        self.boot = boot
        self.sinceBootMilliseconds = sinceBootMilliseconds
        self.wallMilliseconds = wallMilliseconds
        self.isMeasured = isMeasured
    }
}

/// Finds the true times of change sets that were written by a wrong clock and that nobody else has seen.
///
/// What was written since the machine was started is as old as the time since then says, whatever became of the
/// wall clock. Of an earlier start the last change set ties the time since that start to the wall clock, which is
/// taken to have been as wrong then as it is now.
package struct TimeCorrection: Sendable {
    /// Head office's time minus the wall clock's.
    private let offset: Int64
    private let now: NodeClock.Reading
    /// Head office's time, now.
    private let hubNow: Int64
    /// A time that is right to this is left alone: the measurement is not better.
    private let tolerance: Int64

    /// A clock that runs on its own is not wrong by more than this between two sessions; head office's was, then,
    /// when it was measured before.
    private static let measuredTolerance: Int64 = 120_000

    package init(_ measured: ClockMeasurement, at now: NodeClock.Reading) {
        let limit = Int64(HybridTimestamp.millisecondsMax)
        self.now = now
        offset = min(max(measured.offsetMilliseconds, -limit), limit)
        hubNow = max(now.wall + offset, 0)
        tolerance = 100 + min(max(measured.roundTripMilliseconds, 0), limit) / 2
    }

    /// Head office's time when the machine was started.
    package var hubMillisecondsAtBoot: Int64 { hubNow - now.sinceBoot }

    /// Whether another measurement of head office's time at this start of the machine is as good.
    package func confirms(hubMillisecondsAtBoot other: Int64) -> Bool {
        (other - hubMillisecondsAtBoot).magnitude <= UInt64(tolerance)
    }

    /// The true times of a run of change sets, in order: never above head office's now, unless what precedes is,
    /// and each above all that precedes.
    package func correctedTimes(_ run: [(time: HybridTimestamp, stamping: Stamping)]) -> [HybridTimestamp] {
        let starts = hubMillisecondsAtStart(of: run.map(\.stamping))
        // Nil for a time that is right as it is.
        var moved = run.map { time, stamping -> Int64? in
            guard let start = starts[stamping.boot] else { return nil }
            let written = Int64(time.milliseconds)
            var moment = start + stamping.sinceBootMilliseconds
            if stamping.boot != now.boot {
                // Measured then, and now nothing better is known.
                if stamping.isMeasured { return written <= hubNow ? nil : hubMillisecondsAtBoot }
                moment = min(moment, hubMillisecondsAtBoot)
            } else if stamping.isMeasured, (moment - written).magnitude <= UInt64(Self.measuredTolerance) {
                return nil
            }
            return written <= hubNow && (moment - written).magnitude <= UInt64(tolerance) ? nil : moment
        }
        // Nothing was written after now, nor after what was written later.
        var latest = hubNow
        for index in moved.indices.reversed() {
            if let moment = moved[index] { moved[index] = min(moment, latest) }
            latest = min(latest, moved[index] ?? Int64(run[index].time.milliseconds))
        }
        var previous = run.first?.stamping.floor ?? .zero
        return zip(moved, run).map { moment, set in
            let time = moment.map { HybridTimestamp(milliseconds: UInt64(max($0, 0))) } ?? set.time
            previous = max(time, previous.next)
            return previous
        }
    }

    /// Head office's time at each start of the machine.
    private func hubMillisecondsAtStart(of run: [Stamping]) -> [UInt64: Int64] {
        var starts: [UInt64: Int64] = [:]
        // The last one counts: a wall clock that was set in between is right, or as wrong as now, after that.
        for stamping in run {
            starts[stamping.boot] = stamping.wallMilliseconds - stamping.sinceBootMilliseconds + offset
        }
        starts[now.boot] = hubMillisecondsAtBoot
        return starts
    }
}
