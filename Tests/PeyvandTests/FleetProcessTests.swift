import Foundation
import TestKit
import Testing

@Suite("What head office sees of its branches, with the real program", .serialized, .timeLimit(.minutes(15)))
struct FleetProcessTests {
    /// One node of `fleet --json`, with the codes of its reasons.
    private func node(_ name: String, in fleet: Outcome) throws -> (state: String, reasons: Set<String>) {
        let node = try #require(fleet.list("nodes").first { $0["name"] as? String == name })
        let reasons = node["reasons"] as? [[String: Any]] ?? []
        return (node["state"] as? String ?? "", Set(reasons.compactMap { $0["code"] as? String }))
    }

    @Test("Whoever is turned away is counted with the reason, and a retired branch says so itself")
    func refusals() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let branch = try await office.branch("isfahan")
        try await addCustomer(branch, "unsent")
        let invitation = try await office.invitation("shiraz")
        let wrong = String(invitation.dropLast(6)) + (invitation.hasSuffix("AAAAAA") ? "BBBBBB" : "AAAAAA")
        for _ in 0..<2 {
            let refused = try await peyvand(at: office.home.path + "/shiraz", "init --role branch --join \(wrong)")
            #expect(refused.code == 2)
        }
        let before = try await peyvand(at: hq, "fleet --json")
        #expect(try before.code == 0 && node("isfahan", in: before).state == "green")
        let stranger = try #require(before.list("refusals").first)
        #expect(stranger["node"] is NSNull && stranger["count"] as? Int == 2)
        #expect(stranger["code"] as? String == "invitationUnknown")

        for (line, code, sentence) in [
            ("node retire nobody", 2, "No node is called nobody"), ("node show nobody", 2, "No node is called nobody"),
            ("node retire isfahan", 0, "isfahan is retired: it is refused from now on"),
            ("node retire isfahan", 0, "isfahan was retired before"),
        ] as [(String, Int32, String)] {
            let outcome = try await peyvand(at: hq, line)
            #expect(outcome.code == code && (outcome.output + outcome.message).contains(sentence), "\(line)")
        }
        #expect(try await peyvand(at: branch, "node retire tehran-hq").code == 2)
        #expect(try await peyvand(at: branch, "fleet").code == 3)

