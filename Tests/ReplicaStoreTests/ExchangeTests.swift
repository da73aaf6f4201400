import CRM
import Causality
import Foundation
import ReplicaStore
import SyncProtocol
import TestKit
import Testing

@Suite("Exchange between offices")
struct ExchangeTests {
    @Test("A customer added offline at a branch is seen everywhere after synchronising")
    func addedCustomerTravels() throws {
        let hub = try Office.headOffice()
        let isfahan = try Office.branch("isfahan", of: hub)
        let shiraz = try Office.branch("shiraz", of: hub)
        let id = try isfahan.add(["name": .text("مریم رضایی"), "city": .text("اصفهان")])
        #expect(id.description == "2-1")
        try isfahan.sync(with: hub)
        try shiraz.sync(with: hub)
        #expect(try shiraz.value("name", of: id) == .text("مریم رضایی"))
        try isfahan.sync(with: hub)
        try expectEqual([hub, isfahan, shiraz])
        #expect(try isfahan.isProvedEqual(to: hub))
    }

    @Test("Edits of different fields at two branches both survive")
    func differentFields() throws {
        let (hub, a, b, id) = try sharedCustomer()
        try a.edit(id, ["city": .text("یزد")])
        try b.edit(id, ["note": .text("تماس بگیرید")])
        try converge(hub, [a, b])
        for office in [hub, a, b] {
            #expect(try office.value("city", of: id) == .text("یزد"))
            #expect(try office.value("note", of: id) == .text("تماس بگیرید"))
        }
    }

