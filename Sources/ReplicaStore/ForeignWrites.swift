import CRM
import Causality
import GRDB
import SyncProtocol

// Writes of other programs: triggers have noted which rows were touched, and kept them as they were.
// Sealing compares, stamps what has really changed, and logs it.

extension ReplicaWriter {
    /// How many rows, and about how many bytes, become one change set. A larger transaction of another program
    /// is sealed in several, so that each fits the limits of a change set: it could never be taken up otherwise.
    private static let rowsPerChangeSetMax = 100_000
    private static let bytesPerChangeSetMax = ChangeSet.contentBytesMax / 2

    /// Turns everything that other programs have committed into change sets of this node.
    ///
    /// Happens first in every transaction. So whatever those programs had seen is what this node has seen:
    /// the context of the change set is the present cursor, and its time follows everything accepted.
    func sealForeignWrites() throws {
        guard try isForeignWritePending() else { return }
        let pending = try Row.fetchAll(
            db.cachedStatement(sql: "SELECT tableNumber, id, wallMilliseconds FROM pending ORDER BY tableNumber, id")
        )
        // The latest moment that was noted; no row was written later than now.
        let noted = pending.reduce(UInt64(0)) { max($0, UInt64(clamping: $1[2] as Int64)) }
        var selects = SnapshotSelects(db)
        var damaged = DamagedRows()
        var rest = pending[...]
        while !rest.isEmpty {
            let stamp = Stamp(time: try tick(notAfter: milliseconds(atMachineWall: noted)), origin: node.origin)
            var draft = ChangeDraft(spareRows)
            while draft.rowCount < Self.rowsPerChangeSetMax, draft.byteCount < Self.bytesPerChangeSetMax,
                let row = rest.popFirst()
            {
                guard let table = schema.table(number: row[0]), let id = RowID(rawValue: row[1]) else { continue }
                try seal(table, id, stamp: stamp, &selects, &damaged, into: &draft)
            }
            if draft.isEmpty { untick() } else { try appendOwn(draft, time: stamp.time) }
            draft.giveBack()
        }
        try recount(damaged)
        for table in schema.tables { try db.execute(sql: "DELETE FROM \(table.before)") }
        try db.cachedStatement(sql: "DELETE FROM pending").execute()
    }

    /// A row, with what is needed to compare it: columns by number, clock, contribution to the digest.
    private struct Snapshot {
        let isAlive: Bool
        var values: [FieldValue]
        /// The columns that hold something else in the file than in `values`, and must be written again.
        var corrected: ColumnMask
        /// Nil when it cannot be read.
        let clock: RowClock?
        let contribution: DigestSum

        /// The values of some columns, ascending.
        func values(of columns: ColumnMask) -> [FieldValue] {
            var result: [FieldValue] = []
            for column in columns.numbers { result.append(values[column]) }
            return result
        }
    }

