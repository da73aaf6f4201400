import CRM
import Causality
import Foundation
import ReplicaStore
import TestKit

@testable import peyvand

/// A node in a test: requests on a real replica in a temporary directory, at a fixed time.
final class TestNode: Sendable {
    let service: NodeService
    private let home: TemporaryDirectory

    var directory: String { home.path }

    init() throws {
        let home = TemporaryDirectory()
        self.home = home
        let wallClock: @Sendable () -> UInt64 = { 1_795_317_330_123 }
        let replica = try Replica.create(
            home.path + "/node",
            node: LocalNode(
                node: [UInt8](repeating: 1, count: 16),
                nodeKey: [UInt8](repeating: 2, count: 32),
                role: .headOffice,
                name: "tehran-hq",
                organisation: [UInt8](repeating: 3, count: 16),
                origin: Origin(rawValue: 1) ?? .none
            ),
            wallClock: wallClock
        )
        try replica.completeHeadOffice()
        service = NodeService(replica: replica, wallClock: wallClock)
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
        as target: ImportTarget,
        isDryRun: Bool = false,
        errors: String? = nil,
        map: String? = nil
    ) async throws -> ImportSummary {
        let service = service
        let importing = Importing(
            file: path,
            target: target,
            map: map,
            isDryRun: isDryRun,
            errors: errors,
            output: Output(isJSON: true, language: .en)
        ) { chunk in try chunk.perform(in: service) { _ in } }
        return try await importing.run()
    }
}
