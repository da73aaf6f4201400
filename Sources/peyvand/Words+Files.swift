import CRM
import Foundation

// What commands say of files that rows are taken from or written to.

extension Words {
    // MARK: Import

    /// The summary of an import.
    func imported(_ summary: ImportSummary, _ style: ConsoleStyle) -> String {
        let head =
            summary.dryRun
            ? choose("Nothing was written (dry run). It would be:", "چیزی نوشته نشد (آزمایشی). می‌شد:")
            : choose("Imported:", "وارد شد:")
        var parts = [(summary.created, choose("created", "تازه"))]
        if summary.linked > 0 {
            parts.append(
                (summary.linked, choose("of these the same customer as one that was here", "از آن‌ها همان مشتری موجود"))
            )
        }
        parts += [
            (summary.updated, choose("updated", "تغییریافته")), (summary.skipped, choose("unchanged", "بی‌تغییر")),
            (summary.invalid, choose("invalid", "نادرست")),
        ]
        let counts = parts.map { "\(number($0.0)) \($0.1)" }.joined(separator: isPersian ? "، " : ", ")
        var text = "\(head) \(counts).\n"
        if summary.kept > 0 { text += keptFields(summary.kept) + "\n" }
        if !summary.changes.isEmpty { text += changes(summary.changes, style) }
        if let batch = summary.batch, !summary.dryRun {
            text += choose(
                "To take it back: peyvand import undo \(batch)\n",
                "برای بازگرداندن: peyvand import undo \(batch)\n"
            )
        }
        return text
    }

    /// Values that an import would change, a line each.
    private func changes(_ changes: [ImportChunk.Change], _ style: ConsoleStyle) -> String {
        var table = TextTable([
            .init(choose("line", "سطر"), .right), .init(title("id")), .init(title("field")),
            .init(choose("now", "اکنون"), widthMax: 40), .init(choose("then", "پس از آن"), widthMax: 40),
        ])
        for change in changes.prefix(Self.changesShown) {
            table.add(
                number(change.line),
                change.id,
                title(change.field),
                change.before.text.isEmpty ? "-" : change.before.text,
                change.after.text.isEmpty ? "-" : change.after.text
            )
        }
        let hidden = changes.count - Self.changesShown
        let more = hidden > 0 ? choose("... and \(hidden) more.\n", "... و \(number(hidden)) مورد دیگر.\n") : ""
        return table.rendered(style) + more
    }

    private static let changesShown = 50

    /// Without the value, which is the customer's: messages go to logs. JSON, `--errors` and `--results` have it.
    func problem(_ problem: ImportChunk.Problem) -> String {
        let place = problem.column.map { choose(", \($0)", "، \(title($0))") } ?? ""
        return choose("Line \(problem.line)", "سطر \(number(problem.line))") + "\(place): \(problem.reason)"
    }

    func moreProblems(_ count: Int) -> String {
        choose(
            "... and \(count) more. --errors FILE writes all of them.",
            "... و \(number(count)) مورد دیگر. --errors FILE همه را می‌نویسد."
        )
    }

    func failedImport(_ reason: String, _ rows: Int) -> String {
        choose(
            "\(reason) \(rows) rows before that were done and stay; run the same command again to go on.",
            "\(reason) پیش از آن \(number(rows)) ردیف انجام شد و می‌ماند؛ برای ادامه همان فرمان را دوباره اجرا کنید."
        )
    }

    func keptFields(_ count: Int) -> String {
        choose(
            "\(count) fields were edited here after they were imported; the edits stay.",
            "\(number(count)) فیلد پس از ورود اینجا ویرایش شده و همان‌گونه می‌ماند."
        )
    }

    func stoppedImport(_ rows: Int) -> String {
        choose(
            "Stopped. \(rows) rows were done and stay; run the same command again to go on.",
            "متوقف شد. \(number(rows)) ردیف انجام شد و می‌ماند؛ برای ادامه همان فرمان را دوباره اجرا کنید."
        )
    }

    var asIsMissing: String {
        choose(
            "Say what the rows are: --as customers, activities or orders.",
            "بگویید ردیف‌ها چه‌اند: ‎--as customers یا activities یا orders."
        )
    }

    func keyStandsIn(_ line: Int) -> String {
        choose(
            "Line \(line) has this key too, and says something else. One row makes one record: give each a key of its own.",
            "سطر \(number(line)) نیز همین کلید را با محتوای دیگر دارد. هر ردیف یک پرونده است: به هر یک کلیدی جدا بدهید."
        )
    }

    func wouldOverwrite(_ path: String) -> String {
        choose(
            "\(path) would be written over while it is in use. Give --errors and --results names of their own.",
            "\(path) هنگام استفاده بازنویسی می‌شد. برای ‎--errors و ‎--results نام دیگری بدهید."
        )
    }

    func wrongTarget(_ only: ImportTarget) -> String {
        choose(
            "This file holds \(only.rawValue): leave --as out.",
            "این فایل \(target(only.rawValue)) است: ‎--as را ننویسید."
        )
    }

    /// What of a record was left out.
    func remark(_ remark: FileRecord.Remark) -> String {
        switch remark {
        case .employerLeftOut:
            choose(
                "The organisation that the person works for was left out: `relation` tells it, once both are customers.",
                "سازمان محل کار این شخص کنار گذاشته شد: وقتی هر دو مشتری باشند، رابطه آن را می‌گوید."
            )
        case .onlyFirstTime:
            choose(
                "It happens again and again; only the first time was taken.",
                "این رویداد تکرار می‌شود؛ تنها نخستین بار گرفته شد."
            )
        }
    }

