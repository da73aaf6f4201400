import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// A node's look at itself: whether its rows still add up to what its writes have added up to.

extension Format2 {
    /// What was found wrong: buckets whose rows do not add up to the sums kept, rows that differ from the log or
    /// from head office, and when each table was read as a whole.
    static let equality = """
        CREATE TABLE damagedBucket(
            tableNumber INTEGER NOT NULL,
            bucket INTEGER NOT NULL,
            PRIMARY KEY (tableNumber, bucket)
        ) WITHOUT ROWID;
        CREATE TABLE difference(
            fromHub INTEGER NOT NULL,
            tableNumber INTEGER NOT NULL,
            id INTEGER NOT NULL,
            kind INTEGER NOT NULL,
            columns TEXT NOT NULL,
            PRIMARY KEY (fromHub, tableNumber, id)
        ) WITHOUT ROWID;
        CREATE TABLE selfCheck(tableNumber INTEGER PRIMARY KEY, wallMilliseconds INTEGER NOT NULL);
        """
}

/// A row that is not what it should be.
package struct RowDifference: Hashable, Sendable {
    /// How a row differs from head office's. Raw values are stored.
    package enum Kind: Int, Hashable, Sendable, CaseIterable {
        /// Fields, or who wrote them when, are different.
        case differs = 0
        /// Head office has it, and it is not here.
        case missing = 1
        /// It is here, and head office does not have it.
        case extra = 2
    }

    package let table: String
    package let id: RowID
    package let kind: Kind
    /// The names of the fields, as far as they are known.
    package let columns: [String]

    package init(table: String, id: RowID, kind: Kind, columns: [String]) {
        self.table = table
        self.id = id
        self.kind = kind
        self.columns = columns
    }
}

/// What a node knows of its own soundness.
package struct Soundness: Sendable {
    /// When all tables had been read as a whole, in milliseconds since 1970-01-01 UTC; nil before the first time.
    package let checkedAt: UInt64?
    /// Buckets whose rows do not add up, by table.
    package let damagedBuckets: [(table: String, count: Int)]
    /// Rows that are not what the log says.
    package let damaged: [RowDifference]
    /// When this node was last compared with head office row by row, and how many rows differed then.
    package let comparedAt: UInt64?
    package let differingRows: Int
    /// How many buckets did not add up at head office then.
    package let damagedAtHub: Int
    /// The first of those rows.
    package let differing: [RowDifference]

    package var isSound: Bool { damagedBuckets.isEmpty && damaged.isEmpty && differing.isEmpty && differingRows == 0 }
}

extension Replica {
    /// Rows that are named, of all that are wrong.
    static let namedRowsMax = 100
    /// Rows of damaged buckets that are held against the log.
    private static let suspectsMax = 5000

    /// What was found at the last looks.
    package func soundness() throws -> Soundness {
        try read { reader in
            let db = reader.db
            let checks = try Row.fetchOne(
                db.cachedStatement(sql: "SELECT count(*), min(wallMilliseconds) FROM selfCheck")
            )
            let isWhole = (checks?[0] as Int?) ?? 0 >= schema.tables.count
            let buckets = try Row.fetchAll(
                db.cachedStatement(
                    sql: "SELECT tableNumber, count(*) FROM damagedBucket GROUP BY tableNumber ORDER BY tableNumber"
                )
            )
            return Soundness(
                checkedAt: isWhole ? (checks?[1] as Int64?).map { UInt64(clamping: $0) } : nil,
                damagedBuckets: buckets.map { (schema.table(number: $0[0])?.name ?? "table \($0[0] as Int)", $0[1]) },
                damaged: try differences(fromHub: false, db),
                comparedAt: try LocalFact.read(.comparedAt, db).map { UInt64(clamping: $0) },
                differingRows: Int(clamping: try LocalFact.read(.differingRows, db) ?? 0),
                damagedAtHub: Int(clamping: try LocalFact.read(.damagedAtHub, db) ?? 0),
                differing: try differences(fromHub: true, db)
            )
        }
    }

