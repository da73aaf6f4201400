import CRM
import Causality
import GRDB
import SyncProtocol
import TestKit

/// A head office and a branch with the data set, and plain tables with the same rows.
///
/// Made once for many rounds: loading takes longer than what is measured. Each round writes what no round has written
/// before, on both sides the same, so that all three stay equal.
final class Site {
    let hub: Node
    let branch: Node
    let plain: PlainDatabase
    private(set) var customers: [RowID] = []
    private(set) var activities: [RowID] = []
    private var random: SeededRandom
    private var joined: [StandIn] = []
    /// Of each activity, the outcome that it was given last: to say the same again would be no write.
    private var outcomeOf: [UInt8] = []
    private var lastOutcome: UInt8 = 0
    private static let outcomes = ["done", "reached", "noAnswer", "refused", "cancelled"]

    /// Customers that are drawn at a time, so that the data set need not fit into memory.
    private static let customersEach = 20_000
    static let activitiesEach = 5

    init(customers count: Int, seed: UInt64) throws {
        (hub, plain) = (try Node.headOffice(), try PlainDatabase())
        random = SeededRandom(seed: seed)
        for start in stride(from: 0, to: count, by: Self.customersEach) {
            let data = DataSet(
                customers: min(Self.customersEach, count - start),
                activitiesEach: Self.activitiesEach,
                seed: seed + UInt64(start)
            )
            let ids = try hub.load(data, rowsEach: 1000)
            try plain.load(data, as: ids)
            customers += ids.customers
            activities += ids.activities
        }
        outcomeOf = [UInt8](repeating: 0, count: activities.count)
        branch = try Node.branch("branch", of: hub)
        try branch.sync(with: hub)
    }

    /// How many rows there were at first.
    var rowCount: Int { customers.count + activities.count }

    /// Lets the branch catch up, before head office writes what the branch is to take.
    func level() throws { try branch.sync(with: hub) }

    /// What nobody is to pay for in a round: the write-ahead logs of the round before.
    func settle() throws {
        for node in [hub, branch] { try node.checkpoint() }
        try plain.checkpoint()
    }

    /// So many new activities, and the identifiers that the node will give them.
    func newActivities(_ count: Int) throws -> (ids: [RowID], rows: [DataSet.Values]) {
        let next = try hub.foreign().read { try Int64.fetchOne($0, sql: "SELECT activity FROM nextId") } ?? 0
        return (
            (next..<next + Int64(count)).compactMap(RowID.init(rawValue:)),
            DataSet.activities(count, of: customers, seed: random.next())
        )
    }

    /// At least so many branches that have joined and sent something.
    func standIns(_ count: Int) throws -> [StandIn] {
        while joined.count < count {
            let branch = try StandIn("s\(joined.count)", joins: hub)
            let (ids, rows) = (branch.newIDs(1), try newActivities(1).rows)
            let entry = try branch.changeSet(ids, rows, at: hub.replica.nowMilliseconds())
            let batch = ChangeBatch(firstPosition: 0, entries: [entry], end: .empty)
            _ = try hub.replica.apply([batch], from: branch.peer)
            try plain.insert(.activity, ids, rows)
            joined.append(branch)
        }
        return joined
    }

    /// So many activities, in any order, and an outcome that none of them has.
    func edits(_ count: Int) throws -> (ids: [RowID], outcome: FieldValue) {
        lastOutcome = lastOutcome % UInt8(Self.outcomes.count) + 1
        var chosen: [RowID] = []
        chosen.reserveCapacity(count)
        while chosen.count < count {
            let number = random.below(activities.count)
            guard outcomeOf[number] != lastOutcome else { continue }
            outcomeOf[number] = lastOutcome
            chosen.append(activities[number])
        }
        return (chosen, .text(Self.outcomes[Int(lastOutcome) - 1]))
    }

    /// - Parameter node: The one that has written or taken what the plain tables hold.
    func checkSame(as node: Node) throws { try plain.checkSame(as: node.path) }
}
