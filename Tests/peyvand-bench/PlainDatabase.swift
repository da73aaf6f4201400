import CRM
import Causality
import Foundation
import GRDB
import TestKit

/// The measure: the same tables and indexes in plain SQLite, written through prepared statements as well as it can be
/// done, with the same pragmas and no triggers, clocks, log or sums.
final class PlainDatabase {
    private let home = TemporaryDirectory()
    private let writer: PreparedWriter
    var path: String { home.path + "/plain.db" }

    init(_ tables: [TableDescription] = [.customer, .activity]) throws {
        writer = try PreparedWriter(home.path + "/plain.db")
        for table in tables {
            let columns = table.columns.map { column in
                column.number == 0 ? "id INTEGER PRIMARY KEY" : "\"\(column.name)\" \(column.type.sqlType)"
            }
            try writer.execute("CREATE TABLE \(table.name)(\(columns.joined(separator: ", ")))")
            for column in table.columns where column.isIndexed {
                try writer.execute(
                    """
                    CREATE INDEX \(table.name)By\(column.name) ON \(table.name)("\(column.name)")
                    WHERE "\(column.name)" IS NOT NULL
                    """
                )
            }
        }
    }

    /// Writes whole rows, in transactions of so many; `upserting` writes over those that are there.
    func insert(
        _ table: TableDescription,
        _ ids: [RowID],
        _ rows: [DataSet.Values],
        rowsEach: Int = .max,
        upserting: Bool = false
    ) throws {
        try writer.insert(table, ids, rows, rowsEach: rowsEach, upserting: upserting)
    }

    /// Gives activities an outcome, in transactions of so many.
    func setOutcome(_ outcome: FieldValue, of ids: [RowID], rowsEach: Int) throws {
        try writer.setOutcome(outcome, of: ids, rowsEach: rowsEach)
    }

    /// The data set, under the identifiers that a node has given.
    func load(_ data: DataSet, as ids: (customers: [RowID], activities: [RowID])) throws {
        try insert(.customer, ids.customers, data.customers)
        try insert(.activity, ids.activities, data.activities(of: ids.customers))
    }

    func checkpoint() throws { try writer.checkpoint() }

    /// Compares the number of rows with a node's, which they are, and how much stands in each column.
    ///
    /// - Parameter file: The node's; read beside the node, as any program may.
    func checkSame(_ tables: [TableDescription] = [.customer, .activity], as file: String) throws {
        for table in tables {
            let columns = table.columns.dropFirst().map { "coalesce(sum(length(\"\($0.name)\")), 0)" }
            let sql = """
                SELECT count(*), coalesce(sum(id % 1000003), 0), \(columns.joined(separator: ", ")) FROM \(table.name)
                """
            let here = try writer.read { try Row.fetchOne($0, sql: sql) }
            let there = try DatabaseQueue(path: file).read { try Row.fetchOne($0, sql: sql) }
            guard here == there else {
                throw NotTheSame(
                    description: "\(table.name) is \(there ?? [:]) in the replica, \(here ?? [:]) in plain tables."
                )
            }
        }
    }

    /// The bytes of a database once it is written anew without gaps, as `VACUUM` does.
    static func compactBytes(of file: String) throws -> Int {
        try DatabaseQueue(path: file).inDatabase { db in
            let home = TemporaryDirectory()
            let copy = home.path + "/compact.db"
            try db.execute(sql: "VACUUM INTO ?", arguments: [copy])
            let attributes = try FileManager.default.attributesOfItem(atPath: copy)
            return (attributes[.size] as? Int) ?? 0
        }
    }
}
