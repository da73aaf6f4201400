import ArgumentParser
import Foundation
import ReplicaStore

/// `import FILE --as customers|activities|orders`
struct ImportCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Take rows from a CSV file. The same file again changes nothing."
    )

    @OptionGroup var node: NodeOptions
    @Argument(
        help: "A CSV file: UTF-8 or Windows-1256, divided by comma, semicolon or tab, with a header line."
    )
    var file: String
    @Option(name: .customLong("as"), help: "customers, activities or orders.") var target: ImportTarget
    @Option(
        help: ArgumentHelp("Which column fills which field: TOML, or lines field=Header.", valueName: "file")
    )
    var map: String?
    @Flag(help: "Tell what would happen, and write nothing.") var dryRun = false
    @Option(
        help: ArgumentHelp("Write the rows that were not taken here, with the reason.", valueName: "file")
    )
    var errors: String?

    func run(_ session: CommandSession) async throws {
        let context = try await session.ask(ImportContext())
        let importing = Importing(
            file: file,
            target: target,
            map: map,
            isDryRun: dryRun,
            errors: errors,
            areaCode: context.areaCode,
            output: session.output
        ) { chunk in try await session.ask(chunk) }
        let summary = try await importing.run()
        try session.output.result(summary, text: session.words.imported(summary))
        for warning in summary.warnings.prefix(Self.problemsShown) {
            session.output.message(session.words.problem(warning))
        }
        for problem in summary.problems.prefix(Self.problemsShown) {
            session.output.message(session.words.problem(problem))
        }
        let hidden = summary.invalid - min(summary.problems.count, Self.problemsShown)
        if hidden > 0 { session.output.message(session.words.moreProblems(hidden)) }
        let done = summary.created + summary.updated + summary.skipped + summary.invalid
        if let failure = summary.failure {
            throw CommandFailure(failure.exit, session.words.failedImport(failure.sentence, done))
        }
        if summary.isStopped { throw CommandFailure(.failed, session.words.stoppedImport(done)) }
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
    /// Why it ended before the end of the file; what was counted until then stays.
    var failure: CommandFailure?
    /// Fields that were edited here after they were imported, and stay as they are.
    var kept = 0

    /// Problems beyond this are only counted, so that a wrong file does not fill the memory.
    static let problemsMax = 1000

    mutating func add(_ outcome: ImportChunk.Outcome) {
        created += outcome.created
        updated += outcome.updated
        skipped += outcome.skipped
        kept += outcome.kept
        position = outcome.position ?? position
        invalid += outcome.invalid.count
        problems += outcome.invalid.prefix(max(0, Self.problemsMax - problems.count))
    }

    mutating func add(warnings: [ImportChunk.Problem]) {
        self.warnings += warnings.prefix(max(0, Self.problemsMax - self.warnings.count))
    }
}

/// The import of one file: reads records, sends them on in chunks, gathers what came of them.
struct Importing {
    /// A transaction of at most so many rows, and fewer where they take long, keeps the writer for about 100 ms.
    static let rowsPerTransaction = 4000

    private let file: String
    private let target: ImportTarget
    private let map: String?
    private let isDryRun: Bool
    private let errors: String?
    private let output: Output
    private let areaCode: String?
    private let send: @Sendable (ImportChunk) async throws -> ImportChunk.Outcome

    private var words: Words { output.words }
    /// The language of reasons: JSON never changes with language.
    private var reasonLanguage: Language { output.isJSON ? .en : output.language }

    init(
        file: String,
        target: ImportTarget,
        map: String? = nil,
        isDryRun: Bool = false,
        errors: String? = nil,
        areaCode: String? = nil,
        output: Output,
        send: @escaping @Sendable (ImportChunk) async throws -> ImportChunk.Outcome
    ) {
        self.file = file
        self.target = target
        self.map = map
        self.isDryRun = isDryRun
        self.errors = errors
        self.areaCode = areaCode
        self.output = output
        self.send = send
    }

    /// Imports the file to its end, or until ^C, which ends it between two transactions.
    func run() async throws -> ImportSummary {
        let source = try ImportFile(path: file, words: words)
        let plan = try ImportPlan(target, header: source.header, map: try readMap())
        if !plan.ignored.isEmpty { output.message(words.ignoredColumns(plan.ignored)) }
        let rejects = try errors.map {
            try RejectedRows(path: $0, header: source.header, source.delimiter, words)
        }
        var summary = ImportSummary()
        summary.dryRun = isDryRun
        summary.ignoredColumns = plan.ignored
        var progress = ProgressLine.onStandardError(
            (file as NSString).lastPathComponent,
            total: source.byteCount,
            isPersian: output.language == .fa
        )
        defer { progress.finish() }
        Interruption.watch()
        var preparation = Preparation(self, source, plan)
        var pace = WorkPace(unitsMax: Self.rowsPerTransaction)
        var batch = try preparation.next(rowsMax: pace.units)
        while let current = batch {
            if Interruption.isRequested {
                summary.isStopped = true
                break
            }
            // While the node writes these rows, the next ones are read.
            async let pending = timed(current.chunk)
            let rowsMax = pace.units
            let following = Result { try preparation.next(rowsMax: rowsMax) }
            var outcome: ImportChunk.Outcome
            do {
                let sent = try await pending
                outcome = sent.outcome
                pace.took(sent.elapsed, for: current.records.count)
            } catch {
                // What was sent before is committed, so this is not the end of the story.
                summary.failure = CommandFailure(error, language: output.language)
                break
            }
            outcome.invalid += current.invalid
            outcome.invalid.sort { $0.line < $1.line }
            summary.rows += current.records.count
            summary.add(warnings: current.warnings)
            summary.add(outcome)
            try rejects?.add(outcome.invalid, of: current.records)
            progress.update(count: current.bytesRead)
            do {
                batch = try following.get()
            } catch {
                summary.failure = CommandFailure(error, language: output.language)
                break
            }
        }
        return summary
    }

