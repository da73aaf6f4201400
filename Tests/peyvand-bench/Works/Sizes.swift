import CRM
import Causality
import TestKit

// Bytes on the line, and in the file.

/// Bytes on the line for each row, for sessions that bring so many.
struct LineBytes {
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
        let drawn = DataSet(customers: count / 5 + 1, activitiesEach: 5, seed: UInt64(count))
        let rows = Array(drawn.activities(of: customers).prefix(count))
        return try ofSession { try hub.insert(.activity, rows, rowsEach: count) } / Double(count)
    }
}
