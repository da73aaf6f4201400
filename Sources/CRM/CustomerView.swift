import Causality

/// Everything about one customer on one page: who it is, and what happened, newest first.
///
/// A pure function of the rows it reads, so that equal replicas show equal pages.
package struct CustomerView: Codable, Hashable, Sendable {
    /// One thing that happened.
    package struct Event: Codable, Hashable, Sendable {
        package let id: String
        /// The table that its row is in.
        package let table: String
        package let kind: String
        /// RFC 3339. For a thing that only has a day, when that day began in Tehran.
        package let at: String?
        /// `YYYY-MM-DD`, if it is known to the day only.
        package let day: String?
        /// The office where it was recorded.
        package let branch: String?
        package let summary: String?
        /// In rial. A credit note counts below zero.
        package let amount: Int64?
        /// The lines of an order.
        package let lines: [Line]?
    }

    /// One line of an order.
    package struct Line: Codable, Hashable, Sendable {
        package let id: String
        package let text: String?
        /// In thousandths.
        package let quantity: Int64?
        package let unitPrice: Int64?
        package let total: Int64?
    }

    /// A losing write that waits for a decision.
    package struct Conflict: Codable, Hashable, Sendable {
        package let id: String
        package let fields: [String]
        /// What stands, by field; nothing when the customer was deleted.
        package let kept: [String: PrintedField]
        /// What lost, by field; nothing when a deletion lost.
        package let lost: [String: PrintedField]
        /// When the lost value was written, in RFC 3339.
        package let at: String?

        init(_ entry: RowValues) {
            id = entry.id.description
            fields = (entry.text("columnNames") ?? "").split(separator: " ").map(String.init)
            kept = ConflictValues.printed(entry["kept"])
            lost = ConflictValues.printed(entry["lost"])
            at = entry.integer("lostAt").flatMap(CivilTime.rfc3339(ofMilliseconds:))
        }
    }

    package let id: String
    /// The smallest identifier of the live records that are this customer.
    package let golden: String
    /// The live records that are this customer, the smallest first.
    package let members: [String]
    package let name: String
    /// Whether the record lies in the recycle bin. What happened with the customer is shown all the same.
    package let deleted: Bool
    package let fields: [String: PrintedField]
    package let timeline: [Event]
    /// Records that may be the same customer.
    package let duplicates: [String]
    /// Losing writes that wait for a decision.
    package let conflicts: [Conflict]

    /// Reads the page of a customer; nil when there is no such live row.
    ///
    /// - Parameter bin: The row as it lies in the recycle bin, to be shown if no live one is there.
    package init?(of id: RowID, from source: some RowSource, deleted bin: RowValues? = nil) throws {
        let live = try source.values(.customer, id: id)
        guard let customer = live ?? bin else { return nil }
        deleted = live == nil
        self.id = id.description
        let cluster = try CustomerCluster(of: id, from: source)
        golden = cluster.golden?.description ?? self.id
        // One that lies in the recycle bin is shown too, when it is asked for.
        let shown = Set(cluster.visible + [id]).sorted()
        members = shown.map(\.description)
        name = Self.name(of: customer)
        fields = FieldText.print(customer.values, of: customer.table)
        timeline = try Self.timeline(of: shown, from: source)
        duplicates = []
        conflicts = try source.values(.conflict, where: "ofRow", is: .integer(id.rawValue)).filter { entry in
            entry.text("tableName") == TableDescription.customer.name
                && ConflictResolution(entry["resolution"]) == .open
        }.map(Conflict.init)
    }

    /// What a customer is called in lists: the name, else its parts, else how it is reached.
    package static func name(of customer: RowValues) -> String {
        if let name = customer.text("name") { return name }
        let parts = [customer.text("givenName"), customer.text("familyName")].compactMap { $0 }
        if !parts.isEmpty { return parts.joined(separator: " ") }
        return ["mobile", "phone", "email"].lazy.compactMap { customer.text($0) }.first ?? ""
    }
}

extension CustomerView {
    /// An event with what it is sorted by.
    private struct Dated {
        let milliseconds: Int64
        let rowID: RowID
        let event: Event
    }

    /// What happened with any of the records.
    private static func timeline(of ids: [RowID], from source: some RowSource) throws -> [Event] {
        var offices = Offices(source)
        var events: [Dated] = []
        func rows(_ table: TableDescription) throws -> [RowValues] {
            try ids.flatMap { try source.values(table, where: "customer", is: .integer($0.rawValue)) }
        }
        for row in try rows(.activity) {
            let milliseconds = row.integer("at") ?? row.integer("createdAt")
            let event = Event(
                id: row.id.description,
                table: row.table.name,
                kind: row.text("kind") ?? "",
                at: milliseconds.flatMap(CivilTime.rfc3339(ofMilliseconds:)),
                day: nil,
                branch: try offices.name(of: row.id.origin),
                summary: row.text("subject") ?? row.text("body"),
                amount: nil,
                lines: nil
            )
            events.append(Dated(milliseconds: milliseconds ?? 0, rowID: row.id, event: event))
        }
        for row in try rows(.salesOrder) {
            let day = row.text("day")
            let milliseconds =
                day.flatMap(JalaliCalendar.startMilliseconds(ofDay:)) ?? row.integer("createdAt")
            let lines = try source.values(.orderLine, where: "salesOrder", is: .integer(row.id.rawValue))
            let kind = row.text("kind") ?? ""
            let event = Event(
                id: row.id.description,
                table: row.table.name,
                kind: kind,
                at: milliseconds.flatMap(CivilTime.rfc3339(ofMilliseconds:)),
                day: day,
                branch: try offices.name(of: row.id.origin),
                summary: summary(of: row, lines: lines),
                amount: amount(of: row, lines: lines).map { kind == "creditNote" ? 0 &- $0 : $0 },
                lines: lines.map(Line.init)
            )
            events.append(Dated(milliseconds: milliseconds ?? 0, rowID: row.id, event: event))
        }
        // Newest first; within one moment by identifier and table, so that there is one order only.
        events.sort {
            ($0.milliseconds, $0.rowID, $0.event.table) > ($1.milliseconds, $1.rowID, $1.event.table)
        }
        return events.map(\.event)
    }

    /// The total of an order: what it says, else what its lines add up to. Nil when neither says anything.
    package static func amount(of order: RowValues, lines: [RowValues]) -> Int64? {
        if let total = order.integer("total") { return total }
        let totals = lines.compactMap { $0.integer("total") }
        return totals.isEmpty ? nil : totals.reduce(0, &+)
    }

    private static func summary(of order: RowValues, lines: [RowValues]) -> String? {
        let texts = lines.compactMap { $0.text("text") }
        guard let first = texts.first else { return order.text("wishes") ?? order.text("number") }
        return texts.count == 1 ? first : "\(first) +\(texts.count - 1)"
    }

    /// The names of offices by the origin that their rows carry, each looked up once.
    private struct Offices<Source: RowSource> {
        private let source: Source
        private var names: [Origin: String?] = [:]

        init(_ source: Source) { self.source = source }

        mutating func name(of origin: Origin) throws -> String? {
            if let known = names[origin] { return known }
            let rows = try source.values(.branch, where: "origin", is: .integer(Int64(origin.rawValue)))
            let name = rows.first?.text("name")
            names[origin] = .some(name)
            return name
        }
    }
}

extension CustomerView.Line {
    /// Reads a line out of its row.
    package init(_ row: RowValues) {
        self.init(
            id: row.id.description,
            text: row.text("text"),
            quantity: row.integer("quantity"),
            unitPrice: row.integer("unitPrice"),
            total: row.integer("total")
        )
    }
}
