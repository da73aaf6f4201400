import ReplicaStore

/// Prints the canonical lines of all visible rows, by table name and identifier.
struct Dump: NodeRequest {
    static let name = "dump"

    /// What was printed.
    struct Summary: Codable, Sendable {
        let rows: Int
    }

    /// How many bytes are handed over at once.
    private static let chunkBytes = 256 << 10

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Summary {
        try node.replica.sealForeignWrites()
        return try node.replica.read { reader in
            let tables = reader.schema.tables.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
            var rows = 0
            for table in tables {
                rows += try reader.dump(table, chunkBytes: Self.chunkBytes) { chunk in
                    try progress(ProgressReport(count: rows, output: chunk))
                }
            }
            return Summary(rows: rows)
        }
    }
}
