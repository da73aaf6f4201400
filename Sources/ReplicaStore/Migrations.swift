import CRM
import Causality
import GRDB

/// Brings a replica's file to the present format and schema, in one transaction.
///
/// Steps are added, never changed: files of every format that was ever in use are opened by the tests. The
/// replicated tables follow from the schema, whatever the format of the file.
struct Migrations {
    let schema: Schema

    /// Refuses a file that a newer program has written.
    ///
    /// - Throws: ``StoreFailure/newerReplica(file:software:)``, ``StoreFailure/newerSchema(file:software:)``.
    func check(_ db: Database) throws {
        let file = try Self.state(of: db)
        guard file.format <= Replica.format else {
            throw StoreFailure.newerReplica(file: file.format, software: Replica.format)
        }
        guard file.schema <= schema.version else {
            throw StoreFailure.newerSchema(file: file.schema, software: schema.version)
        }
    }

    /// Does what is missing; nothing in a file of the present format and schema.
    func migrate(db: Database) throws {
        let file = try Self.state(of: db)
        guard file.format < Replica.format || file.schema < schema.version else { return }
        try db.inTransaction(.immediate) {
            if file.format < 1 { try db.execute(sql: ReplicaSQL.localTables) }
            if file.format < 2 {
                for step in Format2.steps { try db.execute(sql: step) }
            }
            if file.format < 3 { try Format3.bring(db) }
            if file.format < 4 { try db.execute(sql: Format4.heldSeq) }
            if file.format < 5 { try db.execute(sql: Format5.certificates) }
            if file.format < 6 { try db.execute(sql: Format6.auditAndPolicy) }
            if file.format < 7 { try db.execute(sql: Format7.matching) }
            if file.format < 8 { try db.execute(sql: Format8.imports) }
            if isPlanted(.twoStepMigration) {
                try db.execute(sql: "PRAGMA user_version = \(Replica.format)")
                try db.commit()
                try db.beginTransaction(.immediate)
            }
            try bringTables(db)
            try LocalFact.write(.schemaVersion, Int64(schema.version), db)
            try db.execute(sql: "PRAGMA user_version = \(Replica.format)")
            return .commit
        }
    }

    /// What a file was last written with. Before format 2 there was one schema.
    private static func state(of db: Database) throws -> (format: Int, schema: Int) {
        let format = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
        guard format >= 2 else { return (format, format) }
        return (format, try LocalFact.read(.schemaVersion, db).map { Int(clamping: $0) } ?? 1)
    }

    /// Makes the tables and columns that the schema has and the file has not, and what follows from them.
    private func bringTables(_ db: Database) throws {
        for table in schema.tables {
            if try db.tableExists(table.name) {
                let columns = Set(try db.columns(in: table.name).map(\.name))
                try db.execute(sql: ReplicaSQL.addColumns(to: table, having: columns))
            } else {
                try db.execute(sql: ReplicaSQL.create(table))
            }
            try db.execute(sql: ReplicaSQL.listIndexes(of: table))
            try db.execute(sql: ReplicaSQL.replaceTriggers(of: table))
        }
        try db.execute(sql: "DROP VIEW IF EXISTS nextId")
        try db.execute(sql: ReplicaSQL.nextIdentifierView(of: schema))
        try db.execute(sql: try ReplicaSQL.replaceGuards(of: localTables(db)))
    }

    /// The tables that only the node writes. Not the full-text indexes: SQLite guards their parts itself.
    private func localTables(_ db: Database) throws -> [String] {
        let replicated = schema.tables.flatMap { [$0.name, $0.graveyard, $0.before] }
        return try String.fetchAll(
            db,
            sql: """
                SELECT name FROM pragma_table_list
                WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name
                """
        ).filter { !replicated.contains($0) }
    }
}

/// What came with format 3: the sums of rows lie in groups, which many buckets share.
enum Format3 {
    static func bring(_ db: Database) throws {
        try db.execute(sql: "CREATE TABLE digestGroup(id INTEGER PRIMARY KEY, sums BLOB NOT NULL)")
        try DigestGroup.takeOver(db)
        try db.execute(sql: "DROP TABLE digestBucket")
    }
}

