import CRM
import Causality
import SyncProtocol

/// A row as another node holds it, beside its values.
struct JoinedRow {
    let id: Int64
    /// Whether it lies in its table there, or in the graveyard.
    let isAlive: Bool
    let clock: RowClock
}

extension RowMerge {
    /// Merges a row as another node holds it: each field by its greater stamp, existence by the newest of all.
    ///
    /// The same as applying every write that the other node has merged into the row, in any order and together
    /// with any others: joining twice, or joining what was applied, changes nothing.
    ///
    /// - Parameter fields: Must give a value for each column that the clock speaks for.
    /// - Returns: Whether anything in the row changed.
    @discardableResult
    func join<Fields: FieldSource>(_ other: JoinedRow, _ fields: Fields) throws -> Bool {
        if other.clock.isErased { return try erase(other.id) }
        // Columns of a newer schema are taken when this node knows them.
        let foreign = other.clock.restricted(toColumns: table.columns.count)
        if let done = try join(other, foreign, fields, lyingIn: live, isAlive: true) { return done }
        if let done = try join(other, foreign, fields, lyingIn: graveyard, isAlive: false) { return done }
        try insert(other, foreign, fields)
        return true
    }

    /// Puts a row as another node holds it into a table that is known to lack it, without looking.
    ///
    /// - Returns: False when it was there in the same place.
    func insertJoined<Fields: FieldSource>(_ other: JoinedRow, _ fields: Fields) throws -> Bool {
        if other.clock.isErased { return try erase(other.id) }
        return try insert(other, other.clock.restricted(toColumns: table.columns.count), fields)
    }

    @discardableResult
    private func insert<Fields: FieldSource>(
        _ other: JoinedRow,
        _ clock: RowClock,
        _ fields: Fields
    ) throws -> Bool {
        let place = other.isAlive ? live : graveyard
        let stored = StoredClock(clock, of: table)
        guard try place.insert(id: other.id, columns: clock.columns, fields: fields, clock: stored) else {
            return false
        }
        if other.isAlive { try addToDigest(id: other.id, columns: clock.columns, fields: fields, clock: stored) }
        return true
    }

    /// Joins into the row if it lies in `place`; nil when it does not.
    private func join<Fields: FieldSource>(
        _ other: JoinedRow,
        _ foreign: RowClock,
        _ fields: Fields,
        lyingIn place: RowPlace,
        isAlive: Bool
    ) throws -> Bool? {
        var change = DigestSum.zero
        var won = ColumnMask()
        var staysInPlace = true
        var isChanged = false
        // The clock tells what has won; only then is it known which values leave.
        let clock: RowClock? = try place.read(id: other.id, columns: []) { row in
            var clock = try self.clock(in: row, at: 0, id: other.id)
            // Nothing brings an erased row back.
            if clock.isErased { return clock }
            let outcome = clock.join(foreign)
            won = outcome.won
            isChanged = outcome.isChanged
            staysInPlace = !outcome.decidesExistence || other.isAlive == isAlive
            if isChanged, isAlive, staysInPlace {
                hasher.addClock(stored: row, at: 0, of: other.id, to: &change, sign: -1)
            }
            return clock
        }
        guard let clock else { return nil }
        guard isChanged else { return false }
        if isAlive, staysInPlace, !won.isEmpty {
            _ = try place.read(id: other.id, columns: won) { row in
                for (index, column) in won.numbers.enumerated() {
                    hasher.add(row.field(3 + index), column: column, of: other.id, to: &change, sign: -1)
                }
            }
        }
        try settle(id: other.id, isAlive, staysInPlace, won: won, fields, clock, &change)
        return true
    }
}
