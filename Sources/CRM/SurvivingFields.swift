import Causality

/// The values that stand for a customer, out of all its records, and where each of them comes from.
///
/// A pure function of the rows, so that equal replicas show equal pages. Columns of one group are taken whole, so that
/// two addresses never mix. It looks at what was checked, not at when a field was typed: stamps are never read.
///
/// - Source: DOMAIN.md 3.8.
package struct SurvivingFields: Sendable {
    /// What decided between the records. Raw values are printed.
    package enum Rule: String, Codable, Hashable, Sendable, CaseIterable {
        /// No other record has a value.
        case only
        /// All records that have a value have this one.
        case agreed
        /// Somebody has pinned the field to this record.
        case pinned
        /// Its code or number passes the check.
        case valid
        /// The record was verified.
        case verified
        /// It came from a better source: a document before an officer, before the web, before a file.
        case source
        /// Its particulars were confirmed later.
        case confirmed
        /// It says more.
        case longer
        /// Nothing else tells them apart.
        case smallest
        /// The customer has come furthest there.
        case furthest
        /// The values of all records together.
        case united
        /// Somebody said no, or it is in dispute.
        case cautious
        /// The first of all.
        case earliest
        /// The last of all.
        case latest
    }

    /// What another record says instead.
    package struct Other: Codable, Hashable, Sendable {
        package let id: String
        package let branch: String?
        package let value: PrintedField
    }

    /// Where a value comes from.
    package struct Provenance: Codable, Hashable, Sendable {
        /// The record.
        package let id: String
        /// The office where the record was made.
        package let branch: String?
        package let rule: Rule
        /// Records that say something else, by identifier.
        package let others: [Other]
    }

    /// By column number.
    package let values: [FieldValue]
    /// By the name of the column, for those that have a value.
    package let provenance: [String: Provenance]

    /// Chooses among the records of one customer.
    ///
    /// - Parameters:
    ///   - records: At least one, in ascending order.
    ///   - contested: Columns about which losing writes wait for somebody, and the record that they are of.
    ///   - office: The name of the office where a record was made.
    package init(
        of records: [RowValues],
        contested: [String: RowID] = [:],
        office: (RowID) throws -> String?
    ) rethrows {
        precondition(!records.isEmpty, "A customer has at least one record")
        let table = records[0].table
        var values = [FieldValue](repeating: .null, count: table.columns.count)
        values[0] = .integer(records[0].id.rawValue)
        var provenance: [String: Provenance] = [:]
        for unit in Unit.all(of: table) {
            guard let choice = unit.choice(among: records, contested: contested) else { continue }
            for (column, value) in zip(unit.columns, choice.values) {
                values[column.number] = value
                guard !value.isNull else { continue }
                let others = try records.filter { $0.id != choice.record }.compactMap { record -> Other? in
                    let said = record.values[column.number]
                    guard !said.isNull, said != value else { return nil }
                    let printed = FieldText.print(said, for: column)
                    return Other(id: record.id.description, branch: try office(record.id), value: printed)
                }
                provenance[column.name] = Provenance(
                    id: choice.record.description,
                    branch: try office(choice.record),
                    rule: choice.rule,
                    others: others
                )
            }
        }
        self.values = values
        self.provenance = provenance
    }
}

/// Columns that are taken from one record together: one, or those of a group.
private struct Unit {
    struct Choice {
        let record: RowID
        let values: [FieldValue]
        let rule: SurvivingFields.Rule
    }

    let columns: [ColumnDescription]

    static func all(of table: TableDescription) -> [Unit] {
        var units: [Unit] = []
        var places: [String: Int] = [:]
        for column in table.columns.dropFirst() {
            if let group = column.group, let place = places[group] {
                units[place] = Unit(columns: units[place].columns + [column])
            } else {
                if let group = column.group { places[group] = units.count }
                units.append(Unit(columns: [column]))
            }
        }
        return units
    }

    func choice(among records: [RowValues], contested: [String: RowID]) -> Choice? {
        let holders = records.filter { record in columns.contains { !record.values[$0.number].isNull } }
        let name = columns[0].name
        switch name {
        case "roles", "pinned":
            return united(holders)
        case "consentCall", "consentSms", "consentEmail":
            return consent(holders, contested[name])
        case "createdAt":
            return extreme(holders, .earliest) { $0 < $1 }
        case "confirmedAt":
            return extreme(holders, .latest) { $0 > $1 }
        default:
            return best(holders)
        }
    }

    private func values(_ record: RowValues) -> [FieldValue] { columns.map { record.values[$0.number] } }

