/// The permanent identifier of a row: who made it, and the how-manieth row of its table it was there.
///
/// Minted offline by the node that creates the row. People read and type it as `17-4711`.
///
/// Layout: `origin << 43 | counter`, so that it is a positive 64-bit integer, and sequential per
/// branch, which keeps inserts at the end of a B-tree's range.
package struct RowID: RawRepresentable, Hashable, Comparable, Sendable {
    package let rawValue: Int64

    /// Bits of the counter below the origin.
    package static let counterBits: Int64 = 43
    /// The largest counter.
    package static let counterMax: Int64 = (1 << counterBits) - 1

    /// Reads a stored identifier, or returns nil when it names no origin, or no counter.
    package init?(rawValue: Int64) {
        guard rawValue > 0, rawValue >> Self.counterBits != 0, rawValue & Self.counterMax != 0 else {
            return nil
        }
        self.rawValue = rawValue
    }

    /// Makes the identifier of the `counter`th row born at `origin`.
    ///
    /// - Precondition: `counter` is between 1 and ``counterMax``, and `origin` is not ``Origin/none``.
    package init(origin: Origin, counter: Int64) {
        precondition(counter >= 1 && counter <= Self.counterMax, "A row counter left its range")
        precondition(origin != .none, "A row needs the origin that made it")
        rawValue = Int64(origin.rawValue) << Self.counterBits | counter
    }

    /// Reads the printed form, `17-4711`, in ASCII digits; nil when it is not one.
    package init?(printed: some StringProtocol) {
        let parts = printed.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2,
            parts.allSatisfy({ $0.utf8.allSatisfy { (48...57).contains($0) } }),
            let number = UInt32(parts[0]), number > 0, let origin = Origin(rawValue: number),
            let counter = Int64(parts[1]), counter >= 1, counter <= Self.counterMax
        else { return nil }
        self.init(origin: origin, counter: counter)
    }

    /// All identifiers of the origin that a stored one belongs to.
    package static func range(ofOriginOf id: Int64) -> ClosedRange<Int64> {
        let first = id & ~counterMax
        return first...(first | counterMax)
    }

    /// The life in which the row was born.
    package var origin: Origin {
        // The sign bit is never set, so the shift leaves at most 20 bits.
        Origin(rawValue: UInt32(truncatingIfNeeded: rawValue >> Self.counterBits)) ?? .none
    }

    /// The number of the row among those of its table born at ``origin``.
    package var counter: Int64 { rawValue & Self.counterMax }

    /// The identifiers that a node of this origin may give out.
    package static func range(of origin: Origin) -> ClosedRange<Int64> {
        let first = Int64(origin.rawValue) << counterBits
        return first + 1...first + counterMax
    }

    package static func < (left: RowID, right: RowID) -> Bool { left.rawValue < right.rawValue }
}

extension RowID: CustomStringConvertible {
    package var description: String { "\(origin)-\(counter)" }
}
