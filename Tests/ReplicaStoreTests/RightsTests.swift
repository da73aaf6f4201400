import CRM
import Causality
import GRDB
import ReplicaStore
import SyncProtocol
import Testing

@Suite("What branches may write")
struct RightsTests {
    private let hub: Office
    private let isfahan: Office
    private let shiraz: Office

    init() throws {
        hub = try Office.headOffice()
        isfahan = try Office.branch("isfahan", of: hub)
        shiraz = try Office.branch("shiraz", of: hub)
    }

    private func own(_ office: Office) -> FieldValue {
        office.replica.node.branchRow.map { .integer($0.rawValue) } ?? .null
    }

    /// Lets everybody know everything.
    private func exchange() throws {
        for _ in 0..<2 { for branch in [isfahan, shiraz] { try branch.sync(with: hub) } }
    }

    private func expectEqual() throws {
        let expected = try hub.rows()
        for branch in [isfahan, shiraz] {
            #expect(try branch.rows() == expected)
            #expect(try branch.isProvedEqual(to: hub))
        }
    }

    /// A customer of each branch, known everywhere.
    private func customers() throws -> (ofIsfahan: RowID, ofShiraz: RowID) {
        try exchange()
        let first = try isfahan.add(["name": .text("الف"), "homeBranch": own(isfahan)])
        let second = try shiraz.add(["name": .text("ب"), "homeBranch": own(shiraz)])
        try exchange()
        return (first, second)
    }

    @discardableResult
    private func allow(_ rules: WritePolicy.Rule...) throws -> UInt64 {
        try hub.replica.setWritePolicy(WritePolicy(rules: rules), after: nil)
    }

    @Test("What a branch writes into another branch's customer is put back everywhere, and kept on record")
    func otherBranch() throws {
        let (own, other) = try customers()
        try allow(.init(tables: ["customer"], scope: .ownBranch))
        try isfahan.edit(own, ["note": .text("mine")])
        try isfahan.edit(other, ["note": .text("not mine"), "city": .text("یزد")])
        try exchange()
        for office in [hub, isfahan, shiraz] {
            #expect(try office.value("note", of: own) == .text("mine"))
            #expect(try office.value("note", of: other) == .null)
            #expect(try office.value("city", of: other) == .null)
            // Everybody sees what was written, decided already.
            let entries = try office.replica.read {
                try $0.rows(.conflict, where: "ofRow", is: .integer(other.rawValue))
            }
            #expect(entries.count == 1)
            #expect(entries.first?.resolution == .kept)
            let lost = ConflictValues.printed(entries.first?["lost"] ?? .null)
            #expect(lost["note"] == .text("not mine") && lost["city"] == .text("یزد"))
            #expect(try office.replica.status().conflicts == 0)
        }
        try expectEqual()
        let voided = try hub.replica.voidedRows(limit: 10)
        #expect(voided.map(\.node) == ["isfahan"] && voided.map(\.row) == [other] && voided.map(\.rule) == [1])
    }

    @Test("A customer cannot be moved out of a branch, nor taken in from another: the row before and after count")
    func moving() throws {
        let (mine, other) = try customers()
        try allow(.init(tables: ["customer"], scope: .ownBranch))
        try isfahan.edit(mine, ["homeBranch": own(shiraz)])
        try isfahan.edit(other, ["homeBranch": own(isfahan)])
        try exchange()
        #expect(try isfahan.value("homeBranch", of: mine) == own(isfahan))
        #expect(try isfahan.value("homeBranch", of: other) == own(shiraz))
        try expectEqual()
    }

    @Test("A row that a branch may not make is deleted, one that it may not delete comes back, and the other way round")
    func existence() throws {
        let (_, other) = try customers()
        let third = try shiraz.add(["name": .text("ج"), "homeBranch": own(shiraz)])
        try exchange()
        try shiraz.delete(third)
        try exchange()
        try allow(.init(scope: .ownBranch))
        let made = try isfahan.add(["name": .text("د"), "homeBranch": own(shiraz)])
        try isfahan.delete(other)
        try isfahan.restore(third)
        try exchange()
        for office in [hub, isfahan, shiraz] {
            #expect(try office.value("name", of: made) == nil)
            #expect(try office.value("name", of: other) == .text("ب"))
            #expect(try office.value("name", of: third) == nil)
        }
        try expectEqual()
        #expect(try hub.replica.voidedRows(limit: 10).count == 3)
    }

    @Test("What belongs to a customer belongs to the customer's branch")
    func belongings() throws {
        let (mine, other) = try customers()
        try allow(.init(tables: ["activity"], scope: .ownBranch))
        let good = try isfahan.add(["customer": .integer(mine.rawValue), "kind": .text("call")], to: "activity")
        let bad = try isfahan.add(["customer": .integer(other.rawValue), "kind": .text("call")], to: "activity")
        try exchange()
        for office in [hub, isfahan, shiraz] {
            #expect(try office.value("kind", of: good, in: .activity) == .text("call"))
            #expect(try office.value("kind", of: bad, in: .activity) == nil)
        }
        try expectEqual()
    }

