import Causality
import GRDB

// Which of this node's change sets came from files: what people have edited since is not overwritten by the next one.

extension Format2 {
    static let imports = """
        CREATE TABLE importedChangeSet(
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            PRIMARY KEY (origin, seq)
        ) WITHOUT ROWID;
        """
}

extension ReplicaWriter {
    /// Notes that the change set that was just appended came from a file.
    func noteImport() throws {
        try db.cachedStatement(sql: "INSERT OR IGNORE INTO importedChangeSet VALUES (?, ?)")
            .execute(arguments: [node.origin.rawValue, Int64(clamping: vector[node.origin]?.seq ?? 0)])
    }

    /// Whether a stamp is that of an import of this node.
    func isImport(_ stamp: Stamp) throws -> Bool {
        try Bool.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT EXISTS (
                        SELECT 1 FROM log JOIN importedChangeSet USING (origin, seq)
                        WHERE log.origin = ? AND log.time = ?
                    )
                    """
            ),
            arguments: [stamp.origin.rawValue, Int64(bitPattern: stamp.time.packed)]
        ) ?? false
    }
}
