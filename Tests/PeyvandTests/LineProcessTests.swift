import Foundation
import Logging
import SyncProtocol
import SyncTransport
import Synchronization
import TestKit
import Testing
import Trust

@testable import ReplicaStore

@Suite(
    "A line that only the organisation's nodes can use, with the real program",
    .serialized,
    .timeLimit(.minutes(15))
)
struct LineProcessTests {
    private static let day: UInt64 = 86_400_000
    private var now: UInt64 { UInt64(Date().timeIntervalSince1970 * 1000) }

    /// Puts another certificate in the place of a branch's: for its own key, or for a new one.
    private func plant(
        _ directory: String,
        by authority: Authority,
        from: UInt64,
        days: UInt64 = 5,
        withNewKey isNewKey: Bool = false
    ) throws {
        let files = KeyFiles(directory: directory)
        let present = try #require(try files.identity())
        let key = isNewKey ? NodeKey() : try NodeKey(pem: present.keyPEM)
        let own = try authority.certify(
            SigningRequest(key.request()),
            organisation: present.certificate.organisation,
            node: present.certificate.node,
            isHub: false,
            from: from,
            days: days
        )
        try files.write(NodeIdentity(chain: [own, authority.chain.issuer], root: present.root, key: key))
    }

    private func refused(_ directory: String, _ sentence: String, location: SourceLocation = #_sourceLocation)
        async throws
    {
        let outcome = try await peyvand(at: directory, "sync --json")
        let reason = try outcome.json["reason"] as? String ?? ""
        #expect(outcome.code != 0 && reason.contains(sentence), "\(reason)", sourceLocation: location)
    }

    @Test(
        "A certificate that is expired, not yet valid, of another authority, another node's, for another key, or revoked"
    )
    func certificates() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        let other = try await office.branch("shiraz")
        let files = KeyFiles(directory: branch)
        let right = try #require(try files.identity())
        try await addCustomer(branch, "x")
        let authority = try #require(try KeyFiles(directory: office.headOffice).authority())
        let before = try await dump(office.headOffice)

        try plant(branch, by: authority, from: now + 2 * Self.day)
        try await refused(branch, "(certificateNotYetValid)")
        try plant(branch, by: authority, from: now - Self.day, withNewKey: true)
        try await refused(branch, "is not the one that head office has enrolled")
        let foreign = try Authority(organisation: right.certificate.organisation, now: now)
        try plant(branch, by: foreign, from: now - Self.day)
        #expect(try await peyvand(at: branch, "sync").code == 1)
        try files.write(try #require(try KeyFiles(directory: other).identity()))
        try await refused(branch, "another node's")
        #expect(try await dump(office.headOffice) == before)

        // Long expired, with head office's clock; nothing of it is lost.
        try files.write(right)
        try plant(branch, by: authority, from: now - Self.day, days: 0)
        func headOffice(days: UInt64) async throws {
            try office.process.killAtOnce()
            try await office.start(environment: ["PEYVAND_CLOCK_OFFSET": "\(days * 86_400)"])
        }
        try await headOffice(days: 70)
        try await refused(branch, "(certificateExpired)")
        try await headOffice(days: 40)
        try await refused(branch, "(waitsForApproval)")
        #expect(try await dump(office.headOffice) == before)

        // Not long expired, it is renewed in the same call, and all the work arrives.
        try await headOffice(days: 0)
        try await synchronise(branch)
        let renewed = try #require(try files.identity())
        #expect(renewed.certificate.keyDigest != right.certificate.keyDigest)
        #expect(renewed.certificate.standing(at: now) == .valid)
        try await synchronise(branch)
        #expect(try await dump(branch) == dump(office.headOffice))
        try await done(at: office.headOffice, "node revoke isfahan")
        try await refused(branch, "was revoked")
        try await synchronise(other)
        let shown = try await done(at: office.headOffice, "node show isfahan --json").json
        #expect(shown["standing"] as? String == "revoked")
    }

    @Test("openssl is refused with TLS 1.2, without a certificate, and without a purpose")
    func openssl() async throws {
        let office = try await ProcessOffice.open()
        func ask(_ options: String) async throws -> Outcome {
            try await run(
                "bash",
                [
                    "-c",
                    "(sleep 1; echo) | timeout 20 openssl s_client -connect 127.0.0.1:\(office.port) -brief \(options)",
                ]
            )
        }
        for version in ["-tls1", "-tls1_1", "-tls1_2"] {
            let old = try await ask("\(version) -cipher ALL:@SECLEVEL=0 -alpn peyvand/1")
            #expect(old.code != 0 && !old.message.contains("CONNECTION ESTABLISHED"), "\(version) \(old.message)")
        }
        let none = try await ask("-alpn peyvand/1")
        #expect(none.message.contains("Protocol version: TLSv1.3"))
        #expect(!none.output.contains("Peyvand node"))
        let purposeless = try await ask("")
        #expect(purposeless.output.isEmpty)
        #expect(try await done(at: office.headOffice, "fleet --json").list("nodes").isEmpty)
    }

    @Test(
        "A session of a node that is revoked, paused or retired ends within five seconds, and nothing more of it comes in"
    )
    func cutOff() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        for (name, command) in [("isfahan", "revoke"), ("shiraz", "pause"), ("yazd", "retire")] {
            let branch = try await office.branch(name)
            let running = try await startBranch(branch)
            func isConnected() async throws -> Bool {
                let node = try await done(at: hq, "node show \(name) --json").json
                return node["connected"] as? Bool == true
            }
            #expect(try await becomesTrue { try await isConnected() })
            try await done(at: hq, "node \(command) \(name)")
            #expect(try await becomesTrue(within: .seconds(5)) { try await !isConnected() })
            let before = try await dump(hq)
            try await addCustomer(branch, "late")
            let sync = try await peyvand(at: branch, "sync --json")
            #expect(try sync.code == 2 && sync.json["result"] as? String == "refused")
            #expect(try await dump(hq) == before)
            if command == "pause" {
                try await done(at: hq, "node resume \(name)")
                try await synchronise(branch)
                #expect(try await dump(hq) == dump(branch))
            }
            running.send(SIGTERM)
            _ = await running.end()
        }
    }

