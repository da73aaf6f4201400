import ArgumentParser
import CRM
import Foundation
import ReplicaStore

/// `import`: rows out of files, and back.
struct ImportCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Take rows from a file, or take an import back.",
        discussion: """
            `import FILE --as customers` takes the rows of a file. The same file again changes nothing; `import undo` takes \
            its rows back. A file that is called like one of the subcommands is written with its directory: `./undo`.
            """,
        subcommands: [ImportFileCommand.self, ListImportsCommand.self, ShowImportCommand.self, UndoImportCommand.self],
        defaultSubcommand: ImportFileCommand.self
    )
}

/// `import FILE --as customers|activities|orders`
private struct ImportFileCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "file",
        abstract: "Take rows from a file. The same file again changes nothing."
    )

    @OptionGroup var node: NodeOptions
    @Argument(
        help: """
            A CSV file (UTF-8 or Windows-1256; comma, semicolon or tab; with a header line), a spreadsheet (.xlsx), vCards, \
            an iCalendar file, or JSON lines as `export` writes them.
            """
    )
    var file: String
    @Option(name: .customLong("as"), help: "customers, activities or orders; needed for CSV and spreadsheets.")
    var target: ImportTarget?
    @Option(
        help: ArgumentHelp("Which column fills which field: TOML, or lines field=Header.", valueName: "file")
    )
    var map: String?
    @Flag(help: "Tell what would happen, with the values that would change, and write nothing.") var dryRun = false
    @Option(
        help: ArgumentHelp(
            "Write the rows that were not taken here, with the reason, to be mended and imported.",
            valueName: "file"
        )
    )
    var errors: String?
    @Option(
        help: ArgumentHelp("Write what became of each row here, one JSON object a line.", valueName: "file")
    )
    var results: String?

    func run(_ session: CommandSession) async throws {
        let context = try await session.ask(ImportContext())
        let importing = Importing(
            file: file,
            target: target,
            map: map,
            isDryRun: dryRun,
            errors: errors,
            results: results,
            context: context,
            output: session.output,
            node: session
        )
        let summary = try await importing.run()
        try session.output.result(summary, text: session.words.imported(summary, session.output.style))
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

extension ImportTarget: ExpressibleByArgument {
    init?(argument: String) {
        // Everything is what a file of JSON lines holds; nobody asks for it.
        guard let target = ImportTarget(rawValue: argument), target != .everything else { return nil }
        self = target
    }

    static var allValueStrings: [String] { allCases.filter { $0 != .everything }.map(\.rawValue) }
}

/// `import list`
private struct ListImportsCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "The files that rows were taken from, the newest first."
    )

    @OptionGroup var node: NodeOptions
    @OptionGroup var list: ListLimit

    func run(_ session: CommandSession) async throws {
        let imports = try await session.ask(ListImports(limit: list.limit))
        try session.output.result(["imports": imports], text: session.words.imports(imports, session.output.style))
    }
}

/// `import show BATCH`
private struct ShowImportCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract:
            "What the file wrote where something else is stored: numbers, codes and days as they were written there.",
        discussion: "Known at the node that has imported, until the import is taken back or the person erased."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "The import: its id, as `import` and `import list` print it.") var batch: String
    @OptionGroup var list: ListLimit

    func run(_ session: CommandSession) async throws {
        let shown = try await session.ask(ShowImport(batch: batch, limit: list.limit))
        try session.output.result(shown, text: session.words.originals(shown, session.output.style))
    }
}

/// `import undo BATCH`
private struct UndoImportCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "undo",
        abstract:
            "Take an import back: its rows are deleted, its edits reverted, unless somebody has edited them since.",
        discussion: """
            What was edited since stays and is listed, and so do rows that others refer to by now. Only the node that has \
            imported can take it back.
            """
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "The import: its id, as `import` and `import list` print it.") var batch: String
    @Flag(help: "Tell what would happen, and write nothing.") var dryRun = false

    func run(_ session: CommandSession) async throws {
        let undone = try await session.askLong(
            UndoImport(batch: batch, isDryRun: dryRun),
            session.words.takingBack
        )
        try session.output.result(undone, text: session.words.undone(undone, session.output.style))
    }
}
