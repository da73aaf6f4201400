import CRM
import Causality
import SyncProtocol
import Synchronization
import TestKit

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
        for node in nodes {
            let name = "node-\(node.number)"
            let bytes = { Self.bytes($0, node.number) }
            if node === nodes[0] {
                try node.create(.newHeadOffice(name, randomBytes: bytes))
                try node.replica?.completeHeadOffice()
            } else if let hub = nodes[0].replica {
                try node.create(.newBranch(name, randomBytes: bytes))
                try node.replica?.join(hub, with: hub.invite(name, randomBytes: bytes))
            }
        }
        for node in nodes { try node.close() }
        states = nodes.map { $0.disk.state() }
    }

    private static func bytes(_ count: Int, _ number: Int) -> [UInt8] {
        [UInt8(number)] + [UInt8](repeating: 1, count: count - 1)
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
