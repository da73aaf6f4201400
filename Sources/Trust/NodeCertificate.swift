import Crypto
import Foundation
import SwiftASN1
import X509

/// What a certificate says of the node that shows it.
///
/// Who a node is stands in one name of the certificate, `peyvand://ORGANISATION/node/NODE`, with both identifiers in
/// hexadecimal (RFC 5280, section 4.2.1.6). Which end of a line it may be stands in its extended key usage: head
/// office's says `serverAuth`, every one says `clientAuth`. Nothing else of it counts.
package struct NodeCertificate: Hashable, Sendable {
    /// Whether a moment lies in the time of a certificate.
    package enum Standing: Hashable, Sendable {
        case notYetValid, valid, expired
    }

    /// DER.
    package let bytes: [UInt8]
    /// 16 bytes.
    package let organisation: [UInt8]
    /// 16 bytes.
    package let node: [UInt8]
    /// The SHA-256 of the public key, 32 bytes.
    package let keyDigest: [UInt8]
    /// Whether it may answer calls.
    package let isHub: Bool
    /// The first and last moment, in milliseconds since 1970-01-01 UTC.
    package let notBefore: UInt64
    package let notAfter: UInt64

    /// Reads a certificate. Whether anybody has signed it is not looked at: see ``TrustAnchor``.
    ///
    /// - Throws: ``TrustFailure/malformed(_:)``, or ``TrustFailure/notForThis`` when it names no node.
    package init(_ bytes: [UInt8]) throws(TrustFailure) {
        try self.init(Certificate.read(bytes), bytes)
    }

    init(_ certificate: Certificate, _ bytes: [UInt8]) throws(TrustFailure) {
        guard let names = try? certificate.extensions.subjectAlternativeNames,
            let uses = try? certificate.extensions.extendedKeyUsage, uses.contains(.clientAuth)
        else { throw .notForThis }
        let identities = names.compactMap { name -> (organisation: [UInt8], node: [UInt8])? in
            if case .uniformResourceIdentifier(let text) = name { return Self.identity(in: text) }
            return nil
        }
        // One name, so that nobody can be two nodes.
        guard names.count == 1, let identity = identities.first else { throw .notForThis }
        self.bytes = bytes
        organisation = identity.organisation
        node = identity.node
        keyDigest = try certificate.publicKey.digest
        isHub = uses.contains(.serverAuth)
        notBefore = certificate.notValidBefore.milliseconds
        notAfter = certificate.notValidAfter.milliseconds
    }

    /// How it stands at a moment, in milliseconds since 1970-01-01 UTC.
    package func standing(at now: UInt64) -> Standing {
        now < notBefore ? .notYetValid : now > notAfter ? .expired : .valid
    }

    /// The name of a node in certificates.
    static func name(organisation: [UInt8], node: [UInt8]) -> String {
        "peyvand://\(hexadecimal(organisation))/node/\(hexadecimal(node))"
    }

    private static func identity(in text: String) -> (organisation: [UInt8], node: [UInt8])? {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0] == "peyvand:", parts[1].isEmpty, parts[3] == "node",
            let organisation = identifier(parts[2]), let node = identifier(parts[4])
        else { return nil }
        return (organisation, node)
    }

    /// 16 bytes from 32 digits.
    private static func identifier(_ text: Substring) -> [UInt8]? {
        let digits = text.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue.map(UInt8.init) }
        guard digits.count == 32, text.utf8.count == 32 else { return nil }
        return stride(from: 0, to: 32, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }
}

/// A fingerprint as people compare it: the SHA-256 in groups of four digits.
package func fingerprint(_ digest: [UInt8]) -> String {
    stride(from: 0, to: digest.count, by: 2)
        .map { hexadecimal(Array(digest[$0..<min($0 + 2, digest.count)])) }
        .joined(separator: " ")
}

func hexadecimal(_ bytes: [UInt8]) -> String {
    bytes.map { (($0 < 16) ? "0" : "") + String($0, radix: 16) }.joined()
}

extension Date {
    init(milliseconds: UInt64) { self.init(timeIntervalSince1970: Double(milliseconds) / 1000) }

    /// Milliseconds since 1970-01-01 UTC; 0 before.
    var milliseconds: UInt64 { UInt64(max(0, timeIntervalSince1970 * 1000)) }
}

extension Certificate {
    static func read(_ bytes: [UInt8]) throws(TrustFailure) -> Certificate {
        do { return try Certificate(derEncoded: bytes) } catch { throw .malformed("certificate") }
    }

    /// DER.
    var bytes: [UInt8] {
        get throws(TrustFailure) {
            var serializer = DER.Serializer()
            do { try serializer.serialize(self) } catch { throw .malformed("certificate") }
            return serializer.serializedBytes
        }
    }
}

extension Certificate.PublicKey {
    /// The SHA-256 of the key as certificates carry it (SubjectPublicKeyInfo).
    var digest: [UInt8] {
        get throws(TrustFailure) {
            var serializer = DER.Serializer()
            do { try serializer.serialize(self) } catch { throw .malformed("public key") }
            return [UInt8](SHA256.hash(data: serializer.serializedBytes))
        }
    }
}
