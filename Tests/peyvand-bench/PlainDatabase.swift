import CRM
import Causality
import GRDB
import GRDBSQLite
import TestKit

/// The measure: the same tables and indexes in plain SQLite, written through prepared statements as well as it can be
/// done, with the same pragmas and no triggers, clocks, log or sums.
final class PlainDatabase {
    private let home = TemporaryDirectory()
    private let queue: DatabaseQueue
    private var statements: [String: PlainStatement] = [:]

    init(_ tables: [TableDescription] = [.customer, .activity]) throws {
        var configuration = Configuration()
        configuration.foreignKeysEnabled = false
        configuration.prepareDatabase { db in
            // As the node's writer has them.
            try db.execute(
                sql: """
                    PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;
                    PRAGMA secure_delete = FAST; PRAGMA cache_size = -65536;
                    """
            )
        }
        queue = try DatabaseQueue(path: home.path + "/plain.db", configuration: configuration)
        try queue.writeWithoutTransaction { db in
            try db.execute(
                sql: "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4096"
            )
            for table in tables {
                let columns = table.columns.map { column in
                    column.number == 0 ? "id INTEGER PRIMARY KEY" : "\"\(column.name)\" \(column.type.sqlType)"
                }
                try db.execute(sql: "CREATE TABLE \(table.name)(\(columns.joined(separator: ", ")))")
                for column in table.columns where column.isIndexed {
                    try db.execute(
                        sql: """
                            CREATE INDEX \(table.name)By\(column.name) ON \(table.name)("\(column.name)")
                            WHERE "\(column.name)" IS NOT NULL
                            """
                    )
                }
            }
        }
    }

    /// A statement that is prepared once.
    private func statement(_ sql: String, _ db: Database) throws -> PlainStatement {
        if let known = statements[sql] { return known }
        let made = try PlainStatement(sql, db)
        statements[sql] = made
        return made
    }

    /// Writes whole rows, in transactions of so many; `upserting` writes over those that are there.
    func insert(
        _ table: TableDescription,
        _ ids: [RowID],
        _ rows: [DataSet.Values],
        rowsEach: Int = .max,
        upserting: Bool = false
    ) throws {
        let names = table.columns.map { "\"\($0.name)\"" }
        var sql = "INSERT INTO \(table.name)(\(names.joined(separator: ", "))) VALUES ("
        sql += names.map { _ in "?" }.joined(separator: ", ") + ")"
        if upserting {
            let updates = names.dropFirst().map { "\($0) = excluded.\($0)" }
            sql += " ON CONFLICT(id) DO UPDATE SET \(updates.joined(separator: ", "))"
        }
        try inTransactions(of: rowsEach, count: rows.count, sql) { insert, number in
            insert.bind(1, ids[number].rawValue)
            for column in 1..<rows[number].count { insert.bind(column + 1, rows[number][column]) }
        }
    }

    /// Gives activities an outcome, in transactions of so many.
    func setOutcome(_ outcome: FieldValue, of ids: [RowID], rowsEach: Int) throws {
        let sql = "UPDATE activity SET outcome = ? WHERE id = ?"
        try inTransactions(of: rowsEach, count: ids.count, sql) { update, number in
            update.bind(1, outcome)
            update.bind(2, ids[number].rawValue)
        }
    }

    /// Runs one statement so many times, each transaction durable at its end.
    private func inTransactions(
        of rowsEach: Int,
        count: Int,
        _ sql: String,
        _ bind: (PlainStatement, Int) -> Void
    ) throws {
        try queue.writeWithoutTransaction { db in
            let work = try statement(sql, db)
            // There may be none.
            let each = max(1, min(rowsEach, count))
            for start in stride(from: 0, to: count, by: each) {
                try statement("BEGIN IMMEDIATE", db).run()
                for number in start..<min(start + each, count) {
                    bind(work, number)
                    try work.run()
                }
                try statement("COMMIT", db).run()
            }
        }
    }

    /// The data set, under the identifiers that a node has given.
    func load(_ data: DataSet, as ids: (customers: [RowID], activities: [RowID])) throws {
        try insert(.customer, ids.customers, data.customers)
        try insert(.activity, ids.activities, data.activities(of: ids.customers))
    }

    /// Compares the number of rows with a node's, and how much stands in each column.
    func checkSame(_ table: TableDescription, as node: Node) throws {
        let columns = table.columns.dropFirst().map { "coalesce(sum(length(\"\($0.name)\")), 0)" }
        let sql = "SELECT count(*), \(columns.joined(separator: ", ")) FROM \(table.name)"
        let here = try queue.read { try Row.fetchOne($0, sql: sql) }
        // Beside the node, as any program may read its file.
        let there = try DatabaseQueue(path: node.path).read { try Row.fetchOne($0, sql: sql) }
        guard here == there else {
            throw NotTheSame(
                description: "\(table.name) is \(there ?? [:]) in the replica, \(here ?? [:]) in plain tables."
            )
        }
    }
}

/// A prepared statement. SQLite copies the text that it is given.
private final class PlainStatement {
    private let pointer: OpaquePointer
    private let connection: OpaquePointer

    init(_ sql: String, _ db: Database) throws {
        var pointer: OpaquePointer?
        guard let connection = db.sqliteConnection,
            sqlite3_prepare_v3(connection, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &pointer, nil) == SQLITE_OK,
            let pointer
        else { throw DatabaseError(message: db.lastErrorMessage, sql: sql) }
        (self.pointer, self.connection) = (pointer, connection)
    }

    deinit { sqlite3_finalize(pointer) }

    func bind(_ index: Int, _ value: Int64) { sqlite3_bind_int64(pointer, Int32(index), value) }

    func bind(_ index: Int, _ value: FieldValue) {
        switch value {
        case .null: sqlite3_bind_null(pointer, Int32(index))
        case .integer(let number): sqlite3_bind_int64(pointer, Int32(index), number)
        case .text(let text):
            sqlite3_bind_text(pointer, Int32(index), text, Int32(text.utf8.count), Self.transient)
        case .blob(let bytes): sqlite3_bind_blob(pointer, Int32(index), bytes, Int32(bytes.count), Self.transient)
        }
    }

    /// Runs it and makes it ready to run again.
    func run() throws {
        let code = sqlite3_step(pointer)
        sqlite3_reset(pointer)
        guard code == SQLITE_DONE || code == SQLITE_ROW else {
            throw DatabaseError(message: String(cString: sqlite3_errmsg(connection)))
        }
    }

    private static let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
}
