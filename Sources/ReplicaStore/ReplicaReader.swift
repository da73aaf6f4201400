import CRM
import Causality
import Foundation
import GRDB

/// One row, as the replica holds it.
package struct StoredRow: Hashable, Sendable {
    package let table: TableDescription
    package let id: RowID
    /// By column number; `values[0]` is the identifier.
    package let values: [FieldValue]
    /// The newest stamp: who wrote the row last.
    package let stamp: Stamp

    /// The value of a column by name; null for a column that the table does not have.
    package subscript(_ name: String) -> FieldValue {
        table.column(named: name).map { values[$0.number] } ?? .null
    }
}

/// Reads rows out of one consistent state. Valid only inside the closure that it is given to.
package struct ReplicaReader {
    let db: Database
    package let schema: Schema

    init(_ db: Database, schema: Schema) {
        self.db = db
        self.schema = schema
    }

    /// One live row; nil when there is none.
    package func row(_ table: TableDescription, id: RowID) throws -> StoredRow? {
        try rows(table, from: table.name, "WHERE id = ?", [id.rawValue]).first
    }

    /// One deleted row; nil when there is none.
    package func deletedRow(_ table: TableDescription, id: RowID) throws -> StoredRow? {
        try rows(table, from: table.graveyard, "WHERE id = ? AND \(ReplicaSQL.isKept)", [id.rawValue]).first
    }

    /// Whether a row is erased.
    package func isErased(_ table: TableDescription, id: RowID) throws -> Bool {
        try Bool.fetchOne(
            db.cachedStatement(sql: "SELECT NOT (\(ReplicaSQL.isKept)) FROM \(table.graveyard) WHERE id = ?"),
            arguments: [id.rawValue]
        ) ?? false
    }

    /// Why a row that does not live here is not to be had.
    package func absence(of id: RowID, in table: TableDescription) throws -> StoreFailure {
        if try isErased(table, id: id) { return .erasedRow(table: table.name, id: id) }
        return try deletedRow(table, id: id) == nil
            ? .unknownRow(table: table.name, id: id) : .deletedRow(table: table.name, id: id)
    }

    /// The live rows whose column has a value, by identifier.
    package func rows(
        _ table: TableDescription,
        where column: String,
        is value: FieldValue,
        limit: Int = .max
    ) throws -> [StoredRow] {
        try rows(
            table,
            from: table.name,
            "WHERE \(column.quotedName) = ? ORDER BY id LIMIT ?",
            [value.databaseValue, limit]
        )
    }

    /// The live rows whose column, a list of identifiers, names a row, by identifier.
    ///
    /// Cost: looks at all rows that name any, in the index of the column.
    package func rows(_ table: TableDescription, where column: String, names id: RowID) throws -> [StoredRow] {
        let name = column.quotedName
        return try rows(
            table,
            from: table.name,
            "WHERE \(name) IS NOT NULL AND instr(' ' || \(name) || ' ', ?) > 0 ORDER BY id",
            [" \(id) "]
        )
    }

    /// Live rows after an identifier, or deleted ones, by identifier.
    package func rows(
        _ table: TableDescription,
        after id: RowID?,
        limit: Int,
        deleted: Bool = false
    ) throws -> [StoredRow] {
        try rows(
            table,
            from: deleted ? table.graveyard : table.name,
            "WHERE id > ?\(deleted ? " AND " + ReplicaSQL.isKept : "") ORDER BY id LIMIT ?",
            [id?.rawValue ?? 0, limit]
        )
    }

    /// How many live rows, or deleted ones, a table has.
    package func count(_ table: TableDescription, deleted: Bool = false) throws -> Int {
        try Int.fetchOne(
            db,
            sql: deleted
                ? "SELECT count(*) FROM \(table.graveyard) WHERE \(ReplicaSQL.isKept)"
                : "SELECT count(*) FROM \(table.name)"
        ) ?? 0
    }

    /// The sum of a column over all live rows.
    package func sum(_ table: TableDescription, of column: String) throws -> Int64 {
        try Int64.fetchOne(db, sql: "SELECT coalesce(sum(\(column.quotedName)), 0) FROM \(table.name)") ?? 0
    }

    /// Visits every live row of a table, by identifier, without keeping them.
    package func forEachRow(_ table: TableDescription, _ body: (StoredRow) throws -> Void) throws {
        let cursor = try Row.fetchCursor(db, sql: "SELECT \(table.columnList) FROM \(table.name) ORDER BY id")
        while let row = try cursor.next() {
            if let stored = StoredRow(row, table) { try body(stored) }
        }
    }

    private func rows(
        _ table: TableDescription,
        from place: String,
        _ condition: String,
        _ arguments: StatementArguments
    ) throws -> [StoredRow] {
        try Row.fetchAll(
            db.cachedStatement(sql: "SELECT \(table.columnList) FROM \(place) \(condition)"),
            arguments: arguments
        ).compactMap { StoredRow($0, table) }
    }
}

extension StoredRow {
    fileprivate init?(_ row: Row, _ table: TableDescription) {
        guard let id = RowID(rawValue: row[0]) else { return nil }
        let count = table.columns.count
        self.init(
            table: table,
            id: id,
            values: (0..<count).map { FieldValue(row[$0] as DatabaseValue) },
            stamp: Stamp(
                time: HybridTimestamp(packed: UInt64(bitPattern: (row[count] as Int64?) ?? 0)) ?? .zero,
                origin: Origin(rawValue: (row[count + 1] as UInt32?) ?? 0) ?? .none
            )
        )
    }
}

extension FieldValue {
    init(_ value: DatabaseValue) {
        switch value.storage {
        case .null: self = .null
        case .int64(let number): self = .integer(number)
        case .double(let number): self = .text(String(number))
        case .string(let text): self = .text(text)
        case .blob(let data): self = .blob([UInt8](data))
        }
    }

    var databaseValue: DatabaseValue {
        switch self {
        case .null: .null
        case .integer(let number): number.databaseValue
        case .text(let text): text.databaseValue
        case .blob(let bytes): Data(bytes).databaseValue
        }
    }
}
