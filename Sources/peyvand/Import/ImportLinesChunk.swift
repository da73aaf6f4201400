import CRM
import Causality
import Foundation
import ReplicaStore

/// Imports some rows of any tables in one transaction.
///
/// A row of this organisation is the row that it was written from. A row of another one becomes a row of this node, and
/// stays it when it comes again; what it names is translated likewise. Decisions about records come along, so that the same
/// records are one customer here.
struct ImportLinesChunk: NodeRequest {
    static let name = "import.lines"

    /// One row.
    struct Line: Codable, Sendable {
        let number: Int
        let table: String
        let id: RowID
        let set: [String: FieldInput]

        /// Reads a `put` line. Keys that it does not know are left out.
        init(number: Int, bytes: [UInt8]) throws {
            struct Written: Decodable {
                let op: String?
                let table: String
                let id: String
                let set: [String: FieldInput]
            }
            let written: Written
            do {
                written = try JSONDecoder().decode(Written.self, from: Data(bytes))
            } catch {
                throw CommandFailure(
                    .failed,
                    "It is not a row: an object with the keys table, id and set, as `export --format jsonl` writes it."
                )
            }
            guard written.op ?? "put" == "put", let id = FieldText.identifier(written.id) else {
                throw CommandFailure(.failed, "Its op must be put, and its id like 17-4711.")
            }
            self.number = number
            self.id = id
            table = written.table
            set = written.set
        }
    }

    /// The reason of a row that names one which is not here. It may come later in the file.
    static let waits = "waits"

    let lines: [Line]
    /// Whose rows they are, in hexadecimal digits.
    let organisation: String
    /// When they were written to the file, in milliseconds since 1970-01-01 UTC.
    let exportedAt: UInt64?
    /// Whether nothing comes behind them: references to rows that are not here are left out.
    let isLast: Bool
    let isDryRun: Bool
    let language: Language
    let source: ImportedFile
    var tellsResults = false
    var batch: String?

    private struct DryRun: Error {
        let outcome: ImportChunk.Outcome
    }

    private struct Refusal: Error {
        let problem: ImportChunk.Problem
    }

    /// How many rows may be found out to be impossible in one transaction.
    private static let refusalsMax = 50

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> ImportChunk.Outcome {
        var refused: [ImportChunk.Problem] = []
        for _ in 0...Self.refusalsMax {
            do {
                let left = Set(refused.map(\.line))
                let written = try node.replica.write { transaction in
                    var writing = LinesWriting(self, node, transaction)
                    for line in lines where !left.contains(line.number) {
                        do {
                            try writing.take(line)
                        } catch let failure where Self.isOfRow(failure) {
                            let reason = CommandFailure(failure, language: language).sentence
                            let column = (failure as? FieldFailure)?.column
                            throw Refusal(problem: .init(line: line.number, column: column, reason: reason))
                        }
                    }
                    let outcome = writing.finished()
                    if isDryRun { throw DryRun(outcome: outcome) }
                    return outcome
                }
                var outcome = written.result
                outcome.invalid += refused
                outcome.position = written.position
                return outcome
            } catch let dryRun as DryRun {
                var outcome = dryRun.outcome
                outcome.invalid += refused
                return outcome
            } catch let refusal as Refusal {
                // Nothing of the transaction stays, so it is done again without the row.
                refused.append(refusal.problem)
            }
        }
        throw CommandFailure(
            .failed,
            "Too many rows near line \(lines.first?.number ?? 0) were refused while they were written. "
                + "Check that the file is one that `export --format jsonl` has written. The last of them: "
                + (refused.last?.reason ?? "")
        )
    }

    private static func isOfRow(_ error: any Error) -> Bool {
        switch error {
        case is FieldFailure: true
        case let failure as StoreFailure:
            switch failure {
            case .unknownTable, .unknownColumn, .wrongType, .fieldTooLong, .missingColumn, .unknownRow, .deletedRow,
                .erasedRow:
                true
            default: false
            }
        default: false
        }
    }
}

/// The part of an import of lines that happens inside the transaction.
private struct LinesWriting {
    private let chunk: ImportLinesChunk
    private let node: NodeService
    private let transaction: LocalTransaction
    /// Whether the rows are of this organisation.
    private let isOwn: Bool
    private var batch: RowID?
    private var outcome = ImportChunk.Outcome()

