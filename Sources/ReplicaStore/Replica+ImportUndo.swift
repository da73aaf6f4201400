import CRM
import Causality
import GRDB

/// What taking an import back has done, or would do.
package struct ImportUndo: Hashable, Sendable {
    /// A row that stays, wholly or in part.
    package struct Kept: Hashable, Sendable {
        /// Why it stays.
        package enum Reason: Hashable, Sendable {
            /// These fields were edited since.
            case edited([String])
            /// Rows of this table that did not come with the import refer to it.
            case needed(by: String)
        }

        package let table: String
        package let id: RowID
        package let reason: Reason
    }

    /// Rows that the import had made and that are in the recycle bin now.
    package fileprivate(set) var deleted = 0
    /// Fields that have again what they held before.
    package fileprivate(set) var reverted = 0
    /// The first of what stays.
    package fileprivate(set) var kept: [Kept] = []
    package fileprivate(set) var keptCount = 0

    /// Beyond this what stays is only counted.
    package static let keptMax = 1000

    fileprivate mutating func keep(_ table: TableDescription, _ id: RowID, _ reason: Kept.Reason) {
        keptCount += 1
        if kept.count < Self.keptMax { kept.append(Kept(table: table.name, id: id, reason: reason)) }
    }
}

extension Replica {
    /// Takes an import of this node back: rows that it has made are deleted, fields that it has changed hold again what
    /// they held before. What somebody has edited since stays, and so does what others refer to by now.
    ///
    /// Goes in transactions of some thousand rows; one that was interrupted is ended by the next call.
    ///
    /// - Parameters:
    ///   - isDryRun: Tell what would happen, and change nothing.
    ///   - now: Milliseconds since 1970-01-01 UTC.
    ///   - progress: Told between transactions how many rows were looked at.
    /// - Returns: Nil when this node has made no such import.
    /// - Throws: What `progress` throws, after whole transactions; ``StoreFailure``.
    package func undoImport(
        _ batch: RowID,
        isDryRun: Bool,
        now: Int64,
        progress: (Int) throws -> Void
    ) throws -> ImportUndo? {
        var undoing = ImportUndoing(batch)
        if isDryRun {
            do {
                _ = try write { transaction in
                    guard try undoing.begin(transaction) else { return }
                    while try undoing.step(transaction) {}
                    throw NothingWritten()
                }
                return nil
            } catch is NothingWritten {
                return undoing.outcome
            }
        }
        guard try write({ try undoing.begin($0) }).result else { return nil }
        var isDone = false
        while !isDone {
            isDone = try write { transaction in
                transaction.markAsImport(batch)
                if try undoing.step(transaction) { return false }
                try transaction.update(
                    TableDescription.importBatch.name,
                    id: batch,
                    ["state": .text("undone"), "stateAt": .integer(now)]
                )
                try transaction.writer.db.execute(
                    sql: "DELETE FROM importedOriginal WHERE batch = ?",
                    arguments: [batch.rawValue]
                )
                try transaction.audit(
                    .undoImport,
                    "\(batch): \(undoing.outcome.deleted) rows deleted, \(undoing.outcome.reverted) fields, "
                        + "\(undoing.outcome.keptCount) kept"
                )
                return true
            }.result
            try progress(undoing.visited)
        }
        return undoing.outcome
    }

    /// Thrown to take back what a dry run has tried.
    private struct NothingWritten: Error {}
}

/// One import on its way back: first its edits, then the rows that it has made, those that refer to others first.
private struct ImportUndoing {
    let batch: RowID
    private(set) var outcome = ImportUndo()
    /// How many rows were looked at.
    private(set) var visited = 0

    private var stamps: Set<Stamp> = []
    /// Nil while edits are taken back; then the tables that are still to come.
    private var tables: [TableDescription]?
    /// Behind which row to go on.
    private var last: (table: Int, id: Int64) = (0, 0)
    /// Rows of the first of ``tables`` to which others refer, and from where.
    private var needed: [Int64: String]?

