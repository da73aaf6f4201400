import ArgumentParser
import Foundation
import ReplicaStore

/// Carries change sets and rows by file, for branches without a line.
struct BundleCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bundle",
        abstract: "Carry changes by file, for a branch whose line is slow or missing.",
        discussion: """
            A bundle is signed by who writes it, and only the node that it is for can open it. It holds what that node is \
            not known to have, and says what came back: bundles may be lost, read twice, or in any order.
            """,
        subcommands: [Write.self, Read.self]
    )

    struct Write: SessionCommand {
        static let configuration = CommandConfiguration(abstract: "Write what another node lacks into a file.")

        @Argument(help: "The file.") var file: String

        @Option(name: .customLong("for"), help: ArgumentHelp("Head office: for which branch.", valueName: "node"))
        var receiver: String?

        @Flag(help: "Head office: all rows, as a new or returning branch loads them; any branch can read them.")
        var snapshot = false

        @OptionGroup var node: NodeOptions

        func run(_ session: CommandSession) async throws {
            let path = BundleCommand.absolute(file)
            guard snapshot else {
                let label = session.words.choose("Writing changes", "نوشتن تغییرها")
                let done = try await session.askLong(WriteBundle(path: path, receiver: receiver), label)
                return try session.output.result(done, text: session.words.wroteBundle(done))
            }
            let label = session.words.choose("Writing rows", "نوشتن ردیف‌ها")
            let done = try await session.askLong(WriteSnapshotFile(path: path), label)
            try session.output.result(done, text: session.words.wroteSnapshot(done))
        }
    }

    struct Read: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take what another node has written into a file. Reading again goes on."
        )

        @Argument(help: "The file.") var file: String
        @OptionGroup var node: NodeOptions

        func run(_ session: CommandSession) async throws {
            let path = BundleCommand.absolute(file)
            if Replica.isBundle(path) {
                let label = session.words.choose("Taking changes", "گرفتن تغییرها")
                let done = try await session.askLong(ReadBundle(path: path), label)
                return try session.output.result(done, text: session.words.readBundle(done))
            }
            let label = session.words.choose("Loading rows", "بارگذاری ردیف‌ها")
            let done = try await session.askLong(ReadSnapshotFile(path: path), label)
            try session.output.result(done, text: session.words.readSnapshot(done))
        }
    }

    private static func absolute(_ path: String) -> String {
        path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
    }
}
