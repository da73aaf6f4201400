/// What made a session end before its work was done, with the values that help to mend it.
package enum SyncFailure: Error, Hashable, Sendable {
    /// No connection could be made; the sentence comes from the transport.
    case unreachable(String)
    case greetingTimedOut(after: Duration)
    case peerSilent(during: Duration)
    /// The line broke, or the peer went without a word.
    case linkLost
    /// The peer sends, but does not take what this node sends.
    case peerDoesNotRead(messages: Int)
    /// The peer refused this node.
    case refused(Refusal)
    /// This node refused the peer.
    case refusedPeer(Refusal)
    /// The peer ended the session, with its reason.
    case peerLeft(String)
    /// The child changed what it is, and comes back at once.
    case reconnecting
    /// This node was asked to stop before the work was done.
    case stopped
    /// A newer session of the same node took over.
    case replaced
    /// This node's own store failed; the sentence comes from it.
    case storeFailed(String)
    case malformed(SyncWireFailure)
    case noCommonVersion(min: UInt32, max: UInt32)
    case unexpected(String, during: String)
    case windowExceeded(batches: Int, bytes: Int)
    case batchTooLarge(changeSets: Int, bytes: Int)
    case outOfOrder(what: String, expected: UInt64, received: UInt64)
    case acknowledgedUnknown(UInt64)
    case tooManyPings(Int)
}

extension SyncFailure: CustomStringConvertible {
    package var description: String {
        switch self {
        case .unreachable(let sentence): sentence
        case .greetingTimedOut(let limit):
            "Nobody greeted within \(limit). Is it Peyvand that listens at this address?"
        case .peerSilent(let time):
            "Nothing came from the peer for \(time), so the line is taken for dead. It is tried again."
        case .linkLost:
            "The line broke. Nothing that was acknowledged is lost; the rest is sent again."
        case .peerDoesNotRead(let messages):
            "\(messages) messages wait for a peer that does not read them. The session was closed."
        case .refused(let refusal): "The peer refused (\(refusal.code)): \(escaped(refusal.sentence))"
        case .refusedPeer(let refusal):
            "This node refused the peer (\(refusal.code)): \(escaped(refusal.sentence))"
        case .peerLeft(let reason): "The peer ended the session: \(escaped(reason))"
        case .reconnecting:
            "This node has taken a new number or place and calls again at once."
        case .stopped:
            "The session was stopped before everything was exchanged. The next one goes on from there."
        case .replaced: "A newer session of the same node took over."
        case .storeFailed(let sentence): sentence
        case .malformed(let failure): failure.description
        case .noCommonVersion(let min, let max):
            "The peer speaks protocol \(min) to \(max), this node \(SyncProtocolVersion.lowest) to "
                + "\(SyncProtocolVersion.highest). Upgrade the older node first."
        case .unexpected(let event, let state):
            "\(event) came while \(state), out of turn. The session was ended and will be tried again."
        case .windowExceeded(let batches, let bytes):
            "The peer has \(batches) batches with \(bytes) bytes on the way, more than it may. "
                + "The session was closed; check that both nodes run a supported version."
        case .batchTooLarge(let changeSets, let bytes):
            "The peer sent \(changeSets) change sets with \(bytes) bytes in one batch, more than it may. "
                + "The session was closed; check that both nodes run a supported version."
        case .outOfOrder(let what, let expected, let received):
            "The peer sent \(what) \(received) where \(expected) was due. The session was closed and starts "
                + "again from what both hold."
        case .acknowledgedUnknown(let number):
            "The peer acknowledged \(number), where no batch of this session ends. The session was closed; "
                + "if it happens again, run `peyvand doctor` on both nodes."
        case .tooManyPings(let count):
            "The peer sent \(count) pings in a row. The session was closed."
        }
    }

    /// When the peer asked to be called again.
    package var retryAfterSeconds: UInt32? {
        if case .refused(let refusal) = self { refusal.retryAfterSeconds } else { nil }
    }

    /// Whether the peer broke the rules, so that it is told why the session ends.
    package var isViolation: Bool {
        switch self {
        case .malformed, .unexpected, .windowExceeded, .batchTooLarge, .outOfOrder, .acknowledgedUnknown,
            .tooManyPings, .noCommonVersion:
            true
        case .unreachable, .greetingTimedOut, .peerSilent, .linkLost, .peerDoesNotRead, .refused,
            .refusedPeer, .peerLeft, .reconnecting, .stopped, .replaced, .storeFailed:
            false
        }
    }
}

/// A peer's text with everything that could act on a terminal or turn the writing direction made visible.
private func escaped(_ text: String) -> String {
    text.unicodeScalars.reduce(into: "") { result, scalar in
        switch scalar.properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned:
            result += "\\u{\(String(scalar.value, radix: 16))}"
        case .format where scalar.value != 0x200C && scalar.value != 0x200D:
            // Persian needs the zero-width non-joiner and joiner.
            result += "\\u{\(String(scalar.value, radix: 16))}"
        default:
            result.unicodeScalars.append(scalar)
        }
    }
}
