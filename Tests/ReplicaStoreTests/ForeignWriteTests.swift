import CRM
import Causality
import GRDB
import ReplicaStore
import TestKit
import Testing

@Suite("Writes of other programs")
struct ForeignWriteTests {
    @Test("Rows that another program inserts, changes and deletes replicate like any other")
    func everyKind() throws {
        let (hub, branch, id) = try pair()
        let second = try branch.add(["name": .text("دوم")])
        try branch.sync(with: hub)
        try branch.otherProgram { db in
            try db.execute(sql: "INSERT INTO customer(id, name) VALUES ((SELECT customer FROM nextId), 'تازه')")
            try db.execute(sql: "UPDATE customer SET city = 'قم' WHERE id = ?", arguments: [id.rawValue])
            try db.execute(sql: "DELETE FROM customer WHERE id = ?", arguments: [second.rawValue])
        }
        try branch.sync(with: hub)
        let born = try #require(RowID(printed: "2-3"))
        #expect(try hub.value("name", of: born) == .text("تازه"))
        #expect(try hub.value("createdAt", of: born)?.isNull == false)
        #expect(try hub.value("city", of: id) == .text("قم"))
        #expect(try hub.value("name", of: second) == nil)
        try branch.sync(with: hub)
        try expectEqual([hub, branch])
    }

    @Test("A foreign edit touches only the columns that it really changed")
    func onlyChangedColumns() throws {
        let (hub, branch, id) = try pair()
        // Head office changes the city while another program saves the whole row at the branch.
        hub.wallMilliseconds += 1000
        try hub.edit(id, ["city": .text("مشهد")])
        try branch.otherProgram { db in
            try db.execute(
                sql: "UPDATE customer SET name = 'نو', city = city, note = note WHERE id = ?",
                arguments: [id.rawValue]
            )
        }
        for _ in 0..<2 { try branch.sync(with: hub) }
        #expect(try hub.value("city", of: id) == .text("مشهد"))
        #expect(try hub.value("name", of: id) == .text("نو"))
        try expectEqual([hub, branch])
    }

    @Test("A foreign edit that was committed before a merge is taken up before it")
    func sealedBeforeMerge() throws {
        let (hub, branch, id) = try pair()
        hub.wallMilliseconds += 5000
        try hub.edit(id, ["note": .text("از دفتر")])
        try branch.otherProgram { db in
            try db.execute(sql: "UPDATE customer SET note = 'از شعبه' WHERE id = ?", arguments: [id.rawValue])
        }
        for _ in 0..<2 { try branch.sync(with: hub) }
        try expectEqual([hub, branch])
        let log = try branch.replica.read { try $0.rows(.customer, after: nil, limit: 10) }
        #expect(log.count == 1)
    }

    @Test("REPLACE and UPSERT are understood as writes of what they changed")
    func replaceAndUpsert() throws {
        let (hub, branch, id) = try pair()
        try branch.otherProgram { db in
            try db.execute(
                sql: "INSERT OR REPLACE INTO customer(id, name, city) VALUES (?, 'جایگزین', 'تهران')",
                arguments: [id.rawValue]
            )
        }
        for _ in 0..<2 { try branch.sync(with: hub) }
        #expect(try hub.value("name", of: id) == .text("جایگزین"))
        try expectEqual([hub, branch])
        try branch.otherProgram { db in
            try db.execute(
                sql: """
                    INSERT INTO customer(id, name) VALUES (?, 'x')
                    ON CONFLICT(id) DO UPDATE SET note = 'upsert'
                    """,
                arguments: [id.rawValue]
            )
            try db.execute(sql: "INSERT OR IGNORE INTO customer(id, name) VALUES (?, 'y')", arguments: [id.rawValue])
        }
        for _ in 0..<2 { try branch.sync(with: hub) }
        #expect(try hub.value("note", of: id) == .text("upsert"))
        #expect(try hub.value("name", of: id) == .text("جایگزین"))
        try expectEqual([hub, branch])
    }

    @Test("REPLACE with the values that were there changes nothing and keeps the clock")
    func replaceWithTheSame() throws {
        let (hub, branch, id) = try pair()
        let before = try branch.state()
        let columns = "id, createdAt, createdBy, kind, name, city"
        try branch.otherProgram { db in
            try db.execute(
                sql: "INSERT OR REPLACE INTO customer(\(columns)) SELECT \(columns) FROM customer WHERE id = ?",
                arguments: [id.rawValue]
            )
        }
        try branch.replica.sealForeignWrites()
        #expect(try branch.state() == before)
        try branch.sync(with: hub)
        try expectEqual([hub, branch])
    }

    @Test("A row that is inserted again after it was deleted comes back")
    func insertedAgain() throws {
        let (hub, branch, id) = try pair()
        try branch.delete(id)
        try branch.sync(with: hub)
        try branch.otherProgram { db in
            try db.execute(sql: "INSERT INTO customer(id, name) VALUES (?, 'دوباره')", arguments: [id.rawValue])
        }
        for _ in 0..<2 { try branch.sync(with: hub) }
        #expect(try hub.value("name", of: id) == .text("دوباره"))
        try expectEqual([hub, branch])
    }

