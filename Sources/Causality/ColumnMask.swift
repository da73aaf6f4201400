/// A set of column numbers of one table, at most 64.
package struct ColumnMask: OptionSet, Hashable, Sendable {
    @usableFromInline package let rawValue: UInt64

    @inlinable package init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// One column.
    ///
    /// - Precondition: `column` is below 64.
    @inlinable package init(column: Int) {
        self.init(rawValue: 1 << UInt64(column))
    }

    /// The columns from 0 up to, not including, `count`; all when `count` is 64 or more.
    @inlinable package init(first count: Int) {
        self.init(rawValue: count >= 64 ? .max : (1 << UInt64(max(count, 0))) - 1)
    }

    /// Whether a column is in the set.
    @inlinable package func contains(column: Int) -> Bool {
        column < 64 && rawValue & (1 << UInt64(column)) != 0
    }

    /// How many columns of the set are before this one.
    @inlinable package func rank(of column: Int) -> Int { (rawValue & ((1 << UInt64(column)) - 1)).nonzeroBitCount }

    /// How many columns are in the set.
    @inlinable package var count: Int { rawValue.nonzeroBitCount }
    /// The lowest column, nil when empty.
    @inlinable package var first: Int? { rawValue == 0 ? nil : rawValue.trailingZeroBitCount }

    /// The columns in the set, ascending.
    @inlinable package var numbers: Numbers { Numbers(rest: rawValue) }

    /// Visits the columns of a set without allocating.
    package struct Numbers: Sequence, IteratorProtocol, Sendable {
        fileprivate var rest: UInt64

        /// The next column number; nil after the last.
        @inlinable package mutating func next() -> Int? {
            guard rest != 0 else { return nil }
            defer { rest &= rest - 1 }
            return rest.trailingZeroBitCount
        }
    }
}
