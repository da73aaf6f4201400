/// Names a prefix of one hub's log for ever: its length, and a hash over everything in it.
///
/// Two pairs are equal only when the logs before them are, on whatever life of the hub.
package struct LogPrefix: Hashable, Sendable {
    /// The number of the last change set in the prefix; 0 for the empty one.
    package let position: UInt64
    /// The first 8 bytes, little-endian, of `SHA-256(previous digest || origin || seq || chain)`.
    package let digest: UInt64

    /// The prefix of an empty log.
    package static let empty = LogPrefix(position: 0, digest: 0)

    package init(position: UInt64, digest: UInt64) {
        self.position = position
        self.digest = digest
    }
}

extension LogPrefix: CustomStringConvertible {
    package var description: String {
        let hex = String(digest, radix: 16)
        return "\(position)/\(String(repeating: "0", count: 16 - hex.count))\(hex)"
    }
}

/// What the writer of a change set had seen. It says as much as a version vector would, and stays a few
/// bytes long with any number of branches.
///
/// A branch knows others' work only through its hub, in the order of the hub's log, so the prefix it
/// has taken says it all; head office names its own log in the same way. What the writer itself wrote
/// before is implied by the change set's own number.
package struct CausalContext: Hashable, Sendable {
    /// The former lives of the writer, whose work it had, ascending by origin.
    package let lives: [ChangeSetID]
    /// The hub's log up to what the writer had taken; normally one, none before the first contact.
    package let hubs: [LogPrefix]

    /// Had seen nothing but its own work.
    package static let empty = CausalContext(lives: [], hubs: [])

    package init(lives: [ChangeSetID], hubs: [LogPrefix]) {
        self.lives = lives
        self.hubs = hubs
    }
}
