import Causality
import Foundation
import GRDB
import SyncProtocol

// Receipts: head office states, signed, how much of a branch's work is durable there. A branch asks whenever
// it has handed in more than its last receipt says, and keeps the newest.

extension Format2 {
    /// The newest receipt of this node.
    static let receipts = """
        CREATE TABLE receipt(
            one INTEGER PRIMARY KEY CHECK (one = 1),
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            safeSeq INTEGER NOT NULL,
            statement BLOB NOT NULL,
            signature BLOB NOT NULL
        );
        """
}

// MARK: - At head office

extension ReplicaWriter {
    /// Head office's statement about a node's work. Nil when nothing of it was accepted, or at a branch.
    ///
    /// Called outside transactions, so that all it speaks of is committed.
    func receipt(for node: UniqueID, _ origin: Origin) throws -> (statement: ReceiptStatement, signed: SignedReceipt)? {
        guard let organisation = self.node.organisation.flatMap(UniqueID.init(bytes:)), let accepted = vector[origin]
        else { return nil }
        let statement = ReceiptStatement(
            organisation: organisation,
            node: node,
            origin: origin,
            seq: accepted.seq,
            chain: accepted.chain,
            sinceMilliseconds: wallClock(),
            safeSeq: try safeSeq(of: origin)
        )
        let key = try OrganisationKey.read(db) ?? transaction { try organisationKey() }
        guard let signature = try key?.sign(statement.bytes) else { return nil }
        return (statement, SignedReceipt(statement: statement.bytes, signature: signature))
    }

    /// The last change set of an origin in the part of the log that is in a verified backup; 0 for none.
    private func safeSeq(of origin: Origin) throws -> UInt64 {
        guard let position = try fact(.safePosition), position > 0 else { return 0 }
        let seq = try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT seq FROM log WHERE origin = ? AND position <= ? ORDER BY seq DESC LIMIT 1"),
            arguments: [Int64(origin.rawValue), position]
        )
        return UInt64(clamping: seq ?? 0)
    }
}

extension Replica {
    /// Answers a child that asks for its receipt.
    func answerReceipt(to peer: SyncPeer) throws -> SyncAnswer {
        let receipt = try withWriter { try $0.receipt(for: peer.node, peer.origin) }
        guard let receipt else {
            throw Refusal(.unknownNode, "Head office holds no change sets of this node, so there is no receipt.")
        }
        return SyncAnswer(payload: receipt.signed.payload)
    }

    /// What head office would state about a node now, by its name or origin number; nil when there is no such node.
    package func receipt(ofNode named: String) throws -> BranchReceipt? {
        try withWriter { writer in
            try writer.sealIfNeeded()
            let row = try Row.fetchOne(
                writer.db.cachedStatement(
                    sql: "SELECT node, name, origin FROM registeredNode WHERE name = ? OR CAST(origin AS TEXT) = ?"
                ),
                arguments: [named, named]
            )
            guard let row, let node = UniqueID(bytes: [UInt8](row[0] as Data)), let origin = Origin(rawValue: row[2])
            else { return nil }
            return BranchReceipt(
                node: row[1],
                origin: origin,
                confirmed: try writer.receipt(for: node, origin).map { ReceiptConfirmation($0.statement, $0.signed) },
                ahead: nil,
                hasForeignKey: false
            )
        }
    }
}

// MARK: - At a branch

extension Replica {
    /// A step of the consultation: asks for a receipt when there is more to be confirmed than before.
    func askForReceipt(_ occasion: ConsultationOccasion) throws -> SyncStep {
        let ownSeq: UInt64
        switch occasion {
        case .welcomed: return .goOn
        case .during(.settled(_, let seq, _)), .during(.handedIn(let seq)): ownSeq = seq
        }
        // Who has told this node its key also gives receipts.
        let wants = try withWriter { writer in
            try ownSeq > 0 && OrganisationKey.read(writer.db) != nil && writer.wantsReceipt(upTo: ownSeq)
        }
        return wants ? .ask(SyncQuestion(kind: QuestionKind.receipt.rawValue, payload: [])) : .goOn
    }

    /// Checks a receipt, and keeps it.
    func takeReceipt(_ answer: SyncAnswer) throws -> SyncStep {
        try withWriter { writer in
            let signed = SignedReceipt(payload: answer.payload)
            let statement = signed.flatMap { try? ReceiptStatement(bytes: $0.statement) }
            guard let signed, let statement else {
                throw Refusal(.invalidChange, "Head office sent something that is no receipt.")
            }
            guard try OrganisationKey.read(writer.db)?.hasSigned(signed.statement, signature: signed.signature) == true
            else {
                // Not a reason to stop exchanging: the old receipt stays, and `receipt` tells.
                try writer.transaction { try writer.note(.receiptHasForeignKey, 1) }
                return
            }
            guard statement.organisation.bytes == writer.node.organisation, statement.node.bytes == writer.node.node,
                statement.origin == writer.node.origin
            else { throw Refusal(.invalidChange, "Head office sent the receipt of another node.") }
            guard try writer.chain(of: ChangeSetID(origin: statement.origin, seq: statement.seq)) == statement.chain
            else { throw Self.forkedByReceipt(statement) }
            try writer.transaction {
                try writer.note(.receiptHasForeignKey, nil)
                try writer.db.cachedStatement(sql: "INSERT OR REPLACE INTO receipt VALUES (1, ?, ?, ?, ?, ?)").execute(
                    arguments: [
                        statement.origin.rawValue, Int64(clamping: statement.seq), Int64(clamping: statement.safeSeq),
                        Data(signed.statement), Data(signed.signature),
                    ]
                )
            }
        }
        return .goOn
    }

