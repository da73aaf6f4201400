import Causality
import Testing

@testable import SyncProtocol

@Suite("Sync session")
struct SyncSessionTests {
    private typealias Action = SyncSession.Action

    // MARK: Helpers

    private static let hubPeer = SyncPeer(node: .sample(9), origin: .hub)
    private static let childPeer = SyncPeer(node: .sample(17), origin: .child)

    private static let small: SyncLimits = {
        var limits = SyncLimits()
        limits.batchBytesMax = 300
        // Large from the first one on; how they grow is another suite's.
        limits.firstBatchBytes = limits.partBytesMax
        limits.bytesInFlightMax = 300
        limits.batchesInFlightMax = 3
        limits.batchEntriesMax = 20
        return limits
    }()

    /// A child that streams; the actions are what adopting the welcome led to.
    private func child(
        isOneShot: Bool = false,
        _ hello: Hello = .sample(),
        _ welcome: Welcome = .sample(end: .sample(9))
    ) -> (SyncSession, [Action]) {
        var session = SyncSession(role: .child(isOneShot: isOneShot), limits: Self.small)
        _ = session.handle(.linkOpened)
        _ = session.handle(.factsRead(.success(hello)))
        _ = session.handle(.received(.welcome(welcome), atMilliseconds: 1_100))
        let actions = session.handle(.welcomeAdopted(.success(.goOn)))
        let done = withoutQuestions(&session, actions)
        return (session, done)
    }

    /// A hub that streams; the actions are what letting the child in led to.
    private func hub(
        _ hello: Hello = .sample(),
        _ welcome: Welcome = .sample(end: .sample(9))
    ) -> (SyncSession, [Action]) {
        var session = SyncSession(role: .hub, limits: Self.small)
        _ = session.handle(.linkOpened)
        _ = session.handle(.received(.hello(hello), atMilliseconds: 5_000))
        let actions = session.handle(.welcomeDecided(.success(welcome)))
        return (session, actions)
    }

    /// What a child does once its store, consulted, has said that there is nothing to ask.
    private func withoutQuestions(_ session: inout SyncSession, _ actions: [Action]) -> [Action] {
        guard case .consult? = actions.last else { return actions }
        return actions.dropLast() + session.handle(.stepDecided(.success(.goOn)))
    }

    private func received(_ message: SyncMessage) -> SyncSession.Event {
        .received(message, atMilliseconds: 1_000)
    }

    private func closing(_ actions: [Action]) -> SyncFailure? {
        guard case .close(let failure)? = actions.last else { return nil }
        return failure
    }

    private func endsCleanly(_ actions: [Action]) -> Bool { actions.last == .close(nil) }

    private func ownRequest(after seq: UInt64) -> Action {
        .readBatch(.own(afterSeq: seq, bytesMax: 300, entriesMax: 20))
    }

    private func logRequest(after position: UInt64) -> Action {
        .readBatch(.log(afterPosition: position, for: .child, bytesMax: 300, entriesMax: 20))
    }

    private func appliedAtChild(_ position: UInt64) -> SyncSession.Event {
        .applied(
            .success(
                ApplyOutcome(
                    durable: .position(.sample(position)),
                    changeSets: 2,
                    rows: 5,
                    conflicts: 1,
                    parked: 1
                )
            )
        )
    }

    private func appliedAtHub(_ seq: UInt64) -> SyncSession.Event {
        .applied(
            .success(
                ApplyOutcome(durable: .seq(seq, chain: 4), changeSets: 2, rows: 5, conflicts: 0, parked: 0)
            )
        )
    }

    // MARK: Greeting

