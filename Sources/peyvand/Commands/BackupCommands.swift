import ArgumentParser
import Foundation
import ReplicaStore

/// `backup FILE`
struct BackupCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup",
        abstract: "Copy this node's replica to a file, read it again, and check every row. The node goes on meanwhile."
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "The file to make.") var file: String

    func run(_ session: CommandSession) async throws {
        let path = URL(filePath: file).standardizedFileURL.path
        let backup = try await session.askLong(MakeBackup(file: path), session.words.backingUp)
        try session.output.result(backup, text: session.words.backedUp(backup))
    }
}

/// `restore FILE`
struct RestoreNodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Put a backup in the place of a node. The node takes a new number by itself and loses nothing."
    )

    /// `restore --json`.
    struct Document: Encodable {
        let id: String
        let directory: String
        let role: String
        let position: UInt64
        let madeAt: String
        let formerOrigin: UInt32
        let origin: UInt32
        let keptAside: String?
        let missing: UInt64
        /// Change sets of a branch that only the file that was kept aside holds.
        let unsentAside: UInt64
    }

    @OptionGroup var options: NodeOptions
    @Argument(help: "A file that `peyvand backup` made.") var file: String
    @Flag(help: "Replace the node that is there; its file is kept aside.") var force = false
    @Flag(help: "Restore although a newer backup was verified.") var older = false

    func run() async throws {
        let settings = try options.settings()
        let output = try options.output(settings)
        do {
            let report = try Replica.restore(
                file,
                to: settings.directory,
                replacing: force,
                older: older,
                clock: try settings.clock()
            )
            let document = Document(
                id: report.backup.node,
                directory: report.directory,
                role: report.backup.role.rawValue,
                position: report.backup.position,
                madeAt: rfc3339(report.backup.madeAt) ?? "",
                formerOrigin: report.formerOrigin.rawValue,
                origin: report.origin.rawValue,
                keptAside: report.keptAside,
                missing: report.missing,
                unsentAside: report.unsentAside
            )
            try output.result(document, text: output.words.restored(report))
        } catch let failure as BackupFailure {
            throw CommandFailure(failure)
        } catch StoreFailure.inUse(let directory) {
            throw CommandFailure(.refused, output.words.stopBeforeRestoring(directory))
        } catch let closed as ClosedOutput {
            throw closed
        } catch {
            throw CommandFailure(error, language: output.language)
        }
    }
}

/// `drill`
struct DrillCommands: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drill",
        abstract: "Rehearse what must work on a bad day.",
        subcommands: [DrillHubRestore.self]
    )
}

/// `drill hub-restore FILE`
private struct DrillHubRestore: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hub-restore",
        abstract: "Restore a backup into a temporary directory, open it, check every row, and remove it again."
    )

    @OptionGroup var options: NodeOptions
    @Argument(help: "A file that `peyvand backup` made at head office.") var file: String

    /// `drill hub-restore --json`.
    struct Document: Encodable {
        let id: String
        let position: UInt64
        let rows: Int64
        let madeAt: String
        let origin: UInt32
        let milliseconds: Int
        let isRight: Bool
    }

    func run() async throws {
        let settings = try options.settings()
        let output = try options.output(settings)
        let directory = FileManager.default.temporaryDirectory.appending(path: "peyvand-drill-\(UUID().uuidString)")
            .path
        // The copy holds everybody's data, and does not stay behind when the drill is interrupted.
        Interruption.watch()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let begin = ContinuousClock.now
        do {
            let clock = try settings.clock()
            let role = try Replica.checkBackup(file).role
            guard role == .headOffice else { throw CommandFailure(.refused, output.words.notOfHeadOffice(file)) }
            try Interruption.check()
            let report = try Replica.restore(file, to: directory, replacing: false, older: false, clock: clock)
            let replica = try Replica.open(directory, clock: clock)
            let isRight = try replica.verify { _, _ in try Interruption.check() }.allSatisfy(\.isRight)
            try replica.close()
            let document = Document(
                id: report.backup.node,
                position: report.backup.position,
                rows: report.backup.rows,
                madeAt: rfc3339(report.backup.madeAt) ?? "",
                origin: report.origin.rawValue,
                milliseconds: Int((ContinuousClock.now - begin) / .milliseconds(1)),
                isRight: isRight
            )
            try output.result(
                document,
                text: output.words.drilled(report, seconds: Double(document.milliseconds) / 1000, isRight: isRight)
            )
            if !isRight { throw ExitCode(HealthState.red.exitCode) }
        } catch let failure as BackupFailure {
            throw CommandFailure(failure)
        } catch let exit as ExitCode {
            throw exit
        } catch let closed as ClosedOutput {
            throw closed
        } catch {
            throw CommandFailure(error, language: output.language)
        }
    }
}
