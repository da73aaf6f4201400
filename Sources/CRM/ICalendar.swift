import Causality

/// An activity as calendars know it.
///
/// Meetings and visits are events, tasks are tasks; calls, notes and messages are entries of a journal. Times are in UTC,
/// so that no reader has to know how the clocks of Iran were set in which year.
///
/// - Source: RFC 5545.
package struct CalendarEntry: Hashable, Sendable {
    package var uid: String?
    /// When it was last changed, in milliseconds since 1970-01-01 UTC.
    package var revision: Int64?
    package var createdAt: Int64?
    /// As an activity has it.
    package var kind: String
    package var subject = ""
    package var body = ""
    /// Milliseconds since 1970-01-01 UTC.
    package var at: Int64?
    package var seconds: Int64?
    package var dueAt: Int64?
    package var doneAt: Int64?
    package var isCancelled = false
    /// The identifier and the name of the customer.
    package var customer: String?
    package var customerName: String?
    /// Whether it happens again and again, of which only the first time is kept.
    package private(set) var isRepeated = false

    package init(kind: String) { self.kind = kind }

    /// The components that entries are.
    package static let components: Set<String> = ["VEVENT", "VTODO", "VJOURNAL"]

    // MARK: Writing

    /// What stands before all entries.
    package static let beginning = [
        ContentLine("BEGIN", value: "VCALENDAR"), ContentLine("VERSION", value: "2.0"),
        ContentLine("PRODID", value: "-//Peyvand//Peyvand//EN"), ContentLine("CALSCALE", value: "GREGORIAN"),
    ].map(\.folded).joined()

    /// What stands behind them.
    package static let end = ContentLine("END", value: "VCALENDAR").folded

    /// The component with its line breaks.
    package var text: String {
        let component =
            switch kind {
            case "meeting", "visit": "VEVENT"
            case "task": "VTODO"
            default: "VJOURNAL"
            }
        var lines = [ContentLine("BEGIN", value: component)]
        func add(_ name: String, _ milliseconds: Int64?) {
            guard let text = milliseconds.flatMap({ ContentTime.text(ofMilliseconds: $0, isBasic: true) }) else {
                return
            }
            lines.append(ContentLine(name, value: text))
        }
        func add(_ name: String, text: String?) {
            if let text, !text.isEmpty { lines.append(ContentLine(name, text: text)) }
        }
        add("UID", text: uid)
        add("DTSTAMP", revision)
        add("CREATED", createdAt)
        add("LAST-MODIFIED", revision)
        lines.append(ContentLine("SEQUENCE", value: String(sequence)))
        add("DTSTART", at ?? (component == "VTODO" ? nil : createdAt))
        if component == "VEVENT", let seconds, seconds > 0, at != nil {
            lines.append(ContentLine("DURATION", value: "PT\(seconds)S"))
        }
        if component == "VTODO" {
            // A deadline must not lie before the beginning.
            if let dueAt, at.map({ $0 < dueAt }) ?? true { add("DUE", dueAt) }
            add("COMPLETED", doneAt)
            let status = isCancelled ? "CANCELLED" : doneAt == nil ? "NEEDS-ACTION" : "COMPLETED"
            lines.append(ContentLine("STATUS", value: status))
        } else if isCancelled {
            lines.append(ContentLine("STATUS", value: "CANCELLED"))
        }
        if !subject.isEmpty {
            add("SUMMARY", text: subject)
        } else if let customerName, !customerName.isEmpty {
            lines.append(ContentLine("SUMMARY", ContentLine.derived, text: customerName))
        }
        add("DESCRIPTION", text: body)
        add("CATEGORIES", text: kind.uppercased())
        add("CONTACT", text: component == "VTODO" || component == "VEVENT" ? customerName : nil)
        add("X-PEYVAND-CUSTOMER", text: customer)
        lines.append(ContentLine("END", value: component))
        return lines.map(\.folded).joined()
    }

    /// Rises with each change: the seconds between the first and the last of them.
    private var sequence: Int64 {
        guard let revision, let createdAt else { return 0 }
        return min(max(0, (revision - createdAt) / 1000), Int64(Int32.max))
    }

    // MARK: Reading

    private static let kinds = ["call", "visit", "meeting", "message", "note", "task"]

    /// Reads an entry.
    ///
    /// - Returns: Nil when a time of it cannot be read: its time zone is not known here, for one.
    package init?(_ component: ContentComponent) {
        func text(_ name: String) -> String { component.first(name).map { PersianText.display($0.text) } ?? "" }
        let words = component.all("CATEGORIES").flatMap { $0.parts(",") }.map { $0.lowercased() }
        let usual = ["VEVENT": "meeting", "VTODO": "task"][component.kind] ?? "note"
        kind = words.first(where: Self.kinds.contains) ?? usual
        uid = text("UID").isEmpty ? nil : text("UID")
        subject = component.first("SUMMARY").map { $0.isDerived ? "" : PersianText.display($0.text) } ?? ""
        body = component.first("DESCRIPTION").map { PersianText.display($0.text) } ?? ""
        var isReadable = true
        func moment(_ name: String) -> Int64? {
            guard let line = component.first(name), !line.value.isEmpty else { return nil }
            // A time without a zone is the reader's: Tehran's, here.
            let zone = line.parameters.first { $0.name == "TZID" }?.values.first ?? "Asia/Tehran"
            guard let moment = ContentTime.milliseconds(of: line.value, zone: zone) else {
                isReadable = false
                return nil
            }
            return moment
        }
        at = moment("DTSTART")
        revision = moment("LAST-MODIFIED") ?? moment("DTSTAMP")
        createdAt = moment("CREATED")
        dueAt = moment("DUE")
        doneAt = moment("COMPLETED")
        let end = moment("DTEND")
        guard isReadable else { return nil }
        if let duration = component.first("DURATION") {
            seconds = Self.seconds(ofDuration: duration.value)
        } else if let at, let end, end > at {
            seconds = (end - at) / 1000
        }
        isCancelled = text("STATUS").uppercased() == "CANCELLED"
        customer = text("X-PEYVAND-CUSTOMER").isEmpty ? nil : text("X-PEYVAND-CUSTOMER")
        isRepeated = component.first("RRULE") != nil
    }

    /// - Source: RFC 5545 section 3.3.6.
    private static func seconds(ofDuration text: String) -> Int64? {
        var total: Int64 = 0
        var digits = ""
        for character in text.uppercased().drop(while: { $0 != "P" }).dropFirst() where character != "T" {
            if ("0"..."9").contains(character) {
                digits.append(character)
                continue
            }
            guard digits.count < 10, let number = Int64(digits),
                let unit = (["W": 604_800, "D": 86_400, "H": 3600, "M": 60, "S": 1] as [Character: Int64])[character]
            else { return nil }
            total += number * unit
            digits = ""
        }
        return digits.isEmpty && !text.hasPrefix("-") ? total : nil
    }
}
