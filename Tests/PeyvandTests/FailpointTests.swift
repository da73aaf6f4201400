import Foundation
import ReplicaStore
import TestKit
import Testing

@Suite("Commands that end in the middle", .timeLimit(.minutes(15)))
struct FailpointTests {
    @Test(
        "A command that ended half way and was given again leaves what it would have left, and nothing told is lost",
        arguments: Failpoint.allCases
    )
    func givenAgain(_ point: Failpoint) async throws {
        var endings = 0
        for pass in [1, 3] {
            let day = Day(endingAt: point, pass)
            try await day.play()
            endings += day.endings
        }
        #expect(endings > 0, "No command came by.")
    }
}

/// A day at head office and a branch, at which every process ends at its nth visit to a failpoint, and people start it
/// again.
private final class Day {
    private let home = TemporaryDirectory()
    private let environment: [String: String]
    private var hub: PeyvandProcess?
    private var port = 0
    /// Ids of customers of which somebody was told that they are kept.
    private var told: Set<String> = []
    /// How many processes have ended half way.
    private(set) var endings = 0

    private var headOffice: String { home.path + "/hq" }
    private var branch: String { home.path + "/isfahan" }

    private let point: Failpoint

    init(endingAt point: Failpoint, _ pass: Int) {
        self.point = point
        environment = ["PEYVAND_FAILPOINT": "\(point.rawValue):\(pass)"]
    }

    func play() async throws {
        try await give("init --role head-office --name tehran-hq", at: headOffice, orIsTold: "holds a node already")
        try await add(3, at: headOffice)
        try await importFile("a", at: headOffice)
        try await startHub(environment)
        let invitation = try await give("enroll isfahan --address 127.0.0.1:\(port)", at: headOffice).output
        let join = "init --role branch --join \(invitation.trimmingCharacters(in: .newlines))"
        try await give(join, at: branch, orIsTold: "holds a node already")
        try await add(3, at: branch)
        try await importFile("b", at: branch)
        if point == .partSpooled { try await addLarge(at: branch) }
        try await give("sync", at: branch)

        let backup = home.path + "/backup"
        try await give("backup \(backup)", at: branch, orIsTold: "There is a file")
        try await add(2, at: branch)
        try await give("sync", at: branch)
        try await give("restore \(backup) --force", at: branch)

        let erased = try await peyvand(at: branch, "customer add --name نسرین --json").json["id"] as? String
        try await give("sync", at: branch)
        try await give("privacy erase \(try #require(erased))", at: headOffice, orIsTold: "was erased for good")
        try await give("bundle write \(home.path)/all --snapshot", at: headOffice)
        for _ in 0..<2 { try await give("sync", at: branch) }
        hub?.send(SIGTERM)
        _ = await hub?.end()
        try await look(without: try #require(erased))
    }

    private func look(without erased: String) async throws {
        let rows = try await dump(headOffice)
        #expect(try await dump(branch) == rows)
        for node in [headOffice, branch] {
            #expect(try await peyvand(at: node, "verify --deep").code == 0)
        }
        let lines = rows.split(separator: "\n").filter { $0.contains("\"table\":\"customer\"") }
        let ids = Set(lines.compactMap { $0.firstMatch(of: #/"id":"([0-9-]+)"/#).map { String($0.1) } })
        #expect(told.isSubset(of: ids) && !ids.contains(erased))
        for file in ["a", "b"] {
            #expect(lines.count { $0.contains("\"externalKey\":\"\(file)-") } == 40)
        }
    }

    // MARK: Processes

    /// Starts head office, unless it runs.
    private func startHub(_ environment: [String: String] = [:]) async throws {
        if let hub, !hub.hasEnded { return }
        if hub != nil { endings += 1 }
        let (process, listening) = try await startHeadOffice(headOffice, port: port, environment: environment)
        hub = process
        if let listening {
            port = listening
        } else {
            try #require(!environment.isEmpty, "\(process.messages)")
            try await startHub()
        }
    }

    /// Gives a command of words without blanks; once more if it, or head office, has ended half way.
    ///
    /// - Parameter reply: What it says the second time if all was done the first time.
    @discardableResult
    private func give(_ line: String, at node: String, orIsTold reply: String? = nil) async throws -> Outcome {
        var outcome = try await peyvand(at: node, line, environment: environment)
        if outcome.code == 137 { endings += 1 }
        // Head office may end while a command is given the second time.
        for _ in 0..<2 where outcome.code != 0 {
            // Its socket is gone a moment before it is.
            let isHubGone = await becomesTrue(within: .seconds(outcome.code == 137 ? 0 : 5)) { hub?.hasEnded == true }
            let isEnded = outcome.code == 137 || isHubGone
            try #require(isEnded, "\(line): \(outcome.code) \(outcome.output)\(outcome.message)")
            if hub != nil { try await startHub() }
            outcome = try await peyvand(at: node, line)
            if let reply, outcome.message.contains(reply) { return outcome }
        }
        try #require(outcome.code == 0, "\(line): \(outcome.code) \(outcome.output)\(outcome.message)")
        return outcome
    }

    /// Adds customers, each by itself. Nobody gives that again: only what was replied must be there.
    private func add(_ count: Int, at node: String) async throws {
        try await write(customers(count, "مریم"), at: node)
    }

    /// Adds customers in one transaction that is too large to travel in one piece.
    private func addLarge(at node: String) async throws {
        var random = SeededRandom(seed: 1)
        let rows = (0..<60).map { _ in
            let note = (0..<6000).map { _ in String(UInt32.random(in: .min ... .max, using: &random), radix: 36) }
                .joined()
            return "{\"op\":\"put\",\"table\":\"customer\",\"set\":{\"name\":\"مریم\",\"note\":\"\(note)\"}}\n"
        }
        try await write("{\"op\":\"begin\"}\n" + rows.joined() + "{\"op\":\"commit\"}\n", at: node)
    }

    private func write(_ lines: String, at node: String) async throws {
        let written = try await peyvand(
            "write",
            "--jsonl",
            "-",
            "--data",
            node,
            environment: environment,
            input: lines
        )
        if written.code == 137 { endings += 1 }
        #expect(written.code == 0 || written.code == 137, "\(written.message)")
        // The last line may be cut.
        for reply in written.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
            told.insert(String(try #require(reply.firstMatch(of: #/"id":"([0-9-]+)"/#)).1))
        }
    }

    private func importFile(_ name: String, at node: String) async throws {
        let path = home.path + "/\(name).csv"
        let rows = (0..<40).map { "\(name)-\($0),مشتری \($0)\n" }.joined()
        try ("externalKey,name\n" + rows).write(toFile: path, atomically: false, encoding: .utf8)
        try await give("import \(path) --as customers", at: node)
    }
}
