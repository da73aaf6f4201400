@preconcurrency import Rainbow

/// What the place where text is printed can show. Decided once, at the edge.
package struct ConsoleStyle: Hashable, Sendable {
    /// Whether colours may be used.
    package var isColoured: Bool
    /// Whether right-to-left cells are isolated: pointless in a file, needed on a terminal.
    package var isIsolated: Bool
    /// The columns of the terminal; nil: as wide as the text is.
    package var columns: Int?
    /// Whether numbers are shown in Persian digits, and words in Persian.
    package var isPersian: Bool

    /// Makes a style; without arguments, ``plain``.
    package init(
        isColoured: Bool = false,
        isIsolated: Bool = false,
        columns: Int? = nil,
        isPersian: Bool = false
    ) {
        self.isColoured = isColoured
        self.isIsolated = isIsolated
        self.columns = columns
        self.isPersian = isPersian
    }

    /// For files and pipes: text only.
    package static let plain = ConsoleStyle()

    /// For one of this process's streams: all that it can show if it is a terminal, else text only.
    ///
    /// Colour also heeds `NO_COLOR` and `FORCE_COLOR`, as Rainbow reads them.
    package static func detected(_ stream: Terminal.Stream, isPersian: Bool = false) -> ConsoleStyle {
        let isTerminal = Terminal.isTerminal(stream)
        return ConsoleStyle(
            isColoured: isTerminal && Rainbow.enabled,
            isIsolated: isTerminal,
            columns: isTerminal ? Terminal.columns(stream) : nil,
            isPersian: isPersian
        )
    }

    /// Returns the text in this colour or weight, or as it is where there are no colours.
    package func painted(_ text: String, _ codes: any ModeCode...) -> String {
        guard isColoured, !text.isEmpty, !codes.isEmpty else { return text }
        let numbers = codes.flatMap(\.value).map { String($0) }.joined(separator: ";")
        return "\u{1B}[\(numbers)m\(text)\u{1B}[0m"
    }
}
