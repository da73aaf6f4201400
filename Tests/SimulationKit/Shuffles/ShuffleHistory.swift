import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit

@testable import ReplicaStore

/// The change sets of an organisation that has worked for a while, in the order in which its head office took them, and
/// what must come of them in whatever order they are taken.
///
/// Several branches and head office edit the same few rows, at clocks that stand still, so that stamps are equal but for
/// their origin; they delete, restore and erase, and meet seldom.
struct ShuffleHistory {
    /// One change set.
    struct Entry {
        let id: ChangeSetID
        let time: HybridTimestamp
        /// As its writer logged it, before anything was erased from it.
        let body: ChangeBody
        let chain: ChangeChain
        /// What its writer had seen: head office's log up to here.
        let seen: Int
    }

    private(set) var entries: [Entry] = []
    /// A branch that knows nothing of it, and the office it listens to.
    let listener: CrashDisk.State
    let hub: SyncPeer
    let oracle: HistoryOracle
    /// Different histories have different seeds.
    let seed: UInt64
    /// How many of the entries do what.
    private(set) var operations: [RowOperation: Int] = [:]
    /// How many stamps differ by their origin only.
    private(set) var ties = 0

    private static let writers = 5

    init(seed: UInt64, count: Int) throws {
        self.seed = seed
        let time = VirtualTime()
        let founding = try Founding.of(branches: Self.writers + 1)
        let nodes = try founding.found(time, scale: Script.Scale())
        listener = nodes[Self.writers + 1].disk.state()
        var drawing = Drawing(nodes: Array(nodes.dropLast()), time: time, random: SeededRandom(seed: seed))
        try drawing.draw(count)
        guard let node = UniqueID(bytes: try drawing.hub.node.node) else { throw StoreFailure.notJoined }
        hub = SyncPeer(node: node, origin: try drawing.hub.node.origin)
        var oracle = HistoryOracle()
        let decompressor = ZstdDecompressor()
        for logged in try drawing.log().prefix(count) {
            guard let body = drawing.bodies[logged.id] else { throw StoreFailure.database("\(logged.id) was not seen") }
            let content = try Self.content(of: body, decompressor)
            oracle.add(content, time: logged.time)
            for row in content.tables.flatMap(\.rows) { operations[row.operation, default: 0] += 1 }
            entries.append(
                Entry(
                    id: logged.id,
                    time: logged.time,
                    body: body,
                    chain: logged.chain,
                    seen: content.header.context.hubs.map { Int(clamping: $0.position) }.max() ?? 0
                )
            )
        }
        self.oracle = oracle
        ties = entries.count - Set(entries.map(\.time)).count
        try drawing.close()
    }

    private static func content(of body: ChangeBody, _ decompressor: ZstdDecompressor) throws -> ChangeSet {
        let bytes =
            body.isCompressed
            ? try body.bytes.withUnsafeBytes { try decompressor.decompress($0, sizeMax: 1 << 24) } : body.bytes
        return try bytes.withUnsafeBytes { ChangeSet(try ChangeSetReader($0)) }
    }

    // MARK: Orders

