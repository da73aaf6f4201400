import Crypto
import Foundation
import GRDB
import SyncProtocol

/// The key with which head office signs statements that outlive a session: receipts, erasures, vouchers.
///
/// Ed25519 (RFC 8032). Head office holds both halves; a branch holds the public one since its first contact and
/// believes no other.
struct OrganisationKey {
    /// 32 bytes.
    let publicKey: [UInt8]
    private let privateKey: Curve25519.Signing.PrivateKey?

    /// Signs a statement; nil at a branch.
    func sign(_ statement: [UInt8]) throws -> [UInt8]? {
        try privateKey.map { [UInt8](try $0.signature(for: statement)) }
    }

    /// Whether head office has signed a statement.
    func hasSigned(_ statement: [UInt8], signature: [UInt8]) -> Bool {
        guard let key = try? Curve25519.Signing.PublicKey(rawRepresentation: publicKey) else { return false }
        return key.isValidSignature(signature, for: statement)
    }
}

extension OrganisationKey {
    /// Reads the key out of any consistent state; nil when there is none yet.
    static func read(_ db: Database) throws -> OrganisationKey? {
        guard let row = try Row.fetchOne(db.cachedStatement(sql: "SELECT publicKey, privateKey FROM organisationKey"))
        else {
            return nil
        }
        let secret = (row[1] as Data?).flatMap { try? Curve25519.Signing.PrivateKey(rawRepresentation: $0) }
        return OrganisationKey(publicKey: [UInt8](row[0] as Data), privateKey: secret)
    }
}

extension ReplicaWriter {
    /// Head office's key; made when it is first needed there. Nil at a branch that has not been told.
    ///
    /// Part of the present transaction.
    func organisationKey() throws -> OrganisationKey? {
        if let key = try OrganisationKey.read(db) { return key }
        guard node.role == .headOffice else { return nil }
        let bytes = (0..<4).flatMap { _ in withUnsafeBytes(of: nodeClock.chance()) { Array($0) } }
        let secret = try Curve25519.Signing.PrivateKey(rawRepresentation: bytes)
        try db.cachedStatement(sql: "INSERT INTO organisationKey VALUES (1, ?, ?)").execute(arguments: [
            secret.publicKey.rawRepresentation, secret.rawRepresentation,
        ])
        return try OrganisationKey.read(db)
    }

    /// At a branch: remembers head office's public key, if none is known.
    func pinOrganisationKey(_ publicKey: [UInt8]) throws {
        guard publicKey.count == 32 else { return }
        try db.cachedStatement(sql: "INSERT OR IGNORE INTO organisationKey VALUES (1, ?, NULL)").execute(arguments: [
            Data(publicKey)
        ])
    }
}

extension ReplicaWriter {
    /// At head office: tells a child that does not know the key.
    func tellOrganisationKey(in welcome: inout Welcome) throws {
        let key = try OrganisationKey.read(db) ?? transaction { try organisationKey() }
        welcome.extras.organisationKey = key?.publicKey
    }
}

extension Replica {
    /// A step of the consultation: a branch that joined before there were keys learns head office's.
    func pinOrganisationKey(_ occasion: ConsultationOccasion) throws -> SyncStep {
        guard case .welcomed(let welcome, _) = occasion, let key = welcome.extras.organisationKey else { return .goOn }
        try withWriter { writer in
            guard try OrganisationKey.read(writer.db) == nil else { return }
            try writer.transaction { try writer.pinOrganisationKey(key) }
        }
        return .goOn
    }
}
