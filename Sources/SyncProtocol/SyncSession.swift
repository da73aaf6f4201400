import Causality

/// What one session moved. Change sets and rows count once they are durable at their receiver.
package struct SessionTotals: Hashable, Sendable {
    /// One direction.
    package struct Flow: Hashable, Sendable {
        package var changeSets = 0
        package var rows = 0
        /// On the line, everything counted.
        package var bytes = 0

        package init() {}
    }

    package var sent = Flow()
    package var received = Flow()
    /// Losing writes that were listed while applying.
    package var conflicts = 0
    /// Rows that could not be applied and wait.
    package var parked = 0

    package init() {}

    /// What two sessions, one after the other, have moved.
    package func followed(by next: SessionTotals) -> SessionTotals {
        var both = self
        both.sent.add(next.sent)
        both.received.add(next.received)
        both.conflicts += next.conflicts
        both.parked += next.parked
        return both
    }
}

extension SessionTotals.Flow {
    fileprivate mutating func add(_ other: Self) {
        changeSets += other.changeSets
        rows += other.rows
        bytes += other.bytes
    }
}

/// One side of a conversation between a child and its hub: events go in, actions come out, and nothing else
/// has a say, so that a recorded list of events replays it.
///
/// Both directions flow at once: the child sends what it wrote itself, by `seq`; the hub sends its log, by
/// position. A bounded number of batches is on the way each way, and whoever receives one says so only
/// after its store has committed it. At most one read, one apply and one root are outstanding.
package struct SyncSession: Sendable {
    /// Which side of the conversation this is.
    package enum Role: Hashable, Sendable {
        /// Calls its hub. With `isOneShot` it leaves once both know the same.
        case child(isOneShot: Bool)
        /// Answers children and newcomers.
        case hub
        /// Calls its future hub with an invitation, once.
        case joiner(Join)
    }

    /// What a session waits for by the clock.
    package enum Timer: Hashable, Sendable, CaseIterable {
        case greeting, heartbeat
    }

    /// What can happen to a session.
    package enum Event: Hashable, Sendable {
        case linkOpened
        case received(SyncMessage, atMilliseconds: UInt64)
        case malformed(SyncWireFailure)
        /// Bytes came, or left; not necessarily whole messages.
        case bytesReceived(Int)
        case bytesSent(Int)
        /// More messages wait for the line than may.
        case outboundFull(messages: Int)
        case linkClosed
        // Answers of the store.
        case factsRead(Result<Hello, SyncStoreFailure>)
        case welcomeAdopted(Result<SyncStep, SyncStoreFailure>)
        /// What comes next, after an answer or on an occasion.
        case stepDecided(Result<SyncStep, SyncStoreFailure>)
        case answered(Result<SyncAnswer, SyncStoreFailure>)
        case joinDecided(Result<Joined, SyncStoreFailure>)
        case welcomeDecided(Result<Welcome, SyncStoreFailure>)
        case batchRead(Result<OutgoingBatch, SyncStoreFailure>)
        case partRead(Result<[UInt8], SyncStoreFailure>)
        /// So many bytes of the large body that is coming in are here.
        case spooled(Result<Int, SyncStoreFailure>)
        case applied(Result<ApplyOutcome, SyncStoreFailure>)
        case rootRead(Result<DatabaseRoot?, SyncStoreFailure>)
        /// A commit of whoever lengthened the log. May come at any time and in any number.
        case logGrew
        case timerFired(Timer)
        /// Stop as soon as what is being applied is done.
        case finishRequested
        /// A newer session of the same node is there.
        case replaced
        /// The peer takes part no more, or not now.
        case expelled(Refusal)
    }

    /// What a session wants done.
    package enum Action: Hashable, Sendable {
        case send(SyncMessage)
        // Questions to the store. Each is answered by one event, but `record`.
        case readFacts
        case adoptWelcome(Welcome, clock: ClockMeasurement)
        case takeAnswer(SyncAnswer, to: SyncQuestion)
        case consult(SyncOccasion)
        case answer(SyncQuestion, from: SyncPeer)
        case decideJoin(Join)
        case decideWelcome(Hello, receivedAtMilliseconds: UInt64)
        case readBatch(ReadRequest)
        case readPart(PartRequest)
        case openSpool(LargeBody, from: SyncPeer)
        case spool([UInt8], at: Int, of: LargeBody, from: SyncPeer)
        case apply([ChangeBatch], from: SyncPeer)
        case readRoot(at: LogPrefix, child: ChangeSetID)
        case record(SyncFact, of: SyncPeer)
        /// Starts a timer, or starts it again.
        case startTimer(Timer, Duration)
        /// A joiner was taken in.
        case joined(Joined)
        /// The last action of every session: send what is still to be sent, then end the line.
        case close(SyncFailure?)
    }

    private enum State: Hashable, Sendable {
        case idle
        // A child before it streams.
        case readingFacts
        case greeting(Hello)
        // A hub before it streams.
        case awaitingHello
        case decidingWelcome(Hello, version: UInt32)
        case decidingJoin, joinAnswered
        case joining
        case streaming(Stream)
        case closed
    }

    package let role: Role
    package private(set) var totals = SessionTotals()
    private let limits: SyncLimits
    private var state = State.idle
    /// What of the bytes in ``totals`` the store has been told.
    private var bytesTold = (sent: 0, received: 0)
    /// A commit that came before there was a stream to tell.
    private var hasGrown = false

    package init(role: Role, limits: SyncLimits = .standard) {
        self.role = role
        self.limits = limits
    }

    /// Whether the peer has been let in, so that large messages may come.
    package var isPeerTrusted: Bool {
        if case .streaming = state { true } else { false }
    }

    /// Whether the session is over. Nothing makes it live again.
    package var isClosed: Bool { state == .closed }

    /// The peer, once it is known.
    package var peer: SyncPeer? {
        if case .streaming(let stream) = state { stream.peer } else { nil }
    }

    /// Takes one event, and says what is to be done now, in order. Nothing revives a closed session.
    package mutating func handle(_ event: Event) -> [Action] {
        switch (state, event) {
        case (_, .bytesReceived(let count)):
            totals.received.bytes += count
            changeStream { $0.bytesHeard += count }
            return []
        case (_, .bytesSent(let count)):
            totals.sent.bytes += count
            return []
        case (.closed, _):
            return []
        case (_, .linkClosed):
            return close(state == .joinAnswered ? nil : .linkLost)
        case (_, .malformed(let failure)):
            return close(.malformed(failure))
        case (_, .outboundFull(let messages)):
            return close(.peerDoesNotRead(messages: messages))
        case (_, .replaced):
            return [.send(.bye(reason: SyncFailure.replaced.description))] + close(.replaced)
        case (_, .expelled(let refusal)):
            return refuse(refusal)
        case (.streaming(var stream), _):
            // The state holds no second reference, so the stream is changed in place.
            state = .idle
            let step = handle(event, &stream)
            return advance(stream, step)
        case (_, .finishRequested):
            return [.send(.bye(reason: Farewell.stopping))] + close(.stopped)
        case (_, .logGrew):
            hasGrown = true
            return []
        case (.greeting(let hello), .received(.refuse(let refusal), _)):
            return refused(refusal, answering: hello)
        case (_, .received(.refuse(let refusal), _)):
            return close(.refused(refusal))
        case (_, .received(.bye(let reason), _)):
            return close(state == .joinAnswered ? nil : .peerLeft(reason))

        case (.idle, .linkOpened):
            return open()
        case (.readingFacts, .factsRead(.success(let facts))):
            state = .greeting(facts)
            return [.send(.hello(facts)), .startTimer(.greeting, limits.welcomeTimeout)]
        case (.readingFacts, .factsRead(.failure(let failure))):
            return close(.storeFailed(failure.description))
        case (.greeting(let hello), .received(.welcome(let welcome), let now)):
            return accept(welcome, answering: hello, atMilliseconds: now)

        case (.awaitingHello, .received(.hello(let hello), let now)):
            guard let version = SyncProtocolVersion.common(min: hello.protocolMin, max: hello.protocolMax)
            else {
                let failure = SyncFailure.noCommonVersion(min: hello.protocolMin, max: hello.protocolMax)
                return refuse(Refusal(.protocolVersion, failure.description))
            }
            state = .decidingWelcome(hello, version: version)
            return [.decideWelcome(hello, receivedAtMilliseconds: now)]
        case (.decidingWelcome(let hello, let version), .welcomeDecided(.success(var welcome))):
            welcome.protocolVersion = version
            return letIn(hello, welcome)
        case (.decidingWelcome, .welcomeDecided(.failure(let failure))),
            (.decidingJoin, .joinDecided(.failure(let failure))):
            return refuse(failure)
        case (.awaitingHello, .received(.join(let join), _)):
            state = .decidingJoin
            return [.decideJoin(join)]
        case (.decidingJoin, .joinDecided(.success(let joined))):
            state = .joinAnswered
            return [.send(.joined(joined)), .startTimer(.greeting, limits.helloTimeout)]
        case (.joining, .received(.joined(let joined), _)):
            return [.joined(joined), .send(.bye(reason: Farewell.done))] + close(nil)

        case (.joinAnswered, .timerFired(.greeting)):
            return close(nil)
        case (.awaitingHello, .timerFired(.greeting)):
            return close(.greetingTimedOut(after: limits.helloTimeout))
        case (.greeting, .timerFired(.greeting)), (.joining, .timerFired(.greeting)):
            return close(.greetingTimedOut(after: limits.welcomeTimeout))
        case (_, .timerFired):
            return []
        case (.idle, _), (.readingFacts, _), (.greeting, _), (.awaitingHello, _), (.decidingWelcome, _),
            (.decidingJoin, _), (.joinAnswered, _), (.joining, _):
            // Whatever a peer does out of turn costs it the session. Only the kinds of event and state are
            // told, because what is inside them may be about customers.
            return close(.unexpected(event.label, during: label))
        }
    }
}

