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
        /// What the file writes, by field, where something else is stored: a JSON object; nil where all is the same.
        var original: String?
    }

    /// Why a row was not taken, or a value of it looks wrong.
    struct Problem: Error, Codable, Hashable, Sendable {
        let line: Int
        let column: String?
        /// What stands in the file, if the reason is one value.
        var value: String?
        let reason: String
    }

    /// What became of a row.
    enum Result: String, Codable, Sendable {
        case created, updated, skipped
        /// Created, and by rule one customer with a record that was here.
        case linked
    }

    /// What became of the row of a line.
    struct RowResult: Codable, Sendable {
        let line: Int
        let result: Result
        let id: String
    }

    /// A value that changes.
    struct Change: Codable, Hashable, Sendable {
        let line: Int
        let id: String
        let field: String
        let before: PrintedField
        let after: PrintedField
    }

    /// What came of the rows.
    struct Outcome: Codable, Sendable {
        var created = 0
        /// Created ones that are by rule one customer with a record that was here.
        var linked = 0
        var updated = 0
        /// Rows that are here just so already, or were deleted here.
        var skipped = 0
        /// Fields that were edited here after they were imported, and stay.
        var kept = 0
        /// Rows that were not taken.
        var invalid: [Problem] = []
        /// In a dry run: the first of the values that would change.
        var changes: [Change] = []
        /// Of each row that was taken, if that was asked for.
        var results: [RowResult] = []
        /// The import that the rows belong to; nil while nothing has changed.
        var batch: String?
        /// Where the change set stands; nil when nothing has changed.
        var position: UInt64?

        /// Values that change are listed up to this many in each transaction.
        private static let changesMax = 1000

        /// Tells which values of a row change.
        mutating func addPreview(
            _ update: FileUpdate,
            of id: RowID,
            _ values: [String: FieldValue],
            in table: TableDescription,
            line: Int
        ) {
            for change in update.changes where changes.count < Self.changesMax {
                guard let column = table.column(named: change.column) else { continue }
                changes.append(
                    Change(
                        line: line,
                        id: id.description,
                        field: change.column,
                        before: FieldText.print(change.before, for: column),
                        after: FieldText.print(values[change.column] ?? .null, for: column)
                    )
                )
            }
        }
    }

    let target: ImportTarget
    let columns: [ImportColumn]
    let rows: [Row]
    let isDryRun: Bool
    let language: Language
    let source: ImportedFile
    /// Whether to tell of each row what became of it.
    var tellsResults = false
    /// The import that rows before these belong to.
    var batch: String?

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
                    var writing = ImportWriting(self, node, transaction, refused)
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
                + "Check that the file fits `--as \(target.rawValue)`. The last of them: \(refused.invalid.last?.reason ?? "")"
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
    /// What the file writes where something else is stored.
    let original: String?
    /// Further ways to reach a customer.
    var points: [(kind: String, value: String)] = []
    /// The row that it was written from.
    var id: RowID?
    /// When it was, in milliseconds since 1970-01-01 UTC.
    var exportedAt: UInt64?

    init(_ row: ImportChunk.Row, _ columns: [ImportColumn]) {
        line = row.line
        original = row.original
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
            } else if column.field == ImportPlan.idField, case .text(let text) = input {
                id = FieldText.identifier(text)
            } else if column.field == ContactPointCell.field, case .text(let text) = input {
                points = ContactPointCell.points(in: text)
            } else if column.field == ImportPlan.exportedAtField, case .integer(let milliseconds) = input {
                exportedAt = UInt64(clamping: milliseconds)
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
    private let source: ImportedFile
    private let isDryRun: Bool
    private let tellsResults: Bool
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
    /// Customers that were made, in the order of their lines.
    private var made: [(line: Int, id: RowID)] = []
    /// What they hold in the columns that rules link by.
    private var valuesOfRules: [String: [FieldValue]] = [:]
    private var batch: RowID?
    private(set) var outcome: ImportChunk.Outcome

    init(
        _ chunk: ImportChunk,
        _ node: NodeService,
        _ transaction: LocalTransaction,
        _ outcome: ImportChunk.Outcome
    ) {
        target = chunk.target
        source = chunk.source
        isDryRun = chunk.isDryRun
        tellsResults = chunk.tellsResults
        self.node = node
        self.transaction = transaction
        self.outcome = outcome
        batch = chunk.batch.flatMap(FieldText.identifier)
        words = Words(chunk.language)
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
            let named = drafts.compactMap(\.id).map { FieldValue.integer($0.rawValue) }
            let orders = present.values.compactMap(\.first).map { FieldValue.integer($0.rawValue) } + named
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
        try tellLinks()
        if let batch {
            transaction.markAsImport(batch)
            // What a dry run makes is not there afterwards.
            if !isDryRun { outcome.batch = batch.description }
        }
    }

    /// The row of the import, made when the first of its rows is.
    private mutating func currentBatch() throws -> RowID {
        if let batch { return batch }
        let made = try transaction.insert(TableDescription.importBatch.name, source.values(of: target))
        batch = made
        return made
    }

    /// Finds out which of the new customers are, by a rule, one with another record.
    private mutating func tellLinks() throws {
        guard target == .customers, !made.isEmpty else { return }
        let reader = transaction.reader
        let ids = Dictionary(made.map { ($0.id, $0.line) }) { first, _ in first }
        var candidates: Set<RowID> = []
        for column in CustomerCluster.columnsOfRules {
            let values = Set(valuesOfRules[column, default: []])
            for holders in try reader.identifiers(.customer, where: column, in: Array(values)).values
            where holders.count > 1 {
                candidates.formUnion(holders.filter { ids[$0] != nil })
            }
        }
        let linked = try candidates.filter { try CustomerCluster.isLinkedByRule($0, from: reader) }
        outcome.linked += linked.count
        guard tellsResults, !linked.isEmpty else { return }
        let lines = Set(linked.compactMap { ids[$0] })
        outcome.results = outcome.results.map { told in
            guard told.result == .created, lines.contains(told.line) else { return told }
            return ImportChunk.RowResult(line: told.line, result: .linked, id: told.id)
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
        if let id = draft.id, try transaction.contains(target.table.name, id: id) {
            // A key that was made out of the identifier is not the row's own.
            if draft.key == .text(ImportPlan.key(ofRow: id)) { entry.remove(ImportPlan.keyField) }
            return try change(id, entry, draft)
        }
        if let id = present[draft.key]?.first { return try change(id, entry, draft) }
        if let id = try lyingInBin(draft) { return skip(id, draft) }
        if let missing = missingField(of: entry) { return refuse(draft, column: missing, words.fieldIsMissing) }
        try make(&entry, draft)
    }

    /// The row of the draft, if somebody has deleted or erased it.
    private func lyingInBin(_ draft: ImportDraft) throws -> RowID? {
        for id in [draft.id].compactMap({ $0 }) + deleted[draft.key, default: []] {
            if try transaction.reader.isErased(target.table, id: id) { return id }
            guard try transaction.reader.deletedRow(target.table, id: id) != nil else { continue }
            if try !transaction.wasTakenBack(target.table, id: id) { return id }
        }
        return nil
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
        entry.set("importBatch", .integer(try currentBatch().rawValue))
        let id = try transaction.insertFromFile(target.table.name, entry.values)
        if target == .orders {
            var line = draft.lineValues
            line["salesOrder"] = .integer(id.rawValue)
            line["position"] = .integer(1)
            if let total = draft.values["total"] { line["total"] = total }
            let lineID = try transaction.insertFromFile(TableDescription.orderLine.name, line)
            lines[.integer(id.rawValue)] = [lineID]
        } else if target == .customers {
            made.append((draft.line, id))
            for column in CustomerCluster.columnsOfRules {
                if let value = entry.values[column], !value.isNull { valuesOfRules[column, default: []].append(value) }
            }
        }
        present[draft.key] = [id]
        try addPoints(of: draft, to: id)
        keepOriginal(of: draft, as: id)
        outcome.created += 1
        tell(.created, id, draft)
    }

    private mutating func change(_ id: RowID, _ entry: RowEntry, _ draft: ImportDraft) throws {
        let values = draft.id == nil ? entry.values : try withoutLostThousandths(entry.values, of: id)
        let own = try transaction.updateFromFile(
            target.table.name,
            id: id,
            values,
            exportedAt: draft.exportedAt
        )
        var isChanged = own.isChanged
        outcome.kept += own.kept.count
        preview(own, of: id, entry.values, in: target.table, draft)
        if target == .orders, let line = lines[.integer(id.rawValue)]?.first {
            var values = draft.lineValues
            // An order with several lines got them here: its total is not that of its first line.
            if let total = draft.values["total"], lines[.integer(id.rawValue)]?.count == 1 {
                values["total"] = total
            }
            let written = try transaction.updateFromFile(
                TableDescription.orderLine.name,
                id: line,
                values,
                exportedAt: draft.exportedAt
            )
            if written.isChanged { isChanged = true }
            outcome.kept += written.kept.count
            preview(written, of: id, values, in: .orderLine, draft)
        }
        if try addPoints(of: draft, to: id) { isChanged = true }
        guard isChanged else { return skip(id, draft) }
        _ = try currentBatch()
        keepOriginal(of: draft, as: id)
        outcome.updated += 1
        tell(.updated, id, draft)
    }

    private func keepOriginal(of draft: ImportDraft, as id: RowID) {
        guard let original = draft.original else { return }
        transaction.keepOriginal(target.table, id: id, line: draft.line, cells: original)
    }

    /// The values of a row that was written to a file, less the times of which the file only knows the second.
    private func withoutLostThousandths(
        _ values: [String: FieldValue],
        of id: RowID
    ) throws -> [String: FieldValue] {
        let table = target.table
        let times = values.filter { name, value in
            if case .integer(let time) = value, table.column(named: name)?.type == .instant { return time % 1000 == 0 }
            return false
        }
        guard !times.isEmpty, let present = try transaction.reader.row(table, id: id) else { return values }
        return values.filter { name, value in
            guard times[name] != nil, case .integer(let time) = value, case .integer(let stored) = present[name] else {
                return true
            }
            return stored / 1000 != time / 1000
        }
    }

    /// Adds the ways to reach a customer that are not known yet, and that nobody has deleted.
    ///
    /// - Returns: Whether there were any.
    @discardableResult
    private func addPoints(of draft: ImportDraft, to id: RowID) throws -> Bool {
        guard !draft.points.isEmpty, let customer = try transaction.reader.row(.customer, id: id) else { return false }
        let table = TableDescription.contactPoint
        let reference = FieldValue.integer(id.rawValue)
        var known = Set(["mobile", "phone", "email", "web"].map { customer[$0] })
        for row in try transaction.reader.rows(table, where: "customer", is: reference) { known.insert(row["value"]) }
        let fresh = draft.points.filter { !known.contains(.text($0.value)) }
        if fresh.isEmpty { return false }
        let gone = try transaction.reader.identifiers(table, where: "customer", in: [reference], deleted: true)
        for row in gone[reference, default: []] where try !transaction.wasTakenBack(table, id: row) {
            if let value = try transaction.reader.deletedRow(table, id: row)?["value"] { known.insert(value) }
        }
        var isChanged = false
        for point in fresh where known.insert(.text(point.value)).inserted {
            try transaction.insertFromFile(
                table.name,
                ["customer": reference, "kind": .text(point.kind), "value": .text(point.value)]
            )
            isChanged = true
        }
        return isChanged
    }

    private mutating func skip(_ id: RowID, _ draft: ImportDraft) {
        outcome.skipped += 1
        tell(.skipped, id, draft)
    }

    private mutating func tell(_ result: ImportChunk.Result, _ id: RowID, _ draft: ImportDraft) {
        guard tellsResults else { return }
        outcome.results.append(ImportChunk.RowResult(line: draft.line, result: result, id: id.description))
    }

    /// In a dry run: tells which values would change.
    private mutating func preview(
        _ update: FileUpdate,
        of id: RowID,
        _ values: [String: FieldValue],
        in table: TableDescription,
        _ draft: ImportDraft
    ) {
        guard isDryRun else { return }
        outcome.addPreview(update, of: id, values, in: table, line: draft.line)
    }
}