    private func seal(
        _ table: TableDescription,
        _ id: RowID,
        stamp: Stamp,
        _ selects: inout SnapshotSelects,
        _ damaged: inout DamagedRows,
        into draft: inout ChangeDraft
    ) throws {
        let merge = try merge(of: table)
        let before = try snapshot(of: id, in: table, selects.select(table, from: table.before, "_dead"))
        let after =
            try snapshot(of: id, in: table, selects.select(table, from: table.name, "0"))
            ?? snapshot(of: id, in: table, selects.select(table, from: table.graveyard, "1"))
        if before?.clock?.isErased == true {
            try merge.eraseAgain(id.rawValue)
            try note(.erasedDropped, (fact(.erasedDropped) ?? 0) + 1)
            return
        }
        guard var after else { return }
        var changed = ColumnMask()
        for column in 1..<table.columns.count
        where !after.values[column].isStoredAs(before?.values[column] ?? .null) {
            changed.formUnion(ColumnMask(column: column))
        }
        let operation: RowOperation
        switch (before?.isAlive, after.isAlive) {
        // A row with a number of a former life was made before that ended, and may be known elsewhere.
        case (nil, true): operation = id.origin == node.origin ? .birth : .restore
        case (nil, false), (true, false): operation = .delete
        case (false, true): operation = .restore
        case (true, true), (false, false):
            // Touched, but nothing is different: not a write. `REPLACE` has lost the clock all the same.
            if changed.isEmpty {
                if let clock = before?.clock { try correct(after, id, in: table, clock: clock) }
                return
            }
            operation = after.isAlive ? .update : .delete
        }
        // Other programs need not know when a row was made.
        if operation == .birth { try reserve(id) }
        if operation == .birth, after.values[createdAtColumn].isNull {
            after.values[createdAtColumn] = .integer(Int64(clamping: stamp.time.milliseconds))
            after.corrected.formUnion(ColumnMask(column: createdAtColumn))
        }
        let columns = before == nil ? table.allColumns : table.completed(changed)

        // Of a row whose clock cannot be read, what is written now is all that is known; comparing with head office
        // finds the rest.
        if before != nil, before?.clock == nil { damaged.note(id.rawValue, of: table) }
        var clock = before?.clock ?? .unwritten
        _ = clock.merge(columns, at: stamp)
        try correct(after, id, in: table, clock: clock)
        if let before, before.isAlive {
            try addToDigest(merge.negative(of: before.contribution), table: table.number, id: id.rawValue)
        }
        if after.isAlive {
            try addToDigest(merge.contribution(ofLive: id.rawValue), table: table.number, id: id.rawValue)
        }
        let change = RowChange(id: id, operation: operation, columns: columns, values: after.values(of: columns))
        draft.add(change, to: table)
    }

    /// Gives a row its clock, and the values that the change set has for it: where they differ from what the
    /// other program has written, this node would differ from all others.
    private func correct(_ row: Snapshot, _ id: RowID, in table: TableDescription, clock: RowClock) throws {
        let merge = try merge(of: table)
        let place = row.isAlive ? merge.live : merge.graveyard
        let fields = FieldArena()
        fields.load(row.corrected, row.values(of: row.corrected))
        try place.update(id: id.rawValue, columns: row.corrected, fields: fields, clock: StoredClock(clock, of: table))
    }

    private func snapshot(
        of id: RowID,
        in table: TableDescription,
        _ select: RawStatement
    ) throws -> Snapshot? {
        let merge = try merge(of: table)
        defer { select.reset() }
        select.bind(1, id.rawValue)
        guard try select.step() else { return nil }
        var corrected = ColumnMask()
        let values = table.columns.map { column -> FieldValue in
            guard case .text(let bytes) = select.field(column.number) else {
                return FieldValue(select.field(column.number))
            }
            if let text = String(validating: bytes.bindMemory(to: UInt8.self), as: UTF8.self) {
                return .text(text)
            }
            let text = String(mending: bytes, bytesMax: ChangeSet.textBytesMax)
            corrected.formUnion(ColumnMask(column: column.number))
            return .text(text)
        }
        return Snapshot(
            isAlive: select.integer(table.columns.count + ReplicaSQL.clockColumns.count) == 0,
            values: values,
            corrected: corrected,
            clock: try? merge.clock(in: select, at: table.columns.count, id: id.rawValue),
            contribution: merge.contribution(of: select, id: id.rawValue)
        )
    }
}

/// The statements that read snapshots, each prepared once for all rows.
private struct SnapshotSelects {
    private let db: Database
    private var byPlace: [String: RawStatement] = [:]

    init(_ db: Database) { self.db = db }

    /// Reads a row, and after its clock whether it is dead: a column, or what is known of the place.
    mutating func select(
        _ table: TableDescription,
        from place: String,
        _ dead: String
    ) throws -> RawStatement {
        if let known = byPlace[place] { return known }
        let made = try RawStatement("SELECT \(table.columnList), \(dead) FROM \(place) WHERE id = ?", in: db)
        byPlace[place] = made
        return made
    }
}

/// Every table's second column; the first that a birth carries.
let createdAtColumn = 1

extension String {
    /// Text of another program, which SQLite does not check: what is not UTF-8 becomes U+FFFD, three bytes for
    /// one, so that the end is cut when it no longer fits.
    fileprivate init(mending bytes: UnsafeRawBufferPointer, bytesMax: Int) {
        self.init(decoding: bytes, as: UTF8.self)
        while utf8.count > bytesMax { unicodeScalars.removeLast() }
    }
}
