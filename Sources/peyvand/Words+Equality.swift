import CRM
import ReplicaStore

// What the commands about erasing, and about equal replicas, say.

extension Words {
    // MARK: Erasing

    var waitingNodes: String { choose("waiting for", "در انتظار") }

    var noErasures: String { choose("Nothing was ever erased.\n", "تاکنون چیزی پاک نشده است.\n") }

    func erased(_ erasure: PrintedErasure) -> String {
        guard erasure.position != nil else {
            return choose("There was nothing to erase.\n", "چیزی برای پاک کردن نبود.\n")
        }
        let rows = erasure.erased.map { "\(number($0.rows)) \(noun($0.table))" }.joined(separator: choose(", ", "، "))
        let waiting = erasure.waiting.joined(separator: choose(", ", "، "))
        return choose(
            "Erased for good: \(rows). "
                + (waiting.isEmpty ? "" : "Not done yet at \(waiting): at their next contact. ")
                + "Backups made before still hold it.\n",
            "برای همیشه پاک شد: \(rows). " + (waiting.isEmpty ? "" : "در \(waiting) هنوز نه؛ در تماس بعدی. ")
                + "پشتیبان‌های پیشین هنوز آن را دارند.\n"
        )
    }

    // MARK: Equal replicas

    var headOfficeRepairsAlone: String {
        choose(
            "This is head office: there is nobody to compare with or to repair from. If rows are damaged, check the disk, "
                + "and restore a backup.",
            "اینجا دفتر مرکزی است و کسی نیست که با او سنجیده یا از او ترمیم شود. اگر ردیفی خراب است، دیسک را ببینید و "
                + "پشتیبان را بازگردانید."
        )
    }

    func notCompared(_ reason: String) -> String {
        choose("Head office could not be asked. \(reason)", "از دفتر مرکزی نمی‌شد پرسید. \(reason)")
    }

    func soundness(_ found: PrintedSoundness, _ style: ConsoleStyle, isRepair: Bool, isDone: Bool) -> String {
        var table = TextTable([
            TextTable.Column(choose("table", "جدول")), TextTable.Column(choose("rows", "ردیف"), .right),
            TextTable.Column(choose("digest", "چکیده")), TextTable.Column(choose("result", "نتیجه")),
        ])
        for state in found.tables {
            table.add([
                TextTable.Cell(state.name), TextTable.Cell(number(state.rows)), TextTable.Cell(verbatim: state.digest),
                state.isRight
                    ? TextTable.Cell(choose("right", "درست"), colour: .green)
                    : TextTable.Cell(choose("DAMAGED", "خراب"), colour: .red),
            ])
        }
        return health(found.state, style) + table.rendered(style) + damage(found)
            + (isRepair ? "" : cure(found)) + comparison(found, isRepair: isRepair, isDone: isDone) + orphans(found)
    }

    private func damage(_ found: PrintedSoundness) -> String {
        var text = ""
        if let checkedAt = found.checkedAt {
            text += choose(
                "Every row was last read at \(time(checkedAt)).\n",
                "همهٔ ردیف‌ها آخرین بار در \(time(checkedAt)) خوانده شد.\n"
            )
        } else {
            text += choose(
                "Every row has not been read yet; `peyvand verify --deep` does.\n",
                "هنوز همهٔ ردیف‌ها خوانده نشده است؛ `peyvand verify --deep` می‌خواند.\n"
            )
        }
        for row in found.damaged {
            text += choose("Changed on disk by itself: ", "خودبه‌خود روی دیسک دگرگون شده: ") + line(row) + "\n"
        }
        for state in found.tables where !state.isRight && !found.damaged.contains(where: { $0.table == state.name }) {
            let among = choose(" Among these: ", " یکی از: ") + state.suspects.joined(separator: ", ")
            let rows = state.suspects.isEmpty ? "" : among
            text += choose(
                "\(state.name): rows do not add up to what was written, in \(state.differingBuckets) of 4096 parts."
                    + "\(rows)\n",
                "\(state.name): ردیف‌ها با آنچه نوشته شده نمی‌خوانند، در \(number(state.differingBuckets)) بخش.\(rows)\n"
            )
        }
        return text
    }

