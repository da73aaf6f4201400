import CRM
import Causality
import MatchingKit
import ReplicaStore
import TestKit
import Testing

@testable import peyvand

@Suite("One customer out of several records")
struct IdentityRequestTests {
    /// Two branches that recorded the same person without a line, each with a call.
    private struct Offices {
        let hub: TestNode
        let isfahan: TestNode
        let yazd: TestNode
        let first: String
        let second: String

        init(code: String? = "0013542419") throws {
            hub = try TestNode()
            isfahan = try TestNode(branch: "isfahan", of: hub)
            yazd = try TestNode(branch: "yazd", of: hub)
            for office in [isfahan, yazd] { try office.sync(with: hub) }
            var one = ["name": "مريم كريمي", "mobile": "09121234567"]
            var other = ["givenName": "مریم", "familyName": "کریمی", "mobile": "09130000000"]
            one["nationalCode"] = code
            other["nationalCode"] = code.map { String($0.dropFirst(2)) }
            first = try isfahan.addCustomer(one)
            second = try yazd.addCustomer(other)
            for (office, id, subject) in [(isfahan, first, "از اصفهان"), (yazd, second, "از یزد")] {
                let fields: [String: FieldInput] = [
                    "customer": .text(id), "kind": .text("call"), "subject": .text(subject),
                ]
                _ = try office.ask(AddRow(table: "activity", fields: fields))
            }
        }

        func meet() throws {
            for _ in 0..<2 {
                try isfahan.sync(with: hub)
                try yazd.sync(with: hub)
            }
        }

        var all: [TestNode] { [hub, isfahan, yazd] }
    }

    @Test("After sync it is one customer everywhere, with one timeline, and every number leads there")
    func linkedByRule() throws {
        let offices = try Offices()
        try offices.meet()
        for office in offices.all {
            for number in [offices.first, offices.second, "09121234567", "09130000000", "0013542419"] {
                let view = try office.ask(ShowCustomer(customer: number))
                #expect(view.golden == offices.first)
                #expect(view.members == [offices.first, offices.second])
                #expect(Set(view.timeline.compactMap(\.summary)) == ["از اصفهان", "از یزد"])
            }
        }
    }

    @Test("A number that two records of one customer share shows him, and changes neither: the answer names both")
    func sharedNumber() throws {
        let offices = try Offices()
        try offices.meet()
        let number = "0013542419"
        #expect(try offices.hub.ask(ShowCustomer(customer: number)).golden == offices.first)
        let changes: [() throws -> Void] = [
            { _ = try offices.hub.ask(EditRow(table: "customer", row: number, fields: ["note": .text("x")])) },
            { _ = try offices.hub.ask(RemoveRow(table: "customer", row: number, isUndone: false)) },
            { _ = try offices.hub.ask(JudgeCustomers(customer: number, other: nil, verdict: .different)) },
        ]
        for change in changes {
            let failure = try #require(throws: CommandFailure.self) { try change() }
            #expect(failure.exit == .refused)
            #expect(failure.sentence.contains(offices.first) && failure.sentence.contains(offices.second))
        }
    }

    @Test("Split at head office, each stands alone again everywhere with its own history")
    func split() throws {
        let offices = try Offices()
        try offices.meet()
        let request = JudgeCustomers(customer: offices.second, other: nil, verdict: .different)
        #expect(try offices.hub.ask(request).members == [offices.second])
        try offices.meet()
        for office in offices.all {
            let (one, other) = (
                try office.ask(ShowCustomer(customer: offices.first)),
                try office.ask(ShowCustomer(customer: offices.second))
            )
            #expect(one.members == [offices.first] && other.members == [offices.second])
            #expect(one.timeline.compactMap(\.summary) == ["از اصفهان"])
            #expect(other.timeline.compactMap(\.summary) == ["از یزد"])
            #expect(other.golden == offices.second)
        }
        let again = try #require(throws: CommandFailure.self) { try offices.hub.ask(request) }
        #expect(again.exit == .refused)
        let undone = JudgeCustomers(customer: offices.first, other: offices.second, verdict: .retracted)
        #expect(try offices.yazd.ask(undone).members == [offices.first, offices.second])
    }

