import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit
import Testing

@testable import ReplicaStore

/// First load, and return after a long absence.
@Suite("Snapshots")
struct SnapshotTests {
    @Test("A new branch gets the rows instead of a long history, and is proved equal")
    func firstLoad() throws {
        let hub = try Self.busyHeadOffice()
        let branch = try Office.branch("isfahan", of: hub)
        try branch.sync(with: hub)
        // The row of the new branch itself came after the snapshot began, at most.
        #expect(branch.lastTotals.withLock { $0.received.changeSets } == 0)
        #expect(try branch.replica.status().cursor == hub.replica.status().end)
        #expect(try branch.isProvedEqual(to: hub))
        #expect(try branch.state() == hub.state())
        #expect(try branch.replica.findCustomers("مریم", limit: 10).count == 10)
        #expect(try Self.indexes(of: branch) == Self.indexes(of: hub))
        // It works like any other from here on.
        let id = try branch.add(["name": .text("تازه")])
        try branch.sync(with: hub)
        #expect(try hub.value("name", of: id) == .text("تازه"))
        #expect(try branch.isProvedEqual(to: hub))
    }

    @Test("A first load that is cut after any message goes on where it was, while head office works on")
    func cutAnywhere() throws {
        let hub = try Self.busyHeadOffice()
        let customers = try hub.replica.read { try $0.rows(.customer, after: nil, limit: 5).map(\.id) }
        let branch = try Office.branch("shiraz", of: hub)
        hub.replica.adopt { $0.snapshotPieceBytes = 2000 }
        var done = 0
        for cut in 1...60 {
            let failure = try branch.sync(with: hub, cutAfter: 2 + cut % 7)
            switch cut % 4 {
            case 0: try hub.edit(customers[cut / 4 % 5], ["note": .text("\(cut)")])
            case 1: try hub.delete(customers[cut / 4 % 5])
            case 2: try hub.add(["name": .text("هنگام بارگذاری \(cut)")])
            default: if cut / 4 % 3 == 0 { try hub.edit(customers[4], ["email": .text("e\(cut)@example.com")]) }
            }
            if cut % 4 == 1 { try hub.restore(customers[cut / 4 % 5]) }
            if failure == nil { done += 1 }
            if done == 3 { break }
            if let progress = branch.replica.firstLoadProgress {
                #expect(progress.isFresh)
                #expect(throws: StoreFailure.self) { try branch.add(["name": .text("زود")]) }
            }
        }
        try branch.sync(with: hub)
        #expect(branch.replica.firstLoadProgress == nil)
        #expect(try branch.isProvedEqual(to: hub))
        #expect(try branch.state() == hub.state())
        #expect(try Self.indexes(of: branch) == Self.indexes(of: hub))
    }

    @Test("A branch away for 120 days, below the trimmed log, hands in, loads, and loses nothing")
    func longAbsence() throws {
        let hub = try Self.busyHeadOffice()
        let (away, other) = (try Office.branch("away", of: hub), try Office.branch("other", of: hub))
        for branch in [away, other] { try branch.sync(with: hub) }
        let own = try away.add(["name": .text("پیش از سفر")])
        let shared = try hub.replica.read { try $0.rows(.customer, after: nil, limit: 3).map(\.id) }
        try away.sync(with: hub)
        let position = try away.replica.status().end.position

        for day in 1...120 {
            for office in [hub, away, other] { office.wallMilliseconds += 86_400_000 }
            try away.add(["name": .text("در سفر \(day)")])
            if day % 10 == 0 {
                try other.edit(shared[day / 10 % 3], ["note": .text("روز \(day)")])
                try away.edit(shared[day / 10 % 3], ["email": .text("d\(day)@example.com")])
            }
            if day == 60 { try other.delete(own) }
            try other.sync(with: hub)
            try Self.setSafe(hub)
            try hub.replica.trimLog()
        }
        let trimmed = try hub.replica.withWriterState { try? $0.trimmedPosition() }
        #expect(trimmed ?? 0 > (try away.replica.status().cursor.position))

        let mine = try away.replica.status().end.position
        try away.sync(with: hub)
        #expect(try away.isProvedEqual(to: hub))
        try other.sync(with: hub)
        #expect(try away.state() == hub.state())
        #expect(try other.state() == hub.state())
        for office in [hub, away, other] {
            let names = try office.replica.read { reader in
                try String.fetchAll(reader.db, sql: "SELECT name FROM customer WHERE name LIKE 'در سفر %'")
            }
            #expect(names.count == 120)
            #expect(try office.value("name", of: own) == nil)
            #expect(try office.replica.read { try $0.deletedRow(.customer, id: own)?["name"] } == .text("پیش از سفر"))
        }
        // The snapshot has replaced tables, never the log.
        let bodies = try away.replica.read { reader in
            try Int.fetchOne(
                reader.db,
                sql: "SELECT count(*) FROM log WHERE position <= ? AND body IS NOT NULL",
                arguments: [Int64(mine)]
            ) ?? 0
        }
        #expect(bodies == Int(mine))
        #expect(position < mine)
        #expect(try away.replica.findCustomers("روز", limit: 10).isEmpty == false)
    }

