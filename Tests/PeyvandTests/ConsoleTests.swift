import Synchronization
import Testing

@testable import peyvand

@Suite("Commands that there are not")
struct UnknownCommandTests {
    @Test("A wrong word after a command is named, with those that would do")
    func unknown() {
        let failure = Peyvand.unknownCommand(in: ["customer", "frobnicate", "--data", "x"])
        #expect(failure?.exit == .usage)
        #expect(
            failure?.sentence.hasPrefix("There is no command \"peyvand customer frobnicate\". There are: add, ") == true
        )
        #expect(Peyvand.unknownCommand(in: ["frobnicate"]) != nil)
    }

    @Test(
        "What the parser understands is left to it",
        arguments: [
            [], ["--version"], ["help", "sync"], ["customer"], ["customer", "--help"], ["customer", "show", "2-1"],
            ["log", "--after", "3"], ["node", "list"], ["receipt", "isfahan"],
        ]
    )
    func known(words: [String]) {
        #expect(Peyvand.unknownCommand(in: words) == nil)
    }
}

@Suite("Console text")
struct ConsoleTextTests {
    @Test(
        "Text takes as many columns as a terminal gives it",
        arguments: [
            ("", 0), ("abc", 3), ("مریم", 4), ("حسین\u{200C}زاده", 8), ("مُحَمَّد", 4), ("خانهٔ", 4), ("日本", 4),
            ("e\u{301}", 1), ("\u{202A}+98\u{202C}", 3), ("۱۴۰۵/۰۹/۰۱", 10), ("🙂", 2), ("한국", 4), ("é…", 2),
            ("ａ", 2),
        ]
    )
    func width(text: String, columns: Int) {
        #expect(DisplayText.width(of: text) == columns)
    }

    @Test("Nothing in a text can move the cursor, colour the screen or turn the line round")
    func escaping() {
        #expect(DisplayText.escaped("a\u{1B}[31m\n\t\r") == "a\\u{1B}[31m\\n\\t\\r")
        #expect(DisplayText.escaped("\u{202E}x\u{2066}y\u{9B}") == "\\u{202E}x\\u{2066}y\\u{9B}")
        #expect(DisplayText.escaped("حسین\u{200C}زاده") == "حسین\u{200C}زاده")
    }

    @Test("Long text is cut between letters and marked with an ellipsis")
    func truncation() {
        #expect(DisplayText.truncated("abcdef", columns: 6) == "abcdef")
        #expect(DisplayText.truncated("abcdef", columns: 4) == "abc…")
        #expect(DisplayText.truncated("日本語", columns: 4) == "日…")
        #expect(DisplayText.truncated("مُحَمَّد", columns: 3) == "مُحَ…")
        #expect(DisplayText.truncated("ab\u{200C}cd", columns: 3) == "ab…")
        #expect(DisplayText.truncated("abc", columns: 1) == "…")
        #expect(DisplayText.truncated("abc", columns: 0) == "")
    }

    @Test("Only text with right-to-left letters is isolated, and that takes no column")
    func isolation() {
        #expect(DisplayText.isolated("abc ۱۲") == "abc ۱۲")
        let isolated = DisplayText.isolated("مریم")
        #expect(Array(isolated.unicodeScalars.map(\.value)).suffix(2) == [0x2069, 0x200E])
        #expect(DisplayText.width(of: isolated) == 4)
    }
}

@Suite("Text table")
struct TextTableTests {
    private func sample() -> TextTable {
        var table = TextTable([.init("name"), .init("rial", .right), .init("city")])
        table.add("مریم رضایی", "1,200", "اصفهان")
        table.add("Ali", "30")
        return table
    }

