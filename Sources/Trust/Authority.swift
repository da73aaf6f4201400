import Crypto
import Foundation
import SwiftASN1
import X509

/// Head office's authority: a root that lasts ten years and can be kept elsewhere, and an issuer, which the root has
/// signed for two years and which signs nodes.
///
/// | | key | lasts | signs |
/// |---|---|---|---|
/// | root | P-384 | 10 years | issuers |
/// | issuer | P-256 | 2 years, path length 0 | nodes |
/// | node | P-256 | 180 days | nobody |
///
/// A value: whoever changes it writes it down.
package struct Authority: Sendable {
    private let rootCertificate: Certificate
    private let rootKey: Certificate.PrivateKey?
    private let issuerCertificate: Certificate
    private let issuerKey: Certificate.PrivateKey

    private static let dayMilliseconds: UInt64 = 86_400_000
    private static let rootDays: UInt64 = 3652
    private static let issuerDays: UInt64 = 730
    /// How long a node's certificate lasts.
    package static let nodeDays: UInt64 = 180

    // MARK: Making one

    /// Makes a root and its first issuer.
    ///
    /// - Parameters:
    ///   - organisation: 16 bytes.
    ///   - now: Milliseconds since 1970-01-01 UTC.
    package init(organisation: [UInt8], now: UInt64) throws(TrustFailure) {
        let key = Certificate.PrivateKey(P384.Signing.PrivateKey())
        let name = "Peyvand root \(hexadecimal(Array(organisation.prefix(4))))"
        let root = try Self.certificate(
            of: key.publicKey,
            named: name,
            // An issuer begins a day later, a node two: every clock that is nearly right finds all of them valid.
            from: now - min(now, 3 * Self.dayMilliseconds),
            days: Self.rootDays,
            signedBy: (nil, name, key),
            extensions: { BasicConstraints.isCertificateAuthority(maxPathLength: 1) },
            algorithm: .ecdsaWithSHA384
        )
        self.init(root: root, key: key, issuer: try Self.issuer(signedBy: root, key, now: now))
    }

    /// The same root with a new issuer. Certificates of the old one count until they end.
    ///
    /// - Throws: ``TrustFailure/rootKeyMissing`` when the root's key is kept elsewhere.
    package func withNewIssuer(now: UInt64) throws(TrustFailure) -> Authority {
        guard let rootKey else { throw .rootKeyMissing }
        return Authority(
            root: rootCertificate,
            key: rootKey,
            issuer: try Self.issuer(signedBy: rootCertificate, rootKey, now: now)
        )
    }

    /// When a new issuer is due: at half its time, so that nobody's certificate must be shorter for its sake.
    package func isIssuerDue(at now: UInt64) -> Bool {
        let (begins, ends) = (
            issuerCertificate.notValidBefore.milliseconds, issuerCertificate.notValidAfter.milliseconds
        )
        return now > begins + (ends - begins) / 2
    }

    private init(root: Certificate, key: Certificate.PrivateKey?, issuer: (Certificate, Certificate.PrivateKey)) {
        rootCertificate = root
        rootKey = key
        (issuerCertificate, issuerKey) = issuer
    }

    private static func issuer(
        signedBy root: Certificate,
        _ rootKey: Certificate.PrivateKey,
        now: UInt64
    ) throws(TrustFailure) -> (Certificate, Certificate.PrivateKey) {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let certificate = try certificate(
            of: key.publicKey,
            named: "Peyvand issuer \(hexadecimal(Array(try key.publicKey.digest.prefix(4))))",
            from: now - min(now, 2 * dayMilliseconds),
            days: issuerDays,
            signedBy: (root, "", rootKey),
            extensions: { BasicConstraints.isCertificateAuthority(maxPathLength: 0) },
            algorithm: .ecdsaWithSHA384
        )
        return (certificate, key)
    }

    // MARK: Signing

    /// Certificates of the authority, DER: the issuer's, and the root's.
    package var chain: (issuer: [UInt8], root: [UInt8]) {
        get throws(TrustFailure) { (try issuerCertificate.bytes, try rootCertificate.bytes) }
    }

    /// The SHA-256 of the root's public key, 32 bytes: what an invitation brings.
    package var rootKeyDigest: [UInt8] {
        get throws(TrustFailure) { try rootCertificate.publicKey.digest }
    }

    /// Signs the key of a node.
    ///
    /// - Parameters:
    ///   - organisation: 16 bytes.
    ///   - node: 16 bytes.
    ///   - isHub: Whether the node answers calls.
    ///   - from: When it begins, in milliseconds since 1970-01-01 UTC.
    ///   - days: How long it lasts; never longer than the issuer.
    /// - Returns: The certificate, DER.
    package func certify(
        _ request: SigningRequest,
        organisation: [UInt8],
        node: [UInt8],
        isHub: Bool,
        from: UInt64,
        days: UInt64 = nodeDays
    ) throws(TrustFailure) -> [UInt8] {
        let name = NodeCertificate.name(organisation: organisation, node: node)
        let certificate = try Self.certificate(
            of: request.publicKey,
            named: hexadecimal(node),
            from: from,
            days: days,
            signedBy: (issuerCertificate, "", issuerKey),
            extensions: {
                BasicConstraints.notCertificateAuthority
                try ExtendedKeyUsage(isHub ? [.serverAuth, .clientAuth] : [.clientAuth])
                SubjectAlternativeNames([.uniformResourceIdentifier(name)])
            },
            algorithm: .ecdsaWithSHA256
        )
        return try certificate.bytes
    }

    /// When a certificate that is signed now begins: a day ago, so that a clock which is set right afterwards does not
    /// find it in the future.
    package static func beginning(now: UInt64) -> UInt64 { now - min(now, dayMilliseconds) }

    private static func certificate(
        of key: Certificate.PublicKey,
        named name: String,
        from: UInt64,
        days: UInt64,
        signedBy signer: (certificate: Certificate?, name: String, key: Certificate.PrivateKey),
        @ExtensionsBuilder extensions: () throws -> Result<Certificate.Extensions, any Error>,
        algorithm: Certificate.SignatureAlgorithm
    ) throws(TrustFailure) -> Certificate {
        let isAuthority = algorithm == .ecdsaWithSHA384
        var ends = Date(milliseconds: from + days * dayMilliseconds)
        if let signer = signer.certificate { ends = min(ends, signer.notValidAfter) }
        do {
            var all = try Certificate.Extensions(builder: extensions)
            // Nobody takes a certificate for more than it is.
            if let basic = all[oid: .X509ExtensionID.basicConstraints] {
                all.update(Certificate.Extension(oid: basic.oid, critical: true, value: basic.value))
            }
            let use = isAuthority ? KeyUsage(keyCertSign: true, cRLSign: true) : KeyUsage(digitalSignature: true)
            all.update(try Certificate.Extension(use, critical: true))
            all.update(try Certificate.Extension(SubjectKeyIdentifier(hash: key), critical: false))
            all.update(
                try Certificate.Extension(
                    AuthorityKeyIdentifier(
                        keyIdentifier: SubjectKeyIdentifier(hash: signer.key.publicKey).keyIdentifier
                    ),
                    critical: false
                )
            )
            return try Certificate(
                version: .v3,
                serialNumber: Certificate.SerialNumber(),
                publicKey: key,
                notValidBefore: Date(milliseconds: from),
                notValidAfter: ends,
                issuer: signer.certificate?.subject ?? DistinguishedName { CommonName(signer.name) },
                subject: DistinguishedName { CommonName(name) },
                signatureAlgorithm: algorithm,
                extensions: all,
                issuerPrivateKey: signer.key
            )
        } catch {
            throw .malformed("authority")
        }
    }
}

