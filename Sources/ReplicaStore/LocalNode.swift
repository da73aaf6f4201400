import Causality
import Foundation
import GRDB

/// Who this node is, as its replica remembers it.
package struct LocalNode: Hashable, Sendable {
    /// What part a node plays.
    package enum Role: String, Hashable, Sendable {
        case headOffice = "head-office"
        case branch
    }

    /// The hub of a branch.
    package struct Hub: Hashable, Sendable {
        /// `host:port`.
        package var address: String
        /// 16 bytes; nil until the first contact.
        package var node: [UInt8]?
        package var name: String?
        package var origin: Origin?

        package init(address: String, node: [UInt8]? = nil, name: String? = nil, origin: Origin? = nil) {
            self.address = address
            self.node = node
            self.name = name
            self.origin = origin
        }
    }

    /// 16 random bytes, for ever.
    package let node: [UInt8]
    /// 32 random bytes that prove to head office who is calling.
    package let nodeKey: [UInt8]
    package let role: Role
    package var name: String
    /// 16 random bytes of head office's making; nil until a branch has joined.
    package var organisation: [UInt8]?
    /// ``Origin/none`` until a branch has joined.
    package var origin: Origin
    /// The row of this node in the table of branches.
    package var branchRow: RowID?
    package var hub: Hub?

    package init(
        node: [UInt8],
        nodeKey: [UInt8],
        role: Role,
        name: String,
        organisation: [UInt8]?,
        origin: Origin,
        branchRow: RowID? = nil,
        hub: Hub? = nil
    ) {
        self.node = node
        self.nodeKey = nodeKey
        self.role = role
        self.name = name
        self.organisation = organisation
        self.origin = origin
        self.branchRow = branchRow
        self.hub = hub
    }

    /// Whether the node has its identity and may write.
    package var isJoined: Bool { origin != .none && organisation != nil }
}

extension LocalNode {
    /// Reads the one row; nil in a replica that is just being made.
    static func read(_ db: Database) throws -> LocalNode? {
        try Row.fetchOne(db, sql: "SELECT * FROM localNode").map { row in
            let hub: Hub? = (row["hubAddress"] as String?).map { address in
                Hub(
                    address: address,
                    node: (row["hubNode"] as Data?).map { [UInt8]($0) },
                    name: row["hubName"],
                    origin: (row["hubOrigin"] as Int64?).flatMap { Origin(rawValue: UInt32(truncatingIfNeeded: $0)) }
                )
            }
            return LocalNode(
                node: [UInt8](row["node"] as Data),
                nodeKey: [UInt8](row["nodeKey"] as Data),
                role: Role(rawValue: row["role"]) ?? .branch,
                name: row["name"],
                organisation: (row["organisation"] as Data?).map { [UInt8]($0) },
                origin: Origin(rawValue: row["origin"]) ?? .none,
                branchRow: (row["branchRow"] as Int64?).flatMap(RowID.init(rawValue:)),
                hub: hub
            )
        }
    }

    /// Writes the one row.
    func save(_ db: Database) throws {
        try db.cachedStatement(
            sql: """
                INSERT OR REPLACE INTO localNode(one, node, nodeKey, role, name, organisation, origin,
                    branchRow, hubAddress, hubNode, hubName, hubOrigin)
                VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """
        ).execute(arguments: [
            Data(node), Data(nodeKey), role.rawValue, name, organisation.map { Data($0) }, origin.rawValue,
            branchRow?.rawValue, hub?.address, hub?.node.map { Data($0) }, hub?.name,
            hub?.origin?.rawValue,
        ])
    }
}
