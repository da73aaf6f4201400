/// The clock that stamps a node's writes: each timestamp is greater than all before it, its own and those
/// of others that were accepted, whatever the wall clock does.
///
/// It belongs to the writer of a replica, and is saved together with what it stamped, so that a restart
/// goes on from there.
///
/// - Source: Kulkarni et al., "Logical Physical Clocks", OPODIS 2014; with both parts in one integer, so
///   that a counter which is full moves the milliseconds on.
package struct HybridLogicalClock: Hashable, Sendable {
    /// The greatest timestamp issued or witnessed so far.
    package private(set) var latest: HybridTimestamp

    /// Continues from the greatest timestamp that was saved; ``HybridTimestamp/zero`` for a new node.
    package init(latest: HybridTimestamp = .zero) {
        self.latest = latest
    }

    /// Issues the next timestamp.
    ///
    /// - Parameter wallMilliseconds: Milliseconds since 1970-01-01 UTC.
    /// - Throws: ``ClockExhausted`` when no later timestamp exists. The clock stays as it was.
    package mutating func tick(wallMilliseconds: UInt64) throws(ClockExhausted) -> HybridTimestamp {
        guard latest < .max else { throw ClockExhausted() }
        latest = Swift.max(HybridTimestamp(milliseconds: wallMilliseconds), latest.next)
        return latest
    }

    /// Moves this clock to a timestamp that was accepted from elsewhere, so that what is written next
    /// is later than it. The caller has decided before that it may be accepted.
    package mutating func witness(_ remote: HybridTimestamp) {
        if isPlanted(.clockBeforeCausality) { return }
        latest = Swift.max(latest, remote)
    }
}

/// The clock has reached the end of its range, which only a corrupt or hostile timestamp can cause.
package struct ClockExhausted: Error, Hashable, Sendable, CustomStringConvertible {
    package init() {}

    package var description: String {
        "The logical clock of this replica is at the end of its range, so nothing can be written. "
            + "A timestamp far in the future was accepted; restore the replica from a backup."
    }
}
