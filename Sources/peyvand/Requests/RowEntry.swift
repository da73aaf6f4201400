import CRM
import Causality
import ReplicaStore

/// Turns what people typed for the fields of a row into values, with the warnings that they should read.
///
/// Belongs to one transaction.
struct RowEntry {
    let table: TableDescription
    private(set) var values: [String: FieldValue] = [:]
    private(set) var warnings: [EntryWarning] = []

    /// Reads the fields. References to customers may be typed as for any customer argument.
    ///
    /// - Throws: ``FieldFailure``, or ``StoreFailure/unknownColumn(_:table:known:)``.
    init(_ fields: [String: FieldInput], of table: TableDescription, _ transaction: LocalTransaction) throws {
        self.table = table
        let areaCode = try Self.areaCode(transaction)
        for (name, input) in fields.sorted(by: { $0.key < $1.key }) {
            let column = try table.writableColumn(named: name)
            if case (.reference(let target), .text(let text)) = (column.type, input), !text.isEmpty,
                let targetTable = transaction.schema.table(named: target)
            {
                let id = try RowArgument.resolve(text, in: targetTable, transaction.reader)
                values[name] = .integer(id.rawValue)
                continue
            }
            let reading = try FieldEntry.read(input, for: column, of: table, branchAreaCode: areaCode)
            values[name] = reading.value
            if let warning = reading.warning { warnings.append(warning) }
        }
    }

    /// Takes values that were read elsewhere.
    init(values: [String: FieldValue], of table: TableDescription) {
        self.table = table
        self.values = values
    }

    /// Whether a field was given, and not as empty.
    func has(_ name: String) -> Bool { values[name].map { !$0.isNull } ?? false }

    /// Sets a field that was not given.
    mutating func setDefault(_ name: String, _ value: FieldValue) {
        if values[name] == nil, !value.isNull { values[name] = value }
    }

    mutating func set(_ name: String, _ value: FieldValue) { values[name] = value }

    mutating func remove(_ name: String) { values[name] = nil }

    /// Where a new row comes from.
    enum Source: Sendable {
        case person, file
    }

    /// Fills in what a new row has when nobody says otherwise.
    ///
    /// - Parameter branch: The row of this node in the table of branches, or null.
    mutating func setDefaults(from source: Source, branch: FieldValue, in node: NodeService) {
        switch table.name {
        case TableDescription.customer.name:
            setDefault("kind", .text(has("legalId") ? "organisation" : "person"))
            setDefault("homeBranch", branch)
            setDefault("source", .text(source == .file ? "import" : "officer"))
            setDefault("confirmedAt", node.now)
            if has("stage") { setDefault("stageAt", node.now) }
            let parts = ["givenName", "familyName"].compactMap { name -> String? in
                if case .text(let text) = values[name] { return text }
                return nil
            }
            if !has("name"), !parts.isEmpty { set("name", .text(parts.joined(separator: " "))) }
        case TableDescription.activity.name:
            setDefault("at", node.now)
        case TableDescription.salesOrder.name:
            setDefault("branch", branch)
            // A file that names no day does not mean today.
            if source == .file {
                setDefault("kind", .text("invoice"))
            } else {
                setDefault("day", node.today)
            }
            setDefault("state", .text(values["kind"] == .text("invoice") ? "issued" : "draft"))
            setDefault("stateAt", node.now)
        default:
            break
        }
    }

    /// Fills in what an edit brings with it: when the customer's particulars were confirmed, when a stage or
    /// state began.
    mutating func setConsequences(for present: StoredRow, in node: NodeService) {
        func changes(_ name: String) -> Bool { values[name].map { !$0.isStoredAs(present[name]) } ?? false }
        if table.name == TableDescription.customer.name {
            let confirming = table.columns.filter { column in
                ["name", "identity", "address"].contains(column.group)
                    || ["mobile", "phone", "email", "web"].contains(column.name)
            }
            if confirming.contains(where: { changes($0.name) }) { setDefault("confirmedAt", node.now) }
            if changes("stage") { setDefault("stageAt", node.now) }
        } else if changes("state"), table.column(named: "stateAt") != nil {
            setDefault("stateAt", node.now)
        }
    }

    /// The row of this node in the table of branches, as a value.
    static func branch(_ transaction: LocalTransaction) -> FieldValue {
        transaction.branchRow.map { .integer($0.rawValue) } ?? .null
    }

    private static func areaCode(_ transaction: LocalTransaction) throws -> String? {
        guard let id = transaction.branchRow,
            let branch = try transaction.reader.row(.branch, id: id),
            case .text(let code) = branch["areaCode"]
        else { return nil }
        return code
    }
}

extension TableDescription {
    /// A column that people may write.
    ///
    /// - Throws: ``StoreFailure/unknownColumn(_:table:known:)``, which names the ones there are.
    func writableColumn(named name: String) throws -> ColumnDescription {
        guard let column = column(named: name), column.number > 0 else {
            throw StoreFailure.unknownColumn(
                name,
                table: self.name,
                known: columns.dropFirst(3).map(\.name)
            )
        }
        return column
    }
}

extension Schema {
    /// The table of a name.
    ///
    /// - Throws: ``StoreFailure/unknownTable(_:)``.
    func requiredTable(named name: String) throws -> TableDescription {
        guard let table = table(named: name) else { throw StoreFailure.unknownTable(name) }
        return table
    }
}
