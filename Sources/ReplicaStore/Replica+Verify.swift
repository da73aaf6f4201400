import CRM
import Causality
import GRDB
import SyncProtocol

/// One table, held against the sums that every write has kept.
package struct TableVerification: Sendable {
    package let name: String
    /// What the writes have added up to.
    package let kept: DigestSum
    /// What the rows add up to.
    package let counted: DigestSum
    /// Buckets whose sums differ, of 4,096.
    package let differingBuckets: [Int]
    /// Rows in those buckets, the first few: the damaged one is among them.
    package let suspects: [RowID]

    package var isRight: Bool { differingBuckets.isEmpty }
}

extension Replica {
    private static let suspectsMax = 100

    /// Reads every live row and compares what they add up to with the sums kept.
    ///
    /// Finds rows that have changed on disk by themselves, and bugs. Reads one consistent state and does not
    /// hold up the writer.
    ///
    /// - Parameter progress: Is told the rows read so far, and of how many.
    package func verify(progress: (Int, Int) throws -> Void) throws -> [TableVerification] {
        try sealForeignWrites()
        let organisation = node.organisation ?? []
        return try read { reader in
            let total = try schema.tables.reduce(0) { $0 + (try reader.count($1)) }
            var done = 0
            return try schema.tables.map { table in
                try Self.verify(table, organisation, reader.db) {
                    done += 1
                    if done % 1000 == 0 { try progress(done, total) }
                }
            }
        }
    }

    static func verify(
        _ table: TableDescription,
        _ organisation: [UInt8],
        _ db: Database,
        step: () throws -> Void
    ) throws -> TableVerification {
        let hasher = RowHasher(organisation: organisation, table: table.number)
        var counted = [DigestSum](repeating: .zero, count: DigestBuckets.bucketCount)
        let rows = try RawStatement("SELECT \(table.columnList) FROM \(table.name)", in: db)
        while try rows.step() {
            let id = rows.integer(0)
            counted[RowHasher.bucket(of: id)] += hasher.contribution(of: rows, id: id, in: table)
            try step()
        }
        let kept = try DigestBuckets.buckets(of: table.number, db)
        let differing = kept.indices.filter { kept[$0] != counted[$0] }
        return TableVerification(
            name: table.name,
            kept: kept.reduce(into: .zero) { $0 += $1 },
            counted: counted.reduce(into: .zero) { $0 += $1 },
            differingBuckets: differing,
            suspects: try suspects(in: Set(differing), of: table, db)
        )
    }

    private static func suspects(in buckets: Set<Int>, of table: TableDescription, _ db: Database) throws -> [RowID] {
        guard !buckets.isEmpty else { return [] }
        var found: [RowID] = []
        let identifiers = try Int64.fetchCursor(db, sql: "SELECT id FROM \(table.name) ORDER BY id")
        while let id = try identifiers.next(), found.count < Self.suspectsMax {
            if buckets.contains(RowHasher.bucket(of: id)), let id = RowID(rawValue: id) { found.append(id) }
        }
        return found
    }
}
