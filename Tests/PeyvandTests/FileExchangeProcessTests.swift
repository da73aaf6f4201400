import Foundation
import TestKit
import Testing

@Suite("Commands for what goes by file, and for what is on record", .timeLimit(.minutes(3)))
struct FileExchangeProcessTests {
    @Test("A branch that joined once works on by files: both are equal, and its receipt says that it may be replaced")
    func withoutLine() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let branch = try await office.branch("isfahan")
        let other = try await office.branch("shiraz")
        let (there, back) = (office.home.path + "/there", office.home.path + "/back")
        try await addCustomer(branch, "peculiar")
        try await addCustomer(hq, "two")
        let written = try await done(at: branch, "bundle write \(there) --json").json
        #expect(written["changeSets"] as? Int == 1 && written["id"] as? String == there)

        let nobody = try await peyvand(at: hq, "bundle write \(back)")
        #expect(nobody.code == 64 && nobody.message.contains("--for"), "\(nobody.message)")
        let unknown = try await peyvand(at: hq, "bundle write \(back) --for yazd")
        #expect(unknown.code == 2 && unknown.message.contains("yazd"), "\(unknown.message)")
        let wrong = try await peyvand(at: other, "bundle read \(there)")
        #expect(wrong.code == 2 && wrong.message.contains("Nothing was taken"), "\(wrong.message)")
        var bytes = try Data(contentsOf: URL(fileURLWithPath: there))
        #expect(bytes.range(of: Data("peculiar".utf8)) == nil)
        bytes[bytes.count / 2] ^= 4
        let changed = office.home.path + "/changed"
        try bytes.write(to: URL(fileURLWithPath: changed))
        let damaged = try await peyvand(at: hq, "bundle read \(changed)")
        #expect(damaged.code == 1 && damaged.message.contains("Nothing was taken"), "\(damaged.message)")

        #expect(try await done(at: hq, "bundle read \(there) --json").json["changeSets"] as? Int == 1)
        #expect(try await done(at: hq, "bundle read \(there) --json").json["changeSets"] as? Int == 0)
        try await done(at: hq, "bundle write \(back) --for isfahan")
        let early = try await peyvand(at: branch, "receipt --json")
        #expect(try early.code == 1 && early.json["replaceable"] as? Bool == false, "\(early.message)")
        let read = try await done(at: branch, "bundle read \(back) --json").json
        #expect(read["confirmed"] as? Int == 1)
        #expect(try await done(at: branch, "receipt --json").json["replaceable"] as? Bool == true)
        #expect(try await dump(branch) == dump(hq))
        let persian = try await done(at: branch, "bundle write \(there) --lang fa")
        #expect(persian.output.contains("تغییر"), "\(persian.output)")

        try await addCustomer(other, "late")
        try await done(at: other, "bundle write \(there)")
        try await done(at: hq, "node revoke shiraz")
        let revoked = try await peyvand(at: hq, "bundle read \(there)")
        #expect(revoked.code == 2 && revoked.message.contains("revoked"), "\(revoked.message)")
    }

    @Test("Decisions are listed with who made them; an entry that somebody changes or takes out is named")
    func audit() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let branch = try await office.branch("isfahan")
        try await synchronise(branch)
        try await done(at: hq, "node pause isfahan")
        try await done(at: hq, "node resume isfahan")
        let entries = try await done(at: hq, "audit --json").list("audit")
        let actions = entries.compactMap { $0["action"] as? String }
        #expect(actions == ["node.resume", "node.pause", "node.join", "node.enroll"])
        #expect(Set(entries[0].keys).isSuperset(of: ["id", "at", "actor", "action", "object", "outcome", "hash"]))
        let whole = try await done(at: hq, "audit verify --json").json
        #expect(whole["result"] as? String == "ok" && whole["entries"] as? Int == 4)

        try office.process.send(SIGTERM)
        _ = try await office.process.end()
        try await tamper(hq, "UPDATE audit SET actor = 'nobody' WHERE number = 3")
        let edited = try await peyvand(at: hq, "audit verify")
        #expect(edited.code == 2 && edited.output.contains("Entry 3 is not what it was"), "\(edited.output)")
        let persian = try await peyvand(at: hq, "audit verify --lang fa")
        #expect(persian.code == 2 && persian.output.contains("مورد ۳"), "\(persian.output)")
        try await tamper(hq, "DELETE FROM audit WHERE number = 2")
        let missing = try await peyvand(at: hq, "audit verify --json")
        #expect(try missing.code == 2 && missing.json["result"] as? String == "missing", "\(missing.output)")
        #expect(try missing.list("findings").first?["number"] as? Int == 2)
    }
}