// MARK: - Greeting

extension SyncSession {
    private mutating func open() -> [Action] {
        switch role {
        case .child:
            state = .readingFacts
            return [.readFacts]
        case .hub:
            state = .awaitingHello
            return [.startTimer(.greeting, limits.helloTimeout)]
        case .joiner(let join):
            state = .joining
            return [.send(.join(join)), .startTimer(.greeting, limits.welcomeTimeout)]
        }
    }

    /// The child's answer to a welcome: nothing is sent or accepted before the store has adopted it.
    private mutating func accept(
        _ welcome: Welcome,
        answering hello: Hello,
        atMilliseconds now: UInt64
    ) -> [Action] {
        let version = welcome.protocolVersion
        guard SyncProtocolVersion.common(min: version, max: version) != nil else {
            return close(.noCommonVersion(min: version, max: version))
        }
        let welcome = welcome.completed(from: hello)
        let hasUnsent = hello.offeredSeq > welcome.acceptedSeq || hasGrown
        var stream = Stream(
            peer: SyncPeer(node: welcome.node, origin: welcome.origin),
            child: hello.origin,
            childSeqAnnounced: hello.offeredSeq,
            mode: welcome.mode,
            outgoing: OutgoingWindow(after: .seq(welcome.acceptedSeq), hasMore: hasUnsent, limits: limits),
            incoming: IncomingQueue(after: .position(hello.cursor), limits: limits)
        )
        if welcome.mode == .both, welcome.tellsAll(hello) {
            stream.end = End(prefix: welcome.end, childSeq: welcome.acceptedSeq)
            stream.rootToCompare = welcome.root
        }
        stream.consultation = .deciding
        state = .streaming(stream)
        return [
            .adoptWelcome(welcome, clock: ClockMeasurement(hello, welcome, atMilliseconds: now)),
            .startTimer(.heartbeat, limits.heartbeat),
        ]
    }

