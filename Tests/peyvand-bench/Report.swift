import Foundation
import Rainbow

/// What a work has come to.
struct Report: Encodable {
    let name: String
    let about: String
    /// `cost`, `speed` or `growth` for a ratio, else the unit.
    let measure: String
    /// By processor time; what the floor is about. A size has one value.
    let result: Spread
    /// The same by the time that passed.
    let wall: Spread?
    /// Of a comparison, the seconds of processor time that the plain side took; of growth, the plain side's.
    let plain: Spread?
    /// The most memory of the process that did Peyvand's side meanwhile; this one holds the data set of both sides too.
    let peakMemoryBytes: Int?
    let floor: Floor?
    let isKept: Bool

    init(
        _ work: Work,
        _ measure: String,
        _ result: [Double],
        wall: [Double]? = nil,
        plain: [Double]? = nil,
        costs: [Cost] = [],
        floor: Floor?
    ) {
        (name, about, self.measure, self.floor) = (work.name, work.about, measure, floor)
        self.result = Spread(result)
        self.wall = wall.map(Spread.init)
        self.plain = plain.map(Spread.init)
        peakMemoryBytes = costs.map(\.peakMemoryBytes).max()
        isKept = floor?.isKept(by: self.result.median) ?? true
    }

    /// What is wrong, for people.
    var complaint: String {
        "\(name) is \(shown(result.median)) (\(measure)), and should be \(floor?.description ?? ""): \(about)."
    }
}

/// The table of all results, printed line by line.
struct Table {
    private static let widths = [22, 11, 9, 15, 9, 9, 8, 0]
    private static let textColumns: Set = [0, 1, 7]

    func begin() { write(line(["work", "measure", "median", "low - high", "wall", "plain", "memory", "floor"]).bold) }

    func show(_ report: Report) {
        let isRatioOfSeconds = report.measure != "growth"
        let text = line([
            report.name, report.measure, shown(report.result.median),
            report.result.low == report.result.high
                ? "" : "\(shown(report.result.low)) - \(shown(report.result.high))",
            report.wall.map { shown($0.median) } ?? "",
            report.plain.map { shown($0.median) + (isRatioOfSeconds ? " s" : "") } ?? "",
            report.peakMemoryBytes.map { "\($0 >> 20) MB" } ?? "",
            report.floor?.description ?? "",
        ])
        write(report.isKept ? text : text.red)
    }

    func complain(of report: Report) { write(report.complaint.red) }

    /// Seen at once, also in a file.
    private func write(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

    private func line(_ cells: [String]) -> String {
        let padded = cells.indices.map { column in
            let gap = String(repeating: " ", count: max(0, Self.widths[column] - cells[column].count))
            return Self.textColumns.contains(column) ? cells[column] + gap : gap + cells[column]
        }
        return padded.joined(separator: "  ")
    }
}

/// One line on a terminal that says what is being done; nothing elsewhere.
struct Progress {
    private let isShown = isatty(STDERR_FILENO) == 1

    func show(_ text: String) { write(text.dim) }

    func clear() { write("") }

    private func write(_ text: String) {
        if isShown { FileHandle.standardError.write(Data("\r\u{1B}[K\(text)".utf8)) }
    }
}
