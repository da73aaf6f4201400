import CRM
import Foundation
@preconcurrency import Rainbow
import ReplicaStore

// What the commands about nodes say.

extension Words {
    func madeHeadOffice(_ name: String, _ directory: String) -> String {
        choose(
            "Made head office \(name) in \(directory). Start it with `peyvand run`, invite branches with "
                + "`peyvand enroll`.\n",
            "دفتر مرکزی \(name) در \(directory) ساخته شد. با `peyvand run` راه بیندازید و با `peyvand enroll` دعوت کنید.\n"
        )
    }

    func joined(_ node: LocalNode, _ sync: PrintedSync) -> String {
        choose(
            "\(node.name) has joined as number \(node.origin).\n",
            "\(node.name) با شمارهٔ \(number(node.origin.rawValue)) پیوست.\n"
        ) + synchronised(sync)
    }

    func synchronised(_ sync: PrintedSync) -> String {
        let seconds = String(format: "%.1f", Double(sync.milliseconds) / 1000)
        guard sync.result == "ok" else {
            return choose("Not synchronised. ", "همگام نشد. ") + (sync.reason ?? "") + "\n"
        }
        return choose(
            "Synchronised in \(seconds) s: sent \(flow(sync.sent)), received \(flow(sync.received)).\n",
            "در \(digits(seconds)) ثانیه همگام شد: فرستاده \(flow(sync.sent))، گرفته \(flow(sync.received)).\n"
        ) + aftermath(sync)
    }

    /// What a session leaves to people.
    private func aftermath(_ sync: PrintedSync) -> String {
        var text = ""
        if sync.conflicts > 0 {
            text += choose(
                "\(counted(sync.conflicts, "value")) lost against others written at the same time: see "
                    + "`peyvand conflicts`.\n",
                "\(number(sync.conflicts)) مقدار در برابر مقدار هم‌زمان دیگری از دست رفت: `peyvand conflicts` را ببینید.\n"
            )
        }
        if sync.parked > 0 {
            text += choose(
                "\(counted(sync.parked, "change")) of rows could not be applied and \(sync.parked == 1 ? "waits" : "wait"): "
                    + "see `peyvand parked`.\n",
                "\(number(sync.parked)) تغییر را نمی‌شد اعمال کرد و مانده است: `peyvand parked` را ببینید.\n"
            )
        }
        return text
    }

    private func flow(_ flow: PrintedSync.Flow) -> String {
        let bytes = amount(bytes: flow.bytes)
        return choose(
            "\(counted(flow.changeSets, "change set")) with \(counted(flow.rows, "row")) (\(bytes))",
            "\(number(flow.changeSets)) تغییر با \(number(flow.rows)) ردیف (\(bytes))"
        )
    }

    func running(_ name: String, _ address: String?) -> String {
        guard let address else { return choose("\(name) is running.", "\(name) کار می‌کند.") }
        return choose(
            "\(name) is running and listens on \(address).",
            "\(name) کار می‌کند و روی \(address) گوش می‌دهد."
        )
    }

    func runsAlready(_ directory: String) -> String {
        choose(
            "The node in \(directory) is running already. Nothing was started; `peyvand status` shows how it is.",
            "گره \(directory) در حال کار است. چیزی راه نیفتاد؛ `peyvand status` حال آن را نشان می‌دهد."
        )
    }

    func stoppedRunning(_ name: String) -> String {
        choose("\(name) has stopped.", "\(name) ایستاد.")
    }

    // MARK: Status

