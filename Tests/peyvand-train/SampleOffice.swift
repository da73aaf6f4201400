import CRM
import Causality
import Foundation
import GRDB
import MatchingKit
import ReplicaStore
import SyncProtocol
import Synchronization
import TestKit

/// An office whose people write down invented customers and what they did with them, one to some rows at a time.
struct SampleOffice {
    private let home = TemporaryDirectory()
    private let replica: Replica
    private var random: SeededRandom
    private var people: CustomerGenerator
    private var customers: [RowID] = []
    private var activities: [RowID] = []
    private var orders: [RowID] = []
    private let clock = WallClock()
    private var milliseconds: Int64 { Int64(clock.milliseconds.withLock { $0 }) }

    /// The time at the office, in milliseconds since 1970-01-01 UTC.
    private final class WallClock: Sendable {
        let milliseconds = Mutex<UInt64>(1_790_000_000_000)
    }

    init(seed: UInt64) throws {
        random = SeededRandom(seed: seed)
        people = CustomerGenerator(seed: seed &+ 1)
        var source = random
        let node = LocalNode.newHeadOffice("office", randomBytes: { (0..<$0).map { _ in UInt8(source.below(256)) } })
        replica = try Replica.create(home.path + "/node", node: node) { [clock] in clock.milliseconds.withLock { $0 } }
        try replica.completeHeadOffice()
    }

    /// Writes so many change sets, and returns their contents as they lie before compression.
    mutating func contents(_ count: Int) throws -> [[UInt8]] {
        for _ in 0..<count {
            // Most are one form that somebody fills in; some are a batch.
            let rows = random.below(10) < 6 ? 1 : 1 + random.below(20)
            try write(rows)
        }
        try replica.close()
        let bodies = try DatabaseQueue(path: Replica.path(in: home.path + "/node")).read { db in
            try Data.fetchAll(db, sql: "SELECT body FROM log WHERE body IS NOT NULL ORDER BY position")
        }
        let decompressor = ZstdDecompressor()
        // The first bytes of a zstd frame, RFC 8878, section 3.1.1; all else is plain.
        return try bodies.map { body in
            guard body.starts(with: [0x28, 0xB5, 0x2F, 0xFD]) else { return [UInt8](body) }
            return try body.withUnsafeBytes { try decompressor.decompress($0, sizeMax: ChangeSet.contentBytesMax) }
        }
    }

    private mutating func write(_ rows: Int) throws {
        let kind = random.below(10)
        switch kind {
        case 0..<2: try addCustomers(rows)
        case 2..<6 where !customers.isEmpty: try addActivities(rows)
        case 6 where !customers.isEmpty: try addOrder(lines: rows)
        case 7 where !customers.isEmpty: try editCustomers(rows)
        case 8 where !activities.isEmpty: try endActivities(rows)
        case 9 where !orders.isEmpty: try moveOrder()
        default: try addCustomers(rows)
        }
        let pause = UInt64(1000 * (20 + random.below(2000)))
        clock.milliseconds.withLock { $0 += pause }
    }

    private mutating func addCustomers(_ count: Int) throws {
        let table = TableDescription.customer
        let rows = try people.entries(count: count).map { entry in
            var values: [String: FieldValue] = ["source": .text("officer"), "confirmedAt": .integer(milliseconds)]
            for (name, text) in entry.fields {
                guard let column = table.column(named: name) else { continue }
                values[name] = try FieldEntry.read(.text(text), for: column, of: table).value
            }
            return values
        }
        customers += try replica.write { transaction in
            try rows.map { try transaction.insert("customer", $0) }
        }.result
    }

    private mutating func addActivities(_ count: Int) throws {
        let rows = (0..<count).map { _ in
            [
                "customer": FieldValue.integer(one(of: customers).rawValue),
                "kind": .text(one(of: ["call", "call", "visit", "meeting", "message", "note", "task"])),
                "direction": .text(one(of: ["in", "out"])),
                "subject": .text(one(of: NoteTexts.subjects)),
                "body": .text(
                    (0..<1 + random.below(3)).map { _ in one(of: NoteTexts.sentences) }.joined(separator: " ")
                ),
                "at": .integer(milliseconds - Int64(random.below(3_600_000))),
                "outcome": random.oneIn(2) ? .text(one(of: ["done", "reached", "noAnswer"])) : .null,
                "nextStep": random.oneIn(3) ? .text(one(of: NoteTexts.subjects)) : .null,
            ]
        }
        activities += try replica.write { transaction in
            try rows.map { try transaction.insert("activity", $0) }
        }.result
    }

    private mutating func addOrder(lines: Int) throws {
        let order: [String: FieldValue] = [
            "kind": .text(one(of: ["inquiry", "quote", "order", "invoice"])),
            "customer": .integer(one(of: customers).rawValue),
            "day": .text("2026-0\(1 + random.below(9))-1\(random.below(10))"),
            "state": .text(one(of: ["draft", "sent", "accepted", "issued"])), "stateAt": .integer(milliseconds),
            "total": .integer(Int64(10_000 * (1 + random.below(90_000)))),
        ]
        let rows = (0..<lines).map { number in
            let (price, quantity) = (Int64(10_000 * (1 + random.below(9000))), Int64(1 + random.below(20)))
            return [
                "position": FieldValue.integer(Int64(number + 1)), "text": .text(one(of: NoteTexts.goods)),
                "quantity": .integer(quantity * 1000), "unitPrice": .integer(price),
                "total": .integer(price * quantity),
            ]
        }
        orders.append(
            try replica.write { transaction in
                let id = try transaction.insert("salesOrder", order)
                for row in rows {
                    try transaction.insert("orderLine", row.merging(["salesOrder": .integer(id.rawValue)]) { $1 })
                }
                return id
            }.result
        )
    }

    private mutating func editCustomers(_ count: Int) throws {
        let edits = (0..<count).map { _ in
            let values: [String: FieldValue] =
                switch random.below(4) {
                case 0: ["mobile": .text("+989\(100_000_000 + random.below(300_000_000))")]
                case 1: ["stage": .text(one(of: ["prospect", "customer", "lost"])), "stageAt": .integer(milliseconds)]
                case 2: ["note": .text(one(of: NoteTexts.sentences))]
                default: ["city": .text(one(of: NoteTexts.cities)), "confirmedAt": .integer(milliseconds)]
                }
            return (one(of: customers), values)
        }
        _ = try replica.write { for (id, values) in edits { try $0.update("customer", id: id, values) } }
    }

    private mutating func endActivities(_ count: Int) throws {
        let edits = (0..<count).map { _ in
            (one(of: activities), ["outcome": FieldValue.text(one(of: ["done", "reached", "noAnswer", "refused"]))])
        }
        _ = try replica.write { for (id, values) in edits { try $0.update("activity", id: id, values) } }
    }

    private mutating func moveOrder() throws {
        let (id, state) = (one(of: orders), one(of: ["sent", "accepted", "rejected", "issued", "cancelled"]))
        _ = try replica.write {
            try $0.update("salesOrder", id: id, ["state": .text(state), "stateAt": .integer(milliseconds)])
        }
    }

    private mutating func one<Element>(of list: [Element]) -> Element { list[random.below(list.count)] }
}
