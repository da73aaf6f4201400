/// When and where a field was last written: the whole order of last-writer-wins.
///
/// The later time wins; equal times, which only concurrent writes of two lives can have, are decided
/// by the larger origin number. Never by value, and never by who is asking, so that every node decides
/// alike.
package struct Stamp: Hashable, Comparable, Sendable {
    package let time: HybridTimestamp
    package let origin: Origin

    /// The stamp of a field that nobody wrote; every write wins over it.
    package static let zero = Stamp(time: .zero, origin: .none)
    /// The stamp of an erased row; it wins over every write.
    package static let erasure = Stamp(time: .max, origin: .last)

    package init(time: HybridTimestamp, origin: Origin) {
        self.time = time
        self.origin = origin
    }

    package static func < (left: Stamp, right: Stamp) -> Bool {
        left.time == right.time ? left.origin < right.origin : left.time < right.time
    }
}

extension Stamp: CustomStringConvertible {
    package var description: String { "\(time)@\(origin)" }
}
