import Glibc
import Logging
import NIOCore
import NIOPosix
import SyncProtocol
import Synchronization
import Trust

/// The hub's side: listens, and holds one session with each child.
package final class SyncServer: Sendable {
    private struct Registry {
        /// Connections that have not shown who they are.
        var gate: ConnectionGate
        var strangers: [Int: any Channel] = [:]
        /// Those that have, and have no session yet.
        var pending: [UniqueID: (number: Int, channel: any Channel)] = [:]
        /// One for each node that was let in, with the number of its connection.
        var sessions: [UniqueID: (number: Int, driver: SessionDriver)] = [:]
        /// Connections so far.
        var connections = 0
        var drivers: [ObjectIdentifier: SessionDriver] = [:]
        /// Connections whose handshake is not over.
        var greeting: [ObjectIdentifier: any Channel] = [:]
        var isStopping = false

        /// A connection waits no more among those that have not shown who they are.
        mutating func leaveDoor(_ number: Int) {
            gate.leave(number)
            strangers[number] = nil
        }
    }

    private let store: any SyncStore
    private let nodes: any NodeTable
    private let identity: @Sendable () throws -> NodeIdentity?
    private let limits: SyncLimits
    private let logger: Logger
    private let registry: Mutex<Registry>
    private let security = Mutex<HubSecurity?>(nil)

    /// - Parameters:
    ///   - nodes: Who may take part.
    ///   - identity: With what lines are secured; asked when it begins to listen, and at each ``resetSecurity()``.
    package init(
        store: any SyncStore,
        nodes: any NodeTable,
        identity: @escaping @Sendable () throws -> NodeIdentity?,
        limits: SyncLimits = .standard,
        logger: Logger
    ) {
        self.store = store
        self.nodes = nodes
        self.identity = identity
        self.limits = limits
        self.logger = logger
        registry = Mutex(Registry(gate: ConnectionGate(limits: limits)))
    }

    /// The nodes that have a session now, ascending.
    package var connectedNodes: [UniqueID] {
        registry.withLock { $0.sessions.keys.sorted() }
    }

    /// How many connections have come so far.
    var connectionCount: Int { registry.withLock { $0.connections } }

    /// Uses the present identity from now on, and lets no line be resumed that was secured before.
    package func resetSecurity() {
        do {
            guard let identity = try identity() else { return }
            try security.withLock { $0 }?.reset(identity)
        } catch {
            logger.error("The certificate of this node cannot be used", metadata: ["reason": "\(error)"])
        }
    }

    /// Ends the sessions of nodes that may no longer stay, and lets them in no more by what was remembered of them.
    private func expel() async {
        resetSecurity()
        await recheckSessions()
    }

    /// Looks at every session again: whose node may no longer stay, or has a certificate that has expired meanwhile.
    package func recheckSessions() async {
        let sessions = registry.withLock { registry in registry.sessions.values.map(\.driver) }
        for driver in sessions {
            guard let peer = driver.end.peer else { continue }
            let nodes = nodes
            let answer = await StoreThreads.writes.run { () throws(SyncStoreFailure) in try nodes.admit(peer) }
            if case .success(.renewalOnly) = answer { driver.handle(.finishRequested) }
            guard case .failure(.refused(let refusal)) = answer else { continue }
            logger.warning(
                "A session was ended, because its node may no longer stay",
                metadata: ["node": "\(peer.node)", "reason": "\(refusal.code)"]
            )
            driver.handle(.expelled(refusal))
        }
    }

    /// Listens and serves until the task is cancelled; then ends every session in order and returns.
    ///
    /// - Parameter onListening: Gets the port, once the hub listens: port 0 lets the system choose one.
    /// - Throws: ``SyncTransportFailure`` when it cannot listen.
    package func run(
        at address: NodeAddress,
        onListening: @Sendable (Int) -> Void = { _ in }
    ) async throws(SyncTransportFailure) {
        let (security, root) = try makeSecurity()
        let listener = try await listen(at: address, security, root)
        let stopObserving = nodes.observeNodes { [weak self] in
            // Whoever decided must not wait for those who are sent away.
            Task { await self?.expel() }
        }
        defer { stopObserving() }
        logger.info("Listening", metadata: ["address": "\(address)"])
        registry.withLock { $0.isStopping = false }
        onListening(listener.channel.localAddress?.port ?? address.port)
        // A task of its own, so that a cancellation ends listener and sessions in order instead of tearing
        // them down. It cannot outlive this function, which waits for it.
        let serving = Task {
            do {
                try await listener.serveEach { await self.serve($0) }
            } catch {
                self.logger.debug("The listener ended", metadata: ["error": "\(error)"])
            }
        }
        await withTaskCancellationHandler {
            await serving.value
        } onCancel: {
            self.stop(listener)
        }
        logger.info("No longer listening", metadata: ["address": "\(address)"])
    }

    private func stop(_ listener: Listener) {
        let (drivers, greeting) = registry.withLock { registry in
            registry.isStopping = true
            return (Array(registry.drivers.values), Array(registry.greeting.values))
        }
        listener.channel.close(promise: nil)
        for channel in greeting { channel.close(promise: nil) }
        for driver in drivers { driver.handle(.finishRequested) }
    }

    private func makeSecurity() throws(SyncTransportFailure) -> (HubSecurity, root: [UInt8]) {
        do {
            guard let identity = try identity() else { throw SyncTransportFailure.noIdentity(reason: "there is none.") }
            let security = try HubSecurity(identity)
            self.security.withLock { $0 = security }
            return (security, identity.root)
        } catch let failure as SyncTransportFailure {
            throw failure
        } catch {
            throw .noIdentity(reason: "\(error)")
        }
    }

    private func listen(
        at address: NodeAddress,
        _ security: HubSecurity,
        _ root: [UInt8]
    ) async throws(SyncTransportFailure) -> Listener {
        let resolved = try await StoreThreads.names.run { () throws(SyncTransportFailure) in
            try address.resolve()
        }.get()
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
        do {
            return try await bootstrap.bind(to: resolved[0]) { channel in
                ByteChannel.prepare(channel) { security.handler(trusting: root) }
            }
        } catch {
            switch (error as? IOError)?.errnoCode {
            case EADDRINUSE: throw .portInUse(address)
            case EADDRNOTAVAIL: throw .addressNotHere(address)
            case EACCES: throw .notAllowed(address)
            default: throw .cannotListen(address, reason: "\(error)")
            }
        }
    }

    /// Waits for the handshake of a connection; nil when it failed.
    private func greet(_ channel: any Channel) async -> (LineGreeting, ByteChannel)? {
        let isStopping = registry.withLock { registry in
            registry.greeting[ObjectIdentifier(channel)] = channel
            return registry.isStopping
        }
        if isStopping { channel.close(promise: nil) }
        defer { registry.withLock { $0.greeting[ObjectIdentifier(channel)] = nil } }
        do {
            let greeting = try await ByteChannel.greeting(of: channel, within: limits.handshakeTimeout)
            return (greeting, try await ByteChannel.take(over: channel))
        } catch {
            channel.close(promise: nil)
            logger.info("A connection ended before it was secured")
            logger.debug("Why it could not be secured", metadata: ["reason": "\(error)"])
            return nil
        }
    }

    private func serve(_ channel: any Channel) async {
        let address = RemoteAddress(channel.remoteAddress)
        let admitted = registry.withLock { registry -> (number: Int, leaving: (any Channel)?)? in
            registry.connections += 1
            let number = registry.connections
            guard case .enter(let other) = registry.gate.arrive(number, from: address, at: .now) else { return nil }
            registry.strangers[number] = channel
            return (number, other.flatMap { registry.strangers.removeValue(forKey: $0) })
        }
        guard let (number, leaving) = admitted else {
            logger.debug("A connection was closed: too many come from its address")
            channel.close(promise: nil)
            return
        }
        leaving?.close(promise: nil)
        defer { letGo(number) }
        guard let (greeting, connection) = await greet(channel) else { return }
        let end: LineEnd
        switch greeting.purpose {
        case .session:
            // After every handshake, resumed or not, the certificate is what counts: see `SessionDriver`.
            let peer = greeting.peer.flatMap(CertifiedPeer.init)
            if let peer, await !expect(peer.node, number, connection) { return }
            end = .hub(of: peer, nodes: nodes)
        case .enrolment:
            end = .enrolment(nonce: NewcomerNonce.make())
        case nil:
            logger.info("A connection did not say what it is for")
            await close(connection, saying: [])
            return
        }
        let node = Mutex<UniqueID?>(nil)
        let driver = SessionDriver(
            role: .hub,
            channel: connection,
            end: end,
            store: store,
            limits: limits,
            logger: logger,
            claim: { driver, id in
                self.letGo(number)
                node.withLock { $0 = id }
                return await self.claim(id, for: driver, number: number)
            }
        )
        let isStopping = registry.withLock { registry in
            registry.drivers[ObjectIdentifier(driver)] = driver
            return registry.isStopping
        }
        if isStopping { driver.handle(.finishRequested) }
        let report = await driver.run()
        registry.withLock { $0.drivers[ObjectIdentifier(driver)] = nil }
        if let id = node.withLock({ $0 }) {
            registry.withLock { registry in
                if registry.sessions[id]?.driver === driver { registry.sessions[id] = nil }
            }
            log(report, of: id)
        } else if let failure = report.failure {
            logger.info("A connection ended before it was let in", metadata: ["reason": "\(failure)"])
        }
    }

    /// Makes `driver` the one session of a node. Returns whether an older one had to end.
    ///
    /// Of two connections the one that was made later wins, even if the earlier is heard of only now: its
    /// bytes may have been on the way while its node had long given up on it.
    private func claim(_ node: UniqueID, for driver: SessionDriver, number: Int) async -> Bool {
        var hadToWait = false
        while true {
            let other: (number: Int, driver: SessionDriver)? = registry.withLock { registry in
                if let other = registry.sessions[node], other.driver !== driver {
                    if other.number < number { registry.sessions[node] = nil }
                    return other
                }
                registry.sessions[node] = (number, driver)
                return nil
            }
            guard let other else { return hadToWait }
            if other.number > number {
                driver.handle(.replaced)
                return false
            }
            hadToWait = true
            other.driver.handle(.replaced)
            await other.driver.storeIsIdle.wait()
        }
    }

    /// A connection has a session, or has ended: it waits no more. Again does no harm.
    private func letGo(_ number: Int) {
        registry.withLock { registry in
            registry.leaveDoor(number)
            registry.pending = registry.pending.filter { $0.value.number != number }
        }
    }

    /// Lets a node that has shown its certificate wait for its session; the last connection that it made is the one that
    /// counts. False when the connection was ended instead.
    private func expect(_ node: UniqueID, _ number: Int, _ connection: ByteChannel) async -> Bool {
        enum Place { case free, taken, newer }
        let (place, older) = registry.withLock { registry -> (Place, (any Channel)?) in
            registry.leaveDoor(number)
            let other = registry.pending[node]
            if let other, other.number > number { return (.newer, nil) }
            let count = registry.sessions.count + registry.pending.count
            guard other != nil || registry.sessions[node] != nil || count < limits.sessionsMax else {
                return (.taken, nil)
            }
            registry.pending[node] = (number, connection.channel)
            return (.free, other?.channel)
        }
        older?.close(promise: nil)
        switch place {
        case .free:
            return true
        case .newer:
            await close(connection, saying: [])
        case .taken:
            let refusal = Refusal(
                .busy,
                "Head office holds \(limits.sessionsMax) sessions already. Come back later.",
                retryAfterSeconds: limits.busyRetrySeconds
            )
            let refused = SyncMessageCodec(limits: limits).encode(.refuse(refusal)).frames(limits: limits)
            await close(connection, saying: refused)
        }
        return false
    }

    /// Says a last word, and ends a connection.
    private func close(_ connection: ByteChannel, saying bytes: [UInt8]) async {
        let channel = connection.channel
        let cut = channel.eventLoop.scheduleTask(in: TimeAmount(limits.lingerTimeout)) {
            channel.close(promise: nil)
        }
        defer { cut.cancel() }
        do {
            try await connection.executeThenClose { inbound, outbound in
                if !bytes.isEmpty { try await outbound.write(ByteBuffer(bytes: bytes)) }
                outbound.finish()
                for try await _ in inbound {}
            }
        } catch {
            logger.debug("A connection that was turned away broke", metadata: ["error": "\(error)"])
        }
    }

    private func log(_ report: SessionReport, of node: UniqueID) {
        logger.info(
            "A session ended",
            metadata: report.metadata.merging(["node": "\(node)"]) { first, _ in first }
        )
    }
}

extension SessionReport {
    /// Counts, for the log.
    var metadata: Logger.Metadata {
        var metadata: Logger.Metadata = [
            "sentChangeSets": "\(totals.sent.changeSets)", "sentRows": "\(totals.sent.rows)",
            "sentBytes": "\(totals.sent.bytes)", "receivedChangeSets": "\(totals.received.changeSets)",
            "receivedRows": "\(totals.received.rows)", "receivedBytes": "\(totals.received.bytes)",
            "duration": "\(duration)",
        ]
        if let failure { metadata["reason"] = "\(failure)" }
        return metadata
    }
}
