import CRM
import Causality
import ReplicaStore
import SyncProtocol

/// A change set of the log as it is shown.
struct PrintedLogEntry: Codable, Sendable {
    /// The position, as every list item has an id.
    let id: String
    let position: UInt64
    /// The life that wrote it.
    let origin: UInt32
    let seq: UInt64
    /// RFC 3339.
    let time: String?
    let rows: Int
    let bytes: Int?
    let hubPosition: UInt64?

    init(_ entry: LogEntry) {
        id = String(entry.position)
        position = entry.position
        origin = entry.id.origin.rawValue
        seq = entry.id.seq
        time = CivilTime.rfc3339(ofMilliseconds: Int64(clamping: entry.time.milliseconds))
        rows = entry.rows
        bytes = entry.bodyBytes
        hubPosition = entry.hubPosition
    }
}

/// Reads the log: the newest change sets, or those after a position.
struct ListLog: NodeRequest {
    static let name = "log.list"

    var after: UInt64?
    var limit = 20

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [PrintedLogEntry] {
        try node.replica.sealForeignWrites()
        return try node.replica.read { try $0.log(after: after, limit: limit).map(PrintedLogEntry.init) }
    }
}

/// One change set with what it did to each row.
struct PrintedChangeSet: Codable, Sendable {
    /// What was done to one row.
    struct Change: Codable, Sendable {
        let table: String
        let id: String
        /// `birth`, `update`, `delete` or `restore`.
        let op: String
        let set: [String: PrintedField]
    }

    let entry: PrintedLogEntry
    /// Nil when the body was trimmed.
    let changes: [Change]?
}

/// Reads one change set of the log.
struct ShowLog: NodeRequest {
    static let name = "log.show"

    let position: UInt64

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedChangeSet {
        try node.replica.read { reader in
            guard let (entry, content) = try reader.logEntry(at: position) else {
                throw CommandFailure(
                    .refused,
                    "The log of this node has no position \(position). `log list` shows the newest ones."
                )
            }
            let changes = content?.tables.flatMap { changes in
                changes.rows.map {
                    Self.print($0, reader.schema.table(number: changes.number), changes.number)
                }
            }
            return PrintedChangeSet(entry: PrintedLogEntry(entry), changes: changes)
        }
    }

    private static func print(_ change: RowChange, _ table: TableDescription?, _ number: Int)
        -> PrintedChangeSet.Change
    {
        var set: [String: PrintedField] = [:]
        var index = 0
        for column in 0..<64 where change.columns.contains(column: column) {
            let value = change.values[index]
            index += 1
            // A birth carries every column; the empty ones say nothing.
            if change.operation == .birth && value.isNull { continue }
            if let table, column < table.columns.count {
                set[table.columns[column].name] = FieldText.print(value, for: table.columns[column])
            }
        }
        return PrintedChangeSet.Change(
            table: table?.name ?? "table \(number)",
            id: change.id.description,
            op: "\(change.operation)",
            set: set
        )
    }
}
