import Causality
import SyncProtocol
import TestKit

/// A connection between a branch and head office: two real sessions, with everything between the line and the store
/// that is not a socket.
///
/// Bytes of one direction arrive in order, in pieces, after a time; the line may be cut, or fall silent one way.
final class SimulatedLine {
    /// How bad a line is. No number means never.
    struct Quality {
        /// The longest time on the way, in milliseconds.
        var latencyMax: UInt64 = 0
        /// The most bytes that arrive at once; 0 for all.
        var pieceMax = 0
        /// Breaks when so many bytes were sent, both ways together.
        var cutAfter: Int?
        /// From so many bytes on nothing arrives any more, one way, and nobody is told.
        var silentAfter: Int?
        /// At which end nothing arrives then.
        var silentEnd = 0
    }

    /// What belongs to one of the two nodes.
    struct End {
        let node: SimulatedNode
        /// Which start of the node's process it belongs to.
        let start: Int
        var session: SyncSession
        var decoder: FrameDecoder
        var fetches: [SyncSession.Action] = []
        var questions: [SyncSession.Action] = []
        var isFetching = false
        var isAsking = false
        /// The number of the timer that counts.
        var timers: [SyncSession.Timer: UInt64] = [:]
        /// What is on its way to this end, in order; nil is the end of the line.
        var inbox: [[UInt8]?] = []
        /// When the last of it arrives.
        var lastArrival: UInt64 = 0
        /// Why it ended; nil inside while it goes on.
        var failure: SyncFailure??

        var isOver: Bool { failure != nil }
        var isIdle: Bool { fetches.isEmpty && questions.isEmpty && !isFetching && !isAsking }
    }

    static let child = 0
    static let hub = 1

    let number: Int
    let quality: Quality
    let limits: SyncLimits
    let codec: SyncMessageCodec
    var ends: [End]
    var random: SeededRandom
    /// Bytes sent, both ways together.
    var bytes = 0
    var isCut = false

    init(
        _ number: Int,
        child: SimulatedNode,
        hub: SimulatedNode,
        isOneShot: Bool,
        quality: Quality,
        limits: SyncLimits,
        seed: UInt64
    ) {
        self.number = number
        self.quality = quality
        self.limits = limits
        codec = SyncMessageCodec(limits: limits)
        random = SeededRandom(seed: seed)
        ends = [(child, SyncSession.Role.child(isOneShot: isOneShot)), (hub, .hub)].map { node, role in
            End(
                node: node,
                start: node.start,
                session: SyncSession(role: role, limits: limits),
                decoder: FrameDecoder(limits: limits)
            )
        }
    }

    /// Whether the process that an end belongs to is still there.
    func isAlive(_ end: Int) -> Bool { ends[end].node.isOpen && ends[end].node.start == ends[end].start }

    /// Whether both ends are over, or gone.
    var isOver: Bool { [0, 1].allSatisfy { ends[$0].isOver || !isAlive($0) } }
}
