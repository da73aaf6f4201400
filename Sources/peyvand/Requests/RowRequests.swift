import CRM
import Causality
import ReplicaStore

// The requests that every noun shares: the noun is the name of a table.

/// What came of writing a row.
struct WrittenRow: Codable, Sendable {
    let id: String
    /// Where the change set stands in this node's log; nil when nothing has changed.
    let position: UInt64?
    /// Sentences about values that were kept but look wrong, in the language of the command.
    var warnings: [Warning] = []

    /// One warning, in both languages: the node does not know who reads it.
    struct Warning: Codable, Sendable {
        let field: String
        let sentence: String
        let persian: String

        init(_ warning: EntryWarning) {
            field = warning.column
            sentence = warning.description
            persian = warning.persian
        }
    }
}

/// One row with its fields as they are shown outside.
struct PrintedRow: Codable, Sendable {
    let id: String
    let fields: [String: PrintedField]

    init(_ row: StoredRow) {
        id = row.id.description
        fields = FieldText.print(row.values, of: row.table)
    }

    /// The text of a field; empty when it has none.
    func text(_ name: String) -> String { fields[name]?.text ?? "" }
}

/// Makes a row out of what a person typed.
struct AddRow: NodeRequest {
    static let name = "row.add"

    let table: String
    let fields: [String: FieldInput]

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> WrittenRow {
        let table = try node.replica.schema.requiredTable(named: table)
        let written = try node.replica.write { transaction in
            var entry = try RowEntry(fields, of: table, transaction)
            entry.setDefaults(from: .person, branch: RowEntry.branch(transaction), in: node)
            return (try transaction.insert(table.name, entry.values), entry.warnings)
        }
        return WrittenRow(
            id: written.result.0.description,
            position: written.position,
            warnings: written.result.1.map(WrittenRow.Warning.init)
        )
    }
}

/// Writes some fields of a row; an empty text clears its field.
struct EditRow: NodeRequest {
    static let name = "row.edit"

    let table: String
    let row: String
    let fields: [String: FieldInput]

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> WrittenRow {
        let table = try node.replica.schema.requiredTable(named: table)
        let written = try node.replica.write { transaction in
            let id = try RowArgument.resolve(row, in: table, transaction.reader, isToChange: true)
            var entry = try RowEntry(fields, of: table, transaction)
            if let present = try transaction.reader.row(table, id: id) {
                entry.setConsequences(for: present, in: node)
            }
            for column in table.columns where column.isRequired && entry.values[column.name]?.isNull == true {
                throw StoreFailure.missingColumn(column.name, table: table.name)
            }
            try transaction.update(table.name, id: id, entry.values)
            return (id, entry.warnings)
        }
        return WrittenRow(
            id: written.result.0.description,
            position: written.position,
            warnings: written.result.1.map(WrittenRow.Warning.init)
        )
    }
}

/// Deletes a row, or brings a deleted one back.
struct RemoveRow: NodeRequest {
    static let name = "row.remove"

    let table: String
    let row: String
    /// Whether the row is brought back.
    let isUndone: Bool

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> WrittenRow {
        let table = try node.replica.schema.requiredTable(named: table)
        let written = try node.replica.write { transaction in
            let id = try RowArgument.resolve(row, in: table, transaction.reader, isToChange: true)
            if isUndone {
                try transaction.restore(table.name, id: id)
            } else {
                try transaction.delete(table.name, id: id)
            }
            return id
        }
        return WrittenRow(id: written.result.description, position: written.position)
    }
}

/// Reads one live row.
struct ShowRow: NodeRequest {
    static let name = "row.show"

    let table: String
    let row: String

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedRow {
        let table = try node.replica.schema.requiredTable(named: table)
        return try node.replica.read { reader in
            let id = try RowArgument.resolve(row, in: table, reader)
            return PrintedRow(try reader.requiredRow(table, id: id))
        }
    }
}

/// Reads rows in the order of their identifiers.
struct ListRows: NodeRequest {
    static let name = "row.list"

    let table: String
    var isDeleted = false
    var limit = 100
    var after: String?
    /// Only those whose column names this row: a column, and what a person typed for the row.
    var filter: Filter?

    /// Rows that refer to one row.
    struct Filter: Codable, Sendable {
        let column: String
        let row: String
    }

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [PrintedRow] {
        let table = try node.replica.schema.requiredTable(named: table)
        return try node.replica.read { reader in
            let after = try after.map { try RowArgument.resolve($0, in: table, reader) }
            guard let filter else {
                return try reader.rows(table, after: after, limit: limit, deleted: isDeleted).map(
                    PrintedRow.init
                )
            }
            let column = try table.writableColumn(named: filter.column)
            guard case .reference(let target) = column.type,
                let targetTable = reader.schema.table(named: target)
            else {
                throw StoreFailure.wrongType(
                    column: column.name,
                    table: table.name,
                    expected: "no id of a row"
                )
            }
            let id = try RowArgument.resolve(filter.row, in: targetTable, reader)
            // What belongs to a deleted row is still there.
            if try reader.deletedRow(targetTable, id: id) == nil { _ = try reader.requiredRow(targetTable, id: id) }
            return try reader.rows(table, where: column.name, is: .integer(id.rawValue))
                .filter { row in after.map { row.id > $0 } ?? true }
                .prefix(limit)
                .map(PrintedRow.init)
        }
    }
}

extension ReplicaReader {
    /// One live row.
    ///
    /// - Throws: ``StoreFailure/deletedRow(table:id:)`` or ``StoreFailure/unknownRow(table:id:)``.
    func requiredRow(_ table: TableDescription, id: RowID) throws -> StoredRow {
        if let row = try row(table, id: id) { return row }
        throw try absence(of: id, in: table)
    }
}
