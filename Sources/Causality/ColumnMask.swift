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

    /// Whether a column is in the set.
    package func contains(column: Int) -> Bool {
        column < 64 && rawValue & (1 << UInt64(column)) != 0
    }

    /// How many columns are in the set.
    package var count: Int { rawValue.nonzeroBitCount }
    /// The lowest column, nil when empty.
    package var first: Int? { rawValue == 0 ? nil : rawValue.trailingZeroBitCount }

    /// The columns in the set, ascending.
    package var numbers: Numbers { Numbers(rest: rawValue) }

    /// Visits the columns of a set without allocating.
    package struct Numbers: Sequence, IteratorProtocol, Sendable {
        fileprivate var rest: UInt64

        /// The next column number; nil after the last.
        package mutating func next() -> Int? {
            guard rest != 0 else { return nil }
            defer { rest &= rest - 1 }
            return rest.trailingZeroBitCount
        }
    }
}
