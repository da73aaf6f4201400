import Causality
import Glibc

/// What a node has of its machine: time, and chance. The time: a wall clock that anybody may set, and beside it the time since the machine
/// was started, which nobody can.
///
/// How the wall clock stands against head office's is measured in every session; how much time has passed since
/// something was written is told by the time since the start, as long as the machine was not started again.
package struct NodeClock: Sendable {
    /// Both clocks at one moment.
    package struct Reading: Hashable, Sendable {
        /// Milliseconds since 1970-01-01 UTC.
        package var wallMilliseconds: UInt64
        /// Milliseconds since the machine was started, times of sleep included.
        package var sinceBootMilliseconds: UInt64
        /// Which start of the machine that was.
        package var boot: UInt64

        package init(wallMilliseconds: UInt64, sinceBootMilliseconds: UInt64, boot: UInt64) {
            self.wallMilliseconds = wallMilliseconds
            self.sinceBootMilliseconds = sinceBootMilliseconds
            self.boot = boot
        }
    }

    /// Reads both clocks. Does not block.
    package let read: @Sendable () -> Reading
    /// Draws a number by chance, such that nobody can guess it: keys are made of it. Does not block.
    let chance: @Sendable () -> UInt64
    /// The wall clock minus the machine's own, which other programs read.
    let shiftMilliseconds: Int64

    package init(
        shiftMilliseconds: Int64 = 0,
        chance: @escaping @Sendable () -> UInt64 = { UInt64.random(in: 0...UInt64.max) },
        read: @escaping @Sendable () -> Reading
    ) {
        self.read = read
        self.chance = chance
        self.shiftMilliseconds = shiftMilliseconds
    }

    /// A clock that nobody sets: all time that it shows has passed.
    package init(wallClock: @escaping @Sendable () -> UInt64) {
        self.init {
            let now = wallClock()
            return Reading(wallMilliseconds: now, sinceBootMilliseconds: now, boot: 0)
        }
    }

    /// The clocks of this machine.
    ///
    /// - Parameter shiftMilliseconds: Is added to the wall clock, for tests and drills.
    package static func ofMachine(shiftMilliseconds: Int64 = 0) -> NodeClock {
        let boot = presentBoot()
        return NodeClock(shiftMilliseconds: shiftMilliseconds) {
            let wall = milliseconds(of: CLOCK_REALTIME).addingReportingOverflow(shiftMilliseconds)
            return Reading(
                wallMilliseconds: UInt64(clamping: wall.overflow ? 0 : wall.partialValue),
                sinceBootMilliseconds: UInt64(clamping: milliseconds(of: CLOCK_BOOTTIME)),
                boot: boot
            )
        }
    }

    private static func milliseconds(of clock: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }

    /// The random number that Linux draws at each start. Where it cannot be read, every program that asks has a
    /// start of its own, so that nothing is concluded from a time that may have begun anew.
    private static func presentBoot() -> UInt64 {
        var bytes = [UInt8](repeating: 0, count: 64)
        var count = 0
        let file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC)
        if file >= 0 {
            count = Glibc.read(file, &bytes, bytes.count)
            close(file)
        }
        let digits = bytes.prefix(max(count, 0)).compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
        guard digits.count == 32 else { return UInt64.random(in: 1...UInt64.max) }
        let halves = [digits.prefix(16), digits.suffix(16)].map { half in
            half.reduce(UInt64(0)) { $0 << 4 | UInt64($1) }
        }
        return halves[0] ^ halves[1]
    }
}

extension NodeClock.Reading {
    /// The wall clock as a number that can be subtracted; what no timestamp can express is cut off.
    var wall: Int64 { Int64(min(wallMilliseconds, HybridTimestamp.millisecondsMax)) }
    /// The same of the time since the start.
    var sinceBoot: Int64 { Int64(min(sinceBootMilliseconds, HybridTimestamp.millisecondsMax)) }
}
