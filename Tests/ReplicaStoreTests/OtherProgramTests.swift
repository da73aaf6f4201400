import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit
import Testing

@testable import ReplicaStore

@Suite("Other programs that misbehave")
struct OtherProgramTests {
    @Test("A program that is killed in its transaction leaves nothing behind, and the node goes on")
    func killed() throws {
        let site = try Site.headOffice()
        let id = try site.add(["name": .text("مریم")])
        let shell = try Shell(on: site)
        try shell.run("BEGIN IMMEDIATE; UPDATE customer SET name = 'نیمه' WHERE id = \(id.rawValue);")
        shell.kill()
        try site.edit(id, ["city": .text("قم")])
        #expect(try site.value("name", of: id) == .text("مریم"))
        #expect(try site.replica.status().unsealedRows == 0)
        #expect(try site.replica.verify { _, _ in }.allSatisfy(\.isRight))
    }

    @Test("While a program holds the write lock, reading goes on, and whoever writes is told which program it is")
    func holdsTheLock() throws {
        let hub = try Site.headOffice()
        let branch = try Site.branch("isfahan", of: hub)
        try branch.reopen(busySeconds: 0.1)
        let id = try hub.add(["name": .text("مریم")])
        let shell = try Shell(on: branch)
        try shell.run("BEGIN IMMEDIATE;")
        let failure = #expect(throws: StoreFailure.self) { try branch.add(["name": .text("x")]) }
        #expect(failure?.description.contains("sqlite3 (process \(shell.process))") == true)
        // What comes from head office is taken later, and head office does not count it as refused.
        let end = #expect(throws: SyncFailure.self) { try branch.sync(with: hub) }
        if case .refusedPeer = end { Issue.record("It is the node's own trouble") }
        #expect(try branch.replica.read { try $0.count(.branch) } == 0)
        #expect(try branch.value("name", of: id) == nil)
        try shell.run("COMMIT;")
        try branch.sync(with: hub)
        #expect(try branch.value("name", of: id) == .text("مریم"))
        shell.kill()
    }

    @Test("A program that reads for long keeps nobody from writing, and status can name it")
    func readsForLong() throws {
        let site = try Site.headOffice()
        let id = try site.add(["name": .text("مریم")])
        let shell = try Shell(on: site)
        try shell.run("BEGIN; SELECT count(*) FROM customer;")
        for number in 0..<20 { try site.edit(id, ["note": .text("\(number)")]) }
        #expect(LockHolder.reader(of: Replica.path(in: site.directory)) == "sqlite3 (process \(shell.process))")
        #expect(LockHolder.writer(of: Replica.path(in: site.directory)) == nil)
        shell.kill()
        #expect(try site.value("note", of: id) == .text("19"))
    }

    @Test("What other programs write while the node is down is taken up when it is back")
    func whileDown() throws {
        let hub = try Site.headOffice()
        let branch = try Site.branch("isfahan", of: hub)
        let id = try branch.add(["name": .text("مریم")])
        try branch.sync(with: hub)
        try branch.reopen { path in
            let shell = try Shell(at: path)
            try shell.run("UPDATE customer SET city = 'قم' WHERE id = \(id.rawValue);")
            shell.kill()
        }
        #expect(try branch.replica.status().unsealedRows == 1)
        try branch.sync(with: hub)
        #expect(try hub.value("city", of: id) == .text("قم"))
        try branch.sync(with: hub)
        #expect(try expectSame([hub, branch]))
    }

