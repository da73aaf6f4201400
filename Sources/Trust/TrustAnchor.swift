@_spi(FixedExpiryValidationTime) import X509

/// What an organisation's certificates must lead to: its root, or the digest of the root's key, which an invitation
/// brings before anything else is known.
package enum TrustAnchor: Hashable, Sendable {
    /// The root's certificate, DER.
    case root([UInt8])
    /// The SHA-256 of the root's public key, 32 bytes. The root itself must be in the chain then.
    case rootKey([UInt8])

    /// Checks that a chain leads to the root, and returns what its first certificate says.
    ///
    /// Signatures, path length and purpose of authorities are checked (RFC 5280, section 6), by the moment at which the
    /// first certificate begins. Whether that is valid *now* is for the caller, who knows which clock to believe: an
    /// authority never signs for longer than it lasts itself.
    ///
    /// - Parameter chain: DER; the peer's own first, then those that lead to the root, in any order.
    /// - Throws: ``TrustFailure``.
    package func check(_ chain: [[UInt8]]) async throws(TrustFailure) -> NodeCertificate {
        guard let first = chain.first, chain.count <= Self.certificatesMax else { throw .malformed("chain") }
        let leaf = try Certificate.read(first)
        let claimed = try NodeCertificate(leaf, first)
        var others: [Certificate] = []
        for bytes in chain.dropFirst() { others.append(try Certificate.read(bytes)) }
        let root: Certificate
        switch self {
        case .root(let bytes):
            root = try Certificate.read(bytes)
        case .rootKey(let digest):
            guard let found = others.first(where: { (try? $0.publicKey.digest) == digest }) else {
                throw .foreignAuthority
            }
            root = found
        }
        var verifier = Verifier(rootCertificates: CertificateStore([root])) {
            RFC5280Policy(fixedExpiryValidationTime: leaf.notValidBefore)
        }
        guard case .validCertificate = await verifier.validate(leaf: leaf, intermediates: CertificateStore(others))
        else { throw .foreignAuthority }
        return claimed
    }

    /// An own certificate, an issuer, a root; and an issuer that is being replaced.
    private static let certificatesMax = 4
}