    init(_ chunk: ImportLinesChunk, _ node: NodeService, _ transaction: LocalTransaction) {
        self.chunk = chunk
        self.node = node
        self.transaction = transaction
        isOwn =
            chunk.organisation
            == ExportHeader(organisation: node.replica.node.organisation, milliseconds: 0).organisation
        batch = chunk.batch.flatMap(FieldText.identifier)
    }

    mutating func finished() -> ImportChunk.Outcome {
        if let batch {
            transaction.markAsImport(batch)
            // What a dry run makes is not there afterwards.
            if !chunk.isDryRun { outcome.batch = batch.description }
        }
        return outcome
    }

    mutating func take(_ line: ImportLinesChunk.Line) throws {
        let table = try transaction.schema.requiredTable(named: line.table)
        switch table.writers {
        case .headOfficeMakes: return skip(line, nil)
        case .headOfficeOnly: return try takeNamed(line, table)
        case .everyNode: break
        }
        // Which files were taken elsewhere says nothing here.
        guard table != .importBatch else { return skip(line, nil) }
        let present = try row(line.id, in: table)
        if present == nil, isOwn, try isGone(line.id, table) { return skip(line, line.id) }
        guard let values = try values(of: line, table) else { return }
        if let id = try present ?? rowOfKey(values, table, line) {
            let update = try transaction.updateFromFile(table.name, id: id, values, exportedAt: chunk.exportedAt)
            outcome.kept += update.kept.count
            preview(update, of: id, values, table, line)
            guard update.isChanged else { return skip(line, id) }
            _ = try currentBatch()
            outcome.updated += 1
            return tell(.updated, id, line)
        }
        var made = values
        if table.namesItsImport { made["importBatch"] = .integer(try currentBatch().rawValue) }
        let id = try transaction.insertFromFile(table.name, made)
        _ = try currentBatch()
        try transaction.noteImported(table, source: chunk.organisation, id: line.id, as: id)
        outcome.created += 1
        tell(.created, id, line)
    }

    /// Takes an office, a member of staff or a policy: what bears the name here is meant.
    private mutating func takeNamed(_ line: ImportLinesChunk.Line, _ table: TableDescription) throws {
        if let id = try row(line.id, in: table) { return skip(line, id) }
        if isOwn, try isGone(line.id, table) { return skip(line, line.id) }
        let nameColumn = table == .staff ? "login" : "name"
        guard case .text(let name)? = line.set[nameColumn] else { return skip(line, nil) }
        let same = try transaction.reader.rows(table, where: nameColumn, is: .text(name)).first { row in
            // There may be many policies of one name, each with its value.
            table != .policy || line.set["value"] == .text(RowValues(row).text("value") ?? "")
        }
        if let id = same?.id {
            try transaction.noteImported(table, source: chunk.organisation, id: line.id, as: id)
            return skip(line, id)
        }
        // Only head office makes them. A branch leaves out what names them.
        guard node.replica.node.role == .headOffice, var values = try values(of: line, table) else {
            return skip(line, nil)
        }
        // The number of a node of another organisation.
        values["origin"] = nil
        let id = try transaction.insertFromFile(table.name, values)
        _ = try currentBatch()
        try transaction.noteImported(table, source: chunk.organisation, id: line.id, as: id)
        outcome.created += 1
        tell(.created, id, line)
    }

