import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

/// One write to a field, as the log tells it.
package struct FieldWrite: Hashable, Sendable {
    package let stamp: Stamp
    /// Nil when this node's log does not hold the change set.
    package let seq: UInt64?
    /// Where it stands in this node's log; nil when it does not.
    package let position: UInt64?
    /// What it wrote.
    package let value: FieldValue
    /// Whether it made the row.
    package let isBirth: Bool
}

/// How a field came to its value.
package struct FieldHistory: Sendable {
    /// By which rule the present value stands. Raw values are permanent: scripts read them.
    package enum Rule: String, Hashable, Sendable {
        /// Nobody has ever written the field.
        case neverWritten
        /// Nobody had written it before.
        case onlyWriter
        /// The writer had seen the former value.
        case seenBefore
        /// Others wrote at the same time, unaware; the later time stands.
        case laterTime
        /// Others wrote in the same moment; the greater number of the node stands.
        case greaterNumber
        /// Others wrote the same value, unaware.
        case sameValue
        /// The log of this node no longer tells.
        case notKnown
    }

    package let isRowDeleted: Bool
    package let value: FieldValue
    package let rule: Rule
    package let writer: FieldWrite?
    /// What the writer had seen there.
    package let replaced: FieldWrite?
    /// What lost, because neither writer knew of the other; newest first.
    package let lost: [FieldWrite]
    /// The deletion of a deleted row.
    package let deletion: FieldWrite?
    /// Whether change sets could not be read because their bodies are gone.
    package let isTrimmed: Bool
}

extension ReplicaReader {
    /// The clock of a row, and whether it lives; nil when it is nowhere.
    package func clock(_ table: TableDescription, id: RowID) throws -> (clock: RowClock, isAlive: Bool)? {
        for place in [table.name, table.graveyard] {
            let columns = ReplicaSQL.clockColumns.joined(separator: ", ")
            let row = try Row.fetchOne(
                db,
                sql: "SELECT \(columns) FROM \(place) WHERE id = ?",
                arguments: [id.rawValue]
            )
            guard let row else { continue }
            let newest = Stamp(
                time: HybridTimestamp(packed: UInt64(bitPattern: (row[0] as Int64?) ?? 0)) ?? .zero,
                origin: Origin(rawValue: (row[1] as UInt32?) ?? 0) ?? .none
            )
            do {
                let clock =
                    try (row[2] as Data?)?.withUnsafeBytes { fields throws(MalformedBytes) in
                        try RowClock(newest: newest, fields: fields, baseColumnCount: table.baseColumnCount)
                    } ?? RowClock(newest: newest, fields: nil, baseColumnCount: table.baseColumnCount)
                return (clock, place == table.name)
            } catch let error as MalformedBytes {
                throw StoreFailure.damagedRow(table: table.name, id: id.rawValue, reason: error.description)
            }
        }
        return nil
    }

    /// The name of the node that has, or had, an origin; nil when nothing here tells.
    package func nodeName(of origin: Origin) throws -> String? {
        let rows = try rows(.branch, where: "origin", is: .integer(Int64(origin.rawValue)), limit: 1)
        if case .text(let name)? = rows.first?["name"] { return name }
        // Its row names the present number of a node. Head office knows all former ones, a branch its own.
        if try ownOrigins().contains(origin) { return try LocalNode.read(db)?.name }
        return try String.fetchOne(
            db.cachedStatement(
                sql: "SELECT name FROM registeredLife JOIN registeredNode USING (node) WHERE registeredLife.origin = ?"
            ),
            arguments: [origin.rawValue]
        )
    }

    /// What a change set of the log did to some columns of a row; nil when the log does not tell.
    package func written(
        by id: ChangeSetID,
        to row: RowID,
        of table: TableDescription
    ) throws -> [Int: FieldValue]? {
        let body = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT position, body FROM log WHERE origin = ? AND seq = ?"),
            arguments: [Int64(id.origin.rawValue), Int64(clamping: id.seq)]
        )
        guard let body, let bytes = body[1] as Data? else { return nil }
        let position = UInt64(bitPattern: body[0] as Int64)
        return try Replica.withContent(of: bytes, position: position, ZstdDecompressor()) { reader in
            reader.change(of: row, in: table).map { change in
                Dictionary(uniqueKeysWithValues: zip(Array(change.columns.numbers), change.values))
            }
        }
    }

    /// Finds out how a field came to its value; nil when there is no such row.
    ///
    /// Cost: reads the log backwards to the change set whose value was replaced; at most all of it.
    package func history(of column: ColumnDescription, in table: TableDescription, id: RowID) throws -> FieldHistory? {
        guard let (clock, isAlive) = try clock(table, id: id),
            let row = try row(table, id: id) ?? deletedRow(table, id: id)
        else { return nil }
        let stamp = clock.stamp(ofColumn: column.number)
        let value = row.values[column.number]
        let deletion = isAlive ? nil : try place(of: clock.newest, value: .null)
        guard stamp != .zero else {
            return FieldHistory(
                isRowDeleted: !isAlive,
                value: value,
                rule: .neverWritten,
                writer: nil,
                replaced: nil,
                lost: [],
                deletion: deletion,
                isTrimmed: false
            )
        }
        var search = FieldSearch(column: column.number, stamp: stamp)
        try search.run(table, id, db)
        let rule: FieldHistory.Rule
        if let best = search.lost.first {
            rule =
                search.lost.allSatisfy { $0.value.isStoredAs(value) }
                ? .sameValue : best.stamp.time < stamp.time ? .laterTime : .greaterNumber
        } else if let replaced = search.replaced {
            rule = replaced.isBirth && replaced.value.isNull ? .onlyWriter : .seenBefore
        } else {
            rule = search.writer?.isBirth == true ? .onlyWriter : .notKnown
        }
        return FieldHistory(
            isRowDeleted: !isAlive,
            value: value,
            rule: rule,
            writer: try search.writer ?? place(of: stamp, value: value),
            replaced: search.replaced,
            lost: search.lost,
            deletion: deletion,
            isTrimmed: search.isTrimmed
        )
    }

    /// The write of a stamp, without asking its body.
    private func place(of stamp: Stamp, value: FieldValue) throws -> FieldWrite {
        let row = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT seq, position FROM log WHERE origin = ? AND time = ?"),
            arguments: [Int64(stamp.origin.rawValue), Int64(bitPattern: stamp.time.packed)]
        )
        return FieldWrite(
            stamp: stamp,
            seq: (row?[0] as Int64?).map { UInt64(bitPattern: $0) },
            position: (row?[1] as Int64?).map { UInt64(bitPattern: $0) },
            value: value,
            isBirth: false
        )
    }
}

