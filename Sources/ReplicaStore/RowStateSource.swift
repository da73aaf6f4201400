import CRM
import Causality
import GRDB
import SyncProtocol

/// Reads rows of one table as this node holds them, wherever they lie, out of one consistent state.
///
/// What other programs have written and nobody has sealed is not part of them: such rows are read as they were.
struct RowStateSource {
    private let table: TableDescription
    private let db: Database
    /// Rows with unsealed writes; usually none.
    private let pending: Set<Int64>

    init(_ table: TableDescription, _ db: Database) throws {
        self.table = table
        self.db = db
        pending = try Int64.fetchSet(
            db.cachedStatement(sql: "SELECT id FROM pending WHERE tableNumber = ?"),
            arguments: [table.number]
        )
    }

    /// The rows after an identifier, in order, until they have so many bytes; at least one if there is any.
    ///
    /// Both places are read side by side, so that a row which moves from one to the other is never missed.
    ///
    /// - Returns: The rows, the last identifier looked at, and whether nothing follows.
    func states(
        after id: Int64,
        bytesMax: Int
    ) throws -> (rows: WrittenStates, lastID: Int64, isLast: Bool) {
        let live = try Walk(table.name, table, after: id, in: db)
        let graveyard = try Walk(table.graveyard, table, after: id, in: db)
        defer {
            live.end()
            graveyard.end()
        }
        let rows = WrittenStates(number: table.number, columnCount: table.columns.count)
        var lastID = id
        while true {
            let next: Walk
            switch (live.id, graveyard.id) {
            case (nil, nil): return (rows, lastID, true)
            case (.some, nil): next = live
            case (nil, .some): next = graveyard
            case (.some(let alive), .some(let dead)): next = alive <= dead ? live : graveyard
            }
            guard let id = next.id else { return (rows, lastID, true) }
            if rows.byteCount >= bytesMax { return (rows, lastID, false) }
            // A row that another program put back from the graveyard lies in one place, as it was in the other.
            if rows.lastID?.rawValue != id {
                if pending.contains(id) {
                    if let state = try before(id), !isLeftOut(isAlive: state.isAlive) { rows.add(state) }
                } else if !isLeftOut(isAlive: next === live) {
                    try add(next.statement, id, isAlive: next === live, to: rows)
                }
            }
            lastID = id
            try next.advance()
        }
    }

    private func isLeftOut(isAlive: Bool) -> Bool { !isAlive && isPlanted(.snapshotWithoutDeleted) }

    /// Adds a row as it lies; that its clock can be read is checked.
    private func add(_ row: RawStatement, _ id: Int64, isAlive: Bool, to rows: WrittenStates) throws {
        let (rowID, clock) = try self.clock(in: row, id)
        rows.begin(rowID, isAlive: isAlive, clock.columns)
        for column in clock.columns.numbers { rows.append(row.field(column)) }
        rows.finish(clock)
    }

    /// The clock of a row, as far as this node has its columns: only those can be told.
    private func clock(in row: RawStatement, _ id: Int64) throws -> (RowID, RowClock) {
        let first = table.columns.count
        let newest = row.newestStamp(at: first)
        guard newest.origin != .none, let rowID = RowID(rawValue: id) else {
            throw StoreFailure.damagedRow(table: table.name, id: id, reason: "It has no clock.")
        }
        do {
            let clock = try RowClock(
                newest: newest,
                fields: row.blob(first + 2),
                baseColumnCount: table.baseColumnCount
            )
            return (rowID, clock.restricted(toColumns: table.columns.count))
        } catch {
            throw StoreFailure.damagedRow(table: table.name, id: id, reason: error.description)
        }
    }

    /// One row; nil when this node has never heard of it.
    func state(of id: Int64) throws -> RowState? {
        if pending.contains(id) { return try before(id) }
        for place in [table.name, table.graveyard] {
            let select = try RawStatement("SELECT \(table.columnList) FROM \(place) WHERE id = ?", in: db)
            defer { select.reset() }
            select.bind(1, id)
            if try select.step() { return try state(select, id, isAlive: place == table.name) }
        }
        return nil
    }

