import Causality
import Glibc
import Logging
import NIOCore
import NIOPosix
import SyncProtocol
import Synchronization
import Trust

/// The child's side: calls the hub.
package final class SyncClient: Sendable {
    /// What `status` shows of the line to the hub.
    package struct Status: Hashable, Sendable {
        /// Whether a session is open now.
        package var isConnected = false
        /// Why the last session ended; nil when it did what it should, or there was none.
        package var lastFailure: SyncFailure?
    }

    private let store: any SyncStore
    private let security: @Sendable () throws -> ChildSecurity
    private let limits: SyncLimits
    private let rate: LineRate
    private let isUrgent: @Sendable () -> Bool
    private let logger: Logger
    private let current = Mutex(Status())

    /// - Parameters:
    ///   - security: Asked before every call.
    ///   - rate: How much of the line may be used, and when.
    ///   - isUrgent: Whether something waits that is to be sent at once, even where the line is to be left alone. Blocks.
    package init(
        store: any SyncStore,
        security: @escaping @Sendable () throws -> ChildSecurity,
        limits: SyncLimits = .standard,
        rate: LineRate = LineRate(),
        isUrgent: @escaping @Sendable () -> Bool = { false },
        logger: Logger
    ) {
        self.store = store
        self.security = security
        self.limits = limits
        self.rate = rate
        self.isUrgent = isUrgent
        self.logger = logger
    }

    /// How the line is now.
    package var status: Status { current.withLock { $0 } }

    /// Holds one session: sends and takes everything there is, compares, and leaves.
    ///
    /// When the task is cancelled, it leaves as soon as what is being applied is done.
    package func sync(with hub: NodeAddress) async -> SessionReport {
        await converse(with: hub, role: .child(isOneShot: true), sessionsMax: Self.reconnectsMax)
    }

    /// How often one call may end with a reason to call again at once: a new life, a refill and a first load
    /// need a session each.
    private static let reconnectsMax = 8

    /// Keeps a session open until the task is cancelled, and calls again whenever one ended.
    ///
    /// - Parameters:
    ///   - hub: Asked before every call, so that a changed address is used at the next one.
    ///   - random: 0 to 1, for the jitter.
    ///   - pause: Waits; throws when the task is cancelled.
    package func stayConnected(
        to hub: @Sendable () -> NodeAddress,
        backoff: Backoff = Backoff(),
        random: @Sendable () -> Double = { Double.random(in: 0...1) },
        pause: @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) }
    ) async {
        var attempt = 0
        var wasClosed = false
        while !Task.isCancelled {
            let isClosed = rate.isClosed
            if isClosed != wasClosed {
                logger.info(isClosed ? "The line is left alone for a while, as planned" : "The line may be used again")
                wasClosed = isClosed
            }
            if isClosed, await !somethingIsUrgent() {
                do { try await pause(Self.lookInterval) } catch { return }
                continue
            }
            let report = await converse(
                with: hub(),
                role: .child(isOneShot: isClosed),
                sessionsMax: Self.reconnectsMax
            )
            if Task.isCancelled { return }
            if report.deservesQuickReturn { attempt = 0 }
            let delay = backoff.delay(
                attempt: attempt,
                retryAfterSeconds: report.failure?.retryAfterSeconds,
                random: random()
            )
            attempt += 1
            logger.info("The hub is called again", metadata: ["in": "\(delay)", "attempt": "\(attempt)"])
            do { try await pause(delay) } catch { return }
        }
    }

    /// How often it is looked whether the line may be used, or must no longer be.
    private static let lookInterval = Duration.seconds(2)

    private func somethingIsUrgent() async -> Bool {
        let isUrgent = isUrgent
        let answer = await StoreThreads.reads.run { () throws(SyncStoreFailure) in isUrgent() }
        if case .success(true) = answer { return true }
        return false
    }

    /// Ends a session that stays open when the line is to be left alone.
    private func watchRate(_ driver: SessionDriver) async {
        while !Task.isCancelled {
            if rate.isClosed {
                driver.handle(.finishRequested)
                return
            }
            do { try await Task.sleep(for: Self.lookInterval) } catch { return }
        }
    }

    /// Shows an invitation to a hub. The same invitation with the same node and key may be shown again.
    ///
    /// - Parameters:
    ///   - rootKey: To which root the hub's certificate must lead: the SHA-256 of its public key.
    ///   - join: What is shown, made from the hub's nonce.
    /// - Throws: ``SyncFailure``; `refused` holds what the hub said.
    package static func join(
        at hub: NodeAddress,
        rootKey: Key256,
        join: @Sendable (_ nonce: Key256) throws -> Join,
        limits: SyncLimits = .standard,
        logger: Logger
    ) async throws(SyncFailure) -> Joined {
        let end: ChildEnd
        do { end = try ChildEnd(rootKey: rootKey) } catch { throw .storeFailed("TLS cannot be used (\(error)).") }
        let shown: Join
        let raw: any Channel
        do throws(SyncTransportFailure) {
            let greeting: LineGreeting
            (raw, greeting) = try await secure(hub, end, preambleBytes: NewcomerNonce.byteCount, limits: limits, logger)
            guard greeting.purpose == .enrolment, let nonce = Key256(bytes: greeting.preamble) else {
                raw.close(promise: nil)
                throw .notSecured(hub)
            }
            do {
                shown = try join(nonce)
            } catch {
                raw.close(promise: nil)
                throw .noIdentity(reason: "\(error)")
            }
        } catch {
            throw SyncFailure(error)
        }
        let channel: ByteChannel
        do { channel = try await ByteChannel.take(over: raw) } catch { throw .linkLost }
        let driver = SessionDriver(
            role: .joiner(shown),
            channel: channel,
            end: .newcomer,
            store: NoStore(),
            limits: limits,
            logger: logger
        )
        let report = await driver.run()
        guard let joined = driver.joined else { throw report.failure ?? .linkLost }
        return joined
    }

    /// Holds a session, and the ones that follow at once from what it has changed; reports on all of them.
    private func converse(
        with hub: NodeAddress,
        role: SyncSession.Role,
        sessionsMax: Int
    ) async -> SessionReport {
        var report = await converse(with: hub, role: role)
        for _ in 1..<sessionsMax {
            guard report.failure == .reconnecting, !Task.isCancelled else { break }
            report = report.followed(by: await converse(with: hub, role: role))
        }
        return report
    }

    private func converse(with hub: NodeAddress, role: SyncSession.Role) async -> SessionReport {
        // Takes up what other programs have written before the line is there: that may take longer than a hub waits
        // for a hello. What goes wrong here goes wrong in the session again, which tells.
        let store = store
        _ = await StoreThreads.writes.run { () throws(SyncStoreFailure) in try store.childFacts() }
        let channel: ByteChannel
        let end: LineEnd
        do throws(SyncTransportFailure) {
            (channel, end) = try await connect(to: hub)
        } catch {
            let failure = SyncFailure(error)
            current.withLock { $0 = Status(isConnected: false, lastFailure: failure) }
            logger.info("The hub cannot be reached", metadata: ["reason": "\(error)"])
            return SessionReport(
                failure: failure,
                totals: SessionTotals(),
                wasWelcomed: false,
                duration: .zero
            )
        }
        let driver = SessionDriver(
            role: role,
            channel: channel,
            end: end,
            store: store,
            limits: limits,
            rate: rate,
            logger: logger,
            onWelcome: { self.current.withLock { $0 = Status(isConnected: true, lastFailure: nil) } }
        )
        let watch = role == .child(isOneShot: false) ? Task { await self.watchRate(driver) } : nil
        defer { watch?.cancel() }
        let report = await driver.run()
        current.withLock { $0 = Status(isConnected: false, lastFailure: report.failure) }
        logger.info("The session with the hub ended", metadata: report.metadata)
        return report
    }

    /// Calls the hub; who it is was checked when this returns.
    private func connect(to hub: NodeAddress) async throws(SyncTransportFailure) -> (ByteChannel, LineEnd) {
        let security: ChildSecurity
        let end: ChildEnd
        do {
            security = try self.security()
            end = try ChildEnd(security)
        } catch {
            throw .noIdentity(reason: "\(error)")
        }
        let (channel, greeting) = try await Self.secure(hub, end, limits: limits, logger)
        guard greeting.purpose == .session, let peer = greeting.peer.flatMap(CertifiedPeer.init) else {
            channel.close(promise: nil)
            throw .notSecured(hub)
        }
        do {
            return (try await ByteChannel.take(over: channel), .child(of: peer, earliest: security.earliest))
        } catch {
            channel.close(promise: nil)
            throw .notSecured(hub)
        }
    }

    /// Makes a connection and secures it.
    private static func secure(
        _ hub: NodeAddress,
        _ end: ChildEnd,
        preambleBytes: Int = 0,
        limits: SyncLimits,
        _ logger: Logger
    ) async throws(SyncTransportFailure) -> (any Channel, LineGreeting) {
        let addresses = try await StoreThreads.names.run { () throws(SyncTransportFailure) in
            try hub.resolve()
        }.get()
        let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connectTimeout(TimeAmount(limits.connectTimeout))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
        var reason = ""
        for address in addresses {
            let channel: any Channel
            do {
                channel = try await bootstrap.connect(to: address) { channel in
                    ByteChannel.prepare(channel, preambleBytes: preambleBytes) { try end.handler() }
                }
            } catch {
                reason = (error as? IOError).map { String(cString: strerror($0.errnoCode)) } ?? "\(error)"
                continue
            }
            do {
                return (channel, try await ByteChannel.greeting(of: channel, within: limits.handshakeTimeout))
            } catch {
                logger.debug("Why a line could not be secured", metadata: ["reason": "\(error)"])
                throw end.failure == nil ? .notSecured(hub) : .foreignHub(hub)
            }
        }
        throw .noAnswer(hub, reason: reason)
    }
}

