import CRM
import Foundation
import ReplicaStore

/// Whom work with files asks to read and write rows.
protocol RequestPerformer: Sendable {
    func ask<Request: NodeRequest>(_ request: Request) async throws -> Request.Reply
}

extension CommandSession: RequestPerformer {}

/// The rows of one transaction, read but not written.
struct ImportPiece: Sendable {
    /// How many rows of the file they are.
    let rows: Int
    /// Rows that cannot be taken, whatever is here.
    let invalid: [ImportChunk.Problem]
    let warnings: [ImportChunk.Problem]
    /// How far the file has been read.
    let bytesRead: Int
    /// Has them written, as part of an import.
    let send: @Sendable (_ batch: String?, _ node: any RequestPerformer) async throws -> ImportChunk.Outcome
    /// What stands in the file, of those that may be refused.
    let content: Content

    /// The rows as the file has them, by line.
    enum Content: Sendable {
        case records([FileRecord])
        case lines([Int: [UInt8]])
    }
}

/// Reads a file piece by piece.
protocol ImportPreparation {
    /// The size of the file.
    var byteCount: Int { get }
    var ignoredColumns: [String] { get }

    /// The next rows; nil at the end of the file.
    mutating func next(rowsMax: Int) throws -> ImportPiece?

    /// Takes note of what came of a piece: which rows wait for others, for one.
    ///
    /// - Returns: The problems with the values that stand in the file.
    mutating func took(_ problems: [ImportChunk.Problem], of piece: ImportPiece) throws -> [ImportChunk.Problem]
}

/// The import of one file: reads rows, sends them on in pieces, gathers what came of them.
struct Importing {
    /// A transaction of at most so many rows, and fewer where they take long, keeps the writer for about 100 ms.
    static let rowsPerTransaction = 4000

    let file: String
    let target: ImportTarget?
    let map: String?
    let isDryRun: Bool
    let errors: String?
    let results: String?
    let context: ImportContext.Reply
    let output: Output
    private let node: any RequestPerformer

    var words: Words { output.words }
    /// The language of reasons: JSON never changes with language.
    var reasonLanguage: Language { output.isJSON ? .en : output.language }

    init(
        file: String,
        target: ImportTarget?,
        map: String? = nil,
        isDryRun: Bool = false,
        errors: String? = nil,
        results: String? = nil,
        context: ImportContext.Reply,
        output: Output,
        node: any RequestPerformer
    ) {
        self.file = file
        self.target = target
        self.map = map
        self.isDryRun = isDryRun
        self.errors = errors
        self.results = results
        self.context = context
        self.output = output
        self.node = node
    }

    /// Imports the file to its end, or until ^C, which ends it between two transactions.
    func run() async throws -> ImportSummary {
        var preparation = try preparation()
        if !preparation.ignoredColumns.isEmpty {
            output.message(words.ignoredColumns(preparation.ignoredColumns))
        }
        let results = try results.map { try OutputFile($0, words) }
        var summary = ImportSummary()
        summary.dryRun = isDryRun
        summary.ignoredColumns = preparation.ignoredColumns
        var progress = ProgressLine.onStandardError(
            (file as NSString).lastPathComponent,
            total: preparation.byteCount,
            isPersian: output.language == .fa
        )
        defer { progress.finish() }
        Interruption.watch()
        var pace = WorkPace(unitsMax: Self.rowsPerTransaction)
        var piece = try preparation.next(rowsMax: pace.units)
        while let current = piece {
            if Interruption.isRequested {
                summary.isStopped = true
                break
            }
            // While the node writes these rows, the next ones are read.
            let batch = summary.batch
            async let pending = timed(current, batch)
            let rowsMax = pace.units
            let following = Result { try preparation.next(rowsMax: rowsMax) }
            var outcome: ImportChunk.Outcome
            do {
                let sent = try await pending
                outcome = sent.outcome
                pace.took(sent.elapsed, for: current.rows)
            } catch {
                // What was sent before is committed, so this is not the end of the story.
                summary.failure = CommandFailure(error, language: output.language)
                break
            }
            outcome.invalid += current.invalid
            outcome.invalid.sort { $0.line < $1.line }
            outcome.invalid = try preparation.took(outcome.invalid, of: current)
            summary.rows += current.rows
            summary.add(warnings: current.warnings)
            summary.add(outcome)
            try results?.write(Self.lines(of: outcome))
            progress.update(count: current.bytesRead)
            do {
                piece = try following.get()
                // Rows that had to wait for others come at the end.
                if piece == nil { piece = try preparation.next(rowsMax: pace.units) }
            } catch {
                summary.failure = CommandFailure(error, language: output.language)
                break
            }
        }
        if let batch = summary.batch, !isDryRun {
            let finish = FinishImport(batch: batch, counts: summary.counts)
            // A node that cannot write any more has said so already.
            if summary.failure == nil { _ = try await node.ask(finish) } else { _ = try? await node.ask(finish) }
        }
        return summary
    }