    private func best(_ holders: [RowValues]) -> Choice? {
        guard let first = holders.first else { return nil }
        if holders.count == 1 { return Choice(record: first.id, values: values(first), rule: .only) }
        if holders.allSatisfy({ values($0) == values(first) }) {
            return Choice(record: first.id, values: values(first), rule: .agreed)
        }
        var left = holders
        var decided = SurvivingFields.Rule.smallest
        let start: [SurvivingFields.Rule] = columns[0].name == "stage" ? [.furthest] : []
        for rule in start + [.pinned, .valid, .verified, .source, .confirmed, .longer, .smallest] {
            let ranks = left.map { rank($0, by: rule) }
            guard let greatest = ranks.max() else { break }
            let kept = zip(left, ranks).filter { $0.1 == greatest }.map(\.0)
            if kept.count < left.count { decided = rule }
            left = kept
            if left.count == 1 { break }
        }
        return Choice(record: left[0].id, values: values(left[0]), rule: decided)
    }

    /// The greater, the better.
    private func rank(_ record: RowValues, by rule: SurvivingFields.Rule) -> Int64 {
        switch rule {
        case .furthest: ["customer": 3, "prospect": 2, "lead": 1][record.text("stage") ?? ""] ?? 0
        case .pinned: isPinned(record) ? 1 : 0
        case .valid: validity(record)
        case .verified: record.integer("verifiedAt") == nil ? 0 : 1
        case .source: ["document": 4, "officer": 3, "web": 2, "import": 1][record.text("source") ?? ""] ?? 0
        case .confirmed: record.integer("confirmedAt") ?? .min
        case .longer: length(record)
        case .smallest: -record.id.rawValue
        case .only, .agreed, .united, .cautious, .earliest, .latest: 0
        }
    }

    private func isPinned(_ record: RowValues) -> Bool {
        let pinned = Self.words(record["pinned"])
        return columns.contains { pinned.contains($0.name) }
    }

    /// A code that passes its check before none at all, and that before one that does not.
    private func validity(_ record: RowValues) -> Int64 {
        var validity: Int64 = 0
        for column in columns {
            guard case .text(let text) = record.values[column.number], !text.isEmpty,
                let isValid = Self.isValid(text, column.name)
            else { continue }
            if !isValid { return -1 }
            validity = 1
        }
        return validity
    }

    /// Nil for a column that nothing checks.
    private static func isValid(_ text: String, _ column: String) -> Bool? {
        switch column {
        case "nationalCode": NationalCode.read(text).value != nil
        case "legalId": LegalIdentifier.read(text).value != nil
        case "postalCode": PostalCode.read(text).value != nil
        case "mobile", "phone": PhoneNumber.read(text).value != nil
        case "email": text.contains("@")
        default: nil
        }
    }

    private func length(_ record: RowValues) -> Int64 {
        columns.reduce(0) { sum, column in
            guard column.type == .text, case .text(let text) = record.values[column.number] else { return sum }
            return sum + Int64(PersianText.joined(text).unicodeScalars.count)
        }
    }

    private func extreme(
        _ holders: [RowValues],
        _ rule: SurvivingFields.Rule,
        _ isBefore: (Int64, Int64) -> Bool
    ) -> Choice? {
        let name = columns[0].name
        let found = holders.min { isBefore($0.integer(name) ?? 0, $1.integer(name) ?? 0) }
        return found.map { Choice(record: $0.id, values: values($0), rule: holders.count == 1 ? .only : rule) }
    }

    private static func words(_ value: FieldValue) -> Set<String> {
        guard case .text(let text) = value else { return [] }
        return Set(text.split { $0 == " " || $0 == "," || $0 == "،" }.map(String.init))
    }

    private func united(_ holders: [RowValues]) -> Choice? {
        guard let first = holders.first else { return nil }
        if holders.count == 1 { return Choice(record: first.id, values: values(first), rule: .only) }
        let words = holders.reduce(into: Set<String>()) { $0.formUnion(Self.words($1.values[columns[0].number])) }
        return Choice(record: first.id, values: [.text(words.sorted().joined(separator: " "))], rule: .united)
    }

    /// Whoever said no once is not asked again because of another record.
    private func consent(_ holders: [RowValues], _ contested: RowID?) -> Choice? {
        let (name, refusal) = (columns[0].name, FieldValue.text("no"))
        if let record = holders.first(where: { $0[name] == refusal }) {
            return Choice(record: record.id, values: [refusal], rule: holders.count == 1 ? .only : .cautious)
        }
        if let contested { return Choice(record: contested, values: [refusal], rule: .cautious) }
        if let record = holders.first(where: { $0[name] == .text("yes") }) {
            return Choice(record: record.id, values: [.text("yes")], rule: holders.count == 1 ? .only : .agreed)
        }
        return best(holders)
    }
}
