import CRM
import Causality
import Foundation
import ReplicaStore

/// Notes at the end of an import what came of it.
struct FinishImport: NodeRequest {
    static let name = "import.finish"

    let batch: String
    let counts: [String: Int]

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> NodeReply.Done {
        guard let id = FieldText.identifier(batch) else { throw Self.unknown(batch) }
        _ = try node.replica.write { transaction in
            try transaction.update(
                TableDescription.importBatch.name,
                id: id,
                ["counts": .text(ImportedFile.json(counts))]
            )
            try transaction.audit(.importRows, "\(batch): \(counts["created", default: 0]) rows made")
        }
        return NodeReply.Done()
    }

    static func unknown(_ batch: String) -> CommandFailure {
        CommandFailure(.usage, "\"\(batch)\" is not the id of an import. `import list` prints them.")
    }
}

/// A reply that says nothing but that it is done.
enum NodeReply {
    struct Done: Codable, Sendable {}
}

/// One import.
struct PrintedImport: Codable, Sendable {
    let id: String
    let fileName: String
    let kind: String
    let state: String
    /// RFC 3339.
    @OrNull var at: String?
    /// The office that has imported.
    let node: UInt32
    let sha256: String
    /// Rows by what became of them.
    let counts: [String: Int]
}

/// Lists the imports, the newest first.
struct ListImports: NodeRequest {
    static let name = "import.list"

    let limit: Int

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [PrintedImport] {
        try node.replica.read { reader in
            var rows: [StoredRow] = []
            try reader.forEachRow(.importBatch) { rows.append($0) }
            func at(_ row: StoredRow) -> Int64 {
                if case .integer(let milliseconds) = row["createdAt"] { milliseconds } else { 0 }
            }
            rows.sort { (at($0), $0.id) > (at($1), $1.id) }
            return rows.prefix(limit).map { row in
                let fields = FieldText.print(row.values, of: row.table)
                return PrintedImport(
                    id: row.id.description,
                    fileName: fields["fileName"]?.text ?? "",
                    kind: fields["kind"]?.text ?? "",
                    state: fields["state"]?.text ?? "",
                    at: fields["createdAt"]?.text,
                    node: row.id.origin.rawValue,
                    sha256: fields["sha256"]?.text ?? "",
                    counts: Self.counts(fields["counts"]?.text ?? "")
                )
            }
        }
    }

    private static func counts(_ json: String) -> [String: Int] {
        (try? JSONDecoder().decode([String: Int].self, from: Data(json.utf8))) ?? [:]
    }
}

/// Shows an import: what the file wrote where something else is stored.
struct ShowImport: NodeRequest {
    static let name = "import.show"

    struct Original: Codable, Sendable {
        let id: String
        let line: Int
        /// By field.
        let cells: [String: String]
    }

    struct Reply: Codable, Sendable {
        let id: String
        let fileName: String
        let sha256: String
        let options: [String: String]
        let originals: [Original]
    }

    let batch: String
    let limit: Int

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Reply {
        guard let id = FieldText.identifier(batch) else { throw FinishImport.unknown(batch) }
        return try node.replica.read { reader in
            guard let row = try reader.values(.importBatch, id: id) else {
                throw CommandFailure(.refused, "There is no import \(id) here. `import list` prints them.")
            }
            return Reply(
                id: id.description,
                fileName: row.text("fileName") ?? "",
                sha256: row.text("sha256") ?? "",
                options: Self.texts(row.text("options") ?? ""),
                originals: try reader.importedOriginals(of: id, limit: limit).map {
                    Original(id: $0.id.description, line: $0.line, cells: Self.texts($0.cells))
                }
            )
        }
    }

    static func texts(_ json: String) -> [String: String] {
        (try? JSONDecoder().decode([String: String].self, from: Data(json.utf8))) ?? [:]
    }
}

/// Takes an import back.
struct UndoImport: NodeRequest {
    static let name = "import.undo"

    /// What stays of it.
    struct Kept: Codable, Sendable {
        let table: String
        let id: String
        /// Fields that were edited since; nothing when the whole row is needed.
        let fields: [String]
        /// The table whose rows refer to it.
        @OrNull var neededBy: String?
    }

    struct Reply: Codable, Sendable {
        let id: String
        let dryRun: Bool
        let deleted: Int
        let reverted: Int
        /// The first thousand.
        let kept: [Kept]
        let keptCount: Int
    }

    let batch: String
    var isDryRun = false

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Reply {
        guard let id = FieldText.identifier(batch) else { throw FinishImport.unknown(batch) }
        let undone = try node.replica.undoImport(id, isDryRun: isDryRun, now: Int64(clamping: node.wallClock())) {
            try progress(ProgressReport(count: $0))
        }
        guard let undone else {
            let isElsewhere = try node.replica.read { try $0.row(.importBatch, id: id) != nil }
            throw CommandFailure(
                .refused,
                isElsewhere
                    ? "The import \(id) was made at node \(id.origin), which alone knows what it replaced. Take it back there."
                    : "There is no import \(id) here. `import list` prints them."
            )
        }
        return Reply(
            id: id.description,
            dryRun: isDryRun,
            deleted: undone.deleted,
            reverted: undone.reverted,
            kept: undone.kept.map { kept in
                switch kept.reason {
                case .edited(let fields):
                    Kept(table: kept.table, id: kept.id.description, fields: fields, neededBy: nil)
                case .needed(let by): Kept(table: kept.table, id: kept.id.description, fields: [], neededBy: by)
                }
            },
            keptCount: undone.keptCount
        )
    }
}
