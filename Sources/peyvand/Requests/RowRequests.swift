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

        init(field: String, sentence: String, persian: String) {
            (self.field, self.sentence, self.persian) = (field, sentence, persian)
        }

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
        let id = written.result.0
        let likely = table == .customer ? likelySame(as: id, in: node) : []
        return WrittenRow(
            id: id.description,
            position: written.position,
            warnings: written.result.1.map(WrittenRow.Warning.init) + likely
        )
    }

    /// How many likely duplicates of a new customer are named.
    private static let likelyMax = 3

    /// Who the new customer may be as well. It is written: nothing that goes wrong here may look as if it were not.
    private func likelySame(as id: RowID, in node: NodeService) -> [WrittenRow.Warning] {
        guard (try? node.replica.followMatchingQuickly()) == true else { return [] }
        let found = try? node.replica.read { reader in
            let others = try CustomerCluster(of: id, from: reader).visible.filter { $0 != id }
            return others.map { WrittenRow.Warning.isOne(id, $0) }
                + (try reader.openDuplicates(of: [id]).prefix(Self.likelyMax).map { scored in
                    .mayBeOne(id, scored.pair.low == id ? scored.pair.high : scored.pair.low, score: scored.score)
                })
        }
        return found ?? []
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

extension WrittenRow.Warning {
    /// A rule links the new record with another one.
    static func isOne(_ id: RowID, _ other: RowID) -> WrittenRow.Warning {
        WrittenRow.Warning(
            field: "id",
            sentence:
                "\(id) is one customer with \(other), by code or by name, birth day and mobile number. Both are kept; "
                + "`customer unlink \(id) \(other)` parts them.",
            persian: "\(id) با \(other) یک مشتری است (به کد، یا به نام و تاریخ تولد و همراه). هر دو می‌مانند و "
                + "`customer unlink \(id) \(other)` آن‌ها را جدا می‌کند."
        )
    }

    /// The new record looks like another one.
    static func mayBeOne(_ id: RowID, _ other: RowID, score: Int) -> WrittenRow.Warning {
        WrittenRow.Warning(
            field: "id",
            sentence:
                "\(id) looks like \(other) (score \(score)). If they are one customer: `customer link \(id) \(other)`; "
                + "if not: `customer unlink \(id) \(other)`.",
            persian: "\(id) مانند \(other) است (امتیاز \(PersianText.persianDigits(String(score)))). اگر یک مشتری‌اند: "
                + "`customer link \(id) \(other)` و اگر نه: `customer unlink \(id) \(other)`."
        )
    }
}
