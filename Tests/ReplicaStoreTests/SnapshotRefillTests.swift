import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit
import Testing

@testable import ReplicaStore

/// A branch that never had head office's log, only its rows, meets a head office that was put back.
@Suite("Branches that began with a snapshot, and a head office put back")
struct SnapshotRefillTests {
    @Test("Head office restored to the backup with which a branch began gets back what that branch has taken since")
    func toTheSnapshot() throws {
        let hub = try SnapshotTests.busyHeadOffice()
        let (branch, other) = (try Office.branch("new", of: hub), try Office.branch("other", of: hub))
        try other.sync(with: hub)
        try SnapshotTests.setSafe(hub)
        let backup = try hub.revived(isNoticed: true)
        let later = try hub.add(["name": .text("پس از پشتیبان")])
        try branch.sync(with: hub)
        #expect(try branch.isLoadedBySnapshot())
        try branch.edit(later, ["note": .text("شعبه")])
        try branch.sync(with: hub)
        try branch.edit(later, ["city": .text("یزد")])

        try converge(backup, [branch, other])
        #expect(try backup.value("note", of: later) == .text("شعبه"))
        #expect(try backup.value("city", of: later) == .text("یزد"))
        #expect(try backup.replica.read { try $0.count(.conflict) } == 0)
        try expectDone(backup, [branch, other])
    }

    @Test(
        "Head office restored to before a branch's snapshot is filled by those who have the log, whoever calls first",
        arguments: [true, false]
    )
    func beforeTheSnapshot(isFirst: Bool) throws {
        let hub = try SnapshotTests.busyHeadOffice()
        let (branch, other) = (try Office.branch("new", of: hub), try Office.branch("other", of: hub))
        try other.sync(with: hub)
        let backup = try hub.revived(isNoticed: true)
        let lost = try hub.add(["name": .text("گم‌شده")])
        for _ in 0..<2 { try other.sync(with: hub) }
        try other.edit(lost, ["email": .text("o@example.com")])
        for _ in 0..<2 { try other.sync(with: hub) }
        try branch.sync(with: hub)
        #expect(try branch.isLoadedBySnapshot())
        branch.wallMilliseconds += 1000
        try branch.edit(lost, ["email": .text("b@example.com")])
        try branch.sync(with: hub)
        try branch.edit(lost, ["note": .text("نفرستاده")])

        try converge(backup, isFirst ? [branch, other] : [other, branch], rounds: 3)
        #expect(try backup.value("name", of: lost) == .text("گم‌شده"))
        #expect(try backup.value("email", of: lost) == .text("b@example.com"))
        #expect(try backup.value("note", of: lost) == .text("نفرستاده"))
        // It had seen what it wrote over.
        #expect(try backup.replica.read { try $0.count(.conflict) } == 0)
        try expectDone(backup, [branch, other])
    }

    @Test("What a branch began with counts as seen, although nobody else knows where it stood in the lost log")
    func unknownOrder() throws {
        let hub = try SnapshotTests.busyHeadOffice()
        let (branch, other) = (try Office.branch("new", of: hub), try Office.branch("other", of: hub))
        let id = try other.add(["name": .text("مریم")])
        for _ in 0..<2 { try other.sync(with: hub) }
        let backup = try hub.revived(isNoticed: true)
        try other.edit(id, ["email": .text("o@example.com")])
        // Taken by head office, but the writer is cut before it hears where it stands.
        let seq = try other.replica.childFacts().ownSeq
        for messages in 1..<20 {
            if try hub.replica.withWriter({ $0.vector[other.replica.node.origin]?.seq == seq }) { break }
            _ = try other.sync(with: hub, cutAfter: messages)
        }
        try branch.sync(with: hub)
        #expect(try branch.isLoadedBySnapshot())
        #expect(try branch.value("email", of: id) == .text("o@example.com"))
        branch.wallMilliseconds += 1000
        try branch.edit(id, ["email": .text("b@example.com")])
        let own = try branch.replica.childFacts().ownSeq

        // The branch cannot bring what it never had; its work waits for whoever has.
        try branch.sync(with: backup)
        #expect(try backup.value("email", of: id) == .null)
        #expect(try branch.replica.status().ahead.changeSets == 1)
        try converge(backup, [other, branch], rounds: 3)
        #expect(try backup.value("email", of: id) == .text("b@example.com"))
        #expect(try backup.replica.read { try $0.count(.conflict) } == 0)
        #expect(try branch.replica.childFacts().ownSeq == own)
        try expectDone(backup, [branch, other])
    }

