import Foundation
import ReplicaStore
import SyncTransport

/// The way of a command to its node: through the socket of a running one, or, when none runs, by opening the
/// replica here, which takes the node's lock.
struct NodeConnection: Sendable {
    private let settings: Settings
    private let language: Language
    /// Nil when the node runs elsewhere.
    private let service: NodeService?

    /// How long a node that is locked but does not answer is waited for: it may be starting or stopping.
    static let patience = Duration.seconds(10)
    private static let retryInterval = Duration.milliseconds(100)

    /// Finds the node.
    ///
    /// - Throws: ``CommandFailure`` when there is none, or it neither answers nor lets go of its lock.
    static func open(_ settings: Settings, language: Language) async throws -> NodeConnection {
        let wallClock = try settings.wallClock()
        let replica = try await openReplica(settings, language: language)
        return NodeConnection(
            settings: settings,
            language: language,
            service: replica.map { NodeService(replica: $0, wallClock: wallClock) }
        )
    }

    /// Opens the replica here; nil when a running node answers for it.
    ///
    /// - Throws: ``CommandFailure`` when there is none, or somebody neither answers nor lets go of its lock.
    static func openReplica(
        _ settings: Settings,
        language: Language
    ) async throws -> Replica? {
        let deadline = ContinuousClock.now + patience
        let clock = try settings.clock()
        while true {
            if try await isServed(settings) { return nil }
            do {
                let replica = try Replica.open(settings.directory, clock: clock)
                try replica.adoptRetention(settings)
                try replica.adoptHub(settings)
                return replica
            } catch StoreFailure.inUse(let directory) {
                guard ContinuousClock.now < deadline else {
                    throw CommandFailure(StoreFailure.inUse(directory: directory), language: language)
                }
                try await Task.sleep(for: retryInterval)
            }
        }
    }

    /// Asks the node and waits for its reply.
    ///
    /// - Parameter progress: Is told how far the work has come, and given what is to be printed.
    /// - Throws: ``CommandFailure``, or what `progress` throws.
    func perform<Request: NodeRequest>(
        _ request: Request,
        progress: (ProgressReport) throws -> Void = { _ in }
    ) async throws -> Request.Reply {
        if let service { return try request.performIfLoaded(in: service, progress: progress) }
        var outcome: [UInt8]?
        let isServed = try await LocalSocket.request(
            NodeWire.bytes(request, language: language),
            at: settings.socketPath
        ) { bytes in
            switch try NodePiece(bytes) {
            case .progress(let report): try progress(report)
            case .reply(let content): outcome = content
            case .failure(let failure): throw failure
            }
        }
        guard isServed else { throw CommandFailure(.failed, Words(language).nodeWentAway) }
        guard let outcome, let reply = try? JSONDecoder().decode(Request.Reply.self, from: Data(outcome))
        else {
            throw NodeWire.foreign
        }
        return reply
    }

    /// The replica, when the node does not run elsewhere.
    var replica: Replica? { service?.replica }

    /// Lets go of the node.
    func close() throws { try service?.replica.close() }

    /// Whether a running node answers on the socket.
    static func isServed(_ settings: Settings) async throws -> Bool {
        guard FileManager.default.fileExists(atPath: settings.socketPath) else { return false }
        do {
            return try await LocalSocket.request(
                NodeWire.bytes(Ping(), language: .en),
                at: settings.socketPath
            ) { _ in }
        } catch SyncTransportFailure.pathTooLong {
            // No node can serve there either.
            return false
        }
    }
}
