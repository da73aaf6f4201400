import ArgumentParser
import Foundation
import ReplicaStore
import SyncTransport

/// The command line.
struct Peyvand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peyvand",
        abstract: "Customers and activities of all branches, with a line or without.",
        subcommands: [
            InitCommand.self, RunCommand.self, SyncCommand.self, StatusCommand.self, FleetCommand.self,
            EnrollCommand.self, NodeCommand.self, VerifyCommand.self, ReceiptCommand.self,
            CustomerCommands.self, ActivityCommands.self, OrderCommands.self, ImportCommands.self, ExportCommand.self,
            WriteCommand.self, DumpCommand.self, LogCommands.self, ConflictCommands.self, WhyCommand.self,
            ParkedCommands.self, PrivacyCommands.self,
            BackupCommand.self, RestoreNodeCommand.self, DrillCommands.self, BundleCommand.self, MetricsCommand.self,
            DoctorCommand.self, AuditCommands.self, PolicyCommands.self, SupportBundleCommand.self,
        ]
    )
}

extension Peyvand {
    /// Says which command there is not: the parser would complain about the options behind it.
    static func unknownCommand(in words: [String]) -> CommandFailure? {
        var known: any ParsableCommand.Type = Peyvand.self
        var path = ""
        for word in words {
            let configuration = known.configuration
            // What stands here then is an argument.
            guard !configuration.subcommands.isEmpty, configuration.defaultSubcommand == nil else { return nil }
            guard !word.hasPrefix("-"), !(path.isEmpty && word == "help") else { return nil }
            if let next = configuration.subcommands.first(where: { $0._commandName == word }) {
                known = next
                path += " " + word
                continue
            }
            let names = configuration.subcommands.map { $0._commandName }.joined(separator: ", ")
            return CommandFailure(.usage, "There is no command \"peyvand\(path) \(word)\". There are: \(names).")
        }
        return nil
    }
}

/// Where the process begins, and where every way of ending it is decided.
@main
enum Main {
    static func main() async {
        // A reader that goes away is noticed when writing, not by dying.
        signal(SIGPIPE, SIG_IGN)
        keepStandardFiles()
        // The replica holds the node's key and everybody's customers: its files are not for everybody.
        umask(umask(0) | 0o027)
        do {
            if let failure = Peyvand.unknownCommand(in: Array(CommandLine.arguments.dropFirst())) { throw failure }
            var command = try Peyvand.parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch let failure as CommandFailure {
            Terminal.write("peyvand: \(failure.sentence)\n", to: .error)
            exit(failure.exit.rawValue)
        } catch let error where error is StoreFailure || error is SyncTransportFailure {
            let failure = CommandFailure(error)
            Terminal.write("peyvand: \(failure.sentence)\n", to: .error)
            exit(failure.exit.rawValue)
        } catch is ClosedOutput {
            // Whoever read it has seen enough, `dump | head` for one.
            exit(ExitStatus.done.rawValue)
        } catch {
            // Help, version, and usage errors, which end with 64.
            Peyvand.exit(withError: error)
        }
    }
    /// Whoever starts this may have closed standard input, output or error. The next file that is opened would
    /// take the number, and messages would be written into it.
    private static func keepStandardFiles() {
        for standard in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] where fcntl(standard, F_GETFD) < 0 {
            // Takes the lowest free number. Nothing can be written to it, so that a result is not lost in silence.
            _ = open("/dev/null", O_RDONLY)
        }
    }
}