/// Reads the log backwards for the writes of one field.
private struct FieldSearch {
    let column: Int
    /// The stamp of the present value.
    let stamp: Stamp
    private(set) var writer: FieldWrite?
    private(set) var replaced: FieldWrite?
    private(set) var lost: [FieldWrite] = []
    private(set) var isTrimmed = false
    /// Up to where in the hub's log the writer of ``replaced`` had read: what lies there is older.
    private var replacedSaw: UInt64 = 0
    /// Whether the search has come so far back, among this node's own change sets and among those of others.
    private var isPast = (own: false, others: false)

    init(column: Int, stamp: Stamp) {
        self.column = column
        self.stamp = stamp
    }

    mutating func run(_ table: TableDescription, _ id: RowID, _ db: Database) throws {
        let decompressor = ZstdDecompressor()
        guard let header = try writerHeader(db, decompressor) else {
            isTrimmed = true
            return
        }
        let seenUpTo = header.context.hubs.map(\.position).max() ?? 0
        let node = try LocalNode.read(db)
        let isHeadOffice = node?.role == .headOffice
        let cursor = try Row.fetchCursor(
            db,
            sql: "SELECT position, origin, seq, time, hubPosition, body FROM log ORDER BY position DESC"
        )
        while let row = try cursor.next() {
            let position = UInt64(bitPattern: row[0] as Int64)
            guard let origin = Origin(rawValue: row[1]),
                let time = HybridTimestamp(packed: UInt64(bitPattern: row[3] as Int64))
            else { continue }
            let place = isHeadOffice ? position : (row[4] as Int64?).map { UInt64(bitPattern: $0) } ?? .max
            if replaced != nil, place <= replacedSaw {
                // A branch holds its own work in another order than head office.
                if origin == node?.origin { isPast.own = true } else { isPast.others = true }
                if isPast.others, isPast.own || isHeadOffice, writer != nil { break }
            }
            guard let body = row[5] as Data? else {
                isTrimmed = true
                continue
            }
            let (change, saw) = try Replica.withContent(of: body, position: position, decompressor) {
                ($0.change(of: id, in: table), $0.header.context.hubs.map(\.position).max() ?? 0)
            }
            guard let change, let index = Array(change.columns.numbers).firstIndex(of: column) else { continue }
            let seq = UInt64(bitPattern: row[2] as Int64)
            let write = FieldWrite(
                stamp: Stamp(time: time, origin: origin),
                seq: seq,
                position: position,
                value: change.values[index],
                isBirth: change.operation == .birth
            )
            if write.stamp == stamp {
                writer = write
            } else if write.stamp < stamp {
                let isSeen =
                    origin == header.id.origin
                    ? seq < header.id.seq
                    : place <= seenUpTo
                        || header.context.lives.contains { $0.origin == origin && seq <= $0.seq }
                if isSeen {
                    // The one that stood, and not what had lost against it.
                    if replaced.map({ $0.stamp < write.stamp }) ?? true {
                        replaced = write
                        replacedSaw = saw
                    }
                } else {
                    lost.append(write)
                }
            }
            // A birth is the first of all.
            if write.isBirth { break }
        }
        lost.sort { $0.stamp > $1.stamp }
        isTrimmed = isTrimmed && replaced == nil && writer?.isBirth != true
    }

    private func writerHeader(_ db: Database, _ decompressor: ZstdDecompressor) throws -> ChangeSetHeader? {
        let row = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT position, body FROM log WHERE origin = ? AND time = ?"),
            arguments: [Int64(stamp.origin.rawValue), Int64(bitPattern: stamp.time.packed)]
        )
        guard let row, let body = row[1] as Data? else { return nil }
        return try Replica.withContent(of: body, position: UInt64(bitPattern: row[0] as Int64), decompressor) {
            $0.header
        }
    }
}

extension ChangeSetReader {
    /// What it does to one row; nil when nothing.
    fileprivate func change(of id: RowID, in table: TableDescription) -> RowChange? {
        guard let block = blocks.first(where: { $0.number == table.number }) else { return nil }
        var rows = block.makeCursor()
        while rows.advance(), rows.id <= id.rawValue {
            guard rows.id == id.rawValue else { continue }
            var values: [FieldValue] = []
            for column in rows.columns.numbers { values.append(FieldValue(rows[column])) }
            return RowChange(id: id, operation: rows.operation, columns: rows.columns, values: values)
        }
        return nil
    }
}
