import ArgumentParser
import Foundation
import SyncTransport

/// Invites a new node.
struct EnrollCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "enroll",
        abstract: "Head office: invite a new node. Prints the invitation, one line, valid once."
    )

    @Argument(help: "What the new node will be called.")
    var name: String

    @Option(help: ArgumentHelp("How long the invitation is valid: 90m, 24h, 7d.", valueName: "duration"))
    var ttl = "24h"

    @Option(
        help: ArgumentHelp(
            "Where the new node finds head office (default: the setting advertise, else listen).",
            valueName: "host:port"
        )
    )
    var address: String?

    @Flag(help: "The new node waits until `peyvand node approve`, after comparing fingerprints by telephone.")
    var approval = false

    @OptionGroup var options: NodeOptions

    func run() async throws {
        let settings = try options.settings()
        let output = try options.output(settings)
        guard let seconds = Self.seconds(ttl) else {
            throw CommandFailure(.usage, "--ttl \"\(ttl)\" is not a duration. Write it as 90m, 24h or 7d.")
        }
        let chosen = address ?? settings.value(.advertise)
        let address = chosen ?? settings.value(.listen) ?? Settings.listenDefault
        // A running head office that was told a port on its command line knows better than the file.
        guard let place = NodeAddress(address), place.port > 0 || chosen == nil else {
            throw CommandFailure(
                .usage,
                "\"\(address)\" is no address that a branch can call. Give one with --address, such as 127.0.0.1:7443."
            )
        }
        let node = try await NodeConnection.open(settings, language: output.language)
        let reply = try await node.perform(
            Enroll(
                node: name,
                address: address,
                isAddressChosen: chosen != nil,
                seconds: seconds,
                needsApproval: approval
            )
        )
        try node.close()
        try output.result(reply, text: reply.invitation + "\n")
    }

    private static func seconds(_ text: String) -> Int? {
        let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
        guard let unit = text.last.flatMap({ units[$0] }), let number = Int(text.dropLast()), number > 0 else {
            return nil
        }
        let (seconds, overflow) = number.multipliedReportingOverflow(by: unit)
        return overflow ? nil : seconds
    }
}
