/// Something that is measured.
struct Work {
    /// What a command line and the file of floors call it.
    let name: String
    /// What is done, for people.
    let about: String
    let kind: Kind

    enum Kind {
        /// Done by both sides in turns.
        case compared(Comparison, round: () throws -> any Round)
        /// A size or a time that stands for itself: its unit, and how it is taken.
        case figure(String, take: () throws -> Double)
    }

    /// Which of the two a ratio puts above the line.
    enum Comparison: String, Encodable {
        /// What ours costs, of what plain SQLite does: less is better.
        case cost
        /// How fast ours is, of how fast plain SQLite is: more is better.
        case speed
    }
}

/// One go at a work: made ready by its initialiser, which is not measured.
protocol Round {
    func runPlain() throws
    func runPeyvand() throws
    /// Checks that both did the same, outside what is measured.
    func check() throws
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
