import ArgumentParser
import Dispatch
import Foundation
import Logging
import ReplicaStore
import SyncProtocol
import SyncTransport
import Synchronization

/// `sync --json`.
struct PrintedSync: Codable, Sendable {
    struct Flow: Codable, Sendable {
        let changeSets: Int
        let rows: Int
        let bytes: Int

        init(_ flow: SessionTotals.Flow) {
            changeSets = flow.changeSets
            rows = flow.rows
            bytes = flow.bytes
        }
    }

    /// `ok`, `refused` or `failed`.
    let result: String
    let sent: Flow
    let received: Flow
    let conflicts: Int
    let parked: Int
    let milliseconds: Int64
    @OrNull var reason: String?

    /// Whether everything went over, and the tables are different all the same.
    var isDifferent: Bool { result == "failed" && differs == true }
    /// Nil from a node of an older version.
    var differs: Bool?

    /// - Parameter replica: Of the node that called.
    init(_ report: SessionReport, _ replica: Replica) {
        let divergence = report.failure == nil ? Self.divergence(of: replica) : nil
        differs = divergence != nil
        switch report.failure {
        case nil: result = divergence == nil ? "ok" : "failed"
        case .refused, .refusedPeer: result = "refused"
        default: result = "failed"
        }
        sent = Flow(report.totals.sent)
        received = Flow(report.totals.received)
        conflicts = report.totals.conflicts
        parked = report.totals.parked
        milliseconds = Int64(report.duration / .milliseconds(1))
        reason = report.failure?.description ?? divergence
    }

    /// What there is to say when the tables differ at equal knowledge.
    private static func divergence(of replica: Replica) -> String? {
        guard let status = try? replica.status(), let position = status.divergedAt else { return nil }
        let rows = status.soundness.differing.prefix(5).map(\.printed).joined(separator: ", ")
        return "Everything was exchanged, but at position \(position) the tables differ from head office's"
            + (rows.isEmpty ? ". " : ": \(rows). ")
            + "`peyvand verify --repair` shows what would be put right."
    }

    var exitStatus: ExitStatus {
        switch result {
        case "ok": .done
        case "refused": .refused
        default: .failed
        }
    }
}

