import CRM
import Causality
import Foundation
import GRDB
import GRDBSQLite
import SyncProtocol
import TestKit
import Testing

@testable import ReplicaStore

@Suite("Files of earlier versions")
struct FormatTests {
    @Test(
        "A node's file of any format opens with everything that was in it",
        arguments: ["hq", "isfahan"],
        [1, 2, 3, 5, 6, 7]
    )
    func opens(name: String, format: Int) throws {
        let site = try Site(database: Fixture.database(name, format: format))
        #expect(try rows(site.dump()) == rows(Fixture.dump(name, format: format)))
        #expect(try site.replica.verify { _, _ in }.allSatisfy(\.isRight))
        // The second time there is nothing to do.
        try site.reopen()
        #expect(try rows(site.dump()) == rows(Fixture.dump(name, format: format)))
        let (present, check) = try site.onDisk { db in
            (try Int.fetchOne(db, sql: "PRAGMA user_version"), try String.fetchOne(db, sql: "PRAGMA integrity_check"))
        }
        #expect(present == Replica.format)
        #expect(check == "ok")
    }

    /// The lines of a dump without the table of nodes: a head office that comes without its fence takes a number.
    private func rows(_ dump: String) -> [Substring] {
        dump.split(separator: "\n").filter { !$0.hasSuffix(#""table":"branch"}"#) }
    }

    @Test("Nodes of format 1 go on exchanging after the upgrade, with what was unsent before it")
    func syncsOn() throws {
        let hub = try Site(database: Fixture.database("hq", format: 1))
        let branch = try Site(database: Fixture.database("isfahan", format: 1))
        for _ in 0..<2 { try branch.sync(with: hub) }
        let maryam = try #require(RowID(printed: "2-1"))
        #expect(try hub.value("email", of: maryam) == .text("maryam@example.com"))
        // Another program wrote this before the upgrade, and the old node had not taken it up.
        #expect(try hub.value("city", of: #require(RowID(printed: "2-3"))) == .text("کاشان"))
        #expect(try branch.value("phone", of: #require(RowID(printed: "1-1")))?.isNull == false)
        try branch.add(["name": .text("بعد از ارتقا")])
        try branch.sync(with: hub)
        try branch.sync(with: hub)
        #expect(try hub.dump() == branch.dump())
        #expect(try expectSame([hub, branch]))
        // The deleted row kept its values.
        try branch.restore(#require(RowID(printed: "2-2")))
        try branch.sync(with: hub)
        #expect(try hub.value("city", of: #require(RowID(printed: "2-2"))) == .text("یزد"))
    }

    @Test("Nodes of format 2 go on exchanging: with a former life, an erasure and a conflict")
    func syncsOnFromSecond() throws {
        let hub = try Site(database: Fixture.database("hq", format: 2))
        let branch = try Site(database: Fixture.database("isfahan", format: 2))
        for _ in 0..<2 { try branch.sync(with: hub) }
        let maryam = try #require(RowID(printed: "2-1"))
        #expect(try hub.value("email", of: maryam) == .text("maryam@example.com"))
        #expect(try hub.value("note", of: maryam) == .text("از تهران"))
        // Another program wrote this, and the node had not taken it up yet.
        #expect(try hub.value("city", of: #require(RowID(printed: "2-3"))) == .text("کاشان"))
        #expect(try expectSame([hub, branch]))
        for site in [hub, branch] {
            #expect(try site.replica.read { try $0.openConflicts() } == 1)
            #expect(throws: StoreFailure.self) { try site.restore(#require(RowID(printed: "2-4"))) }
        }
        // The branch fell back to a backup once, and now came without its fence: each time it took a number.
        let own = try branch.replica.read { try $0.ownOrigins() }.map(\.rawValue)
        #expect(own.count == 3 && own.contains(2) && own.contains(3))
    }

    @Test("Nodes of format 3 go on exchanging, and number on from what their vectors said")
    func syncsOnFromThird() throws {
        let hub = try Site(database: Fixture.database("hq", format: 3))
        let branch = try Site(database: Fixture.database("isfahan", format: 3))
        for _ in 0..<2 { try branch.sync(with: hub) }
        #expect(try hub.value("email", of: #require(RowID(printed: "2-1"))) == .text("maryam@example.com"))
        // Another program wrote this, and the node had not taken it up yet.
        #expect(try hub.value("city", of: #require(RowID(printed: "2-3"))) == .text("کاشان"))
        for site in [hub, branch] {
            let id = try site.add(["name": .text("بعد از ارتقا")])
            try site.reopen()
            try site.edit(id, ["city": .text("رشت")])
        }
        for _ in 0..<2 { try branch.sync(with: hub) }
        #expect(try hub.dump() == branch.dump())
        #expect(try expectSame([hub, branch]))
    }

    @Test("Nodes of format 5 go on exchanging, with the nodes that were let in, and put decisions on record")
    func syncsOnFromFifth() throws {
        let hub = try Site(database: Fixture.database("hq", format: 5))
        let branch = try Site(database: Fixture.database("isfahan", format: 5))
        for _ in 0..<2 { try branch.sync(with: hub) }
        #expect(try hub.value("email", of: #require(RowID(printed: "2-1"))) == .text("maryam@example.com"))
        // Another program wrote this, and the node had not taken it up yet.
        #expect(try hub.value("city", of: #require(RowID(printed: "2-3"))) == .text("کاشان"))
        #expect(try hub.dump() == branch.dump())
        #expect(try expectSame([hub, branch]))
        try hub.replica.decide(.pause, about: "isfahan")
        // Without its fence head office took a number first.
        #expect(try hub.replica.auditEntries(limit: 10).map(\.action).prefix(1) == ["node.pause"])
        #expect(try hub.replica.verifyAudit().findings.isEmpty)
    }

    @Test(
        "Nodes of formats 6 and 7 go on exchanging, with a decision, a conflict, and rows that are known to be from a file",
        arguments: [6, 7]
    )
    func syncsOnFromSixth(format: Int) throws {
        let hub = try Site(database: Fixture.database("hq", format: format))
        let branch = try Site(database: Fixture.database("isfahan", format: format))
        for _ in 0..<2 { try branch.sync(with: hub) }
        #expect(try hub.dump() == branch.dump())
        #expect(try expectSame([hub, branch]))
        // Both were edited without a session before the upgrade.
        #expect(try hub.value("email", of: #require(RowID(printed: "2-1"))) == .text("maryam@example.com"))
        #expect(try branch.value("phone", of: #require(RowID(printed: "1-1"))) == .text("+982188776655"))
        let linked = try #require(RowID(printed: "1-2"))
        for site in [hub, branch] {
            let members = try site.replica.read { try CustomerCluster(of: linked, from: $0).members }
            #expect(members.count == 2)
            #expect(try site.replica.read { try $0.openConflicts() } == 1)
        }
        let imported = try #require(RowID(printed: "2-4"))
        let edited = try #require(RowID(printed: "2-1"))
        _ = try branch.replica.write { transaction in
            let city = ["city": FieldValue.text("ساوه")]
            let first = try transaction.updateFromFile("customer", id: imported, city)
            let second = try transaction.updateFromFile("customer", id: edited, city)
            #expect(first.isChanged && second.kept == ["city"])
        }
    }

    @Test("An upgrade that is interrupted anywhere leaves the old file as it was")
    func interrupted() throws {
        let home = TemporaryDirectory()
        let path = home.path + "/replica.db"
        let database = try Fixture.database("isfahan", format: 1)
        var steps = 1
        var wasInterrupted = false
        while true {
            for suffix in ["", "-wal", "-shm"] { try? FileManager.default.removeItem(atPath: path + suffix) }
            try Data(database).write(to: URL(fileURLWithPath: path))
            let queue = try DatabaseQueue(path: path, configuration: Replica.configuration(busySeconds: 1))
            let isDone = try queue.writeWithoutTransaction { db in
                // Stops whatever runs after so many hundred steps of SQLite's machine.
                let budget = Budget(steps)
                sqlite3_progress_handler(
                    db.sqliteConnection,
                    100,
                    { Unmanaged<Budget>.fromOpaque($0!).takeUnretainedValue().isUsedUp() },
                    Unmanaged.passUnretained(budget).toOpaque()
                )
                defer { sqlite3_progress_handler(db.sqliteConnection, 0, nil, nil) }
                do {
                    try Migrations(schema: .current).migrate(db: db)
                    return true
                } catch let error as DatabaseError where error.resultCode == .SQLITE_INTERRUPT {
                    return false
                }
            }
            try queue.close()
            let left = try DatabaseQueue(path: path)
            let format = try left.read { try Int.fetchOne($0, sql: "PRAGMA user_version") }
            let added = try left.read { try $0.columns(in: "log").contains { $0.name == "timeMax" } }
            let hasFacts = try left.read { try $0.tableExists("localFact") }
            try left.close()
            #expect(format == (isDone ? Replica.format : 1))
            #expect(added == isDone)
            #expect(hasFacts == isDone)
            if isDone { break }
            wasInterrupted = true
            steps += 1 + steps / 3
        }
        #expect(wasInterrupted)
    }

    @Test("An older program refuses a file of a newer format or schema, with a sentence")
    func newerFile() throws {
        let hub = try Site.headOffice()
        let error = #expect(throws: StoreFailure.self) {
            try hub.reopen { path in
                try DatabaseQueue(path: path).write { try $0.execute(sql: "PRAGMA user_version = 99") }
            }
        }
        #expect(error?.description.contains("format 99") == true)

        let newer = try Site.headOffice(.next)
        let failure = #expect(throws: StoreFailure.self) { try newer.reopen(with: .current) }
        #expect(failure?.description.contains("schema \(Schema.next.version)") == true)
    }
}

/// How many more times SQLite may go on.
private final class Budget {
    private var left: Int

    init(_ left: Int) { self.left = left }

    func isUsedUp() -> Int32 {
        left -= 1
        return left < 0 ? 1 : 0
    }
}
