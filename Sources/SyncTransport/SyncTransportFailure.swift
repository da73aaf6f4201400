/// Why a node cannot listen or connect.
package enum SyncTransportFailure: Error, Hashable, Sendable {
    case unresolved(NodeAddress, reason: String)
    case portInUse(NodeAddress)
    case addressNotHere(NodeAddress)
    case notAllowed(NodeAddress)
    case cannotListen(NodeAddress, reason: String)
    case noAnswer(NodeAddress, reason: String)
    /// Somebody answers, and the line could not be secured.
    case notSecured(NodeAddress)
    /// A head office answers that is not this node's.
    case foreignHub(NodeAddress)
    /// The node has nothing to secure its lines with.
    case noIdentity(reason: String)
    case pathTooLong(String, bytes: Int)
    case alreadyServed(path: String)
    case cannotServe(path: String, reason: String)
    case localRequestTooLarge(bytes: Int, limit: Int)
    case localReplyMalformed(String)
    case localReplyCut
    case localRequestFailed(String)
}

extension SyncTransportFailure: CustomStringConvertible {
    package var description: String {
        switch self {
        case .unresolved(let address, let reason):
            "The name in \(address) could not be resolved (\(reason)). Check its spelling and the DNS settings."
        case .portInUse(let address):
            "Port \(address.port) at \(address.host) is taken by another program. Stop that program "
                + "(`ss -ltnp` names it) or choose another port with --listen."
        case .addressNotHere(let address):
            "\(address.host) is not an address of this machine, so it cannot listen there. "
                + "Choose another one with --listen."
        case .notAllowed(let address):
            "This user may not listen on port \(address.port). Choose a port above 1023 with --listen."
        case .cannotListen(let address, let reason):
            "Cannot listen on \(address) (\(reason)). Choose another address with --listen."
        case .noAnswer(let address, let reason):
            "No one answers at \(address) (\(reason)). Check that the hub runs there and the line is up."
        case .notSecured(let address):
            "The line to \(address) could not be secured: who answers there does not speak TLS 1.3 as Peyvand does, or "
                + "the line broke. Check the address, and that nothing in between changes what passes."
        case .foreignHub(let address):
            "The head office at \(address) belongs to another organisation."
        case .noIdentity(let reason):
            "The certificate of this node cannot be used: \(reason)"
        case .pathTooLong(let path, let bytes):
            "The socket path \(path) has \(bytes) bytes; at most \(LocalSocket.pathBytesMax) are possible. "
                + "Choose a shorter data directory."
        case .alreadyServed(let path):
            "A node already answers at \(path). Stop it first, or use another data directory."
        case .cannotServe(let path, let reason):
            "Cannot make the socket \(path) (\(reason)). Check the directory and its permissions."
        case .localRequestTooLarge(let bytes, let limit):
            "The request has \(bytes) bytes; at most \(limit) are accepted. Split it."
        case .localReplyMalformed(let what):
            "The node's reply could not be read (\(what)). Use the same version of the command and the node."
        case .localReplyCut:
            "The node ended before its reply was complete. What was asked may have been done or not: start the node, "
                + "and look before you ask again."
        case .localRequestFailed(let sentence): sentence
        }
    }
}
