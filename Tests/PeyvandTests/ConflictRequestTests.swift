import CRM
import Causality
import ReplicaStore
import Testing

@testable import peyvand

@Suite("Deciding about losing writes")
struct ConflictRequestTests {
    @Test("The branch that lost finds it in its inbox and takes it back with one command, everywhere")
    func take() throws {
        let (hub, a, b, customer) = try nodes()
        let conflict = try conflict(hub, a, b, customer)
        let inbox = try a.ask(ListConflicts())
        #expect(inbox.map(\.id) == [conflict] && inbox[0].mine)
        #expect(inbox[0].kind == .edit && inbox[0].fields == ["note"] && inbox[0].row == customer)
        #expect(inbox[0].kept == ["note": .text("از شیراز")] && inbox[0].lost == ["note": .text("از اصفهان")])
        #expect(inbox[0].lostBy.node == "isfahan" && inbox[0].keptBy.node == "shiraz")
        #expect(try b.ask(ListConflicts()).map(\.mine) == [false])
        #expect(try a.ask(ShowCustomer(customer: customer)).conflicts.map(\.id) == [conflict])

        let taken = try a.ask(ResolveConflict(conflict: conflict, isTaken: true))
        #expect(taken.resolution == "taken" && taken.position != nil)
        try settle(hub, a, b)
        for node in [hub, a, b] {
            #expect(try node.ask(ShowCustomer(customer: customer)).fields["note"] == .text("از اصفهان"))
            #expect(try node.ask(ListConflicts()).isEmpty)
            #expect(try node.ask(ListConflicts(isAll: true)).map(\.resolution) == ["taken"])
            #expect(try node.ask(ShowStatus()).conflicts == 0)
        }
        let dump = try hub.dump()
        #expect(try a.dump() == dump && b.dump() == dump)
    }

