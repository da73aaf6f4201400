import CRM
import Causality
import GRDB
import ReplicaStore
import TestKit

// Writes of the node's own users, beside the same rows in plain tables.

/// New activities, in transactions of so many.
final class Insertion: Round {
    private let data: DataSet
    private let rowsEach: Int
    private let rows: [DataSet.Values]
    private let plain: PlainDatabase
    private let node: Node

    /// - Parameter activities: How many are measured; the customers are there already.
    init(activities: Int, rowsEach: Int, seed: UInt64) throws {
        data = DataSet(customers: 2000, activitiesEach: 0, seed: seed)
        self.rowsEach = rowsEach
        plain = try PlainDatabase()
        node = try Node.headOffice()
        let customers = try node.insert(.customer, data.customers, rowsEach: 1000)
        try plain.load(.customer, ids: customers, data.customers)
        let place = ColumnPlaces(.activity)["customer"]
        rows = DataSet(customers: activities / 5, activitiesEach: 5, seed: seed).activities.map { activity in
            var values = activity.values
            values[place] = .integer(customers[activity.customer % customers.count].rawValue)
            return values
        }
    }

    func runPlain() throws {
        var id = node.replica.node.origin.firstRow
        for start in stride(from: 0, to: rows.count, by: rowsEach) {
            try plain.transaction { db in
                let insert = try plain.insertion(into: .activity, db)
                for row in rows[start..<min(start + rowsEach, rows.count)] {
                    insert.bind(1, id)
                    for column in 1..<row.count { insert.bind(column + 1, row[column]) }
                    try insert.run()
                    id += 1
                }
            }
        }
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

    func runPlain() throws {
        for start in stride(from: 0, to: ids.count, by: rowsEach) {
            try plain.transaction { db in
                let update = try plain.statement("UPDATE activity SET outcome = ? WHERE id = ?", db)
                for id in ids[start..<min(start + rowsEach, ids.count)] {
                    update.bind(1, Self.outcome)
                    update.bind(2, id.rawValue)
                    try update.run()
                }
            }
        }
    }

    func runPeyvand() throws {
        for start in stride(from: 0, to: ids.count, by: rowsEach) {
            _ = try node.replica.write { transaction in
                for id in ids[start..<min(start + rowsEach, ids.count)] {
                    try transaction.update("activity", id: id, ["outcome": Self.outcome])
                }
            }
        }
    }

    func check() throws { try plain.checkSame(.activity, as: node) }
}

extension Origin {
    /// The number of the first row that a node makes.
    var firstRow: Int64 { Int64(rawValue) << Int64(RowID.counterBits) + 1 }
}

extension PlainDatabase {
    /// Puts rows, all in one transaction.
    func load(_ table: TableDescription, ids: [RowID], _ rows: [DataSet.Values], upserting: Bool = false) throws {
        try transaction { db in
            let insert = try insertion(into: table, upserting: upserting, db)
            for (id, row) in zip(ids, rows) {
                insert.bind(1, id.rawValue)
                for column in 1..<row.count { insert.bind(column + 1, row[column]) }
                try insert.run()
            }
        }
    }

    func load(_ data: DataSet, as ids: (customers: [RowID], activities: [RowID])) throws {
        try load(.customer, ids: ids.customers, data.customers)
        let place = ColumnPlaces(.activity)["customer"]
        try load(
            .activity,
            ids: ids.activities,
            data.activities.map { activity in
                var values = activity.values
                values[place] = .integer(ids.customers[activity.customer].rawValue)
                return values
            }
        )
    }

    /// Compares the number of rows, and what stands in some columns of them.
    func checkSame(_ table: TableDescription, as node: Node) throws {
        let columns = table.columns.dropFirst().map { "coalesce(sum(length(\"\($0.name)\")), 0)" }
        let sql = "SELECT count(*), \(columns.joined(separator: ", ")) FROM \(table.name)"
        var here: Row?
        try work { here = try Row.fetchOne($0, sql: sql) }
        // Beside the node, as any program may read its file.
        let there = try DatabaseQueue(path: node.path).read { try Row.fetchOne($0, sql: sql) }
        guard here == there else {
            throw NotTheSame(
                description: "\(table.name) is \(there ?? [:]) in the replica, \(here ?? [:]) in plain tables."
            )
        }
    }
}
