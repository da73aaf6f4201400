/// What somebody decided about two records of customers.
package enum IdentityVerdict: String, Hashable, Sendable, CaseIterable, Codable {
    /// They are one customer.
    case same
    /// They are not, whatever the rules say.
    case different
    /// The decision was taken back; it counts as if there had been none.
    case retracted

    /// What holds for a pair of which there are several rows, made by offices that did not know of each other.
    ///
    /// Caution decides, never a clock: somebody who had seen all would have written into all. Nil when nothing is decided.
    package static func state(of rows: some Sequence<IdentityVerdict>) -> IdentityVerdict? {
        var state: IdentityVerdict?
        for verdict in rows {
            if verdict == .different { return .different }
            if verdict == .same { state = .same }
        }
        return state
    }
}
