import CRM
import Causality
import GRDB
import SyncProtocol

/// One of the two SQL tables where the rows of a replicated table lie: the table, or its graveyard.
///
/// Holds its prepared statements, those for a set of columns by set. Belongs to the writer.
final class RowPlace {
    private let db: Database
    private let table: TableDescription
    private let name: String
    private let insert: RawStatement
    private var selects = StatementCache()
    private var updates = StatementCache()
    /// By the place that rows are moved to.
    private var moves: [String: RawStatement] = [:]
    private lazy var selectOne = statement("SELECT 1 FROM \(name) WHERE id = ?")
    private lazy var selectRow = statement("SELECT \(table.columnList) FROM \(name) WHERE id = ?")
    private lazy var deleteRow = statement("DELETE FROM \(name) WHERE id = ?")

    init(_ table: TableDescription, name: String, in db: Database) throws {
        self.db = db
        self.table = table
        self.name = name
        let count = table.columns.count + ReplicaSQL.clockColumns.count
        let parameters = repeatElement("?", count: count).joined(separator: ", ")
        insert = try RawStatement(
            "INSERT INTO \(name)(\(table.columnList)) VALUES (\(parameters)) ON CONFLICT(id) DO NOTHING",
            in: db
        )
    }

    /// Inserts a row with the given columns; false when the identifier is there already.
    func insert<Fields: FieldSource>(
        id: Int64,
        columns: ColumnMask,
        fields: Fields,
        clock: StoredClock
    ) throws -> Bool {
        insert.bind(1, id)
        for column in columns.numbers {
            let field = fields[column]
            // Unbound is NULL.
            if case .null = field { continue }
            insert.bind(column + 1, field)
        }
        bind(clock, to: insert, from: table.columns.count + 1)
        try insert.run()
        noteArrival(of: id)
        return insert.changedRows == 1
    }

    /// Visits a row's clock, then the columns of a set, ascending, numbered from 3; nil when it is not here.
    func read<Result>(
        id: Int64,
        columns: ColumnMask,
        _ body: (RawStatement) throws -> Result
    ) throws -> Result? {
        let select = try selects.statement(for: columns) {
            let names = ReplicaSQL.clockColumns + names(of: columns)
            return try RawStatement("SELECT \(names.joined(separator: ", ")) FROM \(name) WHERE id = ?", in: db)
        }
        defer { select.reset() }
        select.bind(1, id)
        guard try select.step() else { return nil }
        return try body(select)
    }

    /// Visits a whole row: its columns by number, then the clock; nil when it is not here.
    func readRow<Result>(id: Int64, _ body: (RawStatement) throws -> Result) throws -> Result? {
        let select = try selectRow.get()
        defer { select.reset() }
        select.bind(1, id)
        guard try select.step() else { return nil }
        return try body(select)
    }

    /// Sets the given columns, and the clock, of a row that is here.
    func update<Fields: FieldSource>(
        id: Int64,
        columns: ColumnMask,
        fields: Fields,
        clock: StoredClock
    ) throws {
        let update = try updates.statement(for: columns) {
            let names = names(of: columns) + ReplicaSQL.clockColumns
            let places = names.map { "\($0) = ?" }.joined(separator: ", ")
            return try RawStatement("UPDATE \(name) SET \(places) WHERE id = ?", in: db)
        }
        var index = 1
        for column in columns.numbers {
            update.bind(index, fields[column])
            index += 1
        }
        bind(clock, to: update, from: index)
        update.bind(index + 3, id)
        try update.run()
    }

    /// Moves a row that is here to another place, as it is.
    func move(id: Int64, to other: RowPlace) throws {
        let copy = try moves[other.name] ?? makeMove(to: other)
        copy.bind(1, id)
        try copy.run()
        other.noteArrival(of: id)
        try remove(id: id)
    }

    private func makeMove(to other: RowPlace) throws -> RawStatement {
        let list = table.columnList
        let copy = try RawStatement(
            "INSERT INTO \(other.name)(\(list)) SELECT \(list) FROM \(name) WHERE id = ?",
            in: db
        )
        moves[other.name] = copy
        return copy
    }

    /// Takes a row away, if it is here.
    func remove(id: Int64) throws {
        let delete = try deleteRow.get()
        delete.bind(1, id)
        try delete.run()
    }

    /// Whether a row is here.
    func contains(id: Int64) throws -> Bool {
        let select = try selectOne.get()
        defer { select.reset() }
        select.bind(1, id)
        return try select.step()
    }

    // MARK: Rows that are surely not here

