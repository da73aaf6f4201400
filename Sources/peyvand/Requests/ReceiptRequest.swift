import CRM
import Foundation
import ReplicaStore

/// `receipt --json`: how much of a node's work head office has, and what exists only at the node.
struct PrintedReceipt: Codable, Sendable {
    /// What would be lost with the machine.
    struct Ahead: Codable, Sendable {
        let changeSets: Int
        let rows: Int
        /// Rows that other programs have written and that are not part of a change set yet.
        let unsealed: Int
    }

    /// The node's name.
    let node: String
    let origin: UInt32
    /// Everything of the origin up to here is durable at head office; 0 for nothing.
    let seq: UInt64
    /// 32 bytes in hexadecimal: what that work is.
    @OrNull var chain: String?
    /// RFC 3339, by head office's clock.
    @OrNull var since: String?
    /// Up to here it is also in a verified backup of head office; 0 for nothing.
    let safeSeq: UInt64
    /// Null at head office, which cannot know.
    @OrNull var ahead: Ahead?
    /// Whether the machine may be switched off and replaced; null at head office.
    @OrNull var replaceable: Bool?
    /// What is signed, in base64.
    @OrNull var statement: String?
    /// Head office's Ed25519 signature over it, in base64.
    @OrNull var signature: String?
    /// Whether the last receipt of head office was signed with a key that this node does not know.
    let foreignKey: Bool

    init(_ receipt: BranchReceipt) {
        let confirmed = receipt.confirmed
        node = receipt.node
        origin = receipt.origin.rawValue
        seq = confirmed?.statement.seq ?? 0
        chain = confirmed.map { hexadecimal($0.statement.chain.bytes) }
        since = confirmed.flatMap { CivilTime.rfc3339(ofMilliseconds: Int64(clamping: $0.statement.sinceMilliseconds)) }
        safeSeq = confirmed?.statement.safeSeq ?? 0
        ahead = receipt.ahead.map { Ahead(changeSets: $0.changeSets, rows: $0.rows, unsealed: $0.unsealedRows) }
        replaceable = receipt.ahead.map { _ in receipt.isReplaceable }
        statement = confirmed.map { Data($0.signed.statement).base64EncodedString() }
        signature = confirmed.map { Data($0.signed.signature).base64EncodedString() }
        foreignKey = receipt.hasForeignKey
    }
}

/// Reads the newest receipt of this branch, or, at head office, states what it would sign for a node.
struct ShowReceipt: NodeRequest {
    static let name = "receipt"

    /// At head office: a node's name or number.
    let node: String?

    func perform(in service: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedReceipt {
        let replica = service.replica
        guard replica.node.isJoined else { throw StoreFailure.notJoined }
        switch (replica.node.role, node) {
        case (.branch, nil):
            return PrintedReceipt(try replica.ownReceipt())
        case (.branch, _):
            throw CommandFailure(.refused, "Only head office gives receipts to others. Leave the name away here.")
        case (.headOffice, nil):
            throw CommandFailure(
                .refused,
                "This node is head office, which gives receipts to branches. Name one: `peyvand receipt NODE`."
            )
        case (.headOffice, let named?):
            guard let receipt = try replica.receipt(ofNode: named) else {
                throw CommandFailure(
                    .refused,
                    "Head office knows no node \"\(named)\". `peyvand node list` shows all."
                )
            }
            return PrintedReceipt(receipt)
        }
    }
}
