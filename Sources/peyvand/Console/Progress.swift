import CRM
import Foundation

/// How far long work has come: what a progress line shows.
package struct WorkProgress: Hashable, Sendable {
    /// What is being done, escaped when shown.
    package var label: String
    /// Units done, with those of earlier runs.
    package var count: Int
    /// The count when all is done; nil when nobody knows.
    package var total: Int?
    /// The count at which this run began, when it resumes earlier work: not part of the rate.
    package var resumedAt: Int
    /// Time since this run began.
    package var elapsed: Duration

    /// Notes a state of the work.
    package init(
        label: String,
        count: Int = 0,
        total: Int? = nil,
        resumedAt: Int = 0,
        elapsed: Duration = .zero
    ) {
        self.label = label
        self.count = count
        self.total = total
        self.resumedAt = resumedAt
        self.elapsed = elapsed
    }

    /// Units done per second of this run; nil before there is enough to tell.
    package var ratePerSecond: Double? {
        let seconds = elapsed / .seconds(1)
        guard seconds >= 0.5, count > resumedAt else { return nil }
        return Double(count - resumedAt) / seconds
    }

    /// Time until all is done at the rate so far; nil when unknown.
    package var timeLeft: Duration? {
        guard let total, let ratePerSecond else { return nil }
        return .seconds(Double(max(0, total - count)) / ratePerSecond)
    }

    /// Returns one line without colours: label, bar, share, count, rate, time left, at most `columns` wide.
    ///
    /// What does not fit goes in this order: the bar gets shorter and goes, then the end is cut.
    package func rendered(columns: Int, style: ConsoleStyle = .plain) -> String {
        let isPersian = style.isPersian
        var parts: [String] = []
        if let total, total > 0 {
            let share = min(1, max(0, Double(count) / Double(total)))
            // Rounded down: 100 % means done.
            parts.append("\(Int(share * 100))%")
            parts.append("\(BarChart.grouped(Int64(count)))/\(BarChart.grouped(Int64(total)))")
        } else {
            parts.append(BarChart.grouped(Int64(count)))
        }
        if let ratePerSecond {
            let rate = Self.text(ofRate: ratePerSecond)
            parts.append(isPersian ? "\(rate) در ثانیه" : "\(rate)/s")
        }
        if let timeLeft, let total, count < total {
            parts.append("\(Self.text(of: timeLeft)) \(isPersian ? "مانده" : "left")")
        } else if total == nil || count >= (total ?? 0) {
            parts.append(Self.text(of: elapsed))
        }
        let isolate = style.isIsolated ? DisplayText.isolated : { $0 }
        let label = isolate(DisplayText.escaped(label))
        let end = parts.map { isolate(isPersian ? PersianText.persianDigits($0) : $0) }.joined(
            separator: "  "
        )
        let room = columns - DisplayText.width(of: label) - DisplayText.width(of: end) - 6
        guard let total, total > 0, room >= 8 else {
            return DisplayText.truncated("\(label)  \(end)", columns: columns)
        }
        let barColumns = min(30, room)
        let bar = BarChart.bar(share: Double(count) / Double(total), columns: barColumns)
        let rest = String(repeating: " ", count: barColumns - DisplayText.width(of: bar))
        return "\(label)  [\(bar)\(rest)]  \(end)"
    }

    private static func text(ofRate rate: Double) -> String {
        rate >= 10 || rate > 1e15 ? BarChart.grouped(Int64(min(rate, 1e15))) : String(format: "%.1f", rate)
    }

    /// Returns `0:42`, `12:05` or `3:04:09`.
    private static func text(of duration: Duration) -> String {
        let seconds = min(duration.components.seconds, 359_999_999)
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60)
        return hours > 0
            ? String(format: "%ld:%02ld:%02ld", hours, minutes, seconds % 60)
            : String(format: "%ld:%02ld", minutes, seconds % 60)
    }
}

/// Draws the ``WorkProgress`` of long work over and over on one line, never more than ten times a second.
///
/// Belongs to the one task that does the work. Where nobody looks it draws nothing, so logs stay clean.
package struct ProgressLine: Sendable {
    private var progress: WorkProgress
    private let style: ConsoleStyle
    private let isShown: Bool
    private let now: @Sendable () -> ContinuousClock.Instant
    private let write: @Sendable (String) -> Void
    private let begin: ContinuousClock.Instant
    private var drawnAt: ContinuousClock.Instant?

    /// The least time between two drawings.
    package static let interval = Duration.milliseconds(100)

    /// Makes a line that draws with `write`, at the times that `now` tells.
    package init(
        _ progress: WorkProgress,
        style: ConsoleStyle,
        isShown: Bool,
        now: @escaping @Sendable () -> ContinuousClock.Instant,
        write: @escaping @Sendable (String) -> Void
    ) {
        self.progress = progress
        self.style = style
        self.isShown = isShown
        self.now = now
        self.write = write
        begin = now()
    }

    /// Makes a line on standard error, shown only if that is a terminal.
    package static func onStandardError(
        _ label: String,
        total: Int? = nil,
        resumedAt: Int = 0,
        isPersian: Bool = false
    ) -> ProgressLine {
        ProgressLine(
            WorkProgress(label: label, count: resumedAt, total: total, resumedAt: resumedAt),
            style: .detected(.error, isPersian: isPersian),
            isShown: Terminal.isTerminal(.error),
            now: { .now },
            write: { Terminal.write($0, to: .error) }
        )
    }

    /// Notes how far the work has come, and draws if the last drawing is old enough.
    package mutating func update(count: Int, total: Int? = nil) {
        progress.count = count
        if let total { progress.total = total }
        guard isShown else { return }
        let instant = now()
        if let drawnAt, drawnAt.duration(to: instant) < Self.interval { return }
        draw(at: instant)
    }

    /// Draws the last state and ends the line. Call it also when the work failed or was stopped.
    package mutating func finish() {
        guard isShown else { return }
        draw(at: now())
        write("\n")
    }

    private mutating func draw(at instant: ContinuousClock.Instant) {
        drawnAt = instant
        progress.elapsed = begin.duration(to: instant)
        // One column stays free: a full line would make some terminals begin the next one.
        let line = progress.rendered(columns: (style.columns ?? 80) - 1, style: style)
        write("\r\(line)\u{1B}[K")
    }
}
