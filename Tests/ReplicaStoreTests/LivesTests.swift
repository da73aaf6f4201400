import CRM
import Causality
import Foundation
import GRDB
import TestKit
import Testing

@testable import ReplicaStore
@testable import SyncProtocol

/// What happens to a node that is put back to an older state, or copied.
@Suite("Restored and cloned nodes")
struct LivesTests {
    @Test("A branch put back to a copy gets back what it had sent, under a new number, and loses nothing")
    func restoredBehind() throws {
        let (hub, b, c) = try offices()
        let early = try b.add(["name": .text("مریم")])
        try converge(hub, [b, c])
        let copy = try b.copy()
        let sent = try b.add(["name": .text("فرستاده")])
        try b.edit(early, ["note": .text("بعد از رونوشت")])
        try converge(hub, [b, c])

        let restored = try Office(from: copy)
        // The same printed number again, for somebody else.
        let later = try restored.add(["name": .text("پس از بازگشت")])
        #expect(later == sent)
        try converge(hub, [restored, c])
        #expect(restored.replica.node.origin != b.replica.node.origin)
        for office in [hub, restored, c] {
            #expect(try office.value("name", of: sent) == .text("فرستاده"))
            #expect(try office.value("note", of: early) == .text("بعد از رونوشت"))
            #expect(try office.names() == ["مریم", "فرستاده", "پس از بازگشت"])
        }
        try expectEqual([hub, restored, c])
    }

    @Test("A branch that has written nothing since is found by its position alone")
    func onlyTheCursorTells() throws {
        let (hub, b, c) = try offices()
        let copy = try b.copy()
        try c.add(["name": .text("دیگری")])
        try converge(hub, [c, b])
        let restored = try Office(from: copy)
        try restored.add(["name": .text("تازه")])
        try restored.sync(with: hub)
        #expect(restored.replica.node.origin != b.replica.node.origin)
        // What lost under the former number is this node's to decide.
        let own = try restored.replica.read { try $0.ownOrigins() }
        #expect(own == [b.replica.node.origin, restored.replica.node.origin])
        try converge(hub, [restored, c])
        try expectEqual([hub, restored, c])
    }

    @Test("A branch could not write any more once its new life had come as far as its old one")
    func pastTheMarkOfTheFormerLog() throws {
        let (hub, b, _) = try offices()
        // Every 256th position is marked with the rows up to there.
        for number in 0..<260 { try b.add(["name": .text("\(number)")]) }
        try b.replica.mustRenewForTest()
        // Cut before head office has anything, so that all of it waits and the log is short.
        var cut = 1
        while cut < 40, try b.replica.status().lives.waiting.changeSets < 250 {
            try b.sync(with: hub, cutAfter: cut)
            cut += 1
        }
        for number in 260..<620 { try b.add(["name": .text("\(number)")]) }
        try b.sync(with: hub)
        #expect(try hub.names().count == 620)
        try expectEqual([hub, b])
    }

    @Test("Two copies with the same unsent work issue it once")
    func sharedTail() throws {
        let (hub, b, c) = try offices()
        let base = try b.add(["name": .text("پایه")])
        try converge(hub, [b, c])
        let customer = try b.add(["name": .text("مشترک")])
        try b.edit(base, ["note": .text("مشترک")])
        let one = try Office(from: try b.copy())
        let two = try Office(from: try b.copy())
        for (office, text) in [(one, "یک"), (two, "دو")] {
            try office.add(
                ["customer": .integer(customer.rawValue), "kind": .text("call"), "subject": .text(text)],
                to: "activity"
            )
            try office.replica.mustRenewForTest()
        }
        try converge(hub, [one, two, c])
        for office in [hub, one, two, c] {
            #expect(try office.names() == ["پایه", "مشترک"])
            let id = try #require(try office.id(named: "مشترک"))
            let subjects = try office.replica.read { reader in
                try reader.rows(.activity, where: "customer", is: .integer(id.rawValue)).map { $0["subject"] }
            }
            #expect(Set(subjects) == [.text("یک"), .text("دو")])
        }
        try expectEqual([hub, one, two, c])
    }

