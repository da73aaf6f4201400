import CRM
import ReplicaStore

/// Reads a file of records, all of which become rows of one kind.
struct RecordsPreparation: ImportPreparation {
    private let plan: ImportPlan
    private let reading: ImportReading
    private let target: ImportTarget
    private let isDryRun: Bool
    private let tellsResults: Bool
    private let language: Language
    private let rejects: RejectedRecords?
    private var source: any RecordSource
    private var seen: [String: Int] = [:]
    /// The keys of the rows so far, with their lines and what else they say.
    private var keys: [String: (line: Int, content: Int)] = [:]

    var byteCount: Int { source.byteCount }
    var ignoredColumns: [String] { plan.ignored }

    init(_ importing: Importing, _ target: ImportTarget, _ format: FileFormat) throws {
        let source: any RecordSource =
            switch format {
            case .csv, .jsonLines: try CSVFile(path: importing.file, words: importing.words)
            case .spreadsheet: try SheetFile(path: importing.file, words: importing.words)
            case .cards, .calendar:
                try ComponentFile(
                    path: importing.file,
                    format,
                    organisation: importing.context.organisation,
                    words: importing.words
                )
            }
        let plan = try ImportPlan(target, header: source.header, map: try Self.map(importing))
        self.source = source
        self.plan = plan
        self.target = target
        isDryRun = importing.isDryRun
        tellsResults = importing.results != nil
        language = importing.reasonLanguage
        rejects = try importing.errors.map {
            try RejectedRecords(path: $0, plan, header: source.header, source.delimiter, importing.words)
        }
        reading = ImportReading(
            target,
            fields: plan.fields,
            areaCode: importing.context.areaCode,
            language: importing.reasonLanguage
        )
    }

    private static func map(_ importing: Importing) throws -> [String: String] {
        guard let map = importing.map else { return [:] }
        guard let text = try? String(contentsOfFile: map, encoding: .utf8) else {
            throw CommandFailure(.failed, importing.words.cannotRead(map))
        }
        return try ImportPlan.map(text)
    }

    mutating func next(rowsMax: Int) throws -> ImportPiece? {
        var records: [FileRecord] = []
        while records.count < rowsMax, var record = try source.next() {
            if record.isBlank { continue }
            if record.flaw == nil, let cells = plan.cells(of: record, seen: &seen) { record.cells = cells }
            records.append(record)
        }
        if records.isEmpty { return nil }
        var rows: [ImportChunk.Row] = []
        rows.reserveCapacity(records.count)
        var invalid: [ImportChunk.Problem] = []
        var warnings: [ImportChunk.Problem] = []
        for record in records {
            do throws(ImportChunk.Problem) {
                try checkKey(of: record)
                rows.append(try row(record, &warnings))
                warnings += record.remarks.map {
                    ImportChunk.Problem(line: record.line, column: nil, reason: Words(language).remark($0))
                }
            } catch {
                invalid.append(error)
            }
        }
        let chunk = ImportChunk(
            target: target,
            columns: reading.columns,
            rows: rows,
            isDryRun: isDryRun,
            language: language,
            source: source.description,
            tellsResults: tellsResults
        )
        let told = Dictionary(records.map { ($0.line, $0) }) { first, _ in first }
        return ImportPiece(
            rows: records.count,
            invalid: invalid,
            warnings: warnings.map { valued($0, told) },
            bytesRead: source.bytesRead,
            send: { batch, node in
                var chunk = chunk
                chunk.batch = batch
                return try await node.ask(chunk)
            },
            content: .records(records)
        )
    }

    /// Two rows of one key that say different things would each undo the other, whenever the file comes.
    private mutating func checkKey(of record: FileRecord) throws(ImportChunk.Problem) {
        guard record.flaw == nil, let key = plan.key(of: record) else { return }
        let content = record.cells.hashValue
        guard let first = keys[key] else {
            keys[key] = (record.line, content)
            return
        }
        guard first.content != content else { return }
        throw ImportChunk.Problem(
            line: record.line,
            column: ImportPlan.keyField,
            reason: Words(language).keyStandsIn(first.line)
        )
    }

    private func row(
        _ record: FileRecord,
        _ warnings: inout [ImportChunk.Problem]
    ) throws(ImportChunk.Problem) -> ImportChunk.Row {
        if let flaw = record.flaw {
            throw ImportChunk.Problem(line: record.line, column: nil, reason: Words(language).flaw(flaw))
        }
        guard record.cells.count == plan.fields.count else {
            throw ImportChunk.Problem(line: record.line, column: nil, reason: Words(language).tooManyCells)
        }
        return try reading.row(line: record.line, cells: record.cells, warnings: &warnings)
    }

    mutating func took(_ problems: [ImportChunk.Problem], of piece: ImportPiece) throws -> [ImportChunk.Problem] {
        guard !problems.isEmpty, case .records(let records) = piece.content else { return problems }
        let told = Dictionary(records.map { ($0.line, $0) }) { first, _ in first }
        try rejects?.add(problems, told)
        return problems.map { valued($0, told) }
    }

    /// A problem with the value that stands in the file.
    private func valued(_ problem: ImportChunk.Problem, _ records: [Int: FileRecord]) -> ImportChunk.Problem {
        guard let column = problem.column else { return problem }
        var problem = problem
        problem.value = ""
        if let index = plan.fields.firstIndex(where: { $0 == column }), let cells = records[problem.line]?.cells,
            index < cells.count
        {
            problem.value = cells[index]
        }
        return problem
    }
}

/// The rows that were not taken, as the same table with the reason behind: they can be mended and imported.
///
/// Rows without a key get the one that was made for them, so that a mended row is still the same row, and not mistaken for
/// another one that it has become equal to.
struct RejectedRecords {
    private let file: OutputFile
    private let plan: ImportPlan
    private let delimiter: Unicode.Scalar
    private let words: Words
    private let columnCount: Int

    init(path: String, _ plan: ImportPlan, header: [String], _ delimiter: UInt8, _ words: Words) throws {
        file = try OutputFile(path, words)
        self.plan = plan
        self.delimiter = Unicode.Scalar(delimiter)
        self.words = words
        columnCount = header.count
        try file.write("\u{FEFF}".utf8)
        try write(header, key: words.title(ImportPlan.keyField), reason: words.reasonColumn)
    }

    func add(_ problems: [ImportChunk.Problem], _ records: [Int: FileRecord]) throws {
        for problem in problems {
            guard let record = records[problem.line] else { continue }
            var cells = Array(record.cells.prefix(columnCount))
            cells += repeatElement("", count: columnCount - cells.count)
            let isRead = record.flaw == nil && record.cells.count == plan.fields.count
            let reason = problem.column.map { "\(words.title($0)): \(problem.reason)" } ?? problem.reason
            try write(cells, key: isRead ? record.cells.last ?? "" : "", reason: reason)
        }
    }

    private func write(_ cells: [String], key: String, reason: String) throws {
        var cells = cells
        if !plan.hasKeyColumn { cells.append(key) }
        if let index = plan.reasonIndex {
            cells[index] = reason
        } else {
            cells.append(reason)
        }
        try file.write(CSVText.line(cells.map(FormulaGuard.added(toCell:)), delimiter: delimiter).utf8)
    }
}
