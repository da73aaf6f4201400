import Foundation
import Glibc

/// What something took.
struct Cost {
    /// Seconds that passed.
    let wall: Double
    /// Seconds of processor time, of all threads, in the program and in the system for it.
    let processor: Double
    /// The most memory that was in use meanwhile, in bytes; of several processes, the one that used most.
    let peakMemoryBytes: Int

    /// Runs something in this process and looks at the clocks before and after.
    static func of(_ body: () throws -> Void) rethrows -> Cost { try of([.this], body) }

    /// Runs something and counts what these processes use meanwhile.
    static func of(_ processes: [MeasuredProcess], _ body: () throws -> Void) rethrows -> Cost {
        for process in processes { process.forgetPeak() }
        let before = processes.map(\.processorSeconds)
        let start = seconds(CLOCK_MONOTONIC)
        try body()
        let wall = seconds(CLOCK_MONOTONIC) - start
        return Cost(
            wall: wall,
            processor: zip(processes, before).reduce(0) { $0 + $1.0.processorSeconds - $1.1 },
            peakMemoryBytes: processes.map(\.peakMemoryBytes).max() ?? 0
        )
    }

    /// The mean cost of one of so many goes, for what is too short to be measured once.
    static func ofOne(of times: Int, _ body: () throws -> Void) rethrows -> Cost {
        let all = try of { for _ in 0..<times { try body() } }
        return Cost(
            wall: all.wall / Double(times),
            processor: all.processor / Double(times),
            peakMemoryBytes: all.peakMemoryBytes
        )
    }

    /// Two processes that worked at the same time.
    func beside(processor: Double, peakMemoryBytes: Int) -> Cost {
        Cost(
            wall: wall,
            processor: self.processor + processor,
            peakMemoryBytes: max(self.peakMemoryBytes, peakMemoryBytes)
        )
    }
}

/// Seconds of a clock.
func seconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// A process whose processor time and memory can be looked at from outside.
struct MeasuredProcess {
    private let name: String
    private let clock: clockid_t

    static let this = MeasuredProcess(name: "self", clock: CLOCK_PROCESS_CPUTIME_ID)

    private init(name: String, clock: clockid_t) { (self.name, self.clock) = (name, clock) }

    /// - Precondition: The process runs, or has ended and was not reaped yet.
    init(number: pid_t) {
        var clock = clockid_t()
        let code = clock_getcpuclockid(number, &clock)
        precondition(code == 0, "Process \(number) has no clock")
        self.init(name: String(number), clock: clock)
    }

    /// Of all threads, in the program and in the system for it.
    var processorSeconds: Double { seconds(clock) }

    /// The most memory in use since the last time that was forgotten.
    var peakMemoryBytes: Int {
        let status = (try? String(contentsOfFile: "/proc/\(name)/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") } ?? ""
        return (line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) << 10
    }

    /// From here on the peak is what is in use now, and what will be.
    func forgetPeak() {
        let file = open("/proc/\(name)/clear_refs", O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { return }
        _ = write(file, "5", 1)
        close(file)
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