    /// A row as it was before other programs wrote; nil when they have made it.
    private func before(_ id: Int64) throws -> RowState? {
        let select = try RawStatement(
            "SELECT \(table.columnList), _dead FROM \(table.before) WHERE id = ?",
            in: db
        )
        defer { select.reset() }
        select.bind(1, id)
        guard try select.step() else { return nil }
        let isDead = select.integer(table.columns.count + ReplicaSQL.clockColumns.count) != 0
        return try state(select, id, isAlive: !isDead)
    }

    private func state(_ row: RawStatement, _ id: Int64, isAlive: Bool) throws -> RowState {
        let (rowID, clock) = try self.clock(in: row, id)
        let values = clock.columns.numbers.map { FieldValue(row.field($0)) }
        return RowState(id: rowID, isAlive: isAlive, clock: clock, values: values)
    }
}

/// The rows of one place, in order of their identifiers.
private final class Walk {
    let statement: RawStatement
    private(set) var id: Int64?

    init(_ place: String, _ table: TableDescription, after first: Int64, in db: Database) throws {
        statement = try RawStatement("SELECT \(table.columnList) FROM \(place) WHERE id > ? ORDER BY id", in: db)
        statement.bind(1, first)
        try advance()
    }

    func advance() throws { id = try statement.step() ? statement.integer(0) : nil }

    func end() { statement.reset() }
}

extension ReplicaWriter {
    /// Joins rows of another node into this one's; see ``RowMerge/join(_:_:)``.
    ///
    /// A row that cannot be joined does not keep the others out. If the one that lies here cannot be read, the other
    /// node's takes its place; else it is left out, and named as one that differs from head office's.
    ///
    /// - Parameters:
    ///   - isPlain: The tables have none of the rows, and nothing looks for them.
    /// - Returns: How many rows have changed. Tables of a newer schema are left alone.
    /// - Throws: ``RowTrouble`` when a row failed and this transaction has no way back: see ``transaction(_:)``.
    func join(_ states: RowStatesReader, isPlain: Bool = false) throws -> Int {
        var changed = 0
        var damaged = DamagedRows()
        var replaced: [Int: Set<Int64>] = [:]
        for block in states.blocks {
            guard let table = schema.table(number: block.number) else { continue }
            let wrong = table.wrongTypes(in: block.values)
            let merge = try merge(of: table)
            var rows = block.makeCursor()
            while rows.advance() {
                let row = JoinedRow(id: rows.values.id, isAlive: rows.isAlive, clock: rows.clock)
                let values = rows.values
                if wrong.intersection(values.columns).numbers.contains(where: { !values[$0].isNothing }) {
                    try leaveOut(row, of: table)
                    continue
                }
                var isChanged = false
                let reason = try trouble {
                    isChanged = try isPlain && merge.insertJoined(row, values) || merge.join(row, values)
                }
                if reason?.code == .damagedRow {
                    try damaged.look(at: row.id, merge)
                    let clock = row.clock.restricted(toColumns: table.columns.count)
                    try merge.replace(row.id, with: clock, isAlive: row.isAlive, values)
                    replaced[table.number, default: []].insert(row.id)
                    isChanged = true
                } else if reason != nil {
                    try leaveOut(row, of: table)
                }
                if isChanged { changed += 1 }
            }
        }
        // What this node has written there and the other does not know yet.
        try applyLogged(replaced)
        try recount(damaged)
        return changed
    }

    private func leaveOut(_ row: JoinedRow, of table: TableDescription) throws {
        guard let id = RowID(rawValue: row.id) else { return }
        let difference = RowDifference(table: table.name, id: id, kind: .missing, columns: [])
        try note(difference, fromHub: true)
        try note(.differingRows, (fact(.differingRows) ?? 0) + 1)
    }
}

extension FieldView {
    fileprivate var isNothing: Bool { if case .null = self { true } else { false } }
}
