import CRM
import Causality
import SyncProtocol
import TestKit

// Many branches at one head office. They exist only in what they send: each has joined, and its change sets are made as
// a branch makes them, but it keeps no replica.

/// A branch of which head office sees no more than of any other.
final class StandIn {
    let peer: SyncPeer
    private var seq: UInt64 = 0
    private var chain = ChangeChain.empty
    private var rows: Int64 = 0
    private var clock = HybridLogicalClock()

    init(_ name: String, joins hub: Node) throws {
        let invitation = try hub.replica.invite(name, randomBytes: Node.randomBytes)
        guard let node = UniqueID(bytes: Node.randomBytes(UniqueID.byteCount)),
            let key = Key256(bytes: Node.randomBytes(Key256.byteCount))
        else { throw NotTheSame(description: "There are no random bytes.") }
        // Nothing proves itself on a line here.
        var join = invitation.join(nonce: key, request: [], node: node, nodeKey: key, software: "bench")
        join.nonce = key
        let joined = try hub.replica.decideJoin(join)
        peer = SyncPeer(node: node, origin: joined.origin)
    }

    /// The identifiers of its next rows.
    func newIDs(_ count: Int) -> [RowID] {
        defer { rows += Int64(count) }
        return (1...Int64(count)).map { RowID(origin: peer.origin, counter: rows + $0) }
    }

    /// A change set with new activities.
    func changeSet(_ ids: [RowID], _ rows: [DataSet.Values], at milliseconds: UInt64) throws -> ChangeEntry {
        let table = TableDescription.activity
        seq += 1
        let changes = zip(ids, rows).map { id, row in
            RowChange(id: id, operation: .birth, columns: table.allColumns, values: Array(row.dropFirst()))
        }
        let content = try ChangeSet(
            header: ChangeSetHeader(
                id: ChangeSetID(origin: peer.origin, seq: seq),
                schemaVersion: Schema.current.version,
                context: CausalContext(lives: [], hubs: []),
                previousChain: chain.prefix
            ),
            tables: [TableChanges(number: table.number, columnCount: table.columns.count, rows: changes)]
        ).content()
        chain = content.withUnsafeBytes { chain.appending(content: $0) }
        return .changeSet(
            time: try clock.tick(wallMilliseconds: milliseconds),
            body: ChangeBody(isCompressed: false, bytes: content)
        )
    }
}

/// Changes of many branches, each of which calls once, beside a transaction for each of them in plain tables.
final class ManyBranches: Contest {
    private struct Call {
        let peer: SyncPeer
        let batch: ChangeBatch
        let ids: [RowID]
        let rows: [DataSet.Values]
    }

    private let site: Site
    private let branches: Int
    private let changes: Int
    private var calls: [Call] = []

    init(_ site: Site, branches: Int, changes: Int) {
        (self.site, self.branches, self.changes) = (site, branches, changes)
    }

    func prepare() throws {
        let callers = try site.standIns(branches).prefix(branches)
        let now = site.hub.replica.nowMilliseconds()
        calls = try callers.map { branch in
            let ids = branch.newIDs(changes)
            let rows = try site.newActivities(changes).rows
            let entries = try (0..<changes).map { try branch.changeSet([ids[$0]], [rows[$0]], at: now) }
            let batch = ChangeBatch(firstPosition: 0, entries: entries, end: .empty)
            return Call(peer: branch.peer, batch: batch, ids: ids, rows: rows)
        }
        try site.settle()
    }

    func runPlain() throws {
        for call in calls { try site.plain.insert(.activity, call.ids, call.rows) }
    }

    func runPeyvand() throws {
        for call in calls { _ = try site.hub.replica.apply([call.batch], from: call.peer) }
    }

    func finish() throws { try site.checkSame(as: site.hub) }
}

/// Reads a thousand changed rows at the end of a log, which head office does when a branch calls.
struct Finding {
    private static let changeSets = 100
    private static let rowsEach = 10
    private static let goesAtOnce = 50

    private let site: Site
    private let before: UInt64

    /// - Parameter origins: How many nodes have written rows.
    init(_ site: Site, origins: Int) throws {
        self.site = site
        let branches = try site.standIns(origins)
        before = try site.hub.end()
        let now = site.hub.replica.nowMilliseconds()
        for branch in branches.suffix(Self.changeSets) {
            let ids = branch.newIDs(Self.rowsEach)
            let rows = try site.newActivities(Self.rowsEach).rows
            let entry = try branch.changeSet(ids, rows, at: now)
            let batch = ChangeBatch(firstPosition: 0, entries: [entry], end: .empty)
            _ = try site.hub.replica.apply([batch], from: branch.peer)
        }
        try site.settle()
    }

    func once() throws -> Cost {
        let limits = SyncLimits.standard
        return try Cost.ofOne(of: Self.goesAtOnce) {
            let found = try site.hub.replica.readLog(
                afterPosition: before,
                for: site.branch.replica.node.origin,
                bytesMax: limits.batchBytesMax,
                entriesMax: limits.batchEntriesMax
            )
            guard found.rows == Self.changeSets * Self.rowsEach else {
                throw NotTheSame(description: "\(found.rows) changed rows were found.")
            }
        }
    }
}
