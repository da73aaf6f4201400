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
        /// The record that it was written against.
        package let customer: String
        /// On the page of an organisation: whom of its people it happened with.
        package let person: String?
        /// What became of an order.
        package let state: String?
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
        /// The record that it is about.
        package let row: String
        package let fields: [String]
        /// What stands, by field; nothing when the customer was deleted.
        package let kept: [String: PrintedField]
        /// What lost, by field; nothing when a deletion lost.
        package let lost: [String: PrintedField]
        /// When the lost value was written, in RFC 3339.
        package let at: String?

        init(_ entry: RowValues) {
            id = entry.id.description
            row = entry.reference("ofRow")?.description ?? ""
            fields = (entry.text("columnNames") ?? "").split(separator: " ").map(String.init)
            kept = ConflictValues.printed(entry["kept"])
            lost = ConflictValues.printed(entry["lost"])
            at = entry.integer("lostAt").flatMap(CivilTime.rfc3339(ofMilliseconds:))
        }
    }

    /// A way to reach the customer, and where it is recorded.
    package struct Contact: Codable, Hashable, Sendable {
        /// One record that has it, and the office where that was made.
        package struct Place: Codable, Hashable, Sendable {
            package let id: String
            package let branch: String?
        }

        /// The row that has it: the smallest of them.
        package let id: String
        package let kind: String
        package let value: String
        package let `extension`: String?
        package let label: String?
        package let state: String?
        package let places: [Place]
    }

    /// How the customer stands to another one.
    package struct Relation: Codable, Hashable, Sendable {
        package let id: String
        package let kind: String
        package let role: String?
        /// The golden identifier of the other one, and its name.
        package let other: String
        package let otherName: String
        /// Whether the word says what the other one is to this customer: its employee, its subsidiary.
        package let isOfOther: Bool
        package let fromDay: String?
        package let untilDay: String?
    }

    /// What the records add up to.
    package struct Sums: Codable, Hashable, Sendable {
        /// Issued invoices less credit notes, in rial.
        package fileprivate(set) var sale: Int64 = 0
        package fileprivate(set) var invoices = 0
        package fileprivate(set) var creditNotes = 0
        /// Inquiries, quotes and orders.
        package fileprivate(set) var orders = 0
        package fileprivate(set) var activities = 0
        /// RFC 3339.
        package fileprivate(set) var firstContact: String?
        package fileprivate(set) var lastContact: String?
    }

    /// A record that may be the same customer.
    package struct Duplicate: Codable, Hashable, Sendable {
        package let id: String
        /// The record of this customer that it looks like.
        package let like: String
        package let name: String
        package let score: Int
    }

    /// A link that was left out, because somebody decided that two of the records differ.
    package struct Contradiction: Codable, Hashable, Sendable {
        /// Both identifiers.
        package let id: String
        /// 1 or 2; nil when somebody decided that they are one.
        package let rule: Int?
        /// The pair that is decided to differ.
        package let different: String
    }

    package let id: String
    /// The smallest identifier of the live records that are this customer.
    package let golden: String
    /// The live records that are this customer, the smallest first.
    package let members: [String]
    package let name: String
    /// Whether the record lies in the recycle bin. What happened with the customer is shown all the same.
    package let deleted: Bool
    /// What stands for the customer, out of all its records.
    package let fields: [String: PrintedField]
    /// Where each of the fields comes from.
    package let sources: [String: SurvivingFields.Provenance]
    package let contacts: [Contact]
    package let relations: [Relation]
    package let sums: Sums
    package let timeline: [Event]
    /// Records that may be the same customer, the likeliest first.
    package let duplicates: [Duplicate]
    package let contradictions: [Contradiction]
    /// Losing writes that wait for a decision.
    package let conflicts: [Conflict]

    /// Reads the page of a customer; nil when there is no such live row.
    ///
    /// - Parameters:
    ///   - bin: The row as it lies in the recycle bin, to be shown if no live one is there.
    ///   - likely: The queue's pairs of some records.
    package init?(
        of id: RowID,
        from source: some RowSource,
        deleted bin: RowValues? = nil,
        likely: ([RowID]) throws -> [ScoredPair] = { _ in [] }
    ) throws {
        let live = try source.values(.customer, id: id)
        guard let customer = live ?? bin else { return nil }
        deleted = live == nil
        self.id = id.description
        let cluster = try CustomerCluster(of: id, from: source)
        golden = cluster.golden?.description ?? self.id
        // One that lies in the recycle bin is shown too, when it is asked for, and as it lies there.
        let shown = Set(cluster.visible + [id]).sorted()
        let records = deleted ? [customer] : try shown.compactMap { try source.values(.customer, id: $0) }
        members = shown.map(\.description)
        let open = try shown.flatMap { record in
            try source.values(.conflict, where: "ofRow", is: .integer(record.rawValue)).filter { entry in
                entry.text("tableName") == TableDescription.customer.name
                    && ConflictResolution(entry["resolution"]) == .open
            }
        }
        conflicts = open.map(Conflict.init)
        var contested: [String: RowID] = [:]
        for entry in open {
            for field in (entry.text("columnNames") ?? "").split(separator: " ").map(String.init) {
                if contested[field] == nil { contested[field] = entry.reference("ofRow") }
            }
        }
        var offices = Offices(source)
        let surviving = try SurvivingFields(of: records, contested: contested) { try offices.name(of: $0.origin) }
        fields = FieldText.print(surviving.values, of: customer.table)
        sources = surviving.provenance
        let unified = RowValues(table: customer.table, id: records[0].id, values: surviving.values)
        name = Self.name(of: unified)
        contacts = try Self.contacts(of: records, from: source, &offices)
        let related = try Self.relations(of: shown, from: source)
        relations = related.map(\.relation)
        var timeline = try Self.timeline(of: shown, person: nil, from: source, &offices)
        sums = Self.sums(of: timeline.map(\.event))
        if unified.text("kind") == "organisation" {
            var told = Set(shown)
            for one in related where one.isOfStaff {
                let fresh = one.members.filter { told.insert($0).inserted }
                let person = one.relation.otherName
                timeline += try Self.timeline(of: fresh, person: person, from: source, &offices)
            }
        }
        self.timeline = Self.sorted(timeline)
        duplicates = try Self.duplicates(try likely(shown), of: shown, from: source)
        contradictions = cluster.contradictions.map { left in
            Contradiction(
                id: "\(left.pair.low) \(left.pair.high)",
                rule: left.rule?.rawValue,
                different: "\(left.different.low) \(left.different.high)"
            )
        }
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
    private static func timeline<Source: RowSource>(
        of ids: [RowID],
        person: String?,
        from source: Source,
        _ offices: inout Offices<Source>
    ) throws -> [Dated] {
        var events: [Dated] = []
        func rows(_ table: TableDescription) throws -> [RowValues] {
            try ids.flatMap { try source.values(table, where: "customer", is: .integer($0.rawValue)) }
        }
        // Whom it was written against, and whoever took part besides.
        let shared = try ids.flatMap { try source.values(.activity, where: "alsoWith", names: $0) }
        var told: Set<RowID> = []
        for row in try rows(.activity) + shared where told.insert(row.id).inserted {
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
                lines: nil,
                customer: row.reference("customer")?.description ?? "",
                person: person,
                state: nil
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
                lines: lines.map(Line.init),
                customer: row.reference("customer")?.description ?? "",
                person: person,
                state: row.text("state")
            )
            events.append(Dated(milliseconds: milliseconds ?? 0, rowID: row.id, event: event))
        }
        return events
    }

    /// Newest first; within one moment by identifier and table, so that there is one order only.
    private static func sorted(_ events: [Dated]) -> [Event] {
        events.sorted {
            ($0.milliseconds, $0.rowID, $0.event.table) > ($1.milliseconds, $1.rowID, $1.event.table)
        }.map(\.event)
    }

    private static func sums(of events: [Event]) -> Sums {
        var sums = Sums()
        for event in events {
            guard event.table == TableDescription.salesOrder.name else {
                sums.activities += 1
                guard let at = event.at else { continue }
                sums.firstContact = min(sums.firstContact ?? at, at)
                sums.lastContact = max(sums.lastContact ?? at, at)
                continue
            }
            switch (event.kind, event.state) {
            case ("invoice", "issued"): sums.invoices += 1
            case ("creditNote", "issued"): sums.creditNotes += 1
            case ("invoice", _), ("creditNote", _): continue
            default:
                sums.orders += 1
                continue
            }
            sums.sale &+= event.amount ?? 0
        }
        return sums
    }

    private static func duplicates(
        _ likely: [ScoredPair],
        of members: [RowID],
        from source: some RowSource
    ) throws -> [Duplicate] {
        let own = Set(members)
        return try likely.compactMap { scored in
            let isLow = own.contains(scored.pair.low)
            let (like, other) = isLow ? (scored.pair.low, scored.pair.high) : (scored.pair.high, scored.pair.low)
            guard !own.contains(other), let row = try source.values(.customer, id: other) else { return nil }
            let id = other.description
            return Duplicate(id: id, like: like.description, name: name(of: row), score: scored.score)
        }
    }

    /// One way to reach a customer, as one row has it.
    private struct ContactEntry {
        let row: RowValues
        let kind: String
        let value: String
        let `extension`: String?
    }

    /// The ways to reach a customer that any record knows, each once.
    private static func contacts<Source: RowSource>(
        of records: [RowValues],
        from source: Source,
        _ offices: inout Offices<Source>
    ) throws -> [Contact] {
        var entries: [ContactEntry] = []
        for record in records {
            for kind in ["mobile", "phone", "email", "web"] {
                guard let value = record.text(kind) else { continue }
                entries.append(ContactEntry(row: record, kind: kind, value: value, extension: nil))
            }
            if let address = address(of: record) {
                entries.append(ContactEntry(row: record, kind: "address", value: address, extension: nil))
            }
            for point in try source.values(.contactPoint, where: "customer", is: .integer(record.id.rawValue)) {
                let kind = point.text("kind") ?? ""
                let value = kind == "address" ? address(of: point) ?? point.text("value") : point.text("value")
                guard let value else { continue }
                entries.append(ContactEntry(row: point, kind: kind, value: value, extension: point.text("extension")))
            }
        }
        var order: [String] = []
        var grouped: [String: [ContactEntry]] = [:]
        for entry in entries {
            let isNumber = entry.kind == "mobile" || entry.kind == "phone"
            let number = isNumber ? PhoneNumber.read(entry.value).value?.e164 : nil
            let key = number ?? "\(isNumber ? "phone" : entry.kind) \(PersianText.joined(entry.value))"
            if grouped[key] == nil { order.append(key) }
            grouped[key, default: []].append(entry)
        }
        let states = ["wrong", "bounced", "old", "good"]
        return try order.compactMap { key in
            guard let same = grouped[key], let first = same.first else { return nil }
            let said = same.compactMap { $0.row.text("state") }
            return Contact(
                id: first.row.id.description,
                kind: first.kind,
                value: first.value,
                extension: same.lazy.compactMap(\.extension).first,
                label: same.lazy.compactMap { $0.row.text("label") }.first,
                state: states.first(where: said.contains) ?? said.first,
                places: try same.map {
                    Contact.Place(id: $0.row.id.description, branch: try offices.name(of: $0.row.id.origin))
                }
            )
        }
    }

    private static func address(of row: RowValues) -> String? {
        let parts = ["province", "city", "street", "postalCode"].compactMap { row.text($0) }
        return parts.isEmpty ? nil : parts.joined(separator: ", ")
    }

    /// A relation, and the records of the other one.
    private struct Related {
        let relation: Relation
        let members: [RowID]
        /// Whether the other one works for this customer.
        let isOfStaff: Bool
    }

    private static func relations(of ids: [RowID], from source: some RowSource) throws -> [Related] {
        let own = Set(ids)
        var related: [RowID: Related] = [:]
        for id in ids {
            for (column, far) in [("customer", "other"), ("other", "customer")] {
                for row in try source.values(.relation, where: column, is: .integer(id.rawValue)) {
                    guard let other = row.reference(far), !own.contains(other), related[row.id] == nil else { continue }
                    let cluster = try CustomerCluster(of: other, from: source)
                    let golden = cluster.golden ?? other
                    let kind = row.text("kind") ?? ""
                    let isOfOther = column == "other"
                    related[row.id] = Related(
                        relation: Relation(
                            id: row.id.description,
                            kind: kind,
                            role: row.text("role"),
                            other: golden.description,
                            otherName: try source.values(.customer, id: golden).map(name) ?? "",
                            isOfOther: isOfOther,
                            fromDay: row.text("fromDay"),
                            untilDay: row.text("untilDay")
                        ),
                        members: cluster.visible,
                        isOfStaff: isOfOther && ["employee", "contactPerson", "manager"].contains(kind)
                    )
                }
            }
        }
        return related.sorted { $0.key < $1.key }.map(\.value)
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