extension SyncFailure {
    /// What a session that never was ended with.
    fileprivate init(_ failure: SyncTransportFailure) {
        switch failure {
        case .foreignHub:
            self = .refusedPeer(
                Refusal(
                    .wrongOrganisation,
                    "This head office belongs to another organisation. Check the address of the hub."
                )
            )
        case .noIdentity:
            self = .storeFailed(failure.description)
        default:
            self = .unreachable(failure.description)
        }
    }
}

extension SessionReport {
    /// This session and the next one as one.
    fileprivate func followed(by next: SessionReport) -> SessionReport {
        SessionReport(
            failure: next.failure,
            totals: totals.followed(by: next.totals),
            wasWelcomed: wasWelcomed || next.wasWelcomed,
            duration: duration + next.duration
        )
    }

    /// Whether the line was good for something, so that the next call need not wait longer and longer. A
    /// session that ends at once in the same way every time must not become a busy loop.
    fileprivate var deservesQuickReturn: Bool {
        switch failure {
        case nil, .linkLost, .peerSilent, .peerLeft, .stopped, .peerDoesNotRead, .reconnecting:
            wasWelcomed
                && (duration >= .seconds(10) || totals.sent.changeSets + totals.received.changeSets > 0)
        case .unreachable, .greetingTimedOut, .refused, .refusedPeer, .replaced, .storeFailed, .malformed,
            .noCommonVersion, .unexpected, .windowExceeded, .batchTooLarge, .outOfOrder,
            .acknowledgedUnknown, .tooManyPings:
            false
        }
    }
}