    @Test("What is decided once is not decided again")
    func keep() throws {
        let (hub, a, b, customer) = try nodes()
        let conflict = try conflict(hub, a, b, customer)
        let status = try b.ask(ShowStatus())
        #expect(status.conflicts == 1 && status.reasons.map(\.code).contains("conflicts"))
        #expect(try b.ask(ResolveConflict(conflict: conflict, isTaken: false)).resolution == "kept")
        try settle(hub, a, b)
        #expect(try hub.ask(ShowCustomer(customer: customer)).fields["note"] == .text("از شیراز"))
        #expect(try hub.ask(ShowConflict(conflict: conflict)).resolvedAt != nil)
        for isTaken in [false, true] {
            let failure = try #require(throws: CommandFailure.self) {
                try a.ask(ResolveConflict(conflict: conflict, isTaken: isTaken))
            }
            #expect(failure.exit == .refused && failure.sentence.contains("already"))
        }
        let unknown = #expect(throws: StoreFailure.self) {
            try a.ask(ResolveConflict(conflict: "1-99", isTaken: true))
        }
        #expect(CommandFailure(try #require(unknown)).exit == .refused)
    }

    @Test("An edit lost under a deletion is taken back by restoring, a lost deletion by deleting")
    func existence() throws {
        let (hub, a, b, customer) = try nodes()
        try a.ask(EditRow(table: "customer", row: customer, fields: ["note": .text("هنوز")]))
        try b.ask(RemoveRow(table: "customer", row: customer, isUndone: false))
        try settle(hub, a, b)
        let lost = try #require(try a.ask(ListConflicts()).first)
        #expect(lost.kind == .editOfDeleted && lost.mine && lost.lost["note"] == .text("هنوز"))
        try a.ask(ResolveConflict(conflict: lost.id, isTaken: true))
        try settle(hub, a, b)
        #expect(try b.ask(ShowCustomer(customer: customer)).fields["note"] == .text("هنوز"))
        #expect(try hub.ask(ListConflicts()).isEmpty)

        // The clock of A is behind, so its deletion is older than the edit of B.
        try a.ask(RemoveRow(table: "customer", row: customer, isUndone: false))
        try b.ask(EditRow(table: "customer", row: customer, fields: ["note": .text("بماند")]))
        try settle(hub, a, b)
        let deletion = try #require(try a.ask(ListConflicts()).first)
        #expect(deletion.kind == .deletion && deletion.mine && deletion.lost.isEmpty)
        try a.ask(ResolveConflict(conflict: deletion.id, isTaken: true))
        try settle(hub, a, b)
        for node in [hub, a, b] {
            #expect(try node.ask(ListRows(table: "customer", isDeleted: true)).map(\.id) == [customer])
            #expect(try node.ask(ListConflicts()).isEmpty)
        }
    }

    @Test("A lost value is not written into a deleted customer")
    func deletedMeanwhile() throws {
        let (hub, a, b, customer) = try nodes()
        let conflict = try conflict(hub, a, b, customer)
        try a.ask(RemoveRow(table: "customer", row: customer, isUndone: false))
        let failure = try #require(throws: CommandFailure.self) {
            try a.ask(ResolveConflict(conflict: conflict, isTaken: true))
        }
        #expect(failure.exit == .refused && failure.sentence.contains("deleted"))
        // The deletion has seen both, so it answers.
        try settle(hub, a, b)
        #expect(try hub.ask(ListConflicts()).isEmpty)
    }

    @Test("Why a field has its value is told with writer, branch, time, former value, rule and conflict")
    func why() throws {
        let (hub, a, b, customer) = try nodes()
        func why(_ node: TestNode, _ field: String) throws -> PrintedReason {
            try node.ask(ExplainField(table: "customer", row: customer, field: field))
        }
        #expect(try why(a, "name").rule == "onlyWriter")
        #expect(try why(a, "name").writer?.node == "isfahan")
        #expect(try why(b, "email").value == .null)
        try hub.ask(EditRow(table: "customer", row: customer, fields: ["name": .text("مریم رضایی")]))
        try settle(hub, a, b)
        for node in [hub, a, b] {
            let reason = try why(node, "name")
            #expect(reason.rule == "seenBefore" && reason.writer?.node == "tehran-hq")
            #expect(reason.value == .text("مریم رضایی") && reason.replaced?.value == .text("مریم"))
            #expect(reason.replaced?.node == "isfahan" && reason.lost.isEmpty && reason.conflict == nil)
        }
        let conflict = try conflict(hub, a, b, customer)
        for node in [hub, a, b] {
            let reason = try why(node, "note")
            // Clocks stand still here, and the one that is ahead was corrected: only what each has counted differs, if it
            // does.
            #expect(["laterTime", "greaterNumber"].contains(reason.rule) && reason.writer?.node == "shiraz")
            #expect(reason.lost.map(\.value) == [.text("از اصفهان")] && reason.conflict?.id == conflict)
            for language in Language.allCases {
                let text = Words(language).reason(reason)
                #expect(text.contains("shiraz") && text.contains("از اصفهان"))
            }
        }
        try b.ask(RemoveRow(table: "customer", row: customer, isUndone: false))
        #expect(try why(b, "note").deletedBy?.node == "shiraz")
        let unknown = try #require(throws: StoreFailure.self) {
            try a.ask(ExplainField(table: "customer", row: "1-99", field: "name"))
        }
        #expect(CommandFailure(unknown).exit == .refused)
    }

    @Test("The table of conflicts is right for Persian values, in both languages")
    func table() throws {
        let (hub, a, b, customer) = try nodes()
        _ = try conflict(hub, a, b, customer)
        let conflicts = try a.ask(ListConflicts())
        for language in Language.allCases {
            let words = Words(language)
            let text = words.conflicts(conflicts, isAll: false, .plain)
            for part in ["از شیراز", "از اصفهان", "isfahan"] { #expect(text.contains(part)) }
            #expect(words.conflict(conflicts[0], .plain).contains("از اصفهان"))
        }
    }

    private func nodes() throws -> (hub: TestNode, a: TestNode, b: TestNode, customer: String) {
        let hub = try TestNode()
        let a = try TestNode(branch: "isfahan", of: hub)
        let b = try TestNode(branch: "shiraz", of: hub)
        try settle(hub, a, b)
        let customer = try a.addCustomer(["name": "مریم"])
        try settle(hub, a, b)
        return (hub, a, b, customer)
    }

    private func settle(_ hub: TestNode, _ a: TestNode, _ b: TestNode) throws {
        for _ in 0..<2 { for node in [a, b] { try node.sync(with: hub) } }
    }

    /// Both branches write the customer's note; Isfahan loses.
    private func conflict(_ hub: TestNode, _ a: TestNode, _ b: TestNode, _ customer: String) throws -> String {
        try a.ask(EditRow(table: "customer", row: customer, fields: ["note": .text("از اصفهان")]))
        hub.pass(milliseconds: 1000)
        try b.ask(EditRow(table: "customer", row: customer, fields: ["note": .text("از شیراز")]))
        try settle(hub, a, b)
        return try #require(try hub.ask(ListConflicts()).first?.id)
    }
}
