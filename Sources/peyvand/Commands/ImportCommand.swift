import ArgumentParser
import Foundation

/// `import FILE --as customers|activities|orders`
struct ImportCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Take rows from a CSV file. The same file again changes nothing."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "A CSV file: UTF-8 or Windows-1256, divided by comma, semicolon or tab, with a header line.")
    var file: String
    @Option(name: .customLong("as"), help: "customers, activities or orders.") var target: ImportTarget
    @Option(help: ArgumentHelp("Which column fills which field: TOML, or lines field=Header.", valueName: "file"))
    var map: String?
    @Flag(help: "Tell what would happen, and write nothing.") var dryRun = false
    @Option(help: ArgumentHelp("Write the rows that were not taken here, with the reason.", valueName: "file"))
    var errors: String?

    func run(_ session: CommandSession) async throws {
        let importing = Importing(self, session.output) { chunk in try await session.ask(chunk) }
        let summary = try await importing.run()
        try session.output.result(summary, text: session.words.imported(summary))
        for warning in summary.warnings.prefix(Self.problemsShown) { session.output.message(session.words.problem(warning)) }
        for problem in summary.problems.prefix(Self.problemsShown) { session.output.message(session.words.problem(problem)) }
        let hidden = summary.invalid - min(summary.problems.count, Self.problemsShown)
        if hidden > 0 { session.output.message(session.words.moreProblems(hidden)) }
        if summary.isStopped {
            let done = summary.created + summary.updated + summary.skipped + summary.invalid
            throw CommandFailure(.failed, session.words.stoppedImport(done))
        }
    }

    private static let problemsShown = 20
}

extension ImportTarget: ExpressibleByArgument {}

/// What came of an import.
struct ImportSummary: Encodable, Sendable {
    var rows = 0
    var created = 0
    var updated = 0
    var skipped = 0
    var invalid = 0
    var dryRun = false
    /// Where the last change set stands.
    var position: UInt64?
    /// Rows that were not taken; the first thousand.
    var problems: [ImportChunk.Problem] = []
    /// Values that were taken but look wrong; the first thousand.
    var warnings: [ImportChunk.Problem] = []
    var ignoredColumns: [String] = []
    /// Whether it ended before the end of the file, because somebody asked for it.
    var isStopped = false

    /// Problems beyond this are only counted, so that a wrong file does not fill the memory.
    static let problemsMax = 1000

    mutating func add(_ outcome: ImportChunk.Outcome) {
        created += outcome.created
        updated += outcome.updated
        skipped += outcome.skipped
        position = outcome.position ?? position
        warnings += outcome.warnings.prefix(max(0, Self.problemsMax - warnings.count))
        add(outcome.invalid)
    }

    mutating func add(_ invalid: [ImportChunk.Problem]) {
        self.invalid += invalid.count
        problems += invalid.prefix(max(0, Self.problemsMax - problems.count))
    }
}

/// The import of one file: reads records, sends them on in chunks, gathers what came of them.
struct Importing {
    /// A transaction of so many rows keeps the writer for a fraction of a second.
    static let rowsPerTransaction = 4000

    private let file: String
    private let target: ImportTarget
    private let map: String?
    private let isDryRun: Bool
    private let errors: String?
    private let output: Output
    private let send: (ImportChunk) async throws -> ImportChunk.Outcome

    private var words: Words { output.words }

    init(
        _ command: ImportCommand,
        _ output: Output,
        send: @escaping (ImportChunk) async throws -> ImportChunk.Outcome
    ) {
        self.init(
            file: command.file,
            target: command.target,
            map: command.map,
            isDryRun: command.dryRun,
            errors: command.errors,
            output: output,
            send: send
        )
    }

    init(
        file: String,
        target: ImportTarget,
        map: String? = nil,
        isDryRun: Bool = false,
        errors: String? = nil,
        output: Output,
        send: @escaping (ImportChunk) async throws -> ImportChunk.Outcome
    ) {
        self.file = file
        self.target = target
        self.map = map
        self.isDryRun = isDryRun
        self.errors = errors
        self.output = output
        self.send = send
    }