    /// The values of a line, with the rows that they name here; nil when it has to wait for one.
    private mutating func values(
        of line: ImportLinesChunk.Line,
        _ table: TableDescription
    ) throws -> [String: FieldValue]? {
        var values: [String: FieldValue] = [:]
        for (name, input) in line.set {
            guard let column = table.column(named: name) else { continue }
            if name == "importBatch" || column.number == 0 { continue }
            let value = try FieldText.parse(input, for: column, of: table)
            switch (column.type, value) {
            case (.reference(let target), .integer(let number)):
                guard let id = try RowID(rawValue: number).flatMap({ try row($0, inTable: target) }) else {
                    guard isLeftOut(column, target) else {
                        wait(line, column)
                        return nil
                    }
                    continue
                }
                values[name] = .integer(id.rawValue)
            case (.references(let target), .text(let text)):
                let ids = text.split(separator: " ").compactMap { RowID(printed: String($0)) }
                let found = try ids.compactMap { try row($0, inTable: target) }
                if found.count < ids.count, !chunk.isLast {
                    wait(line, column)
                    return nil
                }
                values[name] = .text(found.sorted().map(\.description).joined(separator: " "))
            default:
                values[name] = value
            }
        }
        if table == .identityDecision, case .integer(let low)? = values["low"],
            case .integer(let high)? = values["high"],
            low > high
        {
            (values["low"], values["high"]) = (.integer(high), .integer(low))
        }
        return values
    }

    /// Whether a reference to a row that is not here is left out, rather than the line.
    private func isLeftOut(_ column: ColumnDescription, _ target: String) -> Bool {
        guard let table = transaction.schema.table(named: target) else { return true }
        if case .headOfficeOnly = table.writers { return true }
        // A decision about a record that is not here decides nothing.
        return chunk.isLast && !column.isRequired && !["low", "high"].contains(column.name)
    }

    private mutating func wait(_ line: ImportLinesChunk.Line, _ column: ColumnDescription) {
        // A dry run has not written what came before, which may have been just that row.
        if chunk.isDryRun {
            outcome.created += 1
            return
        }
        let printed = line.set[column.name].flatMap { if case .text(let text) = $0 { text } else { nil } }
        outcome.invalid.append(
            .init(line: line.number, column: column.name, value: printed, reason: ImportLinesChunk.waits)
        )
    }

    private func row(_ id: RowID, inTable name: String) throws -> RowID? {
        guard let table = transaction.schema.table(named: name) else { return nil }
        return try row(id, in: table)
    }

    /// The live row that an identifier of the file means here.
    private func row(_ id: RowID, in table: TableDescription) throws -> RowID? {
        if isOwn, try transaction.contains(table.name, id: id) { return id }
        guard let mapped = try transaction.importedRow(table, source: chunk.organisation, id: id) else { return nil }
        return try transaction.contains(table.name, id: mapped) ? mapped : nil
    }

    /// Whether a row of this organisation was deleted or erased here, and not by taking an import back.
    private func isGone(_ id: RowID, _ table: TableDescription) throws -> Bool {
        if try transaction.reader.isErased(table, id: id) { return true }
        guard try transaction.reader.deletedRow(table, id: id) != nil else { return false }
        return try !transaction.wasTakenBack(table, id: id)
    }

    /// The row that has the external key of the line.
    private func rowOfKey(
        _ values: [String: FieldValue],
        _ table: TableDescription,
        _ line: ImportLinesChunk.Line
    ) throws -> RowID? {
        guard let key = values[ImportPlan.keyField], !key.isNull else { return nil }
        let found = try transaction.reader.identifiers(table, where: ImportPlan.keyField, in: [key])[key]?.first
        if let found { try transaction.noteImported(table, source: chunk.organisation, id: line.id, as: found) }
        return found
    }

    private mutating func currentBatch() throws -> RowID {
        if let batch { return batch }
        let made = try transaction.insert(TableDescription.importBatch.name, chunk.source.values(of: .everything))
        batch = made
        return made
    }

    private mutating func skip(_ line: ImportLinesChunk.Line, _ id: RowID?) {
        outcome.skipped += 1
        if let id { tell(.skipped, id, line) }
    }

    private mutating func tell(_ result: ImportChunk.Result, _ id: RowID, _ line: ImportLinesChunk.Line) {
        guard chunk.tellsResults else { return }
        outcome.results.append(.init(line: line.number, result: result, id: id.description))
    }

    private mutating func preview(
        _ update: FileUpdate,
        of id: RowID,
        _ values: [String: FieldValue],
        _ table: TableDescription,
        _ line: ImportLinesChunk.Line
    ) {
        guard chunk.isDryRun else { return }
        outcome.addPreview(update, of: id, values, in: table, line: line.number)
    }
}

extension RowID: Codable {
    /// Reads `17-4711`.
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let id = RowID(printed: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not an id like 17-4711")
        }
        self = id
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