    @Test("A branch works on while it loads, and any cut ends like none")
    func worksWhileLoading() throws {
        let hub = try Self.busyHeadOffice()
        let (away, other) = (try Office.branch("away", of: hub), try Office.branch("other", of: hub))
        for branch in [away, other] { try branch.sync(with: hub) }
        let shared = try hub.replica.read { try $0.rows(.customer, after: nil, limit: 4).map(\.id) }
        hub.replica.adopt { ($0.leaseDays, $0.historyDays) = (3, 1) }
        for day in 1...6 {
            for office in [hub, away, other] { office.wallMilliseconds += 86_400_000 }
            try other.edit(shared[day % 4], ["note": .text("روز \(day)")])
            try other.sync(with: hub)
        }
        try Self.setSafe(hub)
        try hub.replica.trimLog()
        hub.replica.adopt { $0.snapshotPieceBytes = 2000 }
        // Its clock is behind, and it edits rows whose newer state is still to come.
        away.wallMilliseconds -= 5_000
        try away.edit(shared[3], ["email": .text("before@example.com")])
        var cut = 0
        while try away.sync(with: hub, cutAfter: 3 + cut % 6) != nil, cut < 60 {
            cut += 1
            try away.edit(shared[cut % 4], ["mobile": .text("0912123\(1000 + cut)")])
            if cut % 5 == 0 { try hub.edit(shared[cut % 4], ["note": .text("دفتر \(cut)")]) }
        }
        #expect(cut > 5)
        try away.sync(with: hub)
        try other.sync(with: hub)
        try away.sync(with: hub)
        #expect(try away.isProvedEqual(to: hub))
        #expect(try away.state() == hub.state())
        #expect(try other.state() == hub.state())
    }

    @Test("A former life that may not hand in before it knows the log loads first: no deadlock")
    func emptyHandedBelowTrimmedLog() throws {
        let hub = try Self.busyHeadOffice()
        let (branch, other) = (try Office.branch("late", of: hub), try Office.branch("other", of: hub))
        for office in [branch, other] { try office.sync(with: hub) }
        hub.replica.adopt { ($0.leaseDays, $0.historyDays) = (3, 1) }
        for _ in 0..<5 {
            for office in [hub, branch, other] { office.wallMilliseconds += 86_400_000 }
            try hub.add(["name": .text("تازه")])
            try other.sync(with: hub)
        }
        try Self.setSafe(hub)
        try hub.add(["name": .text("تازه")])
        try hub.replica.trimLog()
        #expect(try hub.replica.retentionStatus().trimmedPosition > branch.replica.status().cursor.position)
        try branch.sync(with: hub)
        #expect(try branch.isProvedEqual(to: hub))
    }

    @Test("What is not safe comes with its history, so that a head office restored to its backup gets it back")
    func unsafeBodiesComeByLog() throws {
        let hub = try Self.busyHeadOffice()
        try Self.setSafe(hub)
        let later = try hub.add(["name": .text("پس از پشتیبان")])
        let branch = try Office.branch("new", of: hub)
        try branch.sync(with: hub)
        let end = try hub.replica.status().end.position
        let safe = try hub.replica.withWriterState { (try? $0.safePosition()) ?? 0 }
        #expect(branch.lastTotals.withLock { $0.received.changeSets } == Int(end - safe))
        #expect(try branch.value("name", of: later) == .text("پس از پشتیبان"))
        #expect(try branch.isProvedEqual(to: hub))
    }

    @Test("Head office whose rows have turned on disk gives no snapshot")
    func damagedHeadOffice() throws {
        let hub = try Self.busyHeadOffice()
        let branch = try Office.branch("new", of: hub)
        try hub.replica.withWriter { writer in
            try writer.db.execute(sql: "UPDATE customer SET note = 'گشته' WHERE id = (SELECT max(id) FROM customer)")
        }
        #expect(throws: SyncFailure.self) { try branch.sync(with: hub) }
        #expect(try branch.replica.read { try $0.count(.customer) } == 0)
        #expect(try hub.replica.retentionStatus().areTablesWrong)
    }

