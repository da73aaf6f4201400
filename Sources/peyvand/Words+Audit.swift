import CRM
import ReplicaStore

// What commands say of the audit log, and of what branches may write.

extension Words {
    func audit(_ entries: [PrintedAuditEntry], _ style: ConsoleStyle) -> String {
        guard !entries.isEmpty else { return choose("Nothing is on record yet.\n", "هنوز چیزی ثبت نشده است.\n") }
        var table = TextTable([
            TextTable.Column("#", .right), TextTable.Column(choose("when", "زمان")),
            TextTable.Column(choose("who", "چه کسی")), TextTable.Column(choose("did", "کار")),
            TextTable.Column(choose("to", "با"), widthMax: 60),
            TextTable.Column(choose("outcome", "نتیجه"), widthMax: 40),
        ])
        for entry in entries {
            table.add([
                TextTable.Cell(isPersian ? PersianText.persianDigits(entry.id) : entry.id),
                TextTable.Cell(entry.at.map(time) ?? ""), TextTable.Cell(entry.actor),
                TextTable.Cell(verbatim: entry.action), TextTable.Cell(entry.object), TextTable.Cell(entry.outcome),
            ])
        }
        return table.rendered(style)
    }

    func verdict(_ verdict: PrintedAuditVerdict) -> String {
        var lines: [String] = []
        if verdict.findings.isEmpty {
            lines.append(
                choose(
                    "The audit log is whole: \(verdict.entries) entries, confirmed by other nodes up to "
                        + "\(verdict.anchoredThrough).",
                    "دفتر حسابرسی کامل است: \(number(Int(clamping: verdict.entries))) مورد، تأییدشده تا "
                        + "\(number(Int(clamping: verdict.anchoredThrough)))."
                )
            )
        }
        for finding in verdict.findings { lines.append(sentence(of: finding)) }
        for name in verdict.forkedElsewhere {
            lines.append(
                choose(
                    "\(name) has shown two audit logs of its own. Run `peyvand audit verify` there.",
                    "\(name) دو دفتر حسابرسی نشان داده است. آنجا `peyvand audit verify` را اجرا کنید."
                )
            )
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func sentence(of finding: PrintedAuditVerdict.Finding) -> String {
        let (count, witness) = (number(Int(clamping: finding.number)), finding.witness ?? "?")
        return switch AuditFinding.Code(rawValue: finding.code) {
        case .edited:
            choose(
                "Entry \(finding.number) is not what it was when it was made.",
                "مورد \(count) آن نیست که هنگام ثبت بود."
            )
        case .missing: choose("Entry \(finding.number) is missing.", "مورد \(count) نیست.")
        case .cut:
            choose(
                "The log was cut: \(witness) knows of entry \(finding.number). A restored backup looks the same.",
                "دفتر بریده شده است: \(witness) مورد \(count) را دیده است. بازگرداندن پشتیبان هم همین‌گونه دیده می‌شود."
            )
        case .forked, nil:
            choose(
                "The log was made anew: \(witness) knows another entry \(finding.number).",
                "دفتر از نو ساخته شده است: \(witness) مورد \(count) را به گونه‌ای دیگر دیده است."
            )
        }
    }

    // MARK: What branches may write

    func policy(_ policy: PrintedPolicy, _ style: ConsoleStyle) -> String {
        guard policy.version > 0 else {
            return choose(
                "There is no policy: branches may write everything but head office's tables.\n",
                "سیاستی نیست: شعبه‌ها همه چیز جز جدول‌های دفتر مرکزی را می‌نویسند.\n"
            )
        }
        var table = TextTable([
            TextTable.Column("#", .right), TextTable.Column(choose("nodes", "گره‌ها"), widthMax: 40),
            TextTable.Column(choose("tables", "جدول‌ها"), widthMax: 40),
            TextTable.Column(choose("columns", "ستون‌ها"), widthMax: 30), TextTable.Column(choose("verbs", "کارها")),
            TextTable.Column(choose("may write", "می‌تواند بنویسد")),
        ])
        let all = choose("all", "همه")
        func list(_ words: [String]?) -> TextTable.Cell { TextTable.Cell(words?.joined(separator: ", ") ?? all) }
        for (index, rule) in policy.rule.enumerated() {
            table.add([
                TextTable.Cell(number(index + 1)), list(rule.nodes), list(rule.tables), list(rule.columns),
                list(rule.verbs?.map(\.rawValue)), TextTable.Cell(word(of: rule.scope)),
            ])
        }
        let head = choose(
            "Version \(policy.version), by \(policy.author ?? "?") at \(policy.madeAt.map(time) ?? "?"). The first rule that "
                + "speaks of a write decides; what none speaks of is allowed.\n",
            "نسخهٔ \(number(Int(clamping: policy.version)))، از \(policy.author ?? "?") در \(policy.madeAt.map(time) ?? "?"). "
                + "نخستین قاعده‌ای که دربارهٔ یک نوشتن باشد تصمیم می‌گیرد؛ بقیه مجاز است.\n"
        )
        return head + "\n" + table.rendered(style)
    }

    private func word(of scope: WritePolicy.Scope) -> String {
        switch scope {
        case .all: choose("all rows", "همهٔ ردیف‌ها")
        case .ownRegion: choose("rows of its region", "ردیف‌های منطقهٔ خود")
        case .ownBranch: choose("rows of its branch", "ردیف‌های شعبهٔ خود")
        case .none: choose("nothing", "هیچ")
        }
    }

    func policySet(_ version: UInt64) -> String {
        choose(
            "Version \(version) of the policy is in force. It is asked about what comes from now on.\n",
            "نسخهٔ \(number(Int(clamping: version))) برقرار است و از این پس به کار می‌رود.\n"
        )
    }

    func voided(_ rows: [PrintedVoidedRow], _ style: ConsoleStyle) -> String {
        guard !rows.isEmpty else {
            return choose("No branch wrote what it may not.\n", "هیچ شعبه‌ای بیرون از حق خود ننوشته است.\n")
        }
        var table = TextTable([
            TextTable.Column("#", .right), TextTable.Column(choose("when", "زمان")),
            TextTable.Column(choose("node", "گره")), TextTable.Column(choose("table", "جدول")),
            TextTable.Column(choose("row", "ردیف")), TextTable.Column(choose("change set", "تغییر")),
            TextTable.Column(choose("rule", "قاعده"), .right),
        ])
        for row in rows {
            table.add([
                TextTable.Cell(isPersian ? PersianText.persianDigits(row.id) : row.id),
                TextTable.Cell(row.at.map(time) ?? ""), TextTable.Cell(row.node), TextTable.Cell(noun(row.table)),
                TextTable.Cell(isPersian ? PersianText.persianDigits(row.row) : row.row),
                TextTable.Cell(verbatim: row.changeSet), TextTable.Cell(number(row.rule)),
            ])
        }
        return table.rendered(style)
    }
}