    @Test("Of two edits of one field the later wins on all nodes")
    func sameField() throws {
        let (hub, a, b, id) = try sharedCustomer()
        a.wallMilliseconds += 2000
        try a.edit(id, ["city": .text("later")])
        b.wallMilliseconds += 1000
        try b.edit(id, ["city": .text("earlier")])
        try converge(hub, [b, a])
        for office in [hub, a, b] { #expect(try office.value("city", of: id) == .text("later")) }
    }

    @Test("An edit made after seeing another wins, with the clock of its branch two hours back")
    func causalityBeatsClocks() throws {
        let (hub, a, b, id) = try sharedCustomer()
        b.wallMilliseconds -= 2 * 3600 * 1000
        try a.edit(id, ["city": .text("first")])
        try converge(hub, [a, b])
        try b.edit(id, ["city": .text("second")])
        try converge(hub, [b, a])
        for office in [hub, a, b] { #expect(try office.value("city", of: id) == .text("second")) }
    }

    @Test("An address is taken whole: two are never mixed")
    func groups() throws {
        let (hub, a, b, id) = try sharedCustomer()
        try a.edit(id, ["city": .text("یزد"), "street": .text("کوچه یک")])
        b.wallMilliseconds += 5
        try b.edit(id, ["street": .text("خیابان دو")])
        try converge(hub, [a, b])
        #expect(try hub.value("city", of: id) == .text("تهران"))
        #expect(try hub.value("street", of: id) == .text("خیابان دو"))
        try expectEqual([hub, a, b])
    }

    @Test("A concurrent edit later than a delete brings the row back; an earlier one does not")
    func deleteAgainstEdit() throws {
        let (hub, a, b, id) = try sharedCustomer()
        try a.delete(id)
        b.wallMilliseconds += 1000
        try b.edit(id, ["note": .text("هنوز مشتری است")])
        try converge(hub, [a, b])
        for office in [hub, a, b] {
            #expect(try office.value("note", of: id) == .text("هنوز مشتری است"))
            #expect(try office.value("city", of: id) == .text("تهران"))
        }
        let second = try a.add(["name": .text("دوم")])
        try converge(hub, [a, b])
        try b.edit(second, ["note": .text("x")])
        a.wallMilliseconds += 1_000_000
        try a.delete(second)
        try converge(hub, [b, a])
        for office in [hub, a, b] { #expect(try office.value("name", of: second) == nil) }
        try expectEqual([hub, a, b])
    }

    @Test("A restored row has the newest value of each field, also those written while it was deleted")
    func restoreKeepsNewest() throws {
        let (hub, a, b, id) = try sharedCustomer()
        try b.edit(id, ["note": .text("نوشته شد")])
        a.wallMilliseconds += 1000
        try a.delete(id)
        try converge(hub, [a, b])
        #expect(try hub.value("note", of: id) == nil)
        try hub.restore(id)
        try converge(hub, [a, b])
        for office in [hub, a, b] { #expect(try office.value("note", of: id) == .text("نوشته شد")) }
        try expectEqual([hub, a, b])
    }

    @Test("The same change sets delivered twice and three times change nothing")
    func redelivery() throws {
        let hub = try Office.headOffice()
        let a = try Office.branch("a", of: hub)
        for number in 1...20 { try a.add(["name": .text("\(number)")]) }
        let child = try a.replica.childFacts()
        let batch = try a.replica.readOwn(afterSeq: 0, bytesMax: 1 << 20, entriesMax: 100).batch
        let peer = try a.peer
        _ = try hub.replica.apply([batch], from: peer)
        let once = try hub.state()
        let outcome = try hub.replica.apply([batch, batch], from: peer)
        #expect(outcome.changeSets == 0)
        #expect(try hub.state() == once)
        let log = try hub.replica.readLog(afterPosition: 0, for: child.origin, bytesMax: 1 << 20, entriesMax: 100)
        let parent = try hub.peer
        _ = try a.replica.apply([log.batch], from: parent)
        let taken = try a.state()
        _ = try a.replica.apply([log.batch], from: parent)
        #expect(try a.state() == taken)
    }

    @Test("A session whose node had come further by another one ended as if the store had failed")
    func overtaken() throws {
        let hub = try Office.headOffice()
        let a = try Office.branch("a", of: hub)
        for number in 1...4 { try a.add(["name": .text("\(number)")]) }
        let child = try a.replica.childFacts()
        let fromChild = try a.peer
        func own(_ count: Int) throws -> ChangeBatch {
            try a.replica.readOwn(afterSeq: 0, bytesMax: 1 << 20, entriesMax: count).batch
        }
        guard case .seq(2, let chain) = try hub.replica.apply([own(2)], from: fromChild).durable else {
            Issue.record("Head office did not take two change sets.")
            return
        }
        _ = try hub.replica.apply([own(4)], from: fromChild)
        #expect(try hub.replica.apply([own(2)], from: fromChild).durable == .seq(2, chain: chain))

        let fromHub = try hub.peer
        func log(_ count: Int) throws -> ChangeBatch {
            let cursor = child.cursor.position
            return try hub.replica.readLog(
                afterPosition: cursor,
                for: child.origin,
                bytesMax: 1 << 20,
                entriesMax: count
            ).batch
        }
        let (first, all) = (try log(2), try log(100))
        try #require(first.end.position < all.end.position)
        #expect(try a.replica.apply([all], from: fromHub).durable == .position(all.end))
        #expect(try a.replica.apply([first], from: fromHub).durable == .position(first.end))
    }

    @Test("Setting a field to the value it has already makes no change set")
    func nothingChanged() throws {
        let hub = try Office.headOffice()
        let id = try hub.add(["name": .text("یک")])
        let written = try hub.replica.write { try $0.update("customer", id: id, ["name": .text("یک")]) }
        #expect(written.position == nil)
        #expect(!written.result)
    }

    @Test("Ten thousand random operations on five nodes, with random sessions, end in equal replicas")
    func convergence() throws {
        var random = SeededRandom(seed: testSeed("convergence"))
        let hub = try Office.headOffice()
        let branches = try ["a", "b", "c", "d"].map { try Office.branch($0, of: hub) }
        let offices = [hub] + branches
        var known: [RowID] = []
        var operations = 0
        while operations < 10_000 {
            let office = offices[random.below(offices.count)]
            office.wallMilliseconds = 1_800_000_000_000 + UInt64(random.below(5000))
            if random.oneIn(40), let branch = branches.randomElement(using: &random) {
                try branch.sync(with: hub, bytesMax: 200 + random.below(5000), entriesMax: 1 + random.below(50))
            }
            let wanted = 1 + random.below(12)
            try Self.transaction(of: wanted, at: office, &known, &random)
            operations += wanted
        }
        for _ in 0..<2 { for branch in branches { try branch.sync(with: hub) } }
        try expectEqual(offices)
        for branch in branches { #expect(try branch.isProvedEqual(to: hub)) }
    }

    private static func transaction(
        of operations: Int,
        at office: Office,
        _ known: inout [RowID],
        _ random: inout SeededRandom
    ) throws {
        var born: [RowID] = []
        let fields = ["name", "city", "street", "note", "mobile", "stageAt"]
        _ = try office.replica.write { transaction in
            for _ in 0..<operations {
                if known.isEmpty || random.oneIn(8) {
                    born.append(try transaction.insert("customer", ["name": .text("n\(random.below(99))")]))
                    continue
                }
                let candidates = known + born
                let id = candidates[random.below(candidates.count)]
                let field = fields[random.below(fields.count)]
                let value: FieldValue =
                    random.oneIn(6)
                    ? .null : field == "stageAt" ? .integer(Int64(random.below(9))) : .text("v\(random.below(9))")
                do {
                    switch random.below(10) {
                    case 0: try transaction.delete("customer", id: id)
                    case 1, 2: try transaction.restore("customer", id: id)
                    default: try transaction.update("customer", id: id, [field: value])
                    }
                } catch StoreFailure.unknownRow, StoreFailure.deletedRow, StoreFailure.rowNotDeleted {
                    // Not here yet, or not in that state: an operation that a person could not do either.
                }
            }
        }
        known += born
    }

    // MARK: Refusals

    @Test("A branch cannot speak for another, nor write what only head office may")
    func authority() throws {
        let hub = try Office.headOffice()
        let a = try Office.branch("a", of: hub)
        let b = try Office.branch("b", of: hub)
        try a.add(["name": .text("یک")])
        let batch = try a.replica.readOwn(afterSeq: 0, bytesMax: 1 << 20, entriesMax: 10).batch
        let other = try b.replica.childFacts()
        let before = try hub.state()
        #expect(throws: SyncStoreFailure.self) {
            _ = try hub.replica.apply([batch], from: SyncPeer(node: other.node, origin: other.origin))
        }
        #expect(throws: StoreFailure.self) { try a.add(["name": .text("mine")], to: "branch") }
        #expect(try hub.state() == before)
    }

    @Test("A gap in a branch's change sets is refused and leaves nothing behind")
    func gap() throws {
        let hub = try Office.headOffice()
        let a = try Office.branch("a", of: hub)
        for number in 1...3 { try a.add(["name": .text("\(number)")]) }
        let facts = try a.replica.childFacts()
        let late = try a.replica.readOwn(afterSeq: 1, bytesMax: 1 << 20, entriesMax: 10).batch
        let before = try hub.state()
        #expect(throws: SyncStoreFailure.self) {
            _ = try hub.replica.apply([late], from: SyncPeer(node: facts.node, origin: facts.origin))
        }
        #expect(try hub.state() == before)
    }

    @Test("An invitation opens the door once; the same node may come again, another may not")
    func invitationOnce() throws {
        let hub = try Office.headOffice()
        let (first, second) = (try Office.unjoined("x"), try Office.unjoined("y"))
        let invitation = try hub.replica.invite("x", address: "h:1", lifetimeSeconds: 60) { count in
            [UInt8](repeating: 7, count: count)
        }
        try first.join(hub, with: invitation)
        let origin = first.replica.node.origin
        try first.join(hub, with: invitation)
        #expect(first.replica.node.origin == origin)
        #expect(throws: SyncStoreFailure.self) { try second.join(hub, with: invitation) }
        let late = try hub.replica.invite("z", address: "h:1", lifetimeSeconds: 60) { [UInt8](repeating: 8, count: $0) }
        hub.wallMilliseconds += 61_000
        #expect(throws: SyncStoreFailure.self) { try second.join(hub, with: late) }
        #expect(Invitation(line: late.line) == late)
    }

    // MARK: Helpers

    private func sharedCustomer() throws -> (hub: Office, a: Office, b: Office, id: RowID) {
        let hub = try Office.headOffice()
        let a = try Office.branch("a", of: hub)
        let b = try Office.branch("b", of: hub)
        let id = try a.add(["name": .text("مریم"), "city": .text("تهران")])
        try converge(hub, [a, b])
        return (hub, a, b, id)
    }
}

/// Expects every replica to hold the same rows, graveyards, clocks and digests.
func expectEqual(_ offices: [Office], sourceLocation: SourceLocation = #_sourceLocation) throws {
    let first = try offices[0].state()
    #expect(!first.contains { $0.hasSuffix("right false") }, sourceLocation: sourceLocation)
    for office in offices.dropFirst() {
        #expect(try office.state() == first, sourceLocation: sourceLocation)
    }
}

/// Has each branch call head office, so often that everybody has everything.
func converge(_ hub: Office, _ branches: [Office], rounds: Int = 2) throws {
    for _ in 0..<rounds { for branch in branches { try branch.sync(with: hub) } }
}

/// All are equal, every branch knows it, and nothing waits to be sent.
func expectDone(_ hub: Office, _ branches: [Office], sourceLocation: SourceLocation = #_sourceLocation) throws {
    try expectEqual([hub] + branches, sourceLocation: sourceLocation)
    for branch in branches {
        #expect(try branch.isProvedEqual(to: hub), sourceLocation: sourceLocation)
        #expect(try branch.replica.status().ahead.changeSets == 0, sourceLocation: sourceLocation)
    }
}
