import CRM
import Causality
import GRDB
import SyncProtocol

/// One write to one row, wherever it comes from.
struct RowWrite {
    let id: Int64
    let operation: RowOperation
    var columns: ColumnMask
    let stamp: Stamp
    /// A second write of one local transaction bears the stamp of the first, and replaces it.
    var replacesOwnStamp = false
}

/// Merges writes into the rows of one table, digests included.
///
/// A row is one record, whether it lies in its table or in the graveyard: a write is merged field by field
/// there, and only afterwards does the newest of all stamps decide where the row belongs, in the graveyard
/// when a delete bears it. Belongs to the writer; everything happens in its transaction.
final class RowMerge {
    let table: TableDescription
    private let db: Database
    let live: RowPlace
    let graveyard: RowPlace
    let hasher: RowHasher
    let digests: DigestBuckets
    /// Rows that were erased, and rows whose writes were dropped because they are, since somebody took these.
    private(set) var erased: [Int64] = []
    private var dropped: [Int64] = []

    init(_ table: TableDescription, hasher: RowHasher, digests: DigestBuckets, in db: Database) throws {
        self.table = table
        self.db = db
        self.hasher = hasher
        self.digests = digests
        live = try RowPlace(table, name: table.name, in: db)
        graveyard = try RowPlace(table, name: table.graveyard, in: db)
    }

    /// Applies one write.
    ///
    /// - Parameter meeting: Told the clock of the row that is there already, and whether it lives, before
    ///   anything of it changes.
    /// - Returns: Whether anything in the row changed; false when the write had been merged before.
    @discardableResult
    func apply<Fields: FieldSource>(
        _ write: RowWrite,
        _ fields: Fields,
        meeting: ((RowClock, _ isAlive: Bool) throws -> Void)? = nil
    ) throws -> Bool {
        if write.operation == .erase { return try erase(write.id) }
        var write = write
        // Columns of a newer schema stay in the log until this node knows them.
        write.columns.formIntersection(table.allColumns)
        if write.operation == .birth || isPlanted(.insertFirst) && write.operation.leavesAlive,
            try isPlanted(.insertFirst) || !graveyard.mayContain(id: write.id) || !graveyard.contains(id: write.id)
        {
            let clock = StoredClock(RowClock(birth: write.stamp, columns: write.columns), of: table)
            if try live.insert(id: write.id, columns: write.columns, fields: fields, clock: clock) {
                try addToDigest(id: write.id, columns: write.columns, fields: fields, clock: clock)
                return true
            }
        }
        func merged(lyingIn place: RowPlace, isAlive: Bool) throws -> Bool? {
            try merge(write.id, lyingIn: place, isAlive: isAlive, reading: write.columns) { clock, _ in
                try meeting?(clock, isAlive)
                return (write, fields)
            }
        }
        if let done = try merged(lyingIn: live, isAlive: true) { return done }
        if let done = try merged(lyingIn: graveyard, isAlive: false) { return done }
        // The row is nowhere: what is written is all that is known of it.
        var clock = RowClock.unwritten
        _ = clock.merge(write.columns, at: write.stamp)
        let stored = StoredClock(clock, of: table)
        if write.operation.leavesAlive {
            _ = try live.insert(id: write.id, columns: write.columns, fields: fields, clock: stored)
            try addToDigest(id: write.id, columns: write.columns, fields: fields, clock: stored)
        } else {
            _ = try graveyard.insert(id: write.id, columns: write.columns, fields: fields, clock: stored)
        }
        return true
    }

    /// Writes to a row that lives what somebody decides who sees it.
    ///
    /// - Parameters:
    ///   - columns: The columns that are read.
    ///   - decide: Given the row's clock, and the row: its clock, then those columns from 3 on. Returns a write of no
    ///     other columns, and their values; nil to leave the row as it is.
    /// - Returns: Whether anything in the row changed; nil when it does not live here.
    func edit<Fields: FieldSource>(
        _ id: Int64,
        reading columns: ColumnMask,
        _ decide: (RowClock, RawStatement) throws -> (write: RowWrite, fields: Fields)?
    ) throws -> Bool? {
        try merge(id, lyingIn: live, isAlive: true, reading: columns, decide)
    }

