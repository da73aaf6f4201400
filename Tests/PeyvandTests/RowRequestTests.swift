import CRM
import Causality
import ReplicaStore
import Testing

@testable import peyvand

@Suite("Working with rows")
struct RowRequestTests {
    @Test("An unknown field is wrong usage, an unknown customer a refusal")
    func exits() throws {
        let node = try TestNode()
        func exit(_ body: () throws -> Void) throws -> peyvand.ExitStatus {
            CommandFailure(try #require(throws: (any Error).self, performing: body)).exit
        }
        let noField = EditRow(table: "customer", row: "1-9", fields: ["colour": .text("red")])
        #expect(try exit { try node.ask(noField) } == .usage)
        #expect(try exit { _ = try node.addCustomer(["kind": "robot"]) } == .usage)
        #expect(
            try exit { try node.ask(AddRow(table: "activity", fields: ["kind": .text("call")])) } == .usage
        )
        #expect(try exit { try node.ask(ShowCustomer(customer: "1-9")) } == .refused)
        #expect(try exit { try node.ask(ShowCustomer(customer: "09121234567")) } == .refused)
        #expect(try exit { try node.ask(ShowCustomer(customer: "nobody")) } == .usage)
        #expect(try exit { try node.ask(ShowLog(position: 99)) } == .refused)
    }

    @Test("A new customer belongs to this branch, and a wrong number is kept with a warning")
    func add() throws {
        let node = try TestNode()
        let request = AddRow(
            table: "customer",
            fields: ["givenName": .text("مريم"), "familyName": .text("رضايي"), "mobile": .text("0912")]
        )
        let written = try node.ask(request)
        #expect(written.id == "1-1")
        #expect(written.position != nil)
        #expect(written.warnings.map(\.field) == ["mobile"])
        let view = try node.ask(ShowCustomer(customer: "1-1"))
        #expect(view.name == "مریم رضایی")
        #expect(view.fields["homeBranch"] == .text("1-1"))
        #expect(view.fields["mobile"] == .text("0912"))
    }

