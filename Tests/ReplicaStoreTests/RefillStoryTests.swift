import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit
import Testing

@testable import ReplicaStore

/// Small histories in which a plausible way of filling a head office again loses or forks something.
@Suite("Histories of a head office that was put back")
struct RefillStoryTests {
    /// A head office with branches that all know one customer.
    private func offices(_ names: [String] = ["a", "b", "c"]) throws -> (hub: Office, branches: [Office], id: RowID) {
        let hub = try Office.headOffice()
        let branches = try names.map { try Office.branch($0, of: hub) }
        let id = try hub.add(["name": .text("مریم"), "city": .text("تهران")])
        for branch in branches { try branch.sync(with: hub) }
        return (hub, branches, id)
    }

    /// Whether a hub takes the writer of one change set to have seen another.
    private func hasSeen(_ id: ChangeSetID, _ other: ChangeSetID, at hub: Office) throws -> Bool {
        let place = try position(other, at: hub)
        return try judge(id, at: hub) { try $0.contains(other, at: place) }
    }

    private func judge<Result>(
        _ id: ChangeSetID,
        at hub: Office,
        _ body: (SeenChangeSets) throws -> Result
    ) throws -> Result {
        try hub.replica.withWriter { writer in
            let row = try #require(
                try Row.fetchOne(
                    writer.db,
                    sql: "SELECT time, body FROM log WHERE origin = ? AND seq = ?",
                    arguments: [id.origin.rawValue, Int64(id.seq)]
                )
            )
            let bytes = [UInt8](row[1] as Data)
            let set = try IncomingChangeSet(
                time: HybridTimestamp(stored: row[0]),
                body: ChangeBody(isCompressed: bytes.first == Replica.zstdFirstByte, bytes: bytes),
                schema: .current,
                compressor: ZstdCompressor(),
                decompressor: ZstdDecompressor(),
                scratch: TemporaryDirectory().path
            )
            return try body(writer.checkContext(of: set, from: .refill))
        }
    }

    private func position(_ id: ChangeSetID, at hub: Office) throws -> UInt64 {
        try hub.replica.withWriter { writer in
            UInt64(
                try Int64.fetchOne(
                    writer.db,
                    sql: "SELECT position FROM log WHERE origin = ? AND seq = ?",
                    arguments: [id.origin.rawValue, Int64(id.seq)]
                ) ?? 0
            )
        }
    }

    private func last(_ office: Office) throws -> ChangeSetID {
        let hello = try office.replica.childFacts()
        return ChangeSetID(origin: hello.origin, seq: hello.ownSeq)
    }

    @Test("A number given after the backup is not given to somebody else by the head office put back")
    func numberGivenTwice() throws {
        let hub = try Office.headOffice()
        let a = try Office.branch("a", of: hub)
        try a.sync(with: hub)
        let backup = try hub.revived(isNoticed: true)
        let x = try Office.branch("x", of: hub)
        let row = try x.add(["name": .text("پس از پشتیبان")])
        try x.sync(with: hub)
        // Not known, and taken in again by the voucher that it was given.
        try x.sync(with: backup)
        let y = try Office.branch("y", of: backup)
        #expect(y.replica.node.origin != x.replica.node.origin)
        try converge(backup, [a, x, y])
        #expect(try y.value("name", of: row) == .text("پس از پشتیبان"))
        #expect(try backup.replica.registeredNodes().map(\.name).sorted() == ["a", "x", "y"])
        try expectDone(backup, [a, x, y])
    }

    @Test("A line that breaks right after a new number was given does not shut the node out of a head office put back")
    func cutAfterNewNumber() throws {
        let hub = try Office.headOffice()
        let a = try Office.branch("a", of: hub)
        try a.sync(with: hub)
        let backup = try hub.revived(isNoticed: true)
        let x = try Office.branch("x", of: hub)
        try x.add(["name": .text("پس از پشتیبان")])
        try x.sync(with: hub)
        let copy = try x.copy()
        try x.add(["name": .text("رفته با دیسک")])
        try x.sync(with: hub)
        let restored = try Office(from: copy)
        let row = try restored.add(["name": .text("پس از بازگشت")])
        var cut = 1
        while restored.replica.node.origin == x.replica.node.origin {
            try restored.sync(with: hub, cutAfter: cut)
            cut += 1
        }
        try converge(backup, [restored, a])
        let present = try restored.replica.read { try $0.presentIdentifiers(of: row, in: .customer) }.first ?? row
        #expect(try a.value("name", of: present) == .text("پس از بازگشت"))
        try expectDone(backup, [a, restored])
    }

    @Test("A node that shows a voucher of somebody else, or a forged one, stays outside")
    func foreignVoucher() throws {
        let hub = try Office.headOffice()
        let backup = try hub.revived(isNoticed: true)
        let x = try Office.branch("x", of: hub)
        let y = try Office.branch("y", of: hub)
        for branch in [x, y] { try branch.sync(with: hub) }
        let (stolen, own) = try (voucher(of: x), voucher(of: y))
        var forged = own
        forged[60] ^= 1
        for statement in [stolen, forged] {
            try y.replica.withWriter { writer in
                try writer.db.execute(sql: "UPDATE ownVoucher SET statement = ?", arguments: [Data(statement)])
            }
            #expect(throws: SyncFailure.self) { try y.sync(with: backup) }
        }
        #expect(try backup.replica.registeredNodes().isEmpty)
    }

    private func voucher(of office: Office) throws -> [UInt8] {
        try office.replica.withWriter { writer in
            [UInt8](try #require(try Data.fetchOne(writer.db, sql: "SELECT statement FROM ownVoucher")))
        }
    }

    @Test("An edit made after seeing another one, before head office fell back, is no conflict with it")
    func seenInTheLostLog() throws {
        let (hub, branches, id) = try offices()
        let (b, c) = (branches[1], branches[2])
        let backup = try hub.revived(isNoticed: true)
        try b.edit(id, ["city": .text("قم")])
        let first = try last(b)
        try converge(hub, [b, c])
        // C falls back, and only then overwrites what it had seen in the lost log.
        try c.sync(with: backup, cutAfter: 12)
        c.wallMilliseconds += 1000
        try c.edit(id, ["city": .text("تبریز")])
        let second = try last(c)
        try converge(backup, [b, c])
        #expect(try hasSeen(second, first, at: backup))
        #expect(try !hasSeen(first, second, at: backup))
        #expect(try backup.replica.read { try $0.count(.conflict) } == 0)
        try converge(backup, branches)
        try expectDone(backup, branches)
    }

    @Test("A context names a position that its own author never knew, and head office finds it")
    func positionOfAnothers() throws {
        let (hub, branches, id) = try offices()
        let (b, c) = (branches[1], branches[2])
        let backup = try hub.revived(isNoticed: true)
        try b.edit(id, ["city": .text("قم")])
        let first = try last(b)
        // B is cut before it hears of the position of its own edit.
        _ = try b.sync(with: hub, cutAfter: 4)
        try c.sync(with: hub)
        c.wallMilliseconds += 1000
        try c.edit(id, ["city": .text("تبریز")])
        let second = try last(c)
        for order in [[b, c], [c, b]] {
            let hub = try backup.revived(isNoticed: true)
            let order = try order.map { try $0.revived(isNoticed: false) }
            try converge(hub, order)
            #expect(try hasSeen(second, first, at: hub))
            try expectDone(hub, order)
        }
    }

    @Test("Head office falls back twice, the second time behind the point where two numberings parted")
    func restoredTwice() throws {
        let (first, branches, id) = try offices()
        let (a, b, c) = (branches[0], branches[1], branches[2])
        let oldest = try first.revived(isNoticed: false)
        try a.edit(id, ["note": .text("یک")])
        try converge(first, [a, b])
        let older = try first.revived(isNoticed: true)
        try b.edit(id, ["street": .text("دو")])
        try converge(first, [b, c])
        try c.edit(id, ["email": .text("c@example.com")])
        let unsent = try last(c)
        // The second numbering parts from the first.
        try a.edit(id, ["mobile": .text("+989121234567")])
        try a.sync(with: older)
        try converge(older, [a])
        // And now everything but the beginning is gone. Nobody may depend on who calls first.
        for order in [[a, b, c], [c, b, a], [b, a, c]] {
            let hub = try oldest.revived(isNoticed: true)
            let offices = try order.map { try $0.revived(isNoticed: false) }
            try converge(hub, offices)
            for branch in [a, b] {
                let id = ChangeSetID(origin: branch.replica.node.origin, seq: 1)
                #expect(try hasSeen(unsent, id, at: hub))
            }
            try expectDone(hub, offices)
        }
    }

    @Test("A change set that was written above another branch's lost log waits for that branch, and is not lost")
    func waitsForAnother() throws {
        let (first, branches, id) = try offices()
        let (a, b, c) = (branches[0], branches[1], branches[2])
        let oldest = try first.revived(isNoticed: false)
        // Only B has seen the end of the first log.
        try a.edit(id, ["note": .text("یک")])
        try converge(first, [a, b])
        let second = try oldest.revived(isNoticed: true)
        // B falls back and writes; it names the end of the first log. Everything of it reaches the second head office.
        try b.sync(with: second)
        try b.edit(id, ["street": .text("دو")])
        try converge(second, [a, b, c])
        try c.edit(id, ["email": .text("c@example.com")])
        try converge(second, [c])
        // The third has none of it, and C, who never saw the first log, calls first.
        let third = try oldest.revived(isNoticed: true)
        try c.sync(with: third)
        try c.edit(id, ["city": .text("یزد")])
        try c.sync(with: third)
        try converge(third, [b, a, c])
        try expectDone(third, branches)
        #expect(try third.value("email", of: id) == .text("c@example.com"))
        #expect(try third.value("city", of: id) == .text("یزد"))
    }

    @Test("A disk image of head office is rolled back unnoticed, and what the branches have comes back")
    func rolledBackUnnoticed() throws {
        let (hub, branches, id) = try offices()
        let image = try hub.revived(isNoticed: false)
        try hub.edit(id, ["note": .text("دفتر مرکزی")])
        try branches[0].edit(id, ["street": .text("یک")])
        try converge(hub, branches)
        try branches[1].edit(id, ["email": .text("b@example.com")])
        try branches[1].sync(with: hub)
        // The same name, the same number, another log from here on.
        try branches[2].edit(id, ["mobile": .text("+989121234567")])
        try branches[2].sync(with: image)
        try converge(image, branches)
        #expect(try image.value("note", of: id) == .text("دفتر مرکزی"))
        try expectDone(image, branches)
    }

    @Test("What another program wrote before head office was put back was taken up twice, under one number")
    func unsealedBeforeFalling() throws {
        let (hub, branches, known) = try offices(["a", "b"])
        let made = try hub.otherProgram { db in
            try db.execute(sql: "INSERT INTO customer(id, name, city) SELECT customer, 'زهرا', 'قم' FROM nextId")
            try db.execute(sql: "UPDATE customer SET note = 'ناشناس' WHERE id = ?", arguments: [known.rawValue])
            return try #require(RowID(rawValue: db.lastInsertedRowID))
        }
        let copy = try hub.copy()
        try hub.replica.sealForeignWrites()
        try hub.add(["name": .text("دیگر")])
        try branches[0].sync(with: hub)
        hub.wait(60_000)
        branches[0].wait(60_000)
        try branches[0].edit(made, ["city": .text("کاشان")])
        let image = try Office(from: copy, fence: .missing)
        try converge(image, branches)
        for office in [image] + branches {
            #expect(try office.value("name", of: made) == .text("زهرا"))
            #expect(try office.value("city", of: made) == .text("کاشان"))
            #expect(try office.value("note", of: known) == .text("ناشناس"))
            #expect(try office.replica.status().contradictions.isEmpty)
        }
        try expectDone(image, branches)
    }

    @Test("A conflict listed by a head office put back kept a text whose erasure came back later")
    func erasureComesBackAfterConflict() throws {
        let (hub, branches, id) = try offices(["a", "b"])
        try hub.edit(id, ["note": .text("نخست")])
        let copy = try hub.copy()
        _ = try hub.replica.erase(customer: id)
        // One branch has heard of the order when head office falls back, the other has written.
        try branches[1].sync(with: hub)
        try branches[0].edit(id, ["note": .text("دوم")])
        let image = try Office(from: copy, fence: .missing)
        try branches[0].sync(with: image)
        let isListed = try image.replica.read { try !$0.rows(.conflict, after: nil, limit: 1).isEmpty }
        #expect(isListed)
        try converge(image, branches)
        for office in [image] + branches {
            let listed = try office.replica.read { reader in
                try reader.rows(.conflict, after: nil, limit: 100).filter { $0["ofRow"] == .integer(id.rawValue) }
            }
            #expect(listed.isEmpty)
        }
        try expectDone(image, branches)
    }

    @Test("An order that had left living rows took them along when it came back to a head office put back")
    func orderLeavesLivingRows() throws {
        let (hub, branches, id) = try offices(["a", "b"])
        let call = try hub.add(["customer": .integer(id.rawValue), "kind": .text("call")], to: "activity")
        try branches[0].sync(with: hub)
        let copy = try hub.copy()
        try hub.delete(id)
        hub.wait(60_000)
        _ = try hub.replica.erase(deletedBefore: hub.replica.nowMilliseconds())
        try branches[1].sync(with: hub)
        let image = try Office(from: copy, fence: .missing)
        try converge(image, branches)
        for office in [image] + branches {
            #expect(try office.value("kind", of: call, in: .activity) == .text("call"))
            #expect(try office.replica.read { try $0.isErased(.customer, id: id) })
        }
        try expectDone(image, branches)
    }

    @Test("What only another program's transaction had, before head office was put back, reaches everybody")
    func unsealedOnlyInTheImage() throws {
        let (hub, branches, _) = try offices(["a"])
        let made = try hub.otherProgram { db in
            try db.execute(sql: "INSERT INTO customer(id, name) SELECT customer, 'زهرا' FROM nextId")
            return try #require(RowID(rawValue: db.lastInsertedRowID))
        }
        let image = try hub.revived(isNoticed: true)
        try converge(image, branches)
        #expect(try branches[0].value("name", of: made) == .text("زهرا"))
        try expectDone(image, branches)
    }

    @Test("A branch refused another change set under a number that it knew, and nobody was told that there are two")
    func anotherContentFromHeadOffice() throws {
        let hub = try Office.headOffice()
        let (branch, other) = (try Office.branch("b", of: hub), try Office.branch("c", of: hub))
        try branch.sync(with: hub)
        let copy = try hub.copy()
        let known = try hub.add(["name": .text("یک")])
        try branch.sync(with: hub)
        let image = try Office(from: copy, fence: .fitting)
        // The number comes at another position, so that only the change set itself tells.
        try other.add(["name": .text("دو")])
        try other.sync(with: image)
        try image.add(["name": .text("سه")])
        let end = try image.replica.status().end.position
        let batch = try image.replica.readLog(
            afterPosition: end - 2,
            for: branch.replica.node.origin,
            bytesMax: 1 << 20,
            entriesMax: 2
        ).batch
        #expect(throws: (any Error).self) { try branch.replica.apply([batch], from: image.peer) }
        let told = try branch.replica.status().contradictions
        #expect(told.count == 1 && told.first?.chainHere != told.first?.chainThere)
        #expect(try branch.value("name", of: known) == .text("یک"))
    }

    @Test("Head office rolled back unnoticed has written since: both contents stay, and both sides raise an alarm")
    func twoContents() throws {
        let (hub, branches, id) = try offices()
        let image = try hub.revived(isNoticed: false)
        try hub.edit(id, ["note": .text("نخست")])
        try converge(hub, [branches[0]])
        try image.edit(id, ["note": .text("دوم")])
        let (before, beforeBranch) = try (image.state(), branches[0].state())
        for _ in 0..<2 {
            #expect(throws: SyncFailure.self) { try branches[0].sync(with: image) }
        }
        #expect(try image.state() == before)
        #expect(try branches[0].state() == beforeBranch)
        let alarm = try #require(try image.replica.status().contradictions.first)
        #expect(alarm.change.origin == hub.replica.node.origin)
        #expect(alarm.chainHere != alarm.chainThere)
        #expect(try branches[0].replica.status().contradictions.first?.chainThere == alarm.chainThere)
        // Others are not held up.
        try branches[1].edit(id, ["street": .text("یک")])
        try converge(image, [branches[1], branches[2]])
        try expectDone(image, [branches[1], branches[2]])
    }

    @Test("A refilling session that was cut after one download goes on in the next one")
    func cutAfterDownload() throws {
        let (hub, branches, id) = try offices()
        let (a, b) = (branches[0], branches[1])
        let backup = try hub.revived(isNoticed: true)
        for number in 0..<4 {
            try a.edit(id, ["note": .text("\(number)")])
            try converge(hub, [a, b])
        }
        try backup.edit(id, ["street": .text("نو")])
        // B's cursor is one of the new log now, and most of the old one is still only at the branches.
        try b.replica.withWriter { writer in
            try writer.transaction {
                let positions = try writer.hubPrefixes(at: [UInt64](1..<writer.cursor.position))
                let base = try #require(try positions.last { try self.has($0, backup) })
                try writer.fallBack(to: base)
            }
        }
        let stream = try backup.replica.readLog(
            afterPosition: b.replica.childFacts().cursor.position,
            for: b.replica.node.origin,
            bytesMax: 1 << 20,
            entriesMax: 1
        ).batch
        let peer = SyncPeer(
            node: try #require(UniqueID(bytes: backup.replica.node.node)),
            origin: backup.replica.node.origin
        )
        _ = try b.replica.apply([stream], from: peer)
        try b.sync(with: backup)
        #expect(try backup.value("note", of: id) == .text("3"))
        try converge(backup, branches)
        try expectDone(backup, branches)
    }

    private func has(_ prefix: LogPrefix, _ hub: Office) throws -> Bool {
        try hub.replica.withWriter { try $0.digest(at: prefix.position) == prefix.digest }
    }

    @Test(
        "A change set that the lost head office had acknowledged comes back as it is, also if it is ahead of the clock",
        arguments: [0, -3_600_000] as [Int64]
    )
    func acknowledgedComesBack(wrong: Int64) throws {
        let (hub, branches, id) = try offices()
        let a = branches[0]
        let backup = try hub.revived(isNoticed: true)
        try a.edit(id, ["note": .text("تأییدشده")])
        // Head office has acknowledged it, and the branch has not heard of its place.
        let sent = try last(a)
        for messages in 1..<20 {
            if try hub.replica.withWriter({ $0.vector[sent.origin]?.seq == sent.seq }) { break }
            _ = try a.sync(with: hub, cutAfter: messages)
        }
        _ = try a.sync(with: hub, cutAfter: 2)
        backup.setWall(by: wrong)
        try converge(backup, [a])
        #expect(try backup.value("note", of: id) == .text("تأییدشده"))
        #expect(try last(a) == sent)
        try converge(backup, branches)
        try expectDone(backup, branches)
    }

    @Test("A change set larger than a question comes back in pieces, also when one is lost on the way")
    func largeChangeSet() throws {
        let (hub, branches, _) = try offices(["a", "b"])
        let (a, b) = (branches[0], branches[1])
        let backup = try hub.revived(isNoticed: true)
        var random = SeededRandom(seed: 7)
        _ = try a.replica.write { transaction in
            for _ in 0..<40 {
                let text = String((0..<30_000).map { _ in Character(UnicodeScalar(UInt8(33 + random.below(90)))) })
                try transaction.insert("customer", ["name": .text("n"), "note": .text(text)])
            }
        }
        try converge(hub, [a, b])
        for messages in [5, 7, 9] { _ = try b.sync(with: backup, cutAfter: messages) }
        try b.sync(with: backup)
        #expect(try backup.replica.read { try $0.count(.customer) } == 41)
        try converge(backup, [a, b])
        try expectDone(backup, [a, b])
    }

    @Test("Whoever brings back another's change sets may not change them")
    func forgedInARefill() throws {
        let (hub, branches, id) = try offices(["a", "b"])
        let (a, b) = (branches[0], branches[1])
        let backup = try hub.revived(isNoticed: true)
        try a.edit(id, ["note": .text("درست")])
        try converge(hub, [a, b])
        try b.replica.withWriter { writer in
            try writer.db.execute(
                sql: "UPDATE log SET body = (SELECT body FROM log WHERE position = 1) WHERE origin = ? AND seq = 1",
                arguments: [a.replica.node.origin.rawValue]
            )
        }
        let before = try backup.state()
        #expect(throws: SyncFailure.self) { try b.sync(with: backup) }
        #expect(try backup.state() == before)
    }

    @Test("Random falls of head office, random cuts, three branches: all converge, and nothing acknowledged is lost")
    func randomFalls() throws {
        var random = SeededRandom(seed: testSeed("refill"))
        for _ in 0..<2 {
            let (first, branches, id) = try offices()
            var hub = first
            var backups = [try hub.revived(isNoticed: false)]
            var written: [String] = []
            let fields = ["note", "street", "email", "city"]
            for step in 0..<40 {
                let branch = branches[random.below(3)]
                branch.wallMilliseconds += UInt64(random.below(50))
                switch random.below(8) {
                case 0, 1, 2:
                    let text = "w\(step)"
                    written.append(text)
                    try branch.add(["name": .text(text)])
                    try branch.edit(id, [fields[random.below(4)]: .text(text)])
                case 3, 4:
                    _ = try branch.sync(with: hub, bytesMax: 400, entriesMax: 3, cutAfter: 1 + random.below(20))
                case 5:
                    try branch.sync(with: hub)
                case 6:
                    if backups.count < 4 { backups.append(try hub.revived(isNoticed: false)) }
                default:
                    if random.oneIn(2) { try hub.edit(id, [fields[random.below(4)]: .text("hq\(step)")]) }
                    if random.oneIn(2) {
                        hub = try backups[random.below(backups.count)].revived(isNoticed: true)
                    }
                }
            }
            try converge(hub, branches, rounds: 3)
            try expectDone(hub, branches)
            let names = try hub.replica.read { reader in
                try String.fetchAll(reader.db, sql: "SELECT name FROM customer")
            }
            #expect(Set(written).subtracting(names).isEmpty)
        }
    }
}
