import Foundation
import Synchronization
import TestKit
import Testing

/// The program as people start it: a process with its own standard streams.
///
/// Started with `posix_spawn`, ended by its number. Output goes to files, so that nobody has to read it for the
/// process to go on.
final class PeyvandProcess: Sendable {
    /// The program beside the bundle of the tests, or the one that `PEYVAND_BINARY` names.
    static let binary =
        ProcessInfo.processInfo.environment["PEYVAND_BINARY"]
        ?? URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path + "/peyvand"

    private static let inheritedNames: Set = ["PATH", "LD_PRELOAD", "ASAN_OPTIONS", "TSAN_OPTIONS"]

    /// Held while something is opened that must not be inherited, and while a process starts.
    private static let starting = Mutex(())

    /// How a process ended.
    struct End: Hashable, Sendable {
        /// Its exit code, or 128 and the signal that ended it.
        let code: Int32
    }

    private struct State {
        var end: End?
        var input: Int32?
    }

    let number: pid_t
    private let home: TemporaryDirectory
    private let state: Mutex<State>

    /// Starts the program, or another one.
    ///
    /// - Parameters:
    ///   - environment: Beside a search path, and what sanitizers are told; nothing else is inherited.
    ///   - feedsInput: Whether ``write(_:)`` will give it standard input; else that is empty.
    init(
        _ arguments: [String],
        program: String = PeyvandProcess.binary,
        environment: [String: String] = [:],
        feedsInput: Bool = false
    ) throws {
        // A process that dies does not take the test with it.
        signal(SIGPIPE, SIG_IGN)
        let home = TemporaryDirectory()
        self.home = home
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        var pipe: [Int32] = [-1, -1]
        if feedsInput {
            // Nobody else may inherit it, or its end would never be seen.
            let isMade = Self.starting.withLock { _ in
                Foundation.pipe(&pipe) == 0 && fcntl(pipe[0], F_SETFD, FD_CLOEXEC) == 0
                    && fcntl(pipe[1], F_SETFD, FD_CLOEXEC) == 0
            }
            #expect(isMade)
            posix_spawn_file_actions_adddup2(&actions, pipe[0], 0)
            // Replies come while there is still something to say.
            // 1031 is F_SETPIPE_SZ, which Swift does not import.
            _ = fcntl(pipe[1], 1031, 4096)
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        }
        let flags = O_WRONLY | O_CREAT | O_TRUNC
        posix_spawn_file_actions_addopen(&actions, 1, home.path + "/out", flags, 0o600)
        posix_spawn_file_actions_addopen(&actions, 2, home.path + "/err", flags, 0o600)
        let inherited = ProcessInfo.processInfo.environment.filter { Self.inheritedNames.contains($0.key) }
        let all = ["PATH": "/usr/bin:/bin", "LANG": "C"].merging(inherited) { $1 }.merging(environment) { $1 }
        let variables = all.sorted { $0.key < $1.key }.map { "\($0)=\($1)" }
        var words = ([program] + arguments).map { strdup($0) } + [nil]
        var settings = variables.map { strdup($0) } + [nil]
        defer { for text in words + settings { free(text) } }
        var number: pid_t = 0
        let code = Self.starting.withLock { _ in
            posix_spawnp(&number, program, &actions, nil, &words, &settings)
        }
        if feedsInput { close(pipe[0]) }
        guard code == 0 else { throw NotStarted(program: program, reason: String(cString: strerror(code))) }
        self.number = number
        state = Mutex(State(input: feedsInput ? pipe[1] : nil))
    }

    deinit {
        // Never left behind, and no other process ever gets its number before this one is reaped.
        if !hasEnded { send(SIGKILL) }
        finishInput()
        _ = reap(blocking: true)
    }

    /// What it has written so far.
    var output: String { text("out") }
    var messages: String { text("err") }
    var outputByteCount: Int {
        var status = stat()
        return stat(home.path + "/out", &status) == 0 ? Int(status.st_size) : 0
    }