        let sync = try await peyvand(at: branch, "sync --json")
        #expect(try sync.code == 2 && sync.json["result"] as? String == "refused")
        let status = try await peyvand(at: branch, "status")
        #expect(status.code == 2 && status.output.contains("Head office has retired this node"))
        #expect(try await peyvand(at: branch, "status --json").reasons.contains("refused"))
        #expect(try await peyvand(at: branch, "receipt").code == 1)
        let after = try await peyvand(at: hq, "fleet --json")
        #expect(try after.code == 0 && after.list("nodes").isEmpty)
        let refusal = try #require(after.list("refusals").first { $0["node"] as? String == "isfahan" })
        #expect(refusal["code"] as? String == "revoked" && refusal["count"] as? Int == 1)
        #expect(try await done(at: hq, "fleet").output.contains("turned away"))
        #expect(try await done(at: hq, "node list").output.contains("retired"))
        let shown = try await done(at: hq, "node show isfahan --json").json
        #expect(shown["retiredAt"] is String && shown["lease"] is NSNull)
        // The name is free for the office's next machine.
        try FileManager.default.removeItem(atPath: branch)
        _ = try await office.branch("isfahan")
    }

    @Test("A branch that was away for longer than its lease is red, comes back, and loses nothing")
    func lease() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        func headOffice(days: Int) async throws {
            try office.process.killAtOnce()
            try await office.start(
                environment: [
                    "PEYVAND_LEASE": "3", "PEYVAND_HISTORY": "0", "PEYVAND_CLOCK_OFFSET": "\(days * 86_400)",
                ]
            )
        }
        try await headOffice(days: 0)
        let (absent, present) = try await (office.branch("absent"), office.branch("present"))
        #expect(try await peyvand(at: absent, "status").code == 0, "A short lease is not always about to end")
        try await addCustomer(absent, "unsent")
        // Days count on which somebody has called.
        for day in 1...3 {
            try await headOffice(days: day)
            try await addCustomer(hq, "day")
            try await done(at: present, "sync", environment: ["PEYVAND_CLOCK_OFFSET": "\(day * 86_400)"])
        }
        try await done(at: hq, "backup \(office.home.path)/hq.backup")
        let fleet = try await peyvand(at: hq, "fleet --json")
        #expect(try fleet.code == 2 && node("absent", in: fleet).reasons == ["leaseExpired", "unreceived"])
        #expect(try await peyvand(at: hq, "fleet").output.contains("`peyvand node retire absent`"))
        let later = ["PEYVAND_CLOCK_OFFSET": "\(4 * 86_400)"]
        let status = try await peyvand(at: absent, "status --json", environment: later)
        #expect(try status.code == 1 && status.reasons == ["leaseExpired", "unsent"])
        try await headOffice(days: 4)
        for _ in 0..<2 { try await done(at: absent, "sync", environment: later) }
        #expect(try await done(at: hq, "customer list --json").list("customers").count == 4)
        #expect(try await dump(absent) == dump(hq))
        #expect(try await peyvand(at: absent, "status", environment: later).code == 0)
        #expect(try await node("absent", in: peyvand(at: hq, "fleet --json")).state == "green")
    }

    @Test("A head office whose clock was wrong says so, and branches lose nothing by it")
    func clockOfHeadOffice() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let branch = try await office.branch("isfahan")
        // Two days ahead, noticed by nobody: the branch follows.
        try office.process.killAtOnce()
        try await office.start(environment: ["PEYVAND_CLOCK_OFFSET": "172800"])
        try await addCustomer(branch, "early")
        try await synchronise(branch)
        let skew = try await peyvand(at: branch, "status --json")
        #expect(try skew.code == 1 && skew.reasons.contains("clockSkew"))
        #expect(abs((try skew.json["skewMilliseconds"] as? Int ?? 0) + 172_800_000) < 60_000)
        let ahead = try await peyvand(at: hq, "fleet --json")
        #expect(try ahead.code == 1 && node("isfahan", in: ahead).reasons == ["clockSkew"])
        #expect(try await peyvand(at: hq, "status").output.contains("There is no verified backup of head office."))

        // Set right again, its log is ahead of it.
        try office.process.killAtOnce()
        try await office.start()
        let status = try await peyvand(at: hq, "status --json")
        #expect(try status.code == 2 && status.reasons.contains("clockWrong"))
        try await addCustomer(branch, "later")
        let refused = try await peyvand(at: branch, "sync --json")
        #expect(refused.code == 2 && refused.output.contains("(clockAhead)"))
        let seconds = try #require(refused.output.firstMatch(of: /bears a time (\d+) s ahead/))
        #expect(abs((Int(seconds.1) ?? 0) - 172_800) < 60)
        let fleet = try await peyvand(at: hq, "fleet --json")
        #expect(try fleet.code == 2 && node("isfahan", in: fleet) == ("red", ["refused", "unsent"]))
        #expect(try fleet.list("refusals").map { $0["code"] as? String } == ["clockAhead"])
        // The next session goes on under a new number, with all the work.
        for _ in 0..<2 { try await synchronise(branch) }
        let customers = try await done(at: hq, "customer list --json").list("customers")
        #expect(customers.compactMap { $0["name"] as? String } == ["early", "later"])
        #expect(try await dump(branch) == dump(hq))
        #expect(try await peyvand(at: hq, "fleet --json").code == 1)
        #expect(try await peyvand(at: branch, "status").code == 0)
    }
}