    @Test("Work that was written after something nobody can bring back does not wait for ever")
    func nobodyHasIt() throws {
        let hub = try SnapshotTests.busyHeadOffice()
        let (branch, other) = (try Office.branch("new", of: hub), try Office.branch("other", of: hub))
        try other.sync(with: hub)
        let shared = try #require(try hub.replica.read { try $0.rows(.customer, after: nil, limit: 1).first?.id })
        let backup = try hub.revived(isNoticed: true)
        hub.wallMilliseconds += 1000
        let lost = try hub.add(["name": .text("گم‌شده")])
        try branch.sync(with: hub)
        #expect(try branch.isLoadedBySnapshot())
        try branch.edit(shared, ["note": .text("شعبه")])
        let mine = try branch.add(["name": .text("از شعبه")])

        // Others have not called yet: they may have it.
        backup.wallMilliseconds += 10_000
        try branch.sync(with: backup)
        #expect(try backup.value("name", of: mine) == nil)
        #expect(try branch.replica.status().ahead.changeSets == 2)
        try other.sync(with: backup)
        try converge(backup, [branch, other])
        #expect(try backup.value("note", of: shared) == .text("شعبه"))
        #expect(try branch.replica.status().ahead.changeSets == 0)
        #expect(try branch.replica.status().lives.waiting.changeSets == 0)
        let names = try backup.replica.read { try String.fetchAll($0.db, sql: "SELECT name FROM customer") }
        #expect(names.filter { $0 == "از شعبه" }.count == 1)
        // What only the branch still has is not thrown away, and both say that it differs.
        #expect(try branch.value("name", of: lost) == .text("گم‌شده"))
        #expect(try branch.replica.soundness().differing.contains { $0.id == lost && $0.kind == .extra })
        // It goes on like any other.
        try branch.edit(shared, ["city": .text("یزد")])
        try converge(backup, [branch, other])
        #expect(try other.value("city", of: shared) == .text("یزد"))
        #expect(try other.isProvedEqual(to: backup))
    }

    @Test(
        "A branch long away hands in and loads; then head office is restored to before that, and takes all of it again",
        arguments: [true, false]
    )
    func handedInBelowTrimmedLog(isSafe: Bool) throws {
        let (hub, away, other, id) = try SnapshotTests.longAway()
        var backup = try hub.revived(isNoticed: true)
        try SnapshotTests.setSafe(hub)
        try other.edit(id, ["street": .text("یک")])
        for _ in 0..<2 { try other.sync(with: hub) }
        // The backup is older than the snapshot, or newer.
        if isSafe { backup = try hub.revived(isNoticed: true) } else { try SnapshotTests.setSafe(hub) }
        try hub.replica.trimLog()
        try away.edit(id, ["email": .text("first@example.com")])
        try away.sync(with: hub)
        #expect(try away.isLoadedBySnapshot())
        away.wallMilliseconds += 1000
        try away.edit(id, ["email": .text("second@example.com")])
        let last = try away.replica.childFacts()

        try converge(backup, [away, other], rounds: 3)
        #expect(try backup.value("email", of: id) == .text("second@example.com"))
        #expect(try away.replica.childFacts().ownSeq == last.ownSeq)
        #expect(away.replica.node.origin == last.origin)
        try expectDone(backup, [away, other])
    }

