/// Something that is measured.
struct Work {
    /// What a command line and the file of floors call it.
    let name: String
    /// What is done, for people.
    let about: String
    let kind: Kind

    enum Kind {
        /// Done by both sides in turns.
        case compared(Comparison, () throws -> any Contest)
        /// The same contest in a small and in a large database: what a row costs in the large one, of what it costs
        /// in the small one.
        case growth(() throws -> (small: any Contest, large: any Contest))
        /// Done by a node alone. The unit is what a cost in seconds is turned into. `make` makes everything ready; each
        /// go begins with what is not measured.
        case timed(String, (Double) -> Double, make: () throws -> () throws -> Cost)
        /// A size that stands for itself: its unit, and how it is taken.
        case figure(String, () throws -> Double)
    }

    /// Which of the two a ratio puts above the line.
    enum Comparison: String {
        /// What ours costs, of what plain SQLite does: less is better.
        case cost
        /// How fast ours is, of how fast plain SQLite is: more is better.
        case speed

        /// The ratio of two costs.
        func ratio(plain: Double, peyvand: Double) -> Double { self == .cost ? peyvand / plain : plain / peyvand }
    }
}

/// A work that both sides do, round by round.
protocol Contest: AnyObject {
    /// Makes the next round ready for both sides. Not measured.
    func prepare() throws
    func runPlain() throws
    func runPeyvand() throws
    /// What Peyvand's side costs; another process may have done it.
    func costOfPeyvand() throws -> Cost
    /// Ends the round, and checks what can be checked in a moment. Not measured.
    func check() throws
    /// Checks after the last round that both sides hold the same.
    func finish() throws
}

extension Contest {
    func costOfPeyvand() throws -> Cost { try Cost.of(runPeyvand) }
    func check() throws {}

    /// One round.
    ///
    /// - Parameter number: Who begins changes from one to the next.
    func round(_ number: Int) throws -> (plain: Cost, peyvand: Cost) {
        try prepare()
        let costs: (plain: Cost, peyvand: Cost)
        if number % 2 == 0 {
            let plain = try Cost.of(runPlain)
            costs = (plain, try costOfPeyvand())
        } else {
            let peyvand = try costOfPeyvand()
            costs = (try Cost.of(runPlain), peyvand)
        }
        try check()
        return costs
    }
}

/// What was measured is not what was meant to be.
struct NotTheSame: Error, CustomStringConvertible {
    let description: String
}

/// What bounds a result: nothing but the file of floors knows the numbers.
struct Floor: Codable {
    var least: Double?
    var most: Double?

    func isKept(by value: Double) -> Bool { (least.map { value >= $0 } ?? true) && (most.map { value <= $0 } ?? true) }

    var description: String {
        least.map { "at least \(shown($0))" } ?? most.map { "at most \(shown($0))" } ?? ""
    }
}

/// A number with as many digits as it is worth.
func shown(_ value: Double) -> String {
    let digits = value >= 100 ? 0 : value >= 10 ? 1 : 2
    var text = "\((value * [1, 10, 100][digits]).rounded() / [1, 10, 100][digits])"
    if digits == 0, text.hasSuffix(".0") { text.removeLast(2) }
    return text
}
