import Causality
import Logging
import NIOCore
import NIOPosix
import SyncProtocol
import Synchronization

/// How one session went.
package struct SessionReport: Sendable {
    /// Why it ended early; nil when it did what it should.
    package let failure: SyncFailure?
    package let totals: SessionTotals
    /// Whether the hub let the child in.
    package let wasWelcomed: Bool
    package let duration: Duration
}

/// Which end of which line a session is at, and what the line's handshake has shown.
enum LineEnd: Sendable {
    /// A child's: who the hub is by its certificate, and a moment that has certainly passed.
    case child(of: CertifiedPeer, earliest: UInt64)
    /// A hub's, towards a node; nil when it has shown no certificate.
    case hub(of: CertifiedPeer?, nodes: any NodeTable)
    /// A hub's, towards a newcomer.
    case enrolment(nonce: Key256)
    /// A newcomer's.
    case newcomer

    /// Which node the other end is, when it is one that may hold a session.
    var peer: CertifiedPeer? {
        switch self {
        case .child(let peer, _): peer
        case .hub(let peer, _): peer
        case .enrolment, .newcomer: nil
        }
    }
}

/// Performs the actions of one ``SyncSession`` on one connection.
///
/// Whoever learns something (the reader, a store thread, a timer) calls ``handle(_:)``, which never blocks.
/// What is to be done goes to three queues, each emptied by one task: messages for the line, what fetches them, and all
/// other questions to the store. The session's own rules bound the queues of the store; the line's queue is
/// bounded here.
final class SessionDriver: Sendable {
    private struct State {
        var session: SyncSession
        var timers: [SyncSession.Timer: Scheduled<Void>] = [:]
        var outboundCount = 0
        var storeWorkers = 2
        var wasWelcomed = false
        var failure: SyncFailure?
        var joined: Joined?
        /// At a hub: how far the node was let in.
        var admission = NodeAdmission.full
    }

    private let state: Mutex<State>
    private let store: any SyncStore
    private let limits: SyncLimits
    private let logger: Logger
    private let rate: LineRate
    private let channel: ByteChannel
    let end: LineEnd
    /// Called when the store has let a node in. True when an older session had to end first, so that the
    /// decision must be made again.
    private let claim: @Sendable (SessionDriver, UniqueID) async -> Bool
    /// Called when the session begins to stream. Must not call back.
    private let onWelcome: @Sendable () -> Void
    private let outbound = AsyncStream.makeStream(of: SyncMessage.self)
    private let fetches = AsyncStream.makeStream(of: SyncSession.Action.self)
    private let questions = AsyncStream.makeStream(of: SyncSession.Action.self)
    /// Opens when the store has nothing more to do for this session.
    let storeIsIdle = Latch()

    init(
        role: SyncSession.Role,
        channel: ByteChannel,
        end: LineEnd,
        store: any SyncStore,
        limits: SyncLimits,
        rate: LineRate = LineRate(),
        logger: Logger,
        claim: @escaping @Sendable (SessionDriver, UniqueID) async -> Bool = { _, _ in false },
        onWelcome: @escaping @Sendable () -> Void = {}
    ) {
        state = Mutex(State(session: SyncSession(role: role, limits: limits)))
        self.channel = channel
        self.end = end
        self.store = store
        self.limits = limits
        self.rate = rate
        self.logger = logger
        self.claim = claim
        self.onWelcome = onWelcome
    }

    /// The answer to a join, when there was one.
    var joined: Joined? { state.withLock { $0.joined } }

    /// Holds the conversation. When the task is cancelled, what is being applied is finished and
    /// acknowledged, and the peer hears a goodbye, before this returns.
    func run() async -> SessionReport {
        let start = ContinuousClock.now
        // A task of its own, so that a cancellation reaches the session as an event instead of tearing its
        // parts down. It cannot outlive this function, which waits for it.
        let conversation = Task { await self.converse() }
        await withTaskCancellationHandler {
            await conversation.value
        } onCancel: {
            self.handle(.finishRequested)
        }
        return state.withLock { state in
            SessionReport(
                failure: state.failure,
                totals: state.session.totals,
                wasWelcomed: state.wasWelcomed,
                duration: ContinuousClock.now - start
            )
        }
    }

    /// Tells the session what happened, and starts what it wants done.
    func handle(_ event: SyncSession.Event) {
        state.withLock { state in
            var actions = state.session.handle(event)
            if state.session.isPeerTrusted, !state.wasWelcomed {
                state.wasWelcomed = true
                onWelcome()
            }
            for action in actions { perform(action, &state) }
            if state.outboundCount > limits.outboundMessagesMax {
                actions = state.session.handle(.outboundFull(messages: state.outboundCount))
                for action in actions { perform(action, &state) }
            }
        }
    }