    /// A hub that has forgotten this child lets it in again when it shows its voucher: at once, in a new session.
    private mutating func refused(_ refusal: Refusal, answering hello: Hello) -> [Action] {
        let own = SyncPeer(node: hello.node, origin: hello.origin)
        guard refusal.code == .unknownNode, hello.extras.holdsVoucher, hello.extras.voucher == nil else {
            // Busy, or with trouble of its own: that says nothing about this node.
            let isLasting = ![.busy, .retryLater, .internalFailure].contains(refusal.code)
            return (isLasting ? [.record(.turnedAway(refusal), of: own)] : []) + close(.refused(refusal))
        }
        return [.record(.forgotten, of: own)] + close(.reconnecting)
    }

    private mutating func letIn(_ hello: Hello, _ welcome: Welcome) -> [Action] {
        var stream = Stream(
            peer: SyncPeer(node: hello.node, origin: hello.origin),
            child: hello.origin,
            childSeqAnnounced: hello.offeredSeq,
            mode: welcome.mode,
            outgoing: OutgoingWindow(
                after: .position(hello.cursor),
                hasMore: hello.cursor != welcome.end || hasGrown,
                limits: limits
            ),
            incoming: IncomingQueue(after: .seq(welcome.acceptedSeq), limits: limits)
        )
        if welcome.mode == .both, welcome.tellsAll(hello) {
            stream.end = End(prefix: welcome.end, childSeq: welcome.acceptedSeq)
            if welcome.root != nil { stream.comparisonsDue = 1 }
        }
        let greeting: [Action] = [
            .send(.welcome(welcome.shortened(for: hello))), .startTimer(.heartbeat, limits.heartbeat),
        ]
        return greeting + advance(stream, .goOn([]))
    }
}

// MARK: - Streaming

/// A moment at which a hub had no more for a child.
private struct End: Hashable, Sendable {
    let prefix: LogPrefix
    let childSeq: UInt64
}

/// What a child is doing with its questions.
private enum Consultation: Hashable, Sendable {
    /// The store decides, or, at a hub, answers.
    case deciding
    /// The hub has been asked.
    case asked(SyncQuestion)
}