    /// Merges into the row if it lies in `place`; nil when it does not.
    private func merge<Fields: FieldSource>(
        _ id: Int64,
        lyingIn place: RowPlace,
        isAlive: Bool,
        reading columns: ColumnMask,
        _ decide: (RowClock, RawStatement) throws -> (write: RowWrite, fields: Fields)?
    ) throws -> Bool? {
        var change = DigestSum.zero
        var won = ColumnMask()
        var staysInPlace = true
        var decided: Fields?
        let clock: RowClock? = try place.read(id: id, columns: isAlive ? columns : []) { row in
            let before = try self.clock(in: row, at: 0, id: id)
            if before.isErased {
                dropped.append(id)
                return before
            }
            guard let (write, fields) = try decide(before, row) else { return before }
            if isPlanted(.deadRowIgnoresUpdates), !isAlive, write.operation == .update { return before }
            var after = before
            let outcome = after.merge(write.columns, at: write.stamp)
            won = outcome.won
            var decides = outcome.decidesExistence
            if write.replacesOwnStamp {
                for column in outcome.lost.numbers {
                    if before.stamp(ofColumn: column) == write.stamp { won.formUnion(ColumnMask(column: column)) }
                }
                decides = decides || before.newest == write.stamp
            }
            guard outcome.isChanged || !won.isEmpty || decides else { return after }
            decided = fields
            staysInPlace = !decides || write.operation.leavesAlive == isAlive
            if isAlive, staysInPlace {
                hasher.addClock(stored: row, at: 0, of: id, to: &change, sign: -1)
                for column in won.numbers {
                    let index = ReplicaSQL.clockColumns.count + columns.rank(of: column)
                    hasher.add(row.field(index), column: column, of: id, to: &change, sign: -1)
                }
            }
            return after
        }
        guard let clock else { return nil }
        guard let decided else { return false }
        try settle(id: id, isAlive, staysInPlace, won: won, decided, clock, &change)
        return true
    }

    /// Writes what a merge has decided of a row that is here, where the row belongs now.
    ///
    /// - Parameter change: What the sums lose by values and clock of a row that stays alive.
    func settle<Fields: FieldSource>(
        id: Int64,
        _ isAlive: Bool,
        _ staysInPlace: Bool,
        won: ColumnMask,
        _ fields: Fields,
        _ clock: RowClock,
        _ change: inout DigestSum
    ) throws {
        let stored = StoredClock(clock, of: table)
        if staysInPlace {
            try (isAlive ? live : graveyard).update(id: id, columns: won, fields: fields, clock: stored)
            if isAlive {
                hasher.addClock(stored, of: id, to: &change, sign: 1)
                for column in won.numbers {
                    hasher.add(fields[column], column: column, of: id, to: &change, sign: 1)
                }
                try digests.add(change, table: table.number, id: id)
            }
        } else if isAlive {
            try digests.add(negative(of: contribution(ofLive: id)), table: table.number, id: id)
            try live.move(id: id, to: graveyard)
            try graveyard.update(id: id, columns: won, fields: fields, clock: stored)
        } else {
            try graveyard.move(id: id, to: live)
            try live.update(id: id, columns: won, fields: fields, clock: stored)
            if isPlanted(.digestForgetsRevival) { return }
            try digests.add(contribution(ofLive: id), table: table.number, id: id)
        }
    }

    /// Replaces stamps of a row by others, wherever it lies; its values stay.
    ///
    /// - Throws: ``StampOrderFailure`` when another write would have won with those.
    func restamp(id: Int64, _ replacement: (Stamp) -> Stamp) throws {
        for place in [live, graveyard] {
            var change = DigestSum.zero
            let found = try place.read(id: id, columns: []) { row -> (isChanged: Bool, clock: RowClock) in
                let before = try self.clock(in: row, at: 0, id: id)
                guard let after = before.restamped(replacement) else { throw StampOrderFailure() }
                hasher.addClock(stored: row, at: 0, of: id, to: &change, sign: -1)
                return (after != before, after)
            }
            guard let found else { continue }
            guard found.isChanged else { return }
            let stored = StoredClock(found.clock, of: table)
            try place.update(id: id, columns: [], fields: NoFields(), clock: stored)
            if place === live {
                hasher.addClock(stored, of: id, to: &change, sign: 1)
                try digests.add(change, table: table.number, id: id)
            }
            return
        }
    }

    // MARK: Identifiers

    private lazy var selectNextIdentifier = Result {
        try RawStatement(ReplicaSQL.nextIdentifierQuery(of: table), in: db)
    }

    /// The next free identifier of this node; nil when it has no origin yet.
    func nextIdentifier() throws -> Int64? {
        let select = try selectNextIdentifier.get()
        defer { select.reset() }
        return try select.step() ? select.integer(0) : nil
    }

    // MARK: Repair

    /// Puts a row in place exactly as head office holds it, or takes it away; the sums are left to be counted again.
    func replace<Fields: FieldSource>(_ id: Int64, with clock: RowClock?, isAlive: Bool, _ fields: Fields) throws {
        try live.remove(id: id)
        try graveyard.remove(id: id)
        guard let clock else { return }
        let columns = ColumnMask(first: clock.columnCount).intersection(table.allColumns)
        let stored = StoredClock(clock, of: table)
        _ = try (isAlive ? live : graveyard).insert(id: id, columns: columns, fields: fields, clock: stored)
    }

    // MARK: Erasure