    private static let rowsPerStep = 2000

    init(_ batch: RowID) { self.batch = batch }

    /// - Returns: Whether this node knows the import.
    mutating func begin(_ transaction: LocalTransaction) throws -> Bool {
        stamps = try transaction.writer.importStamps(of: batch)
        return try Bool.fetchOne(
            transaction.writer.db,
            sql: "SELECT EXISTS (SELECT 1 FROM importedChangeSet WHERE batch = ?)",
            arguments: [batch.rawValue]
        ) ?? false && transaction.contains(TableDescription.importBatch.name, id: batch)
    }

    /// Takes some rows back.
    ///
    /// - Returns: Whether more is to do.
    mutating func step(_ transaction: LocalTransaction) throws -> Bool {
        if tables == nil {
            if try revert(transaction) { return true }
            tables = transaction.schema.inOrderOfReference.reversed().filter { $0 != .importBatch }
            last = (0, 0)
            return true
        }
        guard let table = tables?.first else { return false }
        if try delete(from: table, transaction) { return true }
        tables?.removeFirst()
        last = (0, 0)
        needed = nil
        return true
    }

    // MARK: Edits

    private mutating func revert(_ transaction: LocalTransaction) throws -> Bool {
        let rows = try Row.fetchAll(
            transaction.writer.db,
            sql: """
                SELECT tableNumber, id, columnNumber, before FROM importedField
                WHERE batch = ? AND columnNumber > 0 AND (tableNumber, id) > (?, ?)
                ORDER BY tableNumber, id, columnNumber LIMIT ?
                """,
            arguments: [batch.rawValue, last.table, last.id, Self.rowsPerStep]
        )
        guard let end = rows.last else { return false }
        // A row whose fields may go on behind the limit waits for the next step, unless it is alone.
        let endID: (Int, Int64) = (end[0], end[1])
        let whole = rows.prefix { rows.count < Self.rowsPerStep || (($0[0], $0[1]) as (Int, Int64)) != endID }
        var start = 0
        let taken = whole.isEmpty ? rows[...] : whole
        while start < taken.count {
            let (tableNumber, number): (Int, Int64) = (taken[start][0], taken[start][1])
            let end = taken[start...].firstIndex { ($0[0], $0[1]) != (tableNumber, number) } ?? taken.endIndex
            let fields = taken[start..<end]
            start = end
            last = (tableNumber, number)
            visited += 1
            guard let table = transaction.schema.table(number: tableNumber), let id = RowID(rawValue: number) else {
                continue
            }
            try revert(
                fields.map { ($0[2], FieldValue($0[3] as DatabaseValue)) },
                of: id,
                in: table,
                transaction
            )
        }
        return true
    }

    private mutating func revert(
        _ fields: [(column: Int, before: FieldValue)],
        of id: RowID,
        in table: TableDescription,
        _ transaction: LocalTransaction
    ) throws {
        // What the import has made goes as a whole; what somebody has deleted since has nothing to go back to.
        guard try transaction.contains(table.name, id: id), try !isOfThis(id, table, transaction) else { return }
        var values: [String: FieldValue] = [:]
        var orphaned: [String] = []
        for (column, before) in fields where column < table.columns.count {
            let description = table.columns[column]
            if case (.reference(let target), .integer(let number)) = (description.type, before),
                try !(RowID(rawValue: number).map { try transaction.contains(target, id: $0) } ?? false)
            {
                orphaned.append(description.name)
            } else {
                values[description.name] = before
            }
        }
        let edit = try transaction.update(table.name, id: id, values) { column, clock in
            let stamp = clock.stamp(ofColumn: column)
            return stamps.contains(stamp) || stamp.origin == transaction.writer.origin && stamp.time == transaction.time
        }
        outcome.reverted += edit.changed.count
        let kept = edit.kept.map { table.columns[$0].name } + orphaned
        if !kept.isEmpty { outcome.keep(table, id, .edited(kept)) }
    }

