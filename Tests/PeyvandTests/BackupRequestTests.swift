import Foundation
import ReplicaStore
import Testing

@testable import peyvand

/// Backups as commands ask for them.
@Suite("Backup requests")
struct BackupRequestTests {
    @Test("A backup through the node can be restored, and no file is overwritten")
    func backup() throws {
        let node = try TestNode()
        let customer = try node.addCustomer(["name": "مریم"])
        let file = node.directory + "/backup.db"
        let printed = try node.ask(MakeBackup(file: file))
        #expect(printed.rows == 2)
        #expect(printed.role == "head-office")
        #expect {
            try node.ask(MakeBackup(file: file))
        } throws: { ($0 as? CommandFailure)?.exit == .refused }

        let directory = node.directory + "/restored"
        let clock = NodeClock(wallClock: { 1_795_317_330_123 })
        let report = try Replica.restore(file, to: directory, replacing: false, older: false, clock: clock)
        #expect(report.origin > report.formerOrigin)
        let restored = try Replica.open(directory, clock: clock)
        let service = NodeService(replica: restored) { 1_795_317_330_123 }
        let view = try ShowCustomer(customer: customer).perform(in: service) { _ in }
        #expect(view.name == "مریم")
    }

    @Test("A number that nothing had before is nobody's former number")
    func noFormerNumber() throws {
        let node = try TestNode()
        let customer = try node.addCustomer(["name": "مریم"])
        #expect(try node.ask(FormerNumber(table: "customer", row: customer)).isEmpty)
    }
}
