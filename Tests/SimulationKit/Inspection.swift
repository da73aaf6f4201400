import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

@testable import ReplicaStore

// How a node is looked through by somebody who trusts none of its own answers.

extension Replica {
    /// What is wrong with a node by itself: broken pages, wrong sums, chains or digests, a vector or a cursor that fits
    /// the log not.
    ///
    /// - Parameters:
    ///   - isRewritten: Whether the log may be one that is being written anew.
    ///   - hasCopies: Whether a node may have been put back, and its log have come to it anew, in another order.
    func problems(isRewritten: Bool, hasCopies: Bool = false) throws -> [String] {
        var found = try verify { _, _ in }.filter { !$0.isRight }.map { "\($0.name) has wrong sums" }
        try read { reader in
            let check = try String.fetchAll(reader.db, sql: "PRAGMA integrity_check(3)")
            if check != ["ok"] { found += check }
            found += try Self.logProblems(reader.db, isRewritten: isRewritten, hasCopies: hasCopies)
        }
        return found
    }

    /// Whether change sets were taken whose bodies are not here: trimmed, or never had since a snapshot stood for them.
    func hasTrimmedLog() throws -> Bool {
        try read { reader in
            try Bool.fetchOne(
                reader.db,
                sql: """
                    SELECT cursorPosition > (SELECT count(*) FROM log WHERE hubPosition IS NOT NULL AND body IS NOT NULL)
                    FROM localState
                    """
            ) ?? false
        }
    }

    fileprivate static func logProblems(_ db: Database, isRewritten: Bool, hasCopies: Bool) throws -> [String] {
        var found: [String] = []
        var prefix = LogPrefix.empty
        var last: [Int64: (seq: Int64, chain: Data)] = [:]
        var times: [Int64: Int64] = [:]
        var greatest: Int64 = 0
        let own = try LocalNode.read(db)?.origin.rawValue ?? 0
        let decompressor = ZstdDecompressor()
        let isHeadOffice = try LocalNode.read(db)?.role == .headOffice
        // Head office may have lost its log since, and with it where the snapshot began.
        let hasLoaded = try Bool.fetchOne(db, sql: "SELECT EXISTS (SELECT 1 FROM snapshotHead)") ?? false
        for row in try Row.fetchAll(
            db,
            sql: "SELECT position, origin, seq, chain, digest, body, time FROM log ORDER BY 1"
        ) {
            let (origin, seq, chain) = (row[1] as Int64, row[2] as Int64, row[3] as Data)
            guard let number = Origin(rawValue: UInt32(origin)), let value = ChangeChain(bytes: [UInt8](chain)) else {
                found.append("position \(row[0] as Int64) names no origin or chain")
                continue
            }
            let stored = LogPrefix(stored: row[0], row[4])
            if stored.position == prefix.position + 1 {
                prefix = prefix.appending(ChangeSetID(origin: number, seq: UInt64(seq)), chain: value)
                if prefix != stored { found.append("the digest at \(stored.position) is wrong") }
            } else if isHeadOffice {
                found.append("positions \(prefix.position + 1) to \(stored.position - 1) are missing")
            }
            // A new life of a branch takes what it issues again out of the middle.
            prefix = stored
            let isNext = last[origin].map { seq == $0.seq + 1 } ?? (seq == 1)
            // A snapshot stands for what came before it.
            if !isNext, !hasLoaded { found.append("\(origin) has a gap before \(seq)") }
            if let body = row[5] as Data?, let stored = StoredContent([UInt8](body)), stored.redaction == nil,
                isNext, let before = seq == 1 ? .empty : last[origin].flatMap({ ChangeChain(bytes: [UInt8]($0.chain)) })
            {
                let content = try stored.content(decompressor)
                if content.withUnsafeBytes({ before.appending(content: $0) }) != value {
                    found.append("the chain of \(origin)/\(seq) is wrong")
                }
            }
            last[origin] = (seq, chain)
            if let before = times.updateValue(row[6], forKey: origin), before >= row[6] as Int64, !isRewritten {
                found.append("the time of \(origin)/\(seq) is not after that of the one before")
            }
            if Int64(own) == origin, greatest >= row[6] as Int64, !isRewritten, !hasCopies {
                found.append("the time of \(origin)/\(seq) is not after all that its writer had")
            }
            greatest = max(greatest, row[6])
        }
        let held = "SELECT heldSeq.origin, heldSeq.seq, chain FROM heldSeq LEFT JOIN versionVector USING (origin, seq)"
        for row in try Row.fetchAll(db, sql: held) {
            guard let known = last.removeValue(forKey: row[0]) else { continue }
            let chain: Data? = row[2]
            if known.seq > row[1] as Int64 || (known.seq == row[1] as Int64 && chain.map { $0 != known.chain } == true)
            {
                found.append("the vector says \(row[0] as Int64)/\(row[1] as Int64), the log \(known.seq)")
            }
        }
        if !last.isEmpty { found.append("the vector does not know \(last.keys.sorted())") }
        let cursor = try Row.fetchOne(
            db,
            sql: """
                SELECT cursorPosition, (SELECT hubDigest = cursorDigest FROM log WHERE hubPosition = cursorPosition)
                FROM localState
                """
        )
        // What arrived and how far that is are written together.
        let isBehind = try Bool.fetchOne(
            db,
            sql: """
                SELECT cursorPosition < coalesce((SELECT max(hubPosition) FROM log), 0)
                    OR (SELECT timeMax FROM log ORDER BY position DESC LIMIT 1) < (SELECT max(time) FROM log)
                FROM localState
                """
        )
        if isBehind == true, !isRewritten { found.append("the cursor or the greatest time is behind the log") }
        if let cursor, (cursor[1] as Bool?) == false { found.append("the cursor \(cursor[0] as Int64) is another's") }
        return found
    }

