/// Who is at the other end of a line, as a certificate says that was checked.
package struct CertifiedPeer: Hashable, Sendable {
    package let organisation: UniqueID
    package let node: UniqueID
    /// The SHA-256 of its public key.
    package let key: Key256
    /// The first and last moment of the certificate, in milliseconds since 1970-01-01 UTC.
    package let validFrom: UInt64
    package let validUntil: UInt64

    package init(organisation: UniqueID, node: UniqueID, key: Key256, validFrom: UInt64, validUntil: UInt64) {
        self.organisation = organisation
        self.node = node
        self.key = key
        self.validFrom = validFrom
        self.validUntil = validUntil
    }
}

/// How far a node is let in.
package enum NodeAdmission: Hashable, Sendable {
    case full
    /// Its certificate has expired not long ago: it may ask for another one, and for nothing else.
    case renewalOnly
}

extension SyncQuestion {
    /// The kind of question by which a child asks for a new certificate. The payload is the request (RFC 2986), DER; the
    /// answer holds certificates, DER, each with its length before it: the child's own, then its issuer's.
    package static let renewal: UInt16 = 60
}

/// A hub's table of the nodes that take part.
package protocol NodeTable: Sendable {
    /// Lets a node in whose certificate was checked, or says why not. Blocks.
    ///
    /// Asked after every handshake, whatever was remembered of an earlier one; and again, while a session lives, when
    /// the table has changed.
    func admit(_ peer: CertifiedPeer) throws(SyncStoreFailure) -> NodeAdmission

    /// Calls back after the table was changed so that a node which was let in may have to leave, on any thread, until
    /// the function it returns is called. The callback returns at once.
    func observeNodes(_ callback: @escaping @Sendable () -> Void) -> @Sendable () -> Void
}