    @Test("A thousand replays of a ticket from before a revocation: none resumes the session")
    func tickets() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        let ticket = office.home.path + "/ticket"
        let call = "openssl s_client -connect 127.0.0.1:\(office.port) -alpn peyvand/1"
        let file = "\(branch)/keys/node.pem"
        let own = "-cert \(file) -key \(file) -cert_chain \(file)"
        // The ticket comes with the first thing that head office says: that this is no message.
        let first = try await run(
            "bash",
            ["-c", "(sleep 1; echo hello; sleep 1) | timeout 20 \(call) \(own) -sess_out \(ticket)"]
        )
        try #require(FileManager.default.fileExists(atPath: ticket), "\(first.message)")
        func replays(_ count: Int) async throws -> (reused: Int, new: Int) {
            let one = "timeout 20 \(call) -sess_in \(ticket) </dev/null 2>/dev/null | grep -oE '^(Reused|New), TLS'"
            let all = try await run("bash", ["-c", "seq \(count) | xargs -P 4 -I{} bash -c \"\(one)\""])
            return (all.lines.count { $0.hasPrefix("Reused") }, all.lines.count { $0.hasPrefix("New") })
        }
        // Before, it is worth something: else this test would show nothing.
        #expect(try await replays(3).reused == 3)
        try await done(at: office.headOffice, "node revoke isfahan")
        let after = try await replays(1000)
        #expect(after.reused == 0 && after.new == 1000, "\(after)")
    }

    @Test("A hundred clients with one invitation, each with a key of its own, get exactly one certificate")
    func oneInvitation() async throws {
        let office = try await ProcessOffice.open()
        let invitation = try #require(Invitation(line: try await office.invitation("isfahan")))
        let rootKey = try #require(invitation.rootKey)
        let address = try #require(NodeAddress(invitation.address))
        let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let outcomes = await withTaskGroup(of: Result<Joined, SyncFailure>.self) { group in
            for _ in 0..<100 {
                group.addTask {
                    do throws(SyncFailure) {
                        let joined = try await SyncClient.join(
                            at: address,
                            rootKey: rootKey,
                            join: { nonce in
                                func random(_ count: Int) -> [UInt8] {
                                    (0..<count).map { _ in UInt8.random(in: .min ... .max) }
                                }
                                return invitation.join(
                                    nonce: nonce,
                                    request: try NodeKey().request(),
                                    node: try #require(UniqueID(bytes: random(16))),
                                    nodeKey: try #require(Key256(bytes: random(32))),
                                    software: "test"
                                )
                            },
                            logger: quiet
                        )
                        return .success(joined)
                    } catch {
                        return .failure(error)
                    }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        let joined = outcomes.compactMap { try? $0.get() }
        #expect(joined.count == 1 && joined.first?.certificates.count == 3)
        let used = outcomes.count { outcome in
            if case .failure(.refused(let refusal)) = outcome { refusal.code == .invitationUsed } else { false }
        }
        #expect(used == 99)
        #expect(try await done(at: office.headOffice, "node list --json").list("nodes").count == 1)
    }

    @Test("A branch that must be approved waits; the fingerprints that both see are the same")
    func approval() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let branch = office.home.path + "/isfahan"
        let line = try await done(at: hq, "enroll isfahan --approval --address 127.0.0.1:\(office.port)").output
        let joined = try await peyvand(
            at: branch,
            "init --role branch --join \(line.trimmingCharacters(in: .newlines))"
        )
        #expect(joined.code == 2 && joined.output.contains("has not approved this node yet"), "\(joined.output)")
        let fleet = try await peyvand(at: hq, "fleet --json")
        #expect(fleet.code == 1 && fleet.output.contains("\"waitsForApproval\""))
        let here = (try await peyvand(at: branch, "status --json").json["node"] as? [String: Any])?["fingerprint"]
        let there = try await done(at: hq, "node show isfahan --json").json["fingerprint"]
        #expect(here as? String == there as? String && (here as? String)?.count == 79)
        try await done(at: hq, "node approve isfahan")
        try await synchronise(branch)
        #expect(try await dump(branch) == dump(hq))
    }

    @Test("A branch that believes it is 1970, or 2099, joins, synchronises, and is told how wrong its clock is")
    func wrongCentury() async throws {
        let office = try await ProcessOffice.open()
        for (name, years) in [("past", -56), ("future", 73)] {
            let clock = ["PEYVAND_CLOCK_OFFSET": "\(years * 365 * 86_400)"]
            let branch = office.home.path + "/" + name
            let invitation = try await office.invitation(name)
            try await done(at: branch, "init --role branch --join \(invitation)", environment: clock)
            try await addCustomer(branch, name, environment: clock)
            try await done(at: branch, "sync", environment: clock)
            let status = try await peyvand(at: branch, "status --json", environment: clock)
            #expect(try status.reasons.contains("clockSkew"))
        }
        #expect(try await dump(office.headOffice).contains("past"))
    }

    @Test("A key is in no log and no output, and in files for their owner only")
    func secrets() async throws {
        let office = try await ProcessOffice.open()
        let line = try await office.invitation("isfahan")
        let branch = try await office.branch("shiraz")
        for directory in [office.headOffice, branch] {
            let keys = directory + "/keys"
            for name in try FileManager.default.contentsOfDirectory(atPath: keys) {
                let mode =
                    try FileManager.default.attributesOfItem(atPath: keys + "/" + name)[.posixPermissions] as? Int
                #expect(mode == 0o600, "\(name)")
            }
        }
        #expect(!FileManager.default.fileExists(atPath: branch + "/keys/node.key"))
        let secret = line.split(separator: "/").last.map(String.init) ?? ""
        let said = try office.process.messages
        #expect(!said.contains(secret) && !said.contains("PRIVATE"))
    }
}