    @Test("Two copies that issue the same work at the same moment end with it once")
    func issuedAtOnce() throws {
        let (hub, b, c) = try offices()
        let customer = try b.add(["name": .text("مشترک")])
        let one = try Office(from: try b.copy())
        let two = try Office(from: try b.copy())
        for office in [one, two] { try office.replica.mustRenewForTest() }
        // One has asked and issued; its line breaks before head office has taken it. So for both.
        var cut = 1
        while try one.waitingCount() > 0 || one.replica.node.origin == b.replica.node.origin {
            try one.sync(with: hub, cutAfter: cut)
            cut += 1
        }
        cut = 1
        while try two.waitingCount() > 0 || two.replica.node.origin == b.replica.node.origin {
            try two.sync(with: hub, cutAfter: cut)
            cut += 1
        }
        let mine = try #require(try two.id(named: "مشترک"))
        try two.edit(mine, ["note": .text("ویرایش دو")])
        try converge(hub, [one, two, c])
        for office in [hub, one, two, c] {
            #expect(try office.names() == ["مشترک"])
            let id = try #require(try office.id(named: "مشترک"))
            #expect(try office.value("note", of: id) == .text("ویرایش دو"))
            let former = try office.replica.read { try $0.presentIdentifiers(of: customer, in: .customer) }
            #expect(former == [id])
        }
        try expectEqual([hub, one, two, c])
    }

