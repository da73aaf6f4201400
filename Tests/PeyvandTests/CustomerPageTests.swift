import CRM
import Causality
import ReplicaStore
import TestKit
import Testing

@testable import peyvand

@Suite("Everything about a customer on one page")
struct CustomerPageTests {
    private func add(_ table: String, _ fields: [String: String], at node: TestNode) throws -> String {
        try node.ask(AddRow(table: table, fields: fields.mapValues(FieldInput.text))).id
    }

    private func page(_ view: CustomerView, _ language: Language) -> String {
        CustomerPage(view, Output(isJSON: false, language: language)).text
    }

    @Test("Two records of one person: each value with the office it comes from, all numbers, and sums over both")
    func unified() throws {
        let hub = try TestNode()
        let isfahan = try TestNode(branch: "isfahan", of: hub)
        try isfahan.sync(with: hub)
        let code = "0013542419"
        let first = try hub.addCustomer(["name": "مریم کریمی", "mobile": "09121234567", "nationalCode": code])
        let second = try isfahan.addCustomer([
            "name": "مريم كريمي", "mobile": "09130000000", "nationalCode": code, "email": "m@example.com",
        ])
        for (node, customer, kind, total) in [
            (hub, first, "invoice", "1000"), (isfahan, second, "invoice", "500"),
            (isfahan, second, "creditNote", "200"),
            (isfahan, second, "quote", "9000"),
        ] {
            _ = try add(
                "salesOrder",
                ["customer": customer, "kind": kind, "total": total, "state": "issued", "day": "2026-03-01"],
                at: node
            )
        }
        _ = try add("contactPoint", ["customer": second, "kind": "phone", "value": "0912 123 4567"], at: isfahan)
        for _ in 0..<2 { try isfahan.sync(with: hub) }
        for node in [hub, isfahan] {
            let view = try node.ask(ShowCustomer(customer: second))
            #expect(view.golden == first && view.members == [first, second])
            #expect(view.fields["email"] == .text("m@example.com"))
            #expect(view.sources["email"]?.id == second && view.sources["email"]?.branch == "isfahan")
            #expect(view.sums.sale == 1300 && view.sums.invoices == 2 && view.sums.creditNotes == 1)
            #expect(view.sums.orders == 1)
            // The number that both know stands once.
            #expect(view.contacts.map(\.value) == ["+989121234567", "+989130000000", "m@example.com"])
            #expect(view.contacts.first?.places.count == 2)
            let english = page(view, .en)
            #expect(english.contains("\(second) isfahan") && english.contains("Sale 1,300 rial in 2 invoices"))
            #expect(english.contains("only value") && english.contains("Ways to reach"))
            let persian = page(view, .fa)
            #expect(persian.contains("راه‌های تماس") && persian.contains("تنها مقدار"))
        }
        #expect(
            try hub.ask(ShowCustomer(customer: first)).timeline == isfahan.ask(ShowCustomer(customer: second)).timeline
        )
    }

    @Test("The page of a company tells what happened with its people, once, and with whom")
    func organisation() throws {
        let node = try TestNode()
        let company = try node.addCustomer(["name": "شرکت نمونه", "kind": "organisation"])
        let person = try node.addCustomer(["name": "حسن نوری"])
        let holding = try node.addCustomer(["name": "هلدینگ", "kind": "organisation"])
        for kind in ["employee", "manager"] {
            _ = try add("relation", ["customer": person, "other": company, "kind": kind], at: node)
        }
        _ = try add("relation", ["customer": company, "other": holding, "kind": "subsidiaryOf"], at: node)
        for (customer, subject) in [(company, "با شرکت"), (person, "با مدیر"), (holding, "با هلدینگ")] {
            _ = try add("activity", ["customer": customer, "kind": "call", "subject": subject], at: node)
        }
        let view = try node.ask(ShowCustomer(customer: company))
        #expect(Set(view.timeline.compactMap(\.summary)) == ["با شرکت", "با مدیر"] && view.timeline.count == 2)
        #expect(view.timeline.first { $0.summary == "با مدیر" }?.person == "حسن نوری")
        #expect(view.sums.activities == 1)
        #expect(view.relations.map(\.kind) == ["employee", "manager", "subsidiaryOf"])
        #expect(view.relations.map(\.isOfOther) == [true, true, false])
        let text = page(view, .en)
        #expect(text.contains("subsidiary of") && text.contains("حسن نوری"))
        #expect(try node.ask(ShowCustomer(customer: person)).timeline.count == 1)
        #expect(
            try node.ask(ShowCustomer(customer: person)).relations.map(\.otherName) == ["شرکت نمونه", "شرکت نمونه"]
        )
    }

    @Test("A link that was left out because of a decision is told, with what to do")
    func contradiction() throws {
        let node = try TestNode()
        let ids = try ["الف", "ب", "پ"].map { try node.addCustomer(["name": $0]) }
        for (one, other, verdict) in [(0, 1, IdentityVerdict.same), (1, 2, .same), (0, 2, .different)] {
            _ = try node.ask(JudgeCustomers(customer: ids[one], other: ids[other], verdict: verdict))
        }
        let view = try node.ask(ShowCustomer(customer: ids[0]))
        #expect(view.members == [ids[0], ids[1]])
        #expect(view.contradictions.map(\.id) == ["\(ids[1]) \(ids[2])"])
        #expect(view.contradictions.map(\.different) == ["\(ids[0]) \(ids[2])"])
        for language in [Language.en, .fa] { #expect(page(view, language).contains("`customer unlink`")) }
    }
}
