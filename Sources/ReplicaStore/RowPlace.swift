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
    private var selects: [ColumnMask: RawStatement] = [:]
    private var updates: [ColumnMask: RawStatement] = [:]
    private lazy var selectRow = statement("SELECT \(table.columnList) FROM \(name) WHERE id = ?")
    private lazy var deleteRow = statement("DELETE FROM \(name) WHERE id = ?")

    /// How many sets of columns are remembered; a node writes the same few over and over.
    private static let statementsMax = 256

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
        clock: RowClock
    ) throws -> Bool {
        insert.bind(1, id)
        columns.forEach { column in
            let field = fields[column]
            // Unbound is NULL.
            if case .null = field { return }
            insert.bind(column + 1, field)
        }
        bind(clock, to: insert, from: table.columns.count + 1)
        try insert.run()
        return insert.changedRows == 1
    }

    /// Visits a row's clock, then the columns of a set, ascending, numbered from 3; nil when it is not here.
    func read<Result>(
        id: Int64,
        columns: ColumnMask,
        _ body: (RawStatement) throws -> Result
    ) throws -> Result? {
        let select = try cached(columns, in: \.selects) {
            let names = ReplicaSQL.clockColumns + $0.map(\.name.quotedName)
            return "SELECT \(names.joined(separator: ", ")) FROM \(name) WHERE id = ?"
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
        clock: RowClock
    ) throws {
        let update = try cached(columns, in: \.updates) {
            let names = $0.map(\.name.quotedName) + ReplicaSQL.clockColumns
            return "UPDATE \(name) SET \(names.map { "\($0) = ?" }.joined(separator: ", ")) WHERE id = ?"
        }
        var index = 1
        columns.forEach { column in
            update.bind(index, fields[column])
            index += 1
        }
        bind(clock, to: update, from: index)
        update.bind(index + 3, id)
        try update.run()
    }

    /// Moves a row that is here to another place, as it is.
    func move(id: Int64, to other: RowPlace) throws {
        let list = table.columnList
        let copy = try RawStatement(
            "INSERT INTO \(other.name)(\(list)) SELECT \(list) FROM \(name) WHERE id = ?", in: db)
        copy.bind(1, id)
        try copy.run()
        let delete = try deleteRow.get()
        delete.bind(1, id)
        try delete.run()
    }

    /// Whether a row is here.
    func contains(id: Int64) throws -> Bool {
        try read(id: id, columns: []) { _ in true } ?? false
    }

    private func bind(_ clock: RowClock, to statement: RawStatement, from index: Int) {
        statement.bind(index, clock.newest.time.packed)
        statement.bind(index + 1, Int64(clock.newest.origin.rawValue))
        statement.bind(index + 2, blob: clock.fields(baseColumnCount: table.baseColumnCount))
    }

    private func statement(_ sql: String) -> Result<RawStatement, any Error> {
        Result { try RawStatement(sql, in: db) }
    }

    private func cached(
        _ columns: ColumnMask,
        in cache: ReferenceWritableKeyPath<RowPlace, [ColumnMask: RawStatement]>,
        sql: ([ColumnDescription]) -> String
    ) throws -> RawStatement {
        if let known = self[keyPath: cache][columns] { return known }
        if self[keyPath: cache].count >= Self.statementsMax { self[keyPath: cache].removeAll() }
        let named = table.columns.filter { columns.contains(column: $0.number) }
        let made = try RawStatement(sql(named), in: db)
        self[keyPath: cache][columns] = made
        return made
    }
}

/// Where the values of one row's columns are read from, by column number.
protocol FieldSource {
    subscript(column: Int) -> FieldView { get }
}

extension ChangeCursor: FieldSource {}

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
        columns.forEach { column in
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
