import CRM
import Causality
import ReplicaStore

/// Makes cards of customers, and entries of a calendar of activities.
struct ExportComponents {
    private let reader: ReplicaReader
    private let organisation: String
    private let includesCodes: Bool

    init(_ reader: ReplicaReader, organisation: String, includesCodes: Bool) {
        self.reader = reader
        self.organisation = organisation
        self.includesCodes = includesCodes
    }

    /// The card of a customer.
    func card(of row: StoredRow) throws -> VCard {
        let values = RowValues(row)
        let reference = FieldValue.integer(row.id.rawValue)
        var card = VCard()
        card.uid = ExchangeIdentifier(.customer, row.id, organisation: organisation).text
        card.revision = Int64(clamping: row.stamp.time.milliseconds)
        card.isOrganisation = values.text("kind") == "organisation"
        card.name = CustomerView.name(of: values)
        card.isNameDerived = values.text("name") == nil
        if card.name.isEmpty { card.name = row.id.description }
        card.familyName = values.text("familyName") ?? ""
        card.givenName = values.text("givenName") ?? ""
        card.title = values.text("title") ?? ""
        card.address = VCard.Address(
            street: values.text("street") ?? "",
            city: values.text("city") ?? "",
            province: values.text("province") ?? "",
            postalCode: values.text("postalCode") ?? ""
        )
        card.birthDay = values.text("birthDay")
        card.note = values.text("note") ?? ""
        for kind in ["mobile", "phone", "email", "web"] {
            if let value = values.text(kind) { card.points.append(VCard.Point(kind: kind, value: value)) }
        }
        for point in try reader.rows(.contactPoint, where: "customer", is: reference).map(RowValues.init) {
            guard let kind = point.text("kind"), kind != "account", let value = point.text("value"),
                point.text("state") != "wrong"
            else { continue }
            card.points.append(VCard.Point(kind: kind, value: value))
        }
        if includesCodes {
            for field in ["nationalCode", "legalId", "foreignId"] {
                if let value = values.text(field) { card.codes.append((field, value)) }
            }
        }
        if !card.isOrganisation { card.organisation = try employer(of: row.id) ?? "" }
        return card
    }

    private func employer(of id: RowID) throws -> String? {
        let relations = try reader.rows(.relation, where: "customer", is: .integer(id.rawValue)).map(RowValues.init)
        let current = relations.first {
            ["employee", "manager", "contactPerson"].contains($0.text("kind")) && $0.text("untilDay") == nil
        }
        guard let other = current?.reference("other") else { return nil }
        return try reader.values(.customer, id: other).map(CustomerView.name)
    }

    /// The entry of an activity.
    func entry(of row: StoredRow) throws -> CalendarEntry {
        let values = RowValues(row)
        var entry = CalendarEntry(kind: values.text("kind") ?? "note")
        entry.uid = ExchangeIdentifier(.activity, row.id, organisation: organisation).text
        entry.revision = Int64(clamping: row.stamp.time.milliseconds)
        entry.createdAt = values.integer("createdAt")
        entry.subject = values.text("subject") ?? ""
        entry.body = values.text("body") ?? ""
        entry.at = values.integer("at")
        entry.seconds = values.integer("seconds")
        entry.dueAt = values.integer("dueAt")
        entry.doneAt = values.integer("doneAt")
        entry.isCancelled = values.text("outcome") == "cancelled"
        if let customer = values.reference("customer") {
            entry.customer = ExchangeIdentifier(.customer, customer, organisation: organisation).text
            entry.customerName = try reader.values(.customer, id: customer).map(CustomerView.name)
        }
        return entry
    }
}
