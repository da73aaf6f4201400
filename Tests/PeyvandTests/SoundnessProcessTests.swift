import Foundation
import TestKit
import Testing

@Suite("Damage, parked changes and erasure with the real program", .serialized, .timeLimit(.minutes(15)))
struct SoundnessProcessTests {
    @Test("A bit that turns on a branch's disk is named, stays there, and is put right from head office")
    func damagedRow() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let branch = try await office.branch("isfahan")
        try await done(at: hq, "customer add --name x --city Qom --json")
        try await synchronise(branch)
        let truth = try await dump(hq)
        #expect(try await peyvand(at: branch, "verify").code == 0)
        try await tamper(branch, "UPDATE customer SET city = 'Qol'")

        let deep = try await peyvand(at: branch, "verify --deep --json")
        let damaged = try deep.list("damaged")
        #expect(try deep.code == 2 && deep.json["state"] as? String == "red")
        #expect(damaged.map { $0["id"] as? String } == ["1-1"] && damaged.first?["fields"] as? [String] == ["city"])
        let status = try await peyvand(at: branch, "status --json")
        #expect(try status.code == 2 && status.reasons.contains("damaged"))
        #expect(
            try await peyvand(at: branch, "verify").output.contains("Changed on disk by itself: customer 1-1 (city)")
        )
        // What is written there goes on; the damage stays.
        try await done(at: branch, "customer edit 1-1 --set note=written")
        try await synchronise(branch)
        let after = try await dump(hq)
        #expect(after == truth.replacing("\"name\":\"x\"", with: "\"name\":\"x\",\"note\":\"written\""))

        let dry = try await peyvand(at: branch, "verify --repair")
        #expect(dry.code == 2 && dry.output.contains("1 row differs from head office's:\n  customer 1-1 (city)\n"))
        #expect(dry.output.contains("Nothing was changed. `peyvand verify --repair --yes`"))
        #expect(try await dump(branch).contains("Qol"))
        let repaired = try await peyvand(at: branch, "verify --repair --yes --json")
        #expect(try repaired.code == 0 && repaired.json["repaired"] as? Int == 1)
        #expect(try await dump(branch) == after)
        #expect(try await dump(hq) == after)
        #expect(try await peyvand(at: branch, "verify --deep").code == 0)
        #expect(try await peyvand(at: branch, "status").code == 0)

        // Head office has nobody to be repaired from, and nobody takes its damaged rows.
        try office.process.killAtOnce()
        try await tamper(branch, "UPDATE customer SET city = 'Qoo'")
        let wrong = try await dump(branch)
        try await tamper(hq, "UPDATE customer SET city = 'Qol'")
        let hub = try await peyvand(at: hq, "verify --deep")
        #expect(hub.code == 2 && hub.output.contains("Changed on disk by itself: customer 1-1 (city)"))
        let alone = try await peyvand(at: hq, "verify --repair --yes")
        #expect(alone.code == 2 && alone.message.contains("restore a backup"))
        let line = try await peyvand(at: branch, "verify --with hub")
        #expect(line.code == 3 && line.message.contains("Head office could not be asked. No one answers at"))
        try await office.start()
        let compared = try await peyvand(at: branch, "verify --repair --yes --json")
        #expect((try compared.json["hub"] as? [String: Any])?["isHubDamaged"] as? Bool == true)
        #expect(try compared.code == 2 && compared.json["repaired"] as? Int == 0)
        #expect(try await dump(branch) == wrong)
        #expect(try await peyvand(at: branch, "verify --yes").code == 64)
        #expect(try await peyvand(at: branch, "verify --with shiraz").code == 64)
    }

    @Test("A row that does not fit waits with its reason; given up, the tables differ, and a repair brings it")
    func parked() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let branch = try await office.branch("isfahan")
        try await done(at: hq, "customer add --name one --mobile 09121234567")
        try await synchronise(branch)
        let index = try await run(
            "sqlite3",
            [branch + "/replica.db", "CREATE UNIQUE INDEX adminMobile ON customer(mobile)"]
        )
        try #require(index.code == 0)
        try await done(at: hq, "customer add --name two --mobile 09121234567")
        try await done(at: hq, "customer edit 1-2 --set city=Qom")
        let sync = try await done(at: branch, "sync")
        #expect(sync.output.contains("2 changes of rows could not be applied and wait: see `peyvand parked`."))
        let list = try await done(at: branch, "parked list --json").list("parked")
        let codes = list.map { ($0["reason"] as? [String: String])?["code"] }
        #expect(codes == ["database", "queued"] && list.map { $0["row"] as? String } == ["1-2", "1-2"])
        #expect(try await done(at: branch, "parked").output.contains("UNIQUE constraint failed: customer.mobile"))
        #expect(try await done(at: branch, "parked --lang fa").output.contains("مشتری"))
        let status = try await peyvand(at: branch, "status --json")
        #expect(try status.code == 1 && status.reasons == ["parked"] && status.json["parked"] as? Int == 2)
        try await synchronise(branch)
        let fleet = try await peyvand(at: hq, "fleet --json")
        #expect(try fleet.code == 1 && fleet.list("nodes").first?["parked"] as? Int == 2)

        let first = try #require(list[0]["id"] as? String)
        #expect(try await done(at: branch, "parked retry \(first)").output == "0 applied, 2 still parked.\n")
        for (line, code, sentence) in [
            ("parked drop \(first)", 64, "`peyvand parked drop \(first) --yes`"),
            ("parked drop 99 --yes", 2, "Nothing is parked under 99"), ("parked retry x", 64, "is no id of"),
            ("parked retry \(first) --all", 64, "not both"),
        ] as [(String, Int32, String)] {
            let outcome = try await peyvand(at: branch, line)
            #expect(outcome.code == code && outcome.message.contains(sentence), "\(line): \(outcome.message)")
        }
        // Its birth is given up, so only what came behind it is there.
        let dropped = try await done(at: branch, "parked drop \(first) --yes --json").json
        #expect(dropped["applied"] as? Int == 1 && dropped["parked"] as? Int == 0)
        let different = try await peyvand(at: branch, "sync")
        #expect(
            different.code == 1 && different.output.contains("the tables differ from head office's: customer 1-2 (")
        )
        #expect(try await peyvand(at: branch, "sync --json").json["result"] as? String == "failed")
        #expect(try await peyvand(at: branch, "status --json").reasons == ["diverged", "dropped"])
        let red = try await peyvand(at: hq, "fleet")
        #expect(red.code == 2 && red.output.contains("Run `peyvand verify --repair` there."))
        #expect(try await run("sqlite3", [branch + "/replica.db", "DROP INDEX adminMobile"]).code == 0)
        #expect(try await peyvand(at: branch, "verify --repair --yes").code == 0)
        #expect(try await dump(branch) == dump(hq))
        #expect(try await peyvand(at: branch, "status").code == 0, "Nothing is left of what was given up")

        // Where the cause has gone, a retry is enough.
        try await tamper(branch, "CREATE UNIQUE INDEX adminCity ON customer(city)")
        try await done(at: hq, "customer add --name three --city Qom")
        try await synchronise(branch)
        try await tamper(branch, "DROP INDEX adminCity")
        #expect(try await done(at: branch, "parked retry").output == "1 applied, 0 still parked.\n")
        #expect(try await dump(branch) == dump(hq))
    }

    @Test("What is erased is gone everywhere, and deleted rows before a day with it")
    func erasure() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let branch = try await office.branch("isfahan")
        for name in ["first", "second", "third"] { try await addCustomer(branch, name + "-secret") }
        for id in ["2-1", "2-2"] {
            try await done(at: branch, "activity add \(id) --kind call --subject about-secret")
        }
        try await done(at: branch, "customer delete 2-2")
        try await synchronise(branch)

        // The recycle bin, and what belongs to somebody in it.
        for directory in [hq, branch] {
            #expect(try await done(at: directory, "customer list --deleted --json").ids("customers") == ["2-2"])
            #expect(try await done(at: directory, "customer list --json").ids("customers") == ["2-1", "2-3"])
            #expect(try await done(at: directory, "activity list --json").ids("activities") == ["2-1", "2-2"])
            let orphan = try await done(at: directory, "verify").output
            #expect(orphan.contains("activity 2-2 belongs to the deleted customer 2-2."))
        }
        let page = try await done(at: hq, "customer show 2-2").output
        #expect(page.contains("This customer is deleted. `customer restore 2-2`") && page.contains("about-secret"))
        #expect(try await peyvand(at: hq, "customer restore 2-1").message.contains("is not deleted"))

        for (directory, line, code, sentence) in [
            (branch, "privacy erase 2-1", 2, "Only head office erases"),
            (hq, "privacy erase", 64, "Give either a customer or --deleted-before"),
            (hq, "privacy erase 2-1 --deleted-before 1404-01-01", 64, "Give either a customer"),
            (hq, "privacy erase --deleted-before 1404-13-01", 64, "is not a day"),
            (hq, "privacy erase 2-99", 2, "There is no customer 2-99 here"),
        ] as [(String, String, Int32, String)] {
            let outcome = try await peyvand(at: directory, line)
            #expect(outcome.code == code && outcome.message.contains(sentence), "\(line): \(outcome.message)")
        }
        #expect(try await done(at: hq, "privacy list").output == "Nothing was ever erased.\n")
        let none = try await done(at: hq, "privacy erase --deleted-before 1404-01-01 --json").json
        #expect(none["id"] is NSNull)
        let exported = try await done(at: hq, "privacy export 2-1")
        #expect(exported.lines.count == 2 && exported.output.contains("about-secret"))

        let erased = try await done(at: hq, "privacy erase 2-1 --json").json
        let tables = (erased["erased"] as? [[String: Any]])?.compactMap { $0["table"] as? String }
        #expect(tables == ["customer", "activity"] && erased["waiting"] as? [String] == ["isfahan"])
        let tomorrow = Date().addingTimeInterval(2 * 86_400).formatted(.iso8601.year().month().day())
        let bin = try await done(at: hq, "privacy erase --deleted-before \(tomorrow)")
        #expect(bin.output.contains("Erased for good: 1 customer. Not done yet at isfahan"))
        // The branch does not know yet, and writes to what is gone.
        try await done(at: branch, "customer edit 2-1 --set note=late-secret")
        try await done(at: branch, "customer restore 2-2")
        for _ in 0..<2 { try await synchronise(branch) }
        #expect(
            try await done(at: hq, "privacy list --json").list("erasures").allSatisfy {
                $0["waiting"] as? [String] == []
            }
        )
        let truth = try await dump(hq)
        #expect(try await dump(branch) == truth)
        #expect(!truth.contains("first-secret") && !truth.contains("second-secret") && !truth.contains("late-secret"))
        #expect(try await peyvand(at: hq, "status --json").json["erasedDropped"] as? Int ?? 0 > 0)
        for directory in [hq, branch] {
            for line in ["customer show 2-1", "customer edit 2-1 --set city=x", "customer restore 2-2"] {
                let gone = try await peyvand(at: directory, line)
                #expect(gone.code == 2 && gone.message.contains("was erased for good"), "\(line): \(gone.message)")
            }
            #expect(try await done(at: directory, "customer list --deleted --json").ids("customers").isEmpty)
            #expect(try await done(at: directory, "customer find first-secret --json").ids("customers").isEmpty)
            #expect(
                try await done(at: directory, "verify --deep").output.contains("belongs to the erased customer 2-2.")
            )
        }
        // No byte of it is left in any file of the branch, which does not run.
        for name in try FileManager.default.subpathsOfDirectory(atPath: branch) where name != "keys" {
            let bytes = try Data(contentsOf: URL(fileURLWithPath: branch + "/" + name))
            for text in ["first-secret", "second-secret", "late-secret"] {
                #expect(bytes.range(of: Data(text.utf8)) == nil, "\(text) in \(name)")
            }
        }
    }
}
