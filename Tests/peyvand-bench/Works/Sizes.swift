import CRM
import Causality
import SyncProtocol
import TestKit

// Bytes on the line, and in the file.

/// Bytes on the line for each row, for sessions that bring so many.
final class LineBytes {
    private let hub: Node
    private let branch: Node
    private let customers: [RowID]
    private let activities: [RowID]

    init(_ data: DataSet) throws {
        hub = try Node.headOffice()
        branch = try Node.branch("branch", of: hub)
        (customers, activities) = try hub.load(data, rowsEach: 1000)
        try branch.sync(with: hub)
    }

    /// What a session without news costs is taken off.
    private func ofSession(_ write: () throws -> Void) throws -> Double {
        try branch.sync(with: hub)
        let idle = try branch.sync(with: hub)
        try write()
        return Double(try branch.sync(with: hub) - idle)
    }

    func perUpdate(_ count: Int) throws -> Double {
        var random = SeededRandom(seed: UInt64(count))
        let chosen = activities.shuffled(using: &random).prefix(count)
        let bytes = try ofSession {
            _ = try hub.replica.write { transaction in
                for id in chosen {
                    // As somebody does who ticks off a task: a word, and a moment that no other has.
                    let outcome = ["done", "reached", "noAnswer", "refused"].randomElement(using: &random) ?? ""
                    let moment = 1_700_000_000_000 + Int64(random.below(1 << 36))
                    try transaction.update(
                        "activity",
                        id: id,
                        ["outcome": .text(outcome), "doneAt": .integer(moment)]
                    )
                }
            }
        }
        return bytes / Double(count)
    }

    func perNewRow(_ count: Int) throws -> Double {
        let rows = DataSet.activities(count, of: customers, seed: UInt64(count))
        return try ofSession { try hub.insert(.activity, rows, rowsEach: count) } / Double(count)
    }

    /// Bytes that both sides send on an open session that has nothing to say, in the time of one ping.
    func ofHeartbeat() throws -> Double {
        try branch.sync(with: hub)
        var random = SeededRandom(seed: 1)
        var line = Conversation(child: branch.replica, hub: hub.replica, isOneShot: false)
        line.open()
        var isOpen = line.settle(&random)
        let before = line.bytes
        // A ping goes out at every second look at the line.
        for _ in 0..<2 {
            line.fire(.heartbeat)
            isOpen = line.settle(&random) && isOpen
        }
        guard isOpen, line.bytes > before else { throw NotTheSame(description: "The session has no heartbeat.") }
        return Double(line.bytes - before)
    }
}

extension LoadSource {
    /// How large the file of a node is that has taken everything, of the size of the plain one: each as `VACUUM` leaves it.
    ///
    /// - Parameter node: Head office has the log of all that it wrote; who has loaded a snapshot has none.
    func sizeRatio(of node: Node) throws -> Double {
        let plain = try plain()
        try plain.checkSame(as: node.path)
        let (bytes, plainBytes) = (
            try PlainDatabase.compactBytes(of: node.path), try PlainDatabase.compactBytes(of: plain.path)
        )
        return Double(bytes) / Double(plainBytes)
    }

    /// A branch that has loaded a snapshot.
    func withoutLog() throws -> Node {
        try preferSnapshots()
        let branch = try Node.branch("newcomer", of: hub)
        try branch.sync(with: hub)
        // One: that it has joined.
        guard try branch.end() <= 1 else { throw NotTheSame(description: "The snapshot came with a log.") }
        return branch
    }
}