/// Stands in for the store of a node that does not exist yet.
private struct NoStore: SyncStore {
    private var failure: SyncStoreFailure { .unavailable("This node has not joined yet.") }

    func nowMilliseconds() -> UInt64 { 0 }
    func observeCommits(_ callback: @escaping @Sendable () -> Void) -> @Sendable () -> Void { {} }
    func childFacts() throws(SyncStoreFailure) -> Hello { throw failure }
    func adoptWelcome(_ welcome: Welcome, clock: ClockMeasurement) throws(SyncStoreFailure) -> SyncStep {
        throw failure
    }
    func take(_ answer: SyncAnswer, to question: SyncQuestion) throws(SyncStoreFailure) -> SyncStep { throw failure }
    func consult(on occasion: SyncOccasion) throws(SyncStoreFailure) -> SyncStep { throw failure }
    func answer(_ question: SyncQuestion, from peer: SyncPeer) throws(SyncStoreFailure) -> SyncAnswer { throw failure }
    func decideJoin(_ join: Join) throws(SyncStoreFailure) -> Joined { throw failure }
    func decideWelcome(
        _ hello: Hello,
        receivedAtMilliseconds: UInt64
    ) throws(SyncStoreFailure) -> Welcome { throw failure }
    func readOwn(
        afterSeq: UInt64,
        bytesMax: Int,
        entriesMax: Int
    ) throws(SyncStoreFailure) -> OutgoingBatch { throw failure }
    func readLog(
        afterPosition: UInt64,
        for reader: Origin,
        bytesMax: Int,
        entriesMax: Int
    ) throws(SyncStoreFailure) -> OutgoingBatch { throw failure }
    func readPart(_ request: PartRequest) throws(SyncStoreFailure) -> [UInt8] { throw failure }
    func openSpool(for body: LargeBody, from peer: SyncPeer) throws(SyncStoreFailure) -> Int { throw failure }
    func spool(
        _ part: [UInt8],
        at offset: Int,
        of body: LargeBody,
        from peer: SyncPeer
    ) throws(SyncStoreFailure) -> Int { throw failure }
    func apply(_ batches: [ChangeBatch], from peer: SyncPeer) throws(SyncStoreFailure) -> ApplyOutcome {
        throw failure
    }
    func currentRoot(at prefix: LogPrefix, child: ChangeSetID) throws(SyncStoreFailure) -> DatabaseRoot? {
        throw failure
    }
    func record(_ fact: SyncFact, of peer: SyncPeer) throws(SyncStoreFailure) { throw failure }
}