    /// Gives it standard input; false when it does not take any more. Blocks while its pipe is full.
    @discardableResult
    func write(_ text: String) -> Bool {
        guard let input = state.withLock({ $0.input }) else { return false }
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Foundation.write(input, $0.baseAddress, $0.count) }
            guard count > 0 else { return false }
            bytes = bytes.dropFirst(count)
        }
        return true
    }

    /// Ends its standard input.
    func finishInput() {
        let input = state.withLock { state in
            defer { state.input = nil }
            return state.input
        }
        if let input { close(input) }
    }

    func send(_ signal: Int32) {
        state.withLock { if $0.end == nil { kill(number, signal) } }
    }

    /// Ends it as a power cut would, and waits until it is gone.
    func killAtOnce() {
        send(SIGKILL)
        _ = reap(blocking: true)
    }

    var hasEnded: Bool { reap(blocking: false) != nil }

    /// Waits for its end, however long that takes: the test's time limit is the limit.
    func end() async -> End {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                continuation.resume(returning: self.reap(blocking: true) ?? End(code: -1))
            }
        }
    }

    private func reap(blocking: Bool) -> End? {
        // Waits without taking the number away, so that nobody is hindered meanwhile.
        if blocking, state.withLock({ $0.end == nil }) {
            var information = siginfo_t()
            while waitid(P_PID, id_t(number), &information, WEXITED | WNOWAIT) != 0, errno == EINTR {}
        }
        return state.withLock { state in
            if let end = state.end { return end }
            var status: Int32 = 0
            guard waitpid(number, &status, WNOHANG) == number else { return nil }
            let signal = status & 0x7F
            state.end = End(code: signal == 0 ? (status >> 8) & 0xFF : 128 + signal)
            return state.end
        }
    }

    private func text(_ name: String) -> String {
        (try? Data(contentsOf: URL(fileURLWithPath: home.path + "/" + name))).map {
            String(decoding: $0, as: UTF8.self)
        } ?? ""
    }

    private struct NotStarted: Error {
        let program: String
        let reason: String
    }
}

/// What a command has done.
struct Outcome: Sendable {
    let code: Int32
    let output: String
    let message: String

    /// The JSON document that it has printed.
    var json: [String: Any] {
        get throws {
            let object = try JSONSerialization.jsonObject(with: Data(output.utf8))
            return try #require(object as? [String: Any])
        }
    }

    /// Lines of standard output, without the empty one at the end.
    var lines: [Substring] { output.split(separator: "\n") }

    /// The items of a list in the JSON document that it has printed.
    func list(_ name: String) throws -> [[String: Any]] { try #require(json[name] as? [[String: Any]]) }

    /// The ids of the items of a list.
    func ids(_ name: String) throws -> [String] { try list(name).compactMap { $0["id"] as? String } }

    /// The codes of the reasons of `status`.
    var reasons: Set<String> {
        get throws { try Set(list("reasons").compactMap { $0["code"] as? String }) }
    }
}

/// Runs a command to its end.
func peyvand(
    _ arguments: String...,
    environment: [String: String] = [:],
    input: String? = nil
) async throws -> Outcome {
    try await run(PeyvandProcess.binary, arguments, environment: environment, input: input)
}

/// Runs a command of words without blanks at a node.
func peyvand(at directory: String, _ line: String, environment: [String: String] = [:]) async throws -> Outcome {
    let words = line.split(separator: " ").map(String.init)
    return try await run(PeyvandProcess.binary, words + ["--data", directory], environment: environment)
}

/// Runs a command of words without blanks at a node, which has to succeed.
@discardableResult
func done(
    at directory: String,
    _ line: String,
    environment: [String: String] = [:],
    location: SourceLocation = #_sourceLocation
) async throws -> Outcome {
    let outcome = try await peyvand(at: directory, line, environment: environment)
    try #require(outcome.code == 0, "\(line): \(outcome.message)\(outcome.output)", sourceLocation: location)
    return outcome
}

/// Runs SQL on a node's file as nobody should: with its triggers off.
func tamper(_ directory: String, _ sql: String) async throws {
    let outcome = try await run("sqlite3", [directory + "/replica.db", ".dbconfig enable_trigger off", sql])
    try #require(outcome.code == 0, "\(outcome.message)")
}

/// Runs any program to its end.
func run(
    _ program: String,
    _ arguments: [String],
    environment: [String: String] = [:],
    input: String? = nil
) async throws -> Outcome {
    let process = try PeyvandProcess(
        arguments,
        program: program,
        environment: environment,
        feedsInput: input != nil
    )
    if let input {
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            DispatchQueue.global().async {
                process.write(input)
                process.finishInput()
                done.resume()
            }
        }
    }
    let end = await process.end()
    return Outcome(code: end.code, output: process.output, message: process.messages)
}

/// Looks again and again until something is true; false when that takes too long.
func becomesTrue(within limit: Duration = .seconds(30), _ condition: () async throws -> Bool) async rethrows -> Bool {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        if ContinuousClock.now > deadline { return false }
        // Gives the processes that are waited for some of the machine.
        try? await Task.sleep(for: .milliseconds(5))
    }
    return true
}