    @Test("A customer is found by mobile number or national code, unless several have it")
    func arguments() throws {
        let node = try TestNode()
        let first = try node.addCustomer([
            "name": "الف", "mobile": "09121234567", "nationalCode": "0013542419",
        ])
        #expect(try node.ask(ShowCustomer(customer: "۰۹۱۲۱۲۳۴۵۶۷")).id == first)
        #expect(try node.ask(ShowCustomer(customer: "0013542419")).id == first)
        let second = try node.addCustomer(["name": "ب", "mobile": "+989121234567"])
        let failure = try #require(throws: CommandFailure.self) {
            try node.ask(ShowCustomer(customer: "09121234567"))
        }
        #expect(failure.exit == .refused)
        #expect(failure.sentence.contains("\(first), \(second)"))
        #expect(!failure.sentence.contains("912"))
    }

    @Test("An edit that says the same again writes nothing")
    func sameAgain() throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "الف", "city": "تهران"])
        let edit = EditRow(table: "customer", row: id, fields: ["city": .text("تهران")])
        #expect(try node.ask(edit).position == nil)
    }

    @Test("A field is cleared with an empty value, but not one that a row must have")
    func clear() throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "الف", "city": "تهران"])
        try node.ask(EditRow(table: "customer", row: id, fields: ["city": .text("")]))
        #expect(try node.ask(ShowCustomer(customer: id)).fields["city"] == nil)
        let activity = try node.ask(
            AddRow(table: "activity", fields: ["customer": .text(id), "kind": .text("call")])
        )
        #expect(throws: StoreFailure.self) {
            try node.ask(EditRow(table: "activity", row: activity.id, fields: ["kind": .text("")]))
        }
    }

    @Test("A deleted customer lies in the recycle bin until it is restored")
    func recycleBin() throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "الف"])
        try node.ask(RemoveRow(table: "customer", row: id, isUndone: false))
        #expect(try node.ask(ListRows(table: "customer")).isEmpty)
        #expect(try node.ask(ListRows(table: "customer", isDeleted: true)).map(\.id) == [id])
        #expect(try node.ask(ShowCustomer(customer: id)).deleted)
        try node.ask(RemoveRow(table: "customer", row: id, isUndone: true))
        #expect(try node.ask(ListRows(table: "customer")).map(\.id) == [id])
    }

    @Test("A long list is read page by page")
    func pages() throws {
        let node = try TestNode()
        for _ in 1...5 { _ = try node.addCustomer(["name": "الف"]) }
        let first = try node.ask(ListRows(table: "customer", limit: 3))
        let second = try node.ask(ListRows(table: "customer", limit: 3, after: first.last?.id))
        #expect((first + second).map(\.id) == ["1-1", "1-2", "1-3", "1-4", "1-5"])
    }

    @Test("Activities of one customer are listed by its mobile number")
    func activities() throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "الف", "mobile": "09121234567"])
        _ = try node.addCustomer(["name": "ب"])
        for customer in [id, "1-2"] {
            let fields: [String: FieldInput] = ["customer": .text(customer), "kind": .text("call")]
            try node.ask(AddRow(table: "activity", fields: fields))
        }
        let filter = ListRows.Filter(column: "customer", row: "09121234567")
        #expect(try node.ask(ListRows(table: "activity", filter: filter)).map(\.id) == ["1-1"])
    }

    @Test("An order counts its lines, with quantities to the thousandth")
    func order() throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "الف"])
        let lines = [
            OrderLineEntry(text: "کتاب", quantity: "۳", unitPrice: "1,250,000"),
            OrderLineEntry(text: "پارچه", quantity: "1.5", unitPrice: "2001"),
        ]
        let written = try node.ask(
            AddOrder(fields: ["customer": .text(id), "kind": .text("invoice")], lines: lines)
        )
        let order = try node.ask(ShowOrder(order: written.id))
        #expect(order.fields["total"] == .integer(3_753_002))
        #expect(order.fields["state"] == .text("issued"))
        #expect(order.fields["day"] == .text("2026-11-22"))
        #expect(order.lines.map(\.quantity) == [3000, 1500])
        #expect(order.lines.map(\.total) == [3_750_000, 3002])
    }

    @Test("An order with a wrong line leaves nothing behind")
    func wrongOrder() throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "الف"])
        let before = try node.dump()
        #expect(throws: FieldFailure.self) {
            try node.ask(
                AddOrder(
                    fields: ["customer": .text(id), "kind": .text("order")],
                    lines: [
                        OrderLineEntry(text: "x", quantity: "two")
                    ]
                )
            )
        }
        #expect(try node.dump() == before)
    }

    @Test("Quantities are printed as they were typed", arguments: ["3", "1.5", "0.001", "-2.25", "1000000"])
    func quantities(typed: String) throws {
        guard case .integer(let stored) = try Quantity.parse(typed) else { throw CancellationError() }
        #expect(Quantity.text(of: stored) == typed)
    }

    @Test("The log tells what each change set did")
    func log() throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "الف"])
        try node.ask(EditRow(table: "customer", row: id, fields: ["city": .text("یزد")]))
        let entries = try node.ask(ListLog())
        #expect(entries.map(\.position) == [1, 2, 3])
        let last = try node.ask(ShowLog(position: 3))
        let change = try #require(last.changes?.first)
        #expect(change.op == "update")
        #expect(change.id == id)
        #expect(change.set["city"] == .text("یزد"))
    }

    @Test("What the local socket answers is what the request gives, failures too")
    func wire() async throws {
        let node = try TestNode()
        _ = try node.addCustomer(["name": "الف"])
        func answer<Request: NodeRequest>(_ request: Request) async throws -> [NodePiece] {
            let pieces = Pieces()
            try await node.service.answer(NodeWire.bytes(request, language: .en)) { await pieces.add($0) }
            return try await pieces.all.map { try NodePiece($0) }
        }
        guard case .reply(let content) = try #require(await answer(ListRows(table: "customer")).last) else {
            Issue.record("No reply")
            return
        }
        #expect(String(decoding: content, as: UTF8.self).contains("الف"))
        guard case .failure(let failure) = try #require(await answer(ShowCustomer(customer: "1-9")).last)
        else {
            Issue.record("No failure")
            return
        }
        #expect(failure.exit == .refused)
        let dump = try await answer(Dump())
        #expect(dump.count == 3)
    }

    /// Gathers the pieces of an answer.
    private actor Pieces {
        private(set) var all: [[UInt8]] = []
        func add(_ piece: [UInt8]) { all.append(piece) }
    }
}

