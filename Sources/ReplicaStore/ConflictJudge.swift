import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

/// A change set that is being taken, as the judge sees it.
struct JudgedChangeSet {
    let id: ChangeSetID
    let stamp: Stamp
    /// Where it stands, or will stand, in the log.
    var position: UInt64
    let seen: SeenChangeSets
}

/// Notices, at head office, when a write arrives whose writer did not know what stands in the row.
///
/// Rows that are written by people who have seen what they overwrite cost a look at the clock that the merge has
/// read anyway, and new rows nothing. A row that is not so becomes *contested*: its writes are kept in the table
/// `contestedWrite` until nothing about it is open. Belongs to the writer; everything happens in its transaction.
final class ConflictJudge {
    /// One row of any replicated table.
    struct RowKey: Hashable, Comparable {
        let table: Int
        let row: Int64

        static func < (left: RowKey, right: RowKey) -> Bool {
            (left.table, left.row) < (right.table, right.row)
        }
    }

    /// The local table. Nothing of it is replicated: it follows from the log.
    static let tables = """
        CREATE TABLE contestedWrite(
            tableNumber INTEGER NOT NULL,
            row INTEGER NOT NULL,
            position INTEGER NOT NULL,
            origin INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            time INTEGER NOT NULL,
            content BLOB NOT NULL,
            PRIMARY KEY (tableNumber, row, position)
        ) WITHOUT ROWID;
        """

    private typealias LogPlace = (id: ChangeSetID, position: UInt64)

    private static let placesMax = 4096
    private let db: Database
    private let findPlace: RawStatement
    /// The rows that have writes in the table.
    private var contested: Set<RowKey> = []
    /// Contested rows that this transaction has looked at.
    private var rows: [RowKey: ContestedRow] = [:]
    /// Where the writes of stamps stand; nil for those of a log that was lost.
    private var places: [Stamp: LogPlace?] = [:]
    /// Rows about which something may have to be listed, or to be hidden.
    private(set) var touched: Set<RowKey> = []
    /// Rows about which a former life of this head office has listed something.
    private(set) var listedBefore: Set<RowKey> = []
    /// How many losing writes were listed, or came up again, since somebody asked.
    private var listed = 0

    init(_ db: Database) throws {
        self.db = db
        findPlace = try RawStatement("SELECT seq, position FROM log WHERE origin = ? AND time = ?", in: db)
    }

    /// Reads what the file says, after opening and after a failed transaction.
    func load() throws {
        endTransaction()
        places = [:]
        listed = 0
        try readContested()
    }

    /// Reads again what the file says of contested rows, after part of a transaction was undone.
    func forgetUndone() throws {
        rows = [:]
        try readContested()
    }

    private func readContested() throws {
        contested = []
        for row in try Row.fetchAll(db.cachedStatement(sql: "SELECT DISTINCT tableNumber, row FROM contestedWrite")) {
            contested.insert(RowKey(table: row[0], row: row[1]))
        }
    }

    /// Forgets what belongs to one transaction.
    func endTransaction() {
        touched = []
        listedBefore = []
        rows = [:]
        if places.count > Self.placesMax { places = [:] }
    }

    /// Whether there is anything to judge at the end of a transaction.
    var hasWork: Bool { !touched.isEmpty || !listedBefore.isEmpty }

    func isContested(_ key: RowKey) -> Bool { contested.contains(key) }

    func countListed() { listed += 1 }

    /// How many losing writes were listed since this was asked before.
    func takeListed() -> Int {
        defer { listed = 0 }
        return listed
    }

    // MARK: Writes

    /// Looks at a write that meets a row, before it is merged.
    ///
    /// - Parameters:
    ///   - values: What it writes, ascending by column.
    ///   - present: The row's values by column number, as they are.
    func meet(
        _ write: RowWrite,
        of table: TableDescription,
        values: () -> [FieldValue],
        clock: RowClock,
        isAlive: Bool,
        by judged: JudgedChangeSet,
        present: () throws -> [FieldValue]?
    ) throws {
        let key = RowKey(table: table.number, row: write.id)
        if !contested.contains(key) {
            if try isSeen(clock, by: judged) { return }
            guard let present = try present() else { return }
            let history = try history(clock, isAlive: isAlive, present)
            // Nothing is known of whoever wrote the row last: a log that was lost.
            guard history.last?.stamp == clock.newest else { return }
            contested.insert(key)
            rows[key] = ContestedRow([])
            for known in history { try add(known, to: key) }
        }
        let seen = try row(key).writes.filter { try judged.seen.contains($0.id, at: $0.position) }.map(\.position)
        try add(
            ContestedWrite(
                id: judged.id,
                position: judged.position,
                stamp: judged.stamp,
                operation: write.operation,
                columns: write.columns.intersection(table.allColumns),
                values: values(),
                seen: Set(seen)
            ),
            to: key
        )
    }

    /// Tells the writes that follow a late one in the log whether they had seen it.
    ///
    /// A write is late that waited in the log for a newer schema: what came after it was judged without it.
    func noteLate(_ key: RowKey, _ late: JudgedChangeSet, isSeen: (ChangeSetID) throws -> Bool) throws {
        guard contested.contains(key) else { return }
        for write in try row(key).writes where write.position > late.position && !write.seen.contains(late.position) {
            guard try isSeen(write.id) else { continue }
            var write = write
            write.seen.insert(late.position)
            try add(write, to: key)
        }
    }

