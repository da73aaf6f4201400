import CRM
import Causality
import Foundation
import ReplicaStore
import SyncProtocol
import Synchronization
import TestKit

@testable import peyvand

/// A node in a test: requests on a real replica in a temporary directory, at a time that the test lets pass.
final class TestNode: Sendable {
    let service: NodeService
    private let home: TemporaryDirectory
    /// One for a head office and all its branches.
    private let clock: TestClock

    var directory: String { home.path }

    /// Makes a head office of an organisation.
    init(organisation: UInt8 = 3) throws {
        let home = TemporaryDirectory()
        self.home = home
        let clock = TestClock()
        self.clock = clock
        let wallClock: @Sendable () -> UInt64 = { clock.milliseconds }
        let replica = try Replica.create(
            home.path + "/node",
            node: LocalNode(
                node: [UInt8](repeating: 1, count: 16),
                nodeKey: [UInt8](repeating: 2, count: 32),
                role: .headOffice,
                name: "tehran-hq",
                organisation: [UInt8](repeating: organisation, count: 16),
                origin: Origin(rawValue: 1) ?? .none
            ),
            wallClock: wallClock
        )
        try replica.completeHeadOffice()
        service = NodeService(replica: replica, wallClock: wallClock)
    }

    /// Makes a branch that has joined.
    init(branch name: String, of hub: TestNode) throws {
        let home = TemporaryDirectory()
        self.home = home
        let clock = hub.clock
        self.clock = clock
        let wallClock: @Sendable () -> UInt64 = { clock.milliseconds }
        let random: (Int) -> [UInt8] = { count in (0..<count).map { _ in UInt8.random(in: 0...255) } }
        let identity = (node: random(16), key: random(32))
        let replica = try Replica.create(
            home.path + "/node",
            node: LocalNode(
                node: identity.node,
                nodeKey: identity.key,
                role: .branch,
                name: name,
                organisation: nil,
                origin: .none,
                hub: LocalNode.Hub(address: "127.0.0.1:1")
            ),
            wallClock: wallClock
        )
        let invitation = try hub.service.replica.invite(
            name,
            address: "127.0.0.1:1",
            lifetimeSeconds: 3600,
            randomBytes: random
        )
        try replica.join(hub.service.replica, with: invitation)
        service = NodeService(replica: replica, wallClock: wallClock)
    }

    /// Lets time pass, here and at every node that joined.
    func pass(milliseconds: UInt64) { clock.pass(milliseconds) }

    /// Exchanges everything with head office, over a line in memory.
    func sync(with hub: TestNode) throws {
        var random = SeededRandom(seed: 1)
        for _ in 0..<8 {
            var conversation = Conversation(child: service.replica, hub: hub.service.replica)
            guard let failure = conversation.run(&random)[0] else { return }
            guard failure == .reconnecting else { throw failure }
        }
    }

    /// Performs a request here.
    @discardableResult
    func ask<Request: NodeRequest>(_ request: Request) throws -> Request.Reply {
        try request.perform(in: service) { _ in }
    }

    /// Records a customer.
    func addCustomer(_ fields: [String: String]) throws -> String {
        try ask(AddRow(table: "customer", fields: fields.mapValues(FieldInput.text))).id
    }

    /// The canonical dump.
    func dump() throws -> String {
        var text = ""
        _ = try Dump().perform(in: service) { text += String(decoding: $0.output ?? [], as: UTF8.self) }
        return text
    }

    /// Writes a file beside the node and returns its path.
    func file(_ name: String, _ content: some DataProtocol) throws -> String {
        let path = home.path + "/" + name
        try Data(content).write(to: URL(fileURLWithPath: path))
        return path
    }

    /// Imports a file.
    func importing(
        _ path: String,
        as target: ImportTarget?,
        isDryRun: Bool = false,
        errors: String? = nil,
        results: String? = nil,
        map: String? = nil,
        node: (any RequestPerformer)? = nil
    ) async throws -> ImportSummary {
        let importing = try Importing(
            file: path,
            target: target,
            map: map,
            isDryRun: isDryRun,
            errors: errors,
            results: results,
            context: ask(ImportContext()),
            output: Output(isJSON: true, language: .en),
            node: node ?? Asking(service: service)
        )
        return try await importing.run()
    }

    /// Performs requests in this process.
    struct Asking: RequestPerformer {
        let service: NodeService

        func ask<Request: NodeRequest>(_ request: Request) async throws -> Request.Reply {
            try request.perform(in: service) { _ in }
        }
    }

    /// What an export writes.
    func export(
        _ format: ExportFormat,
        _ target: ImportTarget,
        customer: String? = nil,
        language: Language = .en
    ) throws -> [UInt8] {
        var bytes: [UInt8] = []
        let request = ExportRows(format: format, target: target, customer: customer, language: language)
        _ = try request.perform(in: service) { bytes += $0.output ?? [] }
        return bytes
    }
}

/// The time of all nodes of a test.
private final class TestClock: Sendable {
    private let now = Mutex<UInt64>(1_795_317_330_123)

    var milliseconds: UInt64 { now.withLock { $0 } }

    func pass(_ milliseconds: UInt64) { now.withLock { $0 += milliseconds } }
}