    @Test("A silent child is dropped when the greeting timer fires")
    func silentChild() {
        var session = SyncSession(role: .hub)
        #expect(session.handle(.linkOpened) == [.startTimer(.greeting, .seconds(10))])
        #expect(
            session.handle(.timerFired(.greeting)) == [.close(.greetingTimedOut(after: .seconds(10)))]
        )
    }

    @Test("A silent hub is given up when the greeting timer fires")
    func silentHub() {
        var session = SyncSession(role: .child(isOneShot: true))
        _ = session.handle(.linkOpened)
        let hello = Hello.sample()
        #expect(
            session.handle(.factsRead(.success(hello)))
                == [.send(.hello(hello)), .startTimer(.greeting, .seconds(60))]
        )
        #expect(
            session.handle(.timerFired(.greeting)) == [.close(.greetingTimedOut(after: .seconds(60)))]
        )
    }

    @Test("A child whose store cannot say what it has does not call anyone")
    func noFacts() {
        var session = SyncSession(role: .child(isOneShot: false))
        #expect(session.handle(.linkOpened) == [.readFacts])
        #expect(
            session.handle(.factsRead(.failure(.unavailable("Disk full."))))
                == [.close(.storeFailed("Disk full."))]
        )
    }

    @Test("A child with another protocol version is refused with a sentence")
    func wrongVersion() {
        var session = SyncSession(role: .hub)
        _ = session.handle(.linkOpened)
        var hello = Hello.sample()
        hello.protocolMin = SyncProtocolVersion.highest + 1
        hello.protocolMax = SyncProtocolVersion.highest + 2
        let actions = session.handle(received(.hello(hello)))
        guard case .send(.refuse(let refusal))? = actions.first else {
            Issue.record("No refusal")
            return
        }
        #expect(refusal.code == .protocolVersion)
        #expect(refusal.sentence.contains("\(hello.protocolMin) to \(hello.protocolMax)"))
        #expect(session.isClosed)
    }

    @Test("A child whom the store does not want is told why")
    func refusedChild() {
        let refusal = Refusal(.revoked, "This branch was revoked.")
        var session = SyncSession(role: .hub)
        _ = session.handle(.linkOpened)
        _ = session.handle(received(.hello(.sample())))
        #expect(
            session.handle(.welcomeDecided(.failure(.refused(refusal))))
                == [.send(.refuse(refusal)), .close(.refusedPeer(refusal))]
        )
    }

    @Test("A child that is refused learns when to come back")
    func refused() {
        let refusal = Refusal(.busy, "Later.", retryAfterSeconds: 30)
        var session = SyncSession(role: .child(isOneShot: false))
        _ = session.handle(.linkOpened)
        _ = session.handle(.factsRead(.success(.sample())))
        let actions = session.handle(received(.refuse(refusal)))
        #expect(actions == [.close(.refused(refusal))])
        #expect(closing(actions)?.retryAfterSeconds == 30)
    }

    @Test("The first word of a child must be hello or join", arguments: SyncMessage.samples)
    func firstWord(message: SyncMessage) {
        var session = SyncSession(role: .hub)
        _ = session.handle(.linkOpened)
        let actions = session.handle(received(message))
        switch message {
        case .hello(let hello): #expect(actions == [.decideWelcome(hello, receivedAtMilliseconds: 1_000)])
        case .join(let join): #expect(actions == [.decideJoin(join)])
        default: #expect(session.isClosed && closing(actions) != nil)
        }
    }

    @Test("A hub that knows just what the child has said does not repeat it")
    func shortWelcome() {
        let hello = Hello.sample(ownSeq: 4, cursor: .sample(9))
        let welcome = Welcome.sample(acceptedSeq: 4, end: .sample(9), root: .sample)
        var hub = SyncSession(role: .hub)
        _ = hub.handle(.linkOpened)
        _ = hub.handle(received(.hello(hello)))
        guard case .send(.welcome(let short))? = hub.handle(.welcomeDecided(.success(welcome))).first else {
            Issue.record("No welcome")
            return
        }
        #expect(short.repeatsHello && short.end == .empty)
        var child = SyncSession(role: .child(isOneShot: false))
        _ = child.handle(.linkOpened)
        _ = child.handle(.factsRead(.success(hello)))
        guard case .adoptWelcome(let whole, _)? = child.handle(received(.welcome(short))).first else {
            Issue.record("Not adopted")
            return
        }
        #expect(whole == welcome)
    }

    @Test("The clock is measured with four timestamps before anything moves")
    func clock() {
        var session = SyncSession(role: .child(isOneShot: false))
        _ = session.handle(.linkOpened)
        _ = session.handle(.factsRead(.success(.sample(ownSeq: 3, sentAtMilliseconds: 1_000))))
        let welcome = Welcome.sample(end: .sample(9))
        // Sent at 1000, arrived at 5010, answered at 5020, back at 1030: 20 ms on the line, 4000 ahead.
        let actions = session.handle(.received(.welcome(welcome), atMilliseconds: 1_030))
        let clock = ClockMeasurement(offsetMilliseconds: 4_000, roundTripMilliseconds: 20)
        #expect(
            actions == [.adoptWelcome(welcome, clock: clock), .startTimer(.heartbeat, .seconds(15))]
        )
    }

    @Test("Wild times of a peer do not overflow")
    func wildTimes() {
        var session = SyncSession(role: .child(isOneShot: false))
        _ = session.handle(.linkOpened)
        _ = session.handle(.factsRead(.success(.sample(sentAtMilliseconds: .max))))
        var welcome = Welcome.sample()
        welcome.receivedAtMilliseconds = 0
        welcome.sentAtMilliseconds = .max
        let actions = session.handle(.received(.welcome(welcome), atMilliseconds: 0))
        #expect(actions.count == 2)
    }

    @Test("Nothing is sent or applied before the store has adopted the welcome")
    func heldUntilAdopted() {
        var session = SyncSession(role: .child(isOneShot: false), limits: Self.small)
        _ = session.handle(.linkOpened)
        _ = session.handle(.factsRead(.success(.sample(ownSeq: 3))))
        _ = session.handle(.received(.welcome(.sample(end: .sample(9))), atMilliseconds: 1_030))
        #expect(session.handle(received(.changes(.log(1...2)))) == [])
        #expect(session.handle(.logGrew) == [])
        #expect(
            session.handle(.welcomeAdopted(.success(.goOn)))
                == [.apply([.log(1...2)], from: Self.hubPeer), ownRequest(after: 0)]
        )
    }

    @Test("A child that must not go on with this hub says so and leaves")
    func notAdopted() {
        let refusal = Refusal(.forked, "The chains differ at 3.")
        var session = SyncSession(role: .child(isOneShot: false))
        _ = session.handle(.linkOpened)
        _ = session.handle(.factsRead(.success(.sample())))
        _ = session.handle(received(.welcome(.sample())))
        let actions = session.handle(.welcomeAdopted(.failure(.refused(refusal))))
        #expect(actions.first == .send(.refuse(refusal)))
        #expect(closing(actions) == .refusedPeer(refusal))
    }

    // MARK: Join

    @Test("A newcomer is taken in and leaves")
    func join() {
        var newcomer = SyncSession(role: .joiner(.sample))
        var hub = SyncSession(role: .hub)
        _ = hub.handle(.linkOpened)
        #expect(newcomer.handle(.linkOpened).first == .send(.join(.sample)))
        #expect(hub.handle(received(.join(.sample))) == [.decideJoin(.sample)])
        #expect(hub.handle(.joinDecided(.success(.sample))).first == .send(.joined(.sample)))
        #expect(
            newcomer.handle(received(.joined(.sample)))
                == [.joined(.sample), .send(.bye(reason: "done")), .close(nil)]
        )
        #expect(endsCleanly(hub.handle(received(.bye(reason: "done")))))
    }

    @Test("A newcomer with a used invitation is told so")
    func usedInvitation() {
        let refusal = Refusal(.invitationUsed, "This invitation was used.")
        var hub = SyncSession(role: .hub)
        _ = hub.handle(.linkOpened)
        _ = hub.handle(received(.join(.sample)))
        let actions = hub.handle(.joinDecided(.failure(.refused(refusal))))
        #expect(actions == [.send(.refuse(refusal)), .close(.refusedPeer(refusal))])
    }

    @Test("After a join no hello is accepted on the same line")
    func helloAfterJoin() {
        var hub = SyncSession(role: .hub)
        _ = hub.handle(.linkOpened)
        _ = hub.handle(received(.join(.sample)))
        _ = hub.handle(.joinDecided(.success(.sample)))
        #expect(closing(hub.handle(received(.hello(.sample())))) != nil)
    }

    // MARK: Sending

    @Test("A child sends what the hub has not accepted, by seq")
    func childSends() {
        var (session, actions) = child(.sample(ownSeq: 7), .sample(acceptedSeq: 4, end: .sample(9)))
        #expect(actions == [ownRequest(after: 4)])
        let batch = ChangeBatch.own(2)
        #expect(
            session.handle(.batchRead(.success(OutgoingBatch(batch, isAtEnd: false))))
                == [.send(.changes(batch)), ownRequest(after: 6)]
        )
        #expect(session.handle(.batchRead(.success(OutgoingBatch(.own(1))))) == [.send(.changes(.own(1)))])
    }

    @Test("A hub sends its log after the child's cursor, by position")
    func hubSends() {
        var (session, actions) = hub(.sample(cursor: .sample(4)))
        #expect(actions.last == logRequest(after: 4))
        #expect(
            session.handle(.batchRead(.success(OutgoingBatch(.log(5...9)))))
                == [.send(.changes(.log(5...9)))]
        )
    }

    @Test("Reading stops when the window of batches is full, and goes on with an acknowledgement")
    func windowOfBatches() {
        var (session, _) = hub()
        for position in UInt64(1)...2 {
            let batch = OutgoingBatch(.log(position...position), isAtEnd: false)
            #expect(session.handle(.batchRead(.success(batch))).last == logRequest(after: position))
        }
        let third = OutgoingBatch(.log(3...3), isAtEnd: false)
        #expect(session.handle(.batchRead(.success(third))) == [.send(.changes(.log(3...3)))])
        #expect(session.handle(.logGrew) == [])
        #expect(session.handle(received(.appliedPosition(.sample(1)))).last == logRequest(after: 3))
    }

    @Test("Reading stops when the window of bytes is full")
    func windowOfBytes() {
        var (session, _) = hub()
        let large = OutgoingBatch(.log(1...1, bytesEach: 300), isAtEnd: false)
        #expect(session.handle(.batchRead(.success(large))).count == 1)
        #expect(session.handle(received(.appliedPosition(.sample(1)))).last == logRequest(after: 1))
    }

    @Test("One acknowledgement may cover several batches")
    func cumulativeAcknowledgement() {
        var (session, _) = hub()
        for position in UInt64(1)...3 {
            let batch = OutgoingBatch(.log(position...position), isAtEnd: false)
            _ = session.handle(.batchRead(.success(batch)))
        }
        #expect(
            session.handle(received(.appliedPosition(.sample(3))))
                == [.record(.childAcknowledged(.sample(3)), of: Self.childPeer), logRequest(after: 3)]
        )
        #expect(session.totals.sent.changeSets == 3)
        #expect(session.totals.sent.rows == 6)
    }

    @Test(
        "An acknowledgement of what was never sent ends the session",
        arguments: [
            LogPrefix.sample(4), .empty, LogPrefix(position: 3, digest: 1), .sample(2), .sample(.max),
        ]
    )
    func wildAcknowledgement(prefix: LogPrefix) {
        var (session, _) = hub()
        _ = session.handle(.batchRead(.success(OutgoingBatch(.log(1...3)))))
        let actions = session.handle(received(.appliedPosition(prefix)))
        #expect(closing(actions) == .acknowledgedUnknown(prefix.position))
        #expect(session.totals.sent.changeSets == 0)
    }

    @Test("The same acknowledgement twice ends the session")
    func repeatedAcknowledgement() {
        var (session, _) = child(.sample(ownSeq: 1), .sample(end: .sample(9)))
        _ = session.handle(.batchRead(.success(OutgoingBatch(.own(1)))))
        #expect(
            session.handle(received(.appliedSeq(1, chain: 4)))
                == [.record(.hubAccepted(seq: 1, chain: 4), of: Self.hubPeer)]
        )
        #expect(closing(session.handle(received(.appliedSeq(1, chain: 4)))) == .acknowledgedUnknown(1))
    }

    @Test("A local commit is read at once, and once")
    func localCommit() {
        var (session, actions) = child()
        #expect(actions == [])
        #expect(session.handle(.logGrew) == [ownRequest(after: 0)])
        #expect(session.handle(.logGrew) == [])
        // The commit during the read may have been missed by it, so it is read again.
        let batch = ChangeBatch.own(1)
        #expect(
            session.handle(.batchRead(.success(OutgoingBatch(batch))))
                == [.send(.changes(batch)), ownRequest(after: 1)]
        )
        let nothing = OutgoingBatch(.own(0))
        #expect(session.handle(.batchRead(.success(nothing))) == [])
    }

    @Test("A read that fails ends the session, and the peer is told to come back")
    func readFailed() {
        var (session, _) = hub()
        let actions = session.handle(.batchRead(.failure(.unavailable("The disk cannot be read."))))
        let refusal = Refusal(.retryLater, "At head office: The disk cannot be read.", retryAfterSeconds: 30)
        #expect(actions.first == .send(.refuse(refusal)))
        #expect(closing(actions) == .storeFailed("The disk cannot be read."))
    }

    // MARK: Receiving

    @Test("Nothing is acknowledged before the store has committed it")
    func acknowledgedAfterCommit() {
        var (session, _) = child()
        #expect(
            session.handle(received(.changes(.log(1...2)))) == [.apply([.log(1...2)], from: Self.hubPeer)]
        )
        #expect(session.handle(appliedAtChild(2)) == [.send(.appliedPosition(.sample(2)))])
        #expect(session.totals.received.changeSets == 2)
        #expect(session.totals.received.rows == 5)
        #expect(session.totals.conflicts == 1)
        #expect(session.totals.parked == 1)
    }

    @Test("Batches that come while the store is busy are handed over together")
    func batchesTogether() {
        var (session, _) = child()
        _ = session.handle(received(.changes(.log(1...2))))
        #expect(session.handle(received(.changes(.log(3...3)))) == [])
        #expect(session.handle(received(.changes(.log(4...6)))) == [])
        #expect(
            session.handle(appliedAtChild(2)) == [
                .send(.appliedPosition(.sample(2))),
                .apply([.log(3...3), .log(4...6)], from: Self.hubPeer),
            ]
        )
        #expect(session.handle(appliedAtChild(6)) == [.send(.appliedPosition(.sample(6)))])
    }

    @Test("A hub acknowledges a child by seq, and reads its own log for it")
    func hubReceives() {
        var (session, _) = hub(.sample(ownSeq: 2, cursor: .sample(9)))
        #expect(session.handle(received(.changes(.own(2)))) == [.apply([.own(2)], from: Self.childPeer)])
        #expect(
            session.handle(appliedAtHub(2)) == [.send(.appliedSeq(2, chain: 4)), logRequest(after: 9)]
        )
    }

    @Test("A store that fails acknowledges nothing, and the peer is told", arguments: [true, false])
    func applyFailed(isPeersFault: Bool) {
        var (session, _) = hub(.sample(ownSeq: 2))
        _ = session.handle(received(.changes(.own(2))))
        let refusal = Refusal(.invalidChange, "Change set 17:1 contradicts itself.")
        let failure: SyncStoreFailure = isPeersFault ? .refused(refusal) : .unavailable("Disk full.")
        let actions = session.handle(.applied(.failure(failure)))
        let told =
            isPeersFault ? refusal : Refusal(.retryLater, "At head office: Disk full.", retryAfterSeconds: 30)
        let end = isPeersFault ? SyncFailure.refusedPeer(refusal) : .storeFailed("Disk full.")
        #expect(
            actions == [
                .send(.refuse(told)), .record(.ended(end), of: Self.childPeer), .close(end),
            ]
        )
        #expect(session.totals.received.changeSets == 0)
    }

    @Test("A store that did not take everything it was given acknowledges nothing")
    func partlyApplied() {
        var (session, _) = child()
        _ = session.handle(received(.changes(.log(1...2))))
        let actions = session.handle(appliedAtChild(1))
        #expect(!actions.contains(.send(.appliedPosition(.sample(1)))))
        #expect(closing(actions) != nil)
    }

    @Test("A peer that exceeds the window of batches is cut off", arguments: [-1, 0, 1])
    func tooManyBatches(extra: Int) {
        var (session, _) = child()
        var actions: [Action] = []
        for position in 1...UInt64(3 + extra) {
            actions = session.handle(received(.changes(.log(position...position))))
        }
        #expect(session.isClosed == (extra > 0))
        if extra > 0 { #expect(closing(actions) == .windowExceeded(batches: 4, bytes: 20)) }
    }

    @Test("A peer that exceeds the window of bytes is cut off", arguments: [299, 300])
    func tooManyBytes(first: Int) {
        var (session, _) = child()
        _ = session.handle(received(.changes(.log(1...1, bytesEach: first))))
        let actions = session.handle(received(.changes(.log(2...2))))
        if first == 300 {
            #expect(closing(actions) == .windowExceeded(batches: 2, bytes: 305))
        } else {
            #expect(actions == [])
        }
    }

    @Test("A batch at the limit of bytes is taken, a larger one is not, even of a single change set")
    func batchLimit() {
        for (count, bytes, isFine) in [(2, 149, true), (2, 150, true), (2, 151, false), (1, 301, false)] {
            var (session, _) = hub(.sample(ownSeq: 2))
            _ = session.handle(received(.changes(.own(count, bytesEach: bytes))))
            #expect(session.isClosed == !isFine, "\(count) of \(bytes) bytes")
        }
    }

    @Test("A batch at the limit of entries is taken, one more is not", arguments: [19, 20, 21])
    func entriesLimit(count: Int) {
        var (session, _) = hub(.sample(ownSeq: 30))
        _ = session.handle(received(.changes(.own(count, bytesEach: 1))))
        #expect(session.isClosed == (count > 20))
    }

    @Test("A gap, a repeat or a lie in a hub's positions ends the session")
    func positions() {
        var gap = ChangeBatch.log(2...3)
        var wrongEnd = ChangeBatch.log(1...3)
        wrongEnd.end = .sample(4)
        let empty = ChangeBatch(firstPosition: 1, entries: [], end: .empty)
        gap.firstPosition = 2
        for batch in [gap, wrongEnd, empty, .own(1), .log(0...0)] {
            var (session, _) = child()
            #expect(closing(session.handle(received(.changes(batch)))) != nil)
        }
        var (session, _) = child()
        _ = session.handle(received(.changes(.log(1...2))))
        #expect(
            closing(session.handle(received(.changes(.log(1...2)))))
                == .outOfOrder(what: "position", expected: 3, received: 1)
        )
    }

    @Test("A position at the end of all numbers does not overflow")
    func lastPosition() {
        let (_, actions) = child(.sample(cursor: .sample(.max)), .sample(end: .sample(.max)))
        #expect(actions == [])
        var (session, _) = child(.sample(cursor: .sample(.max)), .sample(end: .sample(.max)))
        var batch = ChangeBatch.log(1...1)
        batch.firstPosition = 0
        batch.end = .sample(0)
        #expect(closing(session.handle(received(.changes(batch)))) != nil)
    }

    @Test("A child may send neither stubs nor positions")
    func childPretendsToBeHub() {
        let stub = ChangeEntry.stub(ChangeSetID(origin: .child, seq: 1))
        let stubs = ChangeBatch(firstPosition: 0, entries: [stub], end: .empty)
        for batch in [stubs, ChangeBatch.log(1...1)] {
            var (session, _) = hub()
            #expect(closing(session.handle(received(.changes(batch)))) != nil)
        }
    }

    @Test("Each side hears only what the other may say", arguments: SyncMessage.samples)
    func wrongSide(message: SyncMessage) {
        var (child, _) = child()
        var (hub, _) = hub()
        _ = child.handle(received(message))
        _ = hub.handle(received(message))
        switch message {
        case .appliedPosition, .digestResult, .hello, .welcome, .join, .joined, .held, .part:
            #expect(child.isClosed && hub.isClosed)
        case .ask:
            #expect(child.isClosed && !hub.isClosed)
        case .appliedSeq, .caughtUp, .answer:
            #expect(hub.isClosed)
        case .ping, .pong, .offer:
            #expect(!child.isClosed && !hub.isClosed)
        case .refuse, .bye:
            #expect(child.isClosed && hub.isClosed)
        case .changes:
            break
        }
    }

    // MARK: Parts

    /// A batch with one change set that goes in parts.
    private static func large(_ position: UInt64, bytes: Int) -> (ChangeBatch, LargeBody) {
        let id = ChangeSetID(origin: .other, seq: position)
        let body = LargeBody(id: id, byteCount: bytes, hash: LargeBody.sample.hash)
        let entry = ChangeEntry.large(time: .zero, body)
        return (ChangeBatch(firstPosition: position, entries: [entry], end: .sample(position)), body)
    }

    private static let part = SyncLimits.standard.partBytesMax

    @Test("A large change set is offered, sent in parts within a window, and named when all are held")
    func upload() {
        var (session, _) = hub()
        let (batch, body) = Self.large(1, bytes: 6 * Self.part)
        #expect(session.handle(.batchRead(.success(OutgoingBatch(batch, isAtEnd: false)))) == [.send(.offer(body))])
        // The peer has the first part from another session.
        var actions = session.handle(received(.held(UInt64(Self.part))))
        for index in 1...4 {
            let request = PartRequest(body: body, offset: index * Self.part, bytesMax: Self.part)
            #expect(actions == [.readPart(request)] || actions.last == .readPart(request))
            actions = session.handle(.partRead(.success([UInt8](repeating: 1, count: Self.part))))
            guard case .send(.part(let offset, _))? = actions.first else {
                Issue.record("No part")
                return
            }
            #expect(offset == UInt64(request.offset))
        }
        // The window is full.
        #expect(actions.count == 1)
        actions = session.handle(received(.held(UInt64(2 * Self.part))))
        #expect(actions == [.readPart(PartRequest(body: body, offset: 5 * Self.part, bytesMax: Self.part))])
        _ = session.handle(.partRead(.success([UInt8](repeating: 1, count: Self.part))))
        #expect(
            session.handle(received(.held(UInt64(6 * Self.part)))) == [.send(.changes(batch)), logRequest(after: 1)]
        )
    }

    @Test("A peer that claims to hold what was not sent is cut off", arguments: [0, 1, 2 * part + 1])
    func heldTooMuch(bytes: Int) {
        var (session, _) = hub()
        let (batch, _) = Self.large(1, bytes: 2 * Self.part)
        _ = session.handle(.batchRead(.success(OutgoingBatch(batch, isAtEnd: false))))
        if bytes <= 1 { _ = session.handle(received(.held(1))) }
        #expect(closing(session.handle(received(.held(UInt64(bytes))))) == .acknowledgedUnknown(UInt64(bytes)))
    }

    @Test("Parts that nobody asked for, out of order or beyond the window end the session")
    func foreignParts() {
        let bytes = [UInt8](repeating: 1, count: Self.part)
        let (batch, body) = Self.large(1, bytes: 9 * Self.part)
        func begun() -> SyncSession {
            var (session, _) = child()
            #expect(session.handle(received(.offer(body))) == [.openSpool(body, from: Self.hubPeer)])
            #expect(session.handle(.spooled(.success(0))) == [.send(.held(0))])
            return session
        }
        var session = begun()
        for index in 0..<4 {
            let actions = session.handle(received(.part(offset: UInt64(index * Self.part), bytes)))
            #expect(actions == [.spool(bytes, at: index * Self.part, of: body, from: Self.hubPeer)])
        }
        #expect(closing(session.handle(received(.part(offset: UInt64(4 * Self.part), bytes)))) != nil)
        for message in [
            SyncMessage.part(offset: 1, bytes), .part(offset: 0, []), .offer(body), .changes(batch),
            .changes(.log(1...1)),
        ] {
            var session = begun()
            #expect(closing(session.handle(received(message))) != nil, "\(message.label)")
        }
    }

    @Test("A large change set that never came in parts is not believed")
    func largeWithoutParts() {
        var (session, _) = child()
        #expect(closing(session.handle(received(.changes(Self.large(1, bytes: 5).0)))) != nil)
    }

    @Test("What is held from an earlier session is taken without a part")
    func heldAlready() {
        var (session, _) = child()
        let (batch, body) = Self.large(1, bytes: 9)
        _ = session.handle(received(.offer(body)))
        #expect(session.handle(.spooled(.success(9))) == [.send(.held(9))])
        #expect(session.handle(received(.changes(batch))) == [.apply([batch], from: Self.hubPeer)])
    }

    // MARK: Catching up

    @Test("With nothing new, one round trip is all: the child compares and leaves")
    func nothingNew() {
        let hello = Hello.sample(ownSeq: 4, cursor: .sample(9))
        let welcome = Welcome.sample(acceptedSeq: 4, end: .sample(9), root: .sample)
        var (hub, hubActions) = hub(hello, welcome)
        var short = welcome
        (short.repeatsHello, short.acceptedSeq, short.acceptedChain, short.end) = (true, 0, 0, .empty)
        #expect(hubActions == [.send(.welcome(short)), .startTimer(.heartbeat, .seconds(15))])
        var (child, actions) = child(isOneShot: true, hello, welcome)
        let id = ChangeSetID(origin: .child, seq: 4)
        #expect(actions == [.readRoot(at: .sample(9), child: id)])
        let compared = SyncFact.compared(isEqual: true, at: .sample(9))
        #expect(
            withoutQuestions(&child, child.handle(.rootRead(.success(.sample)))) == [
                .send(.digestResult(isEqual: true, at: .sample(9))), .record(compared, of: Self.hubPeer),
                .send(.bye(reason: "done")), .record(.ended(nil), of: Self.hubPeer), .close(nil),
            ]
        )
        #expect(
            hub.handle(received(.digestResult(isEqual: true, at: .sample(9))))
                == [.record(compared, of: Self.childPeer)]
        )
        #expect(endsCleanly(hub.handle(received(.bye(reason: "done")))))
    }

    @Test("Different tables are told to both sides")
    func different() {
        let hello = Hello.sample(cursor: .sample(9))
        var (session, _) = child(hello, .sample(end: .sample(9), root: .sample))
        let mine = DatabaseRoot(first: 5, second: 5, rows: 5)
        #expect(
            withoutQuestions(&session, session.handle(.rootRead(.success(mine)))) == [
                .send(.digestResult(isEqual: false, at: .sample(9))),
                .record(.compared(isEqual: false, at: .sample(9)), of: Self.hubPeer),
            ]
        )
        #expect(!session.isClosed)
    }

    @Test("A child that wrote meanwhile does not compare apples with pears")
    func movedOn() {
        let hello = Hello.sample(cursor: .sample(9))
        var (session, _) = child(hello, .sample(end: .sample(9), root: .sample))
        #expect(withoutQuestions(&session, session.handle(.rootRead(.success(nil)))) == [])
    }

    @Test("A comparison that nobody asked for ends the session")
    func uninvitedComparison() {
        var (session, _) = hub()
        #expect(closing(session.handle(received(.digestResult(isEqual: true, at: .sample(9))))) != nil)
    }

    @Test("A hub says that there is no more once the child has acknowledged all of it, once")
    func caughtUp() {
        var (session, _) = hub()
        #expect(session.handle(.batchRead(.success(OutgoingBatch(.log(1...9))))).count == 1)
        let id = ChangeSetID(origin: .child, seq: 0)
        #expect(
            session.handle(received(.appliedPosition(.sample(9)))).last
                == .readRoot(at: .sample(9), child: id)
        )
        let caughtUp = CaughtUp(end: .sample(9), childSeq: 0, root: .sample)
        #expect(session.handle(.rootRead(.success(.sample))) == [.send(.caughtUp(caughtUp))])
        #expect(session.handle(.logGrew) == [logRequest(after: 9)])
        #expect(session.handle(.batchRead(.success(OutgoingBatch(.own(0))))) == [])
    }

    @Test("A hub does not say so while it has work of the child in its hands")
    func notCaughtUp() {
        var (session, _) = hub(.sample(ownSeq: 2, cursor: .sample(8)), .sample(end: .sample(9)))
        _ = session.handle(.batchRead(.success(OutgoingBatch(.log(9...9)))))
        // The child said that it has two more.
        let acknowledged = session.handle(received(.appliedPosition(.sample(9))))
        #expect(acknowledged == [.record(.childAcknowledged(.sample(9)), of: Self.childPeer)])
        _ = session.handle(received(.changes(.own(2))))
        #expect(session.handle(appliedAtHub(2)).count == 2)
        _ = session.handle(.batchRead(.success(OutgoingBatch(.log(10...11)))))
        let id = ChangeSetID(origin: .child, seq: 2)
        #expect(
            session.handle(received(.appliedPosition(.sample(11)))).last
                == .readRoot(at: .sample(11), child: id)
        )
    }

    @Test("A root that came too late is not told")
    func lateRoot() {
        var (session, _) = hub()
        _ = session.handle(.batchRead(.success(OutgoingBatch(.log(1...9)))))
        _ = session.handle(received(.appliedPosition(.sample(9))))
        #expect(session.handle(.logGrew) == [logRequest(after: 9)])
        #expect(session.handle(.rootRead(.success(.sample))) == [])
        _ = session.handle(.batchRead(.success(OutgoingBatch(.log(10...10)))))
        let id = ChangeSetID(origin: .child, seq: 0)
        #expect(
            session.handle(received(.appliedPosition(.sample(10)))).last
                == .readRoot(at: .sample(10), child: id)
        )
    }

    @Test("A child does not believe an end at which it does not stand")
    func wrongEnd() {
        for caughtUp in [
            CaughtUp(end: .sample(9), childSeq: 0, root: nil), CaughtUp(end: .empty, childSeq: 1, root: nil),
        ] {
            var (session, _) = child()
            #expect(closing(session.handle(received(.caughtUp(caughtUp)))) != nil)
        }
    }

    @Test("A single sync leaves only when everything is sent, taken and compared")
    func oneShot() {
        var (session, actions) = child(isOneShot: true, .sample(ownSeq: 1), .sample(end: .sample(2)))
        #expect(actions == [ownRequest(after: 0)])
        _ = session.handle(.batchRead(.success(OutgoingBatch(.own(1)))))
        _ = session.handle(received(.changes(.log(1...2))))
        _ = session.handle(appliedAtChild(2))
        _ = session.handle(received(.appliedSeq(1, chain: 4)))
        _ = session.handle(received(.changes(.log(3...3))))
        #expect(!session.isClosed)
        #expect(session.handle(appliedAtChild(3)) == [.send(.appliedPosition(.sample(3)))])
        let caughtUp = CaughtUp(end: .sample(3), childSeq: 1, root: .sample)
        #expect(
            session.handle(received(.caughtUp(caughtUp))) == [
                .record(.hubEnd(.sample(3)), of: Self.hubPeer),
                .readRoot(at: .sample(3), child: ChangeSetID(origin: .child, seq: 1)),
            ]
        )
        #expect(endsCleanly(withoutQuestions(&session, session.handle(.rootRead(.success(.sample))))))
        #expect(session.totals.sent.changeSets == 1)
        #expect(session.totals.received.changeSets == 4)
    }

    @Test("A single sync with a new local commit stays until that is sent, too")
    func oneShotGrows() {
        let hello = Hello.sample(cursor: .sample(9))
        var (session, _) = child(isOneShot: true, hello, .sample(end: .sample(9), root: .sample))
        #expect(session.handle(.logGrew) == [ownRequest(after: 0)])
        #expect(!session.handle(.rootRead(.success(nil))).contains(.close(nil)))
        _ = session.handle(.batchRead(.success(OutgoingBatch(.own(1)))))
        _ = session.handle(received(.appliedSeq(1, chain: 4)))
        _ = session.handle(received(.changes(.log(10...10))))
        #expect(!session.isClosed)
        _ = session.handle(appliedAtChild(10))
        let caughtUp = CaughtUp(end: .sample(10), childSeq: 1, root: nil)
        #expect(endsCleanly(withoutQuestions(&session, session.handle(received(.caughtUp(caughtUp))))))
    }

    // MARK: Consulting

    private static let question = SyncQuestion(kind: 7, payload: [1, 2, 3])
    private static let answer = SyncAnswer(payload: [4, 5])

    /// A child whose store asks something before anything moves.
    private func asking(isOneShot: Bool = false, _ mode: SyncMode = .both) -> SyncSession {
        var session = SyncSession(role: .child(isOneShot: isOneShot), limits: Self.small)
        _ = session.handle(.linkOpened)
        _ = session.handle(.factsRead(.success(.sample(ownSeq: 1))))
        var welcome = Welcome.sample(end: .sample(9))
        welcome.mode = mode
        _ = session.handle(received(.welcome(welcome)))
        #expect(session.handle(.welcomeAdopted(.success(.ask(Self.question)))) == [.send(.ask(Self.question))])
        return session
    }

    @Test("While a child asks, nothing is sent or accepted; what came meanwhile is taken afterwards")
    func asksFirst() {
        var session = asking()
        #expect(session.handle(received(.changes(.log(1...2)))) == [])
        #expect(session.handle(.logGrew) == [])
        #expect(
            session.handle(received(.answer(Self.answer))) == [.takeAnswer(Self.answer, to: Self.question)]
        )
        #expect(
            session.handle(.stepDecided(.success(.goOn))) == [
                .apply([.log(1...2)], from: Self.hubPeer), ownRequest(after: 0),
            ]
        )
    }

    @Test("A child that has become somebody else says so and ends the session")
    func reconnects() {
        var session = asking()
        _ = session.handle(received(.answer(Self.answer)))
        #expect(
            session.handle(.stepDecided(.success(.reconnect))) == [
                .send(.bye(reason: "again")), .record(.ended(.reconnecting), of: Self.hubPeer),
                .close(.reconnecting),
            ]
        )
    }

    @Test("A hub answers one question at a time, and takes no changes from a child that has to consult first")
    func hubAnswers() {
        var welcome = Welcome.sample(end: .sample(9))
        welcome.mode = .consult
        var (session, actions) = hub(.sample(ownSeq: 3), welcome)
        #expect(actions == [.send(.welcome(welcome)), .startTimer(.heartbeat, .seconds(15))])
        #expect(
            session.handle(received(.ask(Self.question))) == [.answer(Self.question, from: Self.childPeer)]
        )
        var impatient = session
        #expect(closing(impatient.handle(received(.ask(Self.question)))) != nil)
        #expect(session.handle(.answered(.success(Self.answer))) == [.send(.answer(Self.answer))])
        #expect(session.handle(.logGrew) == [])
        #expect(closing(session.handle(received(.changes(.own(1))))) != nil)
    }

    @Test("A question that the hub cannot answer, and an answer that nobody asked for, end the session")
    func badAnswers() {
        var (session, _) = hub()
        _ = session.handle(received(.ask(Self.question)))
        let refusal = Refusal(.protocolVersion, "What is that?")
        #expect(
            session.handle(.answered(.failure(.refused(refusal)))).first == .send(.refuse(refusal))
        )
        #expect(session.isClosed)
        var (child, _) = child()
        #expect(closing(child.handle(received(.answer(Self.answer)))) != nil)
    }

    @Test("A child whose hub holds back its log hands in what it has, then may ask, then leaves")
    func handsIn() {
        var session = asking(isOneShot: true, .handIn)
        _ = session.handle(received(.answer(Self.answer)))
        #expect(session.handle(.stepDecided(.success(.goOn))) == [ownRequest(after: 0)])
        _ = session.handle(.batchRead(.success(OutgoingBatch(.own(1)))))
        let accepted = SyncFact.hubAccepted(seq: 1, chain: 4)
        #expect(
            session.handle(received(.appliedSeq(1, chain: 4))) == [
                .record(accepted, of: Self.hubPeer), .consult(.handedIn(ownSeq: 1)),
            ]
        )
        #expect(endsCleanly(session.handle(.stepDecided(.success(.goOn)))))
    }

    @Test("A hub that holds back its log sends none, but takes the child's work")
    func holdsBack() {
        var welcome = Welcome.sample(end: .sample(9))
        welcome.mode = .handIn
        var (session, _) = hub(.sample(ownSeq: 1), welcome)
        #expect(session.handle(received(.changes(.own(1)))) == [.apply([.own(1)], from: Self.childPeer)])
        #expect(session.handle(appliedAtHub(1)) == [.send(.appliedSeq(1, chain: 4))])
    }

    @Test("A continuous session stays open with nothing to do")
    func continuous() {
        let hello = Hello.sample(cursor: .sample(9))
        let (session, actions) = child(hello, .sample(end: .sample(9)))
        #expect(actions == [])
        #expect(!session.isClosed)
    }

    // MARK: Time

    @Test("A dead line is noticed within 90 seconds")
    func deadLine() {
        var (session, _) = child()
        for _ in 1...5 {
            #expect(session.handle(.timerFired(.heartbeat)).first == .startTimer(.heartbeat, .seconds(15)))
        }
        #expect(
            closing(session.handle(.timerFired(.heartbeat))) == .peerSilent(during: .seconds(90))
        )
    }

    @Test("A ping goes out every 30 seconds, and is answered")
    func pings() {
        var (session, _) = child()
        #expect(session.handle(.timerFired(.heartbeat)).count == 1)
        #expect(session.handle(.timerFired(.heartbeat)).last == .send(.ping(nonce: 2)))
        #expect(session.handle(received(.ping(nonce: 5))) == [.send(.pong(nonce: 5))])
    }

    @Test("A slow line that carries a large message is alive, a dribble is not", arguments: [15_359, 15_360])
    func dribble(bytes: Int) {
        var (session, _) = child()
        for _ in 1...20 where !session.isClosed {
            _ = session.handle(.bytesReceived(bytes))
            _ = session.handle(.timerFired(.heartbeat))
        }
        #expect(session.isClosed == (bytes < 15 << 10))
    }

    @Test("A peer that pings without end is cut off", arguments: [15, 16, 17])
    func pingFlood(count: Int) {
        var (session, _) = hub()
        for nonce in 0..<count { _ = session.handle(received(.ping(nonce: UInt64(nonce)))) }
        #expect(session.isClosed == (count > 16))
    }

    // MARK: Ending

    @Test("Asked to stop, a session finishes what is being applied, acknowledges it and says goodbye")
    func stop() {
        var (session, _) = child()
        _ = session.handle(received(.changes(.log(1...2))))
        _ = session.handle(received(.changes(.log(3...3))))
        #expect(session.handle(.finishRequested) == [])
        #expect(
            session.handle(appliedAtChild(2)) == [
                .send(.appliedPosition(.sample(2))), .send(.bye(reason: "stopping")),
                .record(.ended(.stopped), of: Self.hubPeer), .close(.stopped),
            ]
        )
    }

    @Test("Asked to stop with nothing in hand, a session leaves at once")
    func stopIdle() {
        var (session, _) = child(.sample(cursor: .sample(9)), .sample(end: .sample(9)))
        #expect(endsCleanly(session.handle(.finishRequested)))
        var greeting = SyncSession(role: .hub)
        _ = greeting.handle(.linkOpened)
        #expect(
            greeting.handle(.finishRequested) == [.send(.bye(reason: "stopping")), .close(.stopped)]
        )
    }

    @Test("A newer session of the same node ends this one")
    func replaced() {
        var (session, _) = hub()
        #expect(closing(session.handle(.replaced)) == .replaced)
    }

    @Test("A line that breaks is no clean end")
    func brokenLine() {
        var (session, _) = child()
        #expect(closing(session.handle(.linkClosed)) == .linkLost)
    }

    @Test("A peer that breaks the rules hears which one")
    func violationIsTold() {
        var (session, _) = hub()
        let failure = SyncFailure.malformed(.unknownType(99))
        let actions = session.handle(.malformed(.unknownType(99)))
        #expect(actions.first == .send(.bye(reason: failure.description)))
        #expect(closing(actions) == failure)
    }

    @Test("A hub that stops sends its children away with its reason")
    func hubStops() {
        var (session, _) = child()
        #expect(closing(session.handle(received(.bye(reason: "stopping")))) == .peerLeft("stopping"))
    }

    @Test("Nothing can revive a closed session", arguments: SyncMessage.samples)
    func closedStaysClosed(message: SyncMessage) {
        for role in [SyncSession.Role.hub, .child(isOneShot: true), .joiner(.sample)] {
            var session = SyncSession(role: role)
            _ = session.handle(.linkOpened)
            _ = session.handle(.linkClosed)
            #expect(session.isClosed)
            let events: [SyncSession.Event] = [
                .linkOpened, received(message), .logGrew, .finishRequested, .replaced, .linkClosed,
                .timerFired(.greeting), .timerFired(.heartbeat), .factsRead(.success(.sample())),
                .welcomeAdopted(.success(.goOn)), .welcomeDecided(.success(.sample())),
                .joinDecided(.success(.sample)), .batchRead(.success(OutgoingBatch(.own(1)))),
                appliedAtHub(1), .rootRead(.success(.sample)), .malformed(.unknownType(1)),
                .bytesReceived(1), .bytesSent(1), .outboundFull(messages: 1),
            ]
            for event in events { #expect(session.handle(event) == []) }
        }
    }

    @Test("Events out of place never stop the process, in any order")
    func anyOrder() {
        for message in SyncMessage.samples {
            let events: [SyncSession.Event] = [
                .linkOpened, .logGrew, .factsRead(.success(.sample())), received(message),
                .welcomeAdopted(.success(.goOn)), .welcomeDecided(.success(.sample())),
                .batchRead(.success(OutgoingBatch(.own(1)))), appliedAtHub(1), appliedAtChild(1),
                .rootRead(.success(nil)), .timerFired(.heartbeat), .finishRequested,
            ]
            for first in events {
                for second in events {
                    var (hub, _) = hub()
                    var (child, _) = child()
                    var fresh = SyncSession(role: .hub)
                    for event in [first, second, received(message), second, first] {
                        _ = hub.handle(event)
                        _ = child.handle(event)
                        _ = fresh.handle(event)
                    }
                }
            }
        }
    }

    @Test("A peer's sentence cannot act on a terminal")
    func escaped() {
        let text = SyncFailure.peerLeft("\u{1B}[2Jسلام\u{202E}\u{200C}").description
        #expect(!text.unicodeScalars.contains("\u{1B}") && !text.unicodeScalars.contains("\u{202E}"))
        #expect(text.contains("سلام") && text.unicodeScalars.contains("\u{200C}"))
    }
}