    private func isOfThis(_ id: RowID, _ table: TableDescription, _ transaction: LocalTransaction) throws -> Bool {
        let sql =
            table.namesItsImport
            ? "SELECT EXISTS (SELECT 1 FROM \(table.name) WHERE id = ? AND importBatch = ?)"
            : """
            SELECT EXISTS (
                SELECT 1 FROM importedField
                WHERE id = ? AND batch = ? AND tableNumber = \(table.number) AND columnNumber = 0
            )
            """
        return try Bool.fetchOne(
            transaction.writer.db.cachedStatement(sql: sql),
            arguments: [id.rawValue, batch.rawValue]
        ) ?? false
    }

    // MARK: Rows

    private mutating func delete(from table: TableDescription, _ transaction: LocalTransaction) throws -> Bool {
        let db = transaction.writer.db
        let sql =
            table.namesItsImport
            ? "SELECT id FROM \(table.name) WHERE importBatch = ? AND id > ? ORDER BY id LIMIT ?"
            : """
            SELECT id FROM importedField
            WHERE batch = ? AND tableNumber = \(table.number) AND columnNumber = 0 AND id > ? ORDER BY id LIMIT ?
            """
        let ids = try Int64.fetchAll(
            db.cachedStatement(sql: sql),
            arguments: [batch.rawValue, last.id, Self.rowsPerStep]
        )
        guard let end = ids.last else { return false }
        let needed = try self.needed ?? rowsNeeded(of: table, transaction)
        self.needed = needed
        let merge = try transaction.writer.merge(of: table)
        for number in ids {
            visited += 1
            guard let id = RowID(rawValue: number), try transaction.contains(table.name, id: id) else { continue }
            if let source = needed[number] {
                outcome.keep(table, id, .needed(by: source))
                continue
            }
            var edited: [String] = []
            _ = try merge.edit(number, reading: []) { clock, _ -> (write: RowWrite, fields: NoFields)? in
                edited = table.columns.dropFirst().filter { column in
                    let stamp = clock.stamp(ofColumn: column.number)
                    return stamp != .zero && !stamps.contains(stamp)
                }.map(\.name)
                return nil
            }
            guard edited.isEmpty else {
                outcome.keep(table, id, .edited(edited))
                continue
            }
            try transaction.delete(table.name, id: id)
            outcome.deleted += 1
        }
        last = (table.number, end)
        return true
    }

    /// The rows of the import in a table that live rows refer to. Those that came with the import and are still there by
    /// now stay themselves, since they are looked at first.
    private func rowsNeeded(of table: TableDescription, _ transaction: LocalTransaction) throws -> [Int64: String] {
        var needed: [Int64: String] = [:]
        let db = transaction.writer.db
        for (other, column) in transaction.schema.columns(referringTo: table) {
            let name = column.name.quotedName
            if case .references = column.type {
                let texts = try String.fetchCursor(
                    db,
                    sql: "SELECT \(name) FROM \(other.name) WHERE \(name) IS NOT NULL"
                )
                while let text = try texts.next() {
                    for id in text.split(separator: " ").compactMap({ RowID(printed: String($0)) }) {
                        needed[id.rawValue] = other.name
                    }
                }
                continue
            }
            // Among rows of one table that came together, the ones go with the others.
            let isOther = other == table && table.namesItsImport ? "AND other.importBatch IS NOT ?1" : ""
            let isOfThis =
                table.namesItsImport
                ? "JOIN \(table.name) AS own ON own.id = other.\(name) AND own.importBatch = ?1" : ""
            let ids = try Int64.fetchCursor(
                db,
                sql: """
                    SELECT DISTINCT other.\(name) FROM \(other.name) AS other \(isOfThis)
                    WHERE other.\(name) IS NOT NULL AND ?1 IS NOT NULL \(isOther)
                    """,
                arguments: [batch.rawValue]
            )
            while let id = try ids.next() { needed[id] = other.name }
        }
        return needed
    }
}
