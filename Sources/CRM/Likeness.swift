/// How alike two texts are, in whole numbers only, so that every node decides alike.
///
/// Texts are UTF-16 of keys: the letters of the names that occur are one unit each.
package enum Likeness {
    /// Whether one insertion, removal, replacement or swap of neighbours at most makes one text the other.
    ///
    /// - Source: Damerau, "A technique for computer detection and correction of spelling errors", CACM 1964.
    package static func isWithinOneStep(_ left: [UInt16], _ right: [UInt16]) -> Bool {
        if left.count > right.count { return isWithinOneStep(right, left) }
        guard right.count - left.count <= 1 else { return false }
        var start = 0
        while start < left.count, left[start] == right[start] { start += 1 }
        if start == left.count { return true }
        if left.count < right.count { return left[start...].elementsEqual(right[(start + 1)...]) }
        if left[(start + 1)...].elementsEqual(right[(start + 1)...]) { return true }
        return start + 1 < left.count && left[start] == right[start + 1] && left[start + 1] == right[start]
            && left[(start + 2)...].elementsEqual(right[(start + 2)...])
    }

    /// The same for numbers of equally many digits: one digit replaced, or two neighbours swapped.
    package static func isWithinOneStep(_ left: UInt64, _ right: UInt64) -> Bool {
        if left == right { return true }
        var (left, right) = (left, right)
        while left % 10 == right % 10 {
            left /= 10
            right /= 10
        }
        if left / 10 == right / 10 { return true }
        return left / 100 == right / 100 && left / 10 % 10 == right % 10 && left % 10 == right / 10 % 10
    }

    /// Whether the similarity of Jaro and Winkler, with prefix weight 0.1 over at most four letters, reaches a bound.
    ///
    /// - Parameter percent: The bound, in hundredths.
    /// - Source: Winkler, "String Comparator Metrics and Enhanced Decision Rules", 1990.
    package static func reachesJaroWinkler(_ left: [UInt16], _ right: [UInt16], percent: Int) -> Bool {
        let (leftCount, rightCount) = (left.count, right.count)
        // Letters are matched greedily, which can come out otherwise from the other side: one side is always the first.
        if right.lexicographicallyPrecedes(left) { return reachesJaroWinkler(right, left, percent: percent) }
        // Marks of what was matched are bits; longer texts are not names.
        guard leftCount > 0, rightCount > 0, leftCount <= 64, rightCount <= 64 else { return false }
        let reach = max(0, max(leftCount, rightCount) / 2 - 1)
        var (leftMatched, rightMatched): (UInt64, UInt64) = (0, 0)
        var matches = 0
        for index in 0..<leftCount {
            let first = max(0, index - reach)
            let end = min(rightCount, index + reach + 1)
            guard first < end else { continue }
            for other in first..<end
            where rightMatched & (1 << UInt64(other)) == 0 && left[index] == right[other] {
                leftMatched |= 1 << UInt64(index)
                rightMatched |= 1 << UInt64(other)
                matches += 1
                break
            }
        }
        guard matches > 0 else { return false }
        var outOfOrder = 0
        while leftMatched != 0 {
            if left[leftMatched.trailingZeroBitCount] != right[rightMatched.trailingZeroBitCount] { outOfOrder += 1 }
            leftMatched &= leftMatched - 1
            rightMatched &= rightMatched - 1
        }
        var prefix = 0
        while prefix < min(4, leftCount, rightCount), left[prefix] == right[prefix] { prefix += 1 }
        // Jaro is the mean of m/|a|, m/|b| and (m - t)/m with t = outOfOrder / 2, brought to one denominator.
        let denominator = 6 * leftCount * rightCount * matches
        let numerator =
            2 * matches * matches * (leftCount + rightCount) + (2 * matches - outOfOrder) * leftCount * rightCount
        return 10 * (10 * numerator + prefix * (denominator - numerator)) >= percent * denominator
    }
}
