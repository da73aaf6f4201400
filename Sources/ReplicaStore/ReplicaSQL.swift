import CRM
import Causality
import SyncProtocol

/// The SQL of the replica: local tables, and for each replicated table its rows, its graveyard, the rows as
/// they were before other programs touched them, and the triggers that notice those programs.
///
/// Written from the descriptions in `Schema`, so that a new table needs a description and a migration.
enum ReplicaSQL {
    /// The clock's columns, which every replicated table carries after its own.
    static let clockColumns = ["_time", "_origin", "_fields"]

    /// Whether a row of a graveyard is a deleted one; else it is the mark of an erased one.
    static let isKept = "_time IS NOT \(Stamp.erasure.time.packed)"

    /// What a node keeps for itself. Nothing of it is replicated.
    static let localTables = """
        CREATE TABLE localNode(
            one INTEGER PRIMARY KEY CHECK (one = 1),
            node BLOB NOT NULL,
            nodeKey BLOB NOT NULL,
            role TEXT NOT NULL,
            name TEXT NOT NULL,
            organisation BLOB,
            origin INTEGER NOT NULL,
            branchRow INTEGER,
            hubAddress TEXT,
            hubNode BLOB,
            hubName TEXT,
            hubOrigin INTEGER
        );
        -- Changes with every transaction, so it is kept small and apart.
        CREATE TABLE localState(
            one INTEGER PRIMARY KEY CHECK (one = 1),
            clock INTEGER NOT NULL,
            cursorPosition INTEGER NOT NULL,
            cursorDigest INTEGER NOT NULL
        );
        -- What the last sessions told; written at contact, not with every change set.
        CREATE TABLE localContact(
            one INTEGER PRIMARY KEY CHECK (one = 1),
            acceptedSeq INTEGER NOT NULL DEFAULT 0,
            lastContact INTEGER,
            skewMilliseconds INTEGER,
            hubPosition INTEGER,
            divergedAt INTEGER,
            provedEqualAt INTEGER
        );
        CREATE TABLE versionVector(
            origin INTEGER PRIMARY KEY,
            seq INTEGER NOT NULL,
            chain BLOB NOT NULL
        );
        CREATE TABLE log(
            position INTEGER PRIMARY KEY,
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            time INTEGER NOT NULL,
            rows INTEGER NOT NULL,
            chain BLOB NOT NULL,
            digest INTEGER NOT NULL,
            hubPosition INTEGER,
            body BLOB
        );
        CREATE UNIQUE INDEX logByOrigin ON log(origin, seq);
        CREATE UNIQUE INDEX logByTime ON log(origin, time);
        CREATE TABLE digestBucket(
            tableNumber INTEGER NOT NULL,
            bucket INTEGER NOT NULL,
            rows INTEGER NOT NULL,
            sum1 INTEGER NOT NULL,
            sum2 INTEGER NOT NULL,
            PRIMARY KEY (tableNumber, bucket)
        ) WITHOUT ROWID;
        CREATE TABLE pending(
            tableNumber INTEGER NOT NULL,
            id INTEGER NOT NULL,
            wallMilliseconds INTEGER NOT NULL,
            PRIMARY KEY (tableNumber, id)
        ) WITHOUT ROWID;
        CREATE TABLE invitation(
            token BLOB PRIMARY KEY,
            secretHash BLOB NOT NULL,
            name TEXT NOT NULL,
            createdAt INTEGER NOT NULL,
            expiresAt INTEGER NOT NULL,
            wrongTries INTEGER NOT NULL DEFAULT 0,
            usedBy BLOB
        ) WITHOUT ROWID;
        CREATE TABLE registeredNode(
            node BLOB PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            origin INTEGER NOT NULL UNIQUE,
            keyHash BLOB NOT NULL,
            branchRow INTEGER NOT NULL,
            enrolledAt INTEGER NOT NULL,
            acknowledgedPosition INTEGER NOT NULL DEFAULT 0,
            claimedSeq INTEGER NOT NULL DEFAULT 0,
            lastContact INTEGER,
            skewMilliseconds INTEGER,
            parked INTEGER NOT NULL DEFAULT 0,
            conflicts INTEGER NOT NULL DEFAULT 0,
            software TEXT,
            divergedAt INTEGER,
            provedEqualAt INTEGER,
            lastRefusal TEXT,
            refusals INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID;
        CREATE TABLE traffic(
            day INTEGER NOT NULL,
            node BLOB NOT NULL,
            sent INTEGER NOT NULL,
            received INTEGER NOT NULL,
            PRIMARY KEY (day, node)
        ) WITHOUT ROWID;
        -- How far the full-text index has followed the log: all up to a position, and of the change set after it
        -- the customers up to an id.
        CREATE TABLE searchState(
            one INTEGER PRIMARY KEY CHECK (one = 1),
            position INTEGER NOT NULL,
            customer INTEGER NOT NULL
        );
        INSERT INTO localState VALUES (1, 0, 0, 0);
        INSERT INTO localContact(one) VALUES (1);
        INSERT INTO searchState VALUES (1, 0, 0);
        CREATE VIRTUAL TABLE customerSearch USING fts5(words, prefix = '2 3');
        CREATE VIRTUAL TABLE customerSearchJoined USING fts5(joined, tokenize = 'trigram');
        """

