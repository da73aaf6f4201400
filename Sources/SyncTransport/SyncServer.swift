import Glibc
import Logging
import NIOCore
import NIOPosix
import SyncProtocol
import Synchronization

/// The hub's side: listens, and holds one session with each child.
package final class SyncServer: Sendable {
    private struct Registry {
        /// Connections that were not let in yet.
        var strangers = 0
        /// One for each node that was let in, with the number of its connection.
        var sessions: [UniqueID: (number: Int, driver: SessionDriver)] = [:]
        /// Connections so far.
        var connections = 0
        var drivers: [ObjectIdentifier: SessionDriver] = [:]
        var isStopping = false
    }

    private let store: any SyncStore
    private let limits: SyncLimits
    private let logger: Logger
    private let registry = Mutex(Registry())

    package init(store: any SyncStore, limits: SyncLimits = .standard, logger: Logger) {
        self.store = store
        self.limits = limits
        self.logger = logger
    }

    /// The nodes that have a session now, ascending.
    package var connectedNodes: [UniqueID] {
        registry.withLock { $0.sessions.keys.sorted() }
    }

    /// Listens and serves until the task is cancelled; then ends every session in order and returns.
    ///
    /// - Parameter onListening: Gets the port, once the hub listens: port 0 lets the system choose one.
    /// - Throws: ``SyncTransportFailure`` when it cannot listen.
    package func run(
        at address: NodeAddress,
        onListening: @Sendable (Int) -> Void = { _ in }
    ) async throws(SyncTransportFailure) {
        let listener = try await listen(at: address)
        logger.info("Listening", metadata: ["address": "\(address)"])
        registry.withLock { $0.isStopping = false }
        onListening(listener.channel.localAddress?.port ?? address.port)
        // A task of its own, so that a cancellation ends listener and sessions in order instead of tearing
        // them down. It cannot outlive this function, which waits for it.
        let serving = Task {
            do {
                try await listener.serveAll { await self.serve($0) }
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
        let drivers = registry.withLock { registry in
            registry.isStopping = true
            return Array(registry.drivers.values)
        }
        listener.channel.close(promise: nil)
        for driver in drivers { driver.handle(.finishRequested) }
    }

    private func listen(
        at address: NodeAddress
    ) async throws(SyncTransportFailure) -> Listener {
        let resolved = try await StoreThreads.names.run { () throws(SyncTransportFailure) in
            try address.resolveLoopback()
        }.get()
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
        do {
            return try await bootstrap.bind(to: resolved[0]) { ByteChannel.prepare($0) }
        } catch {
            switch (error as? IOError)?.errnoCode {
            case EADDRINUSE: throw .portInUse(address)
            case EADDRNOTAVAIL: throw .addressNotHere(address)
            case EACCES: throw .notAllowed(address)
            default: throw .cannotListen(address, reason: "\(error)")
            }
        }
    }

    private func serve(_ connection: ByteChannel) async {
        let admitted: Int? = registry.withLock { registry in
            guard registry.strangers < limits.unauthenticatedConnectionsMax else { return nil }
            registry.strangers += 1
            registry.connections += 1
            return registry.connections
        }
        guard let number = admitted else {
            await turnAway(connection)
            return
        }
        let stranger = Mutex(true)
        // Frees the place among those who were not let in, once.
        let release: @Sendable () -> Void = {
            let wasStranger = stranger.withLock { isStranger in
                defer { isStranger = false }
                return isStranger
            }
            if wasStranger { self.registry.withLock { $0.strangers -= 1 } }
        }
        let node = Mutex<UniqueID?>(nil)
        let driver = SessionDriver(
            role: .hub,
            channel: connection,
            store: store,
            limits: limits,
            logger: logger,
            claim: { driver, id in
                release()
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
        release()
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

    private func turnAway(_ connection: ByteChannel) async {
        let refusal = Refusal(
            .busy,
            "This hub has \(limits.unauthenticatedConnectionsMax) connections that have not said who they are. "
                + "Come back later.",
            retryAfterSeconds: 5
        )
        let bytes = SyncMessageCodec(limits: limits).encode(.refuse(refusal)).frames(limits: limits)
        let channel = connection.channel
        let cut = channel.eventLoop.scheduleTask(in: TimeAmount(limits.lingerTimeout)) {
            channel.close(promise: nil)
        }
        defer { cut.cancel() }
        do {
            try await connection.executeThenClose { inbound, outbound in
                try await outbound.write(ByteBuffer(bytes: bytes))
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
