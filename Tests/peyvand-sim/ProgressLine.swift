import Foundation
import Rainbow

/// One line on a terminal that says how far something is; nothing elsewhere.
struct ProgressLine {
    private let isShown = isatty(STDERR_FILENO) == 1
    private let clock = ContinuousClock()
    private let begin = ContinuousClock.now

    /// Shows how much of how much is done.
    func show(_ what: String, _ done: Int, of total: Int) {
        guard isShown, done > 0 else { return }
        let seconds = Double((clock.now - begin).components.seconds) + 0.5
        let rate = Double(done) / seconds
        let left = Int(Double(max(total - done, 0)) / max(rate, 0.001))
        let share = total == 0 ? 100 : done * 100 / total
        let line =
            "\(share) %  \(grouped(done)) of \(grouped(total)) \(what), \(grouped(Int(rate))) a second, "
            + "\(left / 60):\(left % 60 < 10 ? "0" : "")\(left % 60) left"
        FileHandle.standardError.write(Data("\r\u{1B}[K\(line)".utf8))
    }

    func clear() {
        if isShown { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) }
    }
}

/// A number with a comma between thousands.
func grouped(_ number: Int) -> String {
    var digits = String(number.magnitude)
    var groups: [String] = []
    while digits.count > 3 {
        groups.insert(String(digits.suffix(3)), at: 0)
        digits.removeLast(3)
    }
    return (number < 0 ? "-" : "") + ([digits] + groups).joined(separator: ",")
}

/// Lines of a name and a number each, aligned.
func printSummary(_ lines: [(String, String)]) {
    let names = lines.map(\.0.count).max() ?? 0
    let numbers = lines.map(\.1.count).max() ?? 0
    for (name, number) in lines {
        let padding = String(repeating: " ", count: names - name.count + 2 + numbers - number.count)
        print(name + padding + number)
    }
}

/// The verdict at the end of a proof.
func printVerdict(_ violations: Int) {
    print(violations == 0 ? "no violation".green : "\(violations) violations".red)
}
