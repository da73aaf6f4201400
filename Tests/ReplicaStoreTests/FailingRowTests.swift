import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit
import Testing

@testable import ReplicaStore

/// One row that cannot be written in the middle of work that is about many.
@Suite("A row that fails")
struct FailingRowTests {
    @Test("Head office put back takes all of a refill but the row that is damaged, and counts nothing twice")
    func inRefill() throws {
        let hub = try Office.headOffice()
        let (a, b) = (try Office.branch("a", of: hub), try Office.branch("b", of: hub))
        let (bad, good) = (try hub.add(["name": .text("یک")]), try hub.add(["name": .text("دو")]))
        for branch in [a, b] { try branch.sync(with: hub) }
        let backup = try hub.revived(isNoticed: true)
        try a.edit(good, ["note": .text("از الف")])
        b.wallMilliseconds += 10
        try b.edit(good, ["note": .text("از ب")])
        try b.edit(bad, ["note": .text("پارک")])
        try b.edit(bad, ["city": .text("یزد")])
        try b.edit(good, ["city": .text("قم")])
        for branch in [a, b, a, b] { try branch.sync(with: hub) }
        #expect(try hub.replica.read { try $0.count(.conflict) } == 1)

        try backup.damage(bad)
        for branch in [a, b, a, b] { try branch.sync(with: backup) }
        #expect(try backup.value("city", of: good) == .text("قم"))
        #expect(try backup.replica.parkedRows().map(\.reason.code) == [.damagedRow, .queued])
        #expect(try backup.replica.status().parked == 2)
        #expect(try backup.replica.read { try $0.count(.conflict) } == 1)
        try backup.mend(bad)
        #expect(try backup.replica.retryParked() == 2)
        for branch in [a, b, a, b] { try branch.sync(with: backup) }
        try expectEqual([backup, a, b])
    }

    @Test("A session in which a row fails counts its conflicts, rows and change sets once")
    func countedOnce() throws {
        let hub = try Office.headOffice()
        let (a, b) = (try Office.branch("a", of: hub), try Office.branch("b", of: hub))
        let (bad, good) = (try hub.add(["name": .text("یک")]), try hub.add(["name": .text("دو")]))
        for branch in [a, b] { try branch.sync(with: hub) }
        try a.edit(good, ["note": .text("از الف")])
        try a.sync(with: hub)
        b.wallMilliseconds += 10
        try b.edit(good, ["note": .text("از ب")])
        try b.edit(bad, ["note": .text("پارک")])
        try hub.damage(bad)
        try b.sync(with: hub)
        #expect(b.lastTotals.withLock { ($0.sent.changeSets, $0.conflicts) } == (2, 1))
        #expect(try hub.replica.read { try $0.count(.conflict) } == 1)
        #expect(try hub.replica.parkedRows().count == 1)
        // At a branch, too.
        try a.damage(bad)
        let waiting = try hub.replica.status().end.position - a.replica.status().cursor.position
        try a.sync(with: hub)
        #expect(a.lastTotals.withLock { $0.parked } == 1)
        #expect(a.lastTotals.withLock { $0.received.changeSets } == Int(waiting))
        #expect(try a.replica.parkedRows().count == 1)
        for office in [hub, a] {
            try office.mend(bad)
            #expect(try office.replica.retryParked() == 1)
        }
        for branch in [a, b, a, b] { try branch.sync(with: hub) }
        try expectEqual([hub, a, b])
    }

