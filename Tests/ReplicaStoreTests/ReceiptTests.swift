import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit
import Testing

@testable import ReplicaStore

@Suite("Receipts")
struct ReceiptTests {
    @Test("After a session the branch holds head office's signed word for all its work")
    func confirmed() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        try branch.add(["name": .text("مریم")])
        try branch.add(["name": .text("علی")])
        #expect(try !branch.replica.ownReceipt().isReplaceable)
        #expect(try branch.replica.ownReceipt().ahead?.changeSets == 2)
        hub.wallMilliseconds = 1_800_000_123_000
        try branch.sync(with: hub)

        let receipt = try branch.replica.ownReceipt()
        #expect(receipt.isReplaceable)
        let confirmed = try #require(receipt.confirmed)
        #expect(confirmed.statement.seq == 2)
        #expect(confirmed.statement.safeSeq == 0)
        #expect(confirmed.statement.sinceMilliseconds == 1_800_000_123_000)
        #expect(confirmed.statement.node.bytes == branch.replica.node.node)
        let own = try branch.replica.withWriterState { $0.vector[branch.replica.node.origin]?.chain }
        #expect(confirmed.statement.chain == own)
        let key = try hub.replica.read { try OrganisationKey.read($0.db) }
        #expect(key?.hasSigned(confirmed.signed.statement, signature: confirmed.signed.signature) == true)
        #expect(try hub.replica.receipt(ofNode: "isfahan")?.confirmed?.statement.seq == 2)
    }

    @Test("What was written since, also by another program, exists only here")
    func ahead() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        let id = try branch.add(["name": .text("مریم")])
        try branch.sync(with: hub)
        try branch.otherProgram { try $0.execute(sql: "UPDATE customer SET city = 'یزد' WHERE id = \(id.rawValue)") }
        #expect(try branch.replica.ownReceipt().ahead == .init(changeSets: 0, rows: 0, unsealedRows: 1))
        #expect(try !branch.replica.ownReceipt().isReplaceable)
        try branch.replica.sealForeignWrites()
        #expect(try branch.replica.ownReceipt().ahead == .init(changeSets: 1, rows: 1, unsealedRows: 0))
        try branch.sync(with: hub)
        #expect(try branch.replica.ownReceipt().isReplaceable)
    }

    @Test("A session with nothing new asks for no receipt; a new backup of head office brings one")
    func refreshed() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        try branch.add(["name": .text("مریم")])
        try branch.sync(with: hub)
        // The stubs of its own work come before the backup does.
        try branch.sync(with: hub)
        let first = try branch.replica.ownReceipt().confirmed
        hub.wallMilliseconds += 60_000
        try branch.sync(with: hub)
        #expect(try branch.replica.ownReceipt().confirmed == first)

        let end = try hub.replica.withWriterState { $0.end.position }
        for office in [hub, branch] {
            try office.replica.withWriter { writer in
                try writer.transaction { try writer.note(.safePosition, Int64(end)) }
            }
        }
        try branch.sync(with: hub)
        #expect(try branch.replica.ownReceipt().confirmed?.statement.safeSeq == 1)
    }

    @Test("A branch that joined before there were keys learns head office's, and believes no other")
    func pinned() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        try branch.replica.withWriter { try $0.db.execute(sql: "DELETE FROM organisationKey") }
        try branch.add(["name": .text("مریم")])
        try branch.sync(with: hub)
        #expect(try branch.replica.ownReceipt().isReplaceable)

        // Made anew when it is needed next.
        try hub.replica.withWriter { try $0.db.execute(sql: "DELETE FROM organisationKey") }
        try branch.add(["name": .text("علی")])
        try branch.sync(with: hub)
        let receipt = try branch.replica.ownReceipt()
        #expect(receipt.confirmed?.statement.seq == 1)
        #expect(receipt.hasForeignKey && !receipt.isReplaceable)
    }

    @Test("A signed receipt for another history than the one here is taken for a fork")
    func contradicted() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        try branch.add(["name": .text("مریم")])
        try branch.sync(with: hub)
        let (statement, key) = try hub.replica.withWriter { writer in
            (
                try #require(try writer.receipt(for: UniqueID(bytes: branch.replica.node.node)!, Origin(rawValue: 2)!))
                    .statement,
                try #require(try OrganisationKey.read(writer.db))
            )
        }
        let forged = ReceiptStatement(
            organisation: statement.organisation,
            node: statement.node,
            origin: statement.origin,
            seq: statement.seq,
            chain: statement.chain.appending(content: UnsafeRawBufferPointer(start: nil, count: 0)),
            sinceMilliseconds: statement.sinceMilliseconds,
            safeSeq: 0
        )
        let signature = try #require(try key.sign(forged.bytes))
        let question = SyncQuestion(kind: QuestionKind.receipt.rawValue, payload: [])
        let answer = SyncAnswer(payload: SignedReceipt(statement: forged.bytes, signature: signature).payload)
        #expect {
            try branch.replica.take(answer, to: question)
        } throws: { error in
            guard case SyncStoreFailure.refused(let refusal) = error else { return false }
            return refusal.code == .forked
        }
        #expect(try branch.replica.ownReceipt().confirmed?.statement.chain == statement.chain)
    }

    @Test("No bytes of a receipt can be changed, cut or added")
    func codec() throws {
        let statement = ReceiptStatement(
            organisation: UniqueID(bytes: [UInt8](repeating: 1, count: 16))!,
            node: UniqueID(bytes: [UInt8](repeating: 2, count: 16))!,
            origin: Origin(rawValue: 17)!,
            seq: 812,
            chain: .empty,
            sinceMilliseconds: 1_800_000_000_000,
            safeSeq: 640
        )
        #expect(try ReceiptStatement(bytes: statement.bytes) == statement)
        for count in 0..<statement.bytes.count {
            #expect(throws: MalformedBytes.self) { try ReceiptStatement(bytes: Array(statement.bytes.prefix(count))) }
        }
        #expect(throws: MalformedBytes.self) { try ReceiptStatement(bytes: statement.bytes + [0]) }
        #expect(SignedReceipt(payload: [UInt8](repeating: 0, count: 64)) == nil)
    }
}

@Suite("What a session costs")
struct SessionCostTests {
    @Test("A session that finds nothing new takes less than 200 bytes, both directions together")
    func nothingNew() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        try branch.add(["name": .text("مریم")])
        try hub.add(["name": .text("علی")])
        try branch.sync(with: hub)
        try branch.sync(with: hub)
        #expect(branch.lastBytes < 200)
        // One round trip, then the comparison and the farewell.
        #expect(branch.lastMessages == 4)
    }
}
