import Crypto
import Foundation
import SyncProtocol

/// What head office hands to a new branch, once: where to call, whom to believe, and the secret that opens the door.
///
/// Printed as one line, `peyvand:NAME@HOST:PORT/SECRET`. The last part is in base64url (RFC 4648, section 5):
///
///     16  which invitation
///     32  the SHA-256 of the root's public key; missing from a head office without an authority
///     32  the secret
package struct Invitation: Hashable, Sendable {
    package let name: String
    /// `host:port` of head office.
    package let address: String
    package let token: UniqueID
    /// The SHA-256 of the public key to which head office's certificate must lead.
    package let rootKey: Key256?
    private let secret: Key256

    /// The one line.
    package var line: String {
        let secret = Data(token.bytes + (rootKey?.bytes ?? []) + self.secret.bytes).base64EncodedString()
            .replacingOccurrences(of: "+", with: "-")
            .replacingOccurrences(of: "/", with: "_")
            .replacingOccurrences(of: "=", with: "")
        return "peyvand:\(name)@\(address)/\(secret)"
    }

    init(name: String, address: String, token: UniqueID, rootKey: Key256?, secret: Key256) {
        self.name = name
        self.address = address
        self.token = token
        self.rootKey = rootKey
        self.secret = secret
    }

    /// Reads the one line; nil when it is not whole.
    package init?(line: String) {
        let line = line.trimmingCharacters(in: .whitespacesAndNewlines)
        guard line.hasPrefix("peyvand:"), let at = line.firstIndex(of: "@"), let slash = line.lastIndex(of: "/"),
            at < slash
        else { return nil }
        let encoded = line[line.index(after: slash)...]
            .replacingOccurrences(of: "-", with: "+")
            .replacingOccurrences(of: "_", with: "/")
        let padding = String(repeating: "=", count: (4 - encoded.count % 4) % 4)
        let short = UniqueID.byteCount + Key256.byteCount
        guard let bytes = Data(base64Encoded: encoded + padding).map({ [UInt8]($0) }),
            bytes.count == short || bytes.count == short + Key256.byteCount,
            let token = UniqueID(bytes: Array(bytes.prefix(UniqueID.byteCount))),
            let secret = Key256(bytes: Array(bytes.suffix(Key256.byteCount)))
        else { return nil }
        self.init(
            name: String(line[line.index(line.startIndex, offsetBy: 8)..<at]),
            address: String(line[line.index(after: at)..<slash]),
            token: token,
            rootKey: Key256(bytes: Array(bytes.dropFirst(UniqueID.byteCount).dropLast(Key256.byteCount))),
            secret: secret
        )
        guard Invitation.isName(name), !address.isEmpty else { return nil }
    }

    /// What a new node shows to follow this invitation. See ``Join/proof``.
    package func join(
        nonce: Key256,
        request: [UInt8],
        node: UniqueID,
        nodeKey: Key256,
        software: String
    ) -> Join {
        let proof = HMAC<SHA256>.authenticationCode(
            for: Self.proven(nonce, request),
            using: SymmetricKey(data: Replica.hash(secret.bytes))
        )
        guard let proof = Key256(bytes: [UInt8](proof)) else { preconditionFailure("SHA-256 has 32 bytes") }
        return Join(tokenID: token, proof: proof, node: node, nodeKey: nodeKey, software: software, request: request)
    }

    /// Whether whoever shows this has the secret of an invitation.
    ///
    /// - Parameter secretHash: What is kept of the secret: its SHA-256.
    static func isProved(by join: Join, secretHash: [UInt8]) -> Bool {
        guard let nonce = join.nonce else { return false }
        return HMAC<SHA256>.isValidAuthenticationCode(
            join.proof.bytes,
            authenticating: proven(nonce, join.request),
            using: SymmetricKey(data: secretHash)
        )
    }

    private static func proven(_ nonce: Key256, _ request: [UInt8]) -> [UInt8] { nonce.bytes + Replica.hash(request) }

    /// Whether a text can name a node: letters of any script, digits, hyphen, dot, underscore; at most 64.
    package static func isName(_ name: String) -> Bool {
        (1...64).contains(name.count)
            && name.unicodeScalars.allSatisfy {
                CharacterSet.alphanumerics.contains($0) || "-._".unicodeScalars.contains($0)
            }
    }
}