    @Test("A new life is not held up by a damaged row that its work had touched", arguments: [true, false])
    func inNewLife(hasWholeLog: Bool) throws {
        let hub = hasWholeLog ? try Office.headOffice() : try SnapshotTests.busyHeadOffice()
        let (b, c) = (try Office.branch("b", of: hub), try Office.branch("c", of: hub))
        let (bad, good) = (
            try hub.add(["name": .text("یک"), "city": .text("یزد")]), try hub.add(["name": .text("دو")])
        )
        for _ in 0..<2 { for branch in [b, c] { try branch.sync(with: hub) } }
        let copy = try b.copy()
        try b.edit(good, ["city": .text("فرستاده")])
        try b.sync(with: hub)
        let restored = try Office(from: copy)
        try restored.edit(bad, ["note": .text("مانده")])
        try restored.edit(good, ["note": .text("مانده")])
        try restored.damage(bad)
        for _ in 0..<2 { for branch in [restored, c] { try branch.sync(with: hub) } }
        #expect(restored.replica.node.origin != b.replica.node.origin)
        for office in [hub, c] {
            for id in [bad, good] { #expect(try office.value("note", of: id) == .text("مانده")) }
            #expect(try office.value("city", of: good) == .text("فرستاده"))
        }
        #expect(try restored.replica.status().lives.waiting.changeSets == 0)
        #expect(try restored.value("note", of: bad) == .text("مانده"))
        #expect(try restored.replica.verify { _, _ in }.allSatisfy(\.isRight))
        // What the log does not tell of it comes from head office.
        if !hasWholeLog {
            #expect(try restored.replica.soundness().differing.map(\.id) == [bad])
            restored.replica.wish(.compare(repairs: true))
            try restored.sync(with: hub)
        }
        try expectEqual([hub, restored, c])
        #expect(try restored.isProvedEqual(to: hub))
    }

    @Test("Work that is issued again parks a row that the database refuses, and the rest is issued once")
    func inReissue() throws {
        let hub = try Office.headOffice()
        let (b, c) = (try Office.branch("b", of: hub), try Office.branch("c", of: hub))
        for branch in [b, c] { try branch.sync(with: hub) }
        let copy = try b.copy()
        try b.add(["name": .text("فرستاده")])
        try c.add(["name": .text("دیگری"), "mobile": .text("+989121234567")])
        for branch in [b, c] { try branch.sync(with: hub) }
        let restored = try Office(from: copy)
        try restored.otherProgram { try $0.execute(sql: "CREATE UNIQUE INDEX adminMobile ON customer(mobile)") }
        _ = try restored.replica.write { transaction in
            try transaction.insert("customer", ["name": .text("یک"), "mobile": .text("+989121234567")])
            try transaction.insert("customer", ["name": .text("دو")])
        }
        try restored.add(["name": .text("سه")])
        for _ in 0..<2 { for branch in [restored, c] { try branch.sync(with: hub) } }
        let names = try hub.replica.read { try String.fetchAll($0.db, sql: "SELECT name FROM customer ORDER BY name") }
        #expect(names == ["دو", "دیگری", "سه", "فرستاده", "یک"].sorted())
        #expect(try restored.replica.parkedRows().map(\.reason.code) == [.database])
        #expect(try restored.replica.verify { _, _ in }.allSatisfy(\.isRight))
        try restored.otherProgram { try $0.execute(sql: "DROP INDEX adminMobile") }
        #expect(try restored.replica.retryParked() == 1)
        for branch in [restored, c] { try branch.sync(with: hub) }
        try expectEqual([hub, restored, c])
        #expect(try restored.isProvedEqual(to: hub))
    }

    @Test("A snapshot heals a damaged row, and what this node has written there and not sent yet stays")
    func damagedInSnapshot() throws {
        let (hub, away, other, id) = try longAway()
        try away.edit(id, ["mobile": .text("+989121234567")])
        try away.damage(id)
        try away.sync(with: hub)
        try other.sync(with: hub)
        try away.sync(with: hub)
        #expect(try hub.value("mobile", of: id) == .text("+989121234567"))
        #expect(try away.value("mobile", of: id) == .text("+989121234567"))
        #expect(try away.replica.verify { _, _ in }.allSatisfy(\.isRight))
        try expectEqual([hub, away, other])
        #expect(try away.isProvedEqual(to: hub))
    }

    @Test(
        "A row of a snapshot that the database refuses is left out and named, all others come, and a repair brings it"
    )
    func refusedInSnapshot() throws {
        let (hub, away, other, id) = try longAway()
        try hub.edit(id, ["mobile": .text("+989121111111")])
        let second = try hub.add(["name": .text("دیگر"), "mobile": .text("+989121111111")])
        try SnapshotTests.setSafe(hub)
        try hub.replica.trimLog()
        try away.otherProgram { try $0.execute(sql: "CREATE UNIQUE INDEX adminMobile ON customer(mobile)") }
        try away.sync(with: hub)
        #expect(try away.replica.status().cursor == hub.replica.status().end)
        #expect(try away.value("mobile", of: id) == .text("+989121111111"))
        #expect(try away.value("name", of: second) == nil)
        #expect(try away.replica.soundness().differing.map(\.id) == [second])
        #expect(try away.replica.verify { _, _ in }.allSatisfy(\.isRight))

        try away.otherProgram { try $0.execute(sql: "DROP INDEX adminMobile") }
        away.replica.wish(.compare(repairs: true))
        try away.sync(with: hub)
        try other.sync(with: hub)
        try expectEqual([hub, away, other])
        #expect(try away.isProvedEqual(to: hub))
    }

    @Test("A damaged row among unsent work does not keep a branch with a wrong clock at home")
    func inCorrection() throws {
        let hub = try Office.headOffice()
        let (a, b) = (try Office.branch("a", of: hub), try Office.branch("b", of: hub))
        let (bad, good) = (try hub.add(["name": .text("یک")]), try hub.add(["name": .text("دو")]))
        for branch in [a, b] { try branch.sync(with: hub) }
        a.reboot()
        a.setWall(by: 86_400_000)
        try a.edit(bad, ["note": .text("۱")])
        try a.edit(good, ["note": .text("۲")])
        try a.damage(bad)
        for branch in [a, b, a] { try branch.sync(with: hub) }
        for office in [hub, b] {
            #expect(try office.value("note", of: bad) == .text("۱"))
            #expect(try office.value("note", of: good) == .text("۲"))
        }
        a.replica.wish(.compare(repairs: true))
        try a.sync(with: hub)
        try expectEqual([hub, a, b])
    }

    @Test("Another program's write to a damaged row does not stop the node, and is sent like any other")
    func writtenByAnotherProgram() throws {
        let hub = try Office.headOffice()
        let (a, b) = (try Office.branch("a", of: hub), try Office.branch("b", of: hub))
        let (bad, good) = (try hub.add(["name": .text("یک")]), try hub.add(["name": .text("دو")]))
        let touched = try hub.add(["name": .text("سه")])
        for branch in [a, b] { try branch.sync(with: hub) }
        for id in [bad, touched] { try a.damage(id) }
        try a.otherProgram { db in
            try db.execute(sql: "UPDATE customer SET note = 'x' WHERE id IN (\(bad.rawValue), \(good.rawValue))")
            try db.execute(sql: "UPDATE customer SET note = note WHERE id = \(touched.rawValue)")
        }
        try a.add(["name": .text("پس از آن")])
        for branch in [a, b] { try branch.sync(with: hub) }
        for office in [hub, b] {
            for id in [bad, good] { #expect(try office.value("note", of: id) == .text("x")) }
            for id in [bad, good, touched] { #expect(try office.value("name", of: id).map { !$0.isNull } == true) }
        }
        _ = try a.replica.verifyDeep { _, _ in }
        a.replica.wish(.compare(repairs: true))
        for _ in 0..<2 { try a.sync(with: hub) }
        try expectEqual([hub, a, b])
        #expect(try a.value("name", of: bad) == .text("یک"))
    }

    // MARK: -

    /// A branch for which the log is no longer kept, and a customer that it knows.
    private func longAway() throws -> (hub: Office, away: Office, other: Office, id: RowID) {
        let offices = try SnapshotTests.longAway()
        try SnapshotTests.setSafe(offices.hub)
        try offices.hub.replica.trimLog()
        return offices
    }
}

extension Office {
    /// Makes the clock of a row unreadable, as a failing disk does.
    fileprivate func damage(_ id: RowID) throws { try setFields(of: id, Data([0xFF])) }

    /// Takes the damage back; the fields have no times of their own any more.
    fileprivate func mend(_ id: RowID) throws { try setFields(of: id, nil) }

    private func setFields(of id: RowID, _ fields: Data?) throws {
        try replica.withWriter { writer in
            try writer.db.execute(
                sql: "UPDATE customer SET _fields = ? WHERE id = ?",
                arguments: [fields, id.rawValue]
            )
        }
    }
}