    private func perform(_ action: SyncSession.Action, _ state: inout State) {
        switch action {
        case .send(let message):
            state.outboundCount += 1
            outbound.continuation.yield(message)
        case .readBatch, .readPart:
            fetches.continuation.yield(action)
        case .readFacts, .adoptWelcome, .takeAnswer, .consult, .answer, .decideJoin, .decideWelcome, .apply,
            .openSpool, .spool, .readRoot, .record:
            questions.continuation.yield(action)
        case .startTimer(let timer, let duration):
            state.timers[timer]?.cancel()
            state.timers[timer] = channel.channel.eventLoop.scheduleTask(in: TimeAmount(duration)) {
                self.handle(.timerFired(timer))
            }
        case .joined(let joined):
            state.joined = joined
        case .close(let failure):
            state.failure = failure
            for timer in SyncSession.Timer.allCases { state.timers[timer]?.cancel() }
            state.timers = [:]
            outbound.continuation.finish()
            fetches.continuation.finish()
            questions.continuation.finish()
            // Counted from here, because a peer that does not read may hold up the last words, too.
            let line = channel.channel
            let cut = line.eventLoop.scheduleTask(in: TimeAmount(limits.lingerTimeout)) {
                line.close(promise: nil)
            }
            line.closeFuture.whenComplete { _ in cut.cancel() }
        }
    }
}

// MARK: - The tasks of a session

