import Foundation
import Logging
import ReplicaStore
import ServiceLifecycle
import SyncProtocol
import SyncTransport
import Synchronization

/// A branch's line to its hub while the node runs: one session, kept open and opened again; or, when somebody
/// asks for it, one complete exchange in between.
///
/// There is never more than one session: the exchange waits until the standing one has left.
final class HubLink: Service {
    private let client: SyncClient
    private let hub: @Sendable () -> NodeAddress
    /// Somebody waits for one complete exchange.
    private struct Request {
        let timeout: Duration?
        let answer: CheckedContinuation<SessionReport, Never>
    }

    private let requests = AsyncStream.makeStream(of: Request.self)

    init(client: SyncClient, hub: @escaping @Sendable () -> NodeAddress) {
        self.client = client
        self.hub = hub
    }

    /// Holds sessions until the service is stopped; leaves the hub in order then.
    func run() async throws {
        await cancelWhenGracefulShutdown {
            var requests = self.requests.stream.makeAsyncIterator()
            while !Task.isCancelled {
                let standing = Task { await self.client.stayConnected(to: self.hub) }
                let request = await withTaskCancellationHandler {
                    await requests.next()
                } onCancel: {
                    standing.cancel()
                }
                standing.cancel()
                await standing.value
                guard let request else { return }
                request.answer.resume(returning: await self.client.sync(with: self.hub(), timeout: request.timeout))
            }
        }
    }

    /// Exchanges everything there is, once.
    ///
    /// - Parameter timeout: After that the session leaves; what was exchanged stays.
    func syncNow(timeout: Duration?) async -> SessionReport {
        await withCheckedContinuation { answer in
            _ = requests.continuation.yield(Request(timeout: timeout, answer: answer))
        }
    }
}

extension Replica {
    /// Lets a branch call head office where the settings say.
    ///
    /// It keeps the address: head office has moved, or another machine has taken its place.
    func adoptHub(_ settings: Settings) throws {
        guard node.role == .branch, let written = settings.value(.hub) else { return }
        guard let address = NodeAddress(written), address.port > 0 else {
            throw CommandFailure(
                .usage,
                "The setting hub is \"\(written)\", which is no address to call. Write it as 127.0.0.1:7443."
            )
        }
        try moveHub(to: written)
    }
}

extension Replica {
    /// With what this branch calls head office.
    func childSecurity() throws -> ChildSecurity {
        guard let identity = try lineIdentity() else { throw StoreFailure.notCertified(reason: "none was given to it") }
        return ChildSecurity(
            identity: identity,
            hub: node.hub?.node.flatMap(UniqueID.init(bytes:)),
            earliest: earliestPresent()
        )
    }
}

extension SyncClient {
    /// One session that leaves after a while, done or not; what was exchanged stays.
    func sync(with hub: NodeAddress, timeout: Duration?) async -> SessionReport {
        let session = Task { await sync(with: hub) }
        let watchdog = timeout.map { limit in
            Task {
                try await Task.sleep(for: limit)
                session.cancel()
            }
        }
        defer { watchdog?.cancel() }
        return await withTaskCancellationHandler {
            await session.value
        } onCancel: {
            session.cancel()
        }
    }
}
