/// The stamps of one row: the newest, and the columns that were last written before it.
///
/// Existence always bears the newest stamp, so whether the row lives or is deleted is decided by the
/// write that bears it. Columns outside ``exceptions`` and below ``columnCount`` bear the newest stamp
/// too; columns that joined the schema after the row's last write bear ``Stamp/zero``.
package struct RowClock: Hashable, Sendable {
    /// A set of columns that share an older stamp.
    package struct Exception: Hashable, Sendable {
        package var columns: ColumnMask
        package var stamp: Stamp

        package init(columns: ColumnMask, stamp: Stamp) {
            self.columns = columns
            self.stamp = stamp
        }
    }

    /// The newest stamp of the row.
    package private(set) var newest: Stamp
    /// Columns with older stamps: disjoint, non-empty sets, newest first; never the newest stamp.
    package private(set) var exceptions: [Exception]
    /// For how many columns this clock speaks: up to the last one that was ever written.
    package private(set) var columnCount: Int

    /// The clock of a row that nobody wrote; every write wins over it.
    package static let unwritten = RowClock(newest: .zero, exceptions: [], columnCount: 0)

    /// The clock of an erased row, later than any write: so erasure is final and absorbs whatever is merged with
    /// it, in any order, by the same rule as everything else.
    ///
    /// - Parameter columnCount: For how many columns it speaks; those of a newer schema are absorbed as well.
    package static func erased(columnCount: Int) -> RowClock {
        RowClock(newest: .erasure, exceptions: [], columnCount: columnCount)
    }

    /// Whether the row is erased.
    package var isErased: Bool { newest == .erasure }

    /// The clock of a row that one write has made.
    ///
    /// - Parameter columns: All columns that its writer knew, from 1 on without a gap.
    package init(birth stamp: Stamp, columns: ColumnMask) {
        self.init(newest: stamp, exceptions: [], columnCount: columns.count + 1)
    }

    /// Restores a stored clock. The caller has validated it; see ``RowClock/init(newest:fields:baseColumnCount:)``.
    init(newest: Stamp, exceptions: [Exception], columnCount: Int) {
        self.newest = newest
        self.exceptions = exceptions
        self.columnCount = columnCount
    }

    /// The stamp of one column.
    package func stamp(ofColumn column: Int) -> Stamp {
        guard column < columnCount else { return .zero }
        for exception in exceptions where exception.columns.contains(column: column) {
            return exception.stamp
        }
        return newest
    }

    /// What a write changed in a row's clock.
    package struct Outcome: Hashable, Sendable {
        /// The columns that took the write's values, because its stamp was greater than theirs.
        package let won: ColumnMask
        /// The columns whose newer values stay.
        package let lost: ColumnMask
        /// Whether the write decides if the row lives.
        package let decidesExistence: Bool
        /// Whether anything in the clock changed; false when the write had been merged before.
        package let isChanged: Bool
    }

    /// Merges one write into this clock by the rule of last-writer-wins, each column by itself.
    ///
    /// Commutative, associative and idempotent: any order of any writes, with repeats, ends in the same
    /// clock. A write of no column (a delete, a restore) still stamps existence.
    ///
    /// - Parameter columns: The columns that the write carries, of whatever schema its writer had. Never
    ///   column 0.
    package mutating func merge(_ columns: ColumnMask, at stamp: Stamp) -> Outcome {
        let decides = stamp > newest
        if decides, exceptions.isEmpty, columns.isSubset(of: ColumnMask(first: columnCount)) {
            // The usual case: a newer write of some columns of a row without exceptions.
            let older = ColumnMask(first: columnCount).subtracting(columns).subtracting(Self.neverStamped)
            if !older.isEmpty { exceptions = [Exception(columns: older, stamp: newest)] }
            newest = stamp
            return Outcome(won: columns, lost: [], decidesExistence: true, isChanged: true)
        }
        var won = ColumnMask()
        for column in columns.numbers {
            let present = self.stamp(ofColumn: column)
            if stamp > present || isPlanted(.tieByArrival) && stamp.time == present.time {
                won.formUnion(ColumnMask(column: column))
            }
        }
        let lost = columns.subtracting(won)
        guard decides || !won.isEmpty else {
            return Outcome(won: [], lost: lost, decidesExistence: false, isChanged: false)
        }
        let count = max(columnCount, 64 - columns.rawValue.leadingZeroBitCount)
        self = rebuilt(columnCount: count, newest: decides ? stamp : newest) { column in
            won.contains(column: column) ? stamp : self.stamp(ofColumn: column)
        }
        return Outcome(won: won, lost: lost, decidesExistence: decides, isChanged: true)
    }

    /// This clock with some of its stamps replaced by others; nil when their order would not stay, so that
    /// other writes would have won.
    package func restamped(_ replacement: (Stamp) -> Stamp) -> RowClock? {
        let newest = replacement(newest)
        var exceptions = exceptions
        var previous = newest
        for index in exceptions.indices {
            let stamp = exceptions[index].stamp
            exceptions[index].stamp = stamp == .zero ? .zero : replacement(stamp)
            guard exceptions[index].stamp < previous else { return nil }
            previous = exceptions[index].stamp
        }
        return RowClock(newest: newest, exceptions: exceptions, columnCount: columnCount)
    }

    /// Column 0 is the identifier, which never changes and bears no stamp.
    static let neverStamped = ColumnMask(column: 0)

    func rebuilt(columnCount count: Int, newest top: Stamp, stampOf: (Int) -> Stamp) -> RowClock {
        var groups: [Exception] = []
        for column in 1..<max(count, 1) {
            let stamp = stampOf(column)
            if stamp == top { continue }
            if let index = groups.firstIndex(where: { $0.stamp == stamp }) {
                groups[index].columns.formUnion(ColumnMask(column: column))
            } else {
                groups.append(Exception(columns: ColumnMask(column: column), stamp: stamp))
            }
        }
        groups.sort { $0.stamp > $1.stamp }
        return RowClock(newest: top, exceptions: groups, columnCount: count)
    }
}
