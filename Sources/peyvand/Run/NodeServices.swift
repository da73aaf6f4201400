import Dispatch
import Foundation
import Logging
import ReplicaStore
import ServiceLifecycle
import SyncTransport

/// Listens for branches.
struct HubService: Service {
    let server: SyncServer
    let address: NodeAddress
    let onListening: @Sendable (Int) -> Void

    func run() async throws {
        try await cancelWhenGracefulShutdown { try await server.run(at: address, onListening: onListening) }
    }
}

/// Answers the commands of this node.
struct CommandService: Service {
    let node: NodeService
    let path: String
    let logger: Logger
    let onListening: @Sendable () -> Void

    func run() async throws {
        try await cancelWhenGracefulShutdown {
            try await LocalSocket.serve(at: path, logger: logger, onListening: onListening) { request, reply in
                try await node.answer(request, reply: reply)
            }
        }
    }
}

/// Looks several times a second whether other programs have written, and takes it up; then lets the search
/// index follow the log, a piece at a time.
struct UpkeepService: Service {
    let replica: Replica
    let logger: Logger

    /// Together with sealing and sending, well within the second that local commits may take.
    private static let interval = Duration.milliseconds(250)

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                await upkeep()
                do { try await Task.sleep(for: Self.interval) } catch { return }
            }
        }
    }

    /// One look, on a thread that may block.
    private func upkeep() async {
        await withCheckedContinuation { done in
            DispatchQueue.global(qos: .utility).async {
                do {
                    try replica.sealForeignWrites()
                    _ = try replica.followLogForSearch(piecesMax: 1)
                } catch {
                    // Told, not fatal: a program may hold its lock for long, and it is tried again.
                    logger.warning("Upkeep could not be done now", metadata: ["reason": "\(error)"])
                }
                done.resume()
            }
        }
    }
}
