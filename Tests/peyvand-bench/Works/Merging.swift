import CRM
import Causality
import SyncProtocol
import TestKit

// What head office has sent, taken by a branch: decoded, merged, logged; beside the same rows written in plain tables.

/// New rows of an organisation that exists.
final class Arrivals: Contest {
    private let site: Site
    private let count: Int
    private var ids: [RowID] = []
    private var rows: [DataSet.Values] = []
    private var batches: [ChangeBatch] = []

    init(_ site: Site, rows count: Int) { (self.site, self.count) = (site, count) }

    func prepare() throws {
        try site.level()
        (ids, rows) = try site.newActivities(count)
        let before = try site.hub.end()
        try site.hub.insert(.activity, rows, rowsEach: 1000)
        batches = try site.hub.log(after: before, for: site.branch)
        try site.settle()
    }

    func runPlain() throws {
        try site.plain.insert(.activity, ids, rows, rowsEach: FirstLoad.rowsEach, upserting: true)
    }

    func runPeyvand() throws { try site.branch.apply(batches, from: site.hub) }

    func finish() throws { try site.checkSame(as: site.branch) }
}

/// Random updates that came in change sets of so many, and the same again.
final class Updates: Contest {
    private let site: Site
    private let count: Int
    private let changeSets: Int
    private let isRedelivery: Bool
    private var batches: [ChangeBatch] = []
    private var edits: [(ids: [RowID], outcome: FieldValue)] = []

    init(_ site: Site, updates count: Int, changeSets: Int, isRedelivery: Bool = false) {
        (self.site, self.count, self.changeSets) = (site, count, changeSets)
        self.isRedelivery = isRedelivery
    }

    func prepare() throws {
        try site.level()
        let before = try site.hub.end()
        edits = try (0..<changeSets).map { _ in try site.edits(count) }
        for edit in edits { try site.hub.setOutcome(edit.outcome, of: edit.ids, rowsEach: count) }
        batches = try site.hub.log(after: before, for: site.branch)
        if isRedelivery { try site.branch.apply(batches, from: site.hub) }
        try site.settle()
    }

    func runPlain() throws {
        for edit in edits { try site.plain.setOutcome(edit.outcome, of: edit.ids, rowsEach: count) }
    }

    func runPeyvand() throws { try site.branch.apply(batches, from: site.hub) }

    func finish() throws { try site.checkSame(as: site.branch) }
}

/// A load of new rows, without a line: what remains of `load-log` when both ends and the network are taken off.
final class FirstLoad: Contest {
    /// In transactions as large as those of a node that takes a load.
    static let rowsEach = 20_000

    private let source: LoadSource
    private var branch: Node
    private var plain: PlainDatabase

    init(_ source: LoadSource) throws {
        self.source = source
        (branch, plain) = try Self.empty(source)
    }

    private static func empty(_ source: LoadSource) throws -> (Node, PlainDatabase) {
        (try Node.branch("b\(UInt32.random(in: 0...UInt32.max))", of: source.hub), try PlainDatabase())
    }

    func prepare() throws { (branch, plain) = try Self.empty(source) }

    func runPlain() throws { try source.upsert(into: plain) }

    func runPeyvand() throws { try branch.apply(source.batches(), from: source.hub) }

    func check() throws { try plain.checkSame(as: branch.path) }

    func finish() throws {}
}

/// A head office with the data set in its log, and the same rows for plain tables.
final class LoadSource {
    let hub: Node
    let ids: (customers: [RowID], activities: [RowID])
    private let reader: Node
    private let customers: [DataSet.Values]
    private let activities: [DataSet.Values]
    private var readBatches: [ChangeBatch]?
    private var madePlain: PlainDatabase?

    init(_ data: DataSet) throws {
        hub = try Node.headOffice()
        reader = try Node.branch("reader", of: hub)
        // What is not safe in a backup goes to everybody as change sets, so newcomers load by the log, not by snapshot.
        try hub.backUp()
        ids = try hub.load(data, rowsEach: 1000)
        customers = data.customers
        activities = data.activities(of: ids.customers)
    }

    var rowCount: Int { customers.count + activities.count }

    /// The log, as it goes out.
    func batches() throws -> [ChangeBatch] {
        if let readBatches { return readBatches }
        let made = try hub.log(after: 0, for: reader)
        readBatches = made
        return made
    }

    /// From here on newcomers load a snapshot: it is shorter than the log, which has edits that were taken back, and all
    /// of it is safe in a backup, so that nothing has to come as change sets.
    func preferSnapshots() throws {
        for note in [FieldValue.text("…"), .null] {
            _ = try hub.replica.write { transaction in
                for id in ids.customers.prefix(500) { try transaction.update("customer", id: id, ["note": note]) }
            }
        }
        try hub.backUp()
    }

    /// Plain tables with the rows.
    func plain() throws -> PlainDatabase {
        if let madePlain { return madePlain }
        let made = try PlainDatabase()
        try upsert(into: made)
        madePlain = made
        return made
    }

    /// Writes the rows as a program does that cannot know whether they are there.
    func upsert(into plain: PlainDatabase) throws {
        let rowsEach = FirstLoad.rowsEach
        try plain.insert(.customer, ids.customers, customers, rowsEach: rowsEach, upserting: true)
        try plain.insert(.activity, ids.activities, activities, rowsEach: rowsEach, upserting: true)
    }
}
