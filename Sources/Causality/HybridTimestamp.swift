/// A moment that respects both the calendar and causality, in one integer that sorts.
///
/// 48 bits of milliseconds since 1970-01-01 UTC, then 16 bits of counter. The top bit of the
/// milliseconds stays clear (the year 6429 is far enough), so the packed value is also a positive
/// SQLite integer.
///
/// - Source: Kulkarni et al., "Logical Physical Clocks", OPODIS 2014.
package struct HybridTimestamp: Hashable, Comparable, Sendable {
    package let packed: UInt64

    /// Before everything: the stamp of a field that nobody wrote.
    package static let zero = HybridTimestamp(clamping: 0)
    /// The last timestamp that can be issued.
    package static let max = HybridTimestamp(clamping: packedMax)
    /// The largest packed value.
    package static let packedMax = UInt64(Int64.max)
    /// The largest number of milliseconds.
    package static let millisecondsMax: UInt64 = packedMax >> 16

    /// Reads a packed value, or returns nil when its top bit is set.
    package init?(packed: UInt64) {
        guard packed <= Self.packedMax else { return nil }
        self.packed = packed
    }

    /// The first timestamp of a millisecond; later ones than can be expressed become the last.
    package init(milliseconds: UInt64) {
        self.init(clamping: Swift.min(milliseconds, Self.millisecondsMax) << 16)
    }

    private init(clamping packed: UInt64) {
        self.packed = Swift.min(packed, Self.packedMax)
    }

    /// Milliseconds since 1970-01-01 UTC.
    package var milliseconds: UInt64 { packed >> 16 }
    /// How many timestamps of this millisecond came before.
    package var counter: UInt16 { UInt16(truncatingIfNeeded: packed) }

    /// The next timestamp; a full counter carries into the milliseconds. The last one stays itself.
    package var next: HybridTimestamp { HybridTimestamp(clamping: packed + 1) }

    package static func < (left: HybridTimestamp, right: HybridTimestamp) -> Bool {
        left.packed < right.packed
    }
}

extension HybridTimestamp: CustomStringConvertible {
    package var description: String { "\(milliseconds).\(counter)" }
}