/// The state of a session that is past its greeting.
private struct Stream: Hashable, Sendable {
    let peer: SyncPeer
    /// The origin of the child.
    let child: Origin
    /// What the child said it would send when it came.
    let childSeqAnnounced: UInt64
    let mode: SyncMode
    var outgoing: OutgoingWindow
    var incoming: IncomingQueue
    /// A large change set that is being sent; nothing is sent after it before it is.
    var upload: Upload?
    /// A large change set that is coming, or has come in parts and not been named in a batch yet.
    var download: Download?
    /// At a child: what is being asked, or decided; nothing is sent or accepted meanwhile. At a hub: a
    /// question that is being answered.
    var consultation: Consultation?
    /// At a child: the store has taken an answer since it last said that the session goes on.
    var wasAnswered = false
    /// At a child: the last occasion on which its store was asked for questions.
    var consulted: SyncOccasion?
    /// At a child: how the tables compared at the last end that was heard.
    var comparison: Bool?
    var isStopping = false
    /// The last end that was told, at the hub; heard, at the child.
    var end: End?
    /// At the child: a root of the hub that is still to be compared.
    var rootToCompare: DatabaseRoot?
    /// At the hub: answers to roots that are still to come.
    var comparisonsDue = 0
    /// A root was asked of the store, for this end.
    var rootAsked: End?

    var silentHeartbeats = 0
    var bytesHeard = 0
    var heartbeats: UInt64 = 0
    var pings = 0

    init(
        peer: SyncPeer,
        child: Origin,
        childSeqAnnounced: UInt64,
        mode: SyncMode,
        outgoing: OutgoingWindow,
        incoming: IncomingQueue
    ) {
        self.mode = mode
        self.peer = peer
        self.child = child
        self.childSeqAnnounced = childSeqAnnounced
        self.outgoing = outgoing
        self.incoming = incoming
    }
}

/// What an event did to a stream.
private enum Step {
    case goOn([SyncSession.Action])
    /// These actions, then the end.
    case end([SyncSession.Action], SyncFailure?)
}

extension SyncSession {
    private mutating func handle(_ event: Event, _ stream: inout Stream) -> Step {
        switch event {
        case .received(let message, _):
            stream.silentHeartbeats = 0
            return receive(message, &stream)
        case .welcomeAdopted(.success(let step)), .stepDecided(.success(let step)):
            guard role.isChild, stream.consultation == .deciding else {
                return .end([], .unexpected(event.label, during: "streaming"))
            }
            return take(step, &stream)
        case .answered(.success(let answer)):
            stream.consultation = nil
            return .goOn([.send(.answer(answer))])
        case .welcomeAdopted(.failure(let failure)), .applied(.failure(let failure)),
            .stepDecided(.failure(let failure)), .answered(.failure(let failure)), .spooled(.failure(let failure)):
            let refusal = Refusal(failure, of: role)
            return .end([.send(.refuse(refusal))], Self.outcome(of: failure))
        case .batchRead(.failure(let failure)), .partRead(.failure(let failure)), .rootRead(.failure(let failure)):
            return .end([.send(.refuse(Refusal(failure, of: role)))], .storeFailed(failure.description))
        case .batchRead(.success(let outgoing)):
            // What was read too late to be sent is read again by the next session.
            if stream.isStopping { return .goOn([]) }
            guard let batch = stream.outgoing.readEnded(outgoing) else { return .goOn([]) }
            stream.upload = Upload(batch)
            return .goOn([.send(stream.upload.map { .offer($0.body) } ?? .changes(batch))])
        case .partRead(.success(let bytes)):
            guard let offset = stream.upload?.wasRead(bytes.count) else {
                return .end([], .unexpected(event.label, during: "streaming"))
            }
            return .goOn([.send(.part(offset: UInt64(offset), bytes))])
        case .spooled(.success(let held)):
            stream.download?.holds(held)
            return .goOn([.send(.held(UInt64(held)))])
        case .applied(.success(let outcome)):
            return applied(outcome, &stream)
        case .rootRead(.success(let root)):
            return rootRead(root, &stream)
        case .logGrew:
            stream.outgoing.logGrew()
            return .goOn([])
        case .timerFired(.heartbeat):
            return beat(&stream)
        case .timerFired(.greeting):
            return .goOn([])
        case .finishRequested:
            stream.isStopping = true
            return .goOn([])
        case .linkOpened, .factsRead, .joinDecided, .welcomeDecided, .malformed, .bytesReceived,
            .bytesSent, .outboundFull, .linkClosed, .replaced, .expelled:
            return .end([], .unexpected(event.label, during: "streaming"))
        }
    }

    private func take(_ step: SyncStep, _ stream: inout Stream) -> Step {
        switch step {
        case .goOn:
            stream.consultation = nil
            // The answer may have made the store write something of its own, which is sent before it leaves.
            if stream.wasAnswered { stream.outgoing.logGrew() }
            stream.wasAnswered = false
            return .goOn([])
        case .ask(let question):
            stream.consultation = .asked(question)
            return .goOn([.send(.ask(question))])
        case .reconnect:
            return .end([.send(.bye(reason: Farewell.again))], .reconnecting)
        }
    }

