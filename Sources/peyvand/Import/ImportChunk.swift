import CRM
import Causality
import ReplicaStore
import SyncProtocol

/// Imports some rows of a file in one transaction.
struct ImportChunk: NodeRequest {
    static let name = "import"

    /// One row: its line in the file, and a cell for each of the fields.
    struct Row: Codable, Sendable {
        let line: Int
        let cells: [String]
    }

    /// Why a row was not taken, or a value of it looks wrong.
    struct Problem: Codable, Hashable, Sendable {
        let line: Int
        let column: String?
        let reason: String
    }

    /// What came of the rows.
    struct Outcome: Codable, Sendable {
        var created = 0
        var updated = 0
        /// Rows that are here just so already, or were deleted here.
        var skipped = 0
        /// Rows that were not taken.
        var invalid: [Problem] = []
        /// Values that were taken but look wrong.
        var warnings: [Problem] = []
        /// Where the change set stands; nil when nothing has changed.
        var position: UInt64?
    }

    let target: ImportTarget
    let fields: [String?]
    let rows: [Row]
    let isDryRun: Bool
    let language: Language

    /// Thrown to take back what a dry run has tried.
    private struct DryRun: Error {
        let outcome: Outcome
    }

    /// How many rows may be found out to be impossible only when they are written, in one transaction.
    private static let lateRefusalsMax = 50

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Outcome {
        var parsed = Outcome()
        var drafts = try drafts(&parsed, areaCode: areaCode(node))
        for _ in 0...Self.lateRefusalsMax {
            do {
                let written = try node.replica.write { transaction in
                    var writing = ImportWriting(target, node, transaction, parsed, language)
                    try writing.perform(drafts)
                    if isDryRun { throw DryRun(outcome: writing.outcome) }
                    return writing.outcome
                }
                var outcome = written.result
                outcome.position = written.position
                return outcome
            } catch let dryRun as DryRun {
                return dryRun.outcome
            } catch let refusal as ImportWriting.Refusal {
                // Nothing of the transaction stays, so it is done again without the row.
                drafts.removeAll { $0.line == refusal.line }
                let reason = Words(language).sentence(of: refusal.failure)
                parsed.invalid.append(Problem(line: refusal.line, column: nil, reason: reason))
            }
        }
        throw CommandFailure(
            .failed,
            "Too many rows near line \(rows.first?.line ?? 0) were refused while they were written. "
                + "Check that the file fits `--as \(target.rawValue)`."
        )
    }

    private func areaCode(_ node: NodeService) throws -> String? {
        guard let id = node.replica.node.branchRow else { return nil }
        return try node.replica.read { reader in
            try reader.values(.branch, id: id)?.text("areaCode")
        }
    }

    /// Reads the cells. Rows with a cell that does not fit its field go into the outcome as invalid.
    private func drafts(_ outcome: inout Outcome, areaCode: String?) throws -> [ImportDraft] {
        let columns = fields.map { field in field.map { ImportColumn($0, target) } }
        var drafts: [ImportDraft] = []
        drafts.reserveCapacity(rows.count)
        for row in rows {
            var draft = ImportDraft(line: row.line)
            var problem: Problem?
            for (column, cell) in zip(columns, row.cells) {
                guard let column, !cell.isEmpty else { continue }
                do {
                    let reading = try column.read(cell, areaCode: areaCode)
                    if reading.value.isNull { continue }
                    draft.set(column, reading.value)
                    if let warning = reading.warning {
                        let reason = language == .fa ? warning.persian : warning.description
                        outcome.warnings.append(Problem(line: row.line, column: column.field, reason: reason))
                    }
                } catch {
                    let reason = language == .fa ? error.persianReason : error.reason
                    problem = Problem(line: row.line, column: column.field, reason: reason)
                    break
                }
            }
            if let problem {
                outcome.invalid.append(problem)
            } else {
                drafts.append(draft)
            }
        }
        return drafts
    }
}

/// One field that a column of the file fills, and where it belongs.
struct ImportColumn: Sendable {
    let field: String
    /// Whether it belongs to the order's line rather than the order.
    let isOfLine: Bool
    private let table: TableDescription
    private let column: ColumnDescription?

    init(_ field: String, _ target: ImportTarget) {
        self.field = field
        isOfLine = target == .orders && ["text", "quantity", "unitPrice"].contains(field)
        table = isOfLine ? .orderLine : target.table
        column = table.column(named: field)
    }

    /// Whether it names a customer, who is looked up later.
    var isCustomer: Bool { field == "customer" }

    fileprivate func read(_ cell: String, areaCode: String?) throws(FieldFailure) -> FieldEntry.Reading {
        guard let column else { return FieldEntry.Reading(value: .null, warning: nil) }
        if isCustomer { return FieldEntry.Reading(value: .text(PersianText.display(cell)), warning: nil) }
        if field == "quantity" {
            return FieldEntry.Reading(value: try Quantity.parse(cell), warning: nil)
        }
        let reading = try FieldEntry.read(.text(cell), for: column, of: table, branchAreaCode: areaCode)
        if case .text(let text) = reading.value, text.utf8.count > ChangeSet.textBytesMax {
            throw FieldFailure(
                table: table.name,
                column: field,
                problem: .wrongKind(expected: "at most \(ChangeSet.textBytesMax) bytes long")
            )
        }
        return reading
    }
}

/// A row of the file, read but not written.
struct ImportDraft: Sendable {
    let line: Int
    /// The fields of the row itself.
    var values: [String: FieldValue] = [:]
    /// The fields of the order's line.
    var lineValues: [String: FieldValue] = [:]
    /// What the file writes for the customer.
    var customer: String?

    init(line: Int) { self.line = line }