    @Test("A snapshot travels in a file, and a damaged, cut or foreign one changes nothing")
    func file() throws {
        let home = TemporaryDirectory()
        let path = home.path + "/first-load"
        let hub = try Self.busyHeadOffice()
        let branch = try Office.branch("far", of: hub)
        hub.replica.adopt { $0.snapshotPieceBytes = 5000 }
        let written = try hub.replica.writeSnapshot(to: path) { _, _ in }
        let after = try hub.add(["name": .text("پس از نوشتن")])

        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        #expect(bytes.count == written.bytes)
        var random = SeededRandom(seed: testSeed("snapshot.file"))
        let broken = home.path + "/broken"
        let before = try branch.state()
        for round in 0..<40 {
            var damaged = bytes
            if round % 2 == 0 {
                damaged.removeLast(1 + random.below(bytes.count - 1))
            } else {
                damaged[random.below(bytes.count)] ^= 1 << UInt8(random.below(8))
            }
            try Data(damaged).write(to: URL(fileURLWithPath: broken))
            #expect(throws: SnapshotFileFailure.self) { try branch.replica.readSnapshot(from: broken) { _, _ in } }
        }
        #expect(try branch.state() == before)
        let stranger = try Office.branch("stranger", of: try Office.headOffice())
        #expect(throws: SnapshotFileFailure.otherOrganisation(path)) {
            try stranger.replica.readSnapshot(from: path) { _, _ in }
        }

        // Stopped half way, and read again.
        var pieces = 0
        #expect(throws: CancellationError.self) {
            try branch.replica.readSnapshot(from: path) { _, _ in
                pieces += 1
                if pieces == 3 { throw CancellationError() }
            }
        }
        #expect(branch.replica.firstLoadProgress?.isFresh == true)
        let read = try branch.replica.readSnapshot(from: path) { _, _ in }
        #expect(read.rows == 0 || read.rows <= written.rows)
        try branch.sync(with: hub)
        #expect(branch.lastTotals.withLock { $0.received.changeSets } == 1)
        #expect(try branch.value("name", of: after) == .text("پس از نوشتن"))
        #expect(try branch.isProvedEqual(to: hub))
        #expect(try branch.state() == hub.state())
        #expect(throws: SnapshotFileFailure.self) { try branch.replica.readSnapshot(from: path) { _, _ in } }
    }

    // MARK: -

    /// A branch that has been away for longer than its lease, another one, and a customer that both know.
    static func longAway() throws -> (hub: Office, away: Office, other: Office, id: RowID) {
        let hub = try busyHeadOffice()
        let (away, other) = (try Office.branch("away", of: hub), try Office.branch("other", of: hub))
        for _ in 0..<2 { for office in [away, other] { try office.sync(with: hub) } }
        hub.replica.adopt { ($0.leaseDays, $0.historyDays) = (3, 1) }
        let id = try #require(try hub.replica.read { try $0.rows(.customer, after: nil, limit: 1).first?.id })
        for day in 0..<5 {
            for office in [hub, away, other] { office.wallMilliseconds += 86_400_000 }
            try hub.edit(id, ["note": .text("روز \(day)")])
            try other.sync(with: hub)
        }
        return (hub, away, other, id)
    }

    /// A head office with a history that is longer than its rows, and small limits.
    static func busyHeadOffice() throws -> Office {
        let hub = try Office.headOffice()
        hub.replica.adopt {
            $0.snapshotRowsMin = 50
            $0.snapshotPieceBytes = 8000
        }
        var ids: [RowID] = []
        for round in 0..<20 {
            _ = try hub.replica.write { transaction in
                for number in 0..<3 {
                    ids.append(
                        try transaction.insert(
                            "customer",
                            ["name": .text("مریم رضایی \(round)"), "note": .text("\(number)")]
                        )
                    )
                }
                try transaction.insert(
                    "activity",
                    ["customer": .integer(ids[0].rawValue), "kind": .text("call"), "subject": .text("پیگیری")]
                )
                if round > 5 { try transaction.update("customer", id: ids[round], ["note": .text("دوباره \(round)")]) }
                if round > 10 { try transaction.delete("customer", id: ids[round * 2]) }
            }
        }
        return hub
    }

    /// As after a verified backup of everything.
    static func setSafe(_ hub: Office) throws {
        try hub.replica.withWriter { writer in
            try writer.transaction { try writer.note(.safePosition, Int64(writer.end.position)) }
        }
    }

    private static func indexes(of office: Office) throws -> [String] {
        try office.replica.read { reader in
            try String.fetchAll(
                reader.db,
                sql: "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
            )
        }
    }
}
