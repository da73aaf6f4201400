import CRM
import Causality
import ReplicaStore
import SyncProtocol

/// Imports some rows of a file in one transaction.
struct ImportChunk: NodeRequest {
    static let name = "import"

    /// One row: its line in the file, and a value for each of the fields, null where it has none.
    struct Row: Codable, Sendable {
        let line: Int
        let values: [FieldInput]
    }

    /// Why a row was not taken, or a value of it looks wrong.
    struct Problem: Error, Codable, Hashable, Sendable {
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
        /// Fields that were edited here after they were imported, and stay.
        var kept = 0
        /// Rows that were not taken.
        var invalid: [Problem] = []
        /// Where the change set stands; nil when nothing has changed.
        var position: UInt64?
    }

    let target: ImportTarget
    let columns: [ImportColumn]
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
        var refused = Outcome()
        var drafts = rows.map { ImportDraft($0, columns) }
        for _ in 0...Self.lateRefusalsMax {
            do {
                let written = try node.replica.write { transaction in
                    var writing = ImportWriting(target, node, transaction, refused, language)
                    transaction.markAsImport()
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
                refused.invalid.append(Problem(line: refusal.line, column: nil, reason: reason))
            }
        }
        throw CommandFailure(
            .failed,
            "Too many rows near line \(rows.first?.line ?? 0) were refused while they were written. "
                + "Check that the file fits `--as \(target.rawValue)`."
        )
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

    init(_ row: ImportChunk.Row, _ columns: [ImportColumn]) {
        line = row.line
        // Room for the defaults of a new row, so that filling them in copies nothing.
        values.reserveCapacity(columns.count + 8)
        for (column, input) in zip(columns, row.values) {
            let value: FieldValue
            switch input {
            case .null, .boolean: continue
            case .integer(let number): value = .integer(number)
            case .text(let text): value = .text(text)
            }
            if column.isCustomer, case .text(let text) = input {
                customer = text
            } else if column.isOfLine {
                lineValues[column.field] = value
            } else {
                values[column.field] = value
            }
        }
    }

    /// What makes the row the same when it comes again.
    var key: FieldValue { values[ImportPlan.keyField] ?? .null }
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
    /// The columns that name rows other than the customer, with their tables; nil for a table of later versions.
    private let references: [(column: String, table: String?)]
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
        references = target.table.columns.dropFirst(3).compactMap { column in
            guard case .reference(let name) = column.type, column.name != "customer" else { return nil }
            return (column.name, transaction.schema.table(named: name)?.name)
        }
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
                case .database, .diskFull, .notJoined, .firstLoad, .headOfficeOnly, .headOfficeMakes, .changeSet,
                    .damagedRow,
                    .damagedLog:
                    throw failure
                default: throw Refusal(line: draft.line, failure: failure)
                }
            }
        }
    }

    private mutating func perform(_ draft: ImportDraft) throws {
        var entry = RowEntry(values: draft.values, of: target.table)
        if target != .customers, let named = draft.customer {
            guard let customer = try customer(named) else {
                return refuse(draft, column: "customer", words.noSuchCustomer)
            }
            entry.set("customer", .integer(customer.rawValue))
        }
        for (column, target) in references {
            guard case .integer(let number) = draft.values[column] else { continue }
            guard let id = RowID(rawValue: number), let target, try transaction.contains(target, id: id) else {
                return refuse(draft, column: column, words.noSuchRow(target ?? column))
            }
        }
        if let id = present[draft.key]?.first { return try change(id, entry, draft) }
        if deleted[draft.key] != nil {
            outcome.skipped += 1
            return
        }
        if let missing = missingField(of: entry) { return refuse(draft, column: missing, words.fieldIsMissing) }
        try make(&entry, draft)
    }

    private func customer(_ named: String) throws -> RowID? {
        if let id = customers[.text(named)]?.first { return id }
        guard let id = FieldText.identifier(named) else { return nil }
        return try transaction.contains(TableDescription.customer.name, id: id) ? id : nil
    }

    /// A field that a new row must have, and that neither the file nor a rule gives.
    private func missingField(of entry: RowEntry) -> String? {
        if target == .customers {
            let telling = [
                "name", "givenName", "familyName", "mobile", "phone", "email", "nationalCode", "legalId",
            ]
            return telling.contains { entry.has($0) } ? nil : "name"
        }
        return target.table.requiredColumns.numbers.lazy.map { target.table.columns[$0].name }.first { name in
            !entry.has(name) && !(target == .orders && name == "kind")
        }
    }

    private mutating func refuse(_ draft: ImportDraft, column: String, _ reason: String) {
        outcome.invalid.append(ImportChunk.Problem(line: draft.line, column: column, reason: reason))
    }

    private mutating func make(_ entry: inout RowEntry, _ draft: ImportDraft) throws {
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

    private mutating func change(_ id: RowID, _ entry: RowEntry, _ draft: ImportDraft) throws {
        var (isChanged, kept) = try transaction.updateFromFile(target.table.name, id: id, entry.values)
        if target == .orders, let line = lines[.integer(id.rawValue)]?.first {
            var values = draft.lineValues
            // An order with several lines got them here: its total is not that of its first line.
            if let total = draft.values["total"], lines[.integer(id.rawValue)]?.count == 1 {
                values["total"] = total
            }
            let written = try transaction.updateFromFile(TableDescription.orderLine.name, id: line, values)
            if written.isChanged { isChanged = true }
            kept += written.kept
        }
        outcome.kept += kept
        if isChanged { outcome.updated += 1 } else { outcome.skipped += 1 }
    }
}
