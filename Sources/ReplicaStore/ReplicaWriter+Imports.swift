import CRM
import Causality
import GRDB

// Which of this node's change sets came from files, and what they replaced: so that what people have edited since is not
// overwritten by the next file, and the rows of a file can be taken back.

extension Format2 {
    static let imports = """
        CREATE TABLE importedChangeSet(
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            PRIMARY KEY (origin, seq)
        ) WITHOUT ROWID;
        """
}

/// What came with format 8.
enum Format8 {
    static let imports = """
        -- The row of importBatch that the change set belongs to; null for imports before this format.
        ALTER TABLE importedChangeSet ADD COLUMN batch INTEGER;
        CREATE INDEX importedChangeSetByBatch ON importedChangeSet(batch) WHERE batch IS NOT NULL;
        -- What fields held before a file changed them. Column 0: the row was made by the file; only of tables whose rows
        -- do not say so themselves.
        CREATE TABLE importedField(
            tableNumber INTEGER NOT NULL,
            id INTEGER NOT NULL,
            batch INTEGER NOT NULL,
            columnNumber INTEGER NOT NULL,
            before,
            PRIMARY KEY (tableNumber, id, batch, columnNumber)
        ) WITHOUT ROWID;
        CREATE INDEX importedFieldByBatch ON importedField(batch);
        -- What the file wrote where something else is stored: a JSON object of texts by field.
        CREATE TABLE importedOriginal(
            tableNumber INTEGER NOT NULL,
            id INTEGER NOT NULL,
            batch INTEGER NOT NULL,
            line INTEGER NOT NULL,
            cells TEXT NOT NULL,
            PRIMARY KEY (tableNumber, id, batch)
        ) WITHOUT ROWID;
        CREATE INDEX importedOriginalByBatch ON importedOriginal(batch, line);
        -- The rows that rows of other organisations' files have become.
        CREATE TABLE importedRow(
            source TEXT NOT NULL,
            tableNumber INTEGER NOT NULL,
            sourceID INTEGER NOT NULL,
            id INTEGER NOT NULL,
            PRIMARY KEY (source, tableNumber, sourceID)
        ) WITHOUT ROWID;
        """
}

/// What a transaction that takes rows from a file, or takes them back, has to remember.
struct ImportNotes {
    /// A field, and what it held before; column 0 for a row that was made.
    struct Field {
        let table: Int
        let id: RowID
        let column: Int
        let before: FieldValue
    }

    /// What the file wrote of a row.
    struct Original {
        let table: Int
        let id: RowID
        let line: Int
        let cells: String
    }

    /// The import that it belongs to; nil when it is none.
    var batch: RowID?
    var fields: [Field] = []
    var originals: [Original] = []
}

extension ReplicaWriter {
    /// Notes that the change set that was just appended belongs to an import, and what it has replaced.
    func note(_ notes: ImportNotes) throws {
        guard let batch = notes.batch else { return }
        try db.cachedStatement(sql: "INSERT OR IGNORE INTO importedChangeSet(origin, seq, batch) VALUES (?, ?, ?)")
            .execute(
                arguments: [node.origin.rawValue, Int64(clamping: vector[node.origin]?.seq ?? 0), batch.rawValue]
            )
        try keep(notes.originals, of: batch)
        // A field that the file has changed twice goes back to what it held before the first time.
        let statement = try db.cachedStatement(
            sql:
                "INSERT OR IGNORE INTO importedField(tableNumber, id, batch, columnNumber, before) VALUES (?, ?, ?, ?, ?)"
        )
        for field in notes.fields {
            try statement.execute(
                arguments: [
                    field.table, field.id.rawValue, batch.rawValue, field.column, field.before.databaseValue,
                ]
            )
        }
    }

    private func keep(_ originals: [ImportNotes.Original], of batch: RowID) throws {
        let statement = try db.cachedStatement(
            sql: "INSERT OR REPLACE INTO importedOriginal(tableNumber, id, batch, line, cells) VALUES (?, ?, ?, ?, ?)"
        )
        for original in originals {
            try statement.execute(
                arguments: [
                    original.table, original.id.rawValue, batch.rawValue, original.line, original.cells,
                ]
            )
        }
    }

    /// Whether a stamp is that of an import of this node, or of taking one back.
    func isImport(_ stamp: Stamp) throws -> Bool {
        try Bool.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT EXISTS (
                        SELECT 1 FROM log JOIN importedChangeSet USING (origin, seq)
                        WHERE log.origin = ? AND log.time = ?
                    )
                    """
            ),
            arguments: [stamp.origin.rawValue, Int64(bitPattern: stamp.time.packed)]
        ) ?? false
    }

    /// The stamps of an import's change sets, and of those of imports that were taken back: what bears one of them was
    /// not edited by anybody.
    func importStamps(of batch: RowID) throws -> Set<Stamp> {
        let rows = try Row.fetchCursor(
            db,
            sql: """
                SELECT log.origin, log.time FROM importedChangeSet JOIN log USING (origin, seq)
                WHERE batch = ? OR batch IN (SELECT id FROM importBatch WHERE state = 'undone')
                """,
            arguments: [batch.rawValue]
        )
        var stamps: Set<Stamp> = []
        while let row = try rows.next() {
            guard let origin = Origin(rawValue: row[0] as UInt32),
                let time = HybridTimestamp(packed: UInt64(bitPattern: row[1] as Int64))
            else { continue }
            stamps.insert(Stamp(time: time, origin: origin))
        }
        return stamps
    }
}