    @Test(
        "The node's own tables are closed to other programs",
        arguments: [
            "DELETE FROM log", "UPDATE log SET body = NULL", "INSERT OR REPLACE INTO log SELECT * FROM log",
            "UPDATE localNode SET origin = 7", "UPDATE localState SET clock = 0",
            "INSERT INTO versionVector VALUES (9, 9, zeroblob(32))",
            "INSERT INTO localFact VALUES ('safePosition', 99)", "DELETE FROM pending",
            "DELETE FROM digestGroup", "UPDATE customerGraveyard SET name = 'x'", "DELETE FROM customerGraveyard",
            "INSERT INTO customerGraveyard(id) VALUES (99)", "INSERT INTO parkedRow DEFAULT VALUES",
        ]
    )
    func closedTables(sql: String) throws {
        let site = try Site.headOffice()
        let id = try site.add(["name": .text("مریم")])
        try site.add(["name": .text("علی")])
        try site.delete(id)
        let before = try site.state()
        let error = #expect(throws: DatabaseError.self) {
            try site.onDisk { db in
                // So that there is something to delete there.
                try db.execute(sql: "UPDATE customer SET city = 'قم'")
                try db.execute(sql: sql)
            }
        }
        #expect(error?.message?.contains("only the node itself") == true)
        try site.onDisk { try $0.execute(sql: "UPDATE customer SET city = NULL") }
        try site.replica.sealForeignWrites()
        #expect(try site.state() == before)
    }

    @Test("Another program can still delete rows and bring them back")
    func openTables() throws {
        let site = try Site.headOffice()
        let id = try site.add(["name": .text("مریم")])
        try site.onDisk { try $0.execute(sql: "DELETE FROM customer WHERE id = ?", arguments: [id.rawValue]) }
        try site.replica.sealForeignWrites()
        #expect(try site.value("name", of: id) == nil)
        try site.onDisk { db in
            try db.execute(
                sql: "INSERT INTO customer(id, name) SELECT id, name FROM customerGraveyard WHERE id = ?",
                arguments: [id.rawValue]
            )
            try db.execute(sql: "DELETE FROM customer WHERE id = ?", arguments: [id.rawValue])
            try db.execute(sql: "INSERT INTO customer(id, name) VALUES (?, 'دوباره')", arguments: [id.rawValue])
        }
        try site.replica.sealForeignWrites()
        #expect(try site.value("name", of: id) == .text("دوباره"))
        #expect(try site.replica.verify { _, _ in }.allSatisfy(\.isRight))
    }

    @Test("Many rows of one statement each take a number of their own")
    func manyRows() throws {
        let hub = try Site.headOffice()
        let branch = try Site.branch("isfahan", of: hub)
        try branch.add(["name": .text("پیشین")])
        try branch.onDisk { db in
            try db.execute(sql: "CREATE TEMP TABLE staging(name TEXT)")
            try db.execute(sql: "INSERT INTO staging VALUES ('یک'), ('دو'), ('سه')")
            try db.execute(
                sql: """
                    INSERT INTO customer(id, name)
                    SELECT (SELECT customer FROM nextId) + row_number() OVER () - 1, name FROM staging
                    """
            )
        }
        for _ in 0..<2 { try branch.sync(with: hub) }
        #expect(try hub.value("name", of: #require(RowID(printed: "2-4"))) == .text("سه"))
        #expect(try branch.add(["name": .text("بعدی")]).counter == 5)
        try branch.sync(with: hub)
        #expect(try expectSame([hub, branch]))
    }

    @Test("A row that was saved whole after a merge, its old clock included, is refused and not lost in silence")
    func wholeStaleRow() throws {
        let hub = try Site.headOffice()
        let branch = try Site.branch("isfahan", of: hub)
        let id = try branch.add(["name": .text("مریم"), "city": .text("تهران")])
        try branch.sync(with: hub)
        let row = try #require(
            try branch.onDisk { try Row.fetchOne($0, sql: "SELECT * FROM customer WHERE id = \(id.rawValue)") }
        )
        try hub.edit(id, ["city": .text("مشهد")])
        try branch.sync(with: hub)
        let names = row.columnNames.filter { $0 != "id" }
        let error = #expect(throws: DatabaseError.self) {
            try branch.onDisk { db in
                try db.execute(
                    sql: "UPDATE customer SET \(names.map { "\"\($0)\" = ?" }.joined(separator: ", ")) WHERE id = ?",
                    arguments: StatementArguments(names.map { row[$0] as DatabaseValue } + [id.databaseValue])
                )
            }
        }
        #expect(error?.message?.contains("read the row again") == true)
        #expect(try branch.value("city", of: id) == .text("مشهد"))
    }

    @Test("A new row without a number of this node is refused, so its children do not go to somebody else's row")
    func childrenOfNobody() throws {
        let hub = try Site.headOffice()
        let branch = try Site.branch("isfahan", of: hub)
        try hub.add(["name": .text("مشتری دفتر مرکزی")])
        try branch.sync(with: hub)
        #expect(throws: DatabaseError.self) {
            try branch.onDisk { db in
                try db.inTransaction {
                    try db.execute(sql: "INSERT INTO customer(name) VALUES ('x')")
                    try db.execute(
                        sql: """
                            INSERT INTO activity(id, customer, kind)
                            VALUES ((SELECT activity FROM nextId), last_insert_rowid(), 'call')
                            """
                    )
                    return .commit
                }
            }
        }
        try branch.sync(with: hub)
        #expect(try hub.replica.read { try $0.count(.activity) } == 0)
        // With RETURNING the program learns the number that it must use.
        let made = try branch.onDisk { db in
            try Int64.fetchOne(
                db,
                sql: "INSERT INTO customer(id, name) VALUES ((SELECT customer FROM nextId), 'y') RETURNING id"
            )
        }
        #expect(made.flatMap(RowID.init(rawValue:))?.origin == branch.replica.node.origin)
    }
}

extension RowID {
    fileprivate var databaseValue: DatabaseValue { rawValue.databaseValue }
}

/// A real `sqlite3` at work on a node's file.
private final class Shell {
    private let child = Process()
    private let input = Pipe()
    private let output = Pipe()

    convenience init(on site: Site) throws { try self.init(at: Replica.path(in: site.directory)) }

    init(at path: String) throws {
        child.executableURL = URL(fileURLWithPath: "/usr/bin/sqlite3")
        child.arguments = ["-batch", path]
        child.standardInput = input
        child.standardOutput = output
        try child.run()
    }

    var process: Int32 { child.processIdentifier }

    /// Runs statements and waits until they are done.
    func run(_ sql: String) throws {
        try input.fileHandleForWriting.write(contentsOf: Data((sql + "\nSELECT 'done';\n").utf8))
        var answer = ""
        while !answer.contains("done") {
            let piece = output.fileHandleForReading.availableData
            if piece.isEmpty { break }
            answer += String(decoding: piece, as: UTF8.self)
        }
    }

    /// Ends it as a power cut would.
    func kill() {
        Glibc.kill(process, SIGKILL)
        child.waitUntilExit()
    }
}
