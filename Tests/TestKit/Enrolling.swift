import Causality
import ReplicaStore
import SyncProtocol

// How the organisations of all tests are made.

extension LocalNode {
    /// A head office that is not written down yet.
    package static func newHeadOffice(_ name: String, randomBytes: (Int) -> [UInt8]) -> LocalNode {
        LocalNode(
            node: randomBytes(16),
            nodeKey: randomBytes(32),
            role: .headOffice,
            name: name,
            organisation: randomBytes(16),
            origin: Origin(rawValue: 1) ?? .none
        )
    }

    /// A branch that belongs to nobody yet.
    package static func newBranch(_ name: String, randomBytes: (Int) -> [UInt8]) -> LocalNode {
        LocalNode(
            node: randomBytes(16),
            nodeKey: randomBytes(32),
            role: .branch,
            name: name,
            organisation: nil,
            origin: .none,
            hub: LocalNode.Hub(address: "127.0.0.1:1")
        )
    }
}

extension Replica {
    /// At head office: invites somebody for an hour.
    package func invite(_ name: String, randomBytes: (Int) -> [UInt8]) throws -> Invitation {
        try invite(name, address: "127.0.0.1:1", lifetimeSeconds: 3600, randomBytes: randomBytes)
    }

    /// At a branch: what it says to follow an invitation.
    package func join(with invitation: Invitation) throws -> Join {
        guard let id = UniqueID(bytes: node.node), let key = Key256(bytes: node.nodeKey) else {
            throw StoreFailure.notJoined
        }
        // What a line would have brought.
        let nonce = Key256(bytes: [UInt8](repeating: 9, count: Key256.byteCount))
        guard let nonce else { throw StoreFailure.notJoined }
        var join = invitation.join(nonce: nonce, request: [], node: id, nodeKey: key, software: "test")
        join.nonce = nonce
        return join
    }

    /// At a branch: joins head office with its invitation.
    package func join(_ hub: Replica, with invitation: Invitation) throws {
        try completeJoin(hub.decideJoin(join(with: invitation)))
    }
}
