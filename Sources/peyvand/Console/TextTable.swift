import CRM
@preconcurrency import Rainbow

/// A table for people: aligned columns under a header, right for Persian text and safe for any text.
///
/// A value that renders to text; printing it is the caller's.
package struct TextTable: Sendable {
    /// The side of the column on which text stands.
    package enum Alignment: Hashable, Sendable {
        case left, right
    }

    /// One column: its heading, and how its cells stand.
    package struct Column: Sendable {
        /// The heading, escaped when shown.
        package var title: String
        /// The side of heading and cells.
        package var alignment: Alignment
        /// The most terminal columns that its cells may take; longer ones are cut with `…`.
        package var widthMax: Int?

        /// Makes a column, left-aligned unless told otherwise.
        package init(_ title: String, _ alignment: Alignment = .left, widthMax: Int? = nil) {
            self.title = title
            self.alignment = alignment
            self.widthMax = widthMax
        }
    }

    /// One cell: text as it is stored, which rendering escapes, and perhaps a colour.
    package struct Cell: Sendable, ExpressibleByStringInterpolation {
        /// What the cell says, not yet escaped.
        package var text: String
        /// The colour where colours are shown; nil: none.
        package var colour: NamedColor?
        /// Whether its digits stay as they are in every language: addresses, digests, names of programs.
        package var isVerbatim = false

        /// Makes a cell.
        package init(_ text: String, colour: NamedColor? = nil) {
            self.text = text
            self.colour = colour
        }

        /// Makes a cell whose digits stay as they are.
        package init(verbatim text: String) {
            self.init(text)
            isVerbatim = true
        }

        /// Makes a cell without colour.
        package init(stringLiteral text: String) { self.init(text) }
    }

    /// The columns from left to right.
    package let columns: [Column]
    /// The rows from top to bottom.
    package private(set) var rows: [[Cell]] = []

    /// Makes a table without rows.
    package init(_ columns: [Column]) { self.columns = columns }

    /// Adds a row. Missing cells stay empty; cells beyond the last column are not shown.
    package mutating func add(_ cells: [Cell]) { rows.append(cells) }

    /// Adds a row of plain texts.
    package mutating func add(_ texts: String...) { rows.append(texts.map { Cell($0) }) }

    /// Returns the lines of the table, each ended by a line feed: header, rule, rows.
    package func rendered(_ style: ConsoleStyle = .plain) -> String {
        guard !columns.isEmpty else { return "" }
        let titles = columns.map { shown(Cell($0.title), style) }
        let texts = rows.map { row in
            columns.indices.map { $0 < row.count ? shown(row[$0], style) : "" }
        }
        let widths = widths(titles: titles, texts: texts, columnsMax: style.columns)

        var result = ""
        // A page of names and values needs no header.
        if titles.contains(where: { !$0.isEmpty }) {
            result += line(titles, widths, style) { _, text in style.painted(text, Style.bold) }
            let rule = widths.map { String(repeating: "─", count: $0) }.joined(separator: Self.gap)
            result += style.painted(rule, Style.dim) + "\n"
        }
        for (row, texts) in zip(rows, texts) {
            result += line(texts, widths, style) { index, text in
                guard index < row.count, let colour = row[index].colour else { return text }
                return style.painted(text, colour)
            }
        }
        return result
    }

    private static let gap = "  "
    private static let narrowestColumn = 4

    private func shown(_ cell: Cell, _ style: ConsoleStyle) -> String {
        let isTranslated = style.isPersian && !cell.isVerbatim
        return DisplayText.escaped(isTranslated ? PersianText.persianDigits(cell.text) : cell.text)
    }

    /// The width of each column: that of its widest text, then the widest are narrowed until a line fits.
    private func widths(titles: [String], texts: [[String]], columnsMax: Int?) -> [Int] {
        var widths = titles.map { DisplayText.width(of: $0) }
        for row in texts {
            for (index, text) in row.enumerated() {
                widths[index] = max(widths[index], DisplayText.width(of: text))
            }
        }
        for (index, column) in columns.enumerated() {
            if let widthMax = column.widthMax { widths[index] = min(widths[index], max(1, widthMax)) }
        }
        guard let columnsMax else { return widths }
        var excess = widths.reduce(0, +) + Self.gap.count * (widths.count - 1) - columnsMax
        while excess > 0, let widest = widths.indices.max(by: { widths[$0] < widths[$1] }),
            widths[widest] > Self.narrowestColumn
        {
            widths[widest] -= 1
            excess -= 1
        }
        return widths
    }

    private func line(
        _ texts: [String],
        _ widths: [Int],
        _ style: ConsoleStyle,
        paint: (Int, String) -> String
    ) -> String {
        var result = ""
        var pendingSpaces = 0
        for (index, text) in texts.enumerated() {
            let cut = DisplayText.truncated(text, columns: widths[index])
            let padding = widths[index] - DisplayText.width(of: cut)
            if index > 0 { pendingSpaces += Self.gap.count }
            if columns[index].alignment == .right { pendingSpaces += padding }
            if !cut.isEmpty {
                // Spaces stay outside colour and isolation, and none trail at the end of a line.
                result += String(repeating: " ", count: pendingSpaces)
                result += paint(index, style.isIsolated ? DisplayText.isolated(cut) : cut)
                pendingSpaces = 0
            }
            if columns[index].alignment == .left { pendingSpaces += padding }
        }
        return result + "\n"
    }
}