@Suite("Bulk writing")
struct WriteBatchTests {
    private func line(_ text: String) throws -> WriteLine { try WriteLine(line: text.utf8) }

    private func step(_ number: Int, _ text: String) throws -> WriteBatch.Step {
        WriteBatch.Step(number: number, line: try line(text))
    }

    @Test(
        "A line that is not what the contract says is refused without repeating it",
        arguments: [
            "secret", "[1]", "{}", #"{"op":"drop"}"#,
            #"{"op":"put","table":"customer","sets":{"name":"secret"}}"#,
            #"{"op":"put","table":"customer","set":{"name":1.5}}"#, #"{"op":"put","table":7}"#,
        ]
    )
    func malformed(text: String) throws {
        let failure = try #require(throws: CommandFailure.self) { try line(text) }
        #expect(!failure.sentence.contains("secret"))
    }

    @Test("A transaction that fails leaves nothing, and those before it stay")
    func failure() throws {
        let node = try TestNode()
        let batch = WriteBatch(transactions: [
            [try step(1, #"{"op":"put","table":"customer","id":"1-1","set":{"name":"a"}}"#)],
            [
                try step(3, #"{"op":"put","table":"customer","set":{"name":"b"}}"#),
                try step(4, #"{"op":"delete","table":"activity","id":"1-77"}"#),
            ],
            [try step(6, #"{"op":"put","table":"customer","set":{"name":"c"}}"#)],
        ])
        let outcome = try node.ask(batch)
        #expect(outcome.rows.map(\.id) == ["1-1"])
        #expect(outcome.transactions == 1)
        #expect(outcome.failure?.number == 4)
        #expect(outcome.failure?.reason.exit == .refused)
        #expect(try node.ask(ListRows(table: "customer")).map { $0.text("name") } == ["a"])
    }

    @Test("A put with an id edits the named fields only, or makes the row in this node's own range")
    func put() throws {
        let node = try TestNode()
        let outcome = try node.ask(
            WriteBatch(transactions: [
                [try step(1, #"{"op":"put","table":"customer","id":"1-7","set":{"name":"a","city":"x"}}"#)],
                [try step(2, #"{"op":"put","table":"customer","id":"1-7","set":{"city":null}}"#)],
                [try step(3, #"{"op":"put","table":"customer","id":"1-7","set":{"name":"a"}}"#)],
                [try step(4, #"{"op":"put","table":"customer","id":"2-7","set":{"name":"b"}}"#)],
            ])
        )
        #expect(outcome.rows.map(\.id) == ["1-7", "1-7", "1-7"])
        #expect(outcome.rows.map { $0.position == nil } == [false, false, true])
        #expect(outcome.failure?.number == 4)
        let view = try node.ask(ShowCustomer(customer: "1-7"))
        #expect(view.fields["city"] == nil)
        #expect(view.name == "a")
    }

    @Test("The lines of a dump, written again, change nothing")
    func dumpAgain() throws {
        let node = try TestNode()
        let id = try node.addCustomer([
            "name": "علی\"رضا", "mobile": "09121234567", "roles": "customer supplier",
        ])
        let order = AddOrder(
            fields: ["customer": .text(id), "kind": .text("quote")],
            lines: [OrderLineEntry(text: "x")]
        )
        try node.ask(order)
        let dump = try node.dump()
        let steps = try dump.split(separator: "\n").enumerated().map { try step($0 + 1, String($1)) }
        #expect(steps.count == 4)
        let outcome = try node.ask(WriteBatch(transactions: [steps]))
        #expect(outcome.failure == nil)
        #expect(outcome.rows.allSatisfy { $0.position == nil })
        #expect(try node.dump() == dump)
    }
}