/// What came with format 4: the version vector says nothing of this node's own change sets since then, which are known
/// from the log. The view says for each origin what is held.
enum Format4 {
    static let heldSeq = """
        CREATE VIEW heldSeq AS
        SELECT origin, seq FROM versionVector WHERE origin <> (SELECT origin FROM localNode)
        UNION ALL
        SELECT origin, seq FROM (
            SELECT origin, max(
                coalesce((SELECT seq FROM versionVector WHERE versionVector.origin = localNode.origin), 0),
                coalesce((SELECT max(seq) FROM log WHERE log.origin = localNode.origin), 0)
            ) AS seq FROM localNode
        ) WHERE seq > 0
        """
}

/// The local tables that came with format 2, each by the concern that it serves.
enum Format2 {
    static let steps = [
        log,
        facts,
        refusals,
        stampings,
        receipts,
        imports,
        refill,
        ConflictJudge.tables,
        parking,
        erasures,
        equality,
        lives,
        forgetting,
    ]

    /// Peers that head office has turned away, by node (empty for strangers) and code.
    private static let refusals = """
        CREATE TABLE refusal(
            node BLOB NOT NULL,
            code INTEGER NOT NULL,
            count INTEGER NOT NULL,
            lastAt INTEGER NOT NULL,
            sentence TEXT NOT NULL,
            PRIMARY KEY (node, code)
        ) WITHOUT ROWID;
        """

    /// Small things a node remembers of itself.
    private static let facts = """
        CREATE TABLE localFact(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
        CREATE TABLE organisationKey(
            one INTEGER PRIMARY KEY CHECK (one = 1),
            publicKey BLOB NOT NULL,
            privateKey BLOB
        );
        """

    /// When own change sets were written that have not left this node, until a session has corrected their times.
    private static let stampings = """
        CREATE TABLE stamping(
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            floor INTEGER NOT NULL,
            boot INTEGER NOT NULL,
            sinceBootMilliseconds INTEGER NOT NULL,
            wallMilliseconds INTEGER NOT NULL,
            isMeasured INTEGER NOT NULL,
            PRIMARY KEY (origin, seq)
        ) WITHOUT ROWID;
        """

    /// The greatest time of a log up to each position: what a context that names the position has seen. The body is
    /// the last column, so that a large one can be written in pieces: keep it the last.
    private static let log = """
        ALTER TABLE log RENAME TO logOfFormat1;
        DROP INDEX logByOrigin;
        DROP INDEX logByTime;
        CREATE TABLE log(
            position INTEGER PRIMARY KEY,
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            time INTEGER NOT NULL,
            rows INTEGER NOT NULL,
            chain BLOB NOT NULL,
            digest INTEGER NOT NULL,
            hubPosition INTEGER,
            -- At a branch: the digest of the hub's log up to hubPosition.
            hubDigest INTEGER,
            timeMax INTEGER NOT NULL,
            -- Last, so that a large one can be written in pieces.
            body BLOB
        );
        INSERT INTO log SELECT log1.position, origin, seq, time, rows, chain, digest, hubPosition, NULL, timeMax, body
        FROM logOfFormat1 AS log1
        JOIN (SELECT position, max(time) OVER (ORDER BY position) AS timeMax FROM logOfFormat1) AS running
            ON running.position = log1.position
        ORDER BY log1.position;
        DROP TABLE logOfFormat1;
        CREATE UNIQUE INDEX logByOrigin ON log(origin, seq);
        CREATE UNIQUE INDEX logByTime ON log(origin, time);
        """

    /// What of the log is not in the tables yet. `parkedRow`: rows that could not be applied. `unknownPart`: tables
    /// and columns of a newer schema, with how many columns of the table were known when the change set was taken.
    /// `neededBody`: the change sets whose bodies are needed for it.
    private static let parking = """
        CREATE TABLE parkedRow(
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            tableNumber INTEGER NOT NULL,
            id INTEGER NOT NULL,
            reason TEXT NOT NULL,
            sentence TEXT NOT NULL,
            parkedAt INTEGER NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            UNIQUE (origin, seq, tableNumber, id)
        );
        CREATE TABLE droppedRow(
            number INTEGER PRIMARY KEY,
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            tableNumber INTEGER NOT NULL,
            id INTEGER NOT NULL,
            reason TEXT NOT NULL,
            droppedAt INTEGER NOT NULL
        );
        CREATE TABLE unknownPart(
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            tableNumber INTEGER NOT NULL,
            columnsKnown INTEGER NOT NULL,
            PRIMARY KEY (origin, seq, tableNumber)
        ) WITHOUT ROWID;
        CREATE VIEW neededBody AS SELECT origin, seq FROM parkedRow UNION SELECT origin, seq FROM unknownPart;
        """
}
