import CRM
import Causality
import Foundation
import ReplicaStore

/// One line of `write --jsonl`.
struct WriteLine: Codable, Hashable, Sendable {
    /// What a line asks for.
    enum Operation: String, Codable, Sendable {
        case begin, commit, put, delete
    }

    let op: Operation
    var table: String?
    var id: String?
    var set: [String: FieldInput]?

    private enum CodingKeys: String, CodingKey, CaseIterable { case op, table, id, set }

    init(op: Operation, table: String? = nil, id: String? = nil, set: [String: FieldInput]? = nil) {
        self.op = op
        self.table = table
        self.id = id
        self.set = set
    }

    /// Reads a line.
    ///
    /// - Throws: ``CommandFailure`` that names the key, never its value.
    init(line: some Sequence<UInt8>) throws {
        do {
            self = try JSONDecoder().decode(WriteLine.self, from: Data(line))
        } catch let failure as CommandFailure {
            throw failure
        } catch DecodingError.keyNotFound(let key, _) {
            throw CommandFailure(.failed, "The key \"\(key.stringValue)\" is missing.")
        } catch DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context) {
            let path = context.codingPath.map(\.stringValue).joined(separator: ".")
            throw CommandFailure(
                .failed,
                path.isEmpty ? "It is not a JSON object." : "The value of \"\(path)\" is of the wrong kind."
            )
        } catch DecodingError.dataCorrupted(let context) where !context.codingPath.isEmpty {
            let path = context.codingPath.map(\.stringValue).joined(separator: ".")
            throw CommandFailure(.failed, "The value of \"\(path)\" cannot be used.")
        } catch {
            throw CommandFailure(.failed, "It is not a JSON object.")
        }
    }

    init(from decoder: any Decoder) throws {
        let known = Set(CodingKeys.allCases.map(\.rawValue))
        for key in try decoder.container(keyedBy: AnyKey.self).allKeys where !known.contains(key.stringValue) {
            throw CommandFailure(
                .failed,
                "The key \"\(key.stringValue)\" is unknown. A line has: op, table, id, set."
            )
        }
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let operation = try container.decode(String.self, forKey: .op)
        guard let op = Operation(rawValue: operation) else {
            throw CommandFailure(.failed, "The op is unknown. It can be begin, put, delete or commit.")
        }
        self.op = op
        table = try container.decodeIfPresent(String.self, forKey: .table)
        id = try container.decodeIfPresent(String.self, forKey: .id)
        set = try container.decodeIfPresent([String: FieldInput].self, forKey: .set)
    }

    private struct AnyKey: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }
}

extension FieldInput: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let text = try? container.decode(String.self) {
            self = .text(text)
        } else if let value = try? container.decode(Bool.self) {
            self = .boolean(value)
        } else if let number = try? container.decode(Int64.self) {
            self = .integer(number)
        } else {
            throw DecodingError.typeMismatch(
                FieldInput.self,
                .init(
                    codingPath: decoder.codingPath,
                    debugDescription: "not a text, whole number, true, false or null"
                )
            )
        }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .text(let text): try container.encode(text)
        case .integer(let number): try container.encode(number)
        case .boolean(let value): try container.encode(value)
        }
    }
}

/// Performs some transactions of `write --jsonl`, one after the other, and stops at the first that fails.
struct WriteBatch: NodeRequest {
    static let name = "write"

    /// A line that writes, and where it stands in the input.
    struct Step: Codable, Sendable {
        let number: Int
        let line: WriteLine
    }

    /// What was written by one line.
    struct Row: Codable, Sendable {
        let table: String
        let id: String
        let position: UInt64?
    }

    /// What came of the transactions.
    struct Outcome: Codable, Sendable {
        /// One for each line of the transactions that were committed.
        var rows: [Row] = []
        /// How many transactions were committed.
        var transactions = 0
        /// Why the next one was not, and in which line.
        var failure: Failure?
    }

    /// The line that could not be performed.
    struct Failure: Codable, Sendable {
        let number: Int
        let reason: CommandFailure
    }

    let transactions: [[Step]]
    /// The language of the reason, if one fails.
    var language = Language.en

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Outcome {
        let origin = node.replica.node.origin
        var outcome = Outcome()
        for steps in transactions {
            var number = steps.first?.number ?? 0
            do {
                let written = try node.replica.write { transaction in
                    try steps.map { step in
                        number = step.number
                        return try Self.perform(step.line, transaction, origin)
                    }
                }
                outcome.rows += written.result.map {
                    Row(table: $0.table, id: $0.id.description, position: written.position)
                }
                outcome.transactions += 1
            } catch {
                outcome.failure = Failure(number: number, reason: CommandFailure(error, language: language))
                return outcome
            }
        }
        return outcome
    }

    private static func perform(
        _ line: WriteLine,
        _ transaction: LocalTransaction,
        _ origin: Origin
    ) throws -> (table: String, id: RowID) {
        guard let name = line.table else { throw CommandFailure(.failed, "The key \"table\" is missing.") }
        let table = try transaction.schema.requiredTable(named: name)
        var id: RowID?
        if let printed = line.id {
            guard let read = FieldText.identifier(printed) else {
                throw FieldFailure(table: name, column: "id", problem: .notAnIdentifier(of: name))
            }
            id = read
        }
        switch line.op {
        case .put:
            let values = try values(of: line.set ?? [:], in: table)
            guard let id else { return (name, try transaction.insert(name, values)) }
            // An unknown id of this node's own numbers makes that row; any other must be here.
            if try id.origin == origin && !transaction.contains(name, id: id)
                && transaction.reader.deletedRow(table, id: id) == nil
            {
                return (name, try transaction.insert(name, id: id, values))
            }
            try transaction.update(name, id: id, values)
            return (name, id)
        case .delete:
            guard let id else { throw CommandFailure(.failed, "The key \"id\" is missing.") }
            guard line.set == nil else { throw CommandFailure(.failed, "A delete has no key \"set\".") }
            try transaction.delete(name, id: id)
            return (name, id)
        case .begin, .commit:
            throw CommandFailure(.failed, "A \(line.op.rawValue) stands inside a transaction.")
        }
    }

    private static func values(
        of set: [String: FieldInput],
        in table: TableDescription
    ) throws -> [String: FieldValue] {
        var values: [String: FieldValue] = [:]
        for (name, input) in set {
            let column = try table.writableColumn(named: name)
            // Integrators are not warned: what is invalid is kept as it came.
            values[name] = try FieldEntry.read(input, for: column, of: table).value
        }
        return values
    }
}
