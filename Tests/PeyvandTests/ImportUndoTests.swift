import CRM
import Foundation
import ReplicaStore
import TestKit
import Testing

@testable import peyvand

@Suite("Taking an import back")
struct ImportUndoTests {
    private let header = "externalKey,name,mobile,city\n"

    private func undo(_ node: TestNode, _ summary: ImportSummary, isDryRun: Bool = false) throws -> UndoImport.Reply {
        try node.ask(UndoImport(batch: #require(summary.batch), isDryRun: isDryRun))
    }

    @Test("The rows of a file are gone, and its edits are as they were before")
    func all() async throws {
        let node = try TestNode()
        let first = header + "c-1,مریم رضایی,09121234567,اصفهان\n"
        _ = try await node.importing(node.file("1.csv", Data(first.utf8)), as: .customers)
        node.pass(milliseconds: 1000)
        let before = try node.dump().split(separator: "\n").filter { !$0.contains("importBatch\"") }
        let second = header + "c-1,مریم رضایی,09129999999,یزد\nc-2,علی,,\nc-3,رضا,,\n"
        let summary = try await node.importing(node.file("2.csv", Data(second.utf8)), as: .customers)
        #expect(summary.created == 2 && summary.updated == 1)

        let tried = try undo(node, summary, isDryRun: true)
        #expect(tried.deleted == 2 && tried.reverted == 2 && tried.keptCount == 0 && tried.dryRun)
        #expect(try node.ask(ListRows(table: "customer")).count == 3)

        let undone = try undo(node, summary)
        #expect(undone.deleted == 2 && undone.reverted == 2 && undone.kept.isEmpty)
        #expect(try node.dump().split(separator: "\n").filter { !$0.contains("importBatch\"") } == before)
        // Nobody's doing: the file may come again, and so may the rows that were deleted with it.
        let again = try await node.importing(node.file("2.csv", Data(second.utf8)), as: .customers)
        #expect(again.created == 2 && again.updated == 1)
    }

    @Test("What others have edited since stays, and is listed with what they edited")
    func edited() async throws {
        let node = try TestNode()
        _ = try await node.importing(
            node.file("1.csv", Data((header + "c-1,مریم رضایی,09121234567,اصفهان\n").utf8)),
            as: .customers
        )
        let second = header + "c-1,مریم رضایی,09129999999,یزد\nc-2,علی,,\nc-3,رضا,,\nc-4,سارا,,\n"
        let summary = try await node.importing(node.file("2.csv", Data(second.utf8)), as: .customers)
        node.pass(milliseconds: 1000)
        try node.ask(EditRow(table: "customer", row: "1-1", fields: ["city": .text("قم")]))
        try node.ask(EditRow(table: "customer", row: "1-2", fields: ["note": .text("زنگ بزن")]))
        try node.ask(AddRow(table: "activity", fields: ["customer": .text("1-3"), "kind": .text("call")]))

        let undone = try undo(node, summary)
        #expect(undone.deleted == 1 && undone.reverted == 1 && undone.keptCount == 3)
        #expect(undone.kept.map(\.id).sorted() == ["1-1", "1-2", "1-3"])
        #expect(undone.kept.first { $0.id == "1-1" }?.fields == ["city"])
        #expect(undone.kept.first { $0.id == "1-2" }?.fields == ["note"])
        #expect(undone.kept.first { $0.id == "1-3" }?.neededBy == "activity")
        let fields = try node.ask(ShowCustomer(customer: "1-1")).fields
        #expect(fields["city"] == .text("قم") && fields["mobile"] == .text("+989121234567"))
        #expect(try node.ask(ListRows(table: "customer")).map(\.id) == ["1-1", "1-2", "1-3"])
        #expect(try node.ask(ListImports(limit: 9)).map(\.state) == ["undone", "active"])
    }

    @Test("Two imports are taken back one after the other, the later one first")
    func stacked() async throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "مریم رضایی", "externalKey": "c-1"])
        var summaries: [ImportSummary] = []
        for city in ["یزد", "قم"] {
            node.pass(milliseconds: 1000)
            let file = try node.file("\(city).csv", Data("externalKey,city\nc-1,\(city)\n".utf8))
            summaries.append(try await node.importing(file, as: .customers))
        }
        // The city of the first is not there any more, but that of a later import.
        #expect(try undo(node, summaries[0], isDryRun: true).kept.map(\.fields) == [["city"]])
        #expect(try undo(node, summaries[1]).reverted == 1)
        #expect(try node.ask(ShowCustomer(customer: id)).fields["city"] == .text("یزد"))
        #expect(try undo(node, summaries[0]).reverted == 1)
        #expect(try node.ask(ShowCustomer(customer: id)).fields["city"] == nil)
    }

    @Test("An order goes with its line, and its customer stays")
    func orders() async throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "الف"])
        let text = "customer,day,total,text\n\(id),1997-01-01,5,سی‌دی\n"
        let summary = try await node.importing(node.file("o.csv", Data(text.utf8)), as: .orders)
        let undone = try undo(node, summary)
        #expect(undone.deleted == 2 && undone.keptCount == 0)
        #expect(try node.ask(ListRows(table: "orderLine")).isEmpty)
        #expect(try node.ask(ShowCustomer(customer: id)).timeline.isEmpty)
    }

    @Test("Only the node that has imported takes it back, and only what was an import")
    func elsewhere() async throws {
        let hub = try TestNode()
        let branch = try TestNode(branch: "isfahan", of: hub)
        try branch.sync(with: hub)
        let file = try branch.file("1.csv", Data((header + "c-1,مریم,,\n").utf8))
        let summary = try await branch.importing(file, as: .customers)
        try branch.sync(with: hub)
        #expect(try hub.ask(ListImports(limit: 9)).map(\.fileName) == ["1.csv"])
        #expect(throws: CommandFailure.self) { try undo(hub, summary) }
        for wrong in ["2-77", "x", ""] {
            #expect(throws: CommandFailure.self) { try hub.ask(UndoImport(batch: wrong)) }
        }
        // What head office edits is not lost either.
        try hub.ask(EditRow(table: "customer", row: "2-1", fields: ["note": .text("x")]))
        try branch.sync(with: hub)
        #expect(try undo(branch, summary).kept.map(\.fields) == [["note"]])
    }

    @Test("A person who is erased leaves nothing of an import behind")
    func erased() async throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "مریم", "externalKey": "c-1", "city": "اصفهان"])
        let file = try node.file("1.csv", Data("externalKey,city\nc-1,یزد\n".utf8))
        let summary = try await node.importing(file, as: .customers)
        _ = try node.ask(ErasePerson(customer: id, deletedBefore: nil))
        let undone = try undo(node, summary)
        #expect(undone.deleted == 0 && undone.reverted == 0)
        #expect(try await node.importing(file, as: .customers).created == 0)
    }
}
