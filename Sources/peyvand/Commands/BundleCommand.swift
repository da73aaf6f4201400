import ArgumentParser
import Foundation

/// Carries rows by file, for branches without a line.
struct BundleCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bundle",
        abstract: "Carry rows by file, for a branch whose line is slow or missing.",
        subcommands: [Write.self, Read.self]
    )

    struct Write: SessionCommand {
        static let configuration = CommandConfiguration(abstract: "Head office: write all rows into a file.")

        @Argument(help: "The file.") var file: String

        @Flag(help: "All rows, as a new or returning branch loads them. This version writes nothing else.")
        var snapshot = false

        @OptionGroup var node: NodeOptions

        func check(_ words: Words) throws {
            guard snapshot else {
                throw CommandFailure(
                    .usage,
                    "Add --snapshot: this version writes all rows, and not single change sets."
                )
            }
        }

        func run(_ session: CommandSession) async throws {
            let label = session.words.choose("Writing rows", "نوشتن ردیف‌ها")
            let done = try await session.askLong(WriteSnapshotFile(path: BundleCommand.absolute(file)), label)
            try session.output.result(done, text: session.words.wroteSnapshot(done))
        }
    }

    struct Read: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Branch: take the rows of a file that head office has written. Reading again goes on."
        )

        @Argument(help: "The file.") var file: String
        @OptionGroup var node: NodeOptions

        func run(_ session: CommandSession) async throws {
            let label = session.words.choose("Loading rows", "بارگذاری ردیف‌ها")
            let done = try await session.askLong(ReadSnapshotFile(path: BundleCommand.absolute(file)), label)
            try session.output.result(done, text: session.words.readSnapshot(done))
        }
    }

    private static func absolute(_ path: String) -> String {
        path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
    }
}
