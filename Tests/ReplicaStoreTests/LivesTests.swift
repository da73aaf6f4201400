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

    @Test("A new life does not conflict with its own former one")
    func contextNamesFormerLives() throws {
        let (hub, b, c) = try offices()
        let id = try b.add(["name": .text("مریم")])
        // Head office takes it, but this copy never learns at which position.
        try converge(hub, [c])
        try b.sync(with: hub)
        let copy = try b.copy()
        try c.add(["name": .text("دیگری")])
        try converge(hub, [c, b])
        let restored = try Office(from: copy)
        try restored.sync(with: hub, cutAfter: 12)
        try restored.edit(id, ["note": .text("از آنِ خود")])
        try converge(hub, [restored, c])
        let end = try hub.replica.status().end.position
        let contexts = try (1...end).compactMap { position in
            try hub.replica.read { try $0.logEntry(at: position) }?.content?.header
        }.filter { $0.id.origin == restored.replica.node.origin }.map(\.context)
        #expect(!contexts.isEmpty)
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

    @Test("A copy made before its clock was corrected adopts the times that head office has")
    func adoptedTimes() throws {
        let (hub, b, c) = try offices()
        let id = try b.add(["name": .text("مریم")])
        try converge(hub, [b, c])
        try b.edit(id, ["note": .text("یک")])
        let copy = try b.copy()
        // The other copy corrects its unsent work: here by hand.
        try b.shiftLastForTest(by: 14)
        try b.sync(with: hub)
        let old = try Office(from: copy)
        old.wallMilliseconds += 5
        try old.edit(id, ["email": .text("m@example.com")])
        try converge(hub, [old, c])
        for office in [hub, old, c] {
            #expect(try office.value("note", of: id) == .text("یک"))
            #expect(try office.value("email", of: id) == .text("m@example.com"))
        }
        try expectEqual([hub, old, c])
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
