import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit
import Testing
import Trust

@testable import ReplicaStore

@Suite("Change sets by file")
struct BundleTests {
    private let home = TemporaryDirectory()
    private let hub: Office
    private let branch: Office
    private let other: Office

    init() async throws {
        hub = try Office.headOffice()
        try hub.replica.prepareAuthority()
        branch = try await Self.certified("isfahan", hub)
        other = try await Self.certified("shiraz", hub)
    }

    /// A branch with a certificate, as enrolment over a line gives it.
    private static func certified(_ name: String, _ hub: Office) async throws -> Office {
        let office = try Office.unjoined(name)
        let invitation = try hub.replica.invite(name, randomBytes: bytes)
        let nonce = try #require(Key256(bytes: bytes(Key256.byteCount)))
        var join = try office.replica.join(with: invitation, nonce: nonce)
        join.nonce = nonce
        try await office.replica.completeJoin(hub.replica.decideJoin(join), with: invitation)
        return office
    }

    private static func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in .random(in: 0...255) } }

    private func path(_ name: String) -> String { home.path + "/" + name }

    @discardableResult
    private func write(_ office: Office, _ name: String, for receiver: String? = nil) throws -> BundleReport {
        try office.replica.writeBundle(to: path(name), for: receiver, randomBytes: Self.bytes) { _ in }
    }

    @discardableResult
    private func read(_ office: Office, _ name: String) throws -> BundleReport {
        try office.replica.readBundle(from: path(name)) { _ in }
    }

    /// Carries a bundle there and one back.
    private func exchange(_ branch: Office, _ name: String) throws {
        try write(branch, "there")
        try read(hub, "there")
        try write(hub, "back", for: name)
        try read(branch, "back")
    }

    @Test("A branch that never has a line works with head office by files, and both are equal")
    func withoutLine() throws {
        for number in 0..<20 { try branch.add(["name": .text("مشتری \(number)")]) }
        try hub.add(["name": .text("از تهران")])
        try exchange(branch, "isfahan")
        try exchange(other, "shiraz")
        try other.add(["name": .text("از شیراز")])
        try exchange(other, "shiraz")
        try exchange(branch, "isfahan")
        try exchange(other, "shiraz")
        #expect(try hub.replica.read { try $0.count(.customer) } == 22)
        try expectEqual([hub, branch, other])
        // What each has of the other came back, so nothing is carried twice.
        try exchange(branch, "isfahan")
        #expect(try write(branch, "empty").changeSets == 0)
        #expect(try write(hub, "empty", for: "isfahan").changeSets == 0)
        #expect(try branch.replica.status().ahead.changeSets == 0)
        // A line that comes later goes on from there.
        #expect(try branch.sync(with: hub) == nil)
        #expect(branch.lastTotals.withLock { $0.sent.changeSets + $0.received.changeSets } == 0)
    }

    @Test("Bundles that are lost, read twice, or read in another order change nothing in the end")
    func anyOrder() throws {
        try branch.add(["name": .text("1")])
        try write(branch, "first")
        try branch.add(["name": .text("2")])
        try write(branch, "second")
        try branch.add(["name": .text("3")])
        try write(branch, "third")
        #expect(try read(hub, "second").changeSets == 2)
        #expect(try read(hub, "first").changeSets == 0)
        #expect(try read(hub, "second").changeSets == 0)
        #expect(try read(hub, "third").changeSets == 1)
        #expect(try hub.replica.read { try $0.count(.customer) } == 3)
        try write(hub, "a", for: "isfahan")
        try hub.add(["name": .text("4")])
        try write(hub, "b", for: "isfahan")
        try read(branch, "b")
        #expect(try read(branch, "a").changeSets == 0)
        try expectEqual([hub, branch])
        #expect(try branch.replica.status().ahead.changeSets == 0)
    }

    @Test("A change set that is larger than a batch is carried, too")
    func large() throws {
        var random = SeededRandom(seed: 7)
        _ = try branch.replica.write { transaction in
            for _ in 0..<40 {
                let text = String((0..<60_000).map { _ in Character(UnicodeScalar(UInt8(33 + random.below(90)))) })
                try transaction.insert("customer", ["name": .text("x"), "note": .text(text)])
            }
        }
        try exchange(branch, "isfahan")
        #expect(try hub.replica.read { try $0.count(.customer) } == 40)
        try exchange(other, "shiraz")
        try exchange(branch, "isfahan")
        try exchange(other, "shiraz")
        try expectEqual([hub, branch, other])
    }

    @Test("Nobody but the node that it is for can open a bundle, and no text of it lies open in the file")
    func sealed() throws {
        try branch.add(["name": .text("peculiar-name-of-a-customer")])
        try write(branch, "there")
        #expect(throws: BundleFailure.notForThisNode(path("there"))) { try read(other, "there") }
        try read(hub, "there")
        try write(hub, "back", for: "shiraz")
        #expect(throws: BundleFailure.notForThisNode(path("back"))) { try read(branch, "back") }
        for name in ["there", "back"] {
            let bytes = try Data(contentsOf: URL(filePath: path(name)))
            #expect(bytes.range(of: Data("peculiar".utf8)) == nil)
        }
        let foreign = try Office.headOffice()
        #expect(throws: BundleFailure.notForThisNode(path("there"))) { try read(foreign, "there") }
    }

    @Test("A bundle that was cut, changed, or put together by somebody else is refused, and nothing is taken")
    func damaged() throws {
        try branch.add(["name": .text("1")])
        try write(branch, "there")
        let whole = [UInt8](try Data(contentsOf: URL(filePath: path("there"))))
        let before = try hub.rows()
        for length in stride(from: 0, to: whole.count, by: max(1, whole.count / 40)) {
            try Data(whole.prefix(length)).write(to: URL(filePath: path("cut")))
            #expect(throws: (any Error).self) { try read(hub, "cut") }
        }
        for index in stride(from: 0, to: whole.count, by: max(1, whole.count / 60)) {
            var damaged = whole
            damaged[index] ^= 1
            try Data(damaged).write(to: URL(filePath: path("damaged")))
            #expect(throws: (any Error).self) { try read(hub, "damaged") }
        }
        #expect(try hub.rows() == before)
        try read(hub, "there")
        #expect(try hub.replica.read { try $0.count(.customer) } == 1)
    }

    @Test("A branch that was revoked, paused, or restored from a copy hands nothing in by file")
    func standing() throws {
        try branch.add(["name": .text("1")])
        try write(branch, "there")
        try hub.replica.decide(.pause, about: "isfahan")
        #expect(throws: BundleFailure.self) { try read(hub, "there") }
        try hub.replica.decide(.resume, about: "isfahan")
        try hub.replica.decide(.revoke, about: "shiraz")
        try other.add(["name": .text("2")])
        try write(other, "revoked")
        #expect(throws: BundleFailure.self) { try read(hub, "revoked") }
        #expect(throws: BundleFailure.unknownNode("shiraz")) { try write(hub, "x", for: "shiraz") }
        #expect(throws: BundleFailure.noReceiver) { try write(hub, "x") }
        #expect(try hub.replica.read { try $0.count(.customer) } == 0)
        try read(hub, "there")
        #expect(try hub.replica.read { try $0.count(.customer) } == 1)
    }

    @Test("A bundle that was weeks on its way says nothing about the branch's clock")
    func clock() throws {
        try branch.add(["name": .text("1")])
        try write(branch, "there")
        hub.wait(40 * 86_400_000)
        try read(hub, "there")
        #expect(try hub.replica.status().clockTrust == .trusted)
        let fleet = try hub.replica.registeredNodes()
        #expect(fleet.first { $0.name == "isfahan" }?.skewMilliseconds == nil)
    }

    @Test("Head office's signed receipt comes back by file, and an older file takes nothing of it away")
    func receipts() throws {
        try branch.add(["name": .text("1")])
        try exchange(branch, "isfahan")
        let first = try Data(contentsOf: URL(filePath: path("back")))
        #expect(try branch.replica.ownReceipt().confirmed?.statement.seq == 1)
        #expect(try branch.replica.ownReceipt().isReplaceable)
        try branch.add(["name": .text("2")])
        #expect(try !branch.replica.ownReceipt().isReplaceable)
        try exchange(branch, "isfahan")
        #expect(try branch.replica.ownReceipt().isReplaceable)
        try first.write(to: URL(filePath: path("old")))
        #expect(try read(branch, "old").changeSets == 0)
        #expect(try branch.replica.ownReceipt().confirmed?.statement.seq == 2)
    }

    @Test("A branch without a line keeps how far head office's audit log reaches, and tells it back")
    func audit() throws {
        #expect(try hub.replica.verifyAudit().anchoredThrough == 0)
        try exchange(branch, "isfahan")
        try exchange(branch, "isfahan")
        let verdict = try hub.replica.verifyAudit()
        #expect(verdict.findings.isEmpty && verdict.entries > 0 && verdict.anchoredThrough == verdict.entries)
    }

    @Test("What lies in a bundle keeps its time, although a line that comes before it could correct the clock")
    func carriedTime() throws {
        // Within what head office lets pass.
        branch.setWall(by: 60_000)
        try branch.add(["name": .text("1")])
        try write(branch, "there")
        try branch.add(["name": .text("2")])
        // The line breaks after the clock was measured, and before anything was handed in.
        try branch.sync(with: hub, cutAfter: 2)
        #expect(try hub.replica.read { try $0.count(.customer) } == 0)
        try read(hub, "there")
        #expect(try hub.replica.read { try $0.count(.customer) } == 1)
        try exchange(branch, "isfahan")
        #expect(try hub.replica.read { try $0.count(.customer) } == 2)
        try expectEqual([hub, branch])
    }

    @Test("A file that says that a record is larger than any message is refused before it is read")
    func oversized() throws {
        try branch.add(["name": .text("1")])
        try write(branch, "there")
        var bytes = [UInt8](try Data(contentsOf: URL(filePath: path("there"))).prefix(16))
        bytes += [1, 0, 0, 0, 4] + [UInt8](repeating: 0, count: 1 << 20)
        try Data(bytes).write(to: URL(filePath: path("large")))
        #expect(throws: SnapshotFileFailure.damaged(path("large"), offset: 16)) { try read(hub, "large") }
    }
}