    func status(_ status: PrintedStatus, _ style: ConsoleStyle) -> String {
        var table = TextTable([TextTable.Column(""), TextTable.Column("")])
        func add(_ english: String, _ persian: String, _ value: String) {
            table.add(choose(english, persian), value)
        }
        add(
            "node",
            "گره",
            "\(status.node.name) (\(choose(status.node.role, role(status.node.role)))\(choose(",", "،")) "
                + "\(number(status.node.origin)))"
        )
        if let hub = status.hub {
            let connected = hub.connected ? choose("connected", "وصل") : choose("not connected", "وصل نیست")
            table.add([
                TextTable.Cell(choose("head office", "دفتر مرکزی")),
                TextTable.Cell(verbatim: "\(hub.name ?? "?") \(hub.address)\(choose(",", "،")) \(connected)"),
            ])
            add("last contact", "آخرین تماس", hub.lastContact.map(time) ?? choose("never", "هرگز"))
            add(
                "ahead",
                "نفرستاده",
                choose(
                    "\(counted(status.ahead.changeSets, "change set")), \(counted(status.ahead.rows, "row"))",
                    "\(number(status.ahead.changeSets)) تغییر، \(number(status.ahead.rows)) ردیف"
                )
            )
            add(
                "behind",
                "نگرفته",
                status.behind.map { choose(counted($0.changeSets, "change set"), "\(number($0.changeSets)) تغییر") }
                    ?? choose("not known", "معلوم نیست")
            )
            add("clock skew", "اختلاف ساعت", status.skewMilliseconds.map { "\(number($0)) ms" } ?? "-")
        }
        if let fingerprint = status.node.fingerprint {
            let words = fingerprint.split(separator: " ")
            // Half of it is more than anybody can forge, and fits a line.
            table.add([
                TextTable.Cell(choose("fingerprint", "اثر انگشت")),
                TextTable.Cell(verbatim: words.prefix(8).joined(separator: " ")),
            ])
        }
        if let expires = status.node.certificateExpires { add("certificate ends", "پایان گواهی", time(expires)) }
        if let lease = status.lease { add("lease ends", "پایان مهلت", time(lease.expires)) }
        add("log position", "جای دفتر", number(status.position))
        if status.hub == nil { add("everybody has", "همه دارند تا", number(status.stable.position)) }
        if status.hub != nil {
            add(
                "proved equal at",
                "برابری ثابت در",
                status.provedEqualAt.map { number($0) } ?? choose("not yet", "هنوز نه")
            )
        }
        add(
            "disk",
            "دیسک",
            choose(
                "\(amount(bytes: status.disk.databaseBytes)), write-ahead log \(amount(bytes: status.disk.walBytes)), "
                    + "free \(amount(bytes: status.disk.freeBytes))",
                "\(amount(bytes: status.disk.databaseBytes))، دفتر پیش‌نویس \(amount(bytes: status.disk.walBytes))، "
                    + "آزاد \(amount(bytes: status.disk.freeBytes))"
            )
        )
        add(
            "line today",
            "خط امروز",
            choose(
                "sent \(amount(bytes: status.bytesToday.sent)), received \(amount(bytes: status.bytesToday.received))",
                "فرستاده \(amount(bytes: status.bytesToday.sent))، گرفته \(amount(bytes: status.bytesToday.received))"
            )
        )
        var tables = TextTable([
            TextTable.Column(choose("table", "جدول")), TextTable.Column(choose("rows", "ردیف"), .right),
            TextTable.Column(choose("digest", "چکیده")),
        ])
        for state in status.tables {
            tables.add([
                TextTable.Cell(state.name), TextTable.Cell(number(state.rows)), TextTable.Cell(verbatim: state.digest),
            ])
        }
        return health(status.state, style) + reasons(status.reasons) + "\n" + table.rendered(style) + "\n"
            + tables.rendered(style)
    }

    func fleet(_ nodes: [PrintedFleetNode], _ style: ConsoleStyle) -> String {
        guard !nodes.isEmpty else {
            return choose("No node has joined yet. `peyvand enroll NAME` invites one.\n", "هنوز گرهی نپیوسته است.\n")
        }
        var table = TextTable([
            TextTable.Column(choose("node", "گره")), TextTable.Column("#", .right),
            TextTable.Column(choose("state", "حال")), TextTable.Column(choose("last contact", "آخرین تماس")),
            TextTable.Column(choose("ahead", "نفرستاده"), .right), TextTable.Column(choose("behind", "نگرفته"), .right),
            TextTable.Column(choose("skew ms", "اختلاف"), .right), TextTable.Column(choose("parked", "مانده"), .right),
            TextTable.Column(choose("conflicts", "تعارض"), .right),
            TextTable.Column(choose("lease ends", "پایان مهلت")),
            TextTable.Column(choose("today", "امروز"), .right),
            TextTable.Column(choose("software", "نرم‌افزار")),
        ])
        for node in nodes {
            table.add([
                TextTable.Cell(node.name), TextTable.Cell(number(node.origin)),
                TextTable.Cell(word(of: node.state), colour: Self.colour(of: node.state)),
                TextTable.Cell(
                    (node.connected ? choose("now", "اکنون") : nil)
                        ?? node.lastContact.map(time) ?? choose("never", "هرگز")
                ),
                TextTable.Cell(number(node.ahead.changeSets)), TextTable.Cell(number(node.behind.changeSets)),
                TextTable.Cell(node.skewMilliseconds.map { number($0) } ?? "-"),
                TextTable.Cell(number(node.parked)), TextTable.Cell(number(node.conflicts)),
                TextTable.Cell(node.lease.map { time($0.expires) } ?? "-"),
                TextTable.Cell(amount(bytes: node.bytesToday.sent + node.bytesToday.received)),
                TextTable.Cell(verbatim: node.software ?? "-"),
            ])
        }
        let notes = nodes.filter { !$0.reasons.isEmpty }.map { node in
            node.reasons.map { "\(node.name): \(sentence(ofNode: $0))\n" }.joined()
        }
        return table.rendered(style) + notes.joined()
    }