    @Test("A region is a province, or the offices under one parent")
    func region() throws {
        let third = try Office.branch("kashan", of: hub)
        let rows = try [isfahan, third].map { try #require($0.replica.node.branchRow) }
        try third.sync(with: hub)
        for row in rows { try hub.edit(row, ["province": .text("اصفهان")], in: "branch") }
        let (mine, other) = try customers()
        try third.sync(with: hub)
        try allow(.init(nodes: ["kashan"], tables: ["customer"], scope: .ownRegion))
        try third.edit(mine, ["note": .text("neighbour")])
        try third.edit(other, ["note": .text("stranger")])
        try third.sync(with: hub)
        try third.sync(with: hub)
        try exchange()
        #expect(try third.value("note", of: mine) == .text("neighbour"))
        #expect(try third.value("note", of: other) == .null)
        try expectEqual()
    }

    @Test("A column can be closed to branches while the rest of the row stays open; the first rule decides")
    func column() throws {
        let (mine, _) = try customers()
        try allow(
            .init(tables: ["customer"], columns: ["note"], scope: .none),
            .init(nodes: ["shiraz"], scope: .none),
            .init(nodes: ["nobody"], scope: .none)
        )
        try isfahan.edit(mine, ["city": .text("یزد")])
        try isfahan.edit(mine, ["note": .text("closed")])
        try shiraz.edit(mine, ["city": .text("قم")])
        try exchange()
        #expect(try hub.value("city", of: mine) == .text("یزد"))
        #expect(try hub.value("note", of: mine) == .null)
        try expectEqual()
    }

    @Test("What another program writes past the commands is judged like everything else")
    func otherProgram() throws {
        let (_, other) = try customers()
        try allow(.init(tables: ["customer"], scope: .ownBranch))
        try isfahan.otherProgram { db in
            try db.execute(sql: "UPDATE customer SET note = 'by hand' WHERE id = ?", arguments: [other.rawValue])
        }
        try exchange()
        #expect(try isfahan.value("note", of: other) == .null)
        try expectEqual()
    }

    @Test("Work that others have done meanwhile stays when what was forbidden is put back")
    func besideOthers() throws {
        let (_, other) = try customers()
        try allow(.init(nodes: ["isfahan"], tables: ["customer"], scope: .ownBranch))
        try shiraz.edit(other, ["note": .text("right")])
        isfahan.wallMilliseconds += 1000
        try isfahan.edit(other, ["note": .text("forbidden, and later")])
        try shiraz.sync(with: hub)
        try exchange()
        for office in [hub, isfahan, shiraz] { #expect(try office.value("note", of: other) == .text("right")) }
        try expectEqual()
    }

    @Test("The policy has versions; who looks at an old one is told, and names in it are checked")
    func versions() throws {
        #expect(try hub.replica.writePolicies().isEmpty)
        #expect(try allow(.init(scope: .all)) == 1)
        #expect(throws: WritePolicyRefusal.changedMeanwhile(present: 1)) {
            try hub.replica.setWritePolicy(WritePolicy(rules: []), after: 0)
        }
        #expect(try hub.replica.setWritePolicy(WritePolicy(rules: []), after: 1) == 2)
        #expect(throws: WritePolicyFailure.unknownTable(rule: 1, "custmer")) {
            try allow(.init(tables: ["custmer"], scope: .none))
        }
        #expect(throws: WritePolicyFailure.unknownColumn(rule: 1, "nots")) {
            try allow(.init(tables: ["customer"], columns: ["nots"], scope: .none))
        }
        #expect(throws: WritePolicyRefusal.notHeadOffice) {
            try isfahan.replica.setWritePolicy(WritePolicy(rules: []), after: nil)
        }
        for count in [WritePolicy.rulesMax - 1, WritePolicy.rulesMax, WritePolicy.rulesMax + 1] {
            let policy = WritePolicy(rules: [WritePolicy.Rule](repeating: .init(scope: .all), count: count))
            if count <= WritePolicy.rulesMax {
                _ = try hub.replica.setWritePolicy(policy, after: nil)
            } else {
                #expect(throws: WritePolicyFailure.tooMany(rules: count)) {
                    try hub.replica.setWritePolicy(policy, after: nil)
                }
            }
        }
    }

    @Test("A policy that somebody changes in the file is not believed")
    func forged() throws {
        try allow(.init(scope: .none))
        let copy = try hub.copy()
        try DatabaseQueue(path: hub.databasePath).write { db in
            _ = try Int.fetchOne(db, sql: "SELECT count(*) FROM writePolicy")
        }
        let office = try Office(from: copy)
        #expect(try office.replica.writePolicies().count == 1)
        try office.replica.close()
        try DatabaseQueue(path: office.databasePath).write { db in
            try db.execute(sql: "DROP TRIGGER IF EXISTS guard_writePolicy_update")
            for name in try String.fetchAll(
                db,
                sql: "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'writePolicy'"
            ) { try db.execute(sql: "DROP TRIGGER \(name)") }
            try db.execute(sql: "UPDATE writePolicy SET document = ?", arguments: [#"{"rule":[]}"#.databaseValue])
        }
        #expect(throws: (any Error).self) { try Replica.open(office.directory, clock: .ofMachine()) }
    }
}
