import CRM
import ReplicaStore

// What commands say of changes that could not be applied, of versions, and of other programs.

extension Words {
    func parked(_ parked: [PrintedParked], _ style: ConsoleStyle) -> String {
        guard !parked.isEmpty else { return choose("Nothing is parked.\n", "چیزی کنار گذاشته نشده است.\n") }
        var table = TextTable([
            TextTable.Column("#", .right), TextTable.Column(choose("table", "جدول")),
            TextTable.Column(choose("row", "ردیف")), TextTable.Column(choose("change set", "تغییر")),
            TextTable.Column(choose("since", "از")), TextTable.Column(choose("reason", "دلیل"), widthMax: 90),
        ])
        for change in parked {
            table.add([
                TextTable.Cell(isPersian ? PersianText.persianDigits(change.id) : change.id),
                TextTable.Cell(noun(change.table)),
                TextTable.Cell(isPersian ? PersianText.persianDigits(change.row) : change.row),
                TextTable.Cell(verbatim: "\(change.changeSet.origin)/\(change.changeSet.seq)"),
                TextTable.Cell(change.parkedAt.map(time) ?? ""),
                TextTable.Cell(
                    isPersian ? persianReason(of: change.reason) : change.reason.sentence
                ),
            ])
        }
        return table.rendered(style)
    }

    private func persianReason(of reason: PrintedParked.Reason) -> String {
        switch ParkingReason.Code(rawValue: reason.code) {
        case .wrongType: "مقدار با نوع ستون نمی‌خواند؛ نسخهٔ نرم‌افزار گره نویسنده را ببینید."
        case .damagedRow: "ردیفی که اینجاست آسیب دیده است؛ دیسک را ببینید و با دفتر مرکزی بسنجید."
        case .foreignNumber: "ردیف با شمارهٔ گرهی دیگر ساخته شده است."
        case .queued: "تغییر پیشین همین ردیف کنار گذاشته شده و این پشت آن مانده است."
        case .bodyMissing: "متن این تغییر اینجا نیست."
        case .database, nil: "پایگاه داده ردیف را نپذیرفت: \(reason.sentence)"
        }
    }

    func retried(_ outcome: ParkedOutcome) -> String {
        choose(
            "\(outcome.applied) applied, \(outcome.parked) still parked.\n",
            "\(number(outcome.applied)) اعمال شد، \(number(outcome.parked)) هنوز مانده است.\n"
        )
    }

    func dropped(_ id: String, _ outcome: ParkedOutcome) -> String {
        choose(
            "Gave up \(id) for good. ",
            "\(PersianText.persianDigits(id)) برای همیشه کنار رفت. "
        ) + retried(outcome)
    }

    func dropNeedsYes(_ id: String) -> String {
        choose(
            "The change is lost to this node's tables for good. If you mean it: `peyvand parked drop \(id) --yes`.",
            "این تغییر برای همیشه از جدول‌های این گره می‌افتد. اگر می‌خواهید: `peyvand parked drop \(id) --yes`."
        )
    }

    var eitherIdOrAll: String {
        choose("Give an id or --all, not both.", "یا شناسه بدهید یا --all، نه هر دو.")
    }
}