/// One session with the hub.
struct SyncCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sync",
        abstract: "Exchange everything with head office, once. Exit: 0 done, 1 failed, 2 refused."
    )

    @Option(
        help: ArgumentHelp(
            "Give up after this many seconds; what was exchanged until then stays.",
            valueName: "seconds"
        )
    )
    var timeout: Double?

    @Option(
        help: ArgumentHelp(
            "Where this branch calls head office from now on; for a head office that has moved.",
            valueName: "host:port"
        )
    )
    var hub: String?

    @OptionGroup var options: NodeOptions

    func run() async throws {
        let settings = try options.settings().with(.hub, flag: hub)
        let output = try options.output(settings)
        if let timeout, !(timeout > 0 && timeout < 1e9) {
            throw CommandFailure(.usage, "--timeout takes a number of seconds above 0.")
        }
        if let hub, NodeAddress(hub).map({ $0.port > 0 }) != true {
            throw CommandFailure(.usage, "\"\(hub)\" is no address to call. Write it as 127.0.0.1:7443.")
        }
        let node = try await NodeConnection.open(settings, language: output.language)
        Interruption.watch()
        let sync: PrintedSync
        if let replica = node.replica {
            guard replica.node.role == .branch, let hub = replica.node.hub.flatMap({ NodeAddress($0.address) }) else {
                throw CommandFailure(.refused, SyncNow.noHub)
            }
            guard replica.node.isJoined else { throw StoreFailure.notJoined }
            sync = try await Self.exchange(replica, with: hub, timeout: timeout.map { .seconds($0) }, output)
        } else {
            // The session is the running node's: it goes on when this command is ended.
            let watch = Task {
                while !Interruption.isRequested { try await Task.sleep(for: .milliseconds(100)) }
                Terminal.write("peyvand: \(output.words.stoppedWaiting)\n", to: .error)
                Foundation.exit(ExitStatus.failed.rawValue)
            }
            defer { watch.cancel() }
            sync = try await node.perform(SyncNow(timeoutSeconds: timeout, hub: hub))
        }
        // A node that never runs has nobody else to let go of the past.
        if let replica = node.replica, sync.exitStatus == .done { _ = try replica.trimLog(piecesMax: 16) }
        try node.close()
        try output.result(sync, text: output.words.synchronised(sync))
        if sync.exitStatus != .done { throw ExitCode(sync.exitStatus.rawValue) }
    }

    /// One session of a node that does not run elsewhere, with progress on a terminal.
    static func exchange(
        _ replica: Replica,
        with hub: NodeAddress,
        timeout: Duration?,
        _ output: Output
    ) async throws -> PrintedSync {
        let logger = Logger(label: "peyvand.sync") { _ in SwiftLogNoOpLogHandler() }
        let client = SyncClient(store: replica, security: { try replica.childSecurity() }, logger: logger)
        let progress = Task { await Self.showProgress(of: replica, output) }
        let session = Task { await client.sync(with: hub, timeout: timeout) }
        // ^C: what is being applied is finished, and the hub hears a farewell.
        let watch = Task {
            while !Interruption.isRequested { try await Task.sleep(for: .milliseconds(50)) }
            session.cancel()
        }
        let report = await session.value
        watch.cancel()
        progress.cancel()
        await progress.value
        return PrintedSync(report, replica)
    }

    /// Shows how much of the hub's log has been taken.
    private static func showProgress(of replica: Replica, _ output: Output) async {
        var line = ProgressLine.onStandardError(
            output.words.choose("Receiving change sets", "دریافت تغییرها"),
            isPersian: output.language == .fa
        )
        var loading: ProgressLine?
        while !Task.isCancelled {
            if let load = replica.firstLoadProgress {
                var line =
                    loading
                    ?? ProgressLine.onStandardError(
                        output.words.loadingRows,
                        resumedAt: load.rows,
                        isPersian: output.language == .fa
                    )
                line.update(count: load.rows, total: load.total)
                loading = line
            } else if loading != nil {
                loading?.finish()
                loading = nil
            } else if let status = try? replica.status(), let behind = status.behind, behind > 0 {
                line.update(
                    count: Int(clamping: status.cursor.position),
                    total: Int(clamping: status.cursor.position + behind)
                )
            }
            do { try await Task.sleep(for: .milliseconds(200)) } catch { break }
        }
        loading?.finish()
        line.finish()
    }
}

/// Asks a running node for one complete exchange.
struct SyncNow: NodeRequest {
    static let name = "sync"
    static let worksDuringFirstLoad = true
    static let noHub = "This node is head office: its branches call it. Run `peyvand sync` at a branch."

    let timeoutSeconds: Double?
    /// Where head office is called from now on; nil when that stays.
    var hub: String?

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedSync {
        guard let link = node.hubLink else { throw CommandFailure(.refused, Self.noHub) }
        if let hub { try node.replica.moveHub(to: hub) }
        return PrintedSync(
            try wait { await link.syncNow(timeout: timeoutSeconds.map { .seconds($0) }) },
            node.replica
        )
    }

    /// Waits on this thread, which belongs to the request, for something asynchronous.
    private func wait<Result: Sendable>(_ body: @escaping @Sendable () async -> Result) throws -> Result {
        let box = ResultBox<Result>()
        Task { box.put(await body()) }
        return box.take()
    }
}

/// Carries one value from a task to a thread that waits for it.
private final class ResultBox<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    private let isThere = DispatchSemaphore(value: 0)

    func put(_ new: Value) {
        value.withLock { $0 = new }
        isThere.signal()
    }

    func take() -> Value {
        isThere.wait()
        guard let value = value.withLock({ $0 }) else { preconditionFailure("A value was announced and is not there") }
        return value
    }
}
