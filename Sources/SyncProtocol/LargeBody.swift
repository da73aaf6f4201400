import Causality

// A change set whose body is larger than a batch travels in parts, ahead of the batch that names it:
//
//   sender -> receiver   offer    which change set, how many bytes, their hash
//   receiver -> sender   held     so many of the first bytes are here already, from an earlier session too
//   sender -> receiver   part     the next bytes; a bounded number is on the way
//   receiver -> sender   held     after each part
//   sender -> receiver   changes  when all are held: the batch, with the name in place of the body
//
// What is held is no promise: only the acknowledgement of the batch says that the change set is durable.

/// A body that travels in parts: what it belongs to, and which bytes are meant.
package struct LargeBody: Hashable, Sendable {
    package let id: ChangeSetID
    /// Of the body as it lies in a log, compressed or not; at least 1.
    package let byteCount: Int
    /// The SHA-256 of those bytes: parts of different contents are never put together.
    package let hash: [UInt8]

    package static let hashByteCount = 32

    /// - Precondition: a hash has 32 bytes.
    package init(id: ChangeSetID, byteCount: Int, hash: [UInt8]) {
        precondition(hash.count == Self.hashByteCount, "A hash has 32 bytes")
        self.id = id
        self.byteCount = byteCount
        self.hash = hash
    }
}

/// Which part of a large body is to be read.
package struct PartRequest: Hashable, Sendable {
    package let body: LargeBody
    package let offset: Int
    package let bytesMax: Int

    package init(body: LargeBody, offset: Int, bytesMax: Int) {
        self.body = body
        self.offset = offset
        self.bytesMax = bytesMax
    }
}

/// A large body on its way out.
struct Upload: Hashable, Sendable {
    /// What is sent when all parts are held.
    let batch: ChangeBatch
    let body: LargeBody
    private(set) var sent = 0
    /// How many bytes the peer holds; nil until it has said so.
    private(set) var held: Int?
    private(set) var isReading = false
    /// How often the peer has said that it holds more.
    private var acknowledgements = 0

    /// Nil for a batch that carries its bodies.
    init?(_ batch: ChangeBatch) {
        guard case .large(_, let body)? = batch.entries.first else { return nil }
        self.batch = batch
        self.body = body
    }

    /// The next part to read, if the peer has room for it.
    mutating func nextPart(_ limits: SyncLimits) -> PartRequest? {
        let bytesMax = min(limits.firstBatchBytes << min(acknowledgements, 16), limits.partBytesMax)
        guard let held, !isReading, sent < body.byteCount, sent - held <= bytesMax * (limits.partsInFlightMax - 1)
        else { return nil }
        isReading = true
        return PartRequest(body: body, offset: sent, bytesMax: bytesMax)
    }

    /// Notes what was read, and returns where it begins; nil when it is not what was asked for.
    mutating func wasRead(_ count: Int) -> Int? {
        guard isReading, count > 0, count <= body.byteCount - sent else { return nil }
        isReading = false
        defer { sent += count }
        return sent
    }

    /// Notes what the peer holds; false when that cannot be.
    mutating func peerHolds(_ bytes: Int) -> Bool {
        if let held {
            guard bytes > held, bytes <= sent else { return false }
            acknowledgements += 1
        } else {
            guard (0...body.byteCount).contains(bytes) else { return false }
            sent = bytes
        }
        held = bytes
        return true
    }

    var isHeld: Bool { held == body.byteCount }
}

/// A large body on its way in.
struct Download: Hashable, Sendable {
    let body: LargeBody
    private(set) var received = 0
    /// How many bytes the store holds; nil until it has said so.
    private(set) var held: Int?

    init(_ body: LargeBody) { self.body = body }

    /// Whether a part of so many bytes is the next one, and within the window.
    mutating func receive(offset: UInt64, count: Int, _ limits: SyncLimits) -> Bool {
        guard let held, offset == UInt64(received), count > 0, count <= limits.partBytesMax,
            count <= body.byteCount - received, received - held <= limits.partBytesMax * (limits.partsInFlightMax - 1)
        else { return false }
        received += count
        return true
    }

    /// Notes what the store holds.
    mutating func holds(_ bytes: Int) {
        if held == nil { received = bytes }
        held = bytes
    }

    var isHeld: Bool { held == body.byteCount }
}
