import Causality
import Testing

@testable import CRM

@Suite("Which value stands for a customer of several records")
struct SurvivingFieldsTests {
    private func row(_ number: Int64, _ fields: [String: FieldValue]) -> RowValues {
        let table = TableDescription.customer
        var values = [FieldValue](repeating: .null, count: table.columns.count)
        values[0] = .integer(record(number).rawValue)
        for (name, value) in fields { values[table.column(named: name)!.number] = value }
        return RowValues(table: table, id: record(number), values: values)
    }

    private func survive(_ rows: RowValues..., contested: [String: RowID] = [:]) -> SurvivingFields {
        SurvivingFields(of: rows, contested: contested) { "office of \($0.counter)" }
    }

    private func value(_ name: String, _ surviving: SurvivingFields) -> FieldValue {
        surviving.values[TableDescription.customer.column(named: name)!.number]
    }

    @Test("A value beats none, and it is told which record and office it comes from")
    func only() {
        let surviving = survive(row(1, ["name": "مریم"]), row(2, ["email": "m@example.com"]))
        #expect(value("name", surviving) == "مریم" && value("email", surviving) == "m@example.com")
        let source = surviving.provenance["email"]
        #expect(source?.id == record(2).description && source?.branch == "office of 2" && source?.rule == .only)
        #expect(surviving.provenance["city"] == nil)
    }

    @Test(
        "Each rule decides only when those before it do not",
        arguments: [
            ("pinned", ["pinned": "mobile web"], ["verifiedAt": 5, "source": "document", "confirmedAt": 9]),
            ("verified", ["verifiedAt": 5, "source": "import"], ["source": "document", "confirmedAt": 9]),
            ("source", ["source": "document", "confirmedAt": 1], ["source": "officer", "confirmedAt": 9]),
            ("confirmed", ["source": "web", "confirmedAt": 9], ["source": "web", "confirmedAt": 1]),
            ("smallest", [:], [:]),
        ] as [(String, [String: FieldValue], [String: FieldValue])]
    )
    func order(rule: String, better: [String: FieldValue], worse: [String: FieldValue]) {
        let good = better.merging(["mobile": "+989121111111"]) { $1 }
        let bad = worse.merging(["mobile": "+989122222222"]) { $1 }
        // Where anything is better, the better one is the larger identifier: the last rule must not be why.
        let isLast = rule == "smallest"
        let surviving = isLast ? survive(row(1, good), row(2, bad)) : survive(row(1, bad), row(2, good))
        #expect(value("mobile", surviving) == "+989121111111")
        #expect(surviving.provenance["mobile"]?.rule.rawValue == rule)
        #expect(surviving.provenance["mobile"]?.others.map(\.value) == [.text("+989122222222")])
    }

    @Test("A valid code beats one that is not, even of a verified record; pinning beats both")
    func valid() {
        let wrong: [String: FieldValue] = ["nationalCode": "0013542418", "verifiedAt": 5]
        let right: [String: FieldValue] = ["nationalCode": "0013542419"]
        let surviving = survive(row(1, wrong), row(2, right))
        #expect(value("nationalCode", surviving) == "0013542419")
        #expect(surviving.provenance["nationalCode"]?.rule == .valid)
        let pinned = survive(row(1, wrong.merging(["pinned": "nationalCode"]) { $1 }), row(2, right))
        #expect(value("nationalCode", pinned) == "0013542418")
    }

    @Test("An address is taken whole, never the street of one and the code of another")
    func whole() {
        let surviving = survive(
            row(1, ["city": "یزد", "street": "خیابان امام"]),
            row(2, ["city": "اصفهان", "postalCode": "8146739511", "confirmedAt": 3])
        )
        #expect(value("city", surviving) == "اصفهان" && value("street", surviving) == .null)
        #expect(value("postalCode", surviving) == "8146739511")
    }

    @Test("The longer name stands when nothing else decides")
    func longer() {
        let surviving = survive(row(1, ["name": "م کریمی"]), row(2, ["name": "مریم کریمی"]))
        #expect(value("name", surviving) == "مریم کریمی" && surviving.provenance["name"]?.rule == .longer)
    }

    @Test(
        "Whoever said no once is not asked, nor while it is in dispute; roles come together; the furthest stage stands"
    )
    func special() {
        let one = row(1, ["consentSms": "yes", "consentCall": "yes", "roles": "customer", "stage": "lost"])
        let other = row(2, ["consentSms": "no", "roles": "partner supplier", "stage": "lead"])
        let surviving = survive(one, other, contested: ["consentCall": record(1)])
        #expect(value("consentSms", surviving) == "no" && value("consentCall", surviving) == "no")
        #expect(surviving.provenance["consentCall"]?.rule == .cautious)
        #expect(value("consentCall", survive(one, other)) == "yes")
        #expect(value("roles", surviving) == "customer partner supplier")
        #expect(value("stage", surviving) == "lead")
    }

    @Test("One record shows exactly what it says")
    func alone() {
        let one = row(1, ["name": "مریم", "consentSms": "no", "roles": "supplier", "createdAt": 7, "pinned": "name"])
        #expect(survive(one).values == one.values)
    }
}

extension FieldValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
    public init(stringLiteral value: String) { self = .text(value) }
    public init(integerLiteral value: Int64) { self = .integer(value) }
}
