import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

/// One version of the policy about what branches may write.
package struct WritePolicyVersion: Sendable {
    /// From 1.
    package let version: UInt64
    package let policy: WritePolicy
    /// Milliseconds since 1970-01-01 UTC.
    package let madeAt: UInt64
    package let author: String
}

/// A write of a branch that had no effect.
package struct VoidedRow: Sendable {
    package let number: Int64
    package let node: String
    package let set: ChangeSetID
    package let table: String
    package let row: RowID
    package let policyVersion: UInt64
    /// From 1.
    package let rule: Int
    /// Milliseconds since 1970-01-01 UTC.
    package let at: UInt64
}

/// Why the policy was not changed.
package enum WritePolicyRefusal: Error, Hashable, CustomStringConvertible {
    case notHeadOffice
    /// Somebody else has changed it meanwhile.
    case changedMeanwhile(present: UInt64)

    package var description: String {
        switch self {
        case .notHeadOffice: "Only head office decides what branches may write."
        case .changedMeanwhile(let present):
            "The policy is at version \(present) now. Look at it (`peyvand policy show`), and give that version."
        }
    }
}

extension WriteRights {
    /// What a version's hash, which is signed, covers.
    private static func hash(_ document: Data, version: UInt64, at: Int64, author: String, after previous: Data)
        -> [UInt8]
    {
        var writer = ByteWriter()
        writer.sized(Array("peyvand policy 1".utf8))
        writer.varint(version)
        writer.varint(UInt64(clamping: at))
        writer.sized(Array(author.utf8))
        writer.sized([UInt8](previous))
        writer.sized([UInt8](document))
        return Replica.hash(writer.bytes)
    }

    /// The policy in force; nil where there is none.
    ///
    /// - Throws: ``StoreFailure`` when a version is not what head office has signed: whoever changed the file must not gain
    ///   rights by it.
    static func read(_ db: Database, schema: Schema) throws -> WriteRights? {
        let versions = try versions(db)
        guard let last = versions.last else { return nil }
        return WriteRights(last.policy, version: last.version, schema: schema)
    }

    /// All versions, ascending, each proved.
    static func versions(_ db: Database) throws -> [WritePolicyVersion] {
        let key = try OrganisationKey.read(db)
        var previous = Data()
        var due: UInt64 = 1
        return try Row.fetchAll(db, sql: "SELECT * FROM writePolicy ORDER BY version").map { row in
            let version = UInt64(clamping: row["version"] as Int64)
            let document: Data = row["document"]
            let hash = hash(document, version: version, at: row["madeAt"], author: row["author"], after: previous)
            guard version == due, Data(hash) == row["hash"] as Data,
                key?.hasSigned(hash, signature: [UInt8](row["signature"] as Data)) == true,
                let policy = try? JSONDecoder().decode(WritePolicy.self, from: document)
            else {
                throw StoreFailure.database(
                    "Version \(due) of the policy about writes is not the one that was signed; restore a backup."
                )
            }
            previous = row["hash"]
            due += 1
            return WritePolicyVersion(
                version: version,
                policy: policy,
                madeAt: UInt64(clamping: row["madeAt"] as Int64),
                author: row["author"]
            )
        }
    }

    /// Writes the next version; part of the writer's transaction.
    fileprivate static func add(_ policy: WritePolicy, _ writer: ReplicaWriter) throws -> UInt64 {
        let last = try Row.fetchOne(
            writer.db,
            sql: "SELECT version, hash FROM writePolicy ORDER BY version DESC LIMIT 1"
        )
        let version = UInt64(clamping: (last?[0] as Int64?) ?? 0) + 1
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let document = try encoder.encode(policy)
        let at = Int64(clamping: writer.wallClock())
        let author = Actor.name
        let hash = hash(document, version: version, at: at, author: author, after: last?[1] ?? Data())
        guard let signature = try writer.organisationKey()?.sign(hash) else { throw WritePolicyRefusal.notHeadOffice }
        try writer.db.cachedStatement(sql: "INSERT INTO writePolicy VALUES (?, ?, ?, ?, ?, ?)").execute(arguments: [
            Int64(clamping: version), document, at, author, Data(hash), Data(signature),
        ])
        return version
    }
}

extension Replica {
    /// The policy about what branches may write, all versions, ascending; none at a branch.
    package func writePolicies() throws -> [WritePolicyVersion] { try read { try WriteRights.versions($0.db) } }

    /// At head office: decides what branches may write from now on. What they wrote before stays.
    ///
    /// - Parameter expected: The version that is in force; nil not to care.
    /// - Returns: The new version.
    /// - Throws: ``WritePolicyRefusal``, ``CRM/WritePolicyFailure``.
    package func setWritePolicy(_ policy: WritePolicy, after expected: UInt64?) throws -> UInt64 {
        try policy.check(schema)
        return try withWriter { writer in
            let version = try writer.transaction {
                guard writer.node.role == .headOffice else { throw WritePolicyRefusal.notHeadOffice }
                let present = writer.rights?.version ?? 0
                guard expected ?? present == present else {
                    throw WritePolicyRefusal.changedMeanwhile(present: present)
                }
                let version = try WriteRights.add(policy, writer)
                try writer.audit(.setPolicy, "version \(version)")
                return version
            }
            writer.rights = WriteRights(policy, version: version, schema: schema)
            return version
        }
    }

    /// What branches wrote and may not, the newest first.
    package func voidedRows(limit: Int) throws -> [VoidedRow] {
        try read { reader in
            try Row.fetchAll(
                reader.db.cachedStatement(
                    sql: """
                        SELECT voidedWrite.*, registeredNode.name FROM voidedWrite
                        LEFT JOIN registeredLife USING (origin) LEFT JOIN registeredNode USING (node)
                        ORDER BY number DESC LIMIT ?
                        """
                ),
                arguments: [limit]
            ).compactMap { row in
                guard let origin = Origin(rawValue: row["origin"] as UInt32), let id = RowID(rawValue: row["id"]) else {
                    return nil
                }
                return VoidedRow(
                    number: row["number"],
                    node: (row["name"] as String?) ?? "\(origin)",
                    set: ChangeSetID(origin: origin, seq: UInt64(clamping: row["seq"] as Int64)),
                    table: schema.table(number: row["tableNumber"])?.name ?? "?",
                    row: id,
                    policyVersion: UInt64(clamping: row["policyVersion"] as Int64),
                    rule: row["rule"],
                    at: UInt64(clamping: row["voidedAt"] as Int64)
                )
            }
        }
    }
}
