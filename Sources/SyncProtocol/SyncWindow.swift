import Causality

/// A place in a stream of change sets: in a hub's log, or in what a child wrote.
enum StreamMark: Hashable, Sendable {
    case position(LogPrefix)
    case seq(UInt64)

    var number: UInt64 {
        switch self {
        case .position(let prefix): prefix.position
        case .seq(let seq): seq
        }
    }

    /// The hub's log up to here; empty for a child's own stream.
    var prefix: LogPrefix {
        if case .position(let prefix) = self { prefix } else { .empty }
    }
}

/// What this side has read, sent, and knows to be durable at the peer.
struct OutgoingWindow: Hashable, Sendable {
    private struct InFlight: Hashable, Sendable {
        let end: StreamMark
        let bodyBytes: Int
        let changeSets: Int
        let rows: Int
    }

    private let limits: SyncLimits
    private var inFlight: [InFlight] = []
    /// Up to where everything was sent.
    private(set) var sent: StreamMark
    /// Up to where everything is durable at the peer.
    private(set) var acknowledged: StreamMark
    /// How much the next batch holds at most.
    private(set) var batchBytes: Int
    private var isReading = false
    /// Whether the log may hold something that was not read yet.
    private var hasMore: Bool

    init(after start: StreamMark, hasMore: Bool, limits: SyncLimits) {
        self.limits = limits
        self.hasMore = hasMore
        batchBytes = min(limits.firstBatchBytes, limits.batchBytesMax)
        sent = start
        acknowledged = start
    }

    /// Nothing to read, nothing being read, nothing on the way.
    var isIdle: Bool { !isReading && !hasMore && inFlight.isEmpty }

    /// Whether a batch may be read now. The next one that is sent then fits the peer's window.
    var canRead: Bool {
        !isReading && hasMore && inFlight.count < limits.batchesInFlightMax
            && inFlight.reduce(0) { $0 + $1.bodyBytes } < limits.bytesInFlightMax
    }

    mutating func logGrew() {
        hasMore = true
    }

    mutating func readStarted() {
        isReading = true
        hasMore = false
    }

    /// Takes what was read and returns the batch to send; nil when there was nothing.
    mutating func readEnded(_ outgoing: OutgoingBatch) -> ChangeBatch? {
        isReading = false
        guard !outgoing.batch.entries.isEmpty else { return nil }
        if !outgoing.isAtEnd { hasMore = true }
        switch sent {
        case .position: sent = .position(outgoing.batch.end)
        case .seq(let seq): sent = .seq(seq + UInt64(outgoing.batch.entries.count))
        }
        inFlight.append(
            InFlight(
                end: sent,
                bodyBytes: outgoing.batch.bodyBytes,
                changeSets: outgoing.changeSets,
                rows: outgoing.rows
            )
        )
        return outgoing.batch
    }

    /// Takes an acknowledgement, which must name the end of a batch on the way, and returns how many change
    /// sets and rows became durable; nil when no batch ends there.
    mutating func acknowledge(_ mark: StreamMark) -> (changeSets: Int, rows: Int)? {
        guard let index = inFlight.firstIndex(where: { $0.end == mark }) else { return nil }
        let done = inFlight[...index]
        acknowledged = mark
        batchBytes = min(batchBytes * 2, limits.batchBytesMax)
        defer { inFlight.removeSubrange(...index) }
        return (done.reduce(0) { $0 + $1.changeSets }, done.reduce(0) { $0 + $1.rows })
    }
}

/// What the peer has sent, and this side has made durable.
struct IncomingQueue: Hashable, Sendable {
    private struct Applying: Hashable, Sendable {
        let batches: Int
        let bytes: Int
        let end: StreamMark
    }

    private let limits: SyncLimits
    private var waiting: [ChangeBatch] = []
    private var applying: Applying?
    private var waitingBytes = 0
    /// Up to where everything was received.
    private(set) var received: StreamMark
    /// Up to where everything is durable here.
    private(set) var durable: StreamMark

    init(after start: StreamMark, limits: SyncLimits) {
        self.limits = limits
        received = start
        durable = start
    }

    var isIdle: Bool { waiting.isEmpty && applying == nil }
    var isApplying: Bool { applying != nil }

    /// Takes a batch of the peer, or says which rule it breaks.
    mutating func receive(_ batch: ChangeBatch) -> SyncFailure? {
        let batches = waiting.count + (applying?.batches ?? 0)
        let bytes = waitingBytes + (applying?.bytes ?? 0)
        guard batches < limits.batchesInFlightMax, bytes < limits.bytesInFlightMax else {
            return .windowExceeded(batches: batches + 1, bytes: bytes + batch.bodyBytes)
        }
        guard !batch.entries.isEmpty else { return .unexpected("an empty batch", during: "streaming") }
        let changeSets = batch.changeSetCount
        let bodyBytes = batch.bodyBytes
        guard bodyBytes <= limits.batchBytesMax, batch.entries.count <= limits.batchEntriesMax,
            batch.largeBody == nil || batch.entries.count == 1
        else {
            return .batchTooLarge(changeSets: changeSets, bytes: bodyBytes)
        }
        let count = UInt64(batch.entries.count)
        switch received {
        case .position(let prefix):
            let due = prefix.position &+ 1
            guard batch.firstPosition == due else {
                return .outOfOrder(what: "position", expected: due, received: batch.firstPosition)
            }
            let last = prefix.position &+ count
            guard last > prefix.position, batch.end.position == last else {
                return .outOfOrder(what: "end", expected: last, received: batch.end.position)
            }
            received = .position(batch.end)
        case .seq(let seq):
            guard batch.firstPosition == 0, batch.end == .empty, changeSets == batch.entries.count else {
                return .unexpected("a batch of a log from a child", during: "streaming")
            }
            guard seq &+ count > seq else {
                return .outOfOrder(what: "seq", expected: seq, received: seq &+ count)
            }
            received = .seq(seq + count)
        }
        waiting.append(batch)
        waitingBytes += bodyBytes
        return nil
    }

    /// Hands over everything that waits, if there is any and the store has nothing in hand.
    mutating func takeForApply() -> [ChangeBatch]? {
        guard applying == nil, !waiting.isEmpty else { return nil }
        applying = Applying(batches: waiting.count, bytes: waitingBytes, end: received)
        defer {
            waiting = []
            waitingBytes = 0
        }
        return waiting
    }

    /// Notes that the store has finished. False when it is not what it was given.
    mutating func applied(_ outcome: ApplyOutcome) -> Bool {
        guard let end = applying?.end else { return false }
        applying = nil
        switch (outcome.durable, end) {
        case (.position(let prefix), .position(let due)):
            guard prefix == due else { return false }
        case (.seq(let seq, _), .seq(let due)):
            guard seq == due else { return false }
        case (.position, .seq), (.seq, .position):
            return false
        }
        durable = end
        return true
    }
}
