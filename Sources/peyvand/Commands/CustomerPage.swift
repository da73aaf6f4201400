import CRM

/// The page of a customer for people: who it is, how it is reached, whom it knows, and what happened.
struct CustomerPage {
    private let view: CustomerView
    private let rows: RowText
    private let words: Words
    private let style: ConsoleStyle

    init(_ view: CustomerView, _ output: Output) {
        self.view = view
        rows = RowText(output)
        words = output.words
        style = output.style
    }

    /// The whole page. Parts that say nothing are left out.
    var text: String {
        let head = view.deleted ? words.isDeleted(.customer, view.id) : ""
        let parts = [
            head + fields + words.members(of: view), contacts, relations, sums, duplicates,
            words.contradictions(of: view),
            view.conflicts.isEmpty ? "" : words.conflicts(of: view, style), timeline,
        ]
        return parts.filter { !$0.isEmpty }.joined(separator: "\n")
    }

    private var fields: String {
        guard view.members.count > 1, !view.deleted else { return rows.page(view.id, view.fields, .customer) }
        // Several records: where each value comes from, why, and what others say.
        var table = TextTable([
            .init(words.title("field")), .init(words.title("value")), .init(words.from), .init(words.because),
            .init(words.otherwise, widthMax: 50),
        ])
        table.add(words.title("id"), view.golden)
        for column in Noun.customer.table.columns.dropFirst() where view.fields[column.name] != nil {
            let source = view.sources[column.name]
            let others = source?.others.map { "\($0.id): \(words.value($0.value, of: column))" } ?? []
            table.add(
                words.title(column.name),
                rows.value(column, view.fields),
                source.map { place($0.id, $0.branch) } ?? "",
                source.map { words.word(of: $0.rule) } ?? "",
                others.joined(separator: words.comma)
            )
        }
        return table.rendered(style)
    }

    private func place(_ id: String, _ branch: String?) -> String { branch.map { "\(id) \($0)" } ?? id }

    private var contacts: String {
        guard view.contacts.contains(where: { $0.id != view.id }) else { return "" }
        var table = TextTable([
            .init(words.title("kind")), .init(words.title("value")), .init(words.title("label")),
            .init(words.title("state")), .init(words.from),
        ])
        for contact in view.contacts {
            let value = contact.extension.map { "\(contact.value) (\($0))" } ?? contact.value
            var places: [String] = []
            for place in contact.places.map({ self.place($0.id, $0.branch) }) where !places.contains(place) {
                places.append(place)
            }
            table.add([
                .init(words.word(contact.kind)), .init(value), .init(contact.label ?? ""),
                .init(contact.state.map(words.word) ?? ""), .init(places.joined(separator: words.comma)),
            ])
        }
        return "\(words.contactPoints)\n\(table.rendered(style))"
    }

    private var relations: String {
        if view.relations.isEmpty { return "" }
        var table = TextTable([
            .init(words.title("kind")), .init(words.title("id")), .init(words.title("name"), widthMax: 40),
            .init(words.title("role")), .init(words.title("fromDay")), .init(words.title("untilDay")),
        ])
        for relation in view.relations {
            table.add(
                words.relation(relation.kind, isOfOther: relation.isOfOther),
                relation.other,
                relation.otherName,
                relation.role ?? "",
                relation.fromDay.map(words.day) ?? "",
                relation.untilDay.map(words.day) ?? ""
            )
        }
        return "\(words.relations)\n\(table.rendered(style))"
    }

    private var sums: String {
        let sums = view.sums
        guard view.timeline.count > 1 || sums.sale != 0 else { return "" }
        return words.sums(sums)
    }

    private var duplicates: String {
        if view.duplicates.isEmpty { return "" }
        var table = TextTable([
            .init(words.score, .right), .init(words.title("id")), .init(words.title("name"), widthMax: 40),
        ])
        for duplicate in view.duplicates { table.add(words.number(duplicate.score), duplicate.id, duplicate.name) }
        return "\(words.mayBeTheSame)\n\(table.rendered(style))"
    }

    private var timeline: String {
        if view.timeline.isEmpty { return "" }
        let hasPeople = view.timeline.contains { $0.person != nil }
        var columns: [TextTable.Column] = [
            .init(words.title("time")), .init(words.title("kind")), .init(words.title("id")),
            .init(words.title("branch")), .init(words.title("summary"), widthMax: 60),
            .init(words.title("amount"), .right),
        ]
        if hasPeople { columns.append(.init(words.with, widthMax: 30)) }
        var table = TextTable(columns)
        for event in view.timeline {
            let time = event.day.map(words.day) ?? event.at.map(words.time) ?? ""
            table.add([
                .init(time), .init(words.word(event.kind)), .init(event.id), .init(event.branch ?? ""),
                .init(event.summary ?? ""), .init(event.amount.map(words.money) ?? ""), .init(event.person ?? ""),
            ])
        }
        return "\(words.timeline)\n\(table.rendered(style))"
    }
}
