import ArgumentParser

/// Prints what monitoring watches.
struct MetricsCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "metrics",
        abstract: "Numbers of this node for Prometheus; a running node has them at /metrics of its console too."
    )

    struct Document: Encodable {
        let metrics: [Metric]
    }

    @OptionGroup var node: NodeOptions

    func run(_ session: CommandSession) async throws {
        let metrics = try await session.ask(ShowMetrics())
        try session.output.result(Document(metrics: metrics), text: Metric.text(metrics))
    }
}
