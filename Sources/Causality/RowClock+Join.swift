// Joining two clocks of one row, as two nodes hold it: column by column the greater stamp. A write is merged by
// `RowClock.merge`; this is the same rule for everything that was ever written to the row at once.

extension RowClock {
    /// Joins the clock of the same row at another node into this one.
    ///
    /// Commutative, associative and idempotent, also together with ``merge(_:at:)``: joining the clocks of two
    /// nodes gives the clock of a node that has merged what either has.
    package mutating func join(_ other: RowClock) -> Outcome {
        guard self != other else { return Outcome(won: [], lost: [], decidesExistence: false, isChanged: false) }
        var won = ColumnMask()
        var lost = ColumnMask()
        for column in 1..<max(other.columnCount, 1) {
            let (own, foreign) = (stamp(ofColumn: column), other.stamp(ofColumn: column))
            if foreign > own {
                won.formUnion(ColumnMask(column: column))
            } else if foreign < own {
                lost.formUnion(ColumnMask(column: column))
            }
        }
        let decides = other.newest > newest
        let count = max(columnCount, other.columnCount)
        guard decides || !won.isEmpty || count > columnCount else {
            return Outcome(won: [], lost: lost, decidesExistence: false, isChanged: false)
        }
        let before = self
        self = rebuilt(columnCount: count, newest: max(newest, other.newest)) { column in
            max(before.stamp(ofColumn: column), other.stamp(ofColumn: column))
        }
        return Outcome(won: won, lost: lost, decidesExistence: decides, isChanged: true)
    }

    /// The columns for which this clock speaks.
    package var columns: ColumnMask { ColumnMask(first: columnCount).subtracting(Self.neverStamped) }

    /// The clock of the row at a node whose schema has only the first `count` columns.
    package func restricted(toColumns count: Int) -> RowClock {
        guard columnCount > count else { return self }
        var known = max(count, 1)
        while known > 1, stamp(ofColumn: known - 1) == .zero { known -= 1 }
        return rebuilt(columnCount: known, newest: newest) { stamp(ofColumn: $0) }
    }
}