    private func differences(fromHub: Bool, _ db: Database) throws -> [RowDifference] {
        try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT tableNumber, id, kind, columns FROM difference WHERE fromHub = ?
                    ORDER BY tableNumber, id LIMIT ?
                    """
            ),
            arguments: [fromHub, Self.namedRowsMax]
        ).compactMap { row in
            guard let id = RowID(rawValue: row[1]), let kind = RowDifference.Kind(rawValue: row[2]) else { return nil }
            return RowDifference(
                table: schema.table(number: row[0])?.name ?? "table \(row[0] as Int)",
                id: id,
                kind: kind,
                columns: (row[3] as String).split(separator: " ").map(String.init)
            )
        }
    }

    /// Reads every live row, compares what they add up to with the sums kept, and names the rows that are not
    /// what the log says. What it finds is kept for `status`.
    ///
    /// - Parameter progress: Is told the rows read so far, and of how many.
    package func verifyDeep(progress: (Int, Int) throws -> Void) throws -> [TableVerification] {
        let tables = try verify(progress: progress)
        var found: [RowDifference] = []
        for table in tables where !table.isRight {
            guard let description = schema.table(named: table.name) else { continue }
            found += try read { try Self.unlikeLog(in: Set(table.differingBuckets), of: description, $0.db) }
        }
        do {
            try keep(tables, found)
        } catch StoreFailure.diskFull {
            // Whoever asks is told; `status` goes on saying what it knew.
        }
        return tables
    }

    /// Keeps what a look at every row has found, for `status`.
    private func keep(_ tables: [TableVerification], _ found: [RowDifference]) throws {
        let now = Int64(clamping: wallClock())
        try withWriter { writer in
            try writer.transaction {
                try writer.db.cachedStatement(sql: "DELETE FROM damagedBucket").execute()
                try writer.db.cachedStatement(sql: "DELETE FROM difference WHERE fromHub = 0").execute()
                for table in tables {
                    guard let number = schema.table(named: table.name)?.number else { continue }
                    try writer.noteChecked(number, damaged: table.differingBuckets, at: now)
                }
                for row in found.prefix(Self.namedRowsMax) { try writer.note(row, fromHub: false) }
            }
        }
    }

    /// The rows of some buckets whose fields are not what the change sets of the log have written.
    static func unlikeLog(
        in buckets: Set<Int>,
        of table: TableDescription,
        _ db: Database
    ) throws -> [RowDifference] {
        let logged = LoggedValues(db)
        let rows = try RawStatement("SELECT \(table.columnList) FROM \(table.name) ORDER BY id", in: db)
        defer { rows.reset() }
        var found: [RowDifference] = []
        var looked = 0
        while try rows.step(), found.count < namedRowsMax, looked < suspectsMax {
            guard buckets.contains(RowHasher.bucket(of: rows.integer(0))), let id = RowID(rawValue: rows.integer(0))
            else { continue }
            looked += 1
            let columns = try logged.differing(rows, id: id, table: table)
            if columns.isEmpty { continue }
            found.append(RowDifference(table: table.name, id: id, kind: .differs, columns: columns))
        }
        return found
    }
}

extension LoggedValues {
    /// The names of the fields of a stored row that are not what the log says. A clock that cannot be read, or
    /// that names no change set, is named `_time`.
    func differing(_ row: RawStatement, id: RowID, table: TableDescription) throws -> [String] {
        let first = table.columns.count
        guard
            let clock = try? RowClock(
                newest: row.newestStamp(at: first),
                fields: row.blob(first + 2),
                baseColumnCount: table.baseColumnCount
            )
        else { return ["_time"] }
        var names: [String] = []
        for column in table.columns.dropFirst() {
            let stamp = clock.stamp(ofColumn: column.number)
            guard stamp != .zero,
                let value = try value(of: column.number, id: id, table: table, stamp: stamp),
                !value.isStoredAs(FieldValue(row.field(column.number)))
            else { continue }
            names.append(column.name)
        }
        return names
    }
}

extension ReplicaWriter {
    /// Notes that a table was read as a whole, and which of its buckets did not add up.
    fileprivate func noteChecked(_ table: Int, damaged buckets: [Int], at wallMilliseconds: Int64) throws {
        try db.cachedStatement(sql: "DELETE FROM damagedBucket WHERE tableNumber = ?").execute(arguments: [table])
        for bucket in buckets {
            try db.cachedStatement(sql: "INSERT INTO damagedBucket VALUES (?, ?)").execute(arguments: [table, bucket])
        }
        try db.cachedStatement(sql: "INSERT OR REPLACE INTO selfCheck VALUES (?, ?)").execute(arguments: [
            table, wallMilliseconds,
        ])
        damagedBuckets = nil
    }

    /// Keeps a difference for `status`.
    func note(_ difference: RowDifference, fromHub: Bool) throws {
        guard let table = schema.table(named: difference.table) else { return }
        try db.cachedStatement(sql: "INSERT OR REPLACE INTO difference VALUES (?, ?, ?, ?, ?)").execute(arguments: [
            fromHub, table.number, difference.id.rawValue, difference.kind.rawValue,
            difference.columns.joined(separator: " "),
        ])
    }

    /// Whether a row lies in a bucket that is known not to add up.
    func isSuspect(_ id: Int64, of table: TableDescription) throws -> Bool {
        if damagedBuckets == nil {
            let rows = try Row.fetchAll(db.cachedStatement(sql: "SELECT tableNumber, bucket FROM damagedBucket"))
            damagedBuckets = Set(rows.map { ($0[0] as Int) * DigestBuckets.bucketCount + ($0[1] as Int) })
        }
        guard let damagedBuckets, !damagedBuckets.isEmpty else { return false }
        return damagedBuckets.contains(table.number * DigestBuckets.bucketCount + RowHasher.bucket(of: id))
    }

    /// The value of a field that is about to be sent without anybody having given it, proved by the log as far as
    /// the log still has it, so that what has changed on disk by itself is not passed on as a write.
    ///
    /// - Throws: ``StoreFailure/damagedRow(table:id:reason:)`` when it may be damaged and nothing proves it.
    func proved(
        _ stored: FieldValue,
        column: Int,
        id: RowID,
        table: TableDescription,
        clock: RowClock
    ) throws -> FieldValue {
        let stamp = clock.stamp(ofColumn: column)
        if stamp == .zero { return stored }
        let isSuspect = try isSuspect(id.rawValue, of: table)
        let logged = try loggedValues.value(
            of: column,
            id: id,
            table: table,
            stamp: stamp,
            rowsMax: isSuspect ? LoggedValues.rowsMaxThorough : LoggedValues.rowsMaxQuick
        )
        if let logged { return logged }
        guard isSuspect else { return stored }
        throw StoreFailure.damagedRow(
            table: table.name,
            id: id.rawValue,
            reason: "Its other fields cannot be trusted: `peyvand verify --repair` puts them right."
        )
    }
}

// MARK: - The weekly look

extension Replica {
    /// How often every row is read.
    private static let selfCheckInterval: UInt64 = 7 * 86_400_000
    /// Rows that one turn reads: some milliseconds.
    private static let selfCheckRows = 2000

    /// A turn of the weekly look at every row: reads some rows, and, at the end of a table, compares.
    ///
    /// Rows may be written between two turns: their changes are counted in as they happen. What was read is lost
    /// when the node stops; the table is begun again then.
    package func selfCheckTurn(rowsMax: Int = Replica.selfCheckRows) throws {
        let now = wallClock()
        try withWriter { writer in
            if writer.selfCheck == nil {
                let due = try writer.tableDueForCheck(now: now, interval: Self.selfCheckInterval)
                guard let table = due else { return }
                // Nothing of other programs may be pending: it is not in the sums yet.
                try writer.sealIfNeeded()
                writer.selfCheck = SelfCheck(table)
            }
            guard let check = writer.selfCheck else { return }
            guard try !writer.isForeignWritePending() else { return }
            let isDone = try writer.read(rowsMax, of: check)
            guard isDone else { return }
            let damaged = try writer.finish(check)
            let found = damaged.isEmpty ? [] : try Self.unlikeLog(in: Set(damaged), of: check.table, writer.db)
            try writer.transaction {
                try writer.noteChecked(check.table.number, damaged: damaged, at: Int64(clamping: now))
                try writer.db.cachedStatement(sql: "DELETE FROM difference WHERE fromHub = 0 AND tableNumber = ?")
                    .execute(arguments: [check.table.number])
                for row in found { try writer.note(row, fromHub: false) }
            }
        }
    }
}

/// A table that is being read, some rows at a time.
final class SelfCheck {
    let table: TableDescription
    /// The rows up to here have been read.
    var frontier: Int64 = 0
    var counted = [DigestSum](repeating: .zero, count: DigestBuckets.bucketCount)

    init(_ table: TableDescription) { self.table = table }

    /// Counts in what a write has changed of a row that was read already.
    func add(_ change: DigestSum, table number: Int, id: Int64) {
        guard number == table.number, id <= frontier else { return }
        counted[RowHasher.bucket(of: id)] += change
    }
}

extension ReplicaWriter {
    /// The table whose last look is oldest, if that is too long ago. A node that never looked begins to wait now.
    fileprivate func tableDueForCheck(now: UInt64, interval: UInt64) throws -> TableDescription? {
        let rows = try Row.fetchAll(db.cachedStatement(sql: "SELECT tableNumber, wallMilliseconds FROM selfCheck"))
        let times = Dictionary(uniqueKeysWithValues: rows.map { ($0[0] as Int, UInt64(clamping: $0[1] as Int64)) })
        let begun = try fact(.selfCheckBegan).map { UInt64(clamping: $0) }
        guard let begun else {
            try transaction { try note(.selfCheckBegan, Int64(clamping: now)) }
            return nil
        }
        let due = schema.tables.map { ($0, times[$0.number] ?? begun) }.min { $0.1 < $1.1 }
        // A clock that was set back must not end the looking.
        guard let due, due.1 > now || now - due.1 >= interval else { return nil }
        return due.0
    }

    /// Reads the next rows of a table; true when there are no more.
    fileprivate func read(_ rowsMax: Int, of check: SelfCheck) throws -> Bool {
        let table = check.table
        let hasher = RowHasher(organisation: node.organisation ?? [], table: table.number)
        let rows = try RawStatement(
            "SELECT \(table.columnList) FROM \(table.name) WHERE id > ? ORDER BY id LIMIT ?",
            in: db
        )
        defer { rows.reset() }
        rows.bind(1, check.frontier)
        rows.bind(2, Int64(rowsMax))
        var count = 0
        while try rows.step() {
            let id = rows.integer(0)
            check.counted[RowHasher.bucket(of: id)] += hasher.contribution(of: rows, id: id, in: table)
            check.frontier = id
            count += 1
        }
        if count < rowsMax { check.frontier = .max }
        return count < rowsMax
    }

    /// The buckets that do not add up. The look is over.
    fileprivate func finish(_ check: SelfCheck) throws -> [Int] {
        selfCheck = nil
        let kept = try DigestBuckets.buckets(of: check.table.number, db)
        return kept.indices.filter { kept[$0] != check.counted[$0] }
    }
}
