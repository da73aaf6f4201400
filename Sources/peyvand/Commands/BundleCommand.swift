import ArgumentParser
import Foundation

/// Carries rows by file, for branches without a line.
struct BundleCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bundle",
        abstract: "Carry rows by file, for a branch whose line is slow or missing.",
        subcommands: [Write.self, Read.self]
    )

    struct Write: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Head office: write all rows into a file.")

        @Argument(help: "The file.")
        var file: String

        @Flag(help: "All rows, as a new or returning branch loads them. This version writes nothing else.")
        var snapshot = false

        @OptionGroup var options: NodeOptions

        func run() async throws {
            guard snapshot else {
                throw CommandFailure(
                    .usage,
                    "Add --snapshot: this version writes all rows, and not single change sets."
                )
            }
            try await BundleCommand.perform(
                options,
                WriteSnapshotFile(path: BundleCommand.absolute(file)),
                label: { $0.choose("Writing rows", "نوشتن ردیف‌ها") },
                text: { $0.wroteSnapshot($1) }
            )
        }
    }

    struct Read: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Branch: take the rows of a file that head office has written. Reading again goes on."
        )

        @Argument(help: "The file.")
        var file: String

        @OptionGroup var options: NodeOptions

        func run() async throws {
            try await BundleCommand.perform(
                options,
                ReadSnapshotFile(path: BundleCommand.absolute(file)),
                label: { $0.choose("Loading rows", "بارگذاری ردیف‌ها") },
                text: { $0.readSnapshot($1) }
            )
        }
    }

    private static func perform<Request: NodeRequest>(
        _ options: NodeOptions,
        _ request: Request,
        label: (Words) -> String,
        text: (Words, PrintedSnapshotFile) -> String
    ) async throws where Request.Reply == PrintedSnapshotFile {
        let settings = try options.settings()
        let output = try options.output(settings)
        let node = try await NodeConnection.open(settings, language: output.language)
        var line = ProgressLine.onStandardError(label(output.words), isPersian: output.language == .fa)
        defer { line.finish() }
        Interruption.watch()
        let done: PrintedSnapshotFile
        do {
            done = try await node.perform(request) {
                try Interruption.check()
                line.update(count: $0.count, total: $0.total)
            }
        } catch is CancellationError {
            try node.close()
            throw CommandFailure(.failed, output.words.stopped)
        }
        try node.close()
        try output.result(done, text: text(output.words, done))
    }

    private static func absolute(_ path: String) -> String {
        path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
    }
}