    @Test("A new life does not conflict with its own former one, before it has heard where that stands")
    func contextNamesFormerLives() throws {
        let (hub, b, c) = try offices()
        let id = try b.add(["name": .text("مریم")])
        try converge(hub, [b, c])
        try b.edit(id, ["note": .text("از زندگی پیش")])
        // Head office takes it, but this copy does not learn at which position.
        let former = b.replica.node.origin
        let seq = try b.replica.childFacts().ownSeq
        for messages in 1..<20 {
            if try hub.replica.withWriter({ $0.vector[former]?.seq == seq }) { break }
            _ = try b.sync(with: hub, cutAfter: messages)
        }
        let copy = try b.copy()
        try c.add(["name": .text("دیگری")])
        try converge(hub, [c, b])
        let restored = try Office(from: copy)
        for messages in 1..<20 where restored.replica.node.origin == former {
            _ = try restored.sync(with: hub, cutAfter: messages)
        }
        #expect(restored.replica.node.origin != former)
        let place = try hub.replica.withWriter { writer in
            try Int64.fetchOne(
                writer.db,
                sql: "SELECT position FROM log WHERE origin = ? AND seq = ?",
                arguments: [former.rawValue, Int64(seq)]
            )
        }
        #expect(try restored.replica.status().cursor.position < UInt64(place ?? 0))
        restored.wallMilliseconds += 1000
        try restored.edit(id, ["note": .text("از آنِ خود")])
        try converge(hub, [restored, c])
        let end = try hub.replica.status().end.position
        let contexts = try (1...end).compactMap { position in
            try hub.replica.read { try $0.logEntry(at: position) }?.content?.header
        }.filter { $0.id.origin == restored.replica.node.origin }.map(\.context)
        #expect(contexts.map(\.lives) == [[ChangeSetID(origin: former, seq: seq)]])
        #expect(try hub.replica.read { try $0.count(.conflict) } == 0)
        for office in [hub, restored, c] { #expect(try office.value("note", of: id) == .text("از آنِ خود")) }
        try expectEqual([hub, restored, c])
    }

    @Test("Two lives that gave one number to different people keep both, and the number finds both")
    func oneNumberTwoPeople() throws {
        let (hub, b, c) = try offices()
        let copy = try b.copy()
        let first = try b.add(["name": .text("زهرا")])
        try b.sync(with: hub)
        let restored = try Office(from: copy)
        let second = try restored.add(["name": .text("نرگس")])
        #expect(first == second)
        try restored.add(["customer": .integer(second.rawValue), "kind": .text("call")], to: "activity")
        try converge(hub, [restored, c])
        for office in [hub, restored, c] {
            let new = try #require(try office.id(named: "نرگس"))
            #expect(try office.value("name", of: first) == .text("زهرا"))
            #expect(try office.replica.read { try $0.presentIdentifiers(of: second, in: .customer) } == [new])
            let calls = try office.replica.read {
                try $0.rows(.activity, where: "customer", is: .integer(new.rawValue))
            }
            #expect(calls.count == 1)
        }
        try expectEqual([hub, restored, c])
    }

    @Test(
        "A copy made before its clock was corrected adopts the times that head office has, also one that it has given",
        arguments: [14, 5]
    )
    func adoptedTimes(shift: Int64) throws {
        let (hub, b, c) = try offices()
        let id = try b.add(["name": .text("مریم")])
        try converge(hub, [b, c])
        b.wallMilliseconds += 1
        try b.edit(id, ["note": .text("یک"), "phone": .text("+982112345678")])
        let shared = try b.lastTime()
        let copy = try b.copy()
        // The other copy corrects its unsent work: here by hand.
        try b.shiftLastForTest(by: shift)
        try b.sync(with: hub)
        let old = try Office(from: copy)
        old.wallMilliseconds += 5
        try old.edit(id, ["email": .text("m@example.com"), "phone": .text("+982187654321")])
        #expect(try (old.lastTime() == b.lastTime()) == (shift == 5))
        #expect(try old.lastTime() > shared)
        try converge(hub, [old, c])
        for office in [hub, old, c] {
            #expect(try office.value("note", of: id) == .text("یک"))
            #expect(try office.value("email", of: id) == .text("m@example.com"))
            #expect(try office.value("phone", of: id) == .text("+982187654321"))
        }
        #expect(try hub.replica.read { try $0.count(.conflict) } == 0)
        try expectEqual([hub, old, c])
    }

    @Test("What a copy wrote after work that was taken at a later time is not taken before that, and is not lost")
    func laterTimeOfSharedWork() throws {
        let (hub, b, c) = try offices()
        let id = try b.add(["name": .text("مریم")])
        try converge(hub, [b, c])
        let accepted = try b.replica.childFacts().ownSeq
        b.wait(10_000)
        b.reboot()
        b.setWall(by: -3000)
        try b.edit(id, ["note": .text("یک")])
        let copy = try b.copy()
        let written = try b.lastTime()
        try b.sync(with: hub)
        let corrected = try b.lastTime()
        let clone = try Office(from: copy)
        for _ in 0..<2 { clone.reboot() }
        clone.setWall(by: -3000)
        clone.wallMilliseconds += 8
        try clone.edit(id, ["note": .text("دو")])
        #expect(try written < clone.lastTime() && clone.lastTime() < corrected)
        // Both as the copy has them, as if nobody had greeted: the first is here, the second is before it.
        let hello = try clone.replica.childFacts()
        let batch = try clone.replica.readOwn(afterSeq: accepted, bytesMax: 1 << 20, entriesMax: 10).batch
        #expect(batch.entries.count == 2)
        let (before, end) = try (hub.state(), hub.replica.status().end)
        #expect(throws: SyncStoreFailure.self) {
            try hub.replica.apply([batch], from: SyncPeer(node: hello.node, origin: hello.origin))
        }
        #expect(try hub.state() == before)
        #expect(try hub.replica.status().end == end)
        try converge(hub, [clone, b, c])
        for office in [hub, clone, b, c] { #expect(try office.value("note", of: id) == .text("دو")) }
        #expect(try hub.replica.read { try $0.count(.conflict) } == 0)
        try expectEqual([hub, clone, b, c])
    }

    @Test("Work that is issued again is taken, although a wrong clock once put head office's log ahead of now")
    func issuedAfterWrongHour() throws {
        let (hub, b, c) = try offices()
        let id = try b.add(["name": .text("مریم")])
        try converge(hub, [b, c])
        let copy = try b.copy()
        hub.setWall(by: 3_600_000)
        try hub.edit(id, ["city": .text("تهران")])
        hub.setWall(by: -3_600_000)
        try b.edit(id, ["note": .text("فرستاده")])
        try converge(hub, [b, c])
        let restored = try Office(from: copy)
        for number in 0..<3 { try restored.edit(id, ["note": .text("مانده \(number)")]) }
        try converge(hub, [restored, c])
        for office in [hub, restored, c] {
            #expect(try office.value("note", of: id) == .text("مانده 2"))
            #expect(try office.value("city", of: id) == .text("تهران"))
        }
        #expect(try restored.replica.status().ahead.changeSets == 0)
        #expect(try hub.replica.registeredNodes().allSatisfy { $0.refusals == 0 })
        try expectEqual([hub, restored, c])
    }

    @Test("Two copies in session at the same moment leave no gap and no second content")
    func bothInSession() throws {
        let (hub, b, c) = try offices()
        let other = try Office(from: try b.copy())
        try b.add(["name": .text("یک")])
        try other.add(["name": .text("دو")])
        // Both are welcomed before either has sent anything.
        let hello = try other.replica.childFacts()
        _ = try hub.replica.decideWelcome(hello, receivedAtMilliseconds: hub.wallMilliseconds)
        try b.sync(with: hub)
        let batch = try other.replica.readOwn(afterSeq: 0, bytesMax: 1 << 20, entriesMax: 10).batch
        let peer = SyncPeer(node: hello.node, origin: hello.origin)
        #expect(throws: SyncStoreFailure.self) { try hub.replica.apply([batch], from: peer) }
        try converge(hub, [other, b, c])
        for office in [hub, b, other, c] { #expect(try office.names() == ["یک", "دو"]) }
        try expectEqual([hub, b, other, c])
    }

    @Test("A copy made in the middle of a new life shares its number, and is found")
    func clonedInNewLife() throws {
        let (hub, b, c) = try offices()
        try b.add(["name": .text("پایه")])
        try b.sync(with: hub)
        let copy = try b.copy()
        try b.add(["name": .text("گم‌شده")])
        try b.sync(with: hub)
        let restored = try Office(from: copy)
        try restored.add(["name": .text("منتظر")])
        var cut = 1
        while restored.replica.node.origin == b.replica.node.origin {
            try restored.sync(with: hub, cutAfter: cut)
            cut += 1
        }
        let twin = try Office(from: try restored.copy())
        try restored.add(["name": .text("اصل")])
        try twin.add(["name": .text("بدل")])
        try converge(hub, [restored, twin, c])
        for office in [hub, restored, twin, c] {
            #expect(try office.names() == ["پایه", "گم‌شده", "منتظر", "اصل", "بدل"])
        }
        try expectEqual([hub, restored, twin, c])
    }

    @Test("A new life that is cut anywhere goes on in the next session")
    func cutAnywhere() throws {
        for cut in 1...40 {
            let (hub, b, c) = try offices()
            let id = try b.add(["name": .text("پایه")])
            try converge(hub, [b, c])
            let copy = try b.copy()
            try b.add(["name": .text("فرستاده")])
            try b.sync(with: hub)
            let restored = try Office(from: copy)
            let mine = try restored.add(["name": .text("مانده")])
            try restored.edit(id, ["note": .text("مانده")])
            try restored.edit(mine, ["note": .text("دوم")])
            let end = try restored.sync(with: hub, entriesMax: 1, cutAfter: cut)
            try converge(hub, [restored, c])
            for office in [hub, restored, c] {
                #expect(try office.names() == ["پایه", "فرستاده", "مانده"])
                #expect(try office.value("note", of: id) == .text("مانده"))
            }
            try expectEqual([hub, restored, c])
            if end == nil { return }
        }
        Issue.record("The session never got to its end.")
    }

    private func offices() throws -> (hub: Office, b: Office, c: Office) {
        let hub = try Office.headOffice()
        let branches = try ["b", "c"].map { try Office.branch($0, of: hub) }
        try converge(hub, branches)
        return (hub, branches[0], branches[1])
    }

    private func converge(_ hub: Office, _ branches: [Office]) throws {
        for _ in 0..<3 { for branch in branches { try branch.sync(with: hub) } }
    }
}

extension Office {
    /// The names of all customers that live here.
    fileprivate func names() throws -> Set<String> {
        var names: Set<String> = []
        try replica.read { reader in
            try reader.forEachRow(.customer) { row in
                if case .text(let name) = row["name"] { #expect(names.insert(name).inserted) }
            }
        }
        return names
    }

    fileprivate func id(named name: String) throws -> RowID? {
        try replica.read { reader in
            var found: RowID?
            try reader.forEachRow(.customer) { if $0["name"] == .text(name) { found = $0.id } }
            return found
        }
    }

    fileprivate func waitingCount() throws -> Int {
        try otherProgram { try Int.fetchOne($0, sql: "SELECT count(*) FROM waitingChange") ?? 0 }
    }

    /// The time of the last own change set.
    fileprivate func lastTime() throws -> Int64 {
        let origin = replica.node.origin.rawValue
        return try replica.withWriter { writer in
            try Int64.fetchOne(
                writer.db,
                sql: "SELECT time FROM log WHERE origin = ? ORDER BY seq DESC LIMIT 1",
                arguments: [origin]
            ) ?? 0
        }
    }

    /// Moves the time of the last own change set, in log and rows, as a correction of the clock does.
    fileprivate func shiftLastForTest(by milliseconds: Int64) throws {
        try replica.withWriter { writer in
            try writer.transaction {
                let shift = milliseconds << 16
                let origin = writer.node.origin.rawValue
                let time = try Int64.fetchOne(
                    writer.db,
                    sql: "SELECT time FROM log WHERE origin = ? ORDER BY seq DESC LIMIT 1",
                    arguments: [origin]
                )!
                try writer.db.execute(sql: "UPDATE log SET time = time + ? WHERE time = ?", arguments: [shift, time])
                let merge = try writer.merge(of: .customer)
                for id in try Int64.fetchAll(
                    writer.db,
                    sql: "SELECT id FROM customer WHERE _time = ? AND _origin = ?",
                    arguments: [time, origin]
                ) {
                    let before = try merge.contribution(ofLive: id)
                    try writer.addToDigest(merge.negative(of: before), table: 1, id: id)
                    try writer.db.execute(
                        sql: "UPDATE customer SET _time = _time + ? WHERE id = ?",
                        arguments: [shift, id]
                    )
                    try writer.addToDigest(merge.contribution(ofLive: id), table: 1, id: id)
                }
            }
        }
    }
}

extension Replica {
    fileprivate func mustRenewForTest() throws {
        try withWriter { writer in try writer.transaction { try writer.mustRenew(.fence) } }
    }
}