    /// Keeps a receipt that came by file, unless it says no more than the one that is kept, or speaks of a former number.
    func takeCarriedReceipt(_ answer: SyncAnswer) throws {
        let statement = SignedReceipt(payload: answer.payload).flatMap { try? ReceiptStatement(bytes: $0.statement) }
        if let statement {
            guard statement.origin == node.origin else { return }
            let kept = try ownReceipt().confirmed?.statement
            if let kept, (kept.seq, kept.safeSeq) >= (statement.seq, statement.safeSeq) { return }
        }
        _ = try takeReceipt(answer)
    }

    /// A signed statement about another history than this node's proves that there are two of it.
    private static func forkedByReceipt(_ statement: ReceiptStatement) -> Refusal {
        Refusal(
            .forked,
            "Head office has signed for another history of \(statement.origin) up to change set \(statement.seq) than "
                + "the one here: this directory is an older copy, or another copy has been in use."
        )
    }

    /// What this branch can say of its work: what is confirmed, and what exists here only. Does not seal, so that it
    /// never waits for another program's transaction.
    package func ownReceipt() throws -> BranchReceipt {
        let node = self.node
        return try read { reader in
            let db = reader.db
            let row = try Row.fetchOne(
                db.cachedStatement(sql: "SELECT statement, signature FROM receipt WHERE origin = ?"),
                arguments: [node.origin.rawValue]
            )
            let confirmed = row.flatMap { row -> ReceiptConfirmation? in
                let signed = SignedReceipt(statement: [UInt8](row[0] as Data), signature: [UInt8](row[1] as Data))
                return (try? ReceiptStatement(bytes: signed.statement)).map { ReceiptConfirmation($0, signed) }
            }
            let ahead = try Row.fetchOne(
                db.cachedStatement(
                    sql: "SELECT count(*), coalesce(sum(rows), 0) FROM log WHERE origin = ? AND seq > ?"
                ),
                arguments: [node.origin.rawValue, Int64(clamping: confirmed?.statement.seq ?? 0)]
            )
            // Work of a former life exists here only, too, until it is issued again.
            let waiting = try LifeState.read(db).waiting
            return BranchReceipt(
                node: node.name,
                origin: node.origin,
                confirmed: confirmed,
                ahead: BranchReceipt.Ahead(
                    changeSets: (ahead?[0] ?? 0) + Int(clamping: waiting.changeSets),
                    rows: (ahead?[1] ?? 0) + waiting.rows,
                    unsealedRows: try Int.fetchOne(db.cachedStatement(sql: "SELECT count(*) FROM pending")) ?? 0
                ),
                hasForeignKey: try LocalFact.read(.receiptHasForeignKey, db) != nil
            )
        }
    }
}

extension ReplicaWriter {
    /// Whether a receipt that is asked for now would say more than the one that is kept.
    fileprivate func wantsReceipt(upTo ownSeq: UInt64) throws -> Bool {
        let kept = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT seq, safeSeq FROM receipt WHERE origin = ?"),
            arguments: [node.origin.rawValue]
        )
        guard let kept, UInt64(clamping: kept[0] as Int64) >= ownSeq else { return true }
        // The next one that is not said to be safe lies where head office's backup has it?
        guard let safe = try fact(.safePosition) else { return false }
        let next = try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT hubPosition FROM log WHERE origin = ? AND seq = ?"),
            arguments: [node.origin.rawValue, (kept[1] as Int64) + 1]
        )
        return next.map { $0 <= safe } ?? false
    }
}

// MARK: - What is told

/// A receipt that was checked.
package struct ReceiptConfirmation: Hashable, Sendable {
    package let statement: ReceiptStatement
    package let signed: SignedReceipt

    init(_ statement: ReceiptStatement, _ signed: SignedReceipt) {
        self.statement = statement
        self.signed = signed
    }
}

/// How much of a node's work is durable at head office, and what exists only at the node.
package struct BranchReceipt: Sendable {
    /// What would be lost with the machine.
    package struct Ahead: Hashable, Sendable {
        package let changeSets: Int
        package let rows: Int
        /// Rows that other programs have written and that are not part of a change set yet.
        package let unsealedRows: Int

        package var isNothing: Bool { changeSets == 0 && unsealedRows == 0 }
    }

    /// The node's name.
    package let node: String
    package let origin: Origin
    /// Nil when head office has confirmed nothing.
    package let confirmed: ReceiptConfirmation?
    /// Nil at head office, which cannot know.
    package let ahead: Ahead?
    /// At a branch: whether head office has signed its last receipt with another key than the one that is known.
    package let hasForeignKey: Bool

    /// Whether the machine may be switched off and replaced.
    package var isReplaceable: Bool { ahead?.isNothing ?? false }
}