    /// What makes the row the same when it comes again.
    var key: FieldValue { values[ImportPlan.keyField] ?? .null }

    mutating func set(_ column: ImportColumn, _ value: FieldValue) {
        if column.isCustomer, case .text(let text) = value {
            customer = text
        } else if column.isOfLine {
            lineValues[column.field] = value
        } else {
            values[column.field] = value
        }
    }
}

/// The part of an import that happens inside the transaction: finds what is here, makes or changes rows.
private struct ImportWriting {
    /// A row that the replica refuses.
    struct Refusal: Error {
        let line: Int
        let failure: StoreFailure
    }

    private let target: ImportTarget
    private let node: NodeService
    private let transaction: LocalTransaction
    private let words: Words
    private let branch: FieldValue
    private var present: [FieldValue: [RowID]] = [:]
    private var deleted: [FieldValue: [RowID]] = [:]
    private var lines: [FieldValue: [RowID]] = [:]
    private var customers: [FieldValue: [RowID]] = [:]
    private(set) var outcome: ImportChunk.Outcome

    init(
        _ target: ImportTarget,
        _ node: NodeService,
        _ transaction: LocalTransaction,
        _ outcome: ImportChunk.Outcome,
        _ language: Language
    ) {
        self.target = target
        self.node = node
        self.transaction = transaction
        self.outcome = outcome
        words = Words(language)
        branch = RowEntry.branch(transaction)
    }

    mutating func perform(_ drafts: [ImportDraft]) throws {
        let reader = transaction.reader
        let keys = drafts.map(\.key)
        present = try reader.identifiers(target.table, where: ImportPlan.keyField, in: keys)
        deleted = try reader.identifiers(target.table, where: ImportPlan.keyField, in: keys, deleted: true)
        if target != .customers {
            let named = Set(drafts.compactMap(\.customer)).map(FieldValue.text)
            customers = try reader.identifiers(.customer, where: ImportPlan.keyField, in: named)
        }
        if target == .orders {
            let orders = present.values.compactMap(\.first).map { FieldValue.integer($0.rawValue) }
            lines = try reader.identifiers(.orderLine, where: "salesOrder", in: orders)
        }
        for draft in drafts {
            do {
                try perform(draft)
            } catch let failure as StoreFailure {
                switch failure {
                case .database, .diskFull, .notJoined, .headOfficeOnly, .changeSet, .damagedRow, .damagedLog: throw failure
                default: throw Refusal(line: draft.line, failure: failure)
                }
            }
        }
    }

    private mutating func perform(_ draft: ImportDraft) throws {
        var draft = draft
        if target != .customers, let named = draft.customer {
            guard let customer = try customer(named) else {
                return refuse(draft, column: "customer", words.noSuchCustomer)
            }
            draft.values["customer"] = .integer(customer.rawValue)
        }
        for column in target.table.columns.dropFirst() {
            guard case .reference(let name) = column.type, case .integer(let number) = draft.values[column.name],
                column.name != "customer"
            else { continue }
            guard let id = RowID(rawValue: number), transaction.schema.table(named: name) != nil,
                try transaction.contains(name, id: id)
            else { return refuse(draft, column: column.name, words.noSuchRow(name)) }
        }
        if let id = present[draft.key]?.first { return try change(id, draft) }
        if deleted[draft.key] != nil {
            outcome.skipped += 1
            return
        }
        if let missing = missingField(of: draft) { return refuse(draft, column: missing, words.fieldIsMissing) }
        try make(draft)
    }

    private func customer(_ named: String) throws -> RowID? {
        if let id = customers[.text(named)]?.first { return id }
        guard let id = FieldText.identifier(named) else { return nil }
        return try transaction.contains(TableDescription.customer.name, id: id) ? id : nil
    }

    /// A field that a new row must have, and that neither the file nor a rule gives.
    private func missingField(of draft: ImportDraft) -> String? {
        if target == .customers {
            let telling = ["name", "givenName", "familyName", "mobile", "phone", "email", "nationalCode", "legalId"]
            return telling.contains { draft.values[$0] != nil } ? nil : "name"
        }
        return target.table.columns.first { column in
            column.isRequired && draft.values[column.name] == nil && !(target == .orders && column.name == "kind")
        }?.name
    }

    private mutating func refuse(_ draft: ImportDraft, column: String, _ reason: String) {
        outcome.invalid.append(ImportChunk.Problem(line: draft.line, column: column, reason: reason))
    }

    private mutating func make(_ draft: ImportDraft) throws {
        var entry = RowEntry(values: draft.values, of: target.table)
        entry.setDefaults(from: .file, branch: branch, in: node)
        let id = try transaction.insert(target.table.name, entry.values)
        if target == .orders {
            var line = draft.lineValues
            line["salesOrder"] = .integer(id.rawValue)
            line["position"] = .integer(1)
            if let total = draft.values["total"] { line["total"] = total }
            let lineID = try transaction.insert(TableDescription.orderLine.name, line)
            lines[.integer(id.rawValue)] = [lineID]
        }
        present[draft.key] = [id]
        outcome.created += 1
    }

    private mutating func change(_ id: RowID, _ draft: ImportDraft) throws {
        var isChanged = try transaction.update(target.table.name, id: id, draft.values)
        if target == .orders, let line = lines[.integer(id.rawValue)]?.first {
            var values = draft.lineValues
            // An order with several lines got them here: its total is not that of its first line.
            if let total = draft.values["total"], lines[.integer(id.rawValue)]?.count == 1 { values["total"] = total }
            if try transaction.update(TableDescription.orderLine.name, id: line, values) { isChanged = true }
        }
        if isChanged { outcome.updated += 1 } else { outcome.skipped += 1 }
    }
}