    /// Who was turned away; nothing when nobody was.
    func refusals(_ refusals: [PrintedRefusals], _ style: ConsoleStyle) -> String {
        guard !refusals.isEmpty else { return "" }
        var table = TextTable([
            TextTable.Column(choose("turned away", "رانده‌شده")), TextTable.Column(choose("why", "چرا")),
            TextTable.Column(choose("times", "بار"), .right), TextTable.Column(choose("last time", "آخرین بار")),
            TextTable.Column(choose("was told", "پاسخ")),
        ])
        for refusal in refusals {
            table.add([
                TextTable.Cell(refusal.node ?? choose("strangers", "ناشناس")), TextTable.Cell(verbatim: refusal.code),
                TextTable.Cell(number(refusal.count)), TextTable.Cell(time(refusal.lastAt)),
                TextTable.Cell(refusal.sentence),
            ])
        }
        return "\n" + table.rendered(style)
    }

    func nodes(_ nodes: [PrintedFleetNode], _ style: ConsoleStyle) -> String {
        guard !nodes.isEmpty else { return fleet(nodes, style) }
        var table = TextTable([
            TextTable.Column(choose("node", "گره")), TextTable.Column("#", .right),
            TextTable.Column(choose("role", "نقش")), TextTable.Column(choose("enrolled", "پیوسته در")),
            TextTable.Column(choose("last contact", "آخرین تماس")), TextTable.Column("id"),
        ])
        for node in nodes {
            table.add([
                TextTable.Cell(node.name), TextTable.Cell(number(node.origin)),
                TextTable.Cell(choose(node.role, role(node.role))), TextTable.Cell(time(node.enrolledAt)),
                TextTable.Cell(
                    node.standing == .active
                        ? node.lastContact.map(time) ?? choose("never", "هرگز") : word(of: node.standing)
                ),
                TextTable.Cell(verbatim: node.id),
            ])
        }
        return table.rendered(style)
    }

    // MARK: Pieces

    func health(_ state: HealthState, _ style: ConsoleStyle) -> String {
        style.painted(word(of: state), Self.colour(of: state)) + "\n"
    }

    private func reasons(_ reasons: [HealthReason]) -> String {
        reasons.map { "- \(sentence(of: $0))\n" }.joined()
    }

    private func word(of state: HealthState) -> String {
        switch state {
        case .green: choose("green", "سبز")
        case .yellow: choose("yellow", "زرد")
        case .red: choose("red", "سرخ")
        }
    }

    static func colour(of state: HealthState) -> NamedColor {
        switch state {
        case .green: .green
        case .yellow: .yellow
        case .red: .red
        }
    }

    private func role(_ role: String) -> String { role == "branch" ? "شعبه" : "دفتر مرکزی" }

    func digits(_ text: String) -> String { PersianText.persianDigits(text) }

    /// A number of bytes in the unit that suits it.
    func amount(bytes: Int) -> String {
        let text: String =
            switch bytes {
            case ..<1024: "\(bytes) B"
            case ..<(1 << 20): String(format: "%.1f KiB", Double(bytes) / 1024)
            case ..<(1 << 30): String(format: "%.1f MiB", Double(bytes) / Double(1 << 20))
            default: String(format: "%.1f GiB", Double(bytes) / Double(1 << 30))
            }
        return isPersian ? digits(text) : text
    }
}
