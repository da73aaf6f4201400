import Foundation
import GRDB
import SyncProtocol
import Synchronization
import Trust

/// Keys and certificates as they were read last.
struct KeyCache {
    var authority: Authority?
    var identity: NodeIdentity?
}

extension Replica {
    var keyFiles: KeyFiles { KeyFiles(directory: directory) }

    /// Head office's authority; nil where there is none.
    func authority() throws -> Authority? {
        try keys.withLock { keys in
            if let authority = keys.authority { return authority }
            keys.authority = try keyFiles.authority()
            return keys.authority
        }
    }

    /// With what this node secures its lines; nil before it has a certificate.
    ///
    /// - Throws: ``StoreFailure/keyFile(path:reason:)``.
    package func lineIdentity() throws -> NodeIdentity? {
        try keys.withLock { keys in
            if let identity = keys.identity { return identity }
            keys.identity = try keyFiles.identity()
            return keys.identity
        }
    }

    /// Head office: makes what is missing of its authority, a new issuer when that is due and the root's key is here,
    /// and a certificate for itself when it has none or that grows old. Nothing at a branch.
    ///
    /// - Returns: Whether the certificate with which it answers calls is another one now.
    @discardableResult
    package func prepareAuthority() throws -> Bool {
        let node = self.node
        guard node.role == .headOffice, let organisation = node.organisation else { return false }
        let now = wallClock()
        return try keys.withLock { keys in
            let files = keyFiles
            var authority: Authority
            if let known = try keys.authority ?? files.authority() {
                authority = known
                if known.isIssuerDue(at: now), let renewed = try? known.withNewIssuer(now: now) {
                    authority = renewed
                    try files.write(authority)
                }
            } else {
                // Branches that trust a root must never find another one in its place.
                guard try files.read(.root) == nil else {
                    throw StoreFailure.keyFile(
                        path: directory + "/keys/" + KeyFiles.Name.issuer.rawValue,
                        reason: "it is missing, and the root's certificate is there: put it back from a backup"
                    )
                }
                authority = try Authority(organisation: organisation, now: now)
                try files.write(authority)
            }
            keys.authority = authority
            let present = try keys.identity ?? files.identity()
            keys.identity = present
            if let certificate = present?.certificate, certificate.node == node.node,
                certificate.standing(at: now) == .valid, !Self.isDue(certificate, at: now)
            {
                return false
            }
            let key = NodeKey()
            let chain = try authority.chain
            let own = try authority.certify(
                SigningRequest(key.request()),
                organisation: organisation,
                node: node.node,
                isHub: true,
                from: Authority.beginning(now: now)
            )
            let identity = try NodeIdentity(chain: [own, chain.issuer, chain.root], root: chain.root, key: key)
            try files.write(identity)
            keys.identity = identity
            return true
        }
    }

    /// Whether a third of a certificate's time has passed: then the next contact brings another.
    static func isDue(_ certificate: NodeCertificate, at now: UInt64) -> Bool {
        now > certificate.notBefore + (certificate.notAfter - certificate.notBefore) / 3
    }

    /// A moment that has certainly passed, whatever this machine's clock says: the newest time that head office has
    /// told, and that before which no program like this was there. In milliseconds since 1970-01-01 UTC.
    package func earliestPresent() -> UInt64 {
        let told = try? readState { try LocalFact.read(.hubTimeSeen, $0) }
        return max(Self.firstMilliseconds, UInt64(clamping: (told ?? nil) ?? 0))
    }

    /// 2026-01-01.
    private static let firstMilliseconds: UInt64 = 1_767_225_600_000
}

// MARK: - Joining

extension Replica {
    /// At a branch: what it shows to follow an invitation. The key stays here, and is the same however often this is
    /// asked for.
    ///
    /// - Parameter nonce: What the hub has given this call to prove itself with.
    package func join(with invitation: Invitation, nonce: Key256) throws -> Join {
        guard let id = UniqueID(bytes: node.node), let nodeKey = Key256(bytes: node.nodeKey) else {
            throw StoreFailure.notJoined
        }
        return invitation.join(
            nonce: nonce,
            request: try keyFiles.nextKey().request(),
            node: id,
            nodeKey: nodeKey,
            software: Self.software
        )
    }

    /// At a branch: keeps the certificate that head office has given, after checking that it is for this node's key and
    /// leads to the root that the invitation named.
    func keepCertificate(of joined: Joined, rootKey: Key256) async throws {
        guard let root = joined.certificates.last, joined.certificates.count > 1 else {
            throw StoreFailure.notCertified(reason: "head office has sent none")
        }
        let certificate: NodeCertificate
        do {
            certificate = try await TrustAnchor.rootKey(rootKey.bytes).check(joined.certificates)
        } catch {
            throw StoreFailure.notCertified(reason: error.description)
        }
        guard certificate.node == node.node, certificate.organisation == joined.organisation.bytes else {
            throw StoreFailure.notCertified(reason: TrustFailure.notForThis.description)
        }
        let chain = Array(joined.certificates.dropLast())
        try keys.withLock { keys in
            let identity = try NodeIdentity(chain: chain, root: root, key: keyFiles.nextKey())
            try keyFiles.write(identity)
            keys.identity = identity
        }
    }

    /// Makes this node what head office has said it is, with its certificate.
    package func completeJoin(_ joined: Joined, with invitation: Invitation) async throws {
        guard let rootKey = invitation.rootKey else { throw StoreFailure.notCertified(reason: "the invitation is old") }
        // Whoever has joined has a certificate: the other way round nothing would ask for it any more.
        if try keyFiles.identity()?.certificate.organisation != joined.organisation.bytes {
            try await keepCertificate(of: joined, rootKey: rootKey)
        }
        try completeJoin(joined)
    }
}
