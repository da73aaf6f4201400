import CRM
import Causality
import Dispatch
import Foundation
import ReplicaStore
import SyncTransport
import Synchronization

/// A node whose replica this process holds: what requests are performed in.
final class NodeService: Sendable {
    let replica: Replica
    /// Milliseconds since 1970-01-01 UTC.
    let wallClock: @Sendable () -> UInt64

    /// Where this head office listens, `host:port`, while it runs.
    let listening = Mutex<String?>(nil)
    /// The line to the hub, in a branch that runs.
    let hubLink: HubLink?
    /// Whether this is the service, and not a command that has opened the replica for itself.
    let isRunning: Bool

    init(
        replica: Replica,
        wallClock: @escaping @Sendable () -> UInt64,
        hubLink: HubLink? = nil,
        isRunning: Bool = false
    ) {
        self.replica = replica
        self.wallClock = wallClock
        self.hubLink = hubLink
        self.isRunning = isRunning
    }

    /// The wall clock as a stored instant.
    var now: FieldValue { .integer(Int64(clamping: wallClock())) }

    /// The day that it is in Tehran.
    var today: FieldValue {
        JalaliCalendar.day(ofMilliseconds: Int64(clamping: wallClock())).map { .text($0) } ?? .null
    }
}

extension NodeService {
    /// Answers one request that came through the local socket. Fits `LocalSocket.Handler`.
    ///
    /// The request runs on a thread of its own, because the replica blocks. At most a few pieces wait for a
    /// command that reads slowly; when it is gone, the request is stopped at its next piece.
    func answer(_ request: [UInt8], reply: @Sendable ([UInt8]) async throws -> Void) async throws {
        let (pieces, continuation) = AsyncStream<[UInt8]>.makeStream()
        let gate = PieceGate(piecesMax: 8)
        // Whoever gave the order, not the account that the service runs under.
        let actor = LocalSocket.peerUserID.map(Actor.name(ofUser:))
        DispatchQueue.global().async { [self] in
            Actor.$current.withValue(actor) {
                perform(request) { piece in
                    guard gate.enter(), let bytes = try? piece.bytes() else { throw CancellationError() }
                    continuation.yield(bytes)
                }
            }
            continuation.finish()
        }
        try await withTaskCancellationHandler {
            defer { gate.close() }
            for await piece in pieces {
                try await reply(piece)
                gate.leave()
            }
            try Task.checkCancellation()
        } onCancel: {
            gate.close()
        }
    }

    /// Performs a request from its bytes, and emits its pieces; the last one is the reply or the failure.
    private func perform(_ request: [UInt8], emit: (NodePiece) throws -> Void) {
        var language = Language.en
        do {
            let parsed = try NodeWire.parse(request)
            language = parsed.language
            try emit(.reply(try perform(parsed.type, parsed.content, emit)))
        } catch {
            // When the command is gone, nobody is left to be told.
            try? emit(.failure(CommandFailure(error, language: language)))
        }
    }

    private func perform<Request: NodeRequest>(
        _ type: Request.Type,
        _ content: Data,
        _ emit: (NodePiece) throws -> Void
    ) throws -> [UInt8] {
        guard let request = try? JSONDecoder().decode(Request.self, from: content) else {
            throw NodeWire.foreign
        }
        let reply = try request.performIfLoaded(in: self) { try emit(.progress($0)) }
        return [UInt8](try JSONEncoder().encode(reply))
    }
}

/// Lets so many pieces wait, and no more after it was closed.
private final class PieceGate: Sendable {
    private let free: DispatchSemaphore
    private let isClosed = Atomic(false)

    init(piecesMax: Int) { free = DispatchSemaphore(value: piecesMax) }

    deinit {
        // A semaphore must not be destroyed below the value it began with.
        for _ in 0..<Self.surplus { free.signal() }
    }

    private static let surplus = 16

    /// Waits for a place; false when the gate is closed.
    func enter() -> Bool {
        if isClosed.load(ordering: .acquiring) { return false }
        free.wait()
        return !isClosed.load(ordering: .acquiring)
    }

    func leave() { free.signal() }

    /// Lets everybody who waits go away.
    func close() {
        isClosed.store(true, ordering: .releasing)
        // One thread enters, so at most one waits.
        free.signal()
    }
}
