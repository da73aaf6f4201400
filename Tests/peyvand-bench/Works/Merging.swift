import CRM
import Causality
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
        // In transactions as large as those of a node that takes a load.
        let (ids, rowsEach) = (source.ids, 20_000)
        try plain.insert(.customer, ids.customers, source.customers, rowsEach: rowsEach, upserting: true)
        try plain.insert(.activity, ids.activities, source.activities, rowsEach: rowsEach, upserting: true)
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
    let ids: (customers: [RowID], activities: [RowID])
    let customers: [DataSet.Values]
    let activities: [DataSet.Values]

    init(_ data: DataSet, rowsEach: Int = 1000) throws {
        hub = try Node.headOffice()
        let reader = try Node.branch("reader", of: hub)
        ids = try hub.load(data, rowsEach: rowsEach)
        batches = try hub.log(after: 0, for: reader)
        customers = data.customers
        activities = data.activities(of: ids.customers)
    }
}

/// Random updates that came in one go, and the same again.
final class Updates: Round {
    private let hub: Node
    private let branch: Node
    private let plain: PlainDatabase
    private let batches: [ChangeBatch]
    private let ids: [RowID]
    private static let outcome = FieldValue.text("reached")

    init(_ data: DataSet, updates: Int, isRedelivery: Bool, seed: UInt64) throws {
        hub = try Node.headOffice()
        branch = try Node.branch("branch", of: hub)
        let loaded = try hub.load(data, rowsEach: 1000)
        try branch.sync(with: hub)
        plain = try PlainDatabase()
        try plain.load(data, as: loaded)
        var random = SeededRandom(seed: seed)
        ids = Array(loaded.activities.shuffled(using: &random).prefix(updates))
        let before = try hub.end()
        try hub.setOutcome(Self.outcome, of: ids, rowsEach: updates)
        batches = try hub.log(after: before, for: branch)
        if isRedelivery { try branch.apply(batches, from: hub) }
    }

    func runPlain() throws { try plain.setOutcome(Self.outcome, of: ids, rowsEach: ids.count) }

    func runPeyvand() throws { try branch.apply(batches, from: hub) }

    func check() throws { try plain.checkSame(.activity, as: branch) }
}
