/// The reasons of an orderly goodbye. They travel as numbers, which are permanent.
enum Farewell {
    static let done = "done"
    static let stopping = "stopping"
    /// The child comes back at once, as somebody else.
    static let again = "again"

    static let all = [done, stopping, again]

    /// From 1; 0 for any other reason, whose words travel.
    static func number(of reason: String) -> UInt8 {
        UInt8(truncatingIfNeeded: (all.firstIndex(of: reason) ?? -1) + 1)
    }

    /// Nil for a number that this version does not know.
    static func reason(_ number: UInt8) -> String? {
        all.indices.contains(Int(number) - 1) ? all[Int(number) - 1] : nil
    }
}