    /// The identifiers of one origin, and the greatest of them that is here, or was since this was looked up.
    private var greatest: (origin: ClosedRange<Int64>, id: Int64)?
    private lazy var selectGreatest = statement("SELECT max(id) FROM \(name) WHERE id BETWEEN ? AND ?")

    /// Whether a row may be here; false is certain. A new row has a greater number than all others of its origin, so
    /// that hardly any is looked for.
    func mayContain(id: Int64) throws -> Bool {
        if let greatest, greatest.origin.contains(id) { return id <= greatest.id }
        let origin = RowID.range(ofOriginOf: id)
        let select = try selectGreatest.get()
        defer { select.reset() }
        select.bind(1, origin.lowerBound)
        select.bind(2, origin.upperBound)
        let found = try select.step() ? select.integer(0) : 0
        greatest = (origin, found)
        return id <= found
    }

    private func noteArrival(of id: Int64) {
        if let known = greatest, known.origin.contains(id), id > known.id { greatest = (known.origin, id) }
    }

    /// Other programs may have put rows here.
    func forgetGreatest() { greatest = nil }

    private func bind(_ clock: StoredClock, to statement: RawStatement, from index: Int) {
        statement.bind(index, clock.newest.time.packed)
        statement.bind(index + 1, Int64(clock.newest.origin.rawValue))
        statement.bind(index + 2, blob: clock.fields)
    }

    private func statement(_ sql: String) -> Result<RawStatement, any Error> {
        Result { try RawStatement(sql, in: db) }
    }

    private func names(of columns: ColumnMask) -> [String] {
        columns.numbers.map { table.columns[$0].name.quotedName }
    }
}

/// Prepared statements by the set of columns they are about. A node writes the same few sets over and over.
private struct StatementCache {
    private static let statementsMax = 256
    private var known: [ColumnMask: RawStatement] = [:]
    private var last: (columns: ColumnMask, statement: RawStatement)?

    mutating func statement(for columns: ColumnMask, make: () throws -> RawStatement) throws -> RawStatement {
        if let last, last.columns == columns { return last.statement }
        if known.count >= Self.statementsMax { known.removeAll() }
        let statement = try known[columns] ?? make()
        known[columns] = statement
        last = (columns, statement)
        return statement
    }
}

/// Where the values of one row's columns are read from, by column number.
protocol FieldSource {
    subscript(column: Int) -> FieldView { get }
}

extension ChangeCursor: FieldSource {}

/// The row that is being written.
extension WrittenRows: FieldSource {}

/// A row's clock as its columns hold it.
struct StoredClock {
    let newest: Stamp
    /// The value of `_fields`.
    let fields: [UInt8]?

    init(_ clock: RowClock, of table: TableDescription) {
        newest = clock.newest
        fields = clock.fields(baseColumnCount: table.baseColumnCount)
    }
}

/// A row without values.
struct NoFields: FieldSource {
    subscript(column: Int) -> FieldView { .null }
}

/// Values held as Swift values, shown as views. The views are valid until the next row is loaded.
final class FieldArena: FieldSource {
    private var fields = [FieldView](repeating: .null, count: 64)
    private var storage: UnsafeMutableRawBufferPointer

    init() {
        storage = .allocate(byteCount: 4096, alignment: 1)
    }

    deinit { storage.deallocate() }

    subscript(column: Int) -> FieldView { fields[column] }

    /// Shows the values of one row, given ascending by column.
    func load(_ columns: ColumnMask, _ values: [FieldValue]) {
        let needed = values.reduce(0) { total, value in
            switch value {
            case .null, .integer: total
            case .text(let text): total + text.utf8.count
            case .blob(let bytes): total + bytes.count
            }
        }
        if needed > storage.count {
            storage.deallocate()
            storage = .allocate(byteCount: needed * 2, alignment: 1)
        }
        var used = 0
        var index = 0
        func store(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
            let place = UnsafeMutableRawBufferPointer(rebasing: storage[used..<used + bytes.count])
            place.copyMemory(from: bytes)
            used += bytes.count
            return UnsafeRawBufferPointer(place)
        }
        for column in columns.numbers {
            switch values[index] {
            case .null:
                fields[column] = .null
            case .integer(let value):
                fields[column] = .integer(value)
            case .text(var text):
                fields[column] = .text(text.withUTF8 { store(UnsafeRawBufferPointer($0)) })
            case .blob(let bytes):
                fields[column] = .blob(bytes.withUnsafeBytes(store))
            }
            index += 1
        }
    }
}
