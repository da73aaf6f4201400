// What `doctor` says.

extension Words {
    /// Every finding, the worst first.
    func findings(_ findings: [Finding], _ state: HealthState?, _ style: ConsoleStyle) -> String {
        var table = TextTable([TextTable.Column(""), TextTable.Column(""), TextTable.Column("")])
        for finding in findings.sorted(by: { ($0.state ?? .green) > ($1.state ?? .green) }) {
            table.add([
                TextTable.Cell(finding.state.map { word($0) } ?? choose("unknown", "نامعلوم")),
                TextTable.Cell(title(finding.check)),
                TextTable.Cell(verbatim: isPersian ? finding.persian : finding.sentence),
            ])
        }
        let summary = state.map { health($0, style) } ?? choose("Nothing could be told.\n", "چیزی معلوم نشد.\n")
        return summary + "\n" + table.rendered(style)
    }

    private func word(_ state: HealthState) -> String {
        switch state {
        case .green: choose("good", "خوب")
        case .yellow: choose("warning", "هشدار")
        case .red: choose("critical", "بحرانی")
        }
    }

    private func title(_ check: Finding.Check) -> String {
        switch check {
        case .directory: choose("directory", "پوشه")
        case .permissions: choose("permissions", "دسترسی‌ها")
        case .database: choose("database", "پایگاه داده")
        case .otherPrograms: choose("other programs", "برنامه‌های دیگر")
        case .space: choose("disk space", "جای دیسک")
        case .fileSystem: choose("file system", "سامانهٔ پرونده")
        case .encryption: choose("encryption", "رمزگذاری")
        case .clock: choose("clock", "ساعت")
        case .openFiles: choose("open files", "پرونده‌های باز")
        case .node: choose("node", "گره")
        case .service: choose("service", "سرویس")
        }
    }
}
