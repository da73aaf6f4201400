import CRM
import ReplicaStore

// What the commands about losing writes say.

extension Words {
    /// The list.
    func conflicts(_ conflicts: [PrintedConflict], isAll: Bool, _ style: ConsoleStyle) -> String {
        guard !conflicts.isEmpty else {
            return isAll
                ? choose("There were no conflicts yet.\n", "هنوز تعارضی نبوده است.\n")
                : choose("Nothing waits for a decision.\n", "چیزی در انتظار تصمیم نیست.\n")
        }
        var columns: [TextTable.Column] = [
            .init(title("id")), .init(choose("row", "ردیف")), .init(choose("fields", "فیلدها"), widthMax: 30),
            .init(choose("kept", "مانده"), widthMax: 36), .init(choose("lost", "از دست رفته"), widthMax: 36),
            .init(choose("who lost", "از آنِ")), .init(choose("when", "زمان")),
        ]
        if isAll { columns.append(.init(choose("state", "وضعیت"))) }
        var table = TextTable(columns)
        for conflict in conflicts {
            var cells: [TextTable.Cell] = [
                .init(conflict.id), .init("\(noun(conflict.table)) \(conflict.row)"),
                .init(conflict.fields.map(title).joined(separator: choose(", ", "، "))),
                .init(kept(conflict)), .init(lost(conflict)), .init(name(conflict.lostBy)),
                .init(conflict.lostBy.at.map(time) ?? ""),
            ]
            if isAll { cells.append(.init(word(ofResolution: conflict.resolution))) }
            table.add(cells)
        }
        let mine = conflicts.filter { $0.mine && $0.resolution == ConflictResolution.open.rawValue }.count
        let note =
            mine == 0
            ? ""
            : choose(
                "\(mine) of them \(mine == 1 ? "was" : "were") written here. ",
                "\(number(mine)) مورد در همین‌جا نوشته شده بود. "
            )
        let help = choose(
            "`conflicts keep ID` lets stand what won, `conflicts take ID` takes back what lost.\n",
            "`conflicts keep ID` آنچه هست را نگه می‌دارد و `conflicts take ID` آنچه از دست رفته را بازمی‌گرداند.\n"
        )
        let isAnyOpen = conflicts.contains { $0.resolution == ConflictResolution.open.rawValue }
        return table.rendered(style) + note + (isAnyOpen ? help : "")
    }

    /// One conflict with both sides.
    func conflict(_ conflict: PrintedConflict, _ style: ConsoleStyle) -> String {
        var table = TextTable([
            .init(title("field")), .init(choose("kept", "مانده")), .init(choose("lost", "از دست رفته")),
        ])
        for field in conflict.fields {
            table.add(
                title(field),
                conflict.kind == .editOfDeleted
                    ? choose("(deleted)", "(حذف شد)") : value(conflict.kept[field], field, conflict.table),
                conflict.kind == .deletion
                    ? choose("(deletion)", "(حذف)") : value(conflict.lost[field], field, conflict.table)
            )
        }
        table.add(choose("by", "نوشتهٔ"), name(conflict.keptBy), name(conflict.lostBy))
        table.add(
            choose("when", "زمان"),
            conflict.keptBy.at.map(time) ?? "",
            conflict.lostBy.at.map(time) ?? ""
        )
        let head = "\(conflict.id)  \(noun(conflict.table)) \(conflict.row)  "
        return (isPersian ? PersianText.persianDigits(head) : head)
            + word(ofResolution: conflict.resolution) + "\n" + table.rendered(style)
    }

    /// What was decided.
    func resolved(_ resolved: ResolvedConflict) -> String {
        let row = "\(noun(resolved.table)) \(isPersian ? PersianText.persianDigits(resolved.row) : resolved.row)"
        guard resolved.resolution == ConflictResolution.taken.rawValue else {
            return choose("Kept what stands in \(row).\n", "آنچه در \(row) بود ماند.\n")
        }
        let fields = resolved.fields.map(title).joined(separator: choose(", ", "، "))
        return switch resolved.kind {
        case .edit: choose("Took back \(fields) of \(row).\n", "\(fields) در \(row) بازگردانده شد.\n")
        case .editOfDeleted: choose("Restored \(row).\n", "\(row) بازگردانده شد.\n")
        case .deletion: choose("Deleted \(row).\n", "\(row) حذف شد.\n")
        }
    }

    /// The conflicts on a customer's page.
    func conflicts(of view: CustomerView, _ style: ConsoleStyle) -> String {
        var table = TextTable([
            .init(title("id")), .init(title("field")), .init(choose("kept", "مانده"), widthMax: 40),
            .init(choose("lost", "از دست رفته"), widthMax: 40), .init(choose("when", "زمان")),
        ])
        let customer = TableDescription.customer.name
        for conflict in view.conflicts {
            table.add(
                conflict.id,
                conflict.fields.map(title).joined(separator: choose(", ", "، ")),
                values(conflict.kept, conflict.fields, customer),
                values(conflict.lost, conflict.fields, customer),
                conflict.at.map(time) ?? ""
            )
        }
        return choose("Conflicts", "تعارض‌ها") + "\n" + table.rendered(style)
    }

    // MARK: Why

