import Causality
import Foundation
import GRDB
import SyncProtocol

/// The end of a hub's log as a branch had taken it, before the hub lost it.
struct KeptNumbering: Hashable {
    let number: Int64
    /// The last prefix that is in the hub's later log too, as it was when this branch noticed.
    let base: LogPrefix
    let end: LogPrefix

    /// All of them, newest first.
    static func all(_ db: Database) throws -> [KeptNumbering] {
        try fetch(db, "1")
    }

    /// Those that new contexts must name: the cursor does not cover them yet.
    static func uncovered(_ db: Database) throws -> [KeptNumbering] {
        try fetch(db, "NOT isCovered")
    }

    private static func fetch(_ db: Database, _ condition: String) throws -> [KeptNumbering] {
        try Row.fetchAll(
            db,
            sql: """
                SELECT numbering, basePosition, baseDigest, position, digest FROM keptNumbering
                WHERE \(condition) ORDER BY numbering DESC LIMIT \(SyncExtras.keptPrefixesMax)
                """
        ).map {
            KeptNumbering(
                number: $0[0],
                base: LogPrefix(stored: $0[1], $0[2]),
                end: LogPrefix(stored: $0[3], $0[4])
            )
        }
    }
}

extension ReplicaWriter {
    // MARK: The hub's log as this branch has taken it

    /// Prefixes of the hub's log that this branch knows, at or before some positions, ascending.
    func hubPrefixes(at positions: [UInt64]) throws -> [LogPrefix] {
        let select = try db.cachedStatement(
            sql: """
                SELECT hubPosition, hubDigest FROM log WHERE hubPosition <= ? AND hubDigest IS NOT NULL
                ORDER BY hubPosition DESC LIMIT 1
                """
        )
        var known: Set<LogPrefix> = [.empty]
        for position in positions {
            if position == cursor.position {
                known.insert(cursor)
            } else if let row = try Row.fetchOne(select, arguments: [Int64(clamping: position)]) {
                known.insert(LogPrefix(stored: row[0], row[1]))
            }
        }
        return known.sorted { $0.position < $1.position }
    }

    /// Files of format 1 did not keep the digests of the hub's log. They hold all of that log, so it can be
    /// followed from its beginning.
    ///
    /// Part of the present transaction.
    func completeHubDigests() throws {
        let isComplete = try Bool.fetchOne(
            db,
            sql: "SELECT NOT EXISTS (SELECT 1 FROM log WHERE hubPosition IS NOT NULL AND hubDigest IS NULL)"
        )
        guard isComplete != true else { return }
        let rows = try Row.fetchCursor(
            db,
            sql: "SELECT position, hubPosition, origin, seq, chain FROM log WHERE hubPosition > 0 ORDER BY hubPosition"
        )
        var prefix = LogPrefix.empty
        var digests: [(position: Int64, digest: UInt64)] = []
        while let row = try rows.next() {
            guard UInt64(bitPattern: row[1]) == prefix.position + 1, let origin = Origin(rawValue: row[2] as UInt32),
                let chain = ChangeChain(bytes: [UInt8](row[4] as Data))
            else { return }
            prefix = prefix.appending(ChangeSetID(origin: origin, seq: UInt64(bitPattern: row[3])), chain: chain)
            digests.append((row[0], prefix.digest))
        }
        guard prefix == cursor else { return }
        for (position, digest) in digests {
            try db.cachedStatement(sql: "UPDATE log SET hubDigest = ? WHERE position = ?")
                .execute(arguments: [Int64(bitPattern: digest), position])
        }
    }

    /// Notes where a change set that is held already stands in the hub's log.
    func noteHubPrefix(_ prefix: LogPrefix, of id: ChangeSetID) throws {
        try db.cachedStatement(sql: "UPDATE log SET hubPosition = ?, hubDigest = ? WHERE origin = ? AND seq = ?")
            .execute(
                arguments: [
                    Int64(clamping: prefix.position), Int64(bitPattern: prefix.digest), id.origin.rawValue,
                    Int64(clamping: id.seq),
                ]
            )
    }

    // MARK: Falling back

    /// Goes back to the last prefix that the hub's log still has, and keeps what stood above it: contexts name it,
    /// and the hub is told of it until it holds everything in it again.
    ///
    /// Part of the present transaction.
    func fallBack(to base: LogPrefix) throws {
        guard base.position < cursor.position else { return }
        try db.execute(
            sql: "INSERT INTO keptNumbering(basePosition, baseDigest, position, digest) VALUES (?, ?, ?, ?)",
            arguments: [
                Int64(clamping: base.position), Int64(bitPattern: base.digest), Int64(clamping: cursor.position),
                Int64(bitPattern: cursor.digest),
            ]
        )
        try db.execute(
            sql: """
                INSERT INTO keptEntry SELECT ?, hubPosition, origin, seq FROM log
                WHERE hubPosition > ? ORDER BY hubPosition
                """,
            arguments: [db.lastInsertedRowID, Int64(clamping: base.position)]
        )
        try db.execute(
            sql: "UPDATE log SET hubPosition = NULL, hubDigest = NULL WHERE hubPosition > ?",
            arguments: [Int64(clamping: base.position)]
        )
        // What was covered by the log that is lost is so no longer.
        try db.execute(sql: "UPDATE keptNumbering SET isCovered = 0")
        keptNumberings = try KeptNumbering.uncovered(db)
        try coverKeptNumberings()
        moveCursor(to: base)
    }

    /// Looks which kept numberings the cursor has come to cover: all of their change sets stand in what was taken.
    ///
    /// Part of the present transaction.
    func coverKeptNumberings() throws {
        guard !keptNumberings.isEmpty else { return }
        for numbering in keptNumberings {
            // From the end: what is missing is most likely there.
            let missing = try Int64.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT keptEntry.position FROM keptEntry JOIN log USING (origin, seq)
                        WHERE numbering = ? AND hubPosition IS NULL ORDER BY keptEntry.position DESC LIMIT 1
                        """
                ),
                arguments: [numbering.number]
            )
            guard missing == nil else { continue }
            try db.execute(
                sql: "UPDATE keptNumbering SET isCovered = 1 WHERE numbering = ?",
                arguments: [numbering.number]
            )
        }
        keptNumberings = try KeptNumbering.uncovered(db)
    }
}