extension SessionDriver {
    private func converse() async {
        let stopObserving = store.observeCommits { [weak self] in self?.handle(.logGrew) }
        defer { stopObserving() }
        // Before the first byte is looked at; what it leads to waits in the queues.
        handle(.linkOpened)
        do {
            try await channel.executeThenClose { inbound, outbound in
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { await self.receive(inbound) }
                    group.addTask { await self.transmit(outbound) }
                    group.addTask { await self.answerFetches() }
                    group.addTask { await self.answerQuestions() }
                }
            }
        } catch {
            // The line was gone before it could be closed.
            logger.debug("The connection was closed already", metadata: ["error": "\(error)"])
        }
    }

    /// Turns bytes into messages. After the session is over it drains the line, so that closing it does
    /// not throw away the last words on their way to the peer.
    private func receive(_ inbound: NIOAsyncChannelInboundStream<ByteBuffer>) async {
        let codec = SyncMessageCodec(limits: limits)
        var decoder = FrameDecoder(limits: limits)
        do {
            for try await buffer in inbound {
                let status = state.withLock { ($0.session.isClosed, $0.session.isPeerTrusted) }
                if status.0 { continue }
                if status.1 { decoder.trustPeer() }
                handle(.bytesReceived(buffer.readableBytes))
                decoder.feed(buffer.readableBytesView)
                do throws(SyncWireFailure) {
                    while let message = try decoder.next() {
                        handle(.received(try codec.decode(message), atMilliseconds: store.nowMilliseconds()))
                        if state.withLock({ $0.session.isPeerTrusted }) { decoder.trustPeer() }
                    }
                } catch {
                    handle(.malformed(error))
                }
                // What is not read yet keeps the peer from sending more.
                await rate.pass(buffer.readableBytes, .incoming) { self.state.withLock { $0.session.isClosed } }
            }
        } catch {
            logger.debug("The connection broke", metadata: ["error": "\(error)"])
        }
        handle(.linkClosed)
    }

    private func transmit(_ writer: NIOAsyncChannelOutboundWriter<ByteBuffer>) async {
        let codec = SyncMessageCodec(limits: limits)
        let allocator = channel.channel.allocator
        do {
            if case .enrolment(let nonce) = end { try await writer.write(ByteBuffer(bytes: nonce.bytes)) }
            for await message in outbound.stream {
                let framed = codec.encode(message)
                for index in 0..<framed.frameCount(limits: limits) {
                    let frame = framed.frame(index, limits: limits)
                    var buffer = allocator.buffer(capacity: frame.header.count + frame.payload.count)
                    buffer.writeBytes(frame.header)
                    buffer.writeBytes(frame.payload)
                    while let piece = buffer.readSlice(length: min(rate.pieceBytes ?? .max, buffer.readableBytes)),
                        piece.readableBytes > 0
                    {
                        try await writer.write(piece)
                        handle(.bytesSent(piece.readableBytes))
                        await rate.pass(piece.readableBytes, .outgoing) { self.state.withLock { $0.session.isClosed } }
                    }
                }
                state.withLock { $0.outboundCount -= 1 }
            }
        } catch {
            handle(.linkClosed)
        }
        // The peer gets the end of the line after the last message, and closes its side.
        writer.finish()
    }

    private func answerFetches() async {
        for await fetch in fetches.stream { await perform(fetch) }
        storeWorkerEnded()
    }

    private func answerQuestions() async {
        for await question in questions.stream {
            if case .decideWelcome(let hello, _) = question {
                await decideWelcome(question, of: hello.node)
            } else {
                await perform(question)
            }
        }
        storeWorkerEnded()
    }

    private func storeWorkerEnded() {
        let left = state.withLock { state in
            state.storeWorkers -= 1
            return state.storeWorkers
        }
        if left == 0 { storeIsIdle.open() }
    }

    /// Lets the store do something, and tells the session what came of it.
    private func perform(_ action: SyncSession.Action) async {
        if let event = await outcome(of: action) { handle(event) }
    }

    private func outcome(of action: SyncSession.Action) async -> SyncSession.Event? {
        let wanted = action
        let action: SyncSession.Action
        do throws(SyncStoreFailure) {
            action = try await checked(wanted)
        } catch {
            return wanted.refused(error)
        }
        let store = store
        let threads = action.isRead ? StoreThreads.reads : StoreThreads.writes
        switch await threads.run({ () throws(SyncStoreFailure) in try store.perform(action) }) {
        case .success(.welcomeDecided(.success(var welcome))) where state.withLock({ $0.admission }) == .renewalOnly:
            // Nothing flows before it has another certificate, and it comes back with that.
            welcome.mode = .consult
            return .welcomeDecided(.success(welcome))
        case .success(let event):
            return event
        case .failure(let failure):
            logger.warning("A fact about a peer was not noted", metadata: ["reason": "\(failure)"])
            return nil
        }
    }

    /// What a session wants, as far as the other end of the line may have it: who that is says its certificate, and
    /// never a message.
    private func checked(_ action: SyncSession.Action) async throws(SyncStoreFailure) -> SyncSession.Action {
        switch (action, end) {
        case (.decideWelcome(let hello, _), .hub(let peer, let nodes)):
            guard let peer else {
                throw .refused(
                    Refusal(.unknownNode, "This node has shown no certificate. Ask head office for an invitation.")
                )
            }
            guard peer.node == hello.node else {
                throw .refused(Refusal(.unknownNode, "The certificate on this line is another node's."))
            }
            let admission = try await StoreThreads.writes.run { () throws(SyncStoreFailure) in
                try nodes.admit(peer)
            }.get()
            state.withLock { $0.admission = admission }
        case (.answer(let question, _), .hub):
            guard state.withLock({ $0.admission }) == .full || question.kind == SyncQuestion.renewal else {
                throw .refused(
                    Refusal(
                        .certificateExpired,
                        "The certificate of this node has expired; it may only be renewed here."
                    )
                )
            }
        case (.decideJoin(var join), .enrolment(let nonce)):
            join.nonce = nonce
            return .decideJoin(join)
        case (.adoptWelcome(let welcome, _), .child(let hub, let earliest)):
            guard welcome.node == hub.node else {
                throw .refused(Refusal(.wrongOrganisation, "The certificate on this line is another head office's."))
            }
            // Now head office's own time is known, which only a right certificate may tell.
            guard max(welcome.sentAtMilliseconds, earliest) <= hub.validUntil else {
                throw .refused(
                    Refusal(.certificateExpired, "Head office's certificate has expired. Start head office again.")
                )
            }
        case (.decideWelcome, _), (.decideJoin, _):
            throw .refused(
                Refusal(.unknownNode, "This line is for something else. Use the same version of Peyvand on both sides.")
            )
        default:
            break
        }
        return action
    }

    private func decideWelcome(_ question: SyncSession.Action, of node: UniqueID) async {
        var event = await outcome(of: question)
        // What an older session of the node was applying may have moved what this one is told.
        if case .welcomeDecided(.success)? = event, await claim(self, node) { event = await outcome(of: question) }
        if let event { handle(event) }
    }
}

extension SyncSession.Action {
    /// What a session is told when this was not even asked of the store.
    fileprivate func refused(_ failure: SyncStoreFailure) -> SyncSession.Event? {
        switch self {
        case .decideWelcome: .welcomeDecided(.failure(failure))
        case .decideJoin: .joinDecided(.failure(failure))
        case .adoptWelcome: .welcomeAdopted(.failure(failure))
        case .answer: .answered(.failure(failure))
        default: nil
        }
    }
}

/// Opens once, for everybody who waits.
final class Latch: Sendable {
    private struct State {
        var isOpen = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())

    func open() {
        let waiting = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    func wait() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiting.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }
}