    /// Why a field has its value, in sentences.
    func reason(_ reason: PrintedReason) -> String {
        let row = "\(noun(reason.table)) \(isPersian ? PersianText.persianDigits(reason.id) : reason.id)"
        func quoted(_ field: PrintedField) -> String {
            field == .null
                ? choose("nothing", "هیچ") : "«\(value(field, reason.field, reason.table))»"
        }
        var lines = [
            choose(
                "\(title(reason.field)) of \(row) is \(quoted(reason.value)).",
                "\(title(reason.field)) در \(row): \(quoted(reason.value))."
            )
        ]
        if let deleted = reason.deletedBy {
            lines.append(
                choose("The row is deleted: by \(author(deleted)).", "ردیف حذف شده است: \(author(deleted)).")
            )
        }
        guard let writer = reason.writer else {
            lines.append(choose("Nobody has ever written it.", "هیچ‌کس آن را ننوشته است."))
            return lines.joined(separator: "\n") + "\n"
        }
        lines.append(choose("Written by \(author(writer)).", "نوشتهٔ \(author(writer))."))
        if let replaced = reason.replaced, reason.rule != FieldHistory.Rule.onlyWriter.rawValue {
            lines.append(
                choose(
                    "It replaced \(quoted(replaced.value)), written by \(author(replaced)).",
                    "پیش از آن \(quoted(replaced.value)) بود، نوشتهٔ \(author(replaced))."
                )
            )
        }
        for lost in reason.lost {
            lines.append(
                choose(
                    "Unaware of it, \(author(lost)), wrote \(quoted(lost.value)).",
                    "\(author(lost))، بی‌خبر از آن \(quoted(lost.value)) نوشت."
                )
            )
        }
        lines.append(sentence(ofRule: reason.rule))
        if reason.trimmed {
            lines.append(
                choose(
                    "Older change sets are not kept here any more, so there may have been more.",
                    "تغییرهای قدیمی‌تر دیگر اینجا نگه داشته نمی‌شود؛ شاید بیش از این بوده است."
                )
            )
        }
        if let conflict = reason.conflict {
            let id = isPersian ? PersianText.persianDigits(conflict.id) : conflict.id
            lines.append(
                choose(
                    "See conflict \(id) (\(conflict.resolution)): `conflicts show \(id)`.",
                    "تعارض \(id) (\(word(ofResolution: conflict.resolution))) را ببینید: `conflicts show \(conflict.id)`."
                )
            )
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func sentence(ofRule rule: String) -> String {
        switch FieldHistory.Rule(rawValue: rule) {
        case .onlyWriter, .neverWritten:
            choose("Nobody had written it before.", "پیش از آن کسی آن را ننوشته بود.")
        case .seenBefore:
            choose(
                "It stands because its writer had seen the former value.",
                "می‌ماند، چون نویسنده‌اش مقدار پیشین را دیده بود."
            )
        case .laterTime:
            choose(
                "Neither knew of the other, so the later one stands.",
                "هیچ‌یک از دیگری خبر نداشت؛ آن‌که دیرتر بود می‌ماند."
            )
        case .greaterNumber:
            choose(
                "Neither knew of the other, both in the same moment, so the greater node number stands.",
                "هیچ‌یک از دیگری خبر نداشت و هم‌زمان بودند؛ شمارهٔ بزرگ‌تر می‌ماند."
            )
        case .sameValue:
            choose("All wrote the same.", "همه یک چیز نوشتند.")
        case .notKnown, nil:
            choose(
                "The log of this node no longer tells what was there before.",
                "دفتر این گره دیگر نشان نمی‌دهد پیش از آن چه بود."
            )
        }
    }

    // MARK: Pieces

    private func author(_ write: PrintedReason.Write) -> String {
        let name = write.node ?? choose("node \(write.origin)", "گرهٔ \(number(write.origin))")
        return write.at.map { choose("\(name), \(time($0))", "\(name)، \(time($0))") } ?? name
    }

    private func name(_ side: PrintedConflict.Side) -> String {
        side.node ?? choose("node \(side.origin)", "گرهٔ \(number(side.origin))")
    }

    private func kept(_ conflict: PrintedConflict) -> String {
        conflict.kind == .editOfDeleted
            ? choose("(deleted)", "(حذف شد)") : values(conflict.kept, conflict.fields, conflict.table)
    }

    private func lost(_ conflict: PrintedConflict) -> String {
        conflict.kind == .deletion
            ? choose("(deletion)", "(حذف)") : values(conflict.lost, conflict.fields, conflict.table)
    }

    private func values(_ values: [String: PrintedField], _ fields: [String], _ table: String) -> String {
        fields.map { value(values[$0], $0, table) }.filter { !$0.isEmpty }.joined(separator: choose(", ", "، "))
    }

    private func value(_ field: PrintedField?, _ name: String, _ table: String) -> String {
        guard let field, let column = Schema.current.table(named: table)?.column(named: name) else { return "" }
        return value(field, of: column)
    }

    /// What people call a row of a table.
    func noun(_ table: String) -> String {
        let noun = [Noun.customer, .activity, .order].first { $0.table.name == table }
        return noun.map { choose($0.english, $0.persian) } ?? table
    }

    private func word(ofResolution resolution: String) -> String {
        switch ConflictResolution(rawValue: resolution) {
        case .open: choose("open", "باز")
        case .kept: choose("kept", "مانده")
        case .taken: choose("taken", "بازگرفته")
        case .edited: choose("edited", "ویرایش‌شده")
        case .superseded: choose("superseded", "گذشته")
        case nil: resolution
        }
    }
}
