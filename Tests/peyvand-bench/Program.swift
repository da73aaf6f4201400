import Foundation
import Glibc
import TestKit

/// The program as people start it: a process of its own, whose time and memory are measured.
final class Program {
    /// Beside this program, or the one that `PEYVAND_BINARY` names.
    static let binary =
        ProcessInfo.processInfo.environment["PEYVAND_BINARY"]
        ?? URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().path + "/peyvand"

    private static let environment: [String] = ["PATH=/usr/bin:/bin", "LANG=C"]

    private let number: pid_t
    private let home = TemporaryDirectory()
    private var end: (code: Int32, processor: Double)?
    let measured: MeasuredProcess

    init(_ arguments: [String]) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        let flags = O_WRONLY | O_CREAT | O_TRUNC
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, home.path + "/out", flags, 0o600)
        posix_spawn_file_actions_addopen(&actions, 2, home.path + "/err", flags, 0o600)
        var words = ([Self.binary] + arguments).map { strdup($0) } + [nil]
        var settings = Self.environment.map { strdup($0) } + [nil]
        defer { for text in words + settings { free(text) } }
        var number: pid_t = 0
        let code = posix_spawn(&number, Self.binary, &actions, nil, &words, &settings)
        guard code == 0 else {
            throw NotTheSame(description: "\(Self.binary) does not start: \(String(cString: strerror(code))).")
        }
        self.number = number
        measured = MeasuredProcess(number: number)
    }

    deinit {
        if end == nil { kill(number, SIGKILL) }
        _ = reap(waiting: true)
    }

    var output: String { text("out") }
    var messages: String { text("err") }

    private func text(_ name: String) -> String {
        (try? String(contentsOfFile: home.path + "/" + name, encoding: .utf8)) ?? ""
    }

    /// Runs a command to its end.
    ///
    /// - Parameter codes: The exit codes with which it may end.
    /// - Returns: What it printed, and what it took. Its peak is looked at while it runs, because the system counts to a
    ///   new process what its parent had in use.
    @discardableResult
    static func run(_ arguments: [String], codes: Set<Int32> = [0]) throws -> (output: String, cost: Cost) {
        let start = seconds(CLOCK_MONOTONIC)
        let program = try Program(arguments)
        var (peak, looks) = (0, 0)
        while !program.reap(waiting: false) {
            // Often at first, for commands that end at once; then seldom, so that looking costs nothing.
            looks += 1
            if looks.isMultiple(of: 10) || looks < 10 { peak = max(peak, program.measured.peakMemoryBytes) }
            usleep(looks < 100 ? 500 : 2000)
        }
        let wall = seconds(CLOCK_MONOTONIC) - start
        guard let end = program.end, codes.contains(end.code) else {
            throw NotTheSame(
                description: "peyvand \(arguments.joined(separator: " ")) failed: \(program.messages)\(program.output)"
            )
        }
        return (program.output, Cost(wall: wall, processor: end.processor, peakMemoryBytes: peak))
    }

    /// The mean cost of a command that is run so many times.
    static func mean(of times: Int, _ arguments: [String], codes: Set<Int32> = [0]) throws -> Cost {
        let costs = try (0..<times).map { _ in try run(arguments, codes: codes).cost }
        return Cost(
            wall: costs.reduce(0) { $0 + $1.wall } / Double(times),
            processor: costs.reduce(0) { $0 + $1.processor } / Double(times),
            peakMemoryBytes: costs.map(\.peakMemoryBytes).max() ?? 0
        )
    }

    /// Asks it to end, and waits until it has.
    func stop() {
        if end == nil { kill(number, SIGTERM) }
        _ = reap(waiting: true)
    }

    /// Whether it has ended.
    func reap(waiting: Bool) -> Bool {
        if end != nil { return true }
        var (status, usage): (Int32, rusage) = (0, rusage())
        while true {
            let reaped = wait4(number, &status, waiting ? 0 : WNOHANG, &usage)
            if reaped == number { break }
            if reaped == -1, errno == EINTR { continue }
            return false
        }
        let signal = status & 0x7F
        let times = [usage.ru_utime, usage.ru_stime].map { Double($0.tv_sec) + Double($0.tv_usec) / 1e6 }
        end = (signal == 0 ? (status >> 8) & 0xFF : 128 + signal, times[0] + times[1])
        return true
    }
}
