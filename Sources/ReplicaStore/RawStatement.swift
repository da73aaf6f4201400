import GRDB
import GRDBSQLite
import SyncProtocol

/// A prepared statement whose values are bound where they lie.
///
/// The write path prepares each statement once and binds views of decoded bytes; GRDB's own statement
/// arguments cost 2.5 to 3.3 times as much. Belongs to the writer's queue.
final class RawStatement {
    private let pointer: OpaquePointer
    private let connection: OpaquePointer

    /// - Throws: `DatabaseError` when SQLite does not understand `sql`.
    init(_ sql: String, in db: Database) throws {
        guard let connection = db.sqliteConnection else {
            throw DatabaseError(resultCode: .SQLITE_MISUSE, message: "The connection is closed", sql: sql)
        }
        var pointer: OpaquePointer?
        let code = sqlite3_prepare_v3(connection, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &pointer, nil)
        guard code == SQLITE_OK, let pointer else {
            throw DatabaseError(
                resultCode: ResultCode(rawValue: code),
                message: String(cString: sqlite3_errmsg(connection)),
                sql: sql
            )
        }
        self.pointer = pointer
        self.connection = connection
    }

    deinit { sqlite3_finalize(pointer) }

    // MARK: Binding, from 1

    func bind(_ index: Int, _ value: Int64) { sqlite3_bind_int64(pointer, Int32(index), value) }

    func bind(_ index: Int, _ value: UInt64) { bind(index, Int64(bitPattern: value)) }

    func bindNull(_ index: Int) { sqlite3_bind_null(pointer, Int32(index)) }

    /// Binds bytes that stay where they are until ``reset()``.
    func bind(_ index: Int, staticBlob bytes: UnsafeRawBufferPointer) {
        // A null address would bind NULL, not an empty blob.
        if bytes.isEmpty {
            sqlite3_bind_zeroblob(pointer, Int32(index), 0)
        } else {
            sqlite3_bind_blob(pointer, Int32(index), bytes.baseAddress, Int32(bytes.count), nil)
        }
    }

    /// Binds bytes that SQLite copies.
    func bind(_ index: Int, blob bytes: [UInt8]?) {
        guard let bytes else { return bindNull(index) }
        if bytes.isEmpty {
            sqlite3_bind_zeroblob(pointer, Int32(index), 0)
        } else {
            sqlite3_bind_blob(pointer, Int32(index), bytes, Int32(bytes.count), sqliteTransient)
        }
    }

    /// Binds so many zero bytes, to be written over in pieces. Costs no memory if the column is the table's last.
    func bind(_ index: Int, zeroBytes count: Int) { sqlite3_bind_zeroblob(pointer, Int32(index), Int32(count)) }

    func bind(_ index: Int, text: String) {
        sqlite3_bind_text(pointer, Int32(index), text, Int32(text.utf8.count), sqliteTransient)
    }

    /// Binds a view that stays where it is until ``reset()``.
    func bind(_ index: Int, _ field: FieldView) {
        switch field {
        case .null:
            sqlite3_bind_null(pointer, Int32(index))
        case .integer(let value):
            sqlite3_bind_int64(pointer, Int32(index), value)
        case .text(let bytes):
            let start = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
            if let start, !bytes.isEmpty {
                sqlite3_bind_text(pointer, Int32(index), start, Int32(bytes.count), nil)
            } else {
                sqlite3_bind_text(pointer, Int32(index), "", 0, sqliteTransient)
            }
        case .blob(let bytes):
            bind(index, staticBlob: bytes)
        }
    }

    // MARK: Running

    /// Runs to the next row; false when there is none. The statement must be reset afterwards.
    func step() throws -> Bool {
        let code = sqlite3_step(pointer)
        if code == SQLITE_ROW { return true }
        if code == SQLITE_DONE { return false }
        defer { reset() }
        throw DatabaseError(
            resultCode: ResultCode(rawValue: sqlite3_extended_errcode(connection)),
            message: String(cString: sqlite3_errmsg(connection)),
            sql: String(cString: sqlite3_sql(pointer))
        )
    }

    /// Makes the statement ready for the next values, and lets go of the last ones.
    func reset() {
        sqlite3_reset(pointer)
        sqlite3_clear_bindings(pointer)
    }

    /// Runs a statement that returns no rows, and resets it.
    func run() throws {
        defer { reset() }
        _ = try step()
    }

    /// How many rows the last insert, update or delete of the connection touched.
    var changedRows: Int { Int(sqlite3_changes(connection)) }

    // MARK: Reading the present row, columns from 0. Views are valid until the next step or reset.

    func integer(_ column: Int) -> Int64 { sqlite3_column_int64(pointer, Int32(column)) }

    func isNull(_ column: Int) -> Bool { sqlite3_column_type(pointer, Int32(column)) == SQLITE_NULL }

    func blob(_ column: Int) -> UnsafeRawBufferPointer? {
        guard !isNull(column) else { return nil }
        let start = sqlite3_column_blob(pointer, Int32(column))
        return UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(pointer, Int32(column))))
    }

    func field(_ column: Int) -> FieldView {
        switch sqlite3_column_type(pointer, Int32(column)) {
        case SQLITE_INTEGER:
            return .integer(integer(column))
        case SQLITE_NULL:
            return .null
        case SQLITE_BLOB:
            return .blob(blob(column) ?? UnsafeRawBufferPointer(start: nil, count: 0))
        default:
            // A float, which no column of ours holds, is shown as the text SQLite makes of it.
            let start = sqlite3_column_text(pointer, Int32(column))
            let count = Int(sqlite3_column_bytes(pointer, Int32(column)))
            return .text(UnsafeRawBufferPointer(start: start, count: count))
        }
    }
}

/// Tells SQLite to copy a value at once.
private let sqliteTransient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
