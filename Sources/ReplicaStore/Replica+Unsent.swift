import Foundation
import GRDB
import SyncProtocol

extension Replica {
    /// Looks at a branch's own change sets that head office has not accepted for one that changes rows of some tables. Blocks.
    ///
    /// - Parameters:
    ///   - tables: Their numbers.
    ///   - seq: Up to where nothing was found before.
    /// - Returns: Whether there is one, and up to where nothing was found now.
    package func findUnsent(in tables: Set<Int>, after seq: UInt64) throws -> (isThere: Bool, through: UInt64) {
        let accepted = contacts.withLock { $0.own.acceptedSeq } ?? 0
        var through = max(seq, accepted)
        return try readState { db in
            let rows = try Row.fetchCursor(
                db.cachedStatement(
                    sql: "SELECT seq, position, body FROM log WHERE origin = ? AND seq > ? ORDER BY seq"
                ),
                arguments: [Int64(node.origin.rawValue), Int64(clamping: through)]
            )
            let decompressor = ZstdDecompressor()
            while let row = try rows.next() {
                let isThere = try Self.withContent(
                    of: row[2] as Data?,
                    position: UInt64(clamping: row[1] as Int64),
                    decompressor
                ) { reader in reader.blocks.contains { tables.contains($0.number) } }
                if isThere { return (true, through) }
                through = UInt64(clamping: row[0] as Int64)
            }
            return (false, through)
        }
    }
}
