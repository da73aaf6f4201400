import CRM
import Causality
import GRDB
import ReplicaStore
import SimulationKit
import SyncProtocol
import TestKit
import Testing

@Suite("Nodes of different versions")
struct VersionTests {
    @Test("A column that a node does not know passes through it, and appears after its upgrade")
    func unknownColumn() throws {
        let hub = try Site.headOffice()
        let old = try Site.branch("old", of: hub)
        let new = try Site.branch("new", of: hub, .next)
        let id = try new.add(["name": .text("مریم"), "loyalty": .text("طلایی"), "points": .integer(7)])
        try new.sync(with: hub)
        try old.sync(with: hub)
        #expect(try old.value("name", of: id) == .text("مریم"))
        // The old node edits the row without knowing the column.
        try old.edit(id, ["city": .text("قم")])
        for _ in 0..<2 { for site in [old, new] { try site.sync(with: hub) } }
        #expect(try new.value("loyalty", of: id) == .text("طلایی"))
        #expect(try hub.replica.status().newerChangeSets == 1)

        try hub.reopen(with: .next)
        #expect(try hub.value("loyalty", of: id) == .text("طلایی"))
        #expect(try hub.replica.status().newerChangeSets == 0)
        try old.reopen(with: .next)
        for _ in 0..<2 { for site in [old, new] { try site.sync(with: hub) } }
        #expect(try expectSame([hub, old, new]))
    }

    @Test("A table that a node does not know passes through it, and appears after its upgrade")
    func unknownTable() throws {
        let hub = try Site.headOffice()
        let old = try Site.branch("old", of: hub)
        let new = try Site.branch("new", of: hub, .next)
        let kept = try new.add(["code": .text("A1")], to: "voucher")
        let gone = try new.add(["code": .text("B2")], to: "voucher")
        try new.delete(gone, from: "voucher")
        try new.edit(kept, ["code": .text("A2")], in: "voucher")
        for site in [new, old] { try site.sync(with: hub) }
        for site in [hub, old] { try site.reopen(with: .next) }
        #expect(try old.value("code", of: kept, in: "voucher") == .text("A2"))
        #expect(try expectSame([hub, old, new]))
        // New rows take numbers of their own after the upgrade, and go everywhere.
        try old.add(["code": .text("C3")], to: "voucher")
        for site in [old, new] { try site.sync(with: hub) }
        #expect(try expectSame([hub, old, new]))
    }

