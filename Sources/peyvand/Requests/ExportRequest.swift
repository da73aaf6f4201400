import CRM
import Causality
import ReplicaStore

/// What a file is written as.
enum ExportFormat: String, Codable, Sendable, CaseIterable {
    case csv, xlsx, jsonl, vcard, ics
}

/// Writes rows for a file, piece by piece. What it hands out is on record in the audit log.
struct ExportRows: NodeRequest {
    static let name = "export"

    let format: ExportFormat
    let target: ImportTarget
    /// Only this customer, with all records that are one with it.
    var customer: String?
    let language: Language
    /// In vCards: whether codes of the state go along, and which version they are.
    var includesCodes = false
    var isVersionThree = false

    private static let chunkBytes = 256 << 10

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Dump.Summary {
        let replica = node.replica
        try replica.sealForeignWrites()
        let whose = customer.map { _ in "one customer" } ?? "all"
        let (members, named) = try replica.read { reader -> ([RowID]?, RowID?) in
            guard let customer else { return (nil, nil) }
            let id = try RowArgument.resolve(customer, in: .customer, reader)
            let members = try CustomerCluster(of: id, from: reader).visible
            if members.isEmpty { throw try reader.absence(of: id, in: .customer) }
            return (members, id)
        }
        let object = "\(target.rawValue) as \(format.rawValue), \(named.map { "customer \($0)" } ?? whose)"
        try replica.audit(.exportRows, object)
        let now = node.wallClock()
        return try replica.read { reader in
            switch format {
            case .csv, .xlsx: try table(reader, members, now, progress)
            case .jsonl: try lines(reader, members, now, node.replica.node.organisation, progress)
            case .vcard, .ics:
                try components(
                    reader,
                    members,
                    ExportHeader(organisation: node.replica.node.organisation, milliseconds: now).organisation,
                    progress
                )
            }
        }
    }

    // MARK: Tables

    private func table(
        _ reader: ReplicaReader,
        _ members: [RowID]?,
        _ now: UInt64,
        _ progress: (ProgressReport) throws -> Void
    ) throws -> Dump.Summary {
        // A spreadsheet says itself which cells are text: nothing there is taken for a formula.
        let isGuarded = format == .csv
        let columns = ExportColumn.of(target, withJalali: !isGuarded)
        let words = Words(language)
        let total = try members == nil ? reader.count(target.table) : nil
        var bytes: [UInt8] = isGuarded ? [0xEF, 0xBB, 0xBF] : []
        bytes += CSVText.line(columns.map(words.header(of:)), delimiter: ",").utf8
        var cells = ExportCells(columns, reader, exportedAt: now)
        var count = 0
        func take(_ row: StoredRow) throws {
            let written = try cells.cells(of: row)
            bytes += CSVText.line(isGuarded ? written.map(FormulaGuard.added(to:)) : written, delimiter: ",").utf8
            count += 1
            guard bytes.count >= Self.chunkBytes else { return }
            try progress(ProgressReport(count: count, total: total))
            try progress(ProgressReport(count: count, output: bytes))
            bytes.removeAll(keepingCapacity: true)
        }
        try forEachRow(target.table, members, reader, take)
        try progress(ProgressReport(count: count, output: bytes))
        return Dump.Summary(rows: count)
    }

    private func forEachRow(
        _ table: TableDescription,
        _ members: [RowID]?,
        _ reader: ReplicaReader,
        _ take: (StoredRow) throws -> Void
    ) throws {
        guard let members else { return try reader.forEachRow(table, take) }
        for id in members {
            if table == .customer {
                if let row = try reader.row(table, id: id) { try take(row) }
            } else {
                try reader.rows(table, where: "customer", is: .integer(id.rawValue)).forEach(take)
            }
        }
    }

    // MARK: Cards and calendars

    private func components(
        _ reader: ReplicaReader,
        _ members: [RowID]?,
        _ organisation: String,
        _ progress: (ProgressReport) throws -> Void
    ) throws -> Dump.Summary {
        let isCalendar = format == .ics
        let total = try members == nil ? reader.count(target.table) : nil
        var text = isCalendar ? CalendarEntry.beginning : ""
        var count = 0
        let writer = ExportComponents(reader, organisation: organisation, includesCodes: includesCodes)
        try forEachRow(target.table, members, reader) { row in
            text +=
                isCalendar
                ? try writer.entry(of: row).text
                : try writer.card(of: row).text(isVersionThree ? .three : .four)
            count += 1
            guard text.utf8.count >= Self.chunkBytes else { return }
            try progress(ProgressReport(count: count, total: total))
            try progress(ProgressReport(count: count, output: Array(text.utf8)))
            text = ""
        }
        if isCalendar { text += CalendarEntry.end }
        try progress(ProgressReport(count: count, output: Array(text.utf8)))
        return Dump.Summary(rows: count)
    }

    // MARK: JSON lines

    /// A row in the shape of a `put` line.
    private struct Line: Encodable {
        let table: String
        let id: String
        let op = "put"
        let set: [String: PrintedField]

        init(_ row: StoredRow) {
            table = row.table.name
            id = row.id.description
            set = FieldText.print(row.values, of: row.table)
        }
    }

    private func lines(
        _ reader: ReplicaReader,
        _ members: [RowID]?,
        _ now: UInt64,
        _ organisation: [UInt8]?,
        _ progress: (ProgressReport) throws -> Void
    ) throws -> Dump.Summary {
        let header = ExportHeader(organisation: organisation, milliseconds: now)
        try progress(ProgressReport(count: 0, output: Output.json(header) + [UInt8(ascii: "\n")]))
        var rows = 0
        if let members {
            let belongings = try reader.belongings(ofCustomers: members).filter { !$0.isDeleted }.map(\.row)
            for table in reader.schema.inOrderOfReference where Self.isExported(table) {
                for row in belongings where row.table == table {
                    let line = try Output.json(Line(row)) + [UInt8(ascii: "\n")]
                    try progress(ProgressReport(count: rows, output: line))
                    rows += 1
                }
            }
            return Dump.Summary(rows: rows)
        }
        for table in reader.schema.inOrderOfReference where Self.isExported(table) {
            rows += try reader.dump(table, chunkBytes: Self.chunkBytes) { chunk in
                try progress(ProgressReport(count: rows, output: chunk))
            }
        }
        return Dump.Summary(rows: rows)
    }

    /// What nodes keep about themselves, and about what they have lost, means nothing elsewhere.
    private static func isExported(_ table: TableDescription) -> Bool {
        table != .conflict && table != .importBatch
    }
}