    /// Another order of the same change sets that could have been: each origin's in its own, and none before what its
    /// writer had seen.
    func order(_ random: inout SeededRandom) -> [Int] {
        var waiting: [[Int]] = []
        var queueOf: [Origin: Int] = [:]
        for (index, entry) in entries.enumerated() {
            let queue = queueOf[entry.id.origin] ?? waiting.count
            if queue == waiting.count {
                waiting.append([])
                queueOf[entry.id.origin] = queue
            }
            waiting[queue].append(index)
        }
        // Some are always late, others early, as branches are that call seldom or often; now and then that turns.
        var weights = waiting.map { _ in 1 << random.below(7) }
        var heads = [Int](repeating: 0, count: waiting.count)
        var isTaken = [Bool](repeating: false, count: entries.count)
        var low = 0
        var order: [Int] = []
        while order.count < entries.count {
            if random.oneIn(80) { weights = weights.map { _ in 1 << random.below(7) } }
            let open = waiting.indices.filter { queue in
                heads[queue] < waiting[queue].count && entries[waiting[queue][heads[queue]]].seen <= low
            }
            var ticket = random.below(open.reduce(0) { $0 + weights[$1] })
            guard
                let queue = open.first(where: { queue in
                    ticket -= weights[queue]
                    return ticket < 0
                })
            else { break }
            // A call brings several.
            for _ in 0...random.below(6) {
                guard heads[queue] < waiting[queue].count else { break }
                let next = waiting[queue][heads[queue]]
                guard entries[next].seen <= low else { break }
                heads[queue] += 1
                isTaken[next] = true
                order.append(next)
                while low < entries.count, isTaken[low] { low += 1 }
            }
        }
        return order
    }
}

// MARK: - Drawing it

/// An organisation at work.
private struct Drawing {
    let nodes: [SimulatedNode]
    let time: VirtualTime
    var random: SeededRandom
    /// Each change set as its writer logged it.
    var bodies: [ChangeSetID: ChangeBody] = [:]
    private var noted: [Int64] = []
    private var customers: [RowID] = []
    private var activities: [RowID] = []
    private var texts = 0

    init(nodes: [SimulatedNode], time: VirtualTime, random: SeededRandom) {
        self.nodes = nodes
        self.time = time
        self.random = random
        noted = nodes.map { _ in 0 }
    }

    var hub: Replica { get throws { try replica(0) } }

    private func replica(_ index: Int) throws -> Replica {
        guard let replica = nodes[index].replica else { throw StoreFailure.noNode(directory: nodes[index].directory) }
        return replica
    }

    mutating func draw(_ count: Int) throws {
        for node in nodes { try node.open() }
        try note(0)
        for _ in 0..<12 { try work(at: 0) }
        for index in nodes.indices.dropFirst() { try sync(index) }
        while try hub.read({ try Int.fetchOne($0.db, sql: "SELECT count(*) FROM log") ?? 0 }) < count {
            for _ in 0..<60 { try work(at: random.below(nodes.count)) }
            try sync(1 + random.below(nodes.count - 1))
        }
    }

    func close() throws { for node in nodes { try node.close() } }

    private mutating func sync(_ index: Int) throws {
        time.milliseconds += 1
        for _ in 0..<8 {
            var conversation = Conversation(child: try replica(index), hub: try hub)
            let end = conversation.run(&random)[0]
            // Head office lists what has lost.
            try note(0)
            if end == .reconnecting { continue }
            if let end { throw end }
            return
        }
    }

    private mutating func text() -> FieldValue {
        texts += 1
        return .text("متن \(texts)")
    }

