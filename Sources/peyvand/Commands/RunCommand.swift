import ArgumentParser
import Foundation
import Logging
import ReplicaStore
import ServiceLifecycle
import SyncTransport

/// The service.
struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run the node: synchronise, and answer commands. Stops in order on SIGTERM or Ctrl-C."
    )

    @Option(
        help: ArgumentHelp(
            "Head office: where it listens for branches (default: 127.0.0.1:7443).",
            valueName: "host:port"
        )
    )
    var listen: String?

    @Option(help: ArgumentHelp("Branch: where it calls head office from now on.", valueName: "host:port"))
    var hub: String?

    @Option(
        help: ArgumentHelp(
            "Where the console listens on this machine; it has /metrics (default: nowhere).",
            valueName: "host:port"
        )
    )
    var console: String?

    @Option(
        help: ArgumentHelp("How the log is written: text, or json for one object a line.", valueName: "text|json")
    )
    var log: String?

    @Option(help: ArgumentHelp("From which level on the log is written (default: info).", valueName: "level"))
    var logLevel: String?

    @Option(
        help: ArgumentHelp(
            "Branch: how many kilobytes a second the line may carry each way, by local time: \"08:00-16:00 20, 16:00-18:00 0\".",
            valueName: "windows"
        )
    )
    var bandwidth: String?

    @Option(
        help: ArgumentHelp(
            "Branch: tables of which changes are sent at once, even where --bandwidth says 0.",
            valueName: "table,..."
        )
    )
    var urgent: String?

    @OptionGroup var options: NodeOptions

    func run() async throws {
        let settings = try options.settings().with(.hub, flag: hub).with(.log, flag: log)
            .with(.logLevel, flag: logLevel).with(.listen, flag: listen).with(.console, flag: console)
            .with(.bandwidth, flag: bandwidth).with(.urgent, flag: urgent)
        let output = try options.output(settings)
        let log = try ServiceLog(settings)
        let logger = log.logger()
        do {
            try await serve(settings, output, log, logger)
        } catch {
            // Whoever reads the log as JSON finds nothing else in it.
            guard log.shape == .json else { throw error }
            let failure = CommandFailure(error, language: output.language)
            logger.critical("\(failure.sentence)")
            throw ExitCode(failure.exit.rawValue)
        }
    }

    /// Serves until the process is told to stop.
    private func serve(_ settings: Settings, _ output: Output, _ log: ServiceLog, _ logger: Logger) async throws {
        // Tells people in the shape that they have asked for.
        let announce: @Sendable (String) -> Void = { sentence in
            if log.shape == .json { logger.info("\(sentence)") } else { output.message(sentence) }
        }
        let manager = ServiceManager()
        let wallClock = try settings.wallClock()
        // A command may be at work here: it has its time to finish.
        let opened = try await NodeConnection.openReplica(settings, language: output.language)
        guard let replica = opened else {
            throw CommandFailure(.refused, output.words.runsAlready(settings.directory))
        }
        let node = replica.node
        guard node.isJoined else { throw StoreFailure.notJoined }
        // A head office of an older version has no certificate yet.
        try replica.prepareAuthority()
        // What made a row fail may be gone, and this program may be a newer one.
        _ = try replica.retryParked()

        let lineUse = try LineUse(settings)
        var link: HubLink?
        if let hub = node.hub {
            guard let address = NodeAddress(hub.address) else {
                throw CommandFailure(.failed, "The hub's address \"\(hub.address)\" is not one. Join again.")
            }
            link = HubLink(
                client: SyncClient(
                    store: replica,
                    security: { try replica.childSecurity() },
                    rate: lineUse.rate,
                    isUrgent: { lineUse.isSomethingUrgent(in: replica) },
                    logger: logger
                )
            ) {
                // It may have moved since.
                replica.node.hub.flatMap { NodeAddress($0.address) } ?? address
            }
        }
        let service = NodeService(replica: replica, wallClock: wallClock, hubLink: link, isRunning: true)
        let line = node.role == .headOffice ? try settings.address(.listen, default: Settings.listenDefault) : nil
        let console = try settings.address(.console)
        var parts: Set<Readiness.Part> = [.settings, .commands]
        if line != nil { parts.insert(.line) }
        if console != nil { parts.insert(.console) }
        let readiness = Readiness(of: parts) {
            let sentence = output.words.running(node.name, service.listening.withLock { $0 })
            announce(sentence)
            manager?.ready(sentence)
        }

        let live = LiveSettings(
            settings,
            manager: manager,
            logger: logger,
            onListening: { readiness.has(.settings) },
            onChange: {
                let read = $0.with(.hub, flag: hub).with(.log, flag: self.log).with(.logLevel, flag: self.logLevel)
                    .with(.bandwidth, flag: bandwidth).with(.urgent, flag: urgent)
                try replica.adoptRetention(read)
                try replica.adoptHub(read)
                try log.adopt(read)
                try lineUse.adopt(read)
            }
        )
        var services: [any Service] = [
            live, UpkeepService(replica: replica, logger: logger), MatchingService(replica: replica, logger: logger),
        ]
        if let link { services.append(link) }
        services.append(
            CommandService(node: service, path: settings.socketPath, logger: logger) { readiness.has(.commands) }
        )
        if let line {
            services.append(
                HubService(
                    server: SyncServer(
                        store: replica,
                        nodes: replica,
                        identity: { try replica.lineIdentity() },
                        logger: logger
                    ),
                    replica: replica,
                    address: line,
                    logger: logger
                ) { port in
                    service.listening.withLock { $0 = "\(NodeAddress(host: line.host, port: port))" }
                    readiness.has(.line)
                }
            )
        }
        if let console {
            services.append(
                ConsoleService(node: service, address: console, logger: logger) { _ in readiness.has(.console) }
            )
        }
        if let manager, let interval = manager.watchdogInterval {
            services.append(WatchdogService(manager: manager, interval: interval, settings: settings))
        }
        // The last one is the first to hear of an end.
        services.append(StopService(manager: manager, logger: logger))
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: services.map {
                    ServiceGroupConfiguration.ServiceConfiguration(
                        service: $0,
                        successTerminationBehavior: .gracefullyShutdownGroup,
                        failureTerminationBehavior: .gracefullyShutdownGroup
                    )
                },
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: Logger(label: "peyvand.services") { _ in SwiftLogNoOpLogHandler() }
            )
        )
        do {
            try await group.run()
        } catch {
            try? replica.close()
            throw error
        }
        try replica.close()
        announce(output.words.stoppedRunning(node.name))
    }
}