    var reasonColumn: String { choose("reason", "دلیل") }

    /// The header of the column that tells why a row was not taken, in every language.
    static let reasonColumns = Language.allCases.map { Words($0).reasonColumn }

    // MARK: Imports

    func imports(_ imports: [PrintedImport], _ style: ConsoleStyle) -> String {
        guard !imports.isEmpty else {
            return choose("Nothing was imported yet.\n", "هنوز چیزی وارد نشده است.\n")
        }
        var table = TextTable([
            .init(title("id")), .init(choose("when", "زمان")), .init(choose("file", "فایل"), widthMax: 40),
            .init(choose("what", "چه")), .init(choose("made", "تازه"), .right),
            .init(choose("changed", "تغییریافته"), .right), .init(choose("state", "وضعیت")),
        ])
        for one in imports {
            table.add(
                one.id,
                one.at.map(time) ?? "",
                one.fileName,
                target(one.kind),
                number(one.counts["created", default: 0]),
                number(one.counts["updated", default: 0]),
                one.state == "undone" ? choose("taken back", "بازگردانده") : choose("stands", "برقرار")
            )
        }
        return table.rendered(style)
    }

    /// What a file wrote, a line for each value.
    func originals(_ shown: ShowImport.Reply, _ style: ConsoleStyle) -> String {
        var table = TextTable([
            .init(choose("line", "سطر"), .right), .init(title("id")), .init(title("field")),
            .init(choose("in the file", "در فایل"), widthMax: 60),
        ])
        for original in shown.originals {
            for (field, cell) in original.cells.sorted(by: { $0.key < $1.key }) {
                table.add(number(original.line), original.id, title(field), cell)
            }
        }
        let none = choose("All is stored as it is written there.\n", "همه همان‌گونه که نوشته شده نگه داشته شده است.\n")
        return "\(shown.fileName)  \(shown.sha256)\n" + (shown.originals.isEmpty ? none : table.rendered(style))
    }

    private func target(_ kind: String) -> String {
        switch ImportTarget(rawValue: kind) {
        case .customers: choose("customers", "مشتریان")
        case .activities: choose("activities", "فعالیت‌ها")
        case .orders: choose("orders", "سفارش‌ها")
        case .everything: choose("everything", "همه چیز")
        case nil: kind
        }
    }

    var takingBack: String { choose("taking back", "بازگرداندن") }

    /// What came of taking an import back.
    func undone(_ undone: UndoImport.Reply, _ style: ConsoleStyle) -> String {
        let head =
            undone.dryRun
            ? choose("Nothing was written (dry run). It would be:", "چیزی نوشته نشد (آزمایشی). می‌شد:")
            : choose("Taken back:", "بازگردانده شد:")
        var text = choose(
            "\(head) \(undone.deleted) deleted, \(undone.reverted) fields as they were before.\n",
            "\(head) \(number(undone.deleted)) ردیف حذف، \(number(undone.reverted)) فیلد مانند پیش.\n"
        )
        guard undone.keptCount > 0 else { return text }
        text += choose(
            "What stays, because it was edited or is needed since: \(undone.keptCount)\n",
            "آنچه می‌ماند، چون پس از آن ویرایش شده یا لازم است: \(number(undone.keptCount))\n"
        )
        var table = TextTable([
            .init(title("table")), .init(title("id")), .init(choose("why", "چرا"), widthMax: 60),
        ])
        for kept in undone.kept.prefix(Self.changesShown) {
            table.add(
                noun(kept.table),
                kept.id,
                kept.neededBy.map {
                    choose("rows of \($0) refer to it", "«\(noun($0))» به آن اشاره دارد")
                }
                    ?? choose("edited: ", "ویرایش‌شده: ") + kept.fields.map(title).joined(separator: choose(", ", "، "))
            )
        }
        let hidden = undone.keptCount - min(undone.kept.count, Self.changesShown)
        let more = hidden > 0 ? choose("... and \(hidden) more.\n", "... و \(number(hidden)) مورد دیگر.\n") : ""
        return text + table.rendered(style) + more
    }

    // MARK: Export

    /// The header of a column: the name of the field, and in Persian what people call it.
    func header(of column: ExportColumn) -> String {
        guard isPersian else { return column.name }
        return switch column.content {
        case .name(let field): "\(title(field.name)) (نام)"
        case .jalali(let field): "\(title(field.name)) (هجری شمسی)"
        case .lineCount: "تعداد سطرها"
        case .id, .field, .line, .contactPoints, .exportedAt: title(column.name)
        }
    }

    func exported(_ rows: Int, _ path: String) -> String {
        choose("Wrote \(rows) rows to \(path).\n", "\(number(rows)) ردیف در \(path) نوشته شد.\n")
    }

    /// The name of the sheet.
    var exportTitle: String { choose("Peyvand", "پیوند") }

    /// Told when a spreadsheet would be written to a terminal.
    var sheetNeedsFile: String {
        choose("A spreadsheet goes to a file: --output FILE.", "صفحه‌گسترده در فایل نوشته می‌شود: ‎--output FILE.")
    }

    var exporting: String { choose("exporting", "برون‌بری") }
}
