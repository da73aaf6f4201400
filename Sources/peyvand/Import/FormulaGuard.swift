/// Keeps programs for tables from taking a text for a formula: an apostrophe before `=`, `+`, `-` and `@`.
///
/// What begins with apostrophes and such a sign gets one more, so that taking one away gives the text back.
///
/// - Source: OWASP, CSV Injection.
enum FormulaGuard {
    private static let signs: Set<Unicode.Scalar> = ["=", "+", "-", "@"]

    /// The text as it is written to a cell.
    static func added(to text: String) -> String { isFormula(text, behind: 0) ? "'" + text : text }

    /// A cell of a file that nobody has guarded, as it is written to a guarded one.
    static func added(toCell cell: String) -> String {
        cell.unicodeScalars.first.map(signs.contains) == true ? "'" + cell : cell
    }

    /// The text that a cell holds.
    static func removed(from cell: String) -> String {
        isFormula(cell, behind: 1) ? String(String.UnicodeScalarView(cell.unicodeScalars.dropFirst())) : cell
    }

    /// Whether a sign stands behind any number of apostrophes, at least so many.
    private static func isFormula(_ text: String, behind count: Int) -> Bool {
        var found = 0
        for scalar in text.unicodeScalars {
            if scalar != "'" { return found >= count && signs.contains(scalar) }
            found += 1
        }
        return false
    }
}