// MARK: - As files

extension Authority {
    /// What is to be kept of an authority, PEM. The root's key may be kept elsewhere.
    package struct Papers: Hashable, Sendable {
        package var root: String
        package var rootKey: String?
        package var issuer: String
        package var issuerKey: String

        package init(root: String, rootKey: String?, issuer: String, issuerKey: String) {
            self.root = root
            self.rootKey = rootKey
            self.issuer = issuer
            self.issuerKey = issuerKey
        }
    }

    /// - Throws: ``TrustFailure/malformed(_:)``.
    package init(_ papers: Papers) throws(TrustFailure) {
        do {
            self.init(
                root: try Certificate(pemEncoded: papers.root),
                key: try papers.rootKey.map { try Certificate.PrivateKey(pemEncoded: $0) },
                issuer: (
                    try Certificate(pemEncoded: papers.issuer), try Certificate.PrivateKey(pemEncoded: papers.issuerKey)
                )
            )
        } catch {
            throw .malformed("authority")
        }
        guard issuerCertificate.publicKey == issuerKey.publicKey,
            rootCertificate.publicKey.isValidSignature(issuerCertificate.signature, for: issuerCertificate)
        else { throw .malformed("authority") }
    }

    package var papers: Papers {
        get throws(TrustFailure) {
            do {
                return Papers(
                    root: try rootCertificate.serializeAsPEM().pemString + "\n",
                    rootKey: try rootKey?.serializeAsPEM().pemString.appending("\n"),
                    issuer: try issuerCertificate.serializeAsPEM().pemString + "\n",
                    issuerKey: try issuerKey.serializeAsPEM().pemString + "\n"
                )
            } catch {
                throw .malformed("authority")
            }
        }
    }
}

/// Certificates, and perhaps their key, in one text (RFC 7468): what belongs together is written together.
package enum PEMText {
    /// Certificates, DER, one after the other, then a key, PEM.
    package static func text(_ certificates: [[UInt8]], key: String? = nil) -> String {
        certificates.map { PEMDocument(type: "CERTIFICATE", derBytes: $0).pemString + "\n" }.joined()
            + (key.map { $0.hasSuffix("\n") ? $0 : $0 + "\n" } ?? "")
    }

    /// - Returns: The certificates in their order, DER, and the first private key, PEM.
    /// - Throws: ``TrustFailure/malformed(_:)``.
    package static func parts(of text: String) throws(TrustFailure) -> (certificates: [[UInt8]], key: String?) {
        do {
            let documents = try PEMDocument.parseMultiple(pemString: text)
            return (
                documents.filter { $0.discriminator == "CERTIFICATE" }.map(\.derBytes),
                documents.first { $0.discriminator.hasSuffix("PRIVATE KEY") }?.pemString
            )
        } catch {
            throw .malformed("file of certificates")
        }
    }
}
