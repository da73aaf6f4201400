import Foundation
import GRDB
import SyncProtocol

/// Peers that were turned away, of one kind.
package struct RefusalCount: Sendable {
    /// The node that was turned away, if it is a registered one.
    package let node: UniqueID?
    package let code: Refusal.Code
    package let count: Int
    /// When it happened last, in milliseconds since 1970-01-01 UTC.
    package let lastAt: UInt64
    /// What the last one was told.
    package let sentence: String
}

extension Replica {
    /// Runs something that a peer asked for; a refusal is counted, so that an administrator sees it.
    func countingRefusals<Result>(
        of peer: UniqueID,
        _ body: () throws -> Result
    ) throws(SyncStoreFailure) -> Result {
        do throws(SyncStoreFailure) {
            return try throwingStoreFailure(body)
        } catch {
            if case .refused(let refusal) = error { try? count(refusal, of: peer) }
            throw error
        }
    }

    /// Counts what broke the rules of the protocol, which its session noticed before the store could.
    func countViolation(_ failure: SyncFailure?, of peer: UniqueID) throws {
        guard let failure, failure.isViolation, node.role == .headOffice else { return }
        try count(Refusal(.invalidChange, failure.description), of: peer)
    }

    private func count(_ refusal: Refusal, of peer: UniqueID) throws {
        // A hub that is busy or broken has refused nobody for what they are.
        guard node.role == .headOffice, refusal.code != .retryLater, refusal.code != .busy else { return }
        let now = Int64(clamping: wallClock())
        try withWriter { writer in
            try writer.transaction {
                let isKnown =
                    try Bool.fetchOne(
                        writer.db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM registeredNode WHERE node = ?)"),
                        arguments: [Data(peer.bytes)]
                    ) ?? false
                // Strangers are one, so that they cannot fill the table.
                let name = isKnown ? Data(peer.bytes) : Data()
                try writer.db.cachedStatement(
                    sql: """
                        INSERT INTO refusal VALUES (?, ?, 1, ?, ?) ON CONFLICT(node, code) DO UPDATE
                        SET count = count + 1, lastAt = excluded.lastAt, sentence = excluded.sentence
                        """
                ).execute(arguments: [name, Int(refusal.code.number), now, refusal.sentence])
                try writer.db.cachedStatement(
                    sql: "UPDATE registeredNode SET refusals = refusals + 1, lastRefusal = ? WHERE node = ?"
                ).execute(arguments: [refusal.sentence, name])
            }
        }
    }

    /// Who was turned away so far, by node and kind.
    package func refusals() throws -> [RefusalCount] {
        try read { reader in
            try Row.fetchAll(reader.db, sql: "SELECT * FROM refusal ORDER BY lastAt DESC").map { row in
                RefusalCount(
                    node: UniqueID(bytes: [UInt8](row["node"] as Data)),
                    code: Refusal.Code(number: UInt16(clamping: row["code"] as Int64)),
                    count: row["count"],
                    lastAt: UInt64(clamping: row["lastAt"] as Int64),
                    sentence: row["sentence"]
                )
            }
        }
    }
}
