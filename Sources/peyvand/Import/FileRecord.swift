/// One record of a file whose rows are taken in.
struct FileRecord: Hashable, Sendable {
    /// The line of the file in which it begins, from 1; the row of a spreadsheet.
    let line: Int
    var cells: [String]
    /// What is wrong with its quotes; its cells are then not to be trusted.
    let flaw: Flaw?

    /// How quotes can be wrong.
    enum Flaw: Hashable, Sendable {
        case textAfterQuote
        case openQuote
    }

    /// Whether nothing is in it.
    var isBlank: Bool { cells.allSatisfy { $0.allSatisfy(\.isWhitespace) } }
}