    @Test("A row that is inserted and deleted by another program lies in the graveyard everywhere")
    func insertedAndDeleted() throws {
        let (hub, branch, _) = try pair()
        try branch.otherProgram { db in
            try db.execute(sql: "INSERT INTO customer(id, name) VALUES ((SELECT customer FROM nextId), 'کوتاه')")
            try db.execute(sql: "DELETE FROM customer WHERE name = 'کوتاه'")
        }
        for _ in 0..<2 { try branch.sync(with: hub) }
        #expect(try hub.replica.read { try $0.count(.customer, deleted: true) } == 1)
        try expectEqual([hub, branch])
        // Its number is not given to anybody else.
        #expect(try branch.add(["name": .text("بعدی")]).counter == 3)
    }

    @Test("What another program rolled back never happened")
    func rolledBack() throws {
        let (_, branch, id) = try pair()
        let before = try branch.state()
        try branch.otherProgram { db in
            try db.execute(sql: "BEGIN")
            try db.execute(sql: "UPDATE customer SET name = 'نه' WHERE id = ?", arguments: [id.rawValue])
            try db.execute(sql: "ROLLBACK")
        }
        try branch.replica.sealForeignWrites()
        #expect(try branch.state() == before)
    }

    @Test(
        "What cannot replicate is refused with a sentence",
        arguments: [
            ("INSERT INTO customer(name) VALUES ('x')", "nextId"),
            ("INSERT INTO customer(id, name) VALUES (3 << 43 | 1, 'x')", "nextId"),
            ("UPDATE customer SET id = id + 1", "never changes"),
            ("UPDATE customer SET _time = _time + 1", "read the row again"),
            ("UPDATE customer SET _fields = x'00'", "read the row again"),
            ("INSERT INTO branch(id, name) VALUES (2 << 43 | 1, 'x')", "only head office"),
            ("UPDATE branch SET name = 'x'", "only head office"),
            ("DELETE FROM branch", "only head office"),
            ("UPDATE customer SET stageAt = 'soon'", "whole numbers"),
            ("UPDATE customer SET stageAt = 1.5", "whole numbers"),
            ("UPDATE customer SET name = x'00'", "hold text"),
            ("UPDATE customer SET name = printf('%.70000c', 'x')", "65536 bytes"),
        ]
    )
    func refused(sql: String, word: String) throws {
        let (_, branch, _) = try pair()
        let before = try branch.state()
        let error = #expect(throws: DatabaseError.self) {
            try branch.otherProgram { try $0.execute(sql: sql) }
        }
        #expect(error?.message?.contains(word) == true)
        try branch.replica.sealForeignWrites()
        #expect(try branch.state() == before)
    }

    @Test("A program that saves a row it read before a merge must read it again")
    func staleRow() throws {
        let (hub, branch, id) = try pair()
        let time = try branch.otherProgram {
            try Int64.fetchOne($0, sql: "SELECT _time FROM customer WHERE id = ?", arguments: [id.rawValue])
        }
        try hub.edit(id, ["note": .text("از دفتر")])
        try branch.sync(with: hub)
        #expect(throws: DatabaseError.self) {
            try branch.otherProgram {
                try $0.execute(
                    sql: "UPDATE customer SET name = 'کهنه', _time = ? WHERE id = ?",
                    arguments: [time, id.rawValue]
                )
            }
        }
    }

    @Test("Random writes of other programs at all nodes converge with those of the nodes")
    func convergence() throws {
        var random = SeededRandom(seed: testSeed("foreign convergence"))
        let hub = try Office.headOffice()
        let branches = try ["a", "b"].map { try Office.branch($0, of: hub) }
        let offices = [hub] + branches
        for office in offices { try office.add(["name": .text("آغاز")]) }
        for _ in 0..<150 {
            let office = offices[random.below(3)]
            office.wallMilliseconds += UInt64(random.below(50))
            if random.oneIn(3) {
                try branches[random.below(2)].sync(with: hub)
            } else if random.oneIn(3) {
                let ids = try office.replica.read { try $0.rows(.customer, after: nil, limit: 100) }.map(\.id)
                if let id = ids.randomElement(using: &random) {
                    try office.edit(id, ["city": .text("c\(random.below(5))")])
                }
            } else {
                try office.otherProgram { db in
                    for _ in 0...random.below(3) { try db.execute(sql: Self.statement(&random)) }
                }
            }
        }
        for _ in 0..<2 { for branch in branches { try branch.sync(with: hub) } }
        try expectEqual(offices)
    }

    private static func statement(_ random: inout SeededRandom) -> String {
        let row = "(SELECT id FROM customer ORDER BY (id * 2654435761) % 1009 LIMIT 1 OFFSET \(random.below(4)))"
        let value = "'v\(random.below(5))'"
        switch random.below(8) {
        case 0, 1: return "INSERT INTO customer(id, name) VALUES ((SELECT customer FROM nextId), \(value))"
        case 2: return "DELETE FROM customer WHERE id = \(row)"
        case 3:
            return
                "INSERT OR REPLACE INTO customer(id, name, note) SELECT id, \(value), note FROM customer WHERE id = \(row)"
        case 4:
            return "INSERT INTO customer(id, name) SELECT id, 'n' FROM customer WHERE id = \(row) "
                + "ON CONFLICT(id) DO UPDATE SET note = \(value)"
        default: return "UPDATE customer SET note = \(value), street = 's\(random.below(3))' WHERE id = \(row)"
        }
    }

    private func pair() throws -> (hub: Office, branch: Office, id: RowID) {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        let id = try branch.add(["name": .text("مریم"), "city": .text("تهران"), "kind": .text("person")])
        for _ in 0..<2 { try branch.sync(with: hub) }
        return (hub, branch, id)
    }
}
