import CRM
import Causality
import GRDB

/// A living row that belongs to one which does not live.
package struct OrphanedRow: Hashable, Sendable {
    package let table: TableDescription
    package let id: RowID
    /// What it belongs to.
    package let parentTable: String
    package let parent: RowID
    /// Whether the parent is erased; else it is deleted.
    package let isParentErased: Bool
}

extension ReplicaReader {
    /// Living rows whose required reference leads to a deleted or erased row, by table: somebody worked on them
    /// while somebody else deleted what they belong to. They are shown there, and no harm is done.
    package func orphans(limit: Int) throws -> [OrphanedRow] {
        var found: [OrphanedRow] = []
        for table in schema.tables {
            for owner in table.owners where found.count < limit {
                guard let parent = schema.table(named: owner.table) else { continue }
                let column = table.columns[owner.column].name.quotedName
                let rows = try Row.fetchCursor(
                    db,
                    sql: """
                        SELECT child.id, dead.id, NOT (dead.\(ReplicaSQL.isKept)) FROM \(parent.graveyard) AS dead
                        CROSS JOIN \(table.name) AS child ON child.\(column) = dead.id ORDER BY child.id LIMIT ?
                        """,
                    arguments: [limit - found.count]
                )
                while let row = try rows.next() {
                    guard let id = RowID(rawValue: row[0]), let parentID = RowID(rawValue: row[1]) else { continue }
                    found.append(
                        OrphanedRow(
                            table: table,
                            id: id,
                            parentTable: parent.name,
                            parent: parentID,
                            isParentErased: row[2]
                        )
                    )
                }
            }
        }
        return found
    }
}
