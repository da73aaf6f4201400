import ArgumentParser
import Foundation
import Synchronization

/// A command about a node: it finds the node, asks, prints.
protocol SessionCommand: AsyncParsableCommand {
    var node: NodeOptions { get }

    /// Checks what can be checked without the node.
    ///
    /// - Throws: ``CommandFailure`` with ``ExitStatus/usage``.
    func check(_ words: Words) throws

    /// Does the work. Throws ``CommandFailure``, or anything that one can be made of.
    func run(_ session: CommandSession) async throws
}

extension SessionCommand {
    func check(_ words: Words) throws {}

    func run() async throws {
        let settings = try node.settings()
        let output = try node.output(settings)
        do {
            try check(output.words)
            let connection = try await NodeConnection.open(settings, language: output.language)
            do {
                try await run(CommandSession(settings: settings, output: output, connection: connection))
            } catch {
                try? connection.close()
                throw error
            }
            try connection.close()
        } catch let closed as ClosedOutput {
            throw closed
        } catch let exit as ExitCode {
            throw exit
        } catch {
            throw CommandFailure(error, language: output.language)
        }
    }
}

/// What a command works with while it runs.
struct CommandSession: Sendable {
    let settings: Settings
    let output: Output
    let connection: NodeConnection

    var words: Words { output.words }

    /// Asks the node.
    func ask<Request: NodeRequest>(_ request: Request) async throws -> Request.Reply {
        try await connection.perform(request)
    }

    /// Asks for something that takes long: shows how far it is, and stops between two steps when the person wants it.
    func askLong<Request: NodeRequest>(_ request: Request, _ label: String) async throws -> Request.Reply {
        var line = ProgressLine.onStandardError(label, isPersian: output.language == .fa)
        defer { line.finish() }
        Interruption.watch()
        return try await connection.perform(request) {
            try Interruption.check()
            line.update(count: $0.count, total: $0.total)
        }
    }

    /// Prints what came of writing a row, and what the person should look at again.
    func report(_ written: WrittenRow, _ noun: Noun, text: (Noun, String) -> String) throws {
        try output.result(WrittenDocument(written), text: text(noun, written.id))
        for warning in written.warnings {
            output.message(output.language == .fa ? warning.persian : warning.sentence)
        }
    }
}

/// What came of writing a row, as JSON.
private struct WrittenDocument: Encodable {
    struct Warning: Encodable {
        let field: String
        let sentence: String
    }

    let id: String
    let position: UInt64?
    let warnings: [Warning]

    init(_ written: WrittenRow) {
        id = written.id
        position = written.position
        warnings = written.warnings.map { Warning(field: $0.field, sentence: $0.sentence) }
    }
}

/// A fast way from ^C to a clean end: work looks here between its steps.
enum Interruption {
    /// Notes the next interrupt instead of ending the process; one after it ends the process.
    static func watch() {
        interrupted.store(false, ordering: .relaxed)
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in interrupted.store(true, ordering: .relaxed) }
        action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND))
        sigaction(SIGINT, &action, nil)
        sigaction(SIGTERM, &action, nil)
    }

    /// Whether the person wants the work to end.
    static var isRequested: Bool { interrupted.load(ordering: .relaxed) }

    /// Ends work between two of its steps when the person wants it.
    ///
    /// - Throws: `CancellationError`.
    static func check() throws { if isRequested { throw CancellationError() } }
}

/// Set by the signal handler, which may do nothing more than this, and looked at by whichever thread works.
private let interrupted = Atomic(false)
