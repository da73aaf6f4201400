import Foundation
import TestKit
import Testing

@Suite("Deciding about losing values with the real program", .serialized, .timeLimit(.minutes(15)))
struct ConflictProcessTests {
    @Test("The branch that lost sees it first, decides, and everybody hears of it")
    func inbox() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let isfahan = try await office.branch("isfahan")
        let shiraz = try await office.branch("shiraz")
        let branches = [isfahan, shiraz]
        func everybodySynchronises() async throws {
            // Twice: what the last one brings, the first one must hear of too.
            for directory in branches + branches { try await synchronise(directory) }
        }
        for name in ["one", "two", "three"] { try await addCustomer(hq, name) }
        try await everybodySynchronises()

        // Isfahan loses the first, Shiraz the second; the third is deleted over an edit.
        try await done(at: isfahan, "customer edit 1-1 --set note=isfahan")
        try await done(at: shiraz, "customer edit 1-1 --set note=shiraz --set city=Shiraz")
        try await done(at: shiraz, "customer edit 1-2 --set note=shiraz")
        try await done(at: isfahan, "customer edit 1-2 --set note=isfahan")
        try await done(at: shiraz, "customer edit 1-3 --set note=kept")
        try await done(at: isfahan, "customer delete 1-3")
        try await everybodySynchronises()

        var rows: [String: [String]] = [:]
        for (directory, mine) in [(hq, []), (isfahan, ["1-1"]), (shiraz, ["1-2", "1-3"])] {
            let listed = try await done(at: directory, "conflicts list --json").list("conflicts")
            rows[directory] = listed.compactMap { $0["row"] as? String }
            #expect(listed.filter { $0["mine"] as? Bool == true }.compactMap { $0["row"] as? String } == mine)
            #expect(rows[directory]?.prefix(mine.count) == mine[...], "What this node lost comes first")
            #expect(rows[directory]?.sorted() == ["1-1", "1-2", "1-3"])
            let status = try await peyvand(at: directory, "status --json")
            #expect(try status.code == 1 && status.json["conflicts"] as? Int == 3)
            #expect(try status.reasons.contains("conflicts"))
        }
        let listed = try await done(at: isfahan, "conflicts --json").list("conflicts")
        func conflict(of row: String) throws -> [String: Any] {
            try #require(listed.first { $0["row"] as? String == row })
        }
        let first = try #require(try conflict(of: "1-1")["id"] as? String)
        let second = try #require(try conflict(of: "1-2")["id"] as? String)
        let third = try #require(try conflict(of: "1-3")["id"] as? String)
        #expect(try conflict(of: "1-1")["fields"] as? [String] == ["note"])
        #expect(try conflict(of: "1-1")["kept"] as? [String: String] == ["note": "shiraz"])
        #expect(try conflict(of: "1-1")["lost"] as? [String: String] == ["note": "isfahan"])
        #expect(try (conflict(of: "1-1")["lostBy"] as? [String: Any])?["node"] as? String == "isfahan")
        #expect(try conflict(of: "1-3")["kind"] as? String == "editOfDeleted")

        let text = try await done(at: isfahan, "conflicts").output
        #expect(text.contains("1 of them was written here. `conflicts keep ID`"))
        #expect(try await done(at: isfahan, "conflicts --lang fa").output.contains("۱ مورد در همین‌جا نوشته شده بود."))
        let shown = try await done(at: hq, "conflicts show \(first)")
        #expect(shown.output.contains("shiraz") && shown.output.contains("isfahan") && shown.output.contains("open"))
        let why = try await done(at: shiraz, "why customer 1-1 note")
        #expect(why.output.contains("Written by shiraz") && why.output.contains("isfahan, "))
        #expect(why.output.contains("so the later one stands") && why.output.contains("See conflict \(first) (open)"))

        // The loser takes back, head office lets stand, the other loser revives what was deleted.
        try await done(at: isfahan, "conflicts take \(first)")
        try await done(at: hq, "conflicts keep \(second)")
        let taken = try await done(at: shiraz, "conflicts take \(third) --json").json
        #expect(taken["resolution"] as? String == "taken" && taken["position"] is Int)
        try await everybodySynchronises()
        let truth = try await dump(hq)
        #expect(try await dump(isfahan) == truth)
        #expect(try await dump(shiraz) == truth)
        for directory in [hq] + branches {
            #expect(try await done(at: directory, "conflicts").output == "Nothing waits for a decision.\n")
            let all = try await done(at: directory, "conflicts list --all --json").list("conflicts")
            let states = all.map { "\($0["row"] ?? "") \($0["resolution"] ?? "")" }
            #expect(Set(states) == ["1-1 taken", "1-2 kept", "1-3 taken"])
            #expect(try await peyvand(at: directory, "status").code == 0)
        }
        #expect(try await done(at: hq, "fleet").code == 0, "Nobody shows a conflict that was decided elsewhere")
        let decided = try await done(at: isfahan, "conflicts --all").output
        #expect(decided.contains("taken") && !decided.contains("`conflicts keep ID`"))

        for (line, code, sentence) in [
            ("conflicts take \(first)", 2, "is resolved already: the lost value was taken back. Nothing was changed."),
            ("conflicts keep \(second)", 2, "is resolved already: what stood was kept"),
            ("conflicts show 1-99", 2, "There is no conflict 1-99 here"),
            ("conflicts keep x", 64, "This names no conflict"), ("why customer 1-1 frob", 64, "has no field \"frob\""),
            ("why customer 1-99 note", 2, "There is no customer 1-99 here"),
        ] as [(String, Int32, String)] {
            let outcome = try await peyvand(at: shiraz, line)
            #expect(outcome.code == code && outcome.message.contains(sentence), "\(line): \(outcome.message)")
        }
    }

    @Test("`why` said that a value taken back had replaced itself, and not what stood")
    func whyAfterTaking() async throws {
        let office = try await ProcessOffice.open()
        let branches = [try await office.branch("isfahan"), try await office.branch("shiraz")]
        for index in 0..<2 {
            // Whoever loses comes to head office first, and then last.
            let (loser, winner) = (branches[index], branches[1 - index])
            let id = try await addCustomer(office.headOffice, "x")
            for directory in branches { try await synchronise(directory) }
            try await done(at: loser, "customer edit \(id) --set note=lost")
            try await done(at: winner, "customer edit \(id) --set note=stood")
            for directory in branches + branches { try await synchronise(directory) }
            let conflict = try await done(at: loser, "conflicts --json").ids("conflicts")
            try await done(at: loser, "conflicts take \(conflict[0])")
            for directory in [loser, winner] { try await synchronise(directory) }
            for directory in branches + [office.headOffice] {
                let why = try await done(at: directory, "why customer \(id) note --json").json
                #expect(why["value"] as? String == "lost" && why["rule"] as? String == "seenBefore")
                let replaced = why["replaced"] as? [String: Any]
                #expect(replaced?["value"] as? String == "stood", "\(directory)")
                #expect((why["conflict"] as? [String: Any])?["resolution"] as? String == "taken")
            }
        }
    }
}
