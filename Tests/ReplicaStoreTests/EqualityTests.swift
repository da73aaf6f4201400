import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit
import Testing

@testable import ReplicaStore

@Suite("Proof that two replicas are equal, and repair")
struct EqualityTests {
    @Test("A bit that turned in a customer's row on disk is found, named, not sent on, and repaired from head office")
    func flippedBit() throws {
        let (hub, a, ids) = try pair(customers: 40)
        let victim = ids[7]
        try a.flipBit(of: victim)
        #expect(try a.value("name", of: victim) != .text("مشتری 7"))
        // Nobody has looked yet: the sums that are kept are still equal.
        #expect(try a.replica.soundness().isSound)
        let tables = try a.replica.verifyDeep { _, _ in }
        #expect(tables.filter { !$0.isRight }.map(\.name) == ["customer"])
        var found = try a.replica.soundness()
        #expect(found.damaged == [RowDifference(table: "customer", id: victim, kind: .differs, columns: ["name"])])

        // An edit of a field that is written together with the damaged one brings the value that was written.
        try a.edit(victim, ["title": .text("دکتر")])
        try a.sync(with: hub)
        #expect(try hub.value("title", of: victim) == .text("دکتر"))
        #expect(try hub.value("name", of: victim) == .text("مشتری 7"))

        a.replica.wish(.compare(repairs: true))
        try a.sync(with: hub)
        found = try a.replica.soundness()
        #expect(found.isSound)
        #expect(try a.replica.verifyDeep { _, _ in }.allSatisfy(\.isRight))
        try expectEqual([hub, a])
        #expect(try a.isProvedEqual(to: hub))
    }

    @Test("A dry run names the row and the field that head office would replace, and changes nothing")
    func dryRun() throws {
        let (hub, a, ids) = try pair(customers: 30)
        try a.flipBit(of: ids[3])
        _ = try a.replica.verifyDeep { _, _ in }
        let before = try a.state()
        a.replica.wish(.compare(repairs: false))
        try a.sync(with: hub)
        let found = try a.replica.soundness()
        #expect(found.differing == [RowDifference(table: "customer", id: ids[3], kind: .differs, columns: ["name"])])
        #expect(try a.state() == before)
        a.replica.wish(.compare(repairs: true))
        try a.sync(with: hub)
        #expect(a.replica.lastRepair == 1)
        #expect(try a.value("name", of: ids[3]) == .text("مشتری 3"))
        try expectEqual([hub, a])
    }

