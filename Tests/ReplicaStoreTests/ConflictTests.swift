import CRM
import Causality
import GRDB
import ReplicaStore
import SyncProtocol
import TestKit
import Testing

@Suite("Losing writes")
struct ConflictTests {
    @Test("Of two people who change one field unaware of each other, the loser's value is listed at every node")
    func twoEdits() throws {
        let (hub, a, b, c, id) = try offices()
        try a.edit(id, ["note": .text("از الف")])
        b.wallMilliseconds += 10
        try b.edit(id, ["note": .text("از ب")])
        try converge(hub, [a, b, c])
        for office in [hub, a, b, c] {
            #expect(try office.value("note", of: id) == .text("از ب"))
            let entry = try #require(try office.entries().first)
            #expect(try office.entries().count == 1)
            #expect(entry["tableName"] == .text("customer"))
            #expect(entry["columnNames"] == .text("note"))
            #expect(ConflictValues.printed(entry["lost"]) == ["note": .text("از الف")])
            #expect(ConflictValues.printed(entry["kept"]) == ["note": .text("از ب")])
            #expect(entry.changeSet("lost")?.origin == a.replica.node.origin)
            #expect(entry.changeSet("kept")?.origin == b.replica.node.origin)
            #expect(try office.replica.status().conflicts == 1)
        }
        try expectEqual([hub, a, b, c])
    }

    @Test("A session tells how many losing writes were listed in it")
    func counted() throws {
        let (hub, a, b, _, id) = try offices()
        try a.edit(id, ["note": .text("1")])
        try b.edit(id, ["note": .text("2")])
        try a.sync(with: hub)
        #expect(a.lastTotals.withLock { $0.conflicts } == 0)
        try b.sync(with: hub)
        #expect(b.lastTotals.withLock { $0.conflicts } == 1)
        try a.sync(with: hub)
        #expect(a.lastTotals.withLock { $0.conflicts } == 1)
        try a.sync(with: hub)
        #expect(a.lastTotals.withLock { $0.conflicts } == 0)
    }

    @Test("Different fields, equal values, and edits made after seeing the other are no conflicts")
    func none() throws {
        let (hub, a, b, c, id) = try offices()
        try a.edit(id, ["note": .text("1"), "email": .text("x@example.com")])
        try b.edit(id, ["phone": .text("+982112345678"), "email": .text("x@example.com")])
        try converge(hub, [a, b, c])
        try c.edit(id, ["note": .text("2"), "email": .text("y@example.com")])
        try converge(hub, [a, b, c])
        try hub.edit(id, ["note": .text("3")])
        try converge(hub, [a, b, c])
        #expect(try hub.replica.read { try $0.count(.conflict) } == 0)
        try expectEqual([hub, a, b, c])
    }

    @Test("A row about which nothing is open leaves no history behind")
    func forgotten() throws {
        let (hub, a, b, c, id) = try offices()
        try a.edit(id, ["note": .text("1")])
        try b.edit(id, ["note": .text("2")])
        try converge(hub, [a, b, c])
        #expect(try hub.contestedWrites() == 3)
        try c.edit(id, ["note": .text("3")])
        try converge(hub, [a, b, c])
        #expect(try hub.contestedWrites() == 0)
        #expect(try hub.conflicts().isEmpty)
        #expect(try hub.conflicts(.superseded).count == 1)
    }

    @Test("An address is one entry, with all its fields")
    func groups() throws {
        let (hub, a, b, _, id) = try offices()
        try a.edit(id, ["city": .text("اصفهان"), "street": .text("چهارباغ"), "note": .text("1")])
        try b.edit(id, ["city": .text("شیراز"), "note": .text("2")])
        try converge(hub, [a, b])
        #expect(try hub.entries().map(\.conflictColumnNames).sorted() == ["note", "province city street postalCode"])
    }

