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
        try fetch(db, "isCovered < 2")
    }

    /// Those that new contexts must name: the cursor does not cover them yet.
    static func uncovered(_ db: Database) throws -> [KeptNumbering] {
        try fetch(db, "NOT isCovered")
    }

    /// What stood in it of each origin, where this node never had the log itself; empty when it had.
    func progress(_ db: Database) throws -> [ChangeSetID] {
        try Row.fetchAll(
            db.cachedStatement(
                sql: "SELECT origin, seq FROM keptEntry WHERE numbering = ? AND position < 0 ORDER BY origin"
            ),
            arguments: [number]
        ).compactMap { row in
            Origin(rawValue: row[0]).map { ChangeSetID(origin: $0, seq: UInt64(clamping: row[1] as Int64)) }
        }
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
        let snapshot = try snapshotPrefix()
        for position in positions {
            if let snapshot, snapshot.position <= position { known.insert(snapshot) }
            if position == cursor.position {
                known.insert(cursor)
            } else if let row = try Row.fetchOne(select, arguments: [Int64(clamping: position)]) {
                known.insert(LogPrefix(stored: row[0], row[1]))
            }
        }
        return known.sorted { $0.position < $1.position }
    }

    /// Where the snapshot began that this node has loaded last, as long as the hub's log was not lost before that.
    private func snapshotPrefix() throws -> LogPrefix? {
        guard let position = try fact(.snapshotPosition), let digest = try fact(.snapshotDigest) else { return nil }
        return LogPrefix(position: UInt64(clamping: position), digest: UInt64(bitPattern: digest))
    }

    /// What stood in the hub's log, of each origin, up to where the last snapshot began.
    private func progress(at snapshot: LogPrefix) throws -> [ChangeSetID] {
        let position = Int64(clamping: snapshot.position)
        let firstLater = try firstLogged("hubPosition > ?", snapshot.position)
        return try vector.sorted { $0.key < $1.key }.compactMap { origin, last in
            var seq = firstLater[origin].map { $0 - 1 } ?? last.seq
            if origin == node.origin, firstLater[origin] == nil {
                // What head office has not told of is no part of it.
                let told = try Int64.fetchOne(
                    db.cachedStatement(sql: "SELECT max(seq) FROM log WHERE origin = ? AND hubPosition <= ?"),
                    arguments: [origin.rawValue, position]
                )
                seq = UInt64(clamping: max(told ?? 0, try fact(.snapshotOwnSeq) ?? 0))
            }
            return seq > 0 ? ChangeSetID(origin: origin, seq: seq) : nil
        }
    }

    /// The last change set of each origin up to which all are in the log. What came by a snapshot is in the vector,
    /// but not in the log.
    func loggedHeads() throws -> [ChainHead] {
        try Row.fetchAll(
            db.cachedStatement(sql: "SELECT origin, count(*), max(seq) FROM log GROUP BY origin ORDER BY origin")
        ).compactMap { row in
            guard let origin = Origin(rawValue: row[0]) else { return nil }
            var seq: Int64 = row[2]
            if row[1] as Int64 != seq {
                let last = try Int64.fetchOne(
                    db.cachedStatement(
                        sql: """
                            SELECT min(seq) FROM log WHERE origin = ?1 AND seq + 1 NOT IN
                                (SELECT seq FROM log WHERE origin = ?1)
                            """
                    ),
                    arguments: [origin.rawValue]
                )
                let hasFirst = try isLogged(ChangeSetID(origin: origin, seq: 1))
                guard hasFirst, let last else { return nil }
                seq = last
            }
            let id = ChangeSetID(origin: origin, seq: UInt64(clamping: seq))
            return try chain(of: id).map { ChainHead(id: id, chain: $0.prefix) }
        }
    }

    /// Whether a change set is in the log, not only in the rows.
    func isLogged(_ id: ChangeSetID) throws -> Bool {
        try Bool.fetchOne(
            db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM log WHERE origin = ? AND seq = ?)"),
            arguments: [Int64(id.origin.rawValue), Int64(clamping: id.seq)]
        ) == true
    }

    /// Files of format 1 did not keep the digests of the hub's log. They hold all of that log, so it can be
    /// followed from its beginning.
    ///
    /// Part of the present transaction.
    func completeHubDigests() throws {
        let isComplete = try Bool.fetchOne(
            db.cachedStatement(
                sql: "SELECT NOT EXISTS (SELECT 1 FROM log WHERE hubPosition IS NOT NULL AND hubDigest IS NULL)"
            )
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
    func fallBack(to common: LogPrefix) throws {
        guard common.position < cursor.position else { return }
        var base = common
        if let snapshot = try snapshotPrefix(), snapshot.position > common.position {
            // What follows the common prefix comes again, and is held against the chains of what is here: those of
            // rows that came by a snapshot are not.
            let logged = try Int64.fetchOne(
                db.cachedStatement(sql: "SELECT count(*) FROM log WHERE hubPosition <= ?"),
                arguments: [Int64(clamping: common.position)]
            )
            if logged != Int64(clamping: common.position) { base = .empty }
            let progress = try progress(at: snapshot)
            // The newest is offered first, and the rest builds on this one.
            if snapshot != cursor { _ = try keep(from: snapshot, to: cursor) }
            let number = try keep(from: base, to: snapshot)
            for (index, id) in progress.enumerated() {
                try db.cachedStatement(sql: "INSERT INTO keptEntry VALUES (?, ?, ?, ?)").execute(arguments: [
                    number, -1 - index, id.origin.rawValue, Int64(clamping: id.seq),
                ])
            }
            for fact in [LocalFact.snapshotPosition, .snapshotDigest, .snapshotOwnSeq] { try note(fact, nil) }
        } else {
            _ = try keep(from: base, to: cursor)
        }
        try db.cachedStatement(sql: "UPDATE log SET hubPosition = NULL, hubDigest = NULL WHERE hubPosition > ?")
            .execute(arguments: [Int64(clamping: base.position)])
        // What was covered by the log that is lost is so no longer.
        try db.cachedStatement(sql: "UPDATE keptNumbering SET isCovered = 0 WHERE isCovered = 1").execute()
        keptNumberings = try KeptNumbering.uncovered(db)
        try coverKeptNumberings()
        moveCursor(to: base)
    }

    /// Keeps a stretch of the lost log.
    ///
    /// - Returns: Its number.
    private func keep(from base: LogPrefix, to end: LogPrefix) throws -> Int64 {
        try db.cachedStatement(
            sql: "INSERT INTO keptNumbering(basePosition, baseDigest, position, digest) VALUES (?, ?, ?, ?)"
        ).execute(arguments: [
            Int64(clamping: base.position), Int64(bitPattern: base.digest), Int64(clamping: end.position),
            Int64(bitPattern: end.digest),
        ])
        let number = db.lastInsertedRowID
        try db.cachedStatement(
            sql: """
                INSERT INTO keptEntry SELECT ?, hubPosition, origin, seq FROM log
                WHERE hubPosition > ? AND hubPosition <= ? ORDER BY hubPosition
                """
        ).execute(arguments: [number, Int64(clamping: base.position), Int64(clamping: end.position)])
        return number
    }

    /// Gives up stretches of lost logs that nobody can bring back whole, and what followed them.
    ///
    /// Part of the present transaction.
    func giveUp(_ numberings: [KeptNumbering]) throws {
        var rest = numberings
        while let next = rest.popLast() {
            try db.cachedStatement(sql: "UPDATE keptNumbering SET isCovered = 2 WHERE numbering = ?").execute(
                arguments: [next.number]
            )
            rest += try KeptNumbering.all(db).filter { $0.base == next.end }
        }
        keptNumberings = try KeptNumbering.uncovered(db)
    }

    /// The prefixes of a context that head office can know: without those of logs that were given up.
    func known(_ prefixes: [LogPrefix]) throws -> [LogPrefix] {
        try prefixes.filter { prefix in
            let position = Int64(clamping: prefix.position)
            let isGivenUp = try Bool.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT EXISTS (SELECT 1 FROM keptNumbering
                            WHERE isCovered = 2 AND basePosition < ?1 AND position >= ?1)
                        AND NOT EXISTS (SELECT 1 FROM log WHERE hubPosition = ?1 AND hubDigest = ?2)
                        """
                ),
                arguments: [position, Int64(bitPattern: prefix.digest)]
            )
            return isGivenUp != true
        }
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
                        SELECT keptEntry.position FROM keptEntry LEFT JOIN log USING (origin, seq)
                        WHERE numbering = ? AND hubPosition IS NULL ORDER BY keptEntry.position DESC LIMIT 1
                        """
                ),
                arguments: [numbering.number]
            )
            guard missing == nil else { continue }
            try db.cachedStatement(sql: "UPDATE keptNumbering SET isCovered = 1 WHERE numbering = ?").execute(
                arguments: [numbering.number]
            )
        }
        keptNumberings = try KeptNumbering.uncovered(db)
    }
}
