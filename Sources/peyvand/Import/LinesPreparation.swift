import CRM
import Causality
import Foundation
import ReplicaStore

/// Reads a file of JSON lines, as `export` writes them: rows of all tables, each with the identifier that it has where it
/// comes from.
struct LinesPreparation: ImportPreparation {
    let byteCount: Int
    let ignoredColumns: [String] = []

    private let isDryRun: Bool
    private let tellsResults: Bool
    private let language: Language
    private let words: Words
    private let rejects: OutputFile?
    private let file: FileHandle
    private let description: ImportedFile
    private var origin = ExportHeader()
    private var lines: LineReader
    private var bytesRead = 0
    private var isEnd = false
    /// Lines that name rows which had not come by then. They come again behind all others.
    private var waiting: [(line: ImportLinesChunk.Line, bytes: [UInt8])] = []
    private var isLast = false

    /// More lines than these do not wait; what they name is taken to be missing.
    private static let waitingMax = 100_000

    init(_ importing: Importing) throws {
        let path = importing.file
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw CommandFailure(.failed, importing.words.cannotRead(path))
        }
        self.file = file
        isDryRun = importing.isDryRun
        tellsResults = importing.results != nil
        language = importing.reasonLanguage
        words = importing.words
        (description, byteCount) = try ImportedFile.survey(
            file,
            path: path,
            format: FileFormat.jsonLines.rawValue,
            importing.words
        )
        lines = LineReader(file.fileDescriptor)
        rejects = try importing.errors.map { try OutputFile($0, importing.words) }
    }

    mutating func next(rowsMax: Int) throws -> ImportPiece? {
        if isEnd { return nextOfWaiting(rowsMax) }
        var taken: [ImportLinesChunk.Line] = []
        var invalid: [ImportChunk.Problem] = []
        var bytes: [Int: [UInt8]] = [:]
        var size = 0
        while taken.count + invalid.count < rowsMax, size < Self.pieceBytesMax {
            guard let line = try lines.next() else {
                isEnd = true
                break
            }
            bytesRead += line.bytes.count + 1
            size += line.bytes.count
            if let header = ExportHeader(line: line.bytes) {
                origin = header
                try rejects?.write(line.bytes + [UInt8(ascii: "\n")])
                continue
            }
            bytes[line.number] = line.bytes
            do {
                guard !line.isTooLong else {
                    throw CommandFailure(.failed, words.lineTooLong(LineReader.lineBytesMax))
                }
                taken.append(try ImportLinesChunk.Line(number: line.number, bytes: line.bytes))
            } catch {
                let reason = CommandFailure(error, language: language).sentence
                invalid.append(ImportChunk.Problem(line: line.number, column: nil, reason: reason))
            }
        }
        if taken.isEmpty, invalid.isEmpty { return nextOfWaiting(rowsMax) }
        return piece(taken, rows: taken.count + invalid.count, invalid, bytes)
    }

    private static let pieceBytesMax = 8 << 20

    private mutating func nextOfWaiting(_ rowsMax: Int) -> ImportPiece? {
        guard isEnd, !waiting.isEmpty else { return nil }
        isLast = true
        let now = waiting.prefix(rowsMax)
        waiting.removeFirst(now.count)
        let bytes = Dictionary(now.map { ($0.line.number, $0.bytes) }) { first, _ in first }
        // They were counted when they came first.
        return piece(now.map(\.line), rows: 0, [], bytes)
    }

    private func piece(
        _ lines: [ImportLinesChunk.Line],
        rows: Int,
        _ invalid: [ImportChunk.Problem],
        _ bytes: [Int: [UInt8]]
    ) -> ImportPiece {
        let chunk = ImportLinesChunk(
            lines: lines,
            organisation: origin.organisation,
            exportedAt: origin.milliseconds,
            isLast: isLast,
            isDryRun: isDryRun,
            language: language,
            source: description,
            tellsResults: tellsResults
        )
        return ImportPiece(
            rows: rows,
            invalid: invalid,
            warnings: [],
            bytesRead: bytesRead,
            send: { batch, node in
                var chunk = chunk
                chunk.batch = batch
                return try await node.ask(chunk)
            },
            content: .lines(bytes)
        )
    }

    mutating func took(_ problems: [ImportChunk.Problem], of piece: ImportPiece) throws -> [ImportChunk.Problem] {
        guard case .lines(let bytes) = piece.content else { return problems }
        var left: [ImportChunk.Problem] = []
        for problem in problems {
            guard let line = bytes[problem.line] else { continue }
            if problem.reason == ImportLinesChunk.waits, !isLast, waiting.count < Self.waitingMax,
                let read = try? ImportLinesChunk.Line(number: problem.line, bytes: line)
            {
                waiting.append((read, line))
                continue
            }
            var problem = problem
            if problem.reason == ImportLinesChunk.waits {
                problem = ImportChunk.Problem(
                    line: problem.line,
                    column: problem.column,
                    value: problem.value,
                    reason: Words(language).noSuchRow(problem.column ?? "")
                )
            }
            try rejects?.write(line + [UInt8(ascii: "\n")])
            left.append(problem)
        }
        return left
    }
}

/// The first line of a file that `export` has written: whose rows follow, and from when.
struct ExportHeader: Codable, Hashable, Sendable {
    var op = Self.operation
    /// In hexadecimal digits; empty for rows of nobody knows whom.
    var organisation = ""
    /// RFC 3339.
    var exportedAt = ""

    static let operation = "export"

    init() {}

    init(organisation: [UInt8]?, milliseconds: UInt64) {
        self.organisation = (organisation ?? []).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        exportedAt = CivilTime.rfc3339(ofMilliseconds: Int64(clamping: milliseconds)) ?? ""
    }

    /// Nil for any other line.
    init?(line: [UInt8]) {
        guard let read = try? JSONDecoder().decode(ExportHeader.self, from: Data(line)), read.op == Self.operation
        else {
            return nil
        }
        self = read
    }

    var milliseconds: UInt64? { CivilTime.milliseconds(ofRFC3339: exportedAt).map { UInt64(clamping: $0) } }
}
