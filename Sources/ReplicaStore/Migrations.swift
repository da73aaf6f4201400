import CRM
import GRDB

/// Brings a replica's file to the present format, in one transaction.
///
/// Steps are added, never changed: files of every format that was ever in use are opened by the tests. The
/// replicated tables follow from the schema, whatever the format of the file.
struct Migrations {
    let schema: Schema

    /// Does what is missing; nothing in a file of the present format.
    func migrate(db: Database) throws {
        let format = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
        guard format < Replica.format else { return }
        try db.inTransaction(.immediate) {
            if format < 1 { try db.execute(sql: ReplicaSQL.localTables) }
            if format < 2 {
                for step in Format2.steps { try db.execute(sql: step) }
            }
            try createMissingTables(db)
            try db.execute(sql: "PRAGMA user_version = \(Replica.format)")
            return .commit
        }
    }

    private func createMissingTables(_ db: Database) throws {
        for table in schema.tables where try !db.tableExists(table.name) {
            try db.execute(sql: ReplicaSQL.create(table))
        }
        try db.execute(sql: "DROP VIEW IF EXISTS nextId")
        try db.execute(sql: ReplicaSQL.nextIdentifierView(of: schema))
    }
}

/// The local tables that came with format 2, each by the concern that it serves.
enum Format2 {
    static let steps = [log, facts, refusals, stampings, receipts, imports, lives]

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
            timeMax INTEGER NOT NULL,
            body BLOB
        );
        INSERT INTO log SELECT log1.position, origin, seq, time, rows, chain, digest, hubPosition, timeMax, body
        FROM logOfFormat1 AS log1
        JOIN (SELECT position, max(time) OVER (ORDER BY position) AS timeMax FROM logOfFormat1) AS running
            ON running.position = log1.position
        ORDER BY log1.position;
        DROP TABLE logOfFormat1;
        CREATE UNIQUE INDEX logByOrigin ON log(origin, seq);
        CREATE UNIQUE INDEX logByTime ON log(origin, time);
        """
}
