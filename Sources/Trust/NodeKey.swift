import Crypto
import SwiftASN1
import X509

/// A node's own key: P-256 (FIPS 186-5). It never leaves the node.
package struct NodeKey: Sendable {
    private let key: P256.Signing.PrivateKey

    /// A new one.
    package init() { key = P256.Signing.PrivateKey() }

    /// Reads one from PEM (RFC 7468).
    ///
    /// - Throws: ``TrustFailure/malformed(_:)``.
    package init(pem: String) throws(TrustFailure) {
        do { key = try P256.Signing.PrivateKey(pemRepresentation: pem) } catch { throw .malformed("node's key") }
    }

    /// PEM.
    package var pem: String { key.pemRepresentation }

    /// The SHA-256 of the public key, 32 bytes.
    package var digest: [UInt8] {
        get throws(TrustFailure) { try Certificate.PublicKey(key.publicKey).digest }
    }

    /// Asks for a certificate (RFC 2986). It names nobody: who the node is, the authority knows better.
    package func request() throws(TrustFailure) -> [UInt8] {
        do {
            let request = try CertificateSigningRequest(
                version: .v1,
                subject: DistinguishedName { CommonName("node") },
                privateKey: Certificate.PrivateKey(key),
                attributes: CertificateSigningRequest.Attributes(),
                signatureAlgorithm: .ecdsaWithSHA256
            )
            var serializer = DER.Serializer()
            try serializer.serialize(request)
            return serializer.serializedBytes
        } catch {
            throw .malformed("request")
        }
    }
}

/// A request for a certificate, of which only the key counts.
package struct SigningRequest: Sendable {
    let publicKey: Certificate.PublicKey
    /// The SHA-256 of the public key, 32 bytes.
    package let keyDigest: [UInt8]

    /// No request of a P-256 key has more bytes.
    package static let byteCountMax = 2048

    /// Reads a request, DER, and checks that whoever made it has the key.
    ///
    /// - Throws: ``TrustFailure``.
    package init(_ bytes: [UInt8]) throws(TrustFailure) {
        guard bytes.count <= Self.byteCountMax, let request = try? CertificateSigningRequest(derEncoded: bytes),
            P256.Signing.PublicKey(request.publicKey) != nil
        else { throw .malformed("request") }
        guard request.publicKey.isValidSignature(request.signature, for: request) else { throw .keyNotProved }
        publicKey = request.publicKey
        keyDigest = try request.publicKey.digest
    }
}

/// With what a node secures its end of a line.
package struct NodeIdentity: Hashable, Sendable {
    /// What the certificate says.
    package let certificate: NodeCertificate
    /// DER: the node's own certificate, then its issuer's.
    package let chain: [[UInt8]]
    /// The root's certificate, DER.
    package let root: [UInt8]
    /// The node's own key, PEM.
    package let keyPEM: String

    /// - Throws: ``TrustFailure`` when the certificate and the key do not belong together.
    package init(chain: [[UInt8]], root: [UInt8], key: NodeKey) throws(TrustFailure) {
        guard let own = chain.first else { throw .malformed("certificate") }
        certificate = try NodeCertificate(own)
        guard certificate.keyDigest == (try key.digest) else { throw .malformed("certificate") }
        self.chain = chain
        self.root = root
        keyPEM = key.pem
    }
}

extension NodeIdentity: CustomStringConvertible, CustomDebugStringConvertible {
    package var description: String { "(identity of \(hexadecimal(certificate.node)))" }
    package var debugDescription: String { description }
}
