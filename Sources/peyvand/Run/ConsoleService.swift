import Dispatch
import Logging
import ReplicaStore
import ServiceLifecycle
import SyncTransport
import WebConsole

/// Answers programs and browsers on this machine: `/metrics`.
struct ConsoleService: Service {
    let node: NodeService
    let address: NodeAddress
    let logger: Logger
    let onListening: @Sendable (Int) -> Void

    func run() async throws {
        try await cancelWhenGracefulShutdown {
            try await ConsoleServer.serve(
                at: address.host,
                port: address.port,
                logger: logger,
                onListening: onListening
            ) { path in
                path == "/metrics" ? await metrics() : nil
            }
        }
    }

    /// How the node is, as Prometheus reads it.
    private func metrics() async -> ConsoleServer.Reply {
        let node = node
        return await withCheckedContinuation { done in
            // Reading blocks.
            DispatchQueue.global(qos: .utility).async {
                do {
                    let metrics = try ShowMetrics().perform(in: node) { _ in }
                    done.resume(
                        returning: ConsoleServer.Reply(
                            contentType: Metric.contentType,
                            body: Array(Metric.text(metrics).utf8)
                        )
                    )
                } catch {
                    done.resume(
                        returning: ConsoleServer.Reply(
                            status: 503,
                            contentType: "text/plain; charset=utf-8",
                            body: Array((CommandFailure(error).sentence + "\n").utf8)
                        )
                    )
                }
            }
        }
    }
}
