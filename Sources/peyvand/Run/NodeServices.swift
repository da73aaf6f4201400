import Dispatch
import Foundation
import Logging
import ReplicaStore
import ServiceLifecycle
import SyncTransport
import Synchronization

/// Listens for branches.
struct HubService: Service {
    let server: SyncServer
    let replica: Replica
    let address: NodeAddress
    let logger: Logger
    let onListening: @Sendable (Int) -> Void

    /// How often it is looked whether the certificate grows old.
    private static let renewalInterval = Duration.seconds(3600)

    func run() async throws {
        try await cancelWhenGracefulShutdown {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await renew() }
                defer { group.cancelAll() }
                try await server.run(at: address, onListening: onListening)
            }
        }
    }

    private func renew() async {
        while (try? await Task.sleep(for: Self.renewalInterval)) != nil {
            do {
                if try replica.prepareAuthority() { server.resetSecurity() }
                await server.recheckSessions()
            } catch {
                logger.error(
                    "The certificate of head office cannot be renewed",
                    metadata: ["reason": "\(CommandFailure(error).sentence)"]
                )
            }
        }
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
final class UpkeepService: Service {
    private let replica: Replica
    private let trouble: Trouble

    init(replica: Replica, logger: Logger) {
        self.replica = replica
        trouble = Trouble("Upkeep", logger: logger)
    }

    /// How often it is looked whether something of the past may go.
    private static let trimInterval = Duration.seconds(60)
    private let trimDue = Mutex(ContinuousClock.now)

    /// Together with sealing and sending, well within the second that local commits may take.
    private static let interval = Duration.milliseconds(250)
    /// Emptying the file of erased rows writes it anew, once for all that were erased meanwhile.
    private static let scrubInterval = Duration.seconds(60)
    private let scrubbing = Rhythm()

    func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            while !Task.isCancelled {
                await self.upkeep()
                do { try await Task.sleep(for: Self.interval) } catch { return }
            }
        }
    }

    /// Lets go of a piece of the past; goes on at the next look when there is more.
    private func trimIfDue() throws {
        guard trimDue.withLock({ $0 <= .now }) else { return }
        let isDone = try replica.trimLog(piecesMax: 1)
        if isDone { trimDue.withLock { $0 = .now + Self.trimInterval } }
    }

    /// One look, on a thread that may block.
    private func upkeep() async {
        await withCheckedContinuation { done in
            DispatchQueue.global(qos: .utility).async { [self] in
                do {
                    try replica.sealForeignWrites()
                    _ = try replica.followLogForSearch(piecesMax: 1)
                    try replica.selfCheckTurn()
                    if scrubbing.isDue(every: Self.scrubInterval) { try replica.scrubErased() }
                    try trimIfDue()
                    trouble.note(nil)
                } catch {
                    // Not fatal: a program may hold its lock for long, and it is tried again.
                    trouble.note(CommandFailure(error).sentence)
                }
                done.resume()
            }
        }
    }
}

/// Lets the queue of likely duplicates follow what was written, when the node has nothing else to do.
///
/// It looks at a node that writes no more at once, and at one that writes on and on now and then.
final class MatchingService: Service {
    private let replica: Replica
    private let trouble: Trouble
    /// Where the log ended at the last look, and since when the queue is behind.
    private let last = Mutex<(end: UInt64, behindSince: ContinuousClock.Instant?)>((0, nil))
    /// Comparing everybody takes longer than anybody waits who has said SIGTERM.
    private let isStopping = Atomic(false)

    init(replica: Replica, logger: Logger) {
        self.replica = replica
        trouble = Trouble("Comparing customers", logger: logger)
    }

    /// A node is idle that has written nothing between two looks: then the queue follows within a second.
    private static let interval = Duration.milliseconds(300)
    /// A node that is never idle is not compared more often than that.
    private static let patience = Duration.seconds(30)

    func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            while !Task.isCancelled {
                await self.look()
                do { try await Task.sleep(for: Self.interval) } catch { return }
            }
        }
    }

    /// Whether it is time to follow.
    private func isDue() throws -> Bool {
        let lag = try replica.matchingLag()
        return last.withLock { last in
            let isIdle = last.end == lag.end
            let since = lag.isDone ? nil : last.behindSince ?? .now
            last = (lag.end, since)
            return since.map { isIdle || .now - $0 > Self.patience } ?? false
        }
    }

    /// One look, on a thread that may block.
    private func look() async {
        await withTaskCancellationHandler {
            await follow()
        } onCancel: {
            isStopping.store(true, ordering: .relaxed)
        }
    }

    private func follow() async {
        await withCheckedContinuation { done in
            DispatchQueue.global(qos: .background).async { [self] in
                do {
                    if try isDue() {
                        try replica.followMatching(checkpoint: { [self] in
                            if isStopping.load(ordering: .relaxed) { throw CancellationError() }
                        })
                        last.withLock { $0.behindSince = nil }
                    }
                    trouble.note(nil)
                } catch is CancellationError {
                    // The node ends; the next one goes on.
                } catch {
                    trouble.note(CommandFailure(error).sentence)
                }
                done.resume()
            }
        }
    }
}

/// Tells of trouble once, when it begins or changes, and when it is over.
final class Trouble: Sendable {
    private let work: String
    private let logger: Logger
    /// Why the last attempt failed; nil when it did not.
    private let reason = Mutex<String?>(nil)

    init(_ work: String, logger: Logger) {
        self.work = work
        self.logger = logger
    }

    func note(_ reason: String?) {
        let before = self.reason.withLock { present in
            defer { present = reason }
            return present
        }
        guard before != reason else { return }
        if let reason {
            logger.warning("\(work) cannot be done now; it is tried again", metadata: ["reason": "\(reason)"])
        } else {
            logger.info("\(work) is done again")
        }
    }
}

/// Says now and then that it is time.
final class Rhythm: Sendable {
    private let last = Mutex<ContinuousClock.Instant?>(nil)

    /// Whether so much time has passed since this was last true. The first time it is.
    func isDue(every interval: Duration) -> Bool {
        let now = ContinuousClock.now
        return last.withLock { last in
            if let last, now - last < interval { return false }
            last = now
            return true
        }
    }
}
