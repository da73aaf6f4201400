import CRM
import Causality
import GRDB
import ReplicaStore
import TestKit
import Testing

/// Small histories that break rules which look right. Each is named after what would go wrong.
@Suite("Histories that broke simpler rules")
struct StoryTests {
    @Test("An edit that has not seen a delete does not make a second, half-empty row")
    func lateUpdateOfDeletedRow() throws {
        let (hub, a, b, c, id) = try offices()
        try c.delete(id)
        try a.edit(id, ["note": .text("دیرتر")])
        // B meets the delete first, then the edit.
        try c.sync(with: hub)
        try b.sync(with: hub)
        try a.sync(with: hub)
        try converge(hub, [b, c, a])
        let rows = try b.replica.read { try $0.count(.customer) + $0.count(.customer, deleted: true) }
        #expect(rows == 1)
        try expectEqual([hub, a, b, c])
    }

    @Test("A dead row takes in concurrent edits, so that a revival shows the newest of each field")
    func deadRowsMerge() throws {
        let (hub, a, b, c, id) = try offices()
        try a.edit(id, ["note": .text("یادداشت")])
        b.wallMilliseconds += 10
        try b.delete(id)
        c.wallMilliseconds += 20
        try c.edit(id, ["email": .text("m@example.com")])
        try converge(hub, [b, a, c])
        for office in [hub, a, b, c] {
            #expect(try office.value("note", of: id) == .text("یادداشت"))
            #expect(try office.value("email", of: id) == .text("m@example.com"))
            #expect(try office.value("name", of: id) == .text("مریم"))
        }
        try expectEqual([hub, a, b, c])
    }

    @Test("Equal values keep the greater stamp, whatever the order they arrive in", arguments: 0..<6)
    func equalValues(order: Int) throws {
        let (hub, a, b, c, id) = try offices()
        for (office, milliseconds, text) in [(a, 10, "0"), (c, 15, "1"), (b, 20, "0")] as [(Office, UInt64, String)] {
            office.wallMilliseconds += milliseconds
            try office.edit(id, ["note": .text(text)])
        }
        let orders = [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]]
        // First all hand in, in this order; then all hear of it.
        try converge(hub, orders[order])
        for office in [hub, a, b, c] { #expect(try office.value("note", of: id) == .text("0")) }
        try expectEqual([hub, a, b, c])
    }

    @Test("A merge that moves only an older column's stamp is not taken for a foreign write")
    func noEcho() throws {
        let (hub, a, b, _, id) = try offices()
        b.wallMilliseconds += 1000
        try b.edit(id, ["note": .text("تازه")])
        try b.sync(with: hub)
        try a.edit(id, ["email": .text("old@example.com")])
        try a.sync(with: hub)
        let position = try b.replica.status().end.position
        try b.sync(with: hub)
        try b.replica.sealForeignWrites()
        // B has made one change set, its own edit, and none of what it merged.
        let own = try b.replica.status().vector.first { $0.origin == b.replica.node.origin }?.seq
        #expect(own == 1)
        #expect(try b.replica.status().end.position > position)
        #expect(try b.value("email", of: id) == .text("old@example.com"))
    }

    @Test("A foreign write is stamped with what its program could have seen, not with what came later")
    func foreignWriteBeforeMerge() throws {
        let (hub, a, b, _, id) = try offices()
        try a.otherProgram { db in
            try db.execute(sql: "UPDATE customer SET note = 'در شعبه' WHERE id = ?", arguments: [id.rawValue])
        }
        b.wallMilliseconds += 3_600_000
        try b.edit(id, ["note": .text("بعد از آن")])
        try b.sync(with: hub)
        // A seals before it takes B's edit, so the two are concurrent and the later one wins.
        try converge(hub, [a, b])
        for office in [hub, a, b] { #expect(try office.value("note", of: id) == .text("بعد از آن")) }
        try expectEqual([hub, a, b])
    }

    @Test("A foreign write wins over what its program had seen, although the wall clock was put back since")
    func foreignWriteAfterMerge() throws {
        let (hub, a, b, _, id) = try offices()
        b.wallMilliseconds += 3_600_000
        try b.edit(id, ["note": .text("دیده شد")])
        try converge(hub, [b, a])
        a.reboot()
        a.setWall(by: -7_200_000)
        try a.otherProgram { db in
            try db.execute(
                sql: "UPDATE customer SET note = 'پس از آن' WHERE id = ? AND note = 'دیده شد'",
                arguments: [id.rawValue]
            )
        }
        try converge(hub, [a, b])
        for office in [hub, a, b] { #expect(try office.value("note", of: id) == .text("پس از آن")) }
        #expect(try hub.replica.read { try $0.count(.conflict) } == 0)
        try expectEqual([hub, a, b])
    }

    @Test("A write in a transaction that also deletes the row is not lost when the row comes back")
    func editAndDeleteInOneTransaction() throws {
        let (hub, a, b, _, id) = try offices()
        _ = try a.replica.write { transaction in
            try transaction.update("customer", id: id, ["note": .text("آخرین")])
            try transaction.delete("customer", id: id)
        }
        try converge(hub, [a, b])
        #expect(try b.value("note", of: id) == nil)
        try b.restore(id)
        try converge(hub, [b, a])
        for office in [hub, a, b] { #expect(try office.value("note", of: id) == .text("آخرین")) }
        try expectEqual([hub, a, b])
    }

    private func offices() throws -> (hub: Office, a: Office, b: Office, c: Office, id: RowID) {
        let hub = try Office.headOffice()
        let branches = try ["a", "b", "c"].map { try Office.branch($0, of: hub) }
        let id = try branches[0].add(["name": .text("مریم")])
        try converge(hub, branches)
        return (hub, branches[0], branches[1], branches[2], id)
    }
}