    @Test("Rows that differ, are missing, or are only here are named by the session that finds it, and repaired")
    func unequalSums() throws {
        let (hub, a, ids) = try pair(customers: 50)
        try a.rewriteBehindItsBack { db in
            try db.execute(sql: "UPDATE customer SET note = 'x' WHERE id = ?", arguments: [ids[1].rawValue])
            try db.execute(sql: "DELETE FROM customer WHERE id = ?", arguments: [ids[2].rawValue])
            try db.execute(
                sql: "INSERT INTO customer(id, name, _time, _origin) VALUES (?, 'nobody', 77, 2)",
                arguments: [RowID(origin: Origin(rawValue: 2)!, counter: 999).rawValue]
            )
            // As after a bug: the sums are those of other rows.
            var sums = try DigestBuckets.buckets(of: 1, db)
            for bucket in sums.indices { sums[bucket].sum1 &+= 1 }
            for group in 0..<DigestGroup.count {
                try db.execute(
                    sql: "INSERT OR REPLACE INTO digestGroup VALUES (?, ?)",
                    arguments: [
                        DigestGroup.id(group, of: 1),
                        Data(sums.withUnsafeBufferPointer { DigestGroup.stored($0, group) }),
                    ]
                )
            }
        }
        // A transaction that fails has the writer read the file again.
        #expect(throws: CancellationError.self) { try a.replica.write { _ in throw CancellationError() } }
        try a.sync(with: hub)
        let found = try a.replica.soundness()
        #expect(found.differingRows == 3)
        #expect(
            Set(found.differing.map { "\($0.id) \($0.kind) \($0.columns)" }) == [
                "\(ids[1]) differs [\"note\"]", "\(ids[2]) missing []", "2-999 extra []",
            ]
        )
        #expect(try a.replica.status().divergedAt != nil)
        #expect(try hub.replica.registeredNodes().first?.divergedAt != nil)
        a.replica.wish(.compare(repairs: true))
        try a.sync(with: hub)
        #expect(a.replica.lastRepair == 3)
        #expect(try a.replica.soundness().isSound)
        #expect(try a.replica.status().divergedAt == nil)
        #expect(try hub.replica.registeredNodes().first?.divergedAt == nil)
        try expectEqual([hub, a])
    }

    @Test("A repair never takes the place of what was written here and not sent")
    func unsentWorkStays() throws {
        let (hub, a, ids) = try pair(customers: 10)
        try a.flipBit(of: ids[0])
        _ = try a.replica.verifyDeep { _, _ in }
        try a.edit(ids[0], ["note": .text("هنوز اینجا")])
        let made = try a.add(["name": .text("تازه")])
        a.replica.wish(.compare(repairs: true))
        try a.sync(with: hub)
        for office in [hub, a] {
            #expect(try office.value("note", of: ids[0]) == .text("هنوز اینجا"))
            #expect(try office.value("name", of: ids[0]) == .text("مشتری 0"))
            #expect(try office.value("name", of: made) == .text("تازه"))
        }
        try expectEqual([hub, a])
    }

    @Test("Nothing is repaired from a head office whose own rows do not add up")
    func damagedHeadOffice() throws {
        let (hub, a, ids) = try pair(customers: 10)
        try hub.flipBit(of: ids[4])
        a.replica.wish(.compare(repairs: true))
        try a.sync(with: hub)
        // The sums are equal, and so nobody asks for rows.
        #expect(try a.value("name", of: ids[4]) == .text("مشتری 4"))
        try a.flipBit(of: ids[4])
        _ = try a.replica.verifyDeep { _, _ in }
        let damaged = try a.value("name", of: ids[4])
        a.replica.wish(.compare(repairs: true))
        try a.sync(with: hub)
        #expect(try a.replica.soundness().damagedAtHub == 1)
        #expect(try a.value("name", of: ids[4]) == damaged)
        #expect(a.replica.lastRepair == 0)
    }

    @Test("The weekly look, some rows a turn, finds a turned bit, and nothing while rows are written between the turns")
    func weeklyLook() throws {
        let (hub, a, ids) = try pair(customers: 60)
        let week: UInt64 = 7 * 86_400_000
        try a.replica.selfCheckTurn(rowsMax: 7)
        #expect(try a.replica.soundness().checkedAt == nil)
        a.wallMilliseconds += week
        for turn in 0..<40 {
            try a.edit(ids[turn], ["note": .text("\(turn)")])
            if turn.isMultiple(of: 5) { try a.delete(ids[59 - turn / 5]) }
            if turn.isMultiple(of: 7) { try a.add(["name": .text("میان دو نوبت")]) }
            try a.replica.selfCheckTurn(rowsMax: 7)
        }
        #expect(try a.replica.soundness().checkedAt == a.wallMilliseconds)
        #expect(try a.replica.soundness().isSound)
        try a.flipBit(of: ids[20])
        a.wallMilliseconds += week
        for _ in 0..<40 { try a.replica.selfCheckTurn(rowsMax: 7) }
        let found = try a.replica.soundness()
        #expect(found.damagedBuckets.map(\.table) == ["customer"])
        #expect(found.damaged.map(\.id) == [ids[20]])
        try a.sync(with: hub)
    }

    @Test("What belongs to a deleted customer is listed")
    func orphans() throws {
        let (hub, a, ids) = try pair(customers: 3)
        let b = try Office.branch("b", of: hub)
        try b.sync(with: hub)
        try a.delete(ids[0])
        let activity = try b.add(["customer": .integer(ids[0].rawValue), "kind": .text("call")], to: "activity")
        for office in [a, b, a] { try office.sync(with: hub) }
        for office in [hub, a, b] {
            let orphans = try office.replica.read { try $0.orphans(limit: 10) }
            #expect(orphans.map(\.id) == [activity] && orphans.map(\.parent) == [ids[0]])
            #expect(orphans.first?.isParentErased == false)
        }
    }

    private func pair(customers: Int) throws -> (hub: Office, a: Office, ids: [RowID]) {
        let hub = try Office.headOffice()
        let a = try Office.branch("a", of: hub)
        let ids = try (0..<customers).map { try a.add(["name": .text("مشتری \($0)"), "city": .text("تهران")]) }
        try a.sync(with: hub)
        try a.sync(with: hub)
        return (hub, a, ids)
    }
}

extension Office {
    /// Turns a bit of a customer's name as a disk does: behind everybody's back.
    func flipBit(of id: RowID) throws {
        try rewriteBehindItsBack { db in
            try db.execute(
                sql: "UPDATE customer SET name = replace(name, 'ری', 'سی') WHERE id = ?",
                arguments: [id.rawValue]
            )
        }
    }

    /// Changes the file without triggers, sums or log.
    func rewriteBehindItsBack(_ body: (Database) throws -> Void) throws {
        try otherProgram { db in
            let triggers = try Row.fetchAll(db, sql: "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            for trigger in triggers { try db.execute(sql: "DROP TRIGGER \(trigger[0] as String)") }
            try body(db)
            for trigger in triggers { try db.execute(sql: trigger[1]) }
        }
    }
}