@Suite("Stopped in the middle", .serialized, .timeLimit(.minutes(15)))
struct StoppedProcessTests {
    /// Sends a signal to a command when so many bytes have passed, and holds the line until it has ended.
    private func stop(_ line: BadLine, afterBytes count: Int, with signal: Int32, _ words: [String]) async throws
        -> Outcome
    {
        let stopped = Holder()
        line.set(
            .event(afterBytes: count) {
                stopped.process?.send(signal)
                let limit = ContinuousClock.now + .seconds(30)
                while stopped.process?.hasEnded == false, .now < limit { usleep(1000) }
            }
        )
        let process = try PeyvandProcess(words)
        stopped.process = process
        let end = await process.end()
        line.set(.none)
        return Outcome(code: end.code, output: process.output, message: process.messages)
    }

    /// Lines of `write` that make customers with notes of random bytes.
    private func lines(_ count: Int, bytes: Int) -> [String] {
        var random = SeededRandom(seed: 7)
        return (0..<count).map { _ in
            let words = (0..<bytes / 8 + 1).map { _ in random.next() }
            let note = words.withUnsafeBytes { Data($0).base64EncodedString() }
            return #"{"op":"put","table":"customer","set":{"note":"\#(note)"}}"# + "\n"
        }
    }

    @Test("^C or SIGTERM in the first load, and in a session, ends in order; the next one goes on from there")
    func signals() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        // So many rows, each written twice, that they are less work than the history; and hardly compressible, so that
        // they take several pieces.
        for (isEdit, bytes) in [(false, 1), (true, 150)] {
            let text = lines(10_000, bytes: bytes).enumerated().map { index, line in
                let row = isEdit ? "{\"id\":\"1-\(index + 1)\"," + line.dropFirst() : line
                let (begins, ends) = (index % 500 == 0, index % 500 == 499)
                return (begins ? "{\"op\":\"begin\"}\n" : "") + row + (ends ? "{\"op\":\"commit\"}\n" : "")
            }
            try await done(at: hq, "write --jsonl \(office.file("many.jsonl", text.joined()))")
        }
        let line = try BadLine { office.port }
        let branch = office.home.path + "/isfahan"
        let invitation = try await office.invitation("isfahan", port: line.port)
        let initialise = ["init", "--data", branch, "--role", "branch", "--join", invitation]

        let first = try await stop(line, afterBytes: 1_000_000, with: SIGINT, initialise)
        #expect(first.code == 1 && first.output.contains("Not synchronised. The session was stopped before"))
        #expect(!first.message.contains("Fatal"))
        let status = try await peyvand(at: branch, "status --json")
        #expect(try status.code == 1 && status.reasons.contains("loading"), "\(status.output)")
        let early = try await peyvand(at: branch, "customer list")
        #expect(early.code == 2 && early.message.contains("The first load of this node has not ended"))
        let second = try await stop(line, afterBytes: 700_000, with: SIGTERM, initialise)
        #expect(second.code == 1 && second.output.contains("Not synchronised. The session was stopped before"))
        let whole = try await run(PeyvandProcess.binary, initialise + ["--json"])
        #expect(whole.code == 0, "\(whole.message)\(whole.output)")
        // It went on: the pieces that were there did not come again.
        let received = (try whole.json["sync"] as? [String: Any])?["received"] as? [String: Int]
        #expect(received?["bytes"] ?? .max < 1_500_000)
        #expect(try await dump(branch) == dump(hq))

