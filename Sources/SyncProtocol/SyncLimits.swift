/// Every bound of the sync protocol, in one place. Tests pass smaller ones.
package struct SyncLimits: Hashable, Sendable {
    /// The limits that both sides of a real line use.
    package static let standard = SyncLimits()

    // What a connection may make this node hold.

    /// The largest frame on the wire, with its at most 8 bytes of header.
    package var frameBytesMax = 1 << 20
    /// The largest message over all its frames: a batch, with what stands beside its bodies.
    package var messageBytesMax = 2 << 20
    /// The largest frame, and message, from a peer that has not been let in yet.
    package var unauthenticatedBytesMax = 64 << 10
    /// A compressed message above ``ratioFreeBytesMax`` may grow by at most this factor.
    package var decompressionRatioMax = 256
    /// Messages that decompress to no more than this may have any ratio.
    package var ratioFreeBytesMax = 64 << 10

    // How far a sender may run ahead of the acknowledgements.

    /// The bytes of bodies in one batch, before compression. A larger change set travels in parts.
    package var batchBytesMax = 1 << 20
    /// The largest part of a change set that does not fit a batch: with its header, one frame.
    package var partBytesMax = (1 << 20) - 1024
    /// Parts that are sent and not held yet.
    package var partsInFlightMax = 4
    /// What the first batch, and the first part, of a session hold at most. Each that is acknowledged doubles it, up to the
    /// largest: what a cut costs stays small on a line that is often cut, and a good line soon carries large ones.
    package var firstBatchBytes = 128 << 10
    /// Change sets and stubs in one batch.
    package var batchEntriesMax = 8192
    /// Batches that are sent and not acknowledged yet, each way.
    package var batchesInFlightMax = 8
    /// No further batch is sent while this many bytes of bodies are not acknowledged.
    package var bytesInFlightMax = 8 << 20

    // Times.

    /// How long the handshake of a new line may take.
    package var handshakeTimeout = Duration.seconds(10)
    /// How long a hub waits for the first message.
    package var helloTimeout = Duration.seconds(10)
    /// How long a child waits for the answer to it: the hub may be finishing a large transaction.
    package var welcomeTimeout = Duration.seconds(60)
    /// The line is looked at this often; a ping goes out at every second look.
    package var heartbeat = Duration.seconds(15)
    /// After this many looks without a sign of life the peer counts as dead: 75 to 90 seconds.
    package var silentHeartbeatsMax = 6
    /// Fewer bytes than this in one heartbeat are no sign of life: 1 KiB a second.
    package var heartbeatBytesMin = 15 << 10
    /// Pings that a peer may send in one heartbeat.
    package var pingsMax = 16
    /// How long the last words of a session may take before the line is cut.
    package var lingerTimeout = Duration.seconds(3)
    /// How long making a connection may take.
    package var connectTimeout = Duration.seconds(10)

    // Texts, in bytes of UTF-8; longer ones are cut when they are sent and refused when they arrive.

    package var nameBytesMax: Int { 256 }
    package var sentenceBytesMax: Int { 1024 }

    // A hub as a whole.

    /// Connections that have not shown who they are. One more takes the place of the one that has waited longest.
    package var unauthenticatedConnectionsMax = 256
    /// New connections from one address: so many at once, and so many a second after that. This machine's own addresses are
    /// exempt, because a relay brings all branches from there.
    package var connectionsAtOnceMax = 100
    package var connectionsPerSecondMax = 10
    /// Addresses that are counted one by one.
    package var addressesMax = 4096
    /// Nodes that have a session, or are about to.
    package var sessionsMax = 1024
    /// When a node comes back that found no place.
    package var busyRetrySeconds: UInt32 = 15
    /// Messages that wait for a peer that does not read.
    package var outboundMessagesMax = 4096

    // What content may hold, on any line and in any file. These belong to the format: all nodes have the same.

    /// A change set, uncompressed.
    package static let changeSetBytesMax = 64 << 20
    /// A text, and a value of bytes, in one field.
    package static let textBytesMax = 64 << 10
    package static let blobBytesMax = 512 << 10
    /// Columns of a table.
    package static let columnsMax = 64
    /// What a decompressor may look back, as a power of two.
    package static let compressionWindowLogMax: Int32 = 22
    /// Entries of a version vector: all lives of all nodes that an organisation ever had.
    package static let vectorEntriesMax = 65_536
    /// Change sets that wait at a node for what they depend on.
    package static let parkedMax = 100_000
    /// Bytes of large change sets that have come in part.
    package static let spoolBytesMax = 256 << 20

    package init() {}
}