    private mutating func receive(_ message: SyncMessage, _ stream: inout Stream) -> Step {
        switch (role, message) {
        case (.hub, .changes), (.hub, .offer), (.hub, .part):
            guard stream.mode != .consult else { return .end([], .unexpected(message.label, during: "a consultation")) }
            return take(message, &stream)
        case (_, .changes), (_, .offer), (_, .part):
            return take(message, &stream)
        case (_, .held(let bytes)):
            guard stream.upload?.peerHolds(Int(clamping: bytes)) == true else {
                return .end([], .acknowledgedUnknown(bytes))
            }
            guard let upload = stream.upload, upload.isHeld else { return .goOn([]) }
            stream.upload = nil
            return .goOn([.send(.changes(upload.batch))])
        case (.hub, .ask(let question)):
            guard stream.consultation == nil else { return .end([], .unexpected(message.label, during: "an answer")) }
            stream.consultation = .deciding
            return .goOn([.answer(question, from: stream.peer)])
        case (.child, .answer(let answer)):
            guard case .asked(let question) = stream.consultation else {
                return .end([], .unexpected(message.label, during: "streaming"))
            }
            stream.consultation = .deciding
            stream.wasAnswered = true
            return .goOn([.takeAnswer(answer, to: question)])
        case (.hub, .appliedPosition(let prefix)):
            guard let done = stream.outgoing.acknowledge(.position(prefix)) else {
                return .end([], .acknowledgedUnknown(prefix.position))
            }
            count(done)
            return .goOn([.record(.childAcknowledged(prefix), of: stream.peer)])
        case (.child, .appliedSeq(let seq, let chain)):
            guard let done = stream.outgoing.acknowledge(.seq(seq)) else {
                return .end([], .acknowledgedUnknown(seq))
            }
            count(done)
            return .goOn([.record(.hubAccepted(seq: seq, chain: chain), of: stream.peer)])
        case (.child, .caughtUp(let caughtUp)):
            return hear(caughtUp, &stream)
        case (.hub, .digestResult(let isEqual, let prefix)):
            guard stream.comparisonsDue > 0 else {
                return .end([], .unexpected(message.label, during: "streaming"))
            }
            stream.comparisonsDue -= 1
            return .goOn([.record(.compared(isEqual: isEqual, at: prefix), of: stream.peer)])
        case (_, .ping(let nonce)):
            stream.pings += 1
            guard stream.pings <= limits.pingsMax else { return .end([], .tooManyPings(stream.pings)) }
            return .goOn([.send(.pong(nonce: nonce))])
        case (_, .pong):
            return .goOn([])
        case (.child, .refuse(let refusal)) where refusal.code.endsLife:
            return .end([.record(.lifeRefused(refusal), of: stream.peer)], .reconnecting)
        case (_, .refuse(let refusal)):
            return .end([], .refused(refusal))
        case (_, .bye(let reason)):
            // A hub's child leaves when it likes; a child's hub has no reason to.
            let isOrderly = role == .hub && Farewell.all.contains(reason)
            return .end([], isOrderly ? nil : .peerLeft(reason))
        case (_, .join), (_, .joined), (_, .hello), (_, .welcome), (_, .appliedPosition), (_, .appliedSeq),
            (_, .caughtUp), (_, .digestResult), (_, .ask), (_, .answer):
            return .end([], .unexpected(message.label, during: "streaming"))
        }
    }

    /// Takes what carries change sets.
    private func take(_ message: SyncMessage, _ stream: inout Stream) -> Step {
        switch message {
        case .offer(let body):
            guard stream.download == nil else {
                return .end([], .unexpected(message.label, during: "a change set in parts"))
            }
            stream.download = Download(body)
            return .goOn([.openSpool(body, from: stream.peer)])
        case .part(let offset, let bytes):
            guard let body = stream.download?.body,
                stream.download?.receive(offset: offset, count: bytes.count, limits) == true
            else { return .end([], .unexpected(message.label, during: "streaming")) }
            return .goOn([.spool(bytes, at: Int(clamping: offset), of: body, from: stream.peer)])
        case .changes(let batch):
            // Nothing overtakes a change set that comes in parts, and none is named that did not come.
            guard batch.largeBody == stream.download?.body, stream.download?.isHeld ?? true else {
                return .end([], .unexpected(message.label, during: "a change set in parts"))
            }
            stream.download = nil
            if let failure = stream.incoming.receive(batch) { return .end([], failure) }
            if isPlanted(.acknowledgeBeforeCommit), role.isChild { return .goOn([.send(.appliedPosition(batch.end))]) }
            return .goOn([])
        default:
            return .end([], .unexpected(message.label, during: "streaming"))
        }
    }

