import CRM
import Causality
import Foundation
import GRDB
import ReplicaStore
import SyncProtocol
import TestKit
import Testing

@Suite("Erasing a person")
struct ErasureTests {
    /// Text that must be in no file after the person was erased.
    private static let canary = "canary-7Qx"

    @Test("An erased customer comes back through no edit, delete or restore, whatever arrives first", arguments: 0..<6)
    func racesWithEditors(order: Int) throws {
        let (hub, offices, id) = try organisation(named: ["a", "b", "c"])
        let (a, b, c) = (offices[0], offices[1], offices[2])
        // Three editors without a line, one of whose clocks is a day ahead.
        try a.edit(id, ["note": .text(Self.canary)])
        b.wallMilliseconds += 1000
        try b.delete(id)
        try b.restore(id)
        c.wallMilliseconds += 86_400_000
        try c.edit(id, ["email": .text(Self.canary)])
        // And one who writes about the customer something that head office cannot know of.
        let late = try c.add(
            ["customer": .integer(id.rawValue), "kind": .text("note"), "body": .text(Self.canary)],
            to: "activity"
        )
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
        let (before, after) = (orders[order].prefix(order % 3), orders[order].dropFirst(order % 3))
        for number in before { try offices[number].sync(with: hub) }
        let erased = try hub.replica.erase(customer: id)
        #expect(erased.position != nil)
        for number in after { try offices[number].sync(with: hub) }
        for _ in 0..<2 { for office in offices { try office.sync(with: hub) } }
        for office in [hub, a, b, c] {
            #expect(try office.value("name", of: id) == nil)
            #expect(try office.isErased(id))
            #expect(try office.isErased(late, in: .activity))
            #expect(try office.deletedName(of: id) == nil)
        }
        try expectEqual([hub, a, b, c])
        if !after.isEmpty { #expect(try hub.replica.erasedDropped() > 0) }
        for office in [hub, a, b, c] { try office.expectNowhere(Self.canary) }
    }

    @Test("Nothing that was written about an erased customer is left in any file of any node")
    func canary() throws {
        let (hub, offices, id) = try organisation(named: ["a", "b"])
        let (a, b) = (offices[0], offices[1])
        // Long enough to have pages of its own, and found by the search.
        let long = String(repeating: Self.canary + " ", count: 900)
        try a.edit(id, ["note": .text(long), "name": .text("\(Self.canary) رضایی")])
        for number in 0..<40 {
            try a.add(
                ["customer": .integer(id.rawValue), "kind": .text("call"), "body": .text("\(Self.canary) \(number)")],
                to: "activity"
            )
        }
        for _ in 0..<2 { for office in offices { try office.sync(with: hub) } }
        for office in [hub, a, b] { #expect(try office.replica.findCustomers(Self.canary, limit: 5) == [id]) }
        // Values that were overwritten and deleted leave traces too.
        try b.edit(id, ["note": .text("")])
        try b.delete(id)
        for _ in 0..<2 { for office in offices { try office.sync(with: hub) } }
        let kept = try b.add(["name": .text("دیگری")])
        for office in [hub, a, b] { #expect(try office.bytesOnDisk(containing: Self.canary) > 0) }

        let erased = try hub.replica.erase(customer: id)
        #expect(erased.rows.map(\.count).reduce(0, +) == 41)
        for _ in 0..<2 { for office in offices { try office.sync(with: hub) } }
        for office in [hub, a, b] {
            try office.expectNowhere(Self.canary)
            #expect(try office.replica.findCustomers(Self.canary, limit: 5).isEmpty)
            #expect(try office.value("name", of: kept) == .text("دیگری"))
        }
        try expectEqual([hub, a, b])
        let order = try #require(try hub.replica.erasures().first)
        #expect(order.waiting.isEmpty && order.done.sorted() == ["a", "b"])
    }

    @Test("Text of erased customers stayed between the rows of pages in use, where rows had moved about")
    func copiesInPages() throws {
        let hub = try Office.headOffice()
        var random = SeededRandom(seed: testSeed("ErasureTests.copiesInPages"))
        func text(_ number: Int, _ length: Int) -> FieldValue {
            .text("person\(number)x " + String(repeating: "متن ", count: length))
        }
        var ids: [RowID] = []
        for number in 0..<300 {
            ids.append(try hub.add(["name": text(number, 1), "note": text(number, random.below(60))]))
            // Rows grow and shrink, so that pages are shared out anew.
            for _ in 0..<3 {
                let other = random.below(ids.count)
                try hub.edit(ids[other], ["note": text(other, random.below(120))])
            }
            _ = try hub.replica.followLogForSearch(piecesMax: 10)
        }
        let erased = ids.indices.filter { $0 % 3 == 0 }
        for number in erased { _ = try hub.replica.erase(customer: ids[number]) }
        #expect(try hub.replica.scrubErased())
        for number in erased { #expect(try hub.bytesOnDisk(containing: "person\(number)x") == 0, "\(number)") }
    }

    @Test("Erased text waits for whoever reads an older state, and the write-ahead log does not grow meanwhile")
    func readerOfOlderState() throws {
        let (hub, _, id) = try organisation(named: [])
        var configuration = Configuration()
        configuration.allowsUnsafeTransactions = true
        let reader = try DatabaseQueue(path: hub.databasePath, configuration: configuration)
        try reader.writeWithoutTransaction { db in
            try db.execute(sql: "BEGIN")
            #expect(try Int.fetchOne(db, sql: "SELECT count(*) FROM customer") == 1)
        }
        _ = try hub.replica.erase(customer: id)
        let log = hub.databasePath + "-wal"
        let before = try FileManager.default.attributesOfItem(atPath: log)[.size] as? Int
        #expect(try !hub.replica.scrubErased())
        #expect(try FileManager.default.attributesOfItem(atPath: log)[.size] as? Int == before)
        try reader.writeWithoutTransaction { try $0.execute(sql: "COMMIT") }
        #expect(try hub.replica.scrubErased())
    }

    @Test("A branch that joins after an erasure takes the redacted log, and ends equal")
    func newcomer() throws {
        let (hub, offices, id) = try organisation(named: ["a"])
        let other = try offices[0].replica.write { transaction in
            try transaction.update("customer", id: id, ["note": .text(Self.canary)])
            return try transaction.insert("customer", ["name": .text("کنار او")])
        }.result
        try offices[0].sync(with: hub)
        _ = try hub.replica.erase(customer: id)
        try offices[0].sync(with: hub)
        let newcomer = try Office.branch("new", of: hub)
        try newcomer.sync(with: hub)
        #expect(try newcomer.value("name", of: other) == .text("کنار او"))
        try newcomer.expectNowhere(Self.canary)
        try offices[0].sync(with: hub)
        try expectEqual([hub, offices[0], newcomer])
        #expect(try newcomer.isProvedEqual(to: hub))
    }

    @Test("What is left of a change set is refused when head office has not signed it")
    func forgedRemains() throws {
        let (hub, offices, id) = try organisation(named: ["a", "b"])
        let a = offices[0]
        try a.edit(id, ["note": .text("x")])
        try a.sync(with: hub)
        _ = try hub.replica.erase(customer: id)
        let b = try offices[1].replica.childFacts()
        let log = try hub.replica.readLog(
            afterPosition: b.cursor.position,
            for: b.origin,
            bytesMax: 1 << 20,
            entriesMax: 100
        )
        var batch = log.batch
        batch.entries = batch.entries.map { entry in
            guard case .changeSet(let time, var body) = entry, body.bytes.first == 0x52 else { return entry }
            body.bytes[40] ^= 1
            return .changeSet(time: time, body: body)
        }
        #expect(batch != log.batch)
        let hubPeer = try hub.peer
        #expect(throws: SyncStoreFailure.self) { try offices[1].replica.apply([batch], from: hubPeer) }
        try offices[1].sync(with: hub)
        #expect(try offices[1].isProvedEqual(to: hub))
    }

    @Test("An erased row is neither edited, nor restored, nor referred to, nor erased by a branch")
    func refused() throws {
        let (hub, offices, id) = try organisation(named: ["a"])
        let a = offices[0]
        #expect(throws: StoreFailure.self) { try a.replica.erase(customer: id) }
        let activity = try a.add(["customer": .integer(id.rawValue), "kind": .text("call")], to: "activity")
        try a.sync(with: hub)
        _ = try hub.replica.erase(customer: id)
        try a.sync(with: hub)
        for office in [hub, a] {
            #expect(throws: StoreFailure.self) { try office.edit(id, ["note": .text("x")]) }
            #expect(throws: StoreFailure.self) { try office.restore(id) }
            #expect(throws: StoreFailure.self) { try office.delete(activity, from: "activity") }
            #expect(throws: StoreFailure.self) {
                try office.add(["customer": .integer(id.rawValue), "kind": .text("call")], to: "activity")
            }
            #expect(try office.replica.read { try $0.rows(.customer, after: nil, limit: 10, deleted: true) }.isEmpty)
            #expect(try office.replica.read { try $0.count(.customer, deleted: true) } == 0)
        }
        // Another program puts the number to use again.
        try a.otherProgram { db in
            try db.execute(sql: "INSERT INTO customer(id, name) VALUES (?, 'باز')", arguments: [id.rawValue])
        }
        try a.sync(with: hub)
        #expect(try a.value("name", of: id) == nil)
        #expect(try a.replica.erasedDropped() == 1)
        try expectEqual([hub, a])
    }

    @Test("Rows deleted before a day are erased in bulk, later ones and living ones stay")
    func deletedBefore() throws {
        let (hub, offices, old) = try organisation(named: ["a"])
        let a = offices[0]
        let (recent, living) = (try a.add(["name": .text("تازه")]), try a.add(["name": .text("زنده")]))
        try a.delete(old)
        let limit = a.wallMilliseconds + 1000
        a.wallMilliseconds += 2000
        try a.delete(recent)
        try a.sync(with: hub)
        let erased = try hub.replica.erase(deletedBefore: limit)
        #expect(erased.rows.map(\.table) == ["customer"] && erased.rows.map(\.count) == [1])
        #expect(try hub.replica.erase(deletedBefore: limit).position == nil)
        try a.sync(with: hub)
        for office in [hub, a] {
            #expect(try office.isErased(old))
            #expect(try office.deletedName(of: recent) == .text("تازه"))
            #expect(try office.value("name", of: living) == .text("زنده"))
        }
        try a.restore(recent)
        try a.sync(with: hub)
        try expectEqual([hub, a])
    }

    @Test("A change set that orders an erasure is refused from a branch")
    func branchMayNotOrder() throws {
        let (hub, offices, id) = try organisation(named: ["a"])
        let facts = try offices[0].replica.childFacts()
        let change = RowChange(id: id, operation: .erase, columns: [], values: [])
        let content = try ChangeSet(
            header: ChangeSetHeader(
                id: ChangeSetID(origin: facts.origin, seq: facts.ownSeq + 1),
                schemaVersion: Schema.current.version,
                context: CausalContext(lives: [], hubs: [facts.cursor]),
                previousChain: facts.ownChain
            ),
            tables: [TableChanges(number: 1, columnCount: TableDescription.customer.columns.count, rows: [change])]
        ).content()
        let time = HybridTimestamp(milliseconds: hub.wallMilliseconds + 1000)
        let batch = ChangeBatch(
            firstPosition: 0,
            entries: [.changeSet(time: time, body: ChangeBody(isCompressed: false, bytes: content))],
            end: .empty
        )
        let peer = SyncPeer(node: facts.node, origin: facts.origin)
        #expect(throws: SyncStoreFailure.self) { try hub.replica.apply([batch], from: peer) }
        #expect(try hub.value("name", of: id) == .text("مریم"))
    }

    @Test("Head office put back to a copy made before an erasure erases again when its branches fill it")
    func restoredHeadOffice() throws {
        let (hub, offices, id) = try organisation(named: ["a", "b"])
        let (a, b) = (offices[0], offices[1])
        try a.edit(id, ["note": .text(Self.canary)])
        try a.sync(with: hub)
        let old = try hub.revived(isNoticed: true)
        let other = try b.add(["name": .text("دیگری")])
        for office in [b, a, b] { try office.sync(with: hub) }
        _ = try hub.replica.erase(customer: id)
        for office in [a, b, a] { try office.sync(with: hub) }
        for _ in 0..<3 { for office in offices { try office.sync(with: old) } }
        #expect(try old.isErased(id))
        #expect(try old.value("name", of: other) == .text("دیگری"))
        for office in [old, a, b] { try office.expectNowhere(Self.canary) }
        try expectEqual([old, a, b])
    }

    @Test("The values that lost to an erased customer's others are erased with it")
    func conflicts() throws {
        let (hub, offices, id) = try organisation(named: ["a", "b"])
        let (a, b) = (offices[0], offices[1])
        try a.edit(id, ["note": .text("\(Self.canary) 1")])
        b.wallMilliseconds += 1000
        try b.edit(id, ["note": .text("\(Self.canary) 2")])
        for office in [a, b, a] { try office.sync(with: hub) }
        #expect(try hub.replica.read { try $0.openConflicts() } == 1)
        let erased = try hub.replica.erase(customer: id)
        #expect(Set(erased.rows.map(\.table)) == ["customer", "conflict"])
        for office in [a, b, a] { try office.sync(with: hub) }
        for office in [hub, a, b] {
            try office.expectNowhere(Self.canary)
            #expect(try office.replica.read { try $0.openConflicts() } == 0)
        }
        try expectEqual([hub, a, b])
    }

    private func organisation(named names: [String]) throws -> (hub: Office, offices: [Office], id: RowID) {
        let hub = try Office.headOffice()
        let offices = try names.map { try Office.branch($0, of: hub) }
        let id = try (offices.first ?? hub).add(["name": .text("مریم")])
        for _ in 0..<2 { for office in offices { try office.sync(with: hub) } }
        return (hub, offices, id)
    }
}

extension Office {
    /// How many of the node's files hold a text.
    func bytesOnDisk(containing text: String) throws -> Int {
        let directory = (databasePath as NSString).deletingLastPathComponent
        return try FileManager.default.subpathsOfDirectory(atPath: directory).reduce(0) { count, name in
            let bytes = FileManager.default.contents(atPath: directory + "/" + name) ?? Data()
            return count + (bytes.range(of: Data(text.utf8)) == nil ? 0 : 1)
        }
    }

    /// Expects that a text is in no file of the node, nor compressed in its log.
    func expectNowhere(_ text: String) throws {
        #expect(try replica.scrubErased())
        #expect(try bytesOnDisk(containing: text) == 0)
        let contents = try replica.read { reader in
            try reader.log(after: 0, limit: .max).map { try reader.logEntry(at: $0.position)?.content }
        }
        for content in contents { #expect(!"\(content as Any)".contains(text)) }
    }

    func isErased(_ id: RowID, in table: TableDescription = .customer) throws -> Bool {
        try replica.read { try $0.isErased(table, id: id) }
    }

    func deletedName(of id: RowID) throws -> FieldValue? {
        try replica.read { try $0.deletedRow(.customer, id: id)?["name"] }
    }
}