    private mutating func work(at index: Int) throws {
        // Mostly the clocks stand still, so that many write at the same time.
        if random.oneIn(4) { time.milliseconds += UInt64(random.below(3)) }
        let node = try replica(index)
        let customer = customers.isEmpty ? nil : customers[random.below(customers.count)]
        let activity = activities.isEmpty ? nil : activities[random.below(activities.count)]
        var deed = random.below(100)
        // Whoever tries what cannot be done costs more than all others.
        if let customer, !(try node.isAlive(customer, in: .customer)) {
            if random.oneIn(2), try node.read({ try $0.deletedRow(.customer, id: customer) }) != nil {
                deed = 90
            } else {
                // All may have been erased.
                guard random.oneIn(8) else { return }
                deed = 0
            }
        } else if (85..<95).contains(deed) {
            deed = 20
        }
        if (55..<65).contains(deed) || (82..<85).contains(deed) {
            guard let activity, try node.isAlive(activity, in: .activity) else { return }
        }
        do {
            switch (deed, customer) {
            case (_, nil), (0..<7, _):
                let name = text()
                customers.append(try node.write { try $0.insert("customer", ["name": name]) }.result)
            case (7..<13, let id?):
                let subject = text()
                activities.append(
                    try node.write {
                        try $0.insert(
                            "activity",
                            ["customer": .integer(id.rawValue), "kind": .text("call"), "subject": subject]
                        )
                    }.result
                )
            case (13..<55, let id?):
                // Fields by themselves, and fields that are written together.
                let fields = ["note", "email", "city", "name", "title", "stage", "mobile", "givenName", "lostReason"]
                var values: [String: FieldValue] = [:]
                for _ in 0...random.below(3) {
                    let field = fields[random.below(fields.count)]
                    values[field] =
                        field == "stage"
                        ? .text(["lead", "prospect", "customer", "lost"][random.below(4)])
                        : random.oneIn(6) && field != "name" ? .null : text()
                }
                let written = values
                _ = try node.write { try $0.update("customer", id: id, written) }
            case (55..<65, _):
                guard let activity else { return }
                let body = text()
                _ = try node.write { try $0.update("activity", id: activity, ["body": body]) }
            case (65..<72, let id?):
                let (name, note, other) = (text(), text(), customers[random.below(customers.count)])
                let isOtherAlive = try other != id && node.isAlive(other, in: .customer)
                let made = try node.write { transaction in
                    let made = try transaction.insert("customer", ["name": name])
                    try transaction.update("customer", id: id, ["note": note, "city": name])
                    if isOtherAlive { try transaction.update("customer", id: other, ["email": note]) }
                    return made
                }.result
                customers.append(made)
            case (72..<82, let id?): _ = try node.write { try $0.delete("customer", id: id) }
            case (82..<85, _):
                guard let activity else { return }
                _ = try node.write { try $0.delete("activity", id: activity) }
            case (85..<95, let id?): _ = try node.write { try $0.restore("customer", id: id) }
            case (95..<98, let id?):
                // An edit and a deletion in one.
                let note = text()
                _ = try node.write { transaction in
                    try transaction.update("customer", id: id, ["note": note])
                    try transaction.delete("customer", id: id)
                }
            case (_, let id?):
                guard index == 0 else { return }
                _ = try node.erase(customer: id)
            }
        } catch is StoreFailure {
            // Another program would have tried, too.
        }
        try note(index)
    }

    /// Keeps what a node has written, before anything can be erased from it.
    private mutating func note(_ index: Int) throws {
        let replica = try replica(index)
        let rows = try replica.read { reader in
            try Row.fetchAll(
                reader.db,
                sql: "SELECT position, origin, seq, body FROM log WHERE position > ? ORDER BY position",
                arguments: [noted[index]]
            )
        }
        for row in rows {
            noted[index] = row[0]
            guard let origin = Origin(rawValue: row[1]), origin == replica.node.origin, let body = row[3] as Data?
            else { continue }
            let id = ChangeSetID(origin: origin, seq: UInt64(clamping: row[2] as Int64))
            let isCompressed = body.first == Replica.zstdFirstByte
            bodies[id] = ChangeBody(isCompressed: isCompressed, bytes: [UInt8](body))
        }
    }

    /// Head office's log, without its bodies.
    func log() throws -> [(id: ChangeSetID, time: HybridTimestamp, chain: ChangeChain)] {
        try hub.read { reader in
            try Row.fetchAll(reader.db, sql: "SELECT origin, seq, time, chain FROM log ORDER BY position").compactMap {
                guard let origin = Origin(rawValue: $0[0]), let chain = ChangeChain(bytes: [UInt8]($0[3] as Data)),
                    let time = HybridTimestamp(packed: UInt64(bitPattern: $0[2] as Int64))
                else { return nil }
                return (ChangeSetID(origin: origin, seq: UInt64(clamping: $0[1] as Int64)), time, chain)
            }
        }
    }
}

extension Replica {
    fileprivate func isAlive(_ id: RowID, in table: TableDescription) throws -> Bool {
        try read { try $0.row(table, id: id) } != nil
    }
}