    @Test("When a confirmed time only followed from other fields, losing it is nobody's loss")
    func consequences() throws {
        let (hub, a, b, _, id) = try offices()
        try a.edit(id, ["mobile": .text("+989121234567"), "confirmedAt": .integer(1)])
        try b.edit(id, ["email": .text("x@example.com"), "confirmedAt": .integer(2)])
        try converge(hub, [a, b])
        #expect(try hub.conflicts().isEmpty)
        try a.edit(id, ["confirmedAt": .integer(3)])
        try b.edit(id, ["confirmedAt": .integer(4)])
        try converge(hub, [a, b])
        #expect(try hub.entries().map(\.conflictColumnNames) == ["confirmedAt"])
    }

    @Test(
        "An ordinary edit of head office answers what it has seen, and a loser comes up again when the value it equals goes"
    )
    func answered() throws {
        let (hub, a, b, c, id) = try offices()
        // Equal values: nothing is listed, but A's write was never seen by C, who replaces B's.
        try a.edit(id, ["note": .text("0")])
        b.wallMilliseconds += 10
        try b.edit(id, ["note": .text("0")])
        try b.sync(with: hub)
        try c.sync(with: hub)
        c.wallMilliseconds += 20
        try c.edit(id, ["note": .text("1")])
        try a.sync(with: hub)
        #expect(try hub.conflicts().isEmpty)
        try c.sync(with: hub)
        #expect(try hub.entries().map { $0.changeSet("lost")?.origin } == [a.replica.node.origin])
        try hub.edit(id, ["note": .text("2")])
        #expect(try hub.conflicts().isEmpty)
        #expect(try hub.conflicts(.superseded).count == 1)
        try converge(hub, [a, b, c])
        try expectEqual([hub, a, b, c])
    }

    @Test("An edit that another program made at head office answers as well")
    func foreignAnswer() throws {
        let (hub, a, b, _, id) = try offices()
        try a.edit(id, ["note": .text("1")])
        try b.edit(id, ["note": .text("2")])
        try converge(hub, [a, b])
        #expect(try hub.conflicts().count == 1)
        try hub.otherProgram { db in
            try db.execute(sql: "UPDATE customer SET note = '3' WHERE id = ?", arguments: [id.rawValue])
        }
        try hub.replica.sealForeignWrites()
        #expect(try hub.conflicts().isEmpty)
    }

    // MARK: Forms

    @Test("Who saves a form over an edit that came while it was open has not seen it, and what loses is listed")
    func formOverNewer() throws {
        let (hub, a, b, c, id) = try offices()
        let opened = try #require(try a.replica.read { try $0.clock(.customer, id: id) }).clock
        b.wallMilliseconds += 10
        try b.edit(id, ["note": .text("از ب"), "city": .text("یزد")])
        try converge(hub, [b, a])
        a.wallMilliseconds += 10
        _ = try a.replica.write { transaction in
            try transaction.update("customer", id: id, ["note": .text("از فرم")], loadedWith: opened)
        }
        try converge(hub, [a, b, c])
        for office in [hub, a, b, c] {
            #expect(try office.value("note", of: id) == .text("از فرم"))
            #expect(try office.value("city", of: id) == .text("یزد"))
            #expect(try office.entries().map(\.conflictColumnNames) == ["note"])
            #expect(try office.entries().first?.changeSet("lost")?.origin == b.replica.node.origin)
        }
        #expect(try Set(hub.conflicts()) == hub.conflictOracle().open)
        try expectEqual([hub, a, b, c])
    }

    @Test("A form that shows what is there, or changes other fields, is no conflict")
    func formOverSeen() throws {
        let (hub, a, b, _, id) = try offices()
        let before = try #require(try a.replica.read { try $0.clock(.customer, id: id) }).clock
        try b.edit(id, ["note": .text("از ب")])
        try converge(hub, [b, a])
        let opened = try #require(try a.replica.read { try $0.clock(.customer, id: id) }).clock
        _ = try a.replica.write { transaction in
            try transaction.update("customer", id: id, ["email": .text("x@example.com")], loadedWith: before)
            try transaction.update("customer", id: id, ["note": .text("از فرم")], loadedWith: opened)
        }
        try converge(hub, [a, b])
        #expect(try b.value("note", of: id) == .text("از فرم"))
        #expect(try hub.replica.read { try $0.count(.conflict) } == 0)
        try expectEqual([hub, a, b])
    }

