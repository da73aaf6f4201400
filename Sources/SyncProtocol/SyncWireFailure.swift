import Causality

/// Why bytes from a peer are no message. Whatever the peer meant, the connection cannot go on.
package enum SyncWireFailure: Error, Hashable, Sendable {
    /// Of the payload.
    case frameTooLarge(bytes: UInt64, limit: Int)
    case frameLength
    case messageTooLarge(bytes: Int, limit: Int)
    case mixedFrames(type: UInt8, after: UInt8)
    case emptyFrame(type: UInt8)
    case unknownType(UInt8)
    case damagedFrame(type: UInt8, bytes: Int)
    case malformed(String, MalformedBytes)
    case compressed(String, ZstdFailure)
}

extension SyncWireFailure: CustomStringConvertible {
    package var description: String {
        switch self {
        case .frameTooLarge(let bytes, let limit):
            "The peer announced a frame of \(bytes) bytes where at most \(limit) are accepted. "
                + "Check that a Peyvand node, and nothing else, uses this address and port."
        case .frameLength:
            "The peer sent something that is no frame. "
                + "Check that a Peyvand node, and nothing else, uses this address and port."
        case .messageTooLarge(let bytes, let limit):
            "The peer sent a message of more than \(bytes) bytes where at most \(limit) are accepted. "
                + "Check that both nodes run a supported version."
        case .mixedFrames(let type, let before):
            "A frame of type \(type) came inside a message of type \(before). Upgrade the older node first."
        case .emptyFrame(let type):
            "An empty frame of type \(type) announced more. Upgrade the older node first."
        case .unknownType(let type):
            "The peer sent a message of type \(type), which this version does not know. Check that a Peyvand node, and "
                + "nothing else, uses this address and port; if it is one, upgrade the older node first."
        case .damagedFrame(let type, let bytes):
            "A frame of type \(type) with \(bytes) bytes was damaged on the line. Nothing of it was taken, and it is "
                + "sent again. If it happens often, check the line."
        case .malformed(let message, let error):
            "A message \(message) could not be read. \(error) If it happens again, check the line and that "
                + "both nodes run a supported version."
        case .compressed(let message, let error):
            "A message \(message) could not be decompressed. \(error) If it happens again, check the line."
        }
    }
}
