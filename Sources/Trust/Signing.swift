import Crypto
import X509

extension NodeIdentity {
    /// Signs a statement with the node's key: ECDSA over its SHA-256 (FIPS 186-5), DER.
    ///
    /// - Throws: ``TrustFailure/malformed(_:)``.
    package func sign(_ statement: [UInt8]) throws(TrustFailure) -> [UInt8] {
        do {
            return [UInt8](
                try P256.Signing.PrivateKey(pemRepresentation: keyPEM).signature(for: statement).derRepresentation
            )
        } catch {
            throw .malformed("node's key")
        }
    }
}

extension NodeCertificate {
    /// Whether whoever has the certificate's key has signed a statement: see ``NodeIdentity/sign(_:)``.
    package func hasSigned(_ statement: [UInt8], signature: [UInt8]) -> Bool {
        guard let certificate = try? Certificate.read(bytes),
            let key = P256.Signing.PublicKey(certificate.publicKey),
            let signature = try? P256.Signing.ECDSASignature(derRepresentation: signature)
        else { return false }
        return key.isValidSignature(signature, for: statement)
    }
}
