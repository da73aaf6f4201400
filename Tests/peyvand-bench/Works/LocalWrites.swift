import CRM
import Causality
import TestKit

// Writes of the node's own users, beside the same rows in plain tables.

/// New activities, in transactions of so many.
final class Insertion: Round {
    private let rows: [DataSet.Values]
    private let rowsEach: Int
    private let plain: PlainDatabase
    private let node: Node

    /// - Parameter activities: How many are measured; the customers are there already.
    init(activities: Int, rowsEach: Int, seed: UInt64) throws {
        self.rowsEach = rowsEach
        plain = try PlainDatabase()
        node = try Node.headOffice()
        let data = DataSet(customers: 2000, activitiesEach: 0, seed: seed)
        let loaded = try node.load(data, rowsEach: 1000)
        try plain.load(data, as: loaded)
        rows = DataSet(customers: activities / 5, activitiesEach: 5, seed: seed).activities(of: loaded.customers)
    }

    func runPlain() throws {
        let origin = node.replica.node.origin
        let ids = (1...Int64(rows.count)).map { RowID(origin: origin, counter: $0) }
        try plain.insert(.activity, ids, rows, rowsEach: rowsEach)
    }

    func runPeyvand() throws { try node.insert(.activity, rows, rowsEach: rowsEach) }

    func check() throws { try plain.checkSame(.activity, as: node) }
}

/// Other outcomes of activities that are there, in transactions of so many.
final class Editing: Round {
    private let plain: PlainDatabase
    private let node: Node
    private let ids: [RowID]
    private let rowsEach: Int
    private static let outcome = FieldValue.text("noAnswer")

    init(_ data: DataSet, edits: Int, rowsEach: Int, seed: UInt64) throws {
        plain = try PlainDatabase()
        node = try Node.headOffice()
        self.rowsEach = rowsEach
        let loaded = try node.load(data, rowsEach: 1000)
        try plain.load(data, as: loaded)
        var random = SeededRandom(seed: seed)
        ids = Array(loaded.activities.shuffled(using: &random).prefix(edits))
    }

    func runPlain() throws { try plain.setOutcome(Self.outcome, of: ids, rowsEach: rowsEach) }

    func runPeyvand() throws { try node.setOutcome(Self.outcome, of: ids, rowsEach: rowsEach) }

    func check() throws { try plain.checkSame(.activity, as: node) }
}