    private mutating func count(_ done: (changeSets: Int, rows: Int)) {
        totals.sent.changeSets += done.changeSets
        totals.sent.rows += done.rows
    }

    private mutating func applied(_ outcome: ApplyOutcome, _ stream: inout Stream) -> Step {
        guard stream.incoming.applied(outcome) else {
            let failure = SyncStoreFailure.unavailable(
                "The store did not take everything it was given. Run `peyvand doctor` on this node."
            )
            return .end([.send(.refuse(Refusal(failure, of: role)))], .storeFailed(failure.description))
        }
        totals.received.changeSets += outcome.changeSets
        totals.received.rows += outcome.rows
        totals.conflicts += outcome.conflicts
        totals.parked += outcome.parked
        // After COMMIT, not after receipt: the peer lets go of its copy on this word, so saying it early
        // would lose work in a power cut.
        switch outcome.durable {
        case .position(let prefix):
            return .goOn(isPlanted(.acknowledgeBeforeCommit) ? [] : [.send(.appliedPosition(prefix))])
        case .seq(let seq, let chain):
            // The hub's log has grown by the child's work, which the child gets back as stubs.
            stream.outgoing.logGrew()
            return .goOn([.send(.appliedSeq(seq, chain: chain))])
        }
    }

    /// The child hears that the hub has no more. By the order of the line it stands just there.
    private func hear(_ caughtUp: CaughtUp, _ stream: inout Stream) -> Step {
        let durable = stream.incoming.durable.prefix
        guard caughtUp.end == durable, stream.incoming.isIdle else {
            return .end(
                [],
                .outOfOrder(what: "end", expected: durable.position, received: caughtUp.end.position)
            )
        }
        let acknowledged = stream.outgoing.acknowledged.number
        guard caughtUp.childSeq == acknowledged else {
            return .end([], .outOfOrder(what: "seq", expected: acknowledged, received: caughtUp.childSeq))
        }
        stream.end = End(prefix: caughtUp.end, childSeq: caughtUp.childSeq)
        stream.comparison = nil
        // While one root is being read, it is the one to be compared.
        if stream.rootAsked == nil { stream.rootToCompare = caughtUp.root }
        return .goOn([.record(.hubEnd(caughtUp.end), of: stream.peer)])
    }

    private func rootRead(_ root: DatabaseRoot?, _ stream: inout Stream) -> Step {
        guard let asked = stream.rootAsked else {
            return .end([], .unexpected("a root", during: "streaming"))
        }
        stream.rootAsked = nil
        if role == .hub {
            guard asked == quietEnd(stream) else { return .goOn([]) }
            stream.end = asked
            if root != nil { stream.comparisonsDue += 1 }
            let caughtUp = CaughtUp(end: asked.prefix, childSeq: asked.childSeq, root: root)
            return .goOn([.send(.caughtUp(caughtUp))])
        }
        let hubRoot = stream.rootToCompare
        stream.rootToCompare = nil
        // No root: something was written here meanwhile, and the next end brings the next chance.
        guard let root, let hubRoot else { return .goOn([]) }
        let isEqual = root == hubRoot
        stream.comparison = isEqual
        return .goOn([
            .send(.digestResult(isEqual: isEqual, at: asked.prefix)),
            .record(.compared(isEqual: isEqual, at: asked.prefix), of: stream.peer),
        ])
    }

    private mutating func beat(_ stream: inout Stream) -> Step {
        stream.silentHeartbeats =
            stream.bytesHeard >= limits.heartbeatBytesMin ? 0 : stream.silentHeartbeats + 1
        stream.bytesHeard = 0
        stream.pings = 0
        stream.heartbeats += 1
        if stream.silentHeartbeats >= limits.silentHeartbeatsMax {
            return .end([], .peerSilent(during: limits.heartbeat * limits.silentHeartbeatsMax))
        }
        var actions: [Action] = [.startTimer(.heartbeat, limits.heartbeat)] + traffic(of: stream.peer)
        if stream.heartbeats.isMultiple(of: 2) { actions.append(.send(.ping(nonce: stream.heartbeats))) }
        return .goOn(actions)
    }

