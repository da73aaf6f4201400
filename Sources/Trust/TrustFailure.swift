/// Why a certificate, a key or a request for a certificate is not believed.
package enum TrustFailure: Error, Hashable, Sendable {
    /// The bytes are no certificate, key or request.
    case malformed(String)
    /// Another authority than the organisation's has signed it.
    case foreignAuthority
    /// It names no node of an organisation, or is not made for this end of a line.
    case notForThis
    /// Whoever asks for a certificate has not shown that the key is its own.
    case keyNotProved
    /// The root's key is kept elsewhere.
    case rootKeyMissing
}

extension TrustFailure: CustomStringConvertible {
    package var description: String {
        switch self {
        case .malformed(let what): "The \(what) cannot be read. Restore the file, or join again."
        case .foreignAuthority: "The certificate was not signed by this organisation's authority."
        case .notForThis: "The certificate is not one for this end of a line."
        case .keyNotProved: "The request for a certificate is not signed with the key that it names."
        case .rootKeyMissing:
            "The root's key is not here. Bring keys/root.key back for as long as a new issuer is made."
        }
    }
}