    /// Tables and indexes of one replicated table.
    static func create(_ table: TableDescription) -> String {
        """
        CREATE TABLE \(table.name)(\(columnDefinitions(of: table, first: nil)));
        CREATE TABLE \(table.graveyard)(\(columnDefinitions(of: table, first: nil)));
        CREATE TABLE \(table.before)(\(columnDefinitions(of: table, first: "_dead INTEGER NOT NULL")));
        \(indexes(of: table.columns, table))
        """
    }

    /// The columns that a table has in a newer schema, everywhere where its rows lie.
    static func addColumns(to table: TableDescription, having names: Set<String>) -> String {
        let missing = table.columns.filter { !names.contains($0.name) }
        let added = [table.name, table.graveyard, table.before].flatMap { place in
            missing.map { "ALTER TABLE \(place) ADD COLUMN \($0.name.quotedName) \($0.type.sqlType);" }
        }
        return added.joined(separator: "\n") + "\n" + indexes(of: missing, table)
    }

    /// The triggers of one replicated table, in the place of those that another version has made.
    static func replaceTriggers(of table: TableDescription) -> String {
        let names = ["Before", "After"].flatMap { moment in
            ["Insert", "Update", "Delete"].map { table.name + moment + $0 }
        }
        return names.map { "DROP TRIGGER IF EXISTS \($0);" }.joined(separator: "\n") + triggers(of: table)
            + graveyardGuards(of: table)
    }

    /// The view that gives other programs the identifier of the next row.
    static func nextIdentifierView(of schema: Schema) -> String {
        let columns = schema.tables.map { "\(nextIdentifier(of: $0)) AS \($0.name)" }.joined(separator: ", ")
        return "CREATE VIEW nextId AS SELECT \(columns) FROM localNode WHERE localNode.origin > 0;"
    }

    /// The same of one table. The view names them all, which takes SQLite a millisecond to compile.
    static func nextIdentifierQuery(of table: TableDescription) -> String {
        "SELECT \(nextIdentifier(of: table)) FROM localNode WHERE localNode.origin > 0"
    }

    private static func nextIdentifier(of table: TableDescription) -> String {
        // Named in full: a replicated table may have a column `origin` of its own, as `branch` has.
        let bits = RowID.counterBits
        let range = "id > localNode.origin << \(bits) AND id < (localNode.origin + 1) << \(bits)"
        return """
            max((localNode.origin << \(bits)) + coalesce(
                    (SELECT value FROM localFact WHERE name = '\(LocalFact.rowCounterFloor.rawValue)'), 0),
                coalesce((SELECT max(id) FROM \(table.name) WHERE \(range)), 0),
                coalesce((SELECT max(id) FROM \(table.graveyard) WHERE \(range)), 0)) + 1
            """
    }

    private static func columnDefinitions(of table: TableDescription, first: String?) -> String {
        let own = table.columns.map { column in
            column.number == 0
                ? "id INTEGER PRIMARY KEY" : "\(column.name.quotedName) \(column.type.sqlType)"
        }
        let clock = ["_time INTEGER", "_origin INTEGER", "_fields BLOB"]
        return (own + clock + (first.map { [$0] } ?? [])).joined(separator: ", ")
    }

    /// Indexes of the few rows that name others in a list.
    static func listIndexes(of table: TableDescription) -> String {
        table.columns.filter { if case .references = $0.type { true } else { false } }.map { column in
            """
            CREATE INDEX IF NOT EXISTS \(table.name)Naming\(column.name.prefix(1).uppercased())\(column.name.dropFirst()) \
            ON \(table.name)(\(column.name.quotedName)) WHERE \(column.name.quotedName) IS NOT NULL;
            """
        }.joined(separator: "\n")
    }

    private static func indexes(of columns: [ColumnDescription], _ table: TableDescription) -> String {
        columns.filter(\.isIndexed).map { column in
            """
            CREATE INDEX \(table.name)By\(column.name.prefix(1).uppercased())\(column.name.dropFirst()) \
            ON \(table.name)(\(column.name.quotedName)) WHERE \(column.name.quotedName) IS NOT NULL;
            """
        }.joined(separator: "\n")
    }

    // MARK: Triggers

