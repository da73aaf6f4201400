import CRM
import Causality
import GRDB
import SyncProtocol

// Writes of other programs: triggers have noted which rows were touched, and kept them as they were.
// Sealing compares, stamps what has really changed, and logs it.

extension ReplicaWriter {
    /// How many rows become one change set. A larger transaction of another program is sealed in several, so
    /// that each fits the limits of a change set.
    private static let rowsPerChangeSetMax = 100_000

    /// Turns everything that other programs have committed into change sets of this node.
    ///
    /// Happens first in every transaction. So whatever those programs had seen is what this node has seen:
    /// the context of the change set is the present cursor, and its time follows everything accepted.
    func sealForeignWrites() throws {
        guard try isForeignWritePending() else { return }
        let pending = try Row.fetchAll(
            db,
            sql: "SELECT tableNumber, id, wallMilliseconds FROM pending ORDER BY tableNumber, id"
        )
        var rest = pending[...]
        while !rest.isEmpty {
            let part = rest.prefix(Self.rowsPerChangeSetMax)
            rest = rest.dropFirst(part.count)
            // The latest moment that was noted; the row was not written later than now.
            let noted = part.reduce(UInt64(0)) { max($0, UInt64(clamping: $1[2] as Int64)) }
            let stamp = Stamp(time: try tick(notAfter: noted), origin: node.origin)
            var draft = ChangeDraft()
            for row in part {
                guard let table = schema.table(number: row[0]), let id = RowID(rawValue: row[1]) else { continue }
                try seal(table, id, stamp: stamp, into: &draft)
            }
            if !draft.isEmpty { try appendOwn(draft, time: stamp.time) }
        }
        for table in schema.tables { try db.execute(sql: "DELETE FROM \(table.before)") }
        try db.execute(sql: "DELETE FROM pending")
    }

    /// A row, with what is needed to compare it: columns by number, clock, contribution to the digest.
    private struct Snapshot {
        let isAlive: Bool
        let values: [FieldValue]
        let clock: RowClock
        let contribution: DigestSum
    }

    private func seal(_ table: TableDescription, _ id: RowID, stamp: Stamp, into draft: inout ChangeDraft) throws {
        let merge = try merge(of: table)
        let before = try snapshot(of: id, in: table, from: table.before, deadColumn: "_dead")
        let after =
            try snapshot(of: id, in: table, from: table.name, deadColumn: "0")
            ?? snapshot(of: id, in: table, from: table.graveyard, deadColumn: "1")
        guard let after else { return }
        var changed = ColumnMask()
        for column in 1..<table.columns.count
        where !after.values[column].isStoredAs(before?.values[column] ?? .null) {
            changed.formUnion(ColumnMask(column: column))
        }
        let operation: RowOperation
        switch (before?.isAlive, after.isAlive) {
        case (nil, true): operation = .birth
        case (nil, false), (true, false): operation = .delete
        case (false, true): operation = .restore
        case (true, true), (false, false):
            // Touched, but nothing is different: not a write.
            if changed.isEmpty { return try putBackClock(of: before, id, in: table, isAlive: after.isAlive) }
            operation = after.isAlive ? .update : .delete
        }
        let columns = before == nil ? table.allColumns : table.completed(changed)
        var values: [FieldValue] = []
        columns.forEach { values.append(after.values[$0]) }
        // Other programs need not know when a row was made.
        let isCreationUnknown = operation == .birth && after.values[createdAtColumn].isNull
        if isCreationUnknown { values[0] = .integer(Int64(clamping: stamp.time.milliseconds)) }

        var clock = before?.clock ?? .unwritten
        _ = clock.merge(columns, at: stamp)
        let place = after.isAlive ? merge.live : merge.graveyard
        let written = isCreationUnknown ? ColumnMask(column: createdAtColumn) : []
        let fields = FieldArena()
        fields.load(written, isCreationUnknown ? [values[0]] : [])
        try place.update(id: id.rawValue, columns: written, fields: fields, clock: clock)
        if let before, before.isAlive {
            try addToDigest(merge.negative(of: before.contribution), table: table.number, id: id.rawValue)
        }
        if after.isAlive {
            try addToDigest(merge.contribution(ofLive: id.rawValue), table: table.number, id: id.rawValue)
        }
        draft.add(RowChange(id: id, operation: operation, columns: columns, values: values), to: table)
    }

    /// `REPLACE` with the values that were there leaves a row without its clock.
    private func putBackClock(of before: Snapshot?, _ id: RowID, in table: TableDescription, isAlive: Bool) throws {
        guard let before else { return }
        let merge = try merge(of: table)
        let place = isAlive ? merge.live : merge.graveyard
        try place.update(id: id.rawValue, columns: [], fields: FieldArena(), clock: before.clock)
    }

    private func snapshot(
        of id: RowID,
        in table: TableDescription,
        from place: String,
        deadColumn: String
    ) throws -> Snapshot? {
        let merge = try merge(of: table)
        let select = try RawStatement(
            "SELECT \(table.columnList), \(deadColumn) FROM \(place) WHERE id = ?", in: db)
        defer { select.reset() }
        select.bind(1, id.rawValue)
        guard try select.step() else { return nil }
        return Snapshot(
            isAlive: select.integer(table.columns.count + ReplicaSQL.clockColumns.count) == 0,
            values: table.columns.map { FieldValue(select.field($0.number)) },
            clock: try merge.clock(in: select, at: table.columns.count, id: id.rawValue),
            contribution: merge.contribution(of: select, id: id.rawValue)
        )
    }
}

/// Every table's second column; the first that a birth carries.
private let createdAtColumn = 1
