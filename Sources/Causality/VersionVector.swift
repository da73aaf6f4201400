/// Names one change set: the `seq`th transaction of a life.
package struct ChangeSetID: Hashable, Comparable, Sendable {
    package let origin: Origin
    /// Counted from 1, without gaps.
    package let seq: UInt64

    package init(origin: Origin, seq: UInt64) {
        self.origin = origin
        self.seq = seq
    }

    package static func < (left: ChangeSetID, right: ChangeSetID) -> Bool {
        left.origin == right.origin ? left.seq < right.seq : left.origin < right.origin
    }
}

extension ChangeSetID: CustomStringConvertible {
    package var description: String { "\(origin):\(seq)" }
}

/// Per origin, the highest `seq` that was accepted. Prefix-closed: having n means having 1...n.
///
/// Kept as a sorted array, so that its order is the same in every run and on every node.
///
/// - Source: Parker et al., "Detection of Mutual Inconsistency in Distributed Systems", IEEE TSE 1983.
package struct VersionVector: Hashable, Sendable {
    /// One entry per origin that has written, ascending by origin.
    package private(set) var entries: [ChangeSetID]

    package init() {
        entries = []
    }

    /// Makes a vector from any entries; of several for one origin the highest counts.
    package init(_ entries: some Sequence<ChangeSetID>) {
        self.entries = []
        for entry in entries { raise(entry.origin, to: entry.seq) }
    }

    /// The highest accepted `seq` of an origin; 0 when there is none.
    package subscript(origin: Origin) -> UInt64 {
        let index = position(of: origin)
        return index < entries.count && entries[index].origin == origin ? entries[index].seq : 0
    }

    /// Notes that everything of `origin` up to `seq` was accepted. Never lowers an entry.
    package mutating func raise(_ origin: Origin, to seq: UInt64) {
        guard seq > 0 else { return }
        let index = position(of: origin)
        if index < entries.count, entries[index].origin == origin {
            if entries[index].seq < seq { entries[index] = ChangeSetID(origin: origin, seq: seq) }
        } else {
            entries.insert(ChangeSetID(origin: origin, seq: seq), at: index)
        }
    }

    /// Joins another vector into this one: entry by entry the higher.
    package mutating func merge(_ other: VersionVector) {
        for entry in other.entries { raise(entry.origin, to: entry.seq) }
    }

    /// Whether this vector has accepted everything that `other` has.
    package func covers(_ other: VersionVector) -> Bool {
        other.entries.allSatisfy { self[$0.origin] >= $0.seq }
    }

    /// Whether this vector has accepted one change set.
    package func covers(_ id: ChangeSetID) -> Bool { self[id.origin] >= id.seq }

    private func position(of origin: Origin) -> Int {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].origin < origin { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

extension VersionVector: CustomStringConvertible {
    package var description: String { entries.map(\.description).joined(separator: " ") }
}
