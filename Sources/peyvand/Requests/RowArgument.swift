import CRM
import Causality
import ReplicaStore

/// Finds the row that a person names: by its id, or by a number that only it has.
enum RowArgument {
    /// Returns the identifier that is meant.
    ///
    /// A number that a row had before it was renumbered counts too. A customer can also be named by national code, legal
    /// id, or mobile number, an order by its tax number. A written id is returned without asking whether the row is there.
    ///
    /// - Parameter isToChange: Whether this one record is to be changed, handed out or judged. To look at a customer, or to
    ///   hang something on him, a number that several of his records share is enough; for a change it is not.
    /// - Throws: ``CommandFailure`` when nothing has the number, or several things do.
    static func resolve(
        _ typed: String,
        in table: TableDescription,
        _ reader: ReplicaReader,
        isToChange: Bool = false
    ) throws -> RowID {
        if let id = FieldText.identifier(typed) { return try present(id, in: table, reader) }
        var found: Set<RowID> = []
        var kinds: [String] = []
        for (column, value) in candidates(typed, in: table) {
            kinds.append(column)
            for row in try reader.rows(table, where: column, is: .text(value), limit: 10) {
                found.insert(row.id)
            }
        }
        switch (found.count, kinds.isEmpty) {
        case (1, _):
            return found[found.startIndex]
        case (0, true):
            throw CommandFailure(
                .usage,
                "This names no \(table.name). Give its id, which looks like 17-4711."
            )
        case (0, false):
            throw CommandFailure(
                .refused,
                "No \(table.name) here has this \(kinds.joined(separator: " or ")). If it was made elsewhere, "
                    + "synchronise and try again."
            )
        default:
            // Records of one customer share numbers; any of them leads to it.
            if !isToChange, table == .customer, let first = found.min() {
                let cluster = try CustomerCluster(of: first, from: reader)
                if let golden = cluster.golden, found.isSubset(of: cluster.members) { return golden }
            }
            let ids = found.sorted().map(\.description).joined(separator: ", ")
            throw CommandFailure(
                .refused,
                "Several rows of \(table.name) have this \(kinds.joined(separator: " or ")): \(ids). Name one by its id."
            )
        }
    }

    /// The row that has an id, or, when none does, the one that had it before it was renumbered.
    private static func present(_ id: RowID, in table: TableDescription, _ reader: ReplicaReader) throws -> RowID {
        let renumbered = try reader.presentIdentifiers(of: id, in: table)
        guard !renumbered.isEmpty, try reader.row(table, id: id) == nil, try reader.deletedRow(table, id: id) == nil
        else { return id }
        if renumbered.count == 1 { return renumbered[0] }
        let ids = renumbered.map(\.description).joined(separator: ", ")
        throw CommandFailure(
            .refused,
            "Several rows of \(table.name) had the number \(id): now \(ids). Name one of those."
        )
    }

    /// The columns that the typed text could be in, and what would be stored there.
    private static func candidates(_ typed: String, in table: TableDescription) -> [(
        column: String, value: String
    )] {
        switch table.name {
        case TableDescription.customer.name:
            var result: [(String, String)] = []
            if case .valid(let number) = PhoneNumber.read(typed), number.kind == .mobile {
                result.append(("mobile", number.e164))
            }
            if let code = NationalCode.read(typed).value { result.append(("nationalCode", code)) }
            if let code = LegalIdentifier.read(typed).value { result.append(("legalId", code)) }
            return result
        case TableDescription.salesOrder.name:
            let text = PersianText.display(typed)
            return text.isEmpty ? [] : [("number", text)]
        default:
            return []
        }
    }
}
