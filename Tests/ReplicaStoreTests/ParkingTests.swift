import CRM
import Causality
import Foundation
import GRDB
import ReplicaStore
import SyncProtocol
import TestKit
import Testing

@Suite("Rows that cannot be applied")
struct ParkingTests {
    @Test("A row with a value of a wrong type waits, shown with its reason, and all others go on")
    func wrongType() throws {
        let hub = try Site.headOffice()
        let writer = try Site.branch("writer", of: hub, .skewed)
        let other = try Site.branch("other", of: hub)
        let (poison, sound) = try writer.replica.write { transaction in
            (
                try transaction.insert("customer", ["name": .text("یک"), "note": .blob([1, 2, 3])]),
                try transaction.insert("customer", ["name": .text("دو")])
            )
        }.result
        #expect(try writer.sync(with: hub).sent.changeSets == 1)
        for site in [hub, other] {
            if site !== hub { #expect(try site.sync(with: hub).parked == 1) }
            #expect(try site.value("name", of: sound) == .text("دو"))
            #expect(try site.value("name", of: poison) == nil)
            let parked = try site.replica.parkedRows()
            #expect(parked.map(\.row) == [poison])
            #expect(parked.map(\.reason.code) == [.wrongType])
            #expect(parked[0].reason.sentence.contains("customer.note"))
            #expect(try site.replica.status().parked == 1)
        }
        // Later edits of the row wait behind it, in order; edits of others do not.
        try writer.edit(poison, ["city": .text("قم")])
        try writer.edit(sound, ["city": .text("قم")])
        try writer.sync(with: hub)
        try other.sync(with: hub)
        #expect(try other.value("city", of: sound) == .text("قم"))
        #expect(try other.replica.parkedRows().map(\.reason.code) == [.wrongType, .queued])
        // Head office hears of it with the next hello, and nobody is said to differ.
        try other.sync(with: hub)
        #expect(try hub.replica.registeredNodes().first { $0.name == "other" }?.parked == 2)
        #expect(try other.replica.status().divergedAt == nil)
        #expect(try hub.replica.registeredNodes().allSatisfy { $0.divergedAt == nil })
        // It stays parked as long as its reason does, over restarts too.
        #expect(try other.replica.retryParked() == 0)
        try other.reopen()
        #expect(try other.replica.parkedRows().map(\.attempts) == [1, 0])
        // A program that knows the type applies it by itself, in order.
        try other.reopen(with: Schema.skewed.renumbered(Schema.current.version + 1))
        #expect(try other.replica.status().parked == 0)
        #expect(try other.value("note", of: poison) == .blob([1, 2, 3]))
        #expect(try other.value("city", of: poison) == .text("قم"))
        #expect(try other.replica.verify { _, _ in }.allSatisfy(\.isRight))
    }

    @Test("A head office put back parks what it cannot apply of what comes back, and takes the rest")
    func wrongTypeInRefill() throws {
        let hub = try Site.headOffice()
        let writer = try Site.branch("writer", of: hub, .skewed)
        try writer.sync(with: hub)
        let home = TemporaryDirectory()
        try hub.onDisk { try $0.execute(sql: "VACUUM INTO ?", arguments: [home.path + "/backup"]) }
        let (poison, sound) = try writer.replica.write { transaction in
            (
                try transaction.insert("customer", ["name": .text("یک"), "note": .blob([1, 2, 3])]),
                try transaction.insert("customer", ["name": .text("دو")])
            )
        }.result
        try writer.edit(poison, ["city": .text("قم")])
        for _ in 0..<2 { try writer.sync(with: hub) }

        let backup = try Site(database: [UInt8](Data(contentsOf: URL(fileURLWithPath: home.path + "/backup"))))
        for _ in 0..<2 { try writer.sync(with: backup) }
        #expect(try backup.value("name", of: sound) == .text("دو"))
        #expect(try backup.replica.parkedRows().map(\.row) == [poison, poison])
        #expect(try backup.replica.parkedRows().map(\.reason.code) == [.wrongType, .queued])
        #expect(try backup.replica.verify { _, _ in }.allSatisfy(\.isRight))
        try backup.reopen(with: Schema.skewed.renumbered(Schema.current.version + 1))
        #expect(try backup.replica.status().parked == 0)
        #expect(try backup.value("note", of: poison) == .blob([1, 2, 3]))
        #expect(try backup.value("city", of: poison) == .text("قم"))
    }

    @Test("A row that the database refuses waits; when the cause is gone, a retry ends as if it had never been")
    func refusedByDatabase() throws {
        let hub = try Site.headOffice()
        let branch = try Site.branch("isfahan", of: hub)
        let first = try branch.add(["name": .text("یک"), "mobile": .text("+989121234567")])
        try branch.sync(with: hub)
        try hub.onDisk { try $0.execute(sql: "CREATE UNIQUE INDEX adminMobile ON customer(mobile)") }
        // One change set: a row before, the one that is refused, one after; then a delete of a sound row.
        let ids = try branch.replica.write { transaction in
            try ["+989121111111", "+989121234567", "+989122222222"].map {
                try transaction.insert("customer", ["name": .text("دیگر"), "mobile": .text($0)])
            }
        }.result
        try branch.edit(ids[1], ["city": .text("قم")])
        try branch.delete(ids[2])
        #expect(try branch.sync(with: hub).sent.changeSets == 3)
        #expect(try hub.value("name", of: ids[0]) == .text("دیگر"))
        #expect(try hub.value("name", of: ids[1]) == nil)
        #expect(try hub.replica.parkedRows().map(\.row) == [ids[1], ids[1]])
        #expect(try hub.replica.parkedRows()[0].reason.code == .database)
        #expect(try !hub.replica.parkedRows()[0].reason.sentence.contains("98912"))
        #expect(try hub.replica.verify { _, _ in }.allSatisfy(\.isRight))
        #expect(try hub.replica.retryParked() == 0)

        try hub.onDisk { try $0.execute(sql: "DROP INDEX adminMobile") }
        let number = try #require(try hub.replica.parkedRows().last?.number)
        // The second one names the row; both are tried, in order.
        #expect(try hub.replica.retryParked(number) == 2)
        #expect(try hub.replica.status().parked == 0)
        #expect(try hub.value("city", of: ids[1]) == .text("قم"))
        try branch.sync(with: hub)
        #expect(try expectSame([hub, branch]))
        #expect(try branch.replica.status().provedEqualAt == hub.replica.status().end.position)
        #expect(try hub.replica.findCustomers("دیگر", limit: 10).sorted() == [ids[0], ids[1]])
        #expect(try hub.value("name", of: first) == .text("یک"))
    }

    @Test("A row whose stored clock is damaged blocks nobody, and takes in what it missed when it is mended")
    func damagedRow() throws {
        let hub = try Site.headOffice()
        let branch = try Site.branch("isfahan", of: hub)
        let damaged = try branch.add(["name": .text("یک")])
        let sound = try branch.add(["name": .text("دو")])
        try branch.sync(with: hub)
        try hub.reopen { try Self.edit($0, "UPDATE customer SET _fields = x'FF' WHERE id = \(damaged.rawValue)") }
        try branch.edit(damaged, ["city": .text("قم")])
        try branch.edit(sound, ["city": .text("ری")])
        try branch.sync(with: hub)
        #expect(try hub.value("city", of: sound) == .text("ری"))
        #expect(try hub.replica.parkedRows().map(\.reason.code) == [.damagedRow])
        try hub.reopen { try Self.edit($0, "UPDATE customer SET _fields = NULL WHERE id = \(damaged.rawValue)") }
        #expect(try hub.replica.retryParked() == 1)
        try branch.sync(with: hub)
        #expect(try expectSame([hub, branch]))
    }

    @Test("The body of a change set is kept while a row of it waits")
    func keptBody() throws {
        let hub = try Site.headOffice()
        let writer = try Site.branch("writer", of: hub, .skewed)
        try writer.add(["name": .text("یک"), "note": .blob([1])])
        try writer.add(["name": .text("دو")])
        try writer.sync(with: hub)
        let kept = try hub.onDisk { try Row.fetchAll($0, sql: "SELECT origin, seq FROM neededBody") }
        #expect(kept.map { [$0[0], $0[1]] as [Int] } == [[2, 1]])
    }

    @Test("What is given up is counted, and what waited behind it is tried")
    func dropped() throws {
        let hub = try Site.headOffice()
        let writer = try Site.branch("writer", of: hub, .skewed)
        let id = try writer.add(["name": .text("یک")])
        try writer.sync(with: hub)
        try writer.edit(id, ["note": .blob([9])])
        try writer.edit(id, ["city": .text("قم")])
        try writer.sync(with: hub)
        let waiting = try hub.replica.parkedRows()
        #expect(waiting.map(\.reason.code) == [.wrongType, .queued])
        #expect(try hub.replica.dropParked(waiting[0].number))
        #expect(try !hub.replica.dropParked(waiting[0].number))
        #expect(try hub.replica.retryParked() == 1)
        #expect(try hub.value("city", of: id) == .text("قم"))
        #expect(try hub.value("note", of: id) == .null)
        let status = try hub.replica.status()
        #expect(status.parked == 0)
        #expect(status.dropped == 1)
        #expect(try hub.replica.retryParked(waiting[0].number) == nil)
    }

    @Test("An erasure waits behind nothing, and takes what waits of the row with it")
    func erased() throws {
        let hub = try Site.headOffice()
        let writer = try Site.branch("writer", of: hub, .skewed)
        let other = try Site.branch("other", of: hub)
        let id = try writer.add(["name": .text("یک")])
        for site in [writer, other] { try site.sync(with: hub) }
        try writer.edit(id, ["note": .blob([9])])
        for site in [writer, other] { try site.sync(with: hub) }
        #expect(try other.replica.status().parked == 1)
        _ = try hub.replica.erase(customer: id)
        #expect(try hub.replica.status().parked == 0)
        try other.sync(with: hub)
        #expect(try other.replica.status().parked == 0)
        for site in [hub, other] { #expect(try site.value("name", of: id) == nil) }
        #expect(try expectSame([hub, other]))
    }

    @Test("Whatever was refused for a while, at any node, ends equal when the cause is gone")
    func anyHistory() throws {
        var random = SeededRandom(seed: testSeed("parking"))
        let hub = try Site.headOffice()
        let branches = try ["a", "b"].map { try Site.branch($0, of: hub) }
        let all = [hub] + branches
        for site in all where random.oneIn(2) || site === hub {
            try site.onDisk { try $0.execute(sql: "CREATE UNIQUE INDEX adminNote ON customer(note)") }
        }
        for _ in 0..<70 {
            let site = all[random.below(3)]
            site.clock.time.milliseconds += UInt64(random.below(30))
            let ids = try site.replica.read { try $0.rows(.customer, after: nil, limit: 50) }.map(\.id)
            let value = FieldValue.text("v\(random.below(12))")
            do {
                switch random.below(6) {
                case 0: try branches[random.below(2)].sync(with: hub)
                case 1: try site.add(["name": value, "note": value])
                case 2: if let id = ids.randomElement(using: &random) { try site.delete(id) }
                default: if let id = ids.randomElement(using: &random) { try site.edit(id, ["note": value]) }
                }
            } catch is StoreFailure {
                // The administrator's index refuses this node's own users, too.
            }
        }
        for site in all { try site.onDisk { try $0.execute(sql: "DROP INDEX IF EXISTS adminNote") } }
        for _ in 0..<2 {
            for site in all { _ = try site.replica.retryParked() }
            for branch in branches { try branch.sync(with: hub) }
        }
        #expect(try all.allSatisfy { try $0.replica.status().parked == 0 })
        #expect(try expectSame(all))
        #expect(try branches.allSatisfy { try $0.replica.status().divergedAt == nil })
    }

    /// Changes a file without its triggers, as a failing disk does.
    private static func edit(_ path: String, _ sql: String) throws {
        let database = try DatabaseQueue(path: path)
        try database.writeWithoutTransaction { db in
            let triggers = try Row.fetchAll(
                db,
                sql: "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'customer'"
            )
            for trigger in triggers { try db.execute(sql: "DROP TRIGGER \(trigger[0] as String)") }
            try db.execute(sql: sql)
            for trigger in triggers { try db.execute(sql: trigger[1]) }
        }
        try database.close()
    }
}

extension Schema {
    /// The present schema, as a program with a mistake has it: notes are bytes.
    fileprivate static let skewed = Schema(
        version: Schema.current.version,
        tables: Schema.current.tables.map { table in
            guard table.number == 1 else { return table }
            return TableDescription(
                number: table.number,
                name: table.name,
                writers: table.writers,
                columns: table.columns.map { column in
                    guard column.name == "note" else { return column }
                    return ColumnDescription(
                        number: column.number,
                        name: column.name,
                        type: .bytes,
                        group: column.group,
                        isRequired: column.isRequired,
                        isIndexed: column.isIndexed
                    )
                },
                baseColumnCount: table.baseColumnCount
            )
        }
    )
}
