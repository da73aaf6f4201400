import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

/// One line of a node's log.
package struct LogEntry: Hashable, Sendable {
    package let position: UInt64
    package let id: ChangeSetID
    package let time: HybridTimestamp
    package let rows: Int
    /// Where the change set stands in the log of the hub, if that is known.
    package let hubPosition: UInt64?
    /// The bytes of the stored body; nil when it was trimmed.
    package let bodyBytes: Int?
}

// What commands read beyond single rows.

extension ReplicaReader {
    /// The identifiers of live rows, or deleted ones, whose column has one of the given values, by value.
    ///
    /// Cost: one statement for all values, so that an import asks once per transaction. Among live rows the
    /// column's index is used; the deleted ones, which have none, are read once.
    package func identifiers(
        _ table: TableDescription,
        where column: String,
        in values: [FieldValue],
        deleted: Bool = false
    ) throws -> [FieldValue: [RowID]] {
        if values.isEmpty { return [:] }
        let list = Self.json(values)
        let name = column.quotedName
        let statement = try db.cachedStatement(
            sql: deleted
                ? """
                SELECT \(name), id FROM \(table.graveyard) WHERE \(name) IN (SELECT value FROM json_each(?))
                ORDER BY id
                """
                : """
                SELECT t.\(name), t.id FROM json_each(?) AS wanted
                CROSS JOIN \(table.name) AS t ON t.\(name) = wanted.value ORDER BY t.id
                """
        )
        var found: [FieldValue: [RowID]] = [:]
        let cursor = try Row.fetchCursor(statement, arguments: [list])
        while let row = try cursor.next() {
            guard let id = RowID(rawValue: row[1]) else { continue }
            found[FieldValue(row[0] as DatabaseValue), default: []].append(id)
        }
        return found
    }

    /// A JSON array of integers and texts, which SQLite takes apart again. Other values cannot be looked for.
    ///
    /// Written here because an encoder took twice as long as the look-up.
    private static func json(_ values: [FieldValue]) -> String {
        var bytes: [UInt8] = [UInt8(ascii: "[")]
        bytes.reserveCapacity(values.count * 16)
        for value in values {
            switch value {
            case .null, .blob: continue
            case .integer(let number):
                bytes.append(contentsOf: String(number).utf8)
            case .text(let text):
                bytes.append(UInt8(ascii: "\""))
                for byte in text.utf8 {
                    if byte == 0x22 || byte == 0x5C { bytes.append(0x5C) }
                    // Stored text holds no control characters; one would find nothing.
                    bytes.append(byte < 0x20 ? 0x20 : byte)
                }
                bytes.append(UInt8(ascii: "\""))
            }
            bytes.append(UInt8(ascii: ","))
        }
        if bytes.count > 1 { bytes.removeLast() }
        bytes.append(UInt8(ascii: "]"))
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Appends the canonical lines of all live rows of a table, by identifier, and hands them over in chunks.
    ///
    /// - Parameter chunk: Gets whole lines. The memory is reused afterwards.
    /// - Returns: How many rows there were.
    package func dump(_ table: TableDescription, chunkBytes: Int, _ chunk: ([UInt8]) throws -> Void) throws
        -> Int
    {
        let columns = table.columns.map(\.name.quotedName).joined(separator: ", ")
        let statement = try RawStatement("SELECT \(columns) FROM \(table.name) ORDER BY id", in: db)
        defer { statement.reset() }
        let line = CanonicalLine(table)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(chunkBytes + 4096)
        var count = 0
        while try statement.step() {
            guard let id = RowID(rawValue: statement.integer(0)) else { continue }
            line.append(id, to: &bytes) { column in
                switch statement.field(column) {
                case .null: .null
                case .integer(let number): .integer(number)
                case .text(let text): .text(text)
                case .blob(let content): .blob(content)
                }
            }
            count += 1
            if bytes.count >= chunkBytes {
                try chunk(bytes)
                bytes.removeAll(keepingCapacity: true)
            }
        }
        if !bytes.isEmpty { try chunk(bytes) }
        return count
    }

    // MARK: Log

    /// Change sets of the log: the first ones after a position, or, without one, the newest.
    package func log(after position: UInt64?, limit: Int) throws -> [LogEntry] {
        let columns = "position, origin, seq, time, rows, hubPosition, length(body)"
        let rows: [Row]
        if let position {
            rows = try Row.fetchAll(
                db,
                sql: "SELECT \(columns) FROM log WHERE position > ? ORDER BY position LIMIT ?",
                arguments: [Int64(clamping: position), limit]
            )
        } else {
            rows = try Row.fetchAll(
                db,
                sql: "SELECT \(columns) FROM log ORDER BY position DESC LIMIT ?",
                arguments: [limit]
            ).reversed()
        }
        return rows.compactMap(LogEntry.init)
    }

    /// One change set of the log with what it did; nil when there is none, or, of the content, when its body
    /// was trimmed.
    package func logEntry(at position: UInt64) throws -> (entry: LogEntry, content: ChangeSet?)? {
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT position, origin, seq, time, rows, hubPosition, length(body), body FROM log
                    WHERE position = ?
                    """
            ),
            arguments: [Int64(clamping: position)]
        )
        guard let row, let entry = LogEntry(row) else { return nil }
        guard let body = row[7] as Data? else { return (entry, nil) }
        let content = try Replica.withContent(of: body, position: position, ZstdDecompressor()) {
            ChangeSet($0)
        }
        return (entry, content)
    }
}

extension LogEntry {
    fileprivate init?(_ row: Row) {
        guard let origin = Origin(rawValue: UInt32(clamping: row[1] as Int64)),
            let time = HybridTimestamp(packed: UInt64(bitPattern: row[3] as Int64))
        else { return nil }
        self.init(
            position: UInt64(clamping: row[0] as Int64),
            id: ChangeSetID(origin: origin, seq: UInt64(clamping: row[2] as Int64)),
            time: time,
            rows: row[4],
            hubPosition: (row[5] as Int64?).map { UInt64(clamping: $0) },
            bodyBytes: row[6]
        )
    }
}