    /// Takes note of what this node wrote itself, having seen everything.
    func noteOwn(_ tables: [WrittenRows], _ set: ChangeSetID, stamp: Stamp, position: UInt64) throws {
        guard !contested.isEmpty else { return }
        for written in tables {
            for number in written.identifiers {
                let key = RowKey(table: written.number, row: number)
                guard contested.contains(key), let id = RowID(rawValue: number), let change = written.change(of: id)
                else { continue }
                try add(
                    ContestedWrite(
                        id: set,
                        position: position,
                        stamp: stamp,
                        operation: change.operation,
                        columns: change.columns,
                        values: change.values,
                        seen: Set(try row(key).writes.map(\.position))
                    ),
                    to: key
                )
            }
        }
    }

    /// Takes note of an entry of the list that was made elsewhere: by a former life of this head office.
    func noteEntry(_ key: RowKey) { listedBefore.insert(key) }

    /// Forgets the values that were written to a row, as its erasure demands.
    func forget(_ key: RowKey) throws {
        guard contested.remove(key) != nil else { return }
        rows[key] = nil
        try db.cachedStatement(sql: "DELETE FROM contestedWrite WHERE tableNumber = ? AND row = ?")
            .execute(arguments: [key.table, key.row])
    }

    /// The writes of a contested row.
    func row(_ key: RowKey) throws -> ContestedRow {
        if let known = rows[key] { return known }
        let stored = try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT position, origin, seq, time, content FROM contestedWrite
                    WHERE tableNumber = ? AND row = ? ORDER BY position
                    """
            ),
            arguments: [key.table, key.row]
        )
        let writes = try stored.map { row in
            let position = UInt64(bitPattern: row[0] as Int64)
            guard let origin = Origin(rawValue: row[1]),
                let time = HybridTimestamp(packed: UInt64(bitPattern: row[3] as Int64))
            else { throw StoreFailure.damagedLog(position: position, reason: "A write that was kept has no stamp.") }
            do {
                return try (row[4] as Data).withUnsafeBytes { content throws(MalformedBytes) in
                    try ContestedWrite(
                        id: ChangeSetID(origin: origin, seq: UInt64(bitPattern: row[2] as Int64)),
                        position: position,
                        stamp: Stamp(time: time, origin: origin),
                        content: content
                    )
                }
            } catch let error as MalformedBytes {
                throw StoreFailure.damagedLog(position: position, reason: error.description)
            }
        }
        let row = ContestedRow(writes)
        rows[key] = row
        return row
    }

    private func add(_ write: ContestedWrite, to key: RowKey) throws {
        var row = try row(key)
        let write = row.add(write)
        rows[key] = row
        touched.insert(key)
        try db.cachedStatement(sql: "INSERT OR REPLACE INTO contestedWrite VALUES (?, ?, ?, ?, ?, ?, ?)").execute(
            arguments: [
                key.table, key.row, Int64(bitPattern: write.position), Int64(write.id.origin.rawValue),
                Int64(bitPattern: write.id.seq), Int64(bitPattern: write.stamp.time.packed), Data(write.content),
            ]
        )
    }

    // MARK: Clocks

    private func isSeen(_ clock: RowClock, by judged: JudgedChangeSet) throws -> Bool {
        guard try isSeen(clock.newest, by: judged) else { return false }
        for exception in clock.exceptions where try !isSeen(exception.stamp, by: judged) { return false }
        return true
    }

    private func isSeen(_ stamp: Stamp, by judged: JudgedChangeSet) throws -> Bool {
        // A node has seen what it wrote itself.
        if stamp.origin == judged.id.origin || stamp == .zero { return true }
        guard let place = try place(of: stamp) else { return true }
        return try judged.seen.contains(place.id, at: place.position)
    }

    private func place(of stamp: Stamp) throws -> LogPlace? {
        if let known = places[stamp] { return known }
        findPlace.bind(1, Int64(stamp.origin.rawValue))
        findPlace.bind(2, stamp.time.packed)
        defer { findPlace.reset() }
        var found: LogPlace?
        if try findPlace.step() {
            found = (
                ChangeSetID(origin: stamp.origin, seq: UInt64(bitPattern: findPlace.integer(0))),
                UInt64(bitPattern: findPlace.integer(1))
            )
        }
        places[stamp] = .some(found)
        return found
    }

    /// What a clock tells of a row whose every writer had seen all before, oldest first.
    private func history(_ clock: RowClock, isAlive: Bool, _ values: [FieldValue]) throws -> [ContestedWrite] {
        var columnsOf: [Stamp: ColumnMask] = [clock.newest: []]
        for column in 1..<max(min(clock.columnCount, values.count), 1) {
            columnsOf[clock.stamp(ofColumn: column), default: []].formUnion(ColumnMask(column: column))
        }
        var seen: Set<UInt64> = []
        var writes: [ContestedWrite] = []
        for (stamp, columns) in columnsOf.sorted(by: { $0.key < $1.key }) where stamp != .zero {
            guard let place = try place(of: stamp) else { continue }
            let isNewest = stamp == clock.newest
            writes.append(
                ContestedWrite(
                    id: place.id,
                    position: place.position,
                    stamp: stamp,
                    operation: isNewest && !isAlive
                        ? .delete : isNewest && columns.isEmpty ? .restore : .update,
                    columns: columns,
                    values: columns.numbers.map { values[$0] },
                    seen: seen
                )
            )
            seen.insert(place.position)
        }
        return writes
    }
}
