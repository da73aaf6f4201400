import ArgumentParser
import Foundation
import ReplicaStore
import SyncTransport

/// Checks that the rows are what the writes have made them, and what head office has.
struct VerifyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Whether the rows are what they should be. Exit: 0 right, 2 damaged or different, 3 unknown.",
        discussion: """
            Without options it tells what is known: how the last comparison with head office ended, and the last \
            look at every row. --deep reads every row now. --with hub compares with head office now. --repair \
            shows which rows head office would replace, and does so with --yes.
            """
    )

    @OptionGroup var options: NodeOptions

    @Flag(help: "Read every row, and name those that have changed on disk by themselves.")
    var deep = false

    @Option(help: ArgumentHelp("Compare with head office now; the only word is hub.", valueName: "hub"))
    var with: String?

    @Flag(help: "Show which rows head office's would replace.")
    var repair = false

    @Flag(help: "With --repair: do it.")
    var yes = false

    func validate() throws {
        guard with == nil || with == "hub" else { throw ValidationError("--with takes only the word hub.") }
        guard repair || !yes else { throw ValidationError("--yes goes with --repair.") }
    }

    func run() async throws {
        try await Health.report(options) { node, output in
            var found = try await verify(node, output, isDeep: deep || repair)
            if repair || with != nil {
                guard !found.isHeadOffice else {
                    output.message(output.words.headOfficeRepairsAlone)
                    return .red
                }
                let sync = try await compare(node, repairs: repair && yes, output)
                guard sync.result == "ok" || sync.isDifferent else {
                    throw CommandFailure(.failed, output.words.notCompared(sync.reason ?? ""))
                }
                found = try await verify(node, output, isDeep: repair && yes)
            }
            try output.result(found, text: output.words.soundness(found, output.style, isRepair: repair, isDone: yes))
            return found.state
        }
    }

    private func verify(_ node: NodeConnection, _ output: Output, isDeep: Bool) async throws -> PrintedSoundness {
        var line = ProgressLine.onStandardError(
            output.words.choose("Verifying", "بررسی"),
            isPersian: output.language == .fa
        )
        Interruption.watch()
        let found = try await node.perform(VerifyReplica(isDeep: isDeep)) {
            try Interruption.check()
            line.update(count: $0.count, total: $0.total)
        }
        line.finish()
        return found
    }

    /// One session in which head office is asked for its rows.
    private func compare(_ node: NodeConnection, repairs: Bool, _ output: Output) async throws -> PrintedSync {
        guard let replica = node.replica else { return try await node.perform(CompareWithHub(repairs: repairs)) }
        guard let hub = replica.node.hub.flatMap({ NodeAddress($0.address) }), replica.node.isJoined else {
            throw StoreFailure.notJoined
        }
        replica.wish(.compare(repairs: repairs))
        return try await SyncCommand.exchange(replica, with: hub, timeout: nil, output)
    }
}
