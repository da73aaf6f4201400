import CRM
import Causality
import ReplicaStore
import SimulationKit
import SyncProtocol
import TestKit
import Testing

/// What no node of ours would send, but a broken or hostile one may.
@Suite("Bad input at head office")
struct BadInputTests {
    @Test(
        "A lie is refused with a code and a sentence, counted, shown, and changes nothing",
        arguments: Lie.allCases.filter { $0 != .otherContent }
    )
    func lies(lie: Lie) throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        _ = try Office.branch("shiraz", of: hub)
        try branch.add(["name": .text("مریم")])
        try branch.sync(with: hub)
        let before = try hub.state()
        let hello = try branch.replica.childFacts()
        let peer = SyncPeer(node: hello.node, origin: hello.origin)
        _ = try hub.replica.decideWelcome(hello, receivedAtMilliseconds: hub.wallMilliseconds)
        let batch = try lie.batch(hello, now: hub.wallMilliseconds)
        let failure = #expect(throws: SyncStoreFailure.self) { try hub.replica.apply([batch], from: peer) }
        guard case .refused(let refusal) = failure else {
            Issue.record("\(lie) ended as \(String(describing: failure))")
            return
        }
        #expect(!refusal.sentence.isEmpty)
        #expect(try hub.state() == before)
        let node = try hub.replica.registeredNodes().first { $0.name == "isfahan" }
        #expect(node?.refusals == 1)
        #expect(node?.lastRefusal == refusal.sentence)
        let counted = try hub.replica.refusals()
        #expect(counted.map(\.code) == [refusal.code])
        #expect(counted.map(\.node) == [hello.node])
        // The branch itself is as welcome as ever.
        try branch.add(["name": .text("زهرا")])
        try branch.sync(with: hub)
        #expect(try hub.replica.registeredNodes().first { $0.name == "isfahan" }?.lastRefusal == nil)
    }

    @Test("A node of another organisation and one that nobody knows are refused and counted as strangers")
    func strangers() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        let other = try Office.headOffice()
        let stranger = try Office.branch("isfahan", of: other)
        #expect(throws: SyncFailure.self) { try stranger.sync(with: hub) }
        var hello = try branch.replica.childFacts()
        hello.key = Key256(bytes: [UInt8](repeating: 1, count: Key256.byteCount)) ?? hello.key
        #expect(throws: SyncStoreFailure.self) {
            try hub.replica.decideWelcome(hello, receivedAtMilliseconds: hub.wallMilliseconds)
        }
        let counted = try hub.replica.refusals()
        #expect(counted.map(\.count).reduce(0, +) == 2)
        #expect(counted.contains { $0.code == .wrongOrganisation && $0.node == nil })
        #expect(counted.contains { $0.code == .unknownNode })
    }
}

@Suite("Bad answers at a branch")
struct BadAnswerTests {
    @Test(
        "A head office that says it holds more of a change set than there can be is refused, and the branch goes on",
        arguments: [UInt64(Int32.max) + 1, UInt64(Int64.max), .max]
    )
    func heldBeyondEnd(held: UInt64) throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        try branch.add(["name": .text("مریم")])
        let hello = try branch.replica.childFacts()
        // The first byte of its first change set, offered to be kept.
        var question = ByteWriter()
        for number in [UInt64(hello.origin.rawValue), 1, 0] { question.varint(number) }
        question.byte(1)
        var answer = ByteWriter()
        answer.varint(held)
        let failure = #expect(throws: SyncStoreFailure.self) {
            try branch.replica.take(
                SyncAnswer(payload: answer.bytes),
                to: SyncQuestion(kind: 13, payload: question.bytes)
            )
        }
        guard case .refused(let refusal) = failure else {
            Issue.record("It ended as \(String(describing: failure))")
            return
        }
        #expect(refusal.code == .invalidChange)
        try branch.sync(with: hub)
        try expectEqual([hub, branch])
    }
}