    /// Checks that nothing is written over what is read: a mended file of errors is easily given as both.
    private func checkPaths() throws {
        func identity(_ path: String) -> [UInt64]? {
            var information = stat()
            guard stat(path, &information) == 0, information.st_mode & S_IFMT == S_IFREG else { return nil }
            return [UInt64(information.st_dev), UInt64(information.st_ino)]
        }
        for path in [errors, results].compactMap({ $0 }) {
            if let written = identity(path), written == identity(file) {
                throw CommandFailure(.usage, words.wouldOverwrite(path))
            }
        }
        if let errors, errors == results { throw CommandFailure(.usage, words.wouldOverwrite(errors)) }
    }

    private func preparation() throws -> any ImportPreparation {
        try checkPaths()
        let format = try FileFormat(of: file, words)
        switch format {
        case .jsonLines: return try LinesPreparation(self)
        case .cards, .calendar:
            let only: ImportTarget = format == .cards ? .customers : .activities
            guard target == nil || target == only else { throw CommandFailure(.usage, words.wrongTarget(only)) }
            return try RecordsPreparation(self, only, format)
        case .csv, .spreadsheet:
            guard let target else { throw CommandFailure(.usage, words.asIsMissing) }
            return try RecordsPreparation(self, target, format)
        }
    }

    private func timed(
        _ piece: ImportPiece,
        _ batch: String?
    ) async throws -> (outcome: ImportChunk.Outcome, elapsed: Duration) {
        let start = ContinuousClock.now
        let outcome = try await piece.send(batch, node)
        return (outcome, ContinuousClock.now - start)
    }

    /// What became of each row, as JSON lines.
    private static func lines(of outcome: ImportChunk.Outcome) throws -> [UInt8] {
        struct Invalid: Encodable {
            let line: Int
            let result = "invalid"
            let column: String?
            let value: String?
            let reason: String
        }
        let taken = try outcome.results.map { ($0.line, try Output.json($0)) }
        let refused = try outcome.invalid.map { problem in
            let line = Invalid(
                line: problem.line,
                column: problem.column,
                value: problem.value,
                reason: problem.reason
            )
            return (problem.line, try Output.json(line))
        }
        return (taken + refused).sorted { $0.0 < $1.0 }.flatMap { $0.1 + [UInt8(ascii: "\n")] }
    }
}

/// A file that a command writes beside its result.
struct OutputFile {
    private let file: FileHandle
    private let path: String
    private let words: Words

    init(_ path: String, _ words: Words) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else { throw CommandFailure(.failed, words.cannotWrite(path)) }
        file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        self.path = path
        self.words = words
    }

    func write(_ bytes: some Collection<UInt8>) throws {
        do {
            try file.write(contentsOf: Data(bytes))
        } catch {
            throw CommandFailure(.failed, words.cannotWrite(path))
        }
    }
}
