import CRM
import Causality
import ReplicaStore

/// One line of an order as a person typed it.
struct OrderLineEntry: Codable, Hashable, Sendable {
    var text: String?
    /// In units; up to three decimals.
    var quantity: String?
    var unitPrice: String?
    var total: String?

    /// Returns the values of the line's row, with a total where quantity and price tell it.
    ///
    /// - Throws: ``FieldFailure``
    func values(of order: RowID, position: Int) throws -> [String: FieldValue] {
        let table = TableDescription.orderLine
        var values: [String: FieldValue] = [
            "salesOrder": .integer(order.rawValue), "position": .integer(Int64(position)),
        ]
        for (name, typed) in [("text", text), ("unitPrice", unitPrice), ("total", total)] {
            guard let typed, let column = table.column(named: name) else { continue }
            values[name] = try FieldText.parse(typed, for: column, of: table)
        }
        if let quantity { values["quantity"] = try Quantity.parse(quantity) }
        if values["total"] ?? .null == .null, case .integer(let unitPrice) = values["unitPrice"] {
            var thousandths: Int64 = 1000
            if case .integer(let given) = values["quantity"] { thousandths = given }
            let (product, overflow) = unitPrice.multipliedReportingOverflow(by: thousandths)
            guard !overflow else {
                throw FieldFailure(table: table.name, column: "total", problem: .numberOutOfRange)
            }
            // Half a rial is rounded up, away from zero.
            values["total"] = .integer((product + (product < 0 ? -500 : 500)) / 1000)
        }
        return values.filter { !$0.value.isNull }
    }
}

/// Quantities: stored in thousandths, typed in units.
enum Quantity {
    /// Reads a quantity such as `3`, `1.5` or `۱٫۲۵`; an empty one is null.
    static func parse(_ typed: String) throws(FieldFailure) -> FieldValue {
        if let units = Int64(typed), units.magnitude < 1_000_000_000_000 { return .integer(units * 1000) }
        let text = PersianText.foldDigits(PersianText.display(typed)).replacing("\u{066B}", with: ".")
        if text.isEmpty { return .null }
        let failure = FieldFailure(
            table: TableDescription.orderLine.name,
            column: "quantity",
            problem: .notANumber
        )
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), let units = Int64(parts[0]) else { throw failure }
        var thousandths: Int64 = 0
        if parts.count == 2 {
            let digits = parts[1]
            guard (1...3).contains(digits.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
                let value = Int64(digits.padding(to: 3))
            else { throw failure }
            thousandths = text.hasPrefix("-") ? -value : value
        }
        let (scaled, overflow) = units.multipliedReportingOverflow(by: 1000)
        guard !overflow else {
            throw FieldFailure(table: failure.table, column: failure.column, problem: .numberOutOfRange)
        }
        return .integer(scaled + thousandths)
    }

    /// Writes a stored quantity in units.
    static func text(of thousandths: Int64) -> String {
        let rest = thousandths.magnitude % 1000
        let whole = (thousandths < 0 ? "-" : "") + String(thousandths.magnitude / 1000)
        if rest == 0 { return whole }
        var digits = String(repeating: "0", count: 3 - String(rest).count) + String(rest)
        while digits.hasSuffix("0") { digits.removeLast() }
        return whole + "." + digits
    }
}

extension Substring {
    fileprivate func padding(to count: Int) -> String {
        self + String(repeating: "0", count: Swift.max(0, count - self.count))
    }
}

/// Makes an order and its lines in one transaction.
struct AddOrder: NodeRequest {
    static let name = "order.add"

    let fields: [String: FieldInput]
    let lines: [OrderLineEntry]

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> WrittenRow {
        let table = TableDescription.salesOrder
        let written = try node.replica.write { transaction in
            var entry = try RowEntry(fields, of: table, transaction)
            entry.setDefaults(from: .person, branch: RowEntry.branch(transaction), in: node)
            let id = try transaction.insert(table.name, entry.values)
            var sum: Int64?
            for (index, line) in lines.enumerated() {
                let values = try line.values(of: id, position: index + 1)
                if case .integer(let total) = values["total"] { sum = (sum ?? 0) &+ total }
                try transaction.insert(TableDescription.orderLine.name, values)
            }
            if let sum, !entry.has("total") {
                try transaction.update(table.name, id: id, ["total": .integer(sum)])
            }
            return (id, entry.warnings)
        }
        return WrittenRow(
            id: written.result.0.description,
            position: written.position,
            warnings: written.result.1.map(WrittenRow.Warning.init)
        )
    }
}

/// An order with its lines.
struct PrintedOrder: Codable, Sendable {
    let id: String
    let fields: [String: PrintedField]
    /// By position.
    let lines: [CustomerView.Line]
}

/// Reads an order and its lines.
struct ShowOrder: NodeRequest {
    static let name = "order.show"

    let order: String

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedOrder {
        try node.replica.read { reader in
            let id = try RowArgument.resolve(order, in: .salesOrder, reader)
            let row = PrintedRow(try reader.requiredRow(.salesOrder, id: id))
            let lines = try reader.values(.orderLine, where: "salesOrder", is: .integer(id.rawValue))
                .sorted { ($0.integer("position") ?? .max, $0.id) < ($1.integer("position") ?? .max, $1.id) }
            return PrintedOrder(id: row.id, fields: row.fields, lines: lines.map(CustomerView.Line.init))
        }
    }
}