    // They fire for other programs only: the node's own connection has triggers switched off. Inside a
    // trigger the conflict clause of the outer statement replaces the inner ones, so none is relied on.
    //
    // A row is kept as it was when it is touched for the first time; what really changed is found by
    // comparing, when the node seals the change. That is also how `REPLACE` is understood, which removes a
    // row without telling its delete trigger.

    private static func triggers(of table: TableDescription) -> String {
        let name = table.name
        let columns = (table.columns.map(\.name.quotedName) + clockColumns)
        let list = columns.joined(separator: ", ")
        let old = columns.map { "OLD.\($0)" }.joined(separator: ", ")
        let clockMoved = clockColumns.map { "NEW.\($0) IS NOT OLD.\($0)" }.joined(separator: " OR ")
        let clockGiven = clockColumns.map { "NEW.\($0) IS NOT NULL" }.joined(separator: " OR ")
        let clockIsStored = clockColumns.map { "r.\($0) IS NEW.\($0)" }.joined(separator: " AND ")
        let stale =
            "\(name): this row has changed since it was read, or its clock was written; read the row again "
            + "and write only its other columns."
        let isBranch = "(SELECT role FROM localNode) IS NOT 'head-office'"
        let guardRows: String
        let guardUpdates: String
        switch table.writers {
        case .everyNode:
            (guardRows, guardUpdates) = ("", "")
        case .headOfficeOnly:
            guardRows = """
                SELECT RAISE(ABORT, '\(name): only head office writes this table; ask it to make the change.')
                WHERE \(isBranch);
                """
            guardUpdates = guardRows
        case .headOfficeMakes:
            guardRows = """
                SELECT RAISE(ABORT, '\(name): only head office makes and deletes rows of this table.')
                WHERE \(isBranch);
                """
            let open = table.columns.filter { table.branchColumns.contains(column: $0.number) }.map(\.name)
            let closed = table.columns.filter { !table.branchColumns.contains(column: $0.number) }
            let moved = closed.map { "NEW.\($0.name.quotedName) IS NOT OLD.\($0.name.quotedName)" }
            guardUpdates = """
                SELECT RAISE(ABORT, '\(name): only head office writes this column; a branch writes \
                \(open.joined(separator: ", ")).')
                WHERE \(isBranch) AND (\(moved.joined(separator: " OR ")));
                """
        }
        func note(_ row: String) -> String {
            """
            INSERT INTO \(table.before)(\(list), _dead) SELECT \(list), 0 FROM \(name) WHERE id = \(row).id
            AND NOT EXISTS (SELECT 1 FROM pending WHERE tableNumber = \(table.number) AND id = \(row).id);
            INSERT INTO \(table.before)(\(list), _dead) SELECT \(list), 1 FROM \(table.graveyard)
            WHERE id = \(row).id
            AND NOT EXISTS (SELECT 1 FROM pending WHERE tableNumber = \(table.number) AND id = \(row).id);
            UPDATE pending SET wallMilliseconds = \(now)
            WHERE tableNumber = \(table.number) AND id = \(row).id;
            INSERT INTO pending SELECT \(table.number), \(row).id, \(now)
            WHERE NOT EXISTS (SELECT 1 FROM pending WHERE tableNumber = \(table.number) AND id = \(row).id);
            """
        }
        return """
            CREATE TRIGGER \(name)BeforeInsert BEFORE INSERT ON \(name) BEGIN
            \(guardRows)
            SELECT RAISE(ABORT, '\(name): give the new row an id of this node: (SELECT \(name) FROM nextId).')
            WHERE (NEW.id IS NULL OR NEW.id >> \(RowID.counterBits) IS NOT (SELECT origin FROM localNode)
                OR NEW.id & \(RowID.counterMax) = 0 OR NEW.id <= 0)
            AND NOT EXISTS (SELECT 1 FROM \(name) WHERE id = NEW.id)
            AND NOT EXISTS (SELECT 1 FROM \(table.graveyard) WHERE id = NEW.id);
            SELECT RAISE(ABORT, '\(stale)') WHERE (\(clockGiven))
            AND NOT EXISTS (SELECT 1 FROM \(name) r WHERE r.id = NEW.id AND \(clockIsStored));
            \(note("NEW"))
            END;
            CREATE TRIGGER \(name)AfterInsert AFTER INSERT ON \(name) BEGIN
            \(typeGuards(of: table))
            DELETE FROM \(table.graveyard) WHERE id = NEW.id;
            END;
            CREATE TRIGGER \(name)BeforeUpdate BEFORE UPDATE ON \(name) BEGIN
            \(guardUpdates)
            SELECT RAISE(ABORT, '\(name): the id of a row never changes; delete the row and insert another.')
            WHERE NEW.id IS NOT OLD.id;
            SELECT RAISE(ABORT, '\(stale)') WHERE \(clockMoved);
            \(note("OLD"))
            END;
            CREATE TRIGGER \(name)AfterUpdate AFTER UPDATE ON \(name) BEGIN
            \(typeGuards(of: table))
            END;
            CREATE TRIGGER \(name)BeforeDelete BEFORE DELETE ON \(name) BEGIN
            \(guardRows)
            \(note("OLD"))
            END;
            CREATE TRIGGER \(name)AfterDelete AFTER DELETE ON \(name) BEGIN
            DELETE FROM \(table.graveyard) WHERE id = OLD.id;
            INSERT INTO \(table.graveyard)(\(list)) VALUES (\(old));
            END;
            """
    }