    /// Does what the stream allows now, after whatever happened.
    private mutating func advance(_ stream: Stream, _ step: Step) -> [Action] {
        var stream = stream
        var actions: [Action]
        switch step {
        case .goOn(let done): actions = done
        case .end(let done, let failure):
            state = .streaming(stream)
            return done + close(failure)
        }
        defer { if state != .closed { state = .streaming(stream) } }
        if stream.isStopping {
            guard !stream.incoming.isApplying else { return actions }
            let failure: SyncFailure? = isDone(stream) ? nil : .stopped
            state = .streaming(stream)
            return actions + [.send(.bye(reason: Farewell.stopping))] + close(failure)
        }
        guard stream.consultation == nil || role == .hub else { return actions }
        if let batches = stream.incoming.takeForApply() {
            actions.append(.apply(batches, from: stream.peer))
        }
        if let part = stream.upload?.nextPart(limits) {
            actions.append(.readPart(part))
        } else if stream.upload == nil, stream.outgoing.canRead, stream.sends(as: role) {
            stream.outgoing.readStarted()
            actions.append(.readBatch(readRequest(stream)))
        }
        if let asked = rootWanted(stream) {
            stream.rootAsked = asked
            actions.append(
                .readRoot(at: asked.prefix, child: ChangeSetID(origin: stream.child, seq: asked.childSeq))
            )
        }
        if let occasion = occasion(stream), occasion != stream.consulted {
            stream.consulted = occasion
            stream.consultation = .deciding
            return actions + [.consult(occasion)]
        }
        if role == .child(isOneShot: true), isDone(stream) {
            state = .streaming(stream)
            return actions + [.send(.bye(reason: Farewell.done))] + close(nil)
        }
        return actions
    }

    private func readRequest(_ stream: Stream) -> ReadRequest {
        switch stream.outgoing.sent {
        case .seq(let seq):
            .own(afterSeq: seq, bytesMax: stream.outgoing.batchBytes, entriesMax: limits.batchEntriesMax)
        case .position(let prefix):
            .log(
                afterPosition: prefix.position,
                for: stream.child,
                bytesMax: stream.outgoing.batchBytes,
                entriesMax: limits.batchEntriesMax
            )
        }
    }

    /// The end for which a root is to be read now: at the hub to tell it, at the child to compare.
    private func rootWanted(_ stream: Stream) -> End? {
        guard stream.rootAsked == nil else { return nil }
        switch role {
        case .hub:
            guard let end = quietEnd(stream), end != stream.end else { return nil }
            return end
        case .child:
            guard stream.rootToCompare != nil else { return nil }
            return stream.end
        case .joiner:
            return nil
        }
    }

    /// At the hub: the end of the log, if the child has all of it and the hub all of the child.
    private func quietEnd(_ stream: Stream) -> End? {
        let childSeq = stream.incoming.durable.number
        guard stream.mode == .both, stream.outgoing.isIdle, stream.incoming.isIdle,
            childSeq >= stream.childSeqAnnounced
        else {
            return nil
        }
        return End(prefix: stream.outgoing.acknowledged.prefix, childSeq: childSeq)
    }

    /// At the child: whether both know the same and have compared, or, when the hub sends no log, whether
    /// everything was handed in.
    private func isDone(_ stream: Stream) -> Bool {
        guard case .child = role, stream.consultation == nil, stream.outgoing.isIdle || stream.mode == .consult
        else { return false }
        guard stream.mode == .both else { return true }
        guard let end = stream.end else { return false }
        return stream.incoming.isIdle && stream.rootAsked == nil && stream.rootToCompare == nil
            && end.prefix == stream.incoming.durable.prefix
            && end.childSeq == stream.outgoing.acknowledged.number
    }

    /// At the child: what its store may ask questions about now.
    private func occasion(_ stream: Stream) -> SyncOccasion? {
        guard isDone(stream) else { return nil }
        let ownSeq = stream.outgoing.acknowledged.number
        switch stream.mode {
        case .both:
            return .settled(at: stream.incoming.durable.prefix, ownSeq: ownSeq, isEqual: stream.comparison)
        case .handIn:
            return .handedIn(ownSeq: ownSeq)
        case .consult:
            return nil
        }
    }
}

// MARK: - Ending

extension SyncSession {
    private mutating func close(_ failure: SyncFailure?) -> [Action] {
        var actions: [Action] = []
        if let failure, failure.isViolation {
            actions.append(.send(.bye(reason: failure.description)))
        }
        if let peer {
            actions += traffic(of: peer)
            actions.append(.record(.ended(failure), of: peer))
        }
        state = .closed
        return actions + [.close(failure)]
    }

    /// Tells the store of the bytes that it has not been told of.
    private mutating func traffic(of peer: SyncPeer) -> [Action] {
        let sent = totals.sent.bytes - bytesTold.sent
        let received = totals.received.bytes - bytesTold.received
        guard sent > 0 || received > 0 else { return [] }
        bytesTold = (totals.sent.bytes, totals.received.bytes)
        return [.record(.traffic(sentBytes: sent, receivedBytes: received), of: peer)]
    }

    private mutating func refuse(_ refusal: Refusal) -> [Action] {
        [.send(.refuse(refusal))] + close(.refusedPeer(refusal))
    }

