import CRM
import Causality
import GRDB
import ReplicaStore
import SyncProtocol
import TestKit

// What head office has sent, taken by a branch: decoded, merged, logged; beside the same rows upserted in plain tables.

/// A load of new rows.
final class FirstLoad: Round {
    private let source: LoadSource
    private let branch: Node
    private let plain: PlainDatabase

    init(_ source: LoadSource) throws {
        self.source = source
        branch = try Node.branch("b\(try source.hub.end())-\(UInt32.random(in: 0...UInt32.max))", of: source.hub)
        plain = try PlainDatabase()
    }

    func runPlain() throws {
        for (table, ids, rows) in source.pieces {
            try plain.load(table, ids: ids, rows, upserting: true)
        }
    }

    func runPeyvand() throws { try branch.apply(source.batches, from: source.hub) }

    func check() throws {
        try plain.checkSame(.customer, as: branch)
        try plain.checkSame(.activity, as: branch)
    }
}

/// A head office with the data set in its log, and the same rows for plain tables.
final class LoadSource {
    let hub: Node
    let batches: [ChangeBatch]
    /// In transactions as large as those of a node that takes a load.
    let pieces: [(table: TableDescription, ids: [RowID], rows: [DataSet.Values])]
    let rowCount: Int
    let ids: (customers: [RowID], activities: [RowID])

    init(_ data: DataSet, rowsEach: Int = 1000) throws {
        hub = try Node.headOffice()
        let reader = try Node.branch("reader", of: hub)
        let ids = try hub.load(data, rowsEach: rowsEach)
        self.ids = ids
        batches = try hub.log(after: 0, for: reader)
        rowCount = data.customers.count + data.activities.count
        let place = ColumnPlaces(.activity)["customer"]
        let activities = data.activities.map { activity in
            var values = activity.values
            values[place] = .integer(ids.customers[activity.customer].rawValue)
            return values
        }
        var pieces: [(TableDescription, [RowID], [DataSet.Values])] = []
        for (table, ids, rows) in [
            (TableDescription.customer, ids.customers, data.customers), (.activity, ids.activities, activities),
        ] {
            for start in stride(from: 0, to: rows.count, by: Self.rowsPerTransaction) {
                let range = start..<min(start + Self.rowsPerTransaction, rows.count)
                pieces.append((table, Array(ids[range]), Array(rows[range])))
            }
        }
        self.pieces = pieces
    }

    private static let rowsPerTransaction = 20_000
}

/// Random updates that came in one go, and the same again.
final class Updates: Round {
    private let hub: Node
    private let branch: Node
    private let plain: PlainDatabase
    private let batches: [ChangeBatch]
    private let ids: [RowID]
    private let isRedelivery: Bool
    private static let outcome = FieldValue.text("reached")

    init(_ data: DataSet, updates: Int, rowsEach: Int, isRedelivery: Bool, seed: UInt64) throws {
        hub = try Node.headOffice()
        branch = try Node.branch("branch", of: hub)
        let loaded = try hub.load(data, rowsEach: 1000)
        try branch.sync(with: hub)
        plain = try PlainDatabase()
        try plain.load(data, as: loaded)
        var random = SeededRandom(seed: seed)
        ids = Array(loaded.activities.shuffled(using: &random).prefix(updates))
        let before = try hub.end()
        for start in stride(from: 0, to: ids.count, by: rowsEach) {
            _ = try hub.replica.write { [ids] transaction in
                for id in ids[start..<min(start + rowsEach, ids.count)] {
                    try transaction.update("activity", id: id, ["outcome": Self.outcome])
                }
            }
        }
        batches = try hub.log(after: before, for: branch)
        self.isRedelivery = isRedelivery
        if isRedelivery { try branch.apply(batches, from: hub) }
    }

    func runPlain() throws {
        try plain.transaction { db in
            let update = try plain.statement("UPDATE activity SET outcome = ? WHERE id = ?", db)
            for id in ids {
                update.bind(1, Self.outcome)
                update.bind(2, id.rawValue)
                try update.run()
            }
        }
    }

    func runPeyvand() throws { try branch.apply(batches, from: hub) }

    func check() throws { try plain.checkSame(.activity, as: branch) }
}