    /// Everything that converges: rows, graveyards and clocks.
    package func everything() throws -> [String] {
        var lines: [String] = []
        try read { reader in
            for table in schema.tables {
                for place in [table.name, table.graveyard] {
                    // SQLite puts a row together many times faster than somebody who asks for each value.
                    let columns = try reader.db.columns(in: place).map { "quote(\($0.name.quotedDatabaseIdentifier))" }
                    let row = "'\(place) ' || " + columns.joined(separator: " || '|' || ")
                    let rows = try reader.db.cachedStatement(sql: "SELECT \(row) FROM \(place) ORDER BY id")
                    lines += try String.fetchAll(rows)
                }
            }
        }
        return lines
    }
}

// How it is held against the oracles.

extension Replica {
    /// What a row is here, in the words of the oracle.
    package func present(_ id: RowID, in table: TableDescription) throws -> HistoryOracle.Expectation? {
        try read { reader in
            func expectation(_ row: StoredRow, isAlive: Bool) -> HistoryOracle.Expectation {
                var values: [Int: FieldValue] = [:]
                for column in 1..<table.columns.count where !row.values[column].isNull {
                    values[column] = row.values[column]
                }
                return HistoryOracle.Expectation(isAlive: isAlive, values: values)
            }
            if let row = try reader.row(table, id: id) { return expectation(row, isAlive: true) }
            return try reader.deletedRow(table, id: id).map { expectation($0, isAlive: false) }
        }
    }

    /// How many rows a table has, living and deleted; erased ones are none.
    private func rowCount(of table: TableDescription) throws -> Int {
        try read { reader in
            try Int.fetchOne(
                reader.db.cachedStatement(
                    sql: """
                        SELECT (SELECT count(*) FROM \(table.name))
                            + (SELECT count(*) FROM \(table.graveyard) WHERE \(ReplicaSQL.isKept))
                        """
                )
            ) ?? 0
        }
    }

    /// Rows that are not what the set of change sets says, a sentence each, and how many were compared.
    func differences(from oracle: HistoryOracle, max: Int) throws -> (rows: Int, found: [String]) {
        var (rows, found) = (0, [String]())
        func words(_ row: HistoryOracle.Expectation?) -> String { row.map { "\($0)" } ?? "nowhere" }
        for table in schema.tables {
            for id in oracle.identifiers(of: table) {
                rows += 1
                let (expected, present) = (oracle.expectation(of: id, in: table), try self.present(id, in: table))
                guard present != expected, found.count < max else { continue }
                found.append("\(table.name) \(id) is \(words(present)), and should be \(words(expected))")
            }
            let (expected, present) = (oracle.rowCount(of: table), try rowCount(of: table))
            if present != expected, found.count < max {
                found.append("\(table.name) has \(present) rows, living and deleted, and \(expected) were ever made")
            }
        }
        return (rows, found)
    }

    /// The entries of the list of conflicts, in the words of the oracle.
    package func openConflicts(_ resolution: ConflictResolution = .open) throws -> [String] {
        try read { try $0.rows(.conflict, where: "resolution", is: .text(resolution.rawValue)) }.map { entry in
            var row = ""
            if case .integer(let number) = entry["ofRow"] { row = RowID(rawValue: number)?.description ?? "" }
            let names = entry.conflictColumnNames
            func set(_ name: String) -> String { entry.changeSet(name).map { "\($0)" } ?? "-" }
            if entry["kept"].isNull { return "\(row) under deletion \(set("kept")) \(names)" }
            if entry["lost"].isNull { return "\(row) deletion \(set("lost")) \(names)" }
            return "\(row) edit \(set("lost")) \(names)"
        }.sorted()
    }
}