    /// Takes a row's values away, and marks its identifier so that nothing comes back.
    ///
    /// The mark is a row of the graveyard without values, with a clock that wins over every write.
    func erase(_ id: Int64) throws -> Bool {
        guard try !isErased(id) else { return false }
        if try live.contains(id: id) {
            try digests.add(negative(of: contribution(ofLive: id)), table: table.number, id: id)
            try live.remove(id: id)
        }
        try bury(id)
        erased.append(id)
        return true
    }

    /// Makes an erased row what it was before another program wrote it. Nothing of that is in the digests.
    func eraseAgain(_ id: Int64) throws {
        try live.remove(id: id)
        try bury(id)
    }

    /// Puts the mark of an erased row in place of whatever the graveyard holds of it.
    private func bury(_ id: Int64) throws {
        try graveyard.remove(id: id)
        if isPlanted(.erasedRevived) { return }
        let clock = StoredClock(RowClock.erased(columnCount: table.baseColumnCount), of: table)
        _ = try graveyard.insert(id: id, columns: [], fields: NoFields(), clock: clock)
    }

    /// Whether a row is erased.
    func isErased(_ id: Int64) throws -> Bool {
        try graveyard.read(id: id, columns: []) { $0.newestStamp(at: 0) == .erasure } ?? false
    }

    /// Whether rows were erased since ``takeErased()``.
    var hasErased: Bool { !erased.isEmpty }

    /// The rows that were erased since this was last asked.
    func takeErased() -> [Int64] {
        defer { erased.removeAll() }
        return erased
    }

    /// The rows to which writes were dropped, because they are erased, since this was last asked.
    func takeDropped() -> [Int64] {
        defer { dropped.removeAll() }
        return dropped
    }

    // MARK: Digests

    /// What a live row adds to its table's sums, read from the row.
    func contribution(ofLive id: Int64) throws -> DigestSum {
        try live.readRow(id: id) { self.contribution(of: $0, id: id) } ?? .zero
    }

    /// What a row adds to its table's sums: its columns by number, then its clock.
    func contribution(of row: RawStatement, id: Int64) -> DigestSum {
        hasher.contribution(of: row, id: id, in: table)
    }

    func addToDigest<Fields: FieldSource>(
        id: Int64,
        columns: ColumnMask,
        fields: Fields,
        clock: StoredClock
    ) throws {
        var sum = DigestSum(rows: 1, sum1: 0, sum2: 0)
        for column in columns.numbers { hasher.add(fields[column], column: column, of: id, to: &sum, sign: 1) }
        hasher.addClock(clock, of: id, to: &sum, sign: 1)
        try digests.add(sum, table: table.number, id: id)
    }

    func negative(of sum: DigestSum) -> DigestSum {
        var result = DigestSum.zero
        result -= sum
        return result
    }

    // MARK: Clocks

    /// The clock in a row, whose columns begin at `index`.
    func clock(in row: RawStatement, at index: Int, id: Int64) throws -> RowClock {
        do {
            return try RowClock(
                newest: row.newestStamp(at: index),
                fields: row.blob(index + 2),
                baseColumnCount: table.baseColumnCount
            )
        } catch {
            throw StoreFailure.damagedRow(table: table.name, id: id, reason: error.description)
        }
    }

}

/// Stamps cannot be replaced without changing which write wins.
struct StampOrderFailure: Error {}

extension RawStatement {
    /// The newest stamp in a row whose clock begins at `index`; ``Stamp/zero`` in a row that another program
    /// inserted and that is not sealed.
    func newestStamp(at index: Int) -> Stamp {
        let time = HybridTimestamp(packed: UInt64(bitPattern: integer(index))) ?? .zero
        let origin = Origin(rawValue: UInt32(truncatingIfNeeded: integer(index + 1))) ?? .none
        return Stamp(time: time, origin: origin)
    }
}

extension RowHasher {
    /// What a row adds to its table's sums: its columns by number, then its clock.
    func contribution(of row: RawStatement, id: Int64, in table: TableDescription) -> DigestSum {
        var sum = DigestSum(rows: 1, sum1: 0, sum2: 0)
        for column in 1..<table.columns.count {
            add(row.field(column), column: column, of: id, to: &sum, sign: 1)
        }
        addClock(stored: row, at: table.columns.count, of: id, to: &sum, sign: 1)
        return sum
    }

    /// Adds or takes away a clock.
    func addClock(_ clock: StoredClock, of id: Int64, to sum: inout DigestSum, sign: Int64) {
        guard let fields = clock.fields else {
            return addClock(newest: clock.newest, fields: nil, of: id, to: &sum, sign: sign)
        }
        fields.withUnsafeBytes { addClock(newest: clock.newest, fields: $0, of: id, to: &sum, sign: sign) }
    }

    /// Adds or takes away a clock that lies in a row from `index` on.
    func addClock(stored row: RawStatement, at index: Int, of id: Int64, to sum: inout DigestSum, sign: Int64) {
        addClock(newest: row.newestStamp(at: index), fields: row.blob(index + 2), of: id, to: &sum, sign: sign)
    }
}
