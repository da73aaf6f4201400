/// A set of column numbers of one table, at most 64.
package struct ColumnMask: OptionSet, Hashable, Sendable {
    package let rawValue: UInt64

    package init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// One column.
    ///
    /// - Precondition: `column` is below 64.
    package init(column: Int) {
        self.init(rawValue: 1 << UInt64(column))
    }

    /// The columns from 0 up to, not including, `count`; all when `count` is 64 or more.
    package init(first count: Int) {
        self.init(rawValue: count >= 64 ? .max : (1 << UInt64(max(count, 0))) - 1)
    }

    package func contains(column: Int) -> Bool {
        column < 64 && rawValue & (1 << UInt64(column)) != 0
    }

    /// How many columns are in the set.
    package var count: Int { rawValue.nonzeroBitCount }
    /// The lowest column, nil when empty.
    package var first: Int? { rawValue == 0 ? nil : rawValue.trailingZeroBitCount }

    /// Calls `body` for each column, ascending.
    @inlinable
    package func forEach<Failure: Error>(_ body: (Int) throws(Failure) -> Void) throws(Failure) {
        var rest = rawValue
        while rest != 0 {
            try body(rest.trailingZeroBitCount)
            rest &= rest - 1
        }
    }
}
