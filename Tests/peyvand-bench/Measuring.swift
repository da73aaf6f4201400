import Glibc

/// What one side of a round took.
struct Cost {
    /// Seconds that passed.
    let wall: Double
    /// Seconds of processor time, of all threads, in the program and in the system for it.
    let processor: Double

    /// Runs something and looks at the clocks before and after.
    static func of(_ body: () throws -> Void) rethrows -> Cost {
        let (wall, processor) = (seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID))
        try body()
        return Cost(wall: seconds(CLOCK_MONOTONIC) - wall, processor: seconds(CLOCK_PROCESS_CPUTIME_ID) - processor)
    }

    private static func seconds(_ clock: clockid_t) -> Double {
        var time = timespec()
        clock_gettime(clock, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

/// The middle of some numbers, and how far they lie apart.
struct Spread: Encodable {
    let median: Double
    let low: Double
    let high: Double

    /// - Precondition: There is at least one number.
    init(_ numbers: [Double]) {
        precondition(!numbers.isEmpty, "Nothing was measured")
        let sorted = numbers.sorted()
        let middle = sorted.count / 2
        median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
        (low, high) = (sorted[0], sorted[sorted.count - 1])
    }
}

/// The most memory that this process has had in use, in bytes.
func peakMemory() -> Int {
    var usage = rusage()
    getrusage(Int32(RUSAGE_SELF.rawValue), &usage)
    return Int(usage.ru_maxrss) << 10
}
