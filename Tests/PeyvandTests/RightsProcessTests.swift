import Foundation
import TestKit
import Testing

@testable import ReplicaStore
@testable import peyvand

@Suite("Who may write what, and who decided it, with the real program", .serialized, .timeLimit(.minutes(15)))
struct RightsProcessTests {
    @Test("A policy is set, holds, is listed and on record; a bad one is refused with the reason")
    func policy() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let isfahan = try await office.branch("isfahan")
        let shiraz = try await office.branch("shiraz")
        _ = try await done(at: isfahan, "customer add --name مریم")
        for branch in [isfahan, shiraz] { _ = try await done(at: branch, "sync") }
        let rules = office.home.path + "/rules.toml"
        try "[[rule]]\ntables = [\"custmer\"]\nscope = \"none\"\n".write(
            toFile: rules,
            atomically: true,
            encoding: .utf8
        )
        let unknown = try await peyvand("policy", "set", rules, "--data", hq)
        #expect(unknown.code == 64 && unknown.message.contains("custmer"))
        try "rule = 7\n".write(toFile: rules, atomically: true, encoding: .utf8)
        #expect(try await peyvand("policy", "set", rules, "--data", hq).code == 1)
        try "[[rule]]\ntables = [\"customer\"]\nscope = \"own-branch\"\n".write(
            toFile: rules,
            atomically: true,
            encoding: .utf8
        )
        _ = try await done(at: hq, "policy set \(rules) --version 0")
        #expect(try await peyvand("policy", "set", rules, "--version", "0", "--data", hq).code == 2)
        #expect(try await done(at: hq, "policy").output.contains("rows of its branch"))

        _ = try await done(at: shiraz, "customer edit 2-1 --set city=قم")
        for _ in 0..<2 { _ = try await done(at: shiraz, "sync") }
        #expect(try await done(at: shiraz, "customer show 2-1 --json").json["city"] == nil)
        let voided = try await done(at: hq, "policy void --json").json["void"] as? [[String: Any]]
        #expect(voided?.count == 1 && voided?.first?["node"] as? String == "shiraz")
        #expect(voided?.first?["row"] as? String == "2-1")
        let audit = try await done(at: hq, "audit --json").json["audit"] as? [[String: Any]] ?? []
        let actions = audit.compactMap { $0["action"] as? String }
        #expect(actions.first == "write.void" && actions.contains("policy.set") && actions.contains("node.join"))
        // The order came through the socket of a service; it is on record for the account that gave it.
        #expect(audit.first { $0["action"] as? String == "policy.set" }?["actor"] as? String == Actor.name)
        #expect(try await done(at: hq, "audit verify").output.contains("whole"))
        #expect(try await done(at: hq, "audit --lang fa").output.contains("چه کسی"))
    }

    @Test("What is collected for support holds no customer and no key, and is for its owner alone")
    func support() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        _ = try await done(at: hq, "customer add --name Peculiarname --mobile 09121234567")
        let path = office.home.path + "/support.json"
        _ = try await peyvand("support-bundle", path, "--data", hq)
        let text = try String(contentsOfFile: path, encoding: .utf8)
        let found = try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        #expect(found["node"] is [String: Any] && (found["checks"] as? [Any])?.isEmpty == false)
        #expect(!text.contains("Peculiarname") && !text.contains("9121234567") && !text.contains("PRIVATE"))
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        // What is there is never written over.
        #expect(try await peyvand("support-bundle", path, "--data", hq).code == 1)
    }

    @Test("A branch without a line hands in and takes over by file, and hears that it was received")
    func bundles() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let branch = try await office.branch("isfahan")
        let (there, back) = (office.home.path + "/there", office.home.path + "/back")
        _ = try await done(at: branch, "customer add --name مریم")
        _ = try await done(at: hq, "customer add --name علی")
        _ = try await done(at: branch, "bundle write \(there)")
        _ = try await done(at: hq, "bundle read \(there)")
        #expect(try await peyvand("bundle", "write", back, "--data", hq).code == 64)
        _ = try await done(at: hq, "bundle write \(back) --for isfahan")
        _ = try await done(at: branch, "bundle read \(back)")
        #expect(try await dump(branch) == dump(hq))
        let ahead = try await peyvand(at: branch, "status --json").json["ahead"] as? [String: Any]
        #expect(ahead?["changeSets"] as? Int == 0)
        #expect(try await peyvand("bundle", "read", back, "--data", hq).code == 2)
    }
}
