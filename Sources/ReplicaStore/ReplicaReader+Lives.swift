import CRM
import Causality
import GRDB

extension ReplicaReader {
    /// The numbers under which this node writes and has written.
    package func ownOrigins() throws -> Set<Origin> {
        Set(
            try UInt32.fetchAll(
                db.cachedStatement(sql: "SELECT origin FROM localNode UNION SELECT origin FROM formerLife")
            )
            .compactMap(Origin.init(rawValue:))
        )
    }

    /// The rows that once had a number and have another one now, because a restored or cloned node had given the
    /// number too: by the present number. The number may also be another row's.
    package func presentIdentifiers(of former: RowID, in table: TableDescription) throws -> [RowID] {
        try Int64.fetchAll(
            db.cachedStatement(
                sql: "SELECT present FROM formerIdentifier WHERE tableNumber = ? AND former = ? ORDER BY present"
            ),
            arguments: [table.number, former.rawValue]
        ).compactMap(RowID.init(rawValue:))
    }
}
