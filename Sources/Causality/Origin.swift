/// The number that head office gives to one life of a node, at most 20 bits wide.
///
/// A node that was restored from a copy, or cloned, gets a new one, so an origin names one unbroken
/// history of writes. Zero is no origin: a node carries it until head office has given it a number.
package struct Origin: RawRepresentable, Hashable, Comparable, Sendable {
    package let rawValue: UInt32

    /// The largest number that fits the 20 bits an identifier reserves for it.
    package static let rawValueMax: UInt32 = (1 << 20) - 1

    /// The number of a node that has not been given one yet.
    package static let none = Origin(unchecked: 0)

    /// The last number; no life is ever given it.
    package static let last = Origin(unchecked: rawValueMax)

    /// Makes an origin, or returns nil when `rawValue` is larger than ``rawValueMax``.
    package init?(rawValue: UInt32) {
        guard rawValue <= Self.rawValueMax else { return nil }
        self.rawValue = rawValue
    }

    private init(unchecked rawValue: UInt32) {
        self.rawValue = rawValue
    }

    package static func < (left: Origin, right: Origin) -> Bool {
        left.rawValue < right.rawValue
    }
}

extension Origin: CustomStringConvertible {
    package var description: String { String(rawValue) }
}