    /// What to do about damaged rows.
    private func cure(_ found: PrintedSoundness) -> String {
        guard found.tables.contains(where: { !$0.isRight }) else { return "" }
        return found.isHeadOffice
            ? headOfficeRepairsAlone + "\n"
            : choose(
                "Check the disk. `peyvand verify --repair` shows what head office's rows would replace.\n",
                "دیسک را ببینید. `peyvand verify --repair` نشان می‌دهد چه چیزی از دفتر مرکزی جایگزین می‌شود.\n"
            )
    }

    private func comparison(_ found: PrintedSoundness, isRepair: Bool, isDone: Bool) -> String {
        guard let hub = found.hub else { return "" }
        var text = ""
        if isRepair, isDone {
            text += choose(
                "\(counted(found.repaired, "row")) \(found.repaired == 1 ? "was" : "were") put right.\n",
                "\(number(found.repaired)) ردیف درست شد.\n"
            )
        }
        if hub.isHubDamaged {
            text += choose(
                "Head office's own rows do not add up: nothing is taken from there until `peyvand verify --deep` is "
                    + "right there.\n",
                "ردیف‌های خود دفتر مرکزی درست نیست؛ تا آنجا درست نشود چیزی از آن گرفته نمی‌شود.\n"
            )
        }
        if hub.differingRows > 0 {
            text += choose(
                "\(counted(hub.differingRows, "row")) \(hub.differingRows == 1 ? "differs" : "differ") from head office's:\n",
                "\(number(hub.differingRows)) ردیف با دفتر مرکزی فرق دارد:\n"
            )
            for row in hub.differing { text += "  \(line(row))\n" }
            if isRepair, !isDone {
                text += choose(
                    "Nothing was changed. `peyvand verify --repair --yes` puts head office's rows in their place.\n",
                    "چیزی تغییر نکرد. `peyvand verify --repair --yes` ردیف‌های دفتر مرکزی را جای آن‌ها می‌گذارد.\n"
                )
            }
        } else if let position = hub.divergedAt {
            text += choose(
                "At position \(position) the tables differed from head office's.\n",
                "در جای \(number(position)) جدول‌ها با دفتر مرکزی فرق داشت.\n"
            )
        } else if let position = hub.provedEqualAt {
            text += choose(
                "Equal to head office at position \(position).\n",
                "برابر با دفتر مرکزی در جای \(number(position)).\n"
            )
        } else {
            text += choose("Not compared with head office yet.\n", "هنوز با دفتر مرکزی سنجیده نشده است.\n")
        }
        return text
    }

    private func orphans(_ found: PrintedSoundness) -> String {
        found.orphans.prefix(20).map { orphan in
            choose(
                "\(orphan.table) \(orphan.id) belongs to the \(orphan.reason) \(orphan.parent.table) "
                    + "\(orphan.parent.id).\n",
                "\(orphan.table) \(PersianText.persianDigits(orphan.id)) از آنِ \(orphan.parent.table) "
                    + "\(PersianText.persianDigits(orphan.parent.id)) است که "
                    + (orphan.reason == "erased" ? "برای همیشه پاک شده.\n" : "حذف شده.\n")
            )
        }.joined()
    }

    private func line(_ row: PrintedDifference) -> String {
        let what =
            switch row.kind {
            case "missing": choose("missing here", "اینجا نیست")
            case "extra": choose("only here", "تنها اینجاست")
            default: RowDifference.named(row.fields).joined(separator: choose(", ", "، "))
            }
        return "\(row.table) \(row.id)\(what.isEmpty ? "" : " (\(what))")"
    }
}