    @Test("An edit with the old schema is not taken for one of the columns it did not know")
    func oldEditBeforeNewColumn() throws {
        let hub = try Site.headOffice()
        let a = try Site.branch("a", of: hub)
        let b = try Site.branch("b", of: hub, .next)
        let id = try a.add(["name": .text("مریم")])
        for _ in 0..<2 { for site in [a, b] { try site.sync(with: hub) } }
        // A's edit is the later one, and says nothing of the column that B writes.
        b.clock.time.milliseconds += 4
        try b.edit(id, ["loyalty": .text("نقره‌ای")])
        a.clock.time.milliseconds += 5
        try a.edit(id, ["name": .text("مریم رضایی")])
        try a.sync(with: hub)
        for site in [hub, a] { try site.reopen(with: .next) }
        for _ in 0..<2 { for site in [b, a] { try site.sync(with: hub) } }
        for site in [hub, a, b] { #expect(try site.value("loyalty", of: id) == .text("نقره‌ای")) }
        #expect(try expectSame([hub, a, b]))
    }

    @Test("An older head office sends on what it does not know bit for bit")
    func relayedAsItCame() throws {
        let hub = try Site.headOffice()
        let writer = try Site.branch("writer", of: hub, .next)
        let reader = try Site.branch("reader", of: hub, .next)
        let long = String(repeating: "کد ", count: 10_000)
        _ = try writer.replica.write { transaction in
            for number in 0..<50 {
                try transaction.insert("voucher", ["code": .text("\(number)")])
                try transaction.insert("customer", ["name": .text("n\(number)"), "loyalty": .text("l\(number)")])
            }
            try transaction.insert("customer", ["name": .text("x"), "note": .text(long), "points": .integer(1)])
        }
        try writer.sync(with: hub)
        try reader.sync(with: hub)
        #expect(try reader.contents() == hub.contents())
        let written = try writer.contents().filter { $0.key.hasPrefix("2/") }
        #expect(try reader.contents().filter { $0.key.hasPrefix("2/") } == written)
        #expect(try reader.value("code", of: #require(RowID(printed: "2-1")), in: "voucher") == .text("0"))
    }

    @Test("A branch that was upgraded while it loaded a snapshot lacked the new columns of what it had loaded before")
    func upgradedWhileLoading() throws {
        let home = TemporaryDirectory()
        let hub = try Site.headOffice(.next)
        let id = try hub.add(["name": .text("مریم"), "loyalty": .text("طلایی")])
        for stop in 1...20 {
            let branch = try Site.branch("b\(stop)", of: hub)
            let file = home.path + "/\(stop)"
            _ = try hub.replica.writeSnapshot(to: file) { _, _ in }
            var pieces = 0
            _ = try? branch.replica.readSnapshot(from: file) { _, _ in
                pieces += 1
                if pieces == stop { throw CancellationError() }
            }
            try branch.reopen(with: .next)
            let isHalfWay = branch.replica.firstLoadProgress != nil
            if isHalfWay { _ = try branch.replica.readSnapshot(from: file) { _, _ in } }
            for _ in 0..<2 { try branch.sync(with: hub) }
            #expect(try branch.value("loyalty", of: id) == .text("طلایی"), "cut after \(stop) pieces")
            #expect(try expectSame([hub, branch]))
            guard isHalfWay else { return }
        }
    }

    @Test("Nodes of different schemas are never said to differ, and are compared again when both are upgraded")
    func noFalseAlarm() throws {
        let hub = try Site.headOffice()
        let new = try Site.branch("new", of: hub, .next)
        try new.add(["code": .text("A1")], to: "voucher")
        for _ in 0..<2 { try new.sync(with: hub) }
        #expect(try new.replica.status().divergedAt == nil)
        #expect(try hub.replica.registeredNodes()[0].divergedAt == nil)
        #expect(try new.replica.status().provedEqualAt == nil)
        try hub.reopen(with: .next)
        for _ in 0..<2 { try new.sync(with: hub) }
        #expect(try new.replica.status().provedEqualAt == hub.replica.status().end.position)
    }

    @Test("A node that is too many versions behind is refused with the version that it needs")
    func tooOld() throws {
        let future = Schema.next.renumbered(Schema.current.version + Schema.versionsApartMax + 1)
        let hub = try Site.headOffice()
        let branch = try Site.branch("old", of: hub)
        let newer = try Site.branch("newer", of: hub, future)
        #expect(throws: SyncFailure.self) { try newer.sync(with: hub) }
        try hub.reopen(with: future)
        let failure = #expect(throws: SyncFailure.self) { try branch.sync(with: hub) }
        #expect(failure?.description.contains("needs at least \(future.version - 2)") == true)
        #expect(try newer.sync(with: hub).received.changeSets > 0)
        // N - 2 is still spoken to.
        try branch.reopen(with: Schema.next.renumbered(future.version - 2))
        try branch.add(["name": .text("هنوز همراه")])
        #expect(try branch.sync(with: hub).sent.changeSets == 1)
    }

    @Test("A change set of a format that a node does not know is refused with a sentence, and nothing is taken")
    func unknownContent() throws {
        let hub = try Site.headOffice()
        let branch = try Site.branch("new", of: hub)
        let node = branch.replica.node
        let peer = SyncPeer(node: try #require(UniqueID(bytes: node.node)), origin: node.origin)
        let body = ChangeBody(isCompressed: false, bytes: [99, 2, 1, 1, 0, 0])
        let time = try #require(HybridTimestamp(packed: 1_800_000_000_000 << 16))
        let before = try hub.state()
        let batch = ChangeBatch(firstPosition: 0, entries: [.changeSet(time: time, body: body)], end: .empty)
        let failure = #expect(throws: SyncStoreFailure.self) { try hub.replica.apply([batch], from: peer) }
        #expect(failure?.description.contains("format 99") == true)
        #expect(failure?.description.contains("Upgrade this node first") == true)
        if case .refused(let refusal) = failure {
            #expect(refusal.code == .protocolVersion)
            #expect(refusal.retryAfterSeconds != nil)
        } else {
            Issue.record("It is not the node's own trouble")
        }
        #expect(try hub.state() == before)
    }

    @Test("A field of a newer version was parked at head office when its row had been written by two people meanwhile")
    func contestedMeanwhile() throws {
        let hub = try Site.headOffice()
        let new = try Site.branch("new", of: hub, .next)
        let old = try Site.branch("old", of: hub)
        let id = try old.add(["name": .text("یک")])
        for site in [old, new] { try site.sync(with: hub) }
        try old.edit(id, ["name": .text("دو")])
        new.clock.time.milliseconds += 5
        try new.edit(id, ["name": .text("سه"), "loyalty": .text("طلایی")])
        for site in [old, new, old] { try site.sync(with: hub) }
        // Head office deletes the row, knowing the log but not the field: nothing is lost unseen.
        try hub.delete(id)
        try new.sync(with: hub)
        try hub.reopen(with: .next)
        #expect(try hub.replica.status().parked == 0)
        try hub.restore(id)
        #expect(try hub.value("loyalty", of: id) == .text("طلایی"))
        try old.reopen(with: .next)
        for site in [old, new] { try site.sync(with: hub) }
        #expect(try expectSame([hub, old, new]))
        // The name that was lost is asked about again, and nothing else.
        #expect(try hub.replica.read { try $0.openConflicts() } == 1)
    }

    @Test("Whenever a node is upgraded, it ends as one that knew everything from the beginning")
    func anyHistory() throws {
        var random = SeededRandom(seed: testSeed("versions"))
        for _ in 0..<2 {
            let hub = try Site.headOffice()
            let old = try ["a", "b"].map { try Site.branch($0, of: hub) }
            let new = try ["c", "d"].map { try Site.branch($0, of: hub, .next) }
            let branches = old + new
            let all = [hub] + branches
            var waiting = [hub] + old
            for step in 0..<80 {
                let site = all[random.below(all.count)]
                site.clock.time.milliseconds += UInt64(random.below(30))
                if random.oneIn(4) {
                    try branches[random.below(branches.count)].sync(with: hub)
                } else if step > 20, random.oneIn(15), let next = waiting.popLast() {
                    try next.reopen(with: .next)
                } else {
                    try act(at: site, &random)
                }
            }
            for site in waiting { try site.reopen(with: .next) }
            for _ in 0..<2 { for branch in branches { try branch.sync(with: hub) } }
            #expect(try expectSame(all))
            #expect(try all.allSatisfy { try $0.replica.status().divergedAt == nil })
            #expect(try all.allSatisfy { try $0.replica.status().newerChangeSets == 0 })
            #expect(try all.allSatisfy { try $0.replica.status().parked == 0 })
        }
    }

    /// One write of a person whose node knows what it knows.
    private func act(at site: Site, _ random: inout SeededRandom) throws {
        let isNew = site.schema.version > Schema.current.version
        let table = isNew && random.oneIn(3) ? "voucher" : "customer"
        let description = try #require(site.schema.table(named: table))
        func some(deleted: Bool, _ random: inout SeededRandom) throws -> RowID? {
            try site.replica.read { try $0.rows(description, after: nil, limit: 50, deleted: deleted) }
                .randomElement(using: &random)?.id
        }
        let text = FieldValue.text("v\(random.below(5))")
        switch random.below(8) {
        case 0: try site.add(table == "voucher" ? ["code": text] : ["name": text], to: table)
        case 1: if let id = try some(deleted: false, &random) { try site.delete(id, from: table) }
        case 2: if let id = try some(deleted: true, &random) { try site.restore(id, to: table) }
        default:
            guard let id = try some(deleted: false, &random) else { return }
            if table == "voucher" {
                try site.edit(id, ["code": text], in: table)
            } else if isNew, random.oneIn(2) {
                try site.edit(id, random.oneIn(2) ? ["loyalty": text] : ["points": .integer(Int64(random.below(9)))])
            } else {
                try site.edit(id, random.oneIn(2) ? ["name": text] : ["city": text])
            }
        }
    }
}