    @Test("What is linked by hand and taken back is as before; nothing is changed in the records")
    func linkAndUndo() throws {
        let offices = try Offices(code: nil)
        try offices.meet()
        let before = try offices.hub.ask(ShowCustomer(customer: offices.second))
        #expect(before.members == [offices.second])
        func judge(_ verdict: IdentityVerdict) throws -> WrittenDecision {
            try offices.hub.ask(JudgeCustomers(customer: offices.second, other: offices.first, verdict: verdict))
        }
        let refused = try #require(throws: CommandFailure.self) { try judge(.retracted) }
        #expect(refused.exit == .refused)
        let linked = try judge(.same)
        #expect(linked.members == [offices.first, offices.second] && linked.golden == offices.first)
        #expect(try judge(.same).position == nil)
        #expect(try judge(.retracted).members == [offices.second])
        #expect(try offices.hub.ask(ShowCustomer(customer: offices.second)) == before)
        let same = try #require(throws: CommandFailure.self) {
            try offices.hub.ask(JudgeCustomers(customer: offices.first, other: offices.first, verdict: .same))
        }
        #expect(same.exit == .usage)
    }

    @Test("Two offices decide against each other without a line: caution holds, until one that saw both decides")
    func unaware() throws {
        let offices = try Offices(code: nil)
        try offices.meet()
        let (first, second) = (offices.first, offices.second)
        _ = try offices.isfahan.ask(JudgeCustomers(customer: first, other: second, verdict: .different))
        _ = try offices.yazd.ask(JudgeCustomers(customer: first, other: second, verdict: .same))
        try offices.meet()
        for office in offices.all { #expect(try office.ask(ShowCustomer(customer: second)).members == [second]) }
        let informed = try offices.isfahan.ask(JudgeCustomers(customer: first, other: second, verdict: .same))
        #expect(informed.pairs.first?.ids.count == 2)
        try offices.meet()
        for office in offices.all {
            #expect(try office.ask(ShowCustomer(customer: second)).members == [first, second])
        }
    }

    @Test("The queue has what looks alike, with reasons, until it is decided or one customer already")
    func queue() throws {
        let node = try TestNode()
        let first = try node.addCustomer(["name": "مريم كريمي", "city": "یزد"])
        let second = try node.addCustomer(["name": "مریم کریمی", "city": "يزد"])
        _ = try node.addCustomer(["name": "حسن نوری"])
        let found = try node.ask(ListDuplicates())
        #expect(found.count == 1)
        let pair = try #require(found.duplicates.first)
        #expect([pair.low, pair.high] == [first, second] && pair.score == 9)
        #expect(pair.reasons.map(\.field) == ["familyName", "givenName", "city"])
        #expect(pair.reasons.reduce(0) { $0 + $1.weight } == pair.score)
        for verdict in [IdentityVerdict.same, .different] {
            _ = try node.ask(JudgeCustomers(customer: first, other: second, verdict: verdict))
            #expect(try node.ask(ListDuplicates()).count == 0)
        }
        _ = try node.ask(JudgeCustomers(customer: first, other: second, verdict: .retracted))
        #expect(try node.ask(ListDuplicates()).count == 1)
        for id in [first, second] {
            _ = try node.ask(EditRow(table: "customer", row: id, fields: ["nationalCode": .text("0013542419")]))
        }
        #expect(try node.ask(ListDuplicates()).count == 0)
    }

    @Test("Erasing a person, or handing out what is kept of one, goes for every record of that person, and no other's")
    func privacy() throws {
        let offices = try Offices()
        let other = try offices.hub.addCustomer(["name": "حسن نوری"])
        try offices.meet()
        let hub = offices.hub
        // Two customers and two calls.
        #expect(try hub.ask(ExportPerson(customer: offices.second)).rows == 4)
        let shared = try #require(throws: CommandFailure.self) { try hub.ask(ErasePerson(customer: "0013542419")) }
        #expect(shared.sentence.contains(offices.first) && shared.sentence.contains(offices.second))
        let erased = try hub.ask(ErasePerson(customer: offices.second))
        #expect(erased.members == [offices.first, offices.second])
        #expect(erased.erased.map(\.rows) == [2, 2])
        try offices.meet()
        for office in offices.all {
            for id in [offices.first, offices.second] {
                #expect(throws: StoreFailure.self) { try office.ask(ShowCustomer(customer: id)) }
            }
            #expect(try office.ask(ShowCustomer(customer: other)).name == "حسن نوری")
        }
    }

    @Test("Recording somebody who is here already warns, and writes the record all the same; status counts the pair")
    func warns() throws {
        let node = try TestNode()
        let first = try node.addCustomer(["name": "مريم كريمي", "city": "یزد"])
        let fields = ["name": "مریم کریمی", "city": "يزد"].mapValues { FieldInput.text($0) }
        let written = try node.ask(AddRow(table: "customer", fields: fields))
        let warning = try #require(written.warnings.first)
        #expect(warning.sentence.contains(first) && warning.sentence.contains("customer link"))
        #expect(warning.persian.contains(first))
        #expect(try node.ask(ShowStatus()).duplicates == 1)
        let view = try node.ask(ShowCustomer(customer: written.id))
        #expect(view.duplicates.map(\.id) == [first] && view.duplicates.map(\.score) == [9])
        #expect(try node.ask(AddRow(table: "customer", fields: ["name": .text("حسن نوری")])).warnings.isEmpty)
        let coded: [String: FieldInput] = ["name": .text("حسن نوری"), "nationalCode": .text("0013542419")]
        let one = try node.ask(AddRow(table: "customer", fields: coded)).id
        let again = try node.ask(AddRow(table: "customer", fields: coded))
        #expect(again.warnings.contains { $0.sentence.contains("is one customer with \(one)") })
        #expect(try node.ask(ListDuplicates(rebuilds: true)).count == node.ask(ListDuplicates()).count)
    }

    @Test("A cluster found around one record is the one that all rows at once give")
    func wholeAndAround() throws {
        let node = try TestNode()
        let seed = testSeed("Clusters around a record")
        var random = SeededRandom(seed: seed)
        var generator = CustomerGenerator(seed: seed)
        let entries = generator.entries(people: 80)
        let ids = try entries.map { try node.addCustomer($0.fields) }
        for _ in 0..<10 {
            let (one, other) = (ids[random.below(ids.count)], ids[random.below(ids.count)])
            guard one != other else { continue }
            let verdict: IdentityVerdict = random.oneIn(2) ? .same : .different
            _ = try node.ask(JudgeCustomers(customer: one, other: other, verdict: verdict))
        }
        try node.service.replica.read { reader in
            var (index, decided) = (MatchingIndex(), [RowValues]())
            try reader.forEachRow(.customer) { index.set(MatchingRecord(RowValues($0))) }
            try reader.forEachRow(.identityDecision) { decided.append(RowValues($0)) }
            let links = index.allMatches().links
            let whole = CustomerClusters(decisions: IdentityDecisions.states(of: decided), links: links)
            #expect(!links.isEmpty)
            for id in ids.compactMap({ RowID(printed: $0) }) {
                #expect(try CustomerCluster(of: id, from: reader).members == whole.members(of: id))
            }
        }
    }

    @Test("A deleted record in the middle still holds the others together, and is no longer the golden one")
    func deletedMiddle() throws {
        let node = try TestNode()
        let ids = try ["الف", "ب", "پ"].map { try node.addCustomer(["name": $0]) }
        for other in [ids[1], ids[2]] {
            _ = try node.ask(JudgeCustomers(customer: ids[0], other: other, verdict: .same))
        }
        _ = try node.ask(RemoveRow(table: "customer", row: ids[0], isUndone: false))
        let view = try node.ask(ShowCustomer(customer: ids[2]))
        #expect(view.golden == ids[1] && view.members == [ids[1], ids[2]])
    }
}
