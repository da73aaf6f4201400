import ArgumentParser
import CRM
import Foundation

extension ExportFormat: ExpressibleByArgument {}

/// `export --format F`
struct ExportCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write customers, activities or orders to a file that other programs read.",
        discussion: """
            CSV is UTF-8 with a byte order mark; a text that a program for tables would take for a formula gets an apostrophe, \
            which an import takes away again. A file of rows that was changed elsewhere can be imported: what somebody has \
            edited here since the export stays. JSON lines hold everything, decisions about records included. Each export is on \
            record in the audit log.
            """
    )

    @OptionGroup var node: NodeOptions
    @Option(help: "csv, xlsx, jsonl, vcard or ics.") var format: ExportFormat
    @Option(name: .customLong("as"), help: "customers, activities or orders.") var target: ImportTarget?
    @Option(help: ArgumentHelp("Where to; standard output if it is left out.", valueName: "file")) var output: String?
    @Flag(help: "vCard: version 3.0, for older address books.") var version3 = false
    @Flag(help: "vCard: with national codes and legal ids.") var codes = false
    @Option(help: "Only one customer, with all its records: an id, national code or mobile number.") var customer:
        String?

    func check(_ words: Words) throws {
        if let only, let target, target != only { throw CommandFailure(.usage, words.wrongTarget(only)) }
        if format == .xlsx, output == nil, Terminal.isTerminal(.output) {
            throw CommandFailure(.usage, words.sheetNeedsFile)
        }
        if format != .vcard, version3 || codes {
            throw CommandFailure(.usage, "--version3 and --codes belong to --format vcard.")
        }
    }

    /// What the format holds, if it holds one thing.
    private var only: ImportTarget? {
        switch format {
        case .csv, .xlsx: nil
        case .jsonl: .everything
        case .vcard: .customers
        case .ics: .activities
        }
    }

    func run(_ session: CommandSession) async throws {
        let request = ExportRows(
            format: format,
            target: only ?? target ?? .customers,
            customer: customer,
            language: session.output.language,
            includesCodes: codes,
            isVersionThree: version3
        )
        if format == .xlsx { return try await writeSheet(request, session) }
        guard let path = output else {
            _ = try await session.connection.perform(request) { report in
                if let bytes = report.output { try session.output.print(bytes: bytes) }
            }
            return
        }
        let file = try NewFile(path, session.words)
        let rows = try await session.writing(request) { try file.write($0) }
        try file.close()
        try session.output.result(Exported(rows: rows, file: path), text: session.words.exported(rows, path))
    }

    private func writeSheet(_ request: ExportRows, _ session: CommandSession) async throws {
        guard let path = output, NewFile.isReplaced(path) else {
            // Such a file is put together at its end, so it cannot go out as it comes.
            let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
            try FileManager.default.createDirectory(
                at: directory,
                withIntermediateDirectories: false,
                attributes: [.posixPermissions: 0o700]
            )
            defer { try? FileManager.default.removeItem(at: directory) }
            let path = directory.appendingPathComponent("export.xlsx").path
            _ = try await writeSheet(request, to: path, session)
            guard let file = FileHandle(forReadingAtPath: path) else {
                throw CommandFailure(.failed, session.words.cannotRead(path))
            }
            let target = try output.map { try NewFile($0, session.words) }
            while let chunk = try file.read(upToCount: 1 << 20), !chunk.isEmpty {
                if let target {
                    try target.write([UInt8](chunk))
                } else {
                    try session.output.print(bytes: [UInt8](chunk))
                }
            }
            try target?.close()
            return
        }
        let rows = try await writeSheet(request, to: path, session)
        try session.output.result(Exported(rows: rows, file: path), text: session.words.exported(rows, path))
    }

    private func writeSheet(_ request: ExportRows, to path: String, _ session: CommandSession) async throws -> Int {
        var sheet = SheetExport(request.target, path: path, words: session.words)
        let rows = try await session.writing(request) { try sheet.take($0) }
        try sheet.close()
        return rows
    }
}

/// What was written.
private struct Exported: Encodable {
    let rows: Int
    let file: String
}

extension CommandSession {
    /// Has rows written, and shows how far that is.
    fileprivate func writing(_ request: ExportRows, _ take: ([UInt8]) throws -> Void) async throws -> Int {
        var line = ProgressLine.onStandardError(words.exporting, isPersian: output.language == .fa)
        defer { line.finish() }
        Interruption.watch()
        return try await connection.perform(request) { report in
            try Interruption.check()
            if let bytes = report.output { try take(bytes) }
            line.update(count: report.count, total: report.total)
        }.rows
    }
}
