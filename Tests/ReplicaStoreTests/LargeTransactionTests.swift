import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit
import Testing

@testable import ReplicaStore

@Suite("Large transactions")
struct LargeTransactionTests {
    /// Text that does not compress.
    private func noise(_ count: Int, _ random: inout SeededRandom) -> String {
        String((0..<count).map { _ in Character(UnicodeScalar(UInt8.random(in: 33...126, using: &random))) })
    }

    private func addNoise(_ rows: Int, bytesEach: Int, to office: Office, _ random: inout SeededRandom) throws {
        _ = try office.replica.write { transaction in
            for _ in 0..<rows {
                try transaction.insert("customer", ["name": .text("x"), "note": .text(noise(bytesEach, &random))])
            }
        }
    }

    @Test("A transaction larger than a message arrives whole, both ways, and is passed on", arguments: [true, false])
    func bothWays(fromBranch: Bool) throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        let other = try Office.branch("shiraz", of: hub)
        var random = SeededRandom(seed: testSeed("large"))
        try addNoise(40, bytesEach: 1000, to: fromBranch ? branch : hub, &random)
        for office in [branch, other, branch] { try office.sync(with: hub, bytesMax: 4096) }
        #expect(try branch.state() == hub.state())
        #expect(try other.state() == hub.state())
        #expect(try branch.isProvedEqual(to: hub))
        #expect(try spooled(hub).isEmpty && spooled(branch).isEmpty && spooled(other).isEmpty)
        // One row of the log, one time.
        #expect(try branch.replica.read { try $0.log(after: nil, limit: 10).filter { $0.rows == 40 }.count } == 1)
    }

    @Test("After a cut only the missing parts are sent, whatever the side that sends", arguments: [true, false])
    func resumed(fromBranch: Bool) throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        var random = SeededRandom(seed: testSeed("large resumed"))
        try branch.sync(with: hub)
        try addNoise(40, bytesEach: 1000, to: fromBranch ? branch : hub, &random)
        #expect(try branch.sync(with: hub, bytesMax: 1024, cutAfter: 50) != nil)
        let half = try spooled(fromBranch ? hub : branch).first?.bytes ?? 0
        #expect(half > 10_000 && half < 30_000)
        try branch.sync(with: hub, bytesMax: 1024)
        // What was held was not sent again; the rest of the session is small.
        #expect(branch.lastBytes < 40_000 - half + 6_000)
        #expect(try branch.state() == hub.state())
    }

    @Test("What has come of a large transaction is thrown away when a customer is erased, and comes again")
    func erasedMeanwhile() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        let id = try hub.add(["name": .text("مریم")])
        try branch.sync(with: hub)
        var random = SeededRandom(seed: testSeed("large erased"))
        try addNoise(40, bytesEach: 1000, to: branch, &random)
        #expect(try branch.sync(with: hub, bytesMax: 1024, cutAfter: 50) != nil)
        #expect(try !spooled(hub).isEmpty)
        _ = try hub.replica.erase(customer: id)
        #expect(try spooled(hub).isEmpty)
        for _ in 0..<2 { try branch.sync(with: hub, bytesMax: 1024) }
        #expect(try hub.replica.read { try $0.count(.customer) } == 40)
        #expect(try branch.state() == hub.state())
    }

    @Test("While only half of a transaction has come, nobody has any of it, and who writes then has seen none of it")
    func halfIsNothing() throws {
        let hub = try Office.headOffice()
        let (branch, other) = (try Office.branch("isfahan", of: hub), try Office.branch("shiraz", of: hub))
        let id = try hub.add(["name": .text("مریم")])
        for office in [branch, other] { try office.sync(with: hub) }
        var random = SeededRandom(seed: testSeed("large half"))
        _ = try branch.replica.write { transaction in
            try transaction.update("customer", id: id, ["note": .text("در تراکنش")])
            for _ in 0..<40 {
                try transaction.insert("customer", ["name": .text("x"), "note": .text(noise(1000, &random))])
            }
        }
        #expect(try branch.sync(with: hub, bytesMax: 1024, cutAfter: 50) != nil)
        #expect(try spooled(hub).first?.bytes ?? 0 > 10_000)
        try other.sync(with: hub)
        for office in [hub, other] {
            #expect(try office.replica.read { try $0.count(.customer) } == 1)
            #expect(try office.value("note", of: id) == .null)
        }
        other.wallMilliseconds += 1000
        try other.edit(id, ["note": .text("از دیگری")])
        for office in [other, branch, other, branch] { try office.sync(with: hub, bytesMax: 1024) }
        // The two knew nothing of each other.
        #expect(try hub.replica.read { try $0.count(.conflict) } == 1)
        for office in [hub, branch, other] {
            #expect(try office.replica.read { try $0.count(.customer) } == 41)
            #expect(try office.value("note", of: id) == .text("از دیگری"))
        }
        try expectEqual([hub, branch, other])
    }

    @Test("Parts that the disk has spoilt are noticed, and come again")
    func spoilt() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        var random = SeededRandom(seed: testSeed("large spoilt"))
        try addNoise(40, bytesEach: 1000, to: branch, &random)
        #expect(try branch.sync(with: hub, bytesMax: 1024, cutAfter: 50) != nil)
        let file = try #require(try spooled(hub).first)
        var bytes = try Data(contentsOf: URL(fileURLWithPath: file.path))
        bytes[bytes.count / 2] ^= 1
        try bytes.write(to: URL(fileURLWithPath: file.path))
        #expect(throws: SyncFailure.self) { try branch.sync(with: hub, bytesMax: 1024) }
        try branch.sync(with: hub, bytesMax: 1024)
        #expect(try branch.state() == hub.state())
    }

    @Test("A large content is looked at in a file, a small one in memory, and both say the same")
    func scratch() throws {
        let home = TemporaryDirectory()
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        // Compresses to little, so that it travels in a batch.
        _ = try branch.replica.write { transaction in
            for _ in 0..<90 {
                try transaction.insert(
                    "customer",
                    ["name": .text("x"), "note": .text(String(repeating: "م", count: 30_000))]
                )
            }
        }
        try branch.sync(with: hub)
        #expect(try branch.state() == hub.state())
        let file = try MappedFile(scratchIn: home.path, byteCount: 10_000) { $0[9_999] = 7 }
        #expect(file.bytes[9_999] == 7 && file.bytes.count == 10_000)
        #expect(try FileManager.default.contentsOfDirectory(atPath: home.path) == [])
    }

    @Test("A spool that is full refuses more, and lets go of what nobody adds to")
    func spoolLimit() throws {
        let home = TemporaryDirectory()
        let spool = Spool(directory: home.path + "/spool")
        func body(_ seq: UInt64, _ bytes: Int) -> LargeBody {
            LargeBody(
                id: ChangeSetID(origin: Origin(rawValue: 2)!, seq: seq),
                byteCount: bytes,
                hash: [UInt8](repeating: UInt8(seq), count: 32)
            )
        }
        #expect(try spool.open(body(1, 64 << 20)) == 0)
        // Sparse files stand for the bytes.
        for seq in UInt64(1)...4 {
            _ = FileManager.default.createFile(atPath: home.path + "/spool/3-\(seq)-aa", contents: nil)
            #expect(truncate(home.path + "/spool/3-\(seq)-aa", 60 << 20) == 0)
        }
        #expect(throws: Refusal.self) { try spool.open(body(1, 64 << 20)) }
        var times = [timeval(tv_sec: 0, tv_usec: 0), timeval(tv_sec: 0, tv_usec: 0)]
        #expect(utimes(home.path + "/spool/3-2-aa", &times) == 0)
        #expect(try spool.open(body(1, 64 << 20)) == 0)
        #expect(!FileManager.default.fileExists(atPath: home.path + "/spool/3-2-aa"))
    }

    @Test("A turn of the writer ends between two change sets when somebody waits, and at its limit in any case")
    func turns() {
        let turn = WriterTurn()
        #expect(!turn.mustEnd(rows: 19_999, elapsed: .seconds(9), isAwaited: false))
        #expect(turn.mustEnd(rows: 20_000, elapsed: .zero, isAwaited: false))
        #expect(!turn.mustEnd(rows: 10, elapsed: .milliseconds(49), isAwaited: true))
        #expect(turn.mustEnd(rows: 10, elapsed: .milliseconds(50), isAwaited: true))
    }

    @Test("The pace of bulk work follows how long a turn took")
    func pace() {
        var pace = WorkPace(unitsMin: 100, unitsMax: 4000)
        #expect(pace.units == 4000)
        pace.took(.milliseconds(400), for: 4000)
        #expect(pace.units == 1000)
        // Faster again: twice as much at most.
        pace.took(.milliseconds(10), for: 1000)
        #expect(pace.units == 2000)
        pace.took(.seconds(60), for: 2000)
        #expect(pace.units == 100)
        pace.took(.zero, for: 0)
        #expect(pace.units == 100)
    }

    /// The files of large change sets that are arriving.
    private func spooled(_ office: Office) throws -> [(path: String, bytes: Int)] {
        let directory = office.replica.spool.directory
        guard FileManager.default.fileExists(atPath: directory) else { return [] }
        return try FileManager.default.contentsOfDirectory(atPath: directory).map { name in
            let path = directory + "/" + name
            return (path, try Data(contentsOf: URL(fileURLWithPath: path)).count)
        }
    }
}
