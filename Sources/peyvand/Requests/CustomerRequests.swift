import CRM
import Causality
import ReplicaStore

/// Reads everything about one customer.
struct ShowCustomer: NodeRequest {
    static let name = "customer.show"

    let customer: String

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> CustomerView {
        try node.replica.read { reader in
            let id = try RowArgument.resolve(customer, in: .customer, reader)
            let bin = try reader.deletedRow(.customer, id: id).map(RowValues.init)
            guard let view = try CustomerView(of: id, from: reader, deleted: bin, likely: reader.openDuplicates) else {
                throw try reader.absence(of: id, in: .customer)
            }
            return view
        }
    }
}

/// Finds customers by words, best first.
struct FindCustomers: NodeRequest {
    static let name = "customer.find"

    let text: String
    let limit: Int

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [PrintedRow] {
        let found = try node.replica.findCustomers(text, limit: limit) { try progress(ProgressReport(count: $0)) }
        return try node.replica.read { reader in
            try found.compactMap { try reader.row(.customer, id: $0).map(PrintedRow.init) }
        }
    }
}
