import Foundation
import GRDB
import GRDBSQLite

/// A look at a node's database file beside whatever the node does: it is only read.
package struct FileCheck: Sendable {
    /// What SQLite finds wrong with the pages of the file, at most twenty findings; empty when nothing.
    package let damage: [String]

    /// Reads every page of the file, without looking into its indexes.
    ///
    /// - Throws: `DatabaseError` when it cannot be read at all.
    package init(of directory: String) throws {
        var configuration = Replica.configuration(busySeconds: Replica.defaultBusySeconds)
        configuration.readonly = true
        let queue = try DatabaseQueue(path: Replica.path(in: directory), configuration: configuration)
        let findings = try queue.read { try String.fetchAll($0, sql: "PRAGMA quick_check(20)") }
        damage = findings == ["ok"] ? [] : findings
        try queue.close()
    }

    /// The SQLite of this program, as `3.40.1`.
    package static var sqliteVersion: String { String(cString: sqlite3_libversion()) }

    /// Whether a version of SQLite keeps its pages when two programs write and copy the write-ahead log at once.
    ///
    /// - Source: SQLite's release notes of 3.51.3, and of 3.50.7 and 3.44.6, which have the same correction.
    package static func isSafeWithTwoWriters(sqliteVersion: String) -> Bool {
        let parts = sqliteVersion.split(separator: ".").map { Int($0) ?? 0 }
        guard parts.count >= 3, parts[0] == 3 else { return false }
        switch parts[1] {
        case 44: return parts[2] >= 6
        case 50: return parts[2] >= 7
        case 51: return parts[2] >= 3
        default: return parts[1] > 51
        }
    }
}
