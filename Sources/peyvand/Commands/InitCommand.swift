import ArgumentParser
import Causality
import Foundation
import Logging
import ReplicaStore
import SyncProtocol
import SyncTransport

/// Makes a node.
struct InitCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init",
        abstract: "Make a node: head office, or a branch that joins with an invitation."
    )

    enum Role: String, ExpressibleByArgument, CaseIterable {
        case headOffice = "head-office"
        case branch
    }

    struct Reply: Encodable {
        let id: String
        let name: String
        let role: String
        let origin: UInt32
        let directory: String
        let sync: PrintedSync?
    }

    @Option(help: "head-office or branch.")
    var role: Role

    @Option(help: "Head office: what the node is called.")
    var name: String?

    @Option(help: ArgumentHelp("Branch: the line that head office's `enroll` printed.", valueName: "invitation"))
    var join: String?

    @Flag(help: "Branch: join only; the rows come by `bundle read` or `sync`.")
    var withoutLoad = false

    @Option(help: ArgumentHelp("Head office: where it listens for branches.", valueName: "host:port"))
    var listen: String?

    @Option(
        help: ArgumentHelp("Head office: the address that invitations name, if it is another.", valueName: "host:port")
    )
    var advertise: String?

    @Option(help: ArgumentHelp("Where the console will listen.", valueName: "host:port"))
    var console: String?

    @OptionGroup var options: NodeOptions

    func run() async throws {
        let settings = try options.settings()
        let output = try options.output(settings)
        switch role {
        case .headOffice: try makeHeadOffice(settings, output)
        case .branch: try await joinAsBranch(settings, output)
        }
    }

    // MARK: Head office

    private func makeHeadOffice(_ settings: Settings, _ output: Output) throws {
        guard join == nil else {
            throw CommandFailure(.usage, "--join is for branches. Head office takes --name.")
        }
        guard let name else { throw CommandFailure(.usage, "Head office needs a --name.") }
        guard Invitation.isName(name) else {
            throw CommandFailure(.usage, EnrolmentFailure.badName(name).description)
        }
        for address in [listen, advertise, console].compactMap({ $0 }) where NodeAddress(address) == nil {
            throw CommandFailure(.usage, "\"\(address)\" is not an address. Write it as 127.0.0.1:7443.")
        }
        let node = LocalNode(
            node: randomBytes(UniqueID.byteCount),
            nodeKey: randomBytes(Key256.byteCount),
            role: .headOffice,
            name: name,
            organisation: randomBytes(UniqueID.byteCount),
            origin: Origin(rawValue: 1) ?? .none
        )
        let replica = try Replica.create(settings.directory, node: node, clock: settings.clock())
        try replica.completeHeadOffice()
        try replica.prepareAuthority()
        try replica.close()
        try settings.write([.listen: listen, .advertise: advertise, .console: console])
        let reply = Reply(
            id: hexadecimal(node.node),
            name: name,
            role: node.role.rawValue,
            origin: node.origin.rawValue,
            directory: settings.directory,
            sync: nil
        )
        try output.result(reply, text: output.words.madeHeadOffice(name, settings.directory))
    }

    // MARK: Branch

    private func joinAsBranch(_ settings: Settings, _ output: Output) async throws {
        guard let join else { throw CommandFailure(.usage, "A branch needs --join and its invitation.") }
        guard name == nil else {
            throw CommandFailure(.usage, "A branch takes its name from the invitation; leave --name out.")
        }
        guard let invitation = Invitation(line: join), let hub = NodeAddress(invitation.address) else {
            throw CommandFailure(
                .usage,
                "The invitation is not whole. Copy the whole line that `peyvand enroll` has printed."
            )
        }
        let replica = try openOrCreate(settings, invitation)
        // An earlier attempt may have had an invitation with another address.
        try replica.moveHub(to: invitation.address)
        let logger = Logger(label: "peyvand.init") { _ in SwiftLogNoOpLogHandler() }
        if !replica.node.isJoined {
            guard let rootKey = invitation.rootKey else {
                throw CommandFailure(
                    .refused,
                    "This invitation does not say whom to believe. Ask head office for a new one (`peyvand enroll NAME`)."
                )
            }
            do {
                let joined = try await SyncClient.join(
                    at: hub,
                    rootKey: rootKey,
                    join: { try replica.join(with: invitation, nonce: $0) },
                    logger: logger
                )
                try await replica.completeJoin(joined, with: invitation)
            } catch let failure as SyncFailure {
                throw Self.failure(of: failure)
            }
        }
        Interruption.watch()
        let sync =
            withoutLoad ? nil : try await SyncCommand.exchange(replica, with: hub, timeout: nil, output)
        let node = replica.node
        try replica.close()
        try settings.write([.console: console])
        let reply = Reply(
            id: hexadecimal(node.node),
            name: node.name,
            role: node.role.rawValue,
            origin: node.origin.rawValue,
            directory: settings.directory,
            sync: sync
        )
        try output.result(
            reply,
            text: sync.map { output.words.joined(node, $0) } ?? output.words.joinedWithoutLoad(node.name)
        )
        if let sync, sync.exitStatus != .done { throw ExitCode(sync.exitStatus.rawValue) }
    }

    /// A new replica, or the one of an attempt that was cut off.
    private func openOrCreate(_ settings: Settings, _ invitation: Invitation) throws -> Replica {
        let clock = try settings.clock()
        guard Replica.exists(in: settings.directory) else {
            let node = LocalNode(
                node: randomBytes(UniqueID.byteCount),
                nodeKey: randomBytes(Key256.byteCount),
                role: .branch,
                name: invitation.name,
                organisation: nil,
                origin: .none,
                hub: LocalNode.Hub(address: invitation.address)
            )
            return try Replica.create(settings.directory, node: node, clock: clock)
        }
        let replica = try Replica.open(settings.directory, clock: clock)
        let node = replica.node
        let isComplete = try replica.status().provedEqualAt != nil
        // A node that nobody has let in is nothing yet, whatever it was to be called.
        guard node.role == .branch, !node.isJoined || node.name == invitation.name, !isComplete else {
            try replica.close()
            throw StoreFailure.nodeExists(directory: settings.directory)
        }
        return replica
    }

    /// Where a failed join stands among the exits.
    static func failure(of failure: SyncFailure) -> CommandFailure {
        switch failure {
        case .refused(let refusal): return CommandFailure(.refused, refusal.sentence)
        case .refusedPeer:
            return CommandFailure(
                .refused,
                "The head office at this address is not the one that has made the invitation. Check the address; do not "
                    + "join if somebody else has sent you the line."
            )
        default: break
        }
        return CommandFailure(.failed, failure.description)
    }
}