    @Test("Columns are aligned under their header, with no spaces at the end")
    func plain() {
        #expect(
            sample().rendered()
                == """
                name         rial  city
                ──────────  ─────  ──────
                مریم رضایی  1,200  اصفهان
                Ali            30

                """
        )
    }

    @Test("Every column begins at the same place on the terminal, also beside Persian text and in colour")
    func sameColumns() {
        var table = TextTable([.init("a"), .init("b"), .init("c")])
        table.add([.init("حسین\u{200C}زاده", colour: .red), "x", "1"])
        table.add("مُحَمَّد", "日本", "2")
        let style = ConsoleStyle(isColoured: true, isIsolated: true)
        let starts = table.rendered(style).split(separator: "\n").dropFirst(2).map { line -> Int in
            let bare = line.replacing("\u{1B}[31m", with: "").replacing("\u{1B}[0m", with: "")
            return DisplayText.width(of: String(bare.dropLast()))
        }
        #expect(starts == [16, 16])
    }

    @Test("A line fits the terminal: the widest columns give way")
    func fits() {
        var table = TextTable([.init("id"), .init("text"), .init("note")])
        table.add("17-4711", String(repeating: "سلام ", count: 30), String(repeating: "x", count: 60))
        let lines = table.rendered(ConsoleStyle(isIsolated: true, columns: 60)).split(separator: "\n")
        #expect(lines.allSatisfy { DisplayText.width(of: String($0)) <= 60 })
        #expect(lines[2].contains("17-4711"))
        #expect(lines[2].contains("…"))
    }

    @Test("A column with a limit is cut there")
    func limit() {
        var table = TextTable([.init("n", widthMax: 4)])
        table.add("abcdefgh")
        #expect(table.rendered() == "n\n────\nabc…\n")
    }

    @Test("Colours and isolates appear only where they can be shown")
    func styles() {
        var table = TextTable([.init("n")])
        table.add([.init("مریم", colour: .green)])
        #expect(!table.rendered().contains("\u{1B}"))
        #expect(!table.rendered().contains("\u{2068}"))
        let shown = table.rendered(ConsoleStyle(isColoured: true, isIsolated: true))
        #expect(shown.contains("\u{1B}[32m\u{200E}\u{2068}مریم\u{2069}\u{200E}\u{1B}[0m"))
    }

    @Test("A cell cannot smuggle escapes or line breaks into the table")
    func safety() {
        var table = TextTable([.init("n")])
        table.add("a\n\u{1B}]0;x\u{7}\u{202E}b")
        let text = table.rendered()
        #expect(text.split(separator: "\n").count == 3)
        #expect(!text.contains("\u{1B}") && !text.contains("\u{202E}"))
    }

    @Test("Persian readers see Persian digits")
    func persian() {
        var table = TextTable([.init("n")])
        table.add("1405/09/01")
        #expect(table.rendered(ConsoleStyle(isPersian: true)).contains("۱۴۰۵/۰۹/۰۱"))
    }

    @Test("A table without columns is empty, and one without rows is its header")
    func empty() {
        #expect(TextTable([]).rendered().isEmpty)
        #expect(TextTable([.init("n")]).rendered() == "n\n─\n")
    }
}

@Suite("Bar chart")
struct BarChartTests {
    @Test("The longest bar fills the room and the others are in proportion")
    func proportion() {
        let lines = BarChart.rendered([.init("a", 100), .init("b", 50), .init("c", 0), .init("d", -5)])
            .split(separator: "\n", omittingEmptySubsequences: false)
        let blocks = lines.map { $0.count { $0 == "█" } }
        #expect(blocks[0] == 2 * blocks[1] && blocks[1] > 0)
        #expect(lines[2] == "c  0")
        #expect(lines[3] == "d  -5")
        #expect(DisplayText.width(of: String(lines[0])) <= 72)
    }

    @Test("A value that is not zero always shows")
    func small() {
        #expect(BarChart.bar(share: 0.000_001, columns: 10) == "▏")
        #expect(BarChart.bar(share: 2, columns: 3) == "███")
        #expect(BarChart.bar(share: .nan, columns: 3).isEmpty)
    }