/// A head office in a directory of its own, and the branches that join it.
final class ProcessOffice: Sendable {
    let home = TemporaryDirectory()
    private let running = Mutex<(process: PeyvandProcess, port: Int)?>(nil)

    var headOffice: String { home.path + "/hq" }

    /// Where it listens; 0 before it was started for the first time.
    var port: Int { running.withLock { $0?.port ?? 0 } }

    /// A head office that runs.
    static func open() async throws -> ProcessOffice {
        let office = ProcessOffice()
        let made = try await peyvand(
            "init",
            "--data",
            office.headOffice,
            "--role",
            "head-office",
            "--name",
            "tehran-hq"
        )
        try #require(made.code == 0, "\(made.message)")
        try await office.start()
        return office
    }

    /// Starts head office; again at the same port if it has run before.
    func start(environment: [String: String] = [:]) async throws {
        let (process, port) = try await startHeadOffice(headOffice, port: port, environment: environment)
        let listening = try #require(port, "\(process.messages)")
        running.withLock { $0 = (process, listening) }
    }

    /// The process of head office.
    var process: PeyvandProcess {
        get throws { try #require(running.withLock { $0?.process }) }
    }

    /// An invitation for a branch, to call at a port.
    func invitation(_ name: String, port: Int? = nil, ttl: String = "24h") async throws -> String {
        let address = "127.0.0.1:\(port ?? self.port)"
        let made = try await peyvand("enroll", name, "--data", headOffice, "--address", address, "--ttl", ttl)
        try #require(made.code == 0, "\(made.message)")
        return made.output.trimmingCharacters(in: .newlines)
    }

    /// A branch that has joined; its directory.
    func branch(_ name: String, port: Int? = nil) async throws -> String {
        let directory = home.path + "/" + name
        let invitation = try await invitation(name, port: port)
        let made = try await peyvand("init", "--data", directory, "--role", "branch", "--join", invitation)
        try #require(made.code == 0, "\(made.message)")
        return directory
    }

    /// A file beside the nodes.
    func file(_ name: String, _ content: String) throws -> String {
        let path = home.path + "/" + name
        try content.write(toFile: path, atomically: false, encoding: .utf8)
        return path
    }
}

/// Starts `run` at head office, and returns once branches can call, or it has ended.
///
/// - Parameter port: Where it shall listen; 0 for any.
/// - Returns: Where it listens; nil if it has ended, or does not come up.
func startHeadOffice(
    _ directory: String,
    port: Int,
    environment: [String: String] = [:]
) async throws -> (process: PeyvandProcess, port: Int?) {
    let process = try PeyvandProcess(
        ["run", "--data", directory, "--listen", "127.0.0.1:\(port)"],
        environment: environment
    )
    var listening: Int?
    _ = await becomesTrue {
        listening = process.messages.firstMatch(of: #/listens on 127\.0\.0\.1:(\d+)\./#).flatMap { Int($0.1) }
        return listening != nil || process.hasEnded
    }
    return (process, listening)
}

/// Starts `run` at a branch, and returns once it answers commands.
func startBranch(_ directory: String, environment: [String: String] = [:]) async throws -> PeyvandProcess {
    let process = try PeyvandProcess(["run", "--data", directory], environment: environment)
    let isUp = await becomesTrue { process.messages.contains("is running.") || process.hasEnded }
    try #require(isUp && !process.hasEnded, "\(process.messages)")
    return process
}

/// Lines of `write`: so many customers, each a transaction by itself.
func customers(_ count: Int, _ name: String) -> String {
    (0..<count).map { "{\"op\":\"put\",\"table\":\"customer\",\"set\":{\"name\":\"\(name) \($0)\"}}\n" }.joined()
}

/// The canonical lines of a node.
func dump(_ directory: String) async throws -> String {
    let outcome = try await peyvand("dump", "--data", directory)
    try #require(outcome.code == 0, "\(outcome.message)")
    return outcome.output
}

/// One session with head office that goes well.
func synchronise(_ directory: String) async throws {
    let outcome = try await peyvand("sync", "--data", directory)
    try #require(outcome.code == 0, "\(outcome.output)\(outcome.message)")
}

/// Records a customer; its id.
@discardableResult
func addCustomer(
    _ directory: String,
    _ name: String,
    environment: [String: String] = [:]
) async throws -> String {
    let outcome = try await peyvand(
        "customer",
        "add",
        "--data",
        directory,
        "--name",
        name,
        "--json",
        environment: environment
    )
    try #require(outcome.code == 0, "\(outcome.message)")
    return try #require(outcome.json["id"] as? String)
}
