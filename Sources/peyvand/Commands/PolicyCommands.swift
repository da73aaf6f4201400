import ArgumentParser
import CRM
import Foundation
import TOMLKit

/// `policy`: what branches may write.
struct PolicyCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy",
        abstract: "Head office: what branches may write. What they write beyond it is put back, and listed.",
        subcommands: [ShowPolicyCommand.self, SetPolicyCommand.self, ListVoidedCommand.self],
        defaultSubcommand: ShowPolicyCommand.self
    )
}

/// `policy show`
private struct ShowPolicyCommand: SessionCommand {
    static let configuration = CommandConfiguration(commandName: "show", abstract: "The rules in force.")

    @OptionGroup var node: NodeOptions

    func run(_ session: CommandSession) async throws {
        let policy = try await session.ask(ShowPolicy())
        try session.output.result(policy, text: session.words.policy(policy, session.output.style))
    }
}

/// `policy set FILE`
private struct SetPolicyCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "set",
        abstract: "Let other rules be in force.",
        discussion: """
            FILE is TOML: any number of [[rule]], each with nodes, tables, columns and verbs (create, edit, delete) that it \
            speaks of, all of them if it does not say, and scope: own-branch, own-region, all or none. The first rule that \
            speaks of a write decides; what no rule speaks of is allowed. A row belongs to the branch that it names, else to \
            that of its customer, else to the one that made it; both the row before and the row after count.
            """
    )

    @OptionGroup var node: NodeOptions
    @Argument(help: "A file of rules.") var file: String
    @Option(help: "Only if this version is in force now; 0 for none.") var version: UInt64?

    func run(_ session: CommandSession) async throws {
        let reply = try await session.ask(SetPolicy(policy: try read(), expected: version))
        try session.output.result(reply, text: session.words.policySet(reply.version))
    }

    private func read() throws -> WritePolicy {
        guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
            throw CommandFailure(.failed, "\(file) cannot be read as UTF-8 text. Check its name, owner and contents.")
        }
        do {
            return try TOMLDecoder(strictDecoding: true).decode(WritePolicy.self, from: text)
        } catch let error as TOMLParseError {
            throw CommandFailure(.failed, "\(file) is not valid TOML, \(error.source.debugDescription).")
        } catch {
            throw CommandFailure(
                .failed,
                "\(file) is no list of rules. A [[rule]] has scope, one of "
                    + WritePolicy.Scope.allCases.map(\.rawValue).joined(separator: ", ")
                    + ", and may have nodes, tables, columns and verbs, which are lists."
            )
        }
    }
}

/// `policy void`
private struct ListVoidedCommand: SessionCommand {
    static let configuration = CommandConfiguration(
        commandName: "void",
        abstract: "What branches wrote and may not, the newest first."
    )

    @OptionGroup var node: NodeOptions
    @OptionGroup var list: ListLimit

    func run(_ session: CommandSession) async throws {
        let rows = try await session.ask(ListVoided(limit: list.limit))
        try session.output.result(["void": rows], text: session.words.voided(rows, session.output.style))
    }
}
