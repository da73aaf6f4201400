import CRM
import Causality
import GRDB
import GRDBSQLite

/// A connection that writes as well as it can be done by hand: statements that are prepared once, texts that SQLite reads
/// where they lie, transactions that are durable at their end.
///
/// The plain database is written through it, and a node's file as another program writes it, with its triggers.
final class PreparedWriter {
    private let queue: DatabaseQueue
    private var statements: [String: PreparedStatement] = [:]

    /// - Parameter path: A database; made if there is none.
    init(_ path: String) throws {
        var configuration = Configuration()
        configuration.foreignKeysEnabled = false
        configuration.busyMode = .timeout(10)
        configuration.prepareDatabase { db in
            // As the node's writer has them.
            try db.execute(
                sql: """
                    PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;
                    PRAGMA secure_delete = FAST; PRAGMA cache_size = -65536;
                    """
            )
        }
        queue = try DatabaseQueue(path: path, configuration: configuration)
        try execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4096")
    }

    func execute(_ sql: String) throws { try queue.writeWithoutTransaction { try $0.execute(sql: sql) } }

    func read<Result>(_ body: (Database) throws -> Result) throws -> Result { try queue.writeWithoutTransaction(body) }

    /// Copies the write-ahead log into the file and begins it anew, so that no round pays for the one before.
    func checkpoint() throws { try execute("PRAGMA wal_checkpoint(TRUNCATE)") }

    /// Writes whole rows, in transactions of so many.
    ///
    /// - Parameters:
    ///   - ids: Nil for the identifiers that a node's file gives to other programs.
    ///   - upserting: Writes over rows that are there.
    func insert(
        _ table: TableDescription,
        _ ids: [RowID]?,
        _ rows: [DataSet.Values],
        rowsEach: Int = .max,
        upserting: Bool = false
    ) throws {
        let names = table.columns.map { "\"\($0.name)\"" }
        let places = ids == nil ? ["(SELECT \(table.name) FROM nextId)"] : ["?1"]
        let values = places + (1..<names.count).map { "?\($0 + 1)" }
        var sql = "INSERT INTO \(table.name)(\(names.joined(separator: ", "))) "
        sql += "VALUES (\(values.joined(separator: ", ")))"
        if upserting {
            let updates = names.dropFirst().map { "\($0) = excluded.\($0)" }
            sql += " ON CONFLICT(id) DO UPDATE SET \(updates.joined(separator: ", "))"
        }
        try inTransactions(of: rowsEach, count: rows.count, sql) { insert, number in
            if let ids { insert.bind(1, ids[number].rawValue) }
            try insert.run(binding: rows[number], from: 1)
        }
    }

    /// Gives activities an outcome, in transactions of so many.
    func setOutcome(_ outcome: FieldValue, of ids: [RowID], rowsEach: Int) throws {
        let values = [outcome]
        try inTransactions(of: rowsEach, count: ids.count, "UPDATE activity SET outcome = ?1 WHERE id = ?2") {
            $0.bind(2, ids[$1].rawValue)
            try $0.run(binding: values, from: 0)
        }
    }

    /// Runs one statement so many times, each transaction durable at its end.
    private func inTransactions(
        of rowsEach: Int,
        count: Int,
        _ sql: String,
        _ run: (PreparedStatement, Int) throws -> Void
    ) throws {
        try queue.writeWithoutTransaction { db in
            let begin = try statement("BEGIN IMMEDIATE", db)
            let commit = try statement("COMMIT", db)
            let work = try statement(sql, db)
            // There may be none.
            let each = max(1, min(rowsEach, count))
            for start in stride(from: 0, to: count, by: each) {
                try begin.run()
                for number in start..<min(start + each, count) { try run(work, number) }
                try commit.run()
            }
        }
    }

    private func statement(_ sql: String, _ db: Database) throws -> PreparedStatement {
        if let known = statements[sql] { return known }
        let made = try PreparedStatement(sql, db)
        statements[sql] = made
        return made
    }
}

/// A statement that is prepared once.
private final class PreparedStatement {
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

    func bind(_ index: Int32, _ value: Int64) { sqlite3_bind_int64(pointer, index, value) }

    /// Binds the values from a place on, each to the parameter after its place, and runs it.
    ///
    /// Texts and blobs are not copied: each is lent by the call that looks at it, so the calls are nested, and the
    /// innermost one runs the statement.
    func run(binding values: [FieldValue], from first: Int) throws {
        for place in first..<values.count {
            let index = Int32(place + 1)
            switch values[place] {
            case .null:
                sqlite3_bind_null(pointer, index)
            case .integer(let number):
                sqlite3_bind_int64(pointer, index, number)
            case .text(var text):
                return try text.withUTF8 { utf8 in
                    try utf8.withMemoryRebound(to: CChar.self) { bytes in
                        _ = sqlite3_bind_text(pointer, index, bytes.baseAddress, Int32(bytes.count), Self.lent)
                        try run(binding: values, from: place + 1)
                    }
                }
            case .blob(let blob):
                return try blob.withUnsafeBytes { bytes in
                    _ = sqlite3_bind_blob(pointer, index, bytes.baseAddress, Int32(bytes.count), Self.lent)
                    try run(binding: values, from: place + 1)
                }
            }
        }
        try run()
    }

    /// Runs it and makes it ready to run again.
    func run() throws {
        let code = sqlite3_step(pointer)
        sqlite3_reset(pointer)
        guard code == SQLITE_DONE || code == SQLITE_ROW else {
            throw DatabaseError(message: String(cString: sqlite3_errmsg(connection)))
        }
    }

    /// SQLITE_STATIC: the bytes stay where they are until the statement has run.
    private static let lent = sqlite3_destructor_type?.none
}
