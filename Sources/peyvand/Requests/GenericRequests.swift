import CRM
import Causality
import ReplicaStore

/// A value that head office has named as nobody's own.
struct PrintedGeneric: Codable, Sendable {
    let id: String
    let value: String
}

/// Lists the values that are named as nobody's own.
struct ListGeneric: NodeRequest {
    static let name = "customer.generic.list"

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [PrintedGeneric] {
        try node.replica.read { reader in
            try reader.values(.policy, where: "name", is: .text(GenericValues.policyName)).compactMap { row in
                GenericValues.value(of: row).map { PrintedGeneric(id: row.id.description, value: $0) }
            }
        }
    }
}

/// At head office: names a value as nobody's own, or takes that back.
struct NameGeneric: NodeRequest {
    static let name = "customer.generic"

    let value: String
    var isUndone = false

    struct Reply: Codable, Sendable {
        let id: String
        let value: String
        /// Nil when nothing has changed.
        @OrNull var position: UInt64?
    }

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Reply {
        guard node.replica.node.role == .headOffice else {
            throw StoreFailure.headOfficeOnly(table: TableDescription.policy.name)
        }
        let typed = PersianText.display(value)
        let keys = Set(GenericValues.keys(of: typed))
        guard !keys.isEmpty else {
            throw CommandFailure(
                .usage,
                "This is no telephone number, mail address, national code or legal id. Only by such values customers are found."
            )
        }
        let table = TableDescription.policy
        let written = try node.replica.write { transaction -> RowID in
            let rows = try transaction.reader.values(table, where: "name", is: .text(GenericValues.policyName))
            let same = rows.filter { row in
                GenericValues.value(of: row).map { Set(GenericValues.keys(of: $0)) == keys } ?? false
            }
            if isUndone {
                guard let first = same.first else {
                    throw CommandFailure(
                        .refused,
                        "This value is not named. `customer generic list` shows those that are."
                    )
                }
                for row in same { try transaction.delete(table.name, id: row.id) }
                try transaction.audit(.setPolicy, "generic value \(first.id) taken back")
                return first.id
            }
            if let first = same.first { return first.id }
            let id = try transaction.insert(
                table.name,
                ["name": .text(GenericValues.policyName), "value": .text(GenericValues.document(of: typed))]
            )
            try transaction.audit(.setPolicy, "generic value \(id) named")
            return id
        }
        return Reply(id: written.result.description, value: typed, position: written.position)
    }
}
