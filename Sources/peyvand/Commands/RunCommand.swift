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

    @Option(help: ArgumentHelp("Where the console listens. Not in this version.", valueName: "host:port"))
    var console: String?

    @OptionGroup var options: NodeOptions

    func run() async throws {
        let settings = try options.settings().with(.hub, flag: hub)
        let output = try options.output(settings)
        let logger = Logger(label: "peyvand", factory: PlainLogHandler.init)
        let wallClock = try settings.wallClock()
        // A command may be at work here: it has its time to finish.
        let opened = try await NodeConnection.openReplica(settings, language: output.language)
        guard let replica = opened else {
            throw CommandFailure(.refused, output.words.runsAlready(settings.directory))
        }
        let node = replica.node
        guard node.isJoined else { throw StoreFailure.notJoined }
        let live = LiveSettings(settings, logger: logger) {
            try replica.adoptRetention($0)
            try replica.adoptHub($0.with(.hub, flag: hub))
        }
        // What made a row fail may be gone, and this program may be a newer one.
        _ = try replica.retryParked()

        var services: [any Service] = [live, UpkeepService(replica: replica, logger: logger)]
        var link: HubLink?
        if let hub = node.hub {
            guard let address = NodeAddress(hub.address) else {
                throw CommandFailure(.failed, "The hub's address \"\(hub.address)\" is not one. Join again.")
            }
            let made = HubLink(client: SyncClient(store: replica, logger: logger)) {
                // It may have moved since.
                replica.node.hub.flatMap { NodeAddress($0.address) } ?? address
            }
            services.append(made)
            link = made
        }
        let service = NodeService(replica: replica, wallClock: wallClock, hubLink: link)
        services.append(
            CommandService(node: service, path: settings.socketPath, logger: logger) {
                if node.role == .branch { output.message(output.words.running(node.name, nil)) }
            }
        )
        if node.role == .headOffice {
            let written = settings.value(.listen, flag: listen) ?? Settings.listenDefault
            guard let address = NodeAddress(written) else {
                throw CommandFailure(.usage, "\"\(written)\" is not an address. Write it as 127.0.0.1:7443.")
            }
            services.append(
                HubService(server: SyncServer(store: replica, logger: logger), address: address) { port in
                    let place = NodeAddress(host: address.host, port: port)
                    service.listening.withLock { $0 = "\(place)" }
                    output.message(output.words.running(node.name, "\(place)"))
                }
            )
        }
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
        output.message(output.words.stoppedRunning(node.name))
    }
}

/// Log lines as people read them: time, level, message, details.
struct PlainLogHandler: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .info

    init(label: String) {}

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { $1 }
        let details = all.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
        let time = ISO8601DateFormatter().string(from: Date())
        Terminal.write("\(time) \(event.level) \(event.message)\(details)\n", to: .error)
    }
}