    // MARK: Guards

    // Nothing notices what another program does to the node's own tables, so it may do nothing there. Like all
    // triggers they do not fire for the node.

    /// Guards of the tables that only the node writes, in the place of those that another version has made.
    static func replaceGuards(of tables: [String]) -> String {
        tables.map { table in
            // The triggers of the replicated tables note here what they see.
            let actions = table == "pending" ? ["DELETE"] : ["INSERT", "UPDATE", "DELETE"]
            return actions.map { guardTrigger(on: table, $0, unless: nil) }.joined(separator: "\n")
        }.joined(separator: "\n")
    }

    /// The graveyard and the rows as they were change only through the triggers of the table.
    private static func graveyardGuards(of table: TableDescription) -> String {
        func noted(_ row: String) -> String {
            "EXISTS (SELECT 1 FROM pending WHERE tableNumber = \(table.number) AND id = \(row).id)"
        }
        return [
            guardTrigger(on: table.graveyard, "INSERT", unless: noted("NEW")),
            guardTrigger(on: table.graveyard, "UPDATE", unless: nil),
            guardTrigger(on: table.graveyard, "DELETE", unless: noted("OLD")),
            guardTrigger(on: table.before, "UPDATE", unless: nil),
            guardTrigger(on: table.before, "DELETE", unless: nil),
        ].joined(separator: "\n")
    }

    private static func guardTrigger(on table: String, _ action: String, unless condition: String?) -> String {
        let name = "\(table)Guard\(action.prefix(1))\(action.dropFirst().lowercased())"
        return """
            DROP TRIGGER IF EXISTS \(name);
            CREATE TRIGGER \(name) BEFORE \(action) ON \(table) BEGIN
            SELECT RAISE(ABORT, '\(table): only the node itself writes this table. Write the tables that hold \
            customers and activities; it takes up what changes there.')\(condition.map { " WHERE NOT \($0)" } ?? "");
            END;
            """
    }

    /// Refuses values that SQLite would store but that a change set cannot carry.
    private static func typeGuards(of table: TableDescription) -> String {
        let own = table.columns.dropFirst()
        func guarding(_ columns: [ColumnDescription], _ what: String, _ wrong: (String) -> String) -> String {
            if columns.isEmpty { return "" }
            let names = columns.map(\.name).joined(separator: ", ")
            let conditions = columns.map { wrong("NEW.\($0.name.quotedName)") }.joined(separator: " OR ")
            return "SELECT RAISE(ABORT, '\(table.name): \(what): \(names).') WHERE \(conditions);"
        }
        return [
            guarding(own.filter(\.type.isInteger), "these columns hold whole numbers") {
                "typeof(\($0)) NOT IN ('integer', 'null')"
            },
            guarding(
                own.filter { $0.type.sqlType == "TEXT" },
                "these columns hold text of at most \(ChangeSet.textBytesMax) bytes"
            ) {
                "typeof(\($0)) NOT IN ('text', 'null') OR length(CAST(\($0) AS BLOB)) > \(ChangeSet.textBytesMax)"
            },
            guarding(
                own.filter { $0.type == .bytes },
                "these columns hold bytes, at most \(ChangeSet.blobBytesMax)"
            ) {
                "typeof(\($0)) NOT IN ('blob', 'null') OR length(\($0)) > \(ChangeSet.blobBytesMax)"
            },
        ].joined(separator: "\n")
    }

    /// The wall clock of the machine, for programs that do not have ours.
    private static let now = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
}

extension TableDescription {
    /// Where the deleted rows of this table lie.
    var graveyard: String { name + "Graveyard" }
    /// Where rows lie as they were before another program touched them.
    var before: String { name + "Before" }
    /// The table and clock columns, as SQL, in the order of their numbers.
    var columnList: String {
        (columns.map(\.name.quotedName) + ReplicaSQL.clockColumns).joined(separator: ", ")
    }
}

extension String {
    /// The name as SQL understands it even if it is a keyword.
    var quotedName: String { "\"\(self)\"" }
}