    private mutating func refuse(_ failure: SyncStoreFailure) -> [Action] {
        [.send(.refuse(Refusal(failure, of: role)))] + close(Self.outcome(of: failure))
    }

    private static func outcome(of failure: SyncStoreFailure) -> SyncFailure {
        switch failure {
        case .refused(let refusal): .refusedPeer(refusal)
        case .unavailable(let sentence): .storeFailed(sentence)
        }
    }

    private mutating func changeStream(_ change: (inout Stream) -> Void) {
        guard case .streaming(var stream) = state else { return }
        state = .idle
        change(&stream)
        state = .streaming(stream)
    }

    private var label: String {
        switch state {
        case .idle: "idle"
        case .readingFacts: "reading facts"
        case .greeting: "waiting for the welcome"
        case .awaitingHello: "waiting for the greeting"
        case .decidingWelcome: "deciding on a hello"
        case .decidingJoin: "deciding on a join"
        case .joinAnswered: "waiting for the end of a join"
        case .joining: "waiting for the answer to a join"
        case .streaming: "streaming"
        case .closed: "closed"
        }
    }
}

extension SyncSession.Role {
    fileprivate var isChild: Bool {
        if case .child = self { true } else { false }
    }
}

extension Stream {
    /// Whether this side sends change sets at all in this session.
    fileprivate func sends(as role: SyncSession.Role) -> Bool {
        switch mode {
        case .both: true
        case .handIn: role.isChild
        case .consult: false
        }
    }
}

extension Refusal {
    /// What the peer is told of a failure of this node's store.
    fileprivate init(_ failure: SyncStoreFailure, of role: SyncSession.Role) {
        switch failure {
        case .refused(let refusal): self = refusal
        case .unavailable(let sentence):
            // Whoever reads it sits at the other end.
            let place = role == .hub ? "At head office: " : "At the branch: "
            self.init(.retryLater, place + sentence, retryAfterSeconds: 30)
        }
    }
}

extension Welcome {
    /// Whether the hub says with it that it has nothing for the child, and the child nothing for it.
    fileprivate func tellsAll(_ hello: Hello) -> Bool {
        end == hello.cursor && acceptedSeq == hello.offeredSeq
    }
}

extension Welcome {
    /// Without what the child has just said itself.
    fileprivate func shortened(for hello: Hello) -> Welcome {
        guard acceptedSeq == hello.ownSeq, acceptedChain == hello.ownChain, end == hello.cursor else { return self }
        var short = self
        short.repeatsHello = true
        (short.acceptedSeq, short.acceptedChain, short.end) = (0, 0, .empty)
        return short
    }

    /// With what the hub has left out.
    fileprivate func completed(from hello: Hello) -> Welcome {
        guard repeatsHello else { return self }
        var whole = self
        whole.repeatsHello = false
        (whole.acceptedSeq, whole.acceptedChain, whole.end) = (hello.ownSeq, hello.ownChain, hello.cursor)
        return whole
    }
}

extension ClockMeasurement {
    fileprivate init(_ hello: Hello, _ welcome: Welcome, atMilliseconds now: UInt64) {
        // Times are at most 47 bits wide, so nothing here overflows.
        func signed(_ milliseconds: UInt64) -> Int64 {
            Int64(min(milliseconds, HybridTimestamp.millisecondsMax))
        }
        let sent = signed(hello.sentAtMilliseconds)
        let hubReceived = signed(welcome.receivedAtMilliseconds)
        let hubSent = signed(welcome.sentAtMilliseconds)
        let received = signed(now)
        self.init(
            offsetMilliseconds: ((hubReceived - sent) + (hubSent - received)) / 2,
            roundTripMilliseconds: (received - sent) - (hubSent - hubReceived)
        )
    }
}

extension SyncSession.Event {
    /// The kind of event without what is in it, for logs.
    package var label: String {
        switch self {
        case .linkOpened: "linkOpened"
        case .received(let message, _): message.label
        case .malformed: "malformed"
        case .bytesReceived: "bytesReceived"
        case .bytesSent: "bytesSent"
        case .outboundFull: "outboundFull"
        case .linkClosed: "linkClosed"
        case .factsRead: "factsRead"
        case .welcomeAdopted: "welcomeAdopted"
        case .stepDecided: "stepDecided"
        case .answered: "answered"
        case .joinDecided: "joinDecided"
        case .welcomeDecided: "welcomeDecided"
        case .batchRead: "batchRead"
        case .partRead: "partRead"
        case .spooled: "spooled"
        case .applied: "applied"
        case .rootRead: "rootRead"
        case .logGrew: "logGrew"
        case .timerFired: "timerFired"
        case .finishRequested: "finishRequested"
        case .replaced: "replaced"
        case .expelled: "expelled"
        }
    }
}
