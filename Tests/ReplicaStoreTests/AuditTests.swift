import CRM
import Causality
import GRDB
import SyncProtocol
import Testing

@testable import ReplicaStore

@Suite("Who did what")
struct AuditTests {
    private let hub: Office
    private let branch: Office

    init() throws {
        hub = try Office.headOffice()
        branch = try Office.branch("isfahan", of: hub)
    }

    private func actions(_ office: Office) throws -> [String] {
        try office.replica.auditEntries(limit: 100).reversed().map { "\($0.action) \($0.object)" }
    }

    /// Changes the log of a copy of head office's file as somebody would who has the machine, and starts it again.
    private func tampered(_ change: (Database) throws -> Void) throws -> Office {
        let office = try Office(from: hub.copy())
        try office.replica.close()
        try DatabaseQueue(path: office.databasePath).write { db in
            for name in try String.fetchAll(
                db,
                sql: "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'audit%'"
            ) { try db.execute(sql: "DROP TRIGGER \(name)") }
            try change(db)
        }
        return try Office(from: office.copy())
    }

    @Test("Decisions are on record in the order in which they were made, with who made them")
    func decisions() throws {
        try hub.replica.decide(.pause, about: "isfahan")
        try hub.replica.decide(.resume, about: "isfahan")
        try hub.replica.decide(.resume, about: "isfahan")
        let id = try hub.add(["name": .text("مریم")])
        _ = try hub.replica.erase(customer: id)
        _ = try hub.replica.setWritePolicy(WritePolicy(rules: []), after: nil)
        try hub.replica.retire("isfahan")
        #expect(
            try actions(hub) == [
                "node.enroll isfahan", "node.join isfahan", "node.pause isfahan", "node.resume isfahan",
                "node.resume isfahan", "privacy.erase 1 customer", "policy.set version 1", "node.retire isfahan",
            ]
        )
        let entries = try hub.replica.auditEntries(limit: 100)
        #expect(entries.map(\.number) == [8, 7, 6, 5, 4, 3, 2, 1])
        #expect(entries[3].outcome == "unchanged")
        #expect(entries[0].actor == Actor.name)
        #expect(entries[6].actor == "node 2")
        #expect(entries.map(\.policyVersion) == [1, 0, 0, 0, 0, 0, 0, 0])
        Actor.$current.withValue("mehri") {
            #expect(throws: Never.self) { try hub.replica.audit(.export, "customer 1-1") }
        }
        #expect(try hub.replica.auditEntries(limit: 1).first?.actor == "mehri")
        // What a branch may not is refused, and is no entry.
        #expect(throws: (any Error).self) { try branch.replica.retire("x") }
        #expect(try actions(branch).isEmpty)
    }

    @Test("A whole log is whole, and what a branch has met is confirmed by it")
    func whole() throws {
        #expect(try hub.replica.verifyAudit().findings.isEmpty)
        #expect(try hub.replica.verifyAudit().anchoredThrough == 0)
        try branch.sync(with: hub)
        try branch.sync(with: hub)
        let verdict = try hub.replica.verifyAudit()
        #expect(verdict.findings.isEmpty && verdict.entries == 2 && verdict.anchoredThrough == 2)
        try hub.replica.decide(.pause, about: "isfahan")
        let later = try hub.replica.verifyAudit()
        #expect(later.findings.isEmpty && later.entries == 3 && later.anchoredThrough == 2)
    }

    @Test("An entry that was changed, and one that was taken out, are named")
    func edited() throws {
        for decision in [NodeDecision.pause, .resume, .pause] { try hub.replica.decide(decision, about: "isfahan") }
        let changed = try tampered { try $0.execute(sql: "UPDATE audit SET actor = 'nobody' WHERE number = 3") }
        #expect(
            try changed.replica.verifyAudit().findings == [AuditFinding(code: .edited, number: 3, witness: nil)]
        )
        let shorter = try tampered { try $0.execute(sql: "DELETE FROM audit WHERE number = 4") }
        #expect(
            try shorter.replica.verifyAudit().findings == [AuditFinding(code: .missing, number: 4, witness: nil)]
        )
    }

    @Test("A log that was cut at its end, or made anew, shows at the next contact with a branch")
    func cutOrForked() throws {
        try branch.sync(with: hub)
        try hub.replica.decide(.approve, about: "isfahan")
        try branch.sync(with: hub)
        let cut = try tampered { db in
            try db.execute(sql: "DELETE FROM audit WHERE number >= 3")
            try db.execute(sql: "DELETE FROM auditWitness")
        }
        #expect(try cut.replica.verifyAudit().findings.isEmpty)
        try branch.sync(with: cut)
        #expect(
            try cut.replica.verifyAudit().findings == [AuditFinding(code: .cut, number: 3, witness: "isfahan")]
        )
        // Whoever goes on from there makes other entries.
        try cut.replica.decide(.pause, about: "isfahan")
        try cut.replica.decide(.resume, about: "isfahan")
        let verdict = try cut.replica.verifyAudit()
        #expect(verdict.findings == [AuditFinding(code: .forked, number: 3, witness: "isfahan")])
        try branch.sync(with: cut)
        #expect(try branch.replica.verifyAudit().findings.isEmpty)
    }

    @Test("A session after which nothing new is on record costs nothing for it")
    func quiet() throws {
        try branch.sync(with: hub)
        try branch.sync(with: hub)
        try branch.sync(with: hub)
        let bytes = branch.lastBytes
        try branch.sync(with: hub)
        #expect(branch.lastBytes == bytes)
        try hub.replica.audit(.export, "customer 1-1")
        try branch.sync(with: hub)
        #expect(branch.lastBytes > bytes)
    }
}