    @Test("A form over what somebody at the same node has written meanwhile is not saved")
    func formOverColleague() throws {
        let (hub, a, _, _, id) = try offices()
        for office in [hub, a] {
            let opened = try #require(try office.replica.read { try $0.clock(.customer, id: id) }).clock
            try office.edit(id, ["note": .text("همکار")])
            let failure = #expect(throws: StoreFailure.self) {
                try office.replica.write { transaction in
                    try transaction.update(
                        "customer",
                        id: id,
                        ["note": .text("از فرم"), "email": .text("x@example.com")],
                        loadedWith: opened
                    )
                }
            }
            #expect("\(failure!)".contains("changed note of the customer"))
            #expect(try office.value("note", of: id) == .text("همکار"))
            #expect(try office.value("email", of: id) == .null)
        }
    }

    // MARK: Rights

    @Test("A branch may resolve an entry, and nothing else in the list")
    func rights() throws {
        let (hub, a, b, _, id) = try offices()
        try a.edit(id, ["note": .text("1")])
        try b.edit(id, ["note": .text("2")])
        try converge(hub, [a, b])
        let entry = try #require(try a.entries().first?.id)
        try a.edit(entry, ["resolution": .text("kept")], in: "conflict")
        #expect(throws: StoreFailure.self) { try a.edit(entry, ["lost": .text("{}")], in: "conflict") }
        #expect(throws: StoreFailure.self) { try a.delete(entry, from: "conflict") }
        #expect(throws: StoreFailure.self) {
            try a.add(["tableName": .text("customer"), "ofRow": .integer(1)], to: "conflict")
        }
        try a.otherProgram { db in
            try db.execute(sql: "UPDATE conflict SET resolution = 'taken'")
            for sql in [
                "UPDATE conflict SET lost = '{}'", "DELETE FROM conflict",
                "INSERT INTO conflict(id, tableName, ofRow) VALUES ((SELECT conflict FROM nextId), 'customer', 1)",
            ] {
                let refusal = #expect(throws: DatabaseError.self) { try db.execute(sql: sql) }
                #expect(refusal?.message?.contains("only head office") == true)
            }
        }
        try converge(hub, [a, b])
        #expect(try hub.conflicts(.taken).count == 1)
        try expectEqual([hub, a, b])
    }

    @Test("Head office takes no entries that a branch has made")
    func forged() throws {
        let hub = try Office.headOffice()
        let liar = try Office.branch("a", of: hub)
        // As a program without our rules would: rows that only head office makes, in the log of a branch.
        try liar.otherProgram { db in
            try db.execute(sql: "DROP TRIGGER conflictBeforeInsert")
            try db.execute(
                sql: "INSERT INTO conflict(id, tableName, ofRow) VALUES ((SELECT conflict FROM nextId), 'customer', 1)"
            )
            try db.execute(
                sql: "INSERT INTO pending VALUES (24, (SELECT max(id) FROM conflict), 1800000000000)"
            )
        }
        let failure = #expect(throws: SyncFailure.self) { try liar.sync(with: hub) }
        #expect("\(failure!)".contains("may not"))
        #expect(try hub.replica.read { try $0.count(.conflict) } == 0)
    }

    // MARK: Existence

    @Test("A delete that has seen only its own branch's edits does not take somebody else's with it unsaid")
    func deleteReadsEveryField() throws {
        let (hub, a, _, c, id) = try offices()
        try a.edit(id, ["note": .text("از الف"), "email": .text("x@example.com")])
        c.wallMilliseconds += 10
        try c.edit(id, ["phone": .text("+982112345678"), "note": .text("از الف")])
        try a.sync(with: hub)
        c.wallMilliseconds += 10
        try c.delete(id)
        try c.sync(with: hub)
        try converge(hub, [a, c])
        let entry = try #require(try hub.entries().first)
        #expect(try hub.entries().count == 1)
        #expect(entry.conflictColumnNames == "email")
        #expect(ConflictValues.printed(entry["lost"]) == ["email": .text("x@example.com")])
        #expect(entry["kept"].isNull)
        // A restore by somebody who has seen it answers.
        try a.restore(id)
        try converge(hub, [a, c])
        #expect(try hub.conflicts().isEmpty)
        #expect(try c.value("email", of: id) == .text("x@example.com"))
        try expectEqual([hub, a, c])
    }

    @Test(
        "An edit that is newer than a delete it did not see keeps the row, and the delete is listed",
        arguments: 0..<2
    )
    func lostDelete(order: Int) throws {
        let (hub, a, b, c, id) = try offices()
        try a.delete(id)
        b.wallMilliseconds += 10
        try b.edit(id, ["note": .text("هنوز مشتری است")])
        try converge(hub, order == 0 ? [a, b] : [b, a])
        let entry = try #require(try hub.entries().first)
        #expect(try hub.entries().count == 1)
        #expect(entry["lost"].isNull)
        #expect(entry.changeSet("lost")?.origin == a.replica.node.origin)
        #expect(try b.value("name", of: id) == .text("مریم"))
        // Others go on with the row; that decides nothing.
        try converge(hub, [c])
        try c.edit(id, ["email": .text("x@example.com")])
        try c.sync(with: hub)
        #expect(try hub.conflicts().count == 1)
        try c.delete(id)
        try c.sync(with: hub)
        #expect(try hub.conflicts().isEmpty)
    }

    @Test("An edit that loses under a delete joins the entry of the delete, in every order", arguments: 0..<6)
    func editsUnderDelete(order: Int) throws {
        let (hub, a, b, c, id) = try offices()
        try a.edit(id, ["note": .text("1")])
        b.wallMilliseconds += 5
        try b.edit(id, ["email": .text("x@example.com")])
        c.wallMilliseconds += 10
        try c.delete(id)
        let orders = [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]]
        for office in orders[order] { try office.sync(with: hub) }
        try converge(hub, [a, b, c])
        #expect(try hub.entries().map(\.conflictColumnNames) == ["email note"])
        #expect(try Set(hub.conflicts()) == hub.conflictOracle().open)
        #expect(ConflictValues.printed(try #require(try hub.entries().first)["lost"]).count == 2)
        try expectEqual([hub, a, b, c])
    }

    // MARK: Erasure

    @Test("Erasing a customer takes its lost values along, and nothing of it is ever listed again")
    func erased() throws {
        let (hub, a, b, c, id) = try offices()
        try a.edit(id, ["note": .text("1")])
        b.wallMilliseconds += 10
        try b.edit(id, ["note": .text("2")])
        try c.edit(id, ["note": .text("3")])
        try converge(hub, [a, b])
        #expect(try hub.conflicts().count == 1)
        #expect(try hub.contestedWrites() > 0)
        _ = try hub.replica.erase(customer: id)
        #expect(try hub.contestedWrites() == 0)
        #expect(try hub.replica.read { try $0.count(.conflict) } == 0)
        // C's edit comes too late.
        try converge(hub, [c, a, b])
        for office in [hub, a, b, c] { #expect(try office.replica.read { try $0.count(.conflict) } == 0) }
        #expect(try hub.contestedWrites() == 0)
        try expectEqual([hub, a, b, c])
    }

    // MARK: Everything

    @Test("Three concurrent writes of one field list the same losers in every order", arguments: 0..<6)
    func threeWrites(order: Int) throws {
        let (hub, a, b, c, id) = try offices()
        for (index, office) in [a, b, c].enumerated() {
            office.wallMilliseconds += UInt64(index)
            try office.edit(id, ["note": .text("\(index)")])
        }
        let orders = [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]]
        for office in orders[order] { try office.sync(with: hub) }
        let lost = try hub.entries().compactMap { $0.changeSet("lost")?.origin }
        #expect(Set(lost) == [a.replica.node.origin, b.replica.node.origin])
        #expect(lost.count == 2)
    }

    @Test("A lost value that nobody has decided about is asked about again when its deleted row comes back")
    func restored() throws {
        let (hub, a, b, c, id) = try offices()
        try a.edit(id, ["note": .text("1")])
        b.wallMilliseconds += 10
        try b.edit(id, ["note": .text("2")])
        try converge(hub, [a, b, c])
        #expect(try hub.conflicts().count == 1)
        try c.delete(id)
        try converge(hub, [a, b, c])
        #expect(try hub.conflicts().isEmpty)
        try b.restore(id)
        try converge(hub, [a, b, c])
        for office in [hub, a, b, c] { #expect(try office.conflicts().count == 1) }
        try a.edit(id, ["note": .text("1 and 2")])
        try converge(hub, [a, b, c])
        for office in [hub, a, b, c] { #expect(try office.conflicts().isEmpty) }
        #expect(try hub.contestedWrites() == 0)
        try expectEqual([hub, a, b, c])
    }

    @Test("A deletion that was taken back hid a lost value from the list when another deletion came after it")
    func takenBack() throws {
        let (hub, a, b, _, id) = try offices()
        try a.edit(id, ["city": .text("0")])
        try a.sync(with: hub)
        try hub.delete(id)
        try a.sync(with: hub)
        try a.restore(id)
        try a.sync(with: hub)
        // All this time B was away. It saw nothing of it, writes the same field later, and deletes the row.
        b.wallMilliseconds += 60_000
        try b.edit(id, ["city": .text("2")])
        b.wallMilliseconds += 1000
        try b.delete(id)
        try converge(hub, [b, a])
        try expectOracle(hub)
        let lost = try hub.entries().filter { $0.changeSet("lost")?.origin == a.replica.node.origin }
        #expect(lost.contains { ConflictValues.printed($0["lost"])["city"] == .text("0") })
    }

    @Test("Whatever branches do to rows, in whatever order it arrives, exactly the losing writes are open")
    func randomHistories() throws {
        var random = SeededRandom(seed: testSeed("conflicts"))
        let hub = try Office.headOffice()
        let branches = try ["a", "b", "c"].map { try Office.branch($0, of: hub) }
        let offices = [hub] + branches
        let rows = try (0..<24).map { try hub.add(["name": .text("مشتری \($0)")]) }
        for branch in branches { try branch.sync(with: hub) }
        for step in 0..<600 {
            let office = offices[random.below(4)]
            office.wallMilliseconds = 1_800_000_000_000 + UInt64(step * 3 + random.below(12))
            let id = rows[random.below(rows.count)]
            let isAlive = try office.replica.read { try $0.row(.customer, id: id) } != nil
            switch random.below(8) {
            case 0 where isAlive: try office.delete(id)
            case 0, 1, 2: if !isAlive { try office.restore(id) } else { fallthrough }
            case 3, 4, 5:
                guard isAlive else { continue }
                var values: [String: FieldValue] = [:]
                for _ in 0...random.below(2) {
                    let field = ["note", "email", "city", "street"][random.below(4)]
                    values[field] = .text(String(random.below(3)))
                }
                try office.edit(id, values)
            default:
                let branch = branches[random.below(3)]
                try branch.sync(with: hub)
                try expectOracle(hub)
            }
        }
        for _ in 0..<2 { for branch in branches { try branch.sync(with: hub) } }
        try expectOracle(hub)
        for branch in branches { #expect(try branch.conflicts() == hub.conflicts()) }
        try expectEqual(offices)
    }

    private func expectOracle(_ hub: Office) throws {
        let listed = try hub.conflicts()
        #expect(Set(listed).count == listed.count)
        let expected = try hub.conflictOracle().open
        #expect(expected.subtracting(listed).isEmpty, "missing")
        #expect(Set(listed).subtracting(expected).isEmpty, "too many")
    }

    private func offices() throws -> (hub: Office, a: Office, b: Office, c: Office, id: RowID) {
        let hub = try Office.headOffice()
        let branches = try ["a", "b", "c"].map { try Office.branch($0, of: hub) }
        let id = try branches[0].add(["name": .text("مریم")])
        try converge(hub, branches)
        return (hub, branches[0], branches[1], branches[2], id)
    }
}

extension Office {
    /// How many writes head office keeps of contested rows.
    fileprivate func contestedWrites() throws -> Int {
        try otherProgram { try Int.fetchOne($0, sql: "SELECT count(*) FROM contestedWrite") ?? 0 }
    }
}