        for signal in [SIGINT, SIGTERM] {
            let more = try office.file("more.jsonl", lines(200, bytes: 500).joined())
            try await done(at: branch, "write --jsonl \(more)")
            let stopped = try await stop(line, afterBytes: 30_000, with: signal, ["sync", "--data", branch])
            #expect(stopped.code == 1 && stopped.output.contains("Not synchronised. The session was stopped before"))
        }
        // Which says that all is equal.
        try await synchronise(branch)
        #expect(try await peyvand(at: branch, "verify --deep").code == 0)
    }

    @Test("A file from head office brings the first load; damaged ones bring nothing, and a second reading neither")
    func bundle() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        for name in ["one", "two"] { try await addCustomer(hq, name) }
        let file = office.home.path + "/rows"
        let written = try await done(at: hq, "bundle write \(file) --snapshot")
        #expect(written.output.hasPrefix("Wrote 3 rows into \(file) ("))
        let branch = office.home.path + "/isfahan"
        let invitation = try await office.invitation("isfahan")
        try await done(at: branch, "init --role branch --join \(invitation) --without-load")
        let bytes = try Data(contentsOf: URL(fileURLWithPath: file))
        // The bit may be one of a length; then it is the end that is missing.
        let missing = "before its end mark. Nothing was taken from it"
        for (name, content, sentences) in [
            (
                "bit",
                {
                    var bytes = bytes
                    bytes[bytes.count / 2] ^= 4
                    return bytes
                }(), ["is damaged at byte", missing]
            ),
            ("cut", bytes.dropLast(200), [missing]),
            ("text", Data("hello".utf8), ["is no file that"]),
        ] {
            let path = office.home.path + "/" + name
            try content.write(to: URL(fileURLWithPath: path))
            let refused = try await peyvand(at: branch, "bundle read \(path)")
            #expect(refused.code == 1 && sentences.contains(where: refused.message.contains), "\(refused.message)")
        }
        #expect(try await dump(branch).isEmpty)
        let other = try await ProcessOffice.open()
        let foreign = office.home.path + "/foreign"
        try await done(at: other.headOffice, "bundle write \(foreign) --snapshot")
        #expect(try await peyvand(at: branch, "bundle read \(foreign)").code == 2)
        #expect(try await peyvand(at: branch, "bundle write \(file) --snapshot").code == 2)

        try await done(at: branch, "bundle read \(file)")
        #expect(try await done(at: branch, "customer list --json").list("customers").count == 2)
        let read = try await dump(branch)
        let again = try await peyvand(at: branch, "bundle read \(file)")
        #expect(again.code == 2 && again.message.contains("There is nothing in it for this node"))
        #expect(try await dump(branch) == read)
        try await synchronise(branch)
        #expect(try await dump(branch) == dump(hq))
    }

    @Test("An invitation to a place where nobody answers costs nothing, and works once somebody does")
    func nobodyAnswers() async throws {
        let office = try await ProcessOffice.open()
        let branch = office.home.path + "/isfahan"
        let invitation = try await office.invitation("isfahan")
        let service = try office.process
        service.send(SIGTERM)
        #expect(await service.end().code == 0)
        let refused = try await peyvand(at: branch, "init --role branch --join \(invitation)")
        #expect(refused.code == 1 && refused.message.contains("No one answers at 127.0.0.1:\(office.port)"))
        let status = try await peyvand(at: branch, "status --json")
        #expect(try status.code == 2 && status.reasons.contains("notJoined"))
        for (line, sentence) in [("sync", "has not joined its organisation yet"), ("run", "has not joined")] {
            let outcome = try await peyvand(at: branch, line)
            #expect(outcome.code == 2 && outcome.message.contains(sentence), "\(line): \(outcome.message)")
        }
        // Somebody else listens there in the meantime, then head office again.
        let (other, taken) = try await (ProcessOffice.open(), office.port)
        let busy = try await peyvand(at: office.headOffice, "run --listen 127.0.0.1:\(other.port)")
        #expect(busy.code == 1 && busy.message.contains("is taken by another program"))
        try await office.start()
        #expect(office.port == taken)
        try await done(at: branch, "init --role branch --join \(invitation)")
        let again = try await peyvand(at: branch, "init --role branch --join \(invitation)")
        #expect(again.code == 2 && again.message.contains("holds a node already"))
    }
}

/// Holds a process that is started after what wants to stop it.
private final class Holder: @unchecked Sendable {
    private let lock = NSLock()
    private var held: PeyvandProcess?

    var process: PeyvandProcess? {
        get { lock.withLock { held } }
        set { lock.withLock { held = newValue } }
    }
}