    private func timed(_ chunk: ImportChunk) async throws -> (outcome: ImportChunk.Outcome, elapsed: Duration) {
        let start = ContinuousClock.now
        let outcome = try await send(chunk)
        return (outcome, ContinuousClock.now - start)
    }

    /// The rows of one transaction, read but not written.
    private struct Batch {
        let records: [CSVRecord]
        let chunk: ImportChunk
        let invalid: [ImportChunk.Problem]
        let warnings: [ImportChunk.Problem]
        let bytesRead: Int
    }

    /// Reads the file, batch by batch.
    private struct Preparation {
        private let importing: Importing
        private let plan: ImportPlan
        private let reading: ImportReading
        private var source: ImportFile
        private var seen: [String: Int] = [:]

        init(_ importing: Importing, _ source: ImportFile, _ plan: ImportPlan) {
            self.importing = importing
            self.source = source
            self.plan = plan
            reading = ImportReading(
                importing.target,
                fields: plan.fields,
                areaCode: importing.areaCode,
                language: importing.reasonLanguage
            )
        }

        /// The next rows; nil at the end of the file.
        mutating func next(rowsMax: Int) throws -> Batch? {
            var records: [CSVRecord] = []
            while records.count < rowsMax, let record = try source.next() {
                if !record.isBlank { records.append(record) }
            }
            if records.isEmpty { return nil }
            var rows: [ImportChunk.Row] = []
            rows.reserveCapacity(records.count)
            var invalid: [ImportChunk.Problem] = []
            var warnings: [ImportChunk.Problem] = []
            for record in records {
                do throws(ImportChunk.Problem) {
                    rows.append(try row(record, &warnings))
                } catch {
                    invalid.append(error)
                }
            }
            let chunk = ImportChunk(
                target: importing.target,
                columns: reading.columns,
                rows: rows,
                isDryRun: importing.isDryRun,
                language: importing.reasonLanguage
            )
            return Batch(
                records: records,
                chunk: chunk,
                invalid: invalid,
                warnings: warnings,
                bytesRead: source.bytesRead
            )
        }

        private mutating func row(
            _ record: CSVRecord,
            _ warnings: inout [ImportChunk.Problem]
        ) throws(ImportChunk.Problem) -> ImportChunk.Row {
            let words = Words(importing.reasonLanguage)
            if let flaw = record.flaw {
                throw ImportChunk.Problem(line: record.line, column: nil, reason: words.flaw(flaw))
            }
            guard let cells = plan.cells(of: record, seen: &seen) else {
                throw ImportChunk.Problem(line: record.line, column: nil, reason: words.tooManyCells)
            }
            return try reading.row(line: record.line, cells: cells, warnings: &warnings)
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
    private let delimiter: Unicode.Scalar
    private let words: Words
    private let columnCount: Int

    init(path: String, header: [String], _ delimiter: UInt8, _ words: Words) throws {
        guard FileManager.default.createFile(atPath: path, contents: nil),
            let file = FileHandle(forWritingAtPath: path)
        else { throw CommandFailure(.failed, words.cannotWrite(path)) }
        self.file = file
        self.path = path
        self.delimiter = Unicode.Scalar(delimiter)
        self.words = words
        columnCount = header.count
        try write("\u{FEFF}" + CSVText.line(header + [words.reasonColumn], delimiter: self.delimiter))
    }

    func add(_ problems: [ImportChunk.Problem], of records: [CSVRecord]) throws {
        guard !problems.isEmpty else { return }
        let byLine = Dictionary(records.map { ($0.line, $0) }) { first, _ in first }
        var text = ""
        for problem in problems {
            guard let record = byLine[problem.line] else { continue }
            let missing = repeatElement("", count: max(0, columnCount - record.cells.count))
            let reason = problem.column.map { "\(words.title($0)): \(problem.reason)" } ?? problem.reason
            text += CSVText.line(record.cells + missing + [reason], delimiter: delimiter)
        }
        try write(text)
    }

    private func write(_ text: String) throws {
        do {
            try file.write(contentsOf: Data(text.utf8))
        } catch {
            throw CommandFailure(.failed, words.cannotWrite(path))
        }
    }
}