    @Test("A refill of a branch that began with a snapshot ends as one that was not cut, wherever it is cut")
    func cutAnywhere() throws {
        let hub = try SnapshotTests.busyHeadOffice()
        let (branch, other) = (try Office.branch("new", of: hub), try Office.branch("other", of: hub))
        try other.sync(with: hub)
        let backup = try hub.revived(isNoticed: false)
        let lost = try hub.add(["name": .text("گم‌شده")])
        for _ in 0..<2 { try other.sync(with: hub) }
        try branch.sync(with: hub)
        #expect(try branch.isLoadedBySnapshot())
        try hub.edit(lost, ["city": .text("قم")])
        try branch.sync(with: hub)
        try branch.edit(lost, ["note": .text("شعبه")])
        var isCut = true
        for messages in stride(from: 1, to: 60, by: 3) where isCut {
            let (hub, branch, other) = (
                try backup.revived(isNoticed: true), try branch.revived(isNoticed: false),
                try other.revived(isNoticed: false)
            )
            isCut = try branch.sync(with: hub, entriesMax: 4, cutAfter: messages) != nil
            try converge(hub, [other, branch], rounds: 3)
            #expect(try hub.value("note", of: lost) == .text("شعبه"))
            #expect(try hub.value("city", of: lost) == .text("قم"))
            try expectDone(hub, [branch, other])
        }
        #expect(!isCut)
    }

