import CRM
import Causality
import GRDB

/// What a file has changed in one row.
package struct FileUpdate: Hashable, Sendable {
    /// One field that the file has changed.
    package struct Change: Hashable, Sendable {
        package let column: String
        package let before: FieldValue
    }

    package let isChanged: Bool
    package let changes: [Change]
    /// Fields that the file would have changed, had nobody edited them since.
    package let kept: [String]
}

// Rows that come out of files.

extension LocalTransaction {
    /// The number of a row's first column, which stands for the row itself among the fields of an import.
    static let rowColumn = 0

    /// Notes that what this transaction writes belongs to an import.
    package func markAsImport(_ batch: RowID) { importNotes.batch = batch }

    /// Makes a row out of a file, to be taken back with the import.
    @discardableResult
    package func insertFromFile(_ tableName: String, _ values: [String: FieldValue]) throws -> RowID {
        let id = try insert(tableName, values)
        guard let table = schema.table(named: tableName), !table.namesItsImport else { return id }
        importNotes.fields.append(.init(table: table.number, id: id, column: Self.rowColumn, before: .null))
        return id
    }

    /// Writes what a file says of a row that is here, but no field that was edited since.
    ///
    /// A field may be written as long as its present value came from a file: its stamp is the one of the row's birth,
    /// external key included, or that of another import of this node. So the same file again changes nothing, and a
    /// new one changes what it is newer in, except where somebody here knew better.
    ///
    /// - Parameter exportedAt: When the row was written to the file, in milliseconds since 1970-01-01 UTC, if the file
    ///   says so: whoever changed it there has seen what was written until then, and may replace it.
    package func updateFromFile(
        _ tableName: String,
        id: RowID,
        _ values: [String: FieldValue],
        exportedAt: UInt64? = nil
    ) throws -> FileUpdate {
        guard let table = schema.table(named: tableName) else { throw StoreFailure.unknownTable(tableName) }
        let key = table.column(named: "externalKey")?.number
        let edit = try update(tableName, id: id, values) { column, clock in
            let stamp = clock.stamp(ofColumn: column)
            let birth = clock.stamp(ofColumn: createdAtColumn)
            if stamp == .zero || stamp.origin == writer.origin && stamp.time == time { return true }
            if let exportedAt, stamp.time.milliseconds < exportedAt { return true }
            if stamp == birth, key.map({ clock.stamp(ofColumn: $0) == birth }) ?? true { return true }
            return try writer.isImport(stamp)
        }
        importNotes.fields += edit.changed.map {
            .init(table: table.number, id: id, column: $0.column, before: $0.before)
        }
        return FileUpdate(
            isChanged: edit.isChanged,
            changes: edit.changed.map { .init(column: table.columns[$0.column].name, before: $0.before) },
            kept: edit.kept.map { table.columns[$0].name }
        )
    }

    /// Whether a deleted row was deleted by taking an import back, and by nobody else: the file may bring it again.
    package func wasTakenBack(_ table: TableDescription, id: RowID) throws -> Bool {
        guard let row = try reader.deletedRow(table, id: id) else { return false }
        return try writer.isImport(row.stamp)
    }

    /// Keeps what the file wrote of a row where something else is stored.
    ///
    /// - Parameter cells: A JSON object of texts by field.
    package func keepOriginal(_ table: TableDescription, id: RowID, line: Int, cells: String) {
        importNotes.originals.append(.init(table: table.number, id: id, line: line, cells: cells))
    }

    // MARK: Rows of other organisations

    /// The row that a row of another organisation's file has become here; nil when it was never taken.
    package func importedRow(_ table: TableDescription, source: String, id: RowID) throws -> RowID? {
        try Int64.fetchOne(
            writer.db.cachedStatement(
                sql: "SELECT id FROM importedRow WHERE source = ? AND tableNumber = ? AND sourceID = ?"
            ),
            arguments: [source, table.number, id.rawValue]
        ).flatMap(RowID.init(rawValue:))
    }

    /// Notes which row a row of another organisation's file has become.
    package func noteImported(_ table: TableDescription, source: String, id: RowID, as row: RowID) throws {
        try writer.db.cachedStatement(sql: "INSERT OR REPLACE INTO importedRow VALUES (?, ?, ?, ?)")
            .execute(arguments: [source, table.number, id.rawValue, row.rawValue])
    }
}

extension TableDescription {
    /// Whether rows that a file has made say from which.
    package var namesItsImport: Bool { column(named: "importBatch") != nil }
}

/// What a file wrote of a row.
package struct ImportedOriginal: Hashable, Sendable {
    package let batch: RowID
    package let table: String
    package let id: RowID
    /// In the file.
    package let line: Int
    /// A JSON object of texts by field.
    package let cells: String
}

extension ReplicaReader {
    /// What the file of an import wrote where something else is stored, by line.
    package func importedOriginals(of batch: RowID, limit: Int) throws -> [ImportedOriginal] {
        try originals("WHERE batch = ? ORDER BY line LIMIT ?", [batch.rawValue, limit])
    }

    /// What files wrote of a row where something else is stored.
    package func importedOriginals(of id: RowID, in table: TableDescription) throws -> [ImportedOriginal] {
        try originals("WHERE tableNumber = ? AND id = ? ORDER BY batch", [table.number, id.rawValue])
    }

    private func originals(_ condition: String, _ arguments: StatementArguments) throws -> [ImportedOriginal] {
        try Row.fetchAll(
            db.cachedStatement(sql: "SELECT batch, tableNumber, id, line, cells FROM importedOriginal \(condition)"),
            arguments: arguments
        ).compactMap { row in
            guard let batch = RowID(rawValue: row[0]), let id = RowID(rawValue: row[2]) else { return nil }
            return ImportedOriginal(
                batch: batch,
                table: schema.table(number: row[1])?.name ?? "",
                id: id,
                line: row[3],
                cells: row[4]
            )
        }
    }
}
