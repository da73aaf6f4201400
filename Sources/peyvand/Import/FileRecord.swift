/// One record of a file whose rows are taken in.
struct FileRecord: Hashable, Sendable {
    /// The line of the file in which it begins, from 1; the row of a spreadsheet.
    let line: Int
    var cells: [String]
    /// What is wrong with it; its cells are then not to be trusted.
    let flaw: Flaw?
    /// What of it is left out.
    var remarks: [Remark] = []

    /// How a record can be wrong.
    enum Flaw: Hashable, Sendable {
        case textAfterQuote
        case openQuote
        /// A card or an entry without its end.
        case noEnd
        case tooLarge
        /// A time in a time zone that is not known.
        case unknownTime
    }

    /// What a record says beyond what a row can hold.
    enum Remark: Hashable, Sendable {
        case employerLeftOut
        case onlyFirstTime
    }

    /// Whether nothing is in it.
    var isBlank: Bool { flaw == nil && cells.allSatisfy { $0.allSatisfy(\.isWhitespace) } }
}