    /// Imports the file to its end, or until ^C, which ends it between two transactions.
    func run() async throws -> ImportSummary {
        var source = try ImportFile(path: file, words: words)
        let plan = try ImportPlan(target, header: source.header, map: try readMap())
        if !plan.ignored.isEmpty { output.message(words.ignoredColumns(plan.ignored)) }
        let rejects = try errors.map { try RejectedRows(path: $0, header: source.header, source.delimiter, words) }
        var summary = ImportSummary()
        summary.dryRun = isDryRun
        summary.ignoredColumns = plan.ignored
        var progress = ProgressLine.onStandardError(
            (file as NSString).lastPathComponent, total: source.byteCount, isPersian: output.language == .fa)
        defer { progress.finish() }
        Interruption.watch()
        var seen: [String: Int] = [:]
        var isEnd = false
        while !isEnd {
            var records: [CSVRecord] = []
            while records.count < Self.rowsPerTransaction {
                guard let record = try source.next() else {
                    isEnd = true
                    break
                }
                if !record.isBlank { records.append(record) }
            }
            if Interruption.isRequested {
                summary.isStopped = true
                break
            }
            if records.isEmpty { continue }
            summary.rows += records.count
            var invalid: [ImportChunk.Problem] = []
            let rows = rows(records, plan, &seen, &invalid)
            var outcome = try await send(
                ImportChunk(
                    target: target,
                    fields: plan.fields,
                    rows: rows,
                    isDryRun: isDryRun,
                    language: output.isJSON ? .en : output.language
                )
            )
            outcome.invalid += invalid
            outcome.invalid.sort { $0.line < $1.line }
            summary.add(outcome)
            try rejects?.add(outcome.invalid, of: records)
            progress.update(count: source.bytesRead)
        }
        return summary
    }

    private func rows(
        _ records: [CSVRecord],
        _ plan: ImportPlan,
        _ seen: inout [String: Int],
        _ invalid: inout [ImportChunk.Problem]
    ) -> [ImportChunk.Row] {
        records.compactMap { record in
            if let flaw = record.flaw {
                invalid.append(ImportChunk.Problem(line: record.line, column: nil, reason: words.flaw(flaw)))
                return nil
            }
            guard let cells = plan.cells(of: record, seen: &seen) else {
                invalid.append(ImportChunk.Problem(line: record.line, column: nil, reason: words.tooManyCells))
                return nil
            }
            return ImportChunk.Row(line: record.line, cells: cells)
        }
    }

    private func readMap() throws -> [String: String] {
        guard let map else { return [:] }
        guard let text = try? String(contentsOfFile: map, encoding: .utf8) else {
            throw CommandFailure(.failed, words.cannotRead(map))
        }
        return try ImportPlan.map(text)
    }
}

/// The rows that were not taken, as the same CSV with the reason behind: they can be mended and imported.
private struct RejectedRows {
    private let file: FileHandle
    private let path: String
    private let delimiter: Character
    private let words: Words
    private let columnCount: Int

    init(path: String, header: [String], _ delimiter: UInt8, _ words: Words) throws {
        guard FileManager.default.createFile(atPath: path, contents: nil),
            let file = FileHandle(forWritingAtPath: path)
        else { throw CommandFailure(.failed, words.cannotWrite(path)) }
        self.file = file
        self.path = path
        self.delimiter = Character(Unicode.Scalar(delimiter))
        self.words = words
        columnCount = header.count
        try write("\u{FEFF}" + line(header + [words.reasonColumn]))
    }

    func add(_ problems: [ImportChunk.Problem], of records: [CSVRecord]) throws {
        guard !problems.isEmpty else { return }
        let byLine = Dictionary(records.map { ($0.line, $0) }) { first, _ in first }
        var text = ""
        for problem in problems {
            guard let record = byLine[problem.line] else { continue }
            let missing = repeatElement("", count: max(0, columnCount - record.cells.count))
            let reason = problem.column.map { "\(words.title($0)): \(problem.reason)" } ?? problem.reason
            text += line(record.cells + missing + [reason])
        }
        try write(text)
    }

    private func line(_ cells: [String]) -> String {
        let written = cells.map { cell in
            let mustQuote = cell.unicodeScalars.contains {
                $0 == "\"" || $0 == "\n" || $0 == "\r" || $0 == delimiter.unicodeScalars.first
            }
            return mustQuote || cell.first == " " ? "\"\(cell.replacing("\"", with: "\"\""))\"" : cell
        }
        return written.joined(separator: String(delimiter)) + "\r\n"
    }

    private func write(_ text: String) throws {
        do {
            try file.write(contentsOf: Data(text.utf8))
        } catch {
            throw CommandFailure(.failed, words.cannotWrite(path))
        }
    }
}
