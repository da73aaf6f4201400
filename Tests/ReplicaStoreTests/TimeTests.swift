import CRM
import Causality
import Foundation
import GRDB
import ReplicaStore
import SyncProtocol
import TestKit
import Testing

private let second: UInt64 = 1000
private let hour: UInt64 = 3_600_000
private let day: UInt64 = 86_400_000
private let year: UInt64 = 365 * 86_400_000

@Suite("Clocks that are wrong")
struct TimeTests {
    // MARK: What a wrong clock has written

    @Test("What was written by a clock that is a day ahead, or back, bears the time when it was written")
    func wrongClock() throws {
        for wrong in [Int64(day), -Int64(day), -1_800_000_000_000, 30 * Int64(year)] {
            let (hub, a, b, id) = try offices()
            a.reboot()
            a.setWall(by: wrong)
            try a.edit(id, ["note": .text("first")])
            let written = a.trueMilliseconds
            a.wait(hour)
            b.wait(hour / 2)
            try b.edit(id, ["city": .text("b, later")])
            a.wait(hour)
            try a.edit(id, ["city": .text("a, last")])
            try converge(hub, [b, a])
            #expect(try times(of: a, at: hub) == [written, written + 2 * hour])
            #expect(try times(of: a, at: a) == [written, written + 2 * hour])
            for office in [hub, a, b] { #expect(try office.value("city", of: id) == .text("a, last")) }
            try expectEqual([hub, a, b])
            #expect(try a.replica.status().skewMilliseconds == max(wrong, -Int64(a.trueMilliseconds)))
            let fleet = try hub.replica.registeredNodes().map(\.skewMilliseconds)
            #expect(fleet == [max(wrong, -Int64(a.trueMilliseconds)), 0])
        }
    }

    @Test("Other branches' later edits win over those of a clock that is a year ahead")
    func laterEditWins() throws {
        let (hub, a, b, id) = try offices()
        a.reboot()
        a.setWall(by: Int64(year))
        try a.edit(id, ["city": .text("a, earlier")])
        b.wait(hour)
        try b.edit(id, ["city": .text("b, later")])
        try converge(hub, [a, b])
        for office in [hub, a, b] { #expect(try office.value("city", of: id) == .text("b, later")) }
        try expectEqual([hub, a, b])
    }

    @Test("A clock that was set back and forth between writes does not confuse them")
    func steps() throws {
        let (hub, a, _, id) = try offices()
        a.reboot()
        var written: [UInt64] = []
        for wrong in [Int64(year), -Int64(year), 0, Int64(day), -5000] {
            a.wait(hour)
            a.setWall(to: UInt64(Int64(a.trueMilliseconds) + wrong))
            try a.edit(id, ["note": .text("\(wrong)")])
            written.append(a.trueMilliseconds)
        }
        a.wait(hour)
        try converge(hub, [a])
        #expect(try times(of: a, at: hub) == written)
        try expectEqual([hub, a])
    }

    @Test("After another start of the machine a clock that is as wrong as before is corrected as well")
    func rebooted() throws {
        let (hub, a, _, id) = try offices()
        a.reboot()
        a.setWall(by: -Int64(year))
        var written: [UInt64] = []
        for number in 0..<6 {
            a.wait(hour)
            if number % 2 == 0 { a.reboot() }
            a.wait(second)
            try a.edit(id, ["note": .text("\(number)")])
            written.append(a.trueMilliseconds)
        }
        try converge(hub, [a])
        #expect(try times(of: a, at: hub) == written)
    }

    @Test("What a clock of the future wrote before it was mended goes to no later than now, in order")
    func mendedBeforeSession() throws {
        let (hub, a, b, id) = try offices()
        a.reboot()
        a.setWall(by: 30 * Int64(year))
        for number in 0..<5 { try a.edit(id, ["note": .text("\(number)")]) }
        a.reboot()
        a.setWall(to: a.trueMilliseconds)
        a.wait(hour)
        try a.edit(id, ["note": .text("mended")])
        let written = a.trueMilliseconds
        a.wait(hour)
        try converge(hub, [a])
        let found = try times(of: a, at: hub)
        #expect(found.last == written)
        #expect(found.allSatisfy { $0 <= a.trueMilliseconds } && found == found.sorted())
        b.wait(3 * hour)
        try b.edit(id, ["note": .text("b")])
        try converge(hub, [b, a])
        for office in [hub, a, b] { #expect(try office.value("note", of: id) == .text("b")) }
        try expectEqual([hub, a, b])
    }

    @Test("Nothing is corrected to before what its writer had seen")
    func floor() throws {
        let (hub, a, b, id) = try offices()
        // Head office was ahead when it wrote, and is right again.
        hub.setWall(by: Int64(hour))
        try hub.edit(id, ["city": .text("seen")])
        hub.setWall(by: -Int64(hour))
        try a.sync(with: hub)
        a.reboot()
        a.setWall(by: Int64(day))
        try a.edit(id, ["city": .text("knowing")])
        try converge(hub, [a, b])
        for office in [hub, a, b] { #expect(try office.value("city", of: id) == .text("knowing")) }
        try expectEqual([hub, a, b])
    }

    @Test("Rows that were written several times, deleted and born by a wrong clock equal head office's afterwards")
    func manyRows() throws {
        let (hub, a, b, id) = try offices()
        let second = try hub.add(["name": .text("second")])
        try converge(hub, [a, b])
        a.reboot()
        a.setWall(by: 3 * Int64(day))
        try a.edit(id, ["city": .text("a"), "note": .text("a")])
        a.wait(hour)
        let born = try a.add(["name": .text("born")])
        try a.delete(second)
        a.wait(hour)
        try a.edit(born, ["note": .text("again")])
        try a.edit(id, ["note": .text("again")])
        try a.delete(born)
        try a.restore(second)
        try a.restore(born)
        a.wait(hour)
        try a.delete(born)
        try b.edit(id, ["note": .text("b")])
        try converge(hub, [b, a])
        try expectEqual([hub, a, b])
        #expect(try a.value("note", of: id) == .text("again"))
        #expect(try a.isProvedEqual(to: hub))
    }

    @Test("What another program wrote is corrected like anything else")
    func foreignWrites() throws {
        let (hub, a, b, id) = try offices()
        a.reboot()
        a.setWall(by: -Int64(year))
        try a.otherProgram { db in
            try db.execute(sql: "UPDATE customer SET note = 'x' WHERE id = ?", arguments: [id.rawValue])
            // The machine's clock, of which the test has no hold.
            try db.execute(sql: "UPDATE pending SET wallMilliseconds = ?", arguments: [Int64(a.wallMilliseconds)])
        }
        let written = a.trueMilliseconds
        a.wait(hour)
        try converge(hub, [a, b])
        #expect(try times(of: a, at: hub) == [written])
        try expectEqual([hub, a, b])
    }

    @Test("A correction that a power cut interrupts is whole or absent, and only what was never sent is touched again")
    func onlyOnce() throws {
        let (hub, a, b, id) = try offices()
        a.reboot()
        a.setWall(by: Int64(day))
        try a.edit(id, ["note": .text("a")])
        for cut in 0..<6 {
            a.setWall(by: -Int64(hour))
            try a.sync(with: hub, cutAfter: cut)
        }
        let corrected = try times(of: a, at: a)
        try converge(hub, [a, b])
        #expect(try times(of: a, at: a) == corrected)
        try expectEqual([hub, a, b])
    }

    // MARK: Stories

    @Test("A clock that is ahead makes no difference to an edit that a session takes in before it is cut")
    func correctedBeforeAccepting() throws {
        for cut in 0..<10 {
            let (hub, a, b, id) = try offices()
            a.reboot()
            a.setWall(by: 30_000)
            try a.edit(id, ["note": .text("a")])
            hub.wait(10_000)
            try hub.delete(id)
            try a.sync(with: hub, cutAfter: cut)
            try converge(hub, [a, b])
            for office in [hub, a, b] { #expect(try office.value("note", of: id) == nil) }
            try expectEqual([hub, a, b])
        }
    }

    @Test("What was written in a live session is not moved past an edit that the session has taken")
    func liveDelete() throws {
        let (hub, a, b, id) = try offices()
        hub.wait(10_000)
        try hub.edit(id, ["note": .text("hub")])
        let peer = try greet(a, hub)
        try a.delete(id)
        let reader = a.replica.node.origin
        let position = try a.replica.status().cursor.position
        let log = try hub.replica.readLog(afterPosition: position, for: reader, bytesMax: 1 << 20, entriesMax: 10)
        _ = try a.replica.apply([log.batch], from: peer)
        try a.replica.record(.ended(.linkLost), of: peer)
        let before = try times(of: a, at: a)
        a.setWall(by: 20_000)
        try converge(hub, [a, b])
        #expect(try times(of: a, at: a) == before)
        try expectEqual([hub, a, b])
    }

    @Test("A wall clock that is set during a session does not keep a branch out for ever")
    func setDuringSession() throws {
        for wrong in [Int64(year), -Int64(year)] {
            let (hub, a, b, id) = try offices()
            let peer = try greet(a, hub)
            a.setWall(by: wrong)
            try a.edit(id, ["note": .text("a")])
            try a.replica.record(.ended(.linkLost), of: peer)
            a.wait(hour)
            try a.edit(id, ["city": .text("a")])
            let written = a.trueMilliseconds
            try converge(hub, [a, b])
            #expect(try times(of: a, at: hub) == [written - hour, written])
            try expectEqual([hub, a, b])
        }
    }

    @Test("Work that left home with a wrong time is refused once, and goes on under a new number")
    func leftHomeWrong() throws {
        let (hub, a, _, id) = try offices()
        a.reboot()
        a.setWall(by: Int64(day))
        try a.edit(id, ["note": .text("a")])
        // Head office did not trust its clock: nothing was corrected, and the line broke.
        let peer = try greet(a, hub, isClockTrusted: false)
        try a.replica.record(.ended(.linkLost), of: peer)
        let before = try hub.state()
        #expect(throws: SyncFailure.self) { try a.sync(with: hub) }
        #expect(try hub.state() == before)
        #expect(try fact("mustRenew", at: a) == 1)
        let refusal = try hub.replica.registeredNodes().first { $0.origin == a.replica.node.origin }
        #expect(refusal?.refusals == 1)
        #expect(refusal?.lastRefusal?.contains("86400 s ahead of head office's clock") == true)
    }

    @Test("What was written while head office's clock was an hour ahead is taken when it is right again")
    func headOfficeWasWrong() throws {
        let (hub, a, b, id) = try offices()
        hub.setWall(by: Int64(hour))
        try a.sync(with: hub)
        try a.edit(id, ["note": .text("a")])
        let written = a.trueMilliseconds
        hub.setWall(by: -Int64(hour))
        a.wait(hour / 4)
        try converge(hub, [a, b])
        #expect(try times(of: a, at: hub) == [written])
        #expect(try fact("mustRenew", at: a) == nil)
        try expectEqual([hub, a, b])
    }

    @Test("An hour at which head office's clock was wrong blocks nobody who follows its log")
    func limitKnowsLog() throws {
        let (hub, a, b, id) = try offices()
        hub.setWall(by: Int64(hour))
        try hub.edit(id, ["note": .text("hub")])
        hub.setWall(by: -Int64(hour))
        try a.sync(with: hub)
        for number in 0..<5 { try a.edit(id, ["note": .text("\(number)")]) }
        try converge(hub, [a, b])
        for office in [hub, a, b] { #expect(try office.value("note", of: id) == .text("4")) }
        try expectEqual([hub, a, b])
    }

    // MARK: Limits

    @Test("A change set of the year 2999 is refused with the offset and the way out, and a normal one is taken")
    func yearTooFar() throws {
        let (hub, a, b, id) = try offices()
        try a.edit(id, ["note": .text("a")])
        let facts = try a.replica.childFacts()
        let sender = SyncPeer(node: facts.node, origin: facts.origin)
        let batch = try a.replica.readOwn(afterSeq: facts.ownSeq - 1, bytesMax: 1 << 20, entriesMax: 10).batch
        func stamped(_ time: HybridTimestamp) throws -> ChangeBatch {
            guard case .changeSet(_, let body) = try #require(batch.entries.first) else { return batch }
            return ChangeBatch(firstPosition: 0, entries: [.changeSet(time: time, body: body)], end: batch.end)
        }
        let before = try hub.state()
        let now = hub.trueMilliseconds
        for (milliseconds, code) in [
            (32_472_144_000_000, .clockAhead), (now + 120_001, .clockAhead),
            (HybridTimestamp.millisecondsMax, .clockAhead),
            (1, .clockBehind), (0, .clockBehind),
        ] as [(UInt64, Refusal.Code)] {
            do {
                _ = try hub.replica.apply([try stamped(HybridTimestamp(milliseconds: milliseconds))], from: sender)
                Issue.record("\(milliseconds) was taken")
            } catch SyncStoreFailure.refused(let refusal) {
                #expect(refusal.code == code)
                #expect(refusal.sentence.contains("synchronise again"))
            }
        }
        #expect(try hub.state() == before)
        _ = try hub.replica.apply([try stamped(HybridTimestamp(milliseconds: now + 120_000))], from: sender)
        #expect(try hub.value("note", of: id) == .text("a"))
        try b.sync(with: hub)
        try b.edit(id, ["note": .text("b")])
        try b.sync(with: hub)
        #expect(try hub.value("note", of: id) == .text("b"))
    }

    @Test("A head office whose clock is days behind its log corrects nobody, says so, and nothing is lost")
    func headOfficeBehind() throws {
        let (hub, a, b, id) = try offices()
        hub.setWall(by: -2 * Int64(day))
        a.wait(hour)
        try a.edit(id, ["note": .text("a")])
        a.wait(hour)
        let written = a.trueMilliseconds - hour
        #expect(try hub.replica.status().clockTrust == .behindLog(milliseconds: 2 * day, isConfirmed: true))
        #expect(throws: SyncFailure.self) { try a.sync(with: hub) }
        #expect(
            try hub.replica.status().clockTrust == .behindLog(milliseconds: 2 * day - 2 * hour, isConfirmed: false)
        )
        #expect(try fact("mustRenew", at: a) == nil)
        hub.setWall(to: hub.trueMilliseconds)
        try converge(hub, [a, b])
        #expect(try times(of: a, at: hub) == [written])
        #expect(try hub.replica.status().clockTrust == .trusted)
        try expectEqual([hub, a, b])
    }

    @Test("Three branches that agree overrule head office's clock; three that do not, do not")
    func median() throws {
        let newest = HybridTimestamp(milliseconds: 1000)
        func trust(_ skews: [Int64]) -> ClockTrust { ClockTrust(now: 2000, newest: newest, skews: skews) }
        let far = Int64(hour)
        #expect(trust([far, far + 9]) == .trusted)
        #expect(trust([far, far + 9, 5]) == .apart(milliseconds: far, branches: 3))
        #expect(trust([-far, -far, -far, 0]) == .apart(milliseconds: -far, branches: 4))
        #expect(trust([far, 9 * far, 100 * far]) == .trusted)
        #expect(trust([-far, 0, far]) == .trusted)
        #expect(trust([.min, .max, .max]) == .apart(milliseconds: .max, branches: 3))

        let (hub, a, b, id) = try offices()
        let c = try Office.branch("c", of: hub)
        hub.setWall(by: -Int64(hour))
        for branch in [a, b, c] { try branch.sync(with: hub) }
        #expect(try hub.replica.status().clockTrust == .apart(milliseconds: Int64(hour), branches: 3))
        // Its branches' work is taken all the same, with their times.
        a.reboot()
        try a.edit(id, ["note": .text("a")])
        try converge(hub, [a, b, c])
        #expect(try times(of: a, at: hub) == [a.trueMilliseconds])
        try expectEqual([hub, a, b, c])
    }

    // MARK: At random

    @Test("Two hundred histories by clocks that are wrong by decades and are set and started at any time converge")
    func randomClocks() throws {
        var random = SeededRandom(seed: testSeed("randomClocks"))
        let hub = try Office.headOffice()
        let branches = try ["a", "b", "c"].map { try Office.branch($0, of: hub) }
        let offices = [hub] + branches
        var histories = History()
        var ids: [RowID] = []
        for chapter in 0..<200 {
            ids = ids.suffix(3) + [try hub.add(["name": .text("\(chapter)")])]
            for _ in 0..<12 {
                let office = offices[random.below(4)]
                office.wait(UInt64(random.below(3 * 3_600_000)))
                switch random.below(8) {
                case 0 where office !== hub:
                    let others = branches.filter { $0 !== office }.map(\.skew)
                    office.setWall(to: UInt64(max(0, Int64(office.trueMilliseconds) + random.wrong(unlike: others))))
                case 1 where office !== hub: office.reboot()
                case 2 where office !== hub:
                    try office.sync(with: hub, entriesMax: 1 + random.below(4), cutAfter: random.below(12))
                case 3: ids.append(try office.add(["name": .text("n")]))
                default:
                    let id = ids[random.below(ids.count)]
                    try histories.edit(id, at: office, &random)
                }
            }
            for _ in 0..<2 { for branch in branches { try branch.sync(with: hub) } }
            for branch in branches { #expect(try branch.isProvedEqual(to: hub), "chapter \(chapter)") }
            try histories.expectCausality(of: ids, at: hub, chapter)
            if chapter % 40 == 39 { try expectEqual(offices) }
        }
        let database = try DatabaseQueue(path: hub.databasePath)
        let unordered = try database.read { db in
            try Int.fetchOne(
                db,
                sql:
                    "SELECT count(*) FROM log a JOIN log b ON b.origin = a.origin AND b.seq > a.seq AND b.time <= a.time"
            )
        }
        #expect(unordered == 0)
    }

    // MARK: Helpers

    private func offices() throws -> (hub: Office, a: Office, b: Office, id: RowID) {
        let hub = try Office.headOffice()
        let a = try Office.branch("a", of: hub)
        let b = try Office.branch("b", of: hub)
        let id = try hub.add(["name": .text("مریم"), "city": .text("تهران")])
        try converge(hub, [a, b])
        return (hub, a, b, id)
    }

    /// The times, in milliseconds, of everything that an office has written, as another one's log has them.
    private func times(of office: Office, at other: Office) throws -> [UInt64] {
        try other.replica.read { try $0.log(after: 0, limit: 1000) }
            .filter { $0.id.origin == office.replica.node.origin }.map(\.time.milliseconds)
    }

    private func fact(_ name: String, at office: Office) throws -> Int64? {
        try DatabaseQueue(path: office.databasePath).read { db in
            try Int64.fetchOne(db, sql: "SELECT value FROM localFact WHERE name = ?", arguments: [name])
        }
    }

    /// The beginning of a session, as far as the welcome; the rest is up to the test.
    private func greet(_ office: Office, _ hub: Office, isClockTrusted: Bool = true) throws -> SyncPeer {
        office.meet(hub)
        let hello = try office.replica.childFacts()
        var welcome = try hub.replica.decideWelcome(hello, receivedAtMilliseconds: hub.wallMilliseconds)
        welcome.extras.isClockTrusted = isClockTrusted
        let offset = Int64(hub.wallMilliseconds) - Int64(office.wallMilliseconds)
        let step = try office.replica.adoptWelcome(
            welcome,
            clock: ClockMeasurement(offsetMilliseconds: offset, roundTripMilliseconds: 0)
        )
        #expect(step == .goOn)
        return SyncPeer(node: welcome.node, origin: welcome.origin)
    }
}

/// What was written at random, and what its writers had seen.
private struct History {
    private struct Edit {
        let id: ChangeSetID
        let value: FieldValue
        /// Per origin, the change sets that the writer had.
        let seen: [Origin: UInt64]
    }

    private var edits: [RowID: [Edit]] = [:]

    mutating func edit(_ id: RowID, at office: Office, _ random: inout SeededRandom) throws {
        let value = FieldValue.text("\(UInt64.random(in: 0...UInt64.max, using: &random))")
        do {
            try office.edit(id, ["note": value])
        } catch StoreFailure.unknownRow {
            return
        }
        var seen: [Origin: UInt64] = [:]
        for progress in try office.replica.status().vector { seen[progress.origin] = progress.seq }
        let origin = office.replica.node.origin
        let seq = seen[origin] ?? 0
        seen[origin] = seq - 1
        edits[id, default: []].append(Edit(id: ChangeSetID(origin: origin, seq: seq), value: value, seen: seen))
    }

    /// Expects that no edit stands which somebody who had seen it has overwritten.
    func expectCausality(of ids: [RowID], at office: Office, _ chapter: Int) throws {
        for id in ids {
            let edits = edits[id] ?? []
            guard let stands = try office.value("note", of: id), stands != .null else {
                #expect(edits.isEmpty)
                continue
            }
            let winner = try #require(edits.first { $0.value == stands })
            #expect(!edits.contains { $0.seen[winner.id.origin] ?? 0 >= winner.id.seq }, "chapter \(chapter)")
        }
    }
}

extension Office {
    /// How far the wall clock is ahead of the true time, in milliseconds.
    fileprivate var skew: Int64 { Int64(wallMilliseconds) - Int64(trueMilliseconds) }
}

extension SeededRandom {
    /// By how many milliseconds a clock is wrong: seconds as often as decades.
    /// How wrong a clock is set. Clocks are not wrong by the same, or else they would overrule head office's.
    fileprivate mutating func wrong(unlike others: [Int64]) -> Int64 {
        while true {
            let size = [1000, 60_000, 3_600_000, Int64(year), 30 * Int64(year)][below(5)]
            let wrong = Int64.random(in: -size...size, using: &self)
            if wrong.magnitude <= 60_000 || others.allSatisfy({ ($0 - wrong).magnitude > 600_000 }) { return wrong }
        }
    }
}
