import CRM
import Causality
import SyncProtocol
import Synchronization

@testable import ReplicaStore

/// Head office and branches that have joined it, made once for each number of branches and then put on the disks of
/// every run: making them takes longer than many a run.
struct Founding: Sendable {
    private let states: [CrashDisk.State]
    private static let made = Mutex<[Int: Founding]>([:])

    static func of(branches count: Int) throws -> Founding {
        if let known = made.withLock({ $0[count] }) { return known }
        let founding = try Founding(branches: count)
        made.withLock { $0[count] = founding }
        return founding
    }

    private init(branches count: Int) throws {
        let time = VirtualTime(VirtualTime.beginning - 60_000)
        let nodes = try (0...count).map { try SimulatedNode($0, time: time) { _ in } }
        let hub = try nodes[0].create(
            LocalNode(
                node: Self.bytes(16, 1, 0),
                nodeKey: Self.bytes(32, 2, 0),
                role: .headOffice,
                name: "node-0",
                organisation: Self.bytes(16, 3, 0),
                origin: Origin(rawValue: 1) ?? .none
            )
        )
        try hub.completeHeadOffice()
        for node in nodes.dropFirst() {
            let replica = try node.create(
                LocalNode(
                    node: Self.bytes(16, 1, node.number),
                    nodeKey: Self.bytes(32, 2, node.number),
                    role: .branch,
                    name: "node-\(node.number)",
                    organisation: nil,
                    origin: .none,
                    hub: LocalNode.Hub(address: "127.0.0.1:1")
                )
            )
            let invitation = try hub.invite(
                "node-\(node.number)",
                address: "127.0.0.1:1",
                lifetimeSeconds: 3600,
                randomBytes: { Self.bytes($0, 4, node.number) }
            )
            guard let id = UniqueID(bytes: replica.node.node), let key = Key256(bytes: replica.node.nodeKey) else {
                continue
            }
            try replica.completeJoin(
                hub.decideJoin(
                    Join(
                        tokenID: invitation.token,
                        secret: invitation.secret,
                        node: id,
                        nodeKey: key,
                        software: "simulated"
                    )
                )
            )
        }
        for node in nodes { try node.close() }
        states = nodes.map { $0.disk.state() }
    }

    private static func bytes(_ count: Int, _ kind: UInt8, _ number: Int) -> [UInt8] {
        [kind, UInt8(number)] + [UInt8](repeating: kind, count: count - 2)
    }

    /// The same nodes on disks of their own, down.
    func found(_ time: VirtualTime, scale: Script.Scale) throws -> [SimulatedNode] {
        try states.enumerated().map { number, state in
            let node = try SimulatedNode(number, time: time) { policy in
                policy.leaseDays = max(1, scale.leaseDays)
                policy.historyDays = max(1, scale.historyDays)
                policy.snapshotRowsMin = max(1, scale.snapshotRows)
                policy.snapshotPieceBytes = 4000
            }
            node.disk.restore(state)
            return node
        }
    }
}
