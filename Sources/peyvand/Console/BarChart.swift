import CRM
@preconcurrency import Rainbow

/// Horizontal bars for the console: one line a value, the longest as wide as there is room for.
package enum BarChart {
    /// One bar: its label, its length, and the words for its length.
    package struct Bar: Sendable {
        /// What stands before the bar, escaped when shown.
        package var label: String
        /// What the length stands for; negative values have no bar.
        package var value: Int64
        /// The text behind the bar; nil: the value, in groups of three digits.
        package var caption: String?

        /// Makes a bar.
        package init(_ label: String, _ value: Int64, caption: String? = nil) {
            self.label = label
            self.value = value
            self.caption = caption
        }
    }

    /// Returns the lines of the chart, each ended by a line feed.
    ///
    /// - Parameter style: Without a number of columns, the chart is 72 wide.
    package static func rendered(_ bars: [Bar], _ style: ConsoleStyle = .plain) -> String {
        let labels = bars.map { DisplayText.truncated(shown($0.label, style), columns: 24) }
        let captions = bars.map { shown($0.caption ?? grouped($0.value), style) }
        let labelWidth = labels.map { DisplayText.width(of: $0) }.max() ?? 0
        let captionWidth = captions.map { DisplayText.width(of: $0) }.max() ?? 0
        let room = max(8, (style.columns ?? 72) - labelWidth - captionWidth - 4)
        let largest = max(1, bars.map(\.value).max() ?? 1)
        var result = ""
        for (index, bar) in bars.enumerated() {
            let padding = labelWidth - DisplayText.width(of: labels[index])
            result += style.isIsolated ? DisplayText.isolated(labels[index]) : labels[index]
            result += String(repeating: " ", count: padding + 2)
            let blocks = Self.bar(share: Double(max(0, bar.value)) / Double(largest), columns: room)
            result += style.painted(blocks, NamedColor.cyan) + (blocks.isEmpty ? "" : " ")
            result += (style.isIsolated ? DisplayText.isolated(captions[index]) : captions[index]) + "\n"
        }
        return result
    }

    /// Returns a bar of blocks and eighths of blocks, as long as `share` (0 to 1) of the columns.
    package static func bar(share: Double, columns: Int) -> String {
        guard share.isFinite, share > 0, columns > 0 else { return "" }
        // A value that is not zero always shows, at least as a thin line.
        let eighths = max(1, Int((min(1, share) * Double(columns * 8)).rounded()))
        return String(repeating: "█", count: eighths / 8)
            + ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]
    }

    /// Returns the number with a comma between groups of three digits.
    package static func grouped(_ number: Int64) -> String {
        var digits = Array(String(number.magnitude))
        var index = digits.count - 3
        while index > 0 {
            digits.insert(",", at: index)
            index -= 3
        }
        return (number < 0 ? "-" : "") + String(digits)
    }

    private static func shown(_ text: String, _ style: ConsoleStyle) -> String {
        DisplayText.escaped(style.isPersian ? PersianText.persianDigits(text) : text)
    }
}