    @Test(
        "Random falls of head office, with branches that begin with snapshots in between: nobody waits, nothing is lost",
        arguments: 0..<3
    )
    func randomFalls(number: Int) throws {
        var random = SeededRandom(seed: testSeed("snapshot.refill") &+ UInt64(number))
        var hub = try SnapshotTests.busyHeadOffice()
        let id = try #require(try hub.replica.read { try $0.rows(.customer, after: nil, limit: 1).first?.id })
        var branches = try ["a", "b"].map { try Office.branch($0, of: hub) }
        for branch in branches { try branch.sync(with: hub) }
        var backups = [try hub.revived(isNoticed: false)]
        var written: Set<String> = []
        for step in 0..<36 {
            let branch = branches[random.below(branches.count)]
            branch.wallMilliseconds += UInt64(random.below(50))
            switch random.below(10) {
            case 0, 1, 2:
                written.insert("w\(step)")
                try branch.add(["name": .text("w\(step)")])
                try branch.edit(id, [["note", "street", "email"][random.below(3)]: .text("w\(step)")])
            case 3, 4:
                _ = try branch.sync(with: hub, bytesMax: 400, entriesMax: 3, cutAfter: 1 + random.below(24))
            case 5, 6:
                try branch.sync(with: hub)
            case 7:
                guard branches.count < 5 else { continue }
                let new = try Office.branch("n\(step)", of: hub)
                try new.sync(with: hub)
                branches.append(new)
                // A number that it is given later has no voucher when the session is cut; head office knows the node.
                backups = [try hub.revived(isNoticed: false)]
            case 8:
                if backups.count < 4 { backups.append(try hub.revived(isNoticed: false)) }
            default:
                if random.oneIn(2) { try hub.edit(id, ["city": .text("hq\(step)")]) }
                hub.wallMilliseconds += 100
                let time = hub.trueMilliseconds
                hub = try backups[random.below(backups.count)].revived(isNoticed: true)
                hub.wallMilliseconds = max(hub.wallMilliseconds, time)
                hub.replica.adopt { ($0.snapshotRowsMin, $0.snapshotPieceBytes) = (50, 8000) }
            }
        }
        try converge(hub, branches, rounds: 4)
        let names = try hub.replica.read { try String.fetchAll($0.db, sql: "SELECT name FROM customer") }
        #expect(written.subtracting(names).isEmpty)
        for text in written { #expect(names.filter { $0 == text }.count == 1, "\(text)") }
        for office in branches {
            #expect(try office.replica.status().ahead.changeSets == 0)
            #expect(try office.replica.status().lives.waiting.changeSets == 0)
            #expect(try office.replica.status().cursor == hub.replica.status().end)
            #expect(try office.replica.status().contradictions.isEmpty)
            #expect(try office.replica.verify { _, _ in }.allSatisfy(\.isRight))
            // What head office alone had written and lost may be left where a snapshot had brought it, and is named.
            if try !office.isProvedEqual(to: hub) {
                #expect(try !office.replica.soundness().differing.isEmpty)
            }
        }
    }

    // MARK: Former lives

    @Test("A former life below the trimmed log loads a snapshot first, and then issues its work again")
    func formerLifeBelowTrimmedLog() throws {
        let hub = try SnapshotTests.busyHeadOffice()
        let (branch, other) = (try Office.branch("late", of: hub), try Office.branch("other", of: hub))
        for _ in 0..<2 { for office in [branch, other] { try office.sync(with: hub) } }
        let id = try #require(try hub.replica.read { try $0.rows(.customer, after: nil, limit: 1).first?.id })
        let copy = try branch.copy()
        try branch.edit(id, ["email": .text("sent@example.com")])
        for _ in 0..<2 { try branch.sync(with: hub) }
        hub.replica.adopt { ($0.leaseDays, $0.historyDays) = (3, 1) }
        for _ in 0..<5 {
            for office in [hub, other] { office.wallMilliseconds += 86_400_000 }
            try hub.add(["name": .text("تازه")])
            try other.sync(with: hub)
        }
        try SnapshotTests.setSafe(hub)
        try hub.replica.trimLog()
        let restored = try Office(from: copy)
        try restored.edit(id, ["note": .text("نفرستاده")])
        let former = try restored.add(["name": .text("از نو")])
        #expect(try hub.replica.retentionStatus().trimmedPosition > restored.replica.status().cursor.position)

        try converge(hub, [restored, other])
        #expect(restored.replica.node.origin != branch.replica.node.origin)
        #expect(try restored.isLoadedBySnapshot())
        for office in [hub, restored, other] {
            #expect(try office.value("note", of: id) == .text("نفرستاده"))
            #expect(try office.value("email", of: id) == .text("sent@example.com"))
            let present = try office.replica.read { try $0.presentIdentifiers(of: former, in: .customer) }
            #expect(try present.map { try office.value("name", of: $0) } == [.text("از نو")])
        }
        try expectDone(hub, [restored, other])
    }

    @Test(
        "A restored branch that has only a part of the log ends with the rows of head office, whatever it had written",
        arguments: 0..<6
    )
    func anyFormerLife(number: Int) throws {
        var random = SeededRandom(seed: testSeed("snapshot.lives") &+ UInt64(number))
        let hub = try SnapshotTests.busyHeadOffice()
        let (branch, other) = (try Office.branch("b", of: hub), try Office.branch("c", of: hub))
        for office in [other, branch] { try office.sync(with: hub) }
        #expect(try branch.isLoadedBySnapshot())
        var rows = try hub.replica.read { try $0.rows(.customer, after: nil, limit: 6).map(\.id) }
        let fields = ["note", "email", "city", "street", "name"]
        var written = 0
        func work(_ office: Office, _ count: Int) throws {
            for _ in 0..<count {
                office.wallMilliseconds += UInt64(random.below(30))
                written += 1
                let id = rows[random.below(rows.count)]
                let isAlive = try office.replica.read { try $0.row(.customer, id: id) } != nil
                switch random.below(7) {
                case 0 where isAlive: try office.delete(id)
                case 0, 1: if !isAlive { try office.restore(id) }
                default:
                    guard isAlive else { continue }
                    let field = fields[random.below(fields.count)]
                    var values: [String: FieldValue] = [field: .text("\(written)")]
                    values[fields[random.below(4)]] = .text("\(written)")
                    try office.edit(id, values)
                }
            }
        }
        for _ in 0..<3 {
            for office in [branch, other, hub] { try work(office, random.below(6)) }
            for office in [branch, other, branch] { try office.sync(with: hub) }
        }
        rows = try hub.replica.read { try $0.rows(.customer, after: nil, limit: 6).map(\.id) } + rows.prefix(2)
        try work(branch, random.below(4))
        let copy = try branch.copy()
        try work(branch, 1 + random.below(3))
        try branch.add(["name": .text("پس از رونوشت")])
        for office in [branch, other] { try office.sync(with: hub) }
        try work(other, 3)
        try work(hub, 2)
        let restored = try Office(from: copy)
        restored.wallMilliseconds = branch.wallMilliseconds + UInt64(random.below(40))
        try work(restored, 1 + random.below(6))
        if random.oneIn(2) { _ = try restored.sync(with: hub, cutAfter: 3 + random.below(12)) }
        try converge(hub, [restored, other], rounds: 3)
        #expect(restored.replica.node.origin != branch.replica.node.origin)
        try expectDone(hub, [restored, other])
    }
}

extension Office {
    /// Whether head office's log is not all here, because its rows came instead.
    fileprivate func isLoadedBySnapshot() throws -> Bool {
        try replica.read { try LocalFact.read(.snapshotPosition, $0.db) ?? 0 } > 0
    }
}
