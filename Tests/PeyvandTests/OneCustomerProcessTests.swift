import Foundation
import TestKit
import Testing

@Suite("One customer, with real programs and lines between them", .serialized, .timeLimit(.minutes(15)))
struct OneCustomerProcessTests {
    @Test(
        "A person registered at two branches is one customer everywhere, and two again with their own histories after a split"
    )
    func story() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let (isfahan, shiraz) = try await (office.branch("isfahan"), office.branch("shiraz"))
        // Nobody knows of the other, and each writes the name its own way.
        func add(_ branch: String, _ words: [String]) async throws -> String {
            let made = try await run(PeyvandProcess.binary, ["customer", "add", "--data", branch, "--json"] + words)
            #expect(made.code == 0, "\(made.message)")
            return try #require(made.json["id"] as? String)
        }
        let first = try await add(
            isfahan,
            ["--name", "مریم رضایی‌نژاد", "--national-code", "0012345679", "--mobile", "09121234567"]
        )
        let second = try await add(
            shiraz,
            ["--name", "مريم رضائي نژاد", "--national-code", "۰۰۱۲۳۴۵۶۷۹", "--mobile", "09359876543"]
        )
        try await done(at: isfahan, "activity add \(first) --kind call")
        try await done(at: isfahan, "activity add \(first) --kind visit")
        try await done(at: shiraz, "activity add \(second) --kind meeting")
        for branch in [isfahan, shiraz, isfahan] { try await synchronise(branch) }
        for node in [hq, isfahan, shiraz] {
            for number in ["09121234567", "09359876543", second] {
                let page = try await done(at: node, "customer show \(number) --json").json
                #expect(page["golden"] as? String == first)
                #expect(page["members"] as? [String] == [first, second])
                #expect((page["timeline"] as? [Any])?.count == 3)
            }
            #expect(try await done(at: node, "customer duplicates --json").list("duplicates").isEmpty)
        }

        try await done(at: hq, "customer split \(second)")
        for branch in [isfahan, shiraz, isfahan] { try await synchronise(branch) }
        for node in [hq, isfahan, shiraz] {
            for (id, number, kinds) in [
                (first, "09121234567", ["call", "visit"]), (second, "09359876543", ["meeting"]),
            ] {
                let page = try await done(at: node, "customer show \(number) --json").json
                #expect(page["members"] as? [String] == [id])
                let timeline = try #require(page["timeline"] as? [[String: Any]])
                #expect(timeline.compactMap { $0["kind"] as? String }.sorted() == kinds)
            }
        }
        #expect(try await dump(isfahan) == dump(hq))
        #expect(try await dump(shiraz) == dump(hq))
    }

    @Test("An import that is killed goes on with the same command, and is taken back while the node runs")
    func killedImport() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        let rows = (1...30_000).map { "c-\($0),مشتری \($0),یزد\n" }.joined()
        let file = try office.file("many.csv", "externalKey,name,city\n" + rows)
        let words = ["import", file, "--as", "customers", "--data", hq, "--json"]
        let killed = try PeyvandProcess(words)
        let isUnderWay = try await becomesTrue {
            try await done(at: hq, "customer list --limit 1 --json").list("customers").count == 1
        }
        #expect(isUnderWay)
        killed.killAtOnce()
        _ = await killed.end()
        let summary = try await run(PeyvandProcess.binary, words)
        #expect(summary.code == 0)
        let counted = try ["created", "skipped"].compactMap { try summary.json[$0] as? Int }
        #expect(counted.reduce(0, +) == 30_000)
        let imports = try await done(at: hq, "import list --json").list("imports")
        #expect(imports.count == (counted[0] == 0 ? 1 : 2))
        for one in imports {
            let id = try #require(one["id"] as? String)
            let undone = try await done(at: hq, "import undo \(id) --json").json
            #expect(undone["keptCount"] as? Int == 0)
        }
        #expect(try await done(at: hq, "customer list --limit 1 --json").list("customers").isEmpty)
        #expect(try await peyvand(at: hq, "verify --deep").code == 0)
        #expect(try await peyvand(at: hq, "audit verify").code == 0)
    }

    @Test("A customer that leaves as a spreadsheet on standard output comes into another node")
    func spreadsheetOut() async throws {
        let office = try await ProcessOffice.open()
        let hq = office.headOffice
        try await addCustomer(hq, "مریم")
        let path = office.home.path + "/a.xlsx"
        try await done(at: hq, "export --format xlsx --output \(path)")
        let branch = try await office.branch("isfahan")
        try await synchronise(branch)
        let again = try await done(at: branch, "import \(path) --as customers --json").json
        #expect(again["skipped"] as? Int == 1 && again["batch"] is NSNull)
        let refused = try await peyvand(at: hq, "export --format ics --as customers")
        #expect(refused.code == 64)
        // A device is written to, and not replaced.
        for format in ["csv", "xlsx"] {
            #expect(try await peyvand(at: hq, "export --format \(format) --output /dev/full").code == 1)
            #expect(try await peyvand(at: hq, "export --format \(format) --output /dev/null").code == 0)
        }
        let types = try ["/dev/full", "/dev/null"].map {
            try FileManager.default.attributesOfItem(atPath: $0)[.type] as? FileAttributeType
        }
        #expect(types == [.typeCharacterSpecial, .typeCharacterSpecial])
    }
}