    @Test(
        "Numbers are grouped by three digits",
        arguments: [
            (0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567"),
            (Int64.min, "-9,223,372,036,854,775,808"),
        ]
    )
    func grouping(number: Int64, text: String) {
        #expect(BarChart.grouped(number) == text)
    }
}

@Suite("Progress line")
struct ProgressLineTests {
    /// A clock that a test moves, and what was written at it.
    private final class Stage: Sendable {
        private let state = Mutex((now: ContinuousClock.now, written: [String]()))
        var written: [String] { state.withLock { $0.written } }
        var now: ContinuousClock.Instant { state.withLock { $0.now } }
        func advance(_ duration: Duration) { state.withLock { $0.now += duration } }
        func write(_ text: String) { state.withLock { $0.written.append(text) } }
        func line(isShown: Bool = true, total: Int? = 100) -> ProgressLine {
            ProgressLine(
                WorkProgress(label: "import", total: total),
                style: ConsoleStyle(columns: 80),
                isShown: isShown,
                now: { self.now },
                write: { self.write($0) }
            )
        }
    }

    @Test("It shows share, count, rate and time left")
    func content() {
        let progress = WorkProgress(label: "import", count: 45_000, total: 100_000, elapsed: .seconds(10))
        let line = progress.rendered(columns: 100)
        #expect(line.hasPrefix("import  [█████████████▌                ]"))
        #expect(line.hasSuffix("45%  45,000/100,000  4,500/s  0:12 left"))
    }

    @Test("The rate counts only the work of this run when it resumes an earlier one")
    func resumed() {
        let progress = WorkProgress(
            label: "load",
            count: 1_100,
            total: 2_100,
            resumedAt: 1_000,
            elapsed: .seconds(10)
        )
        #expect(progress.ratePerSecond == 10)
        #expect(progress.timeLeft == .seconds(100))
    }

    @Test("A line never is wider than the terminal", arguments: [1, 5, 20, 40, 60, 79, 200])
    func fits(columns: Int) {
        for style in [ConsoleStyle.plain, ConsoleStyle(isIsolated: true, isPersian: true)] {
            let progress = WorkProgress(label: "ورود مشتری", count: 5, total: 9, elapsed: .seconds(4000))
            #expect(DisplayText.width(of: progress.rendered(columns: columns, style: style)) <= columns)
        }
    }

    @Test("Without a total it shows count, rate and time passed")
    func noTotal() {
        let progress = WorkProgress(label: "read", count: 1_000, elapsed: .seconds(4))
        #expect(progress.rendered(columns: 80) == "read  1,000  250/s  0:04")
    }

    @Test("More work than expected, none, or a negative count harms nothing")
    func oddCounts() {
        for (count, total) in [(10, 5), (0, 0), (-3, 5), (Int.max, Int.max), (0, 5)] {
            let progress = WorkProgress(label: "x", count: count, total: total, elapsed: .seconds(1))
            #expect(progress.rendered(columns: 80).hasPrefix("x  "))
        }
    }

    @Test("It is drawn at most ten times a second")
    func rate() {
        let stage = Stage()
        var line = stage.line()
        for count in 0..<1_000 {
            line.update(count: count)
            stage.advance(.milliseconds(1))
        }
        #expect(stage.written.count == 10)
        line.finish()
        #expect(stage.written.count == 12)
        #expect(stage.written.last == "\n")
        #expect(stage.written.dropLast().allSatisfy { $0.hasPrefix("\r") && $0.hasSuffix("\u{1B}[K") })
    }

    @Test("Nothing is drawn where nobody looks")
    func hidden() {
        let stage = Stage()
        var line = stage.line(isShown: false)
        line.update(count: 1)
        line.finish()
        #expect(stage.written.isEmpty)
    }

    @Test("A label cannot smuggle escapes into the terminal")
    func safety() {
        #expect(!WorkProgress(label: "\u{1B}[2J").rendered(columns: 80).contains("\u{1B}"))
    }
}
