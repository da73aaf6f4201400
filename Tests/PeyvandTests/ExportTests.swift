import CRM
import Causality
import Foundation
import ReplicaStore
import Spreadsheet
import TestKit
import Testing

@testable import peyvand

@Suite("Export")
struct ExportTests {
    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    /// The rows of a table, without what only this export says.
    private func rows(_ bytes: [UInt8]) -> [[String: String]] {
        var reader = CSVReader(delimiter: UInt8(ascii: ","), encoding: .utf8)
        reader.append(bytes.dropFirst(3))
        var records: [[String]] = []
        while let record = reader.next(isEnd: true) { records.append(record.cells) }
        return records.dropFirst().map { Dictionary(uniqueKeysWithValues: zip(records[0], $0)) }
    }

    @Test("A table for other programs: a byte order mark, CR LF, numbers as people dial them, no formulas")
    func table() throws {
        let node = try TestNode()
        _ = try node.addCustomer([
            "name": "=HYPERLINK(\"x\")", "mobile": "09121234567", "note": "+1, \"two\"", "birthDay": "1370/01/15",
            "nationalCode": "0012345679", "city": "'-5",
        ])
        let bytes = try node.export(.csv, .customers)
        #expect(bytes.prefix(3) == [0xEF, 0xBB, 0xBF])
        #expect(text(bytes).components(separatedBy: "\r\n").count == 3)
        let row = try #require(rows(bytes).first)
        #expect(row["id"] == "1-1")
        #expect(row["name"] == "'=HYPERLINK(\"x\")")
        #expect(row["note"] == "'+1, \"two\"")
        #expect(row["city"] == "''-5")
        #expect(row["mobile"] == "09121234567")
        #expect(row["birthDay"] == "1991-04-04")
        #expect(row["homeBranchName"] == "tehran-hq")
        #expect(try node.ask(ListAudit(limit: 1)).first?.action == "export")
    }

    @Test("What was exported and not changed changes nothing when it is imported", arguments: [Language.en, .fa])
    func again(language: Language) async throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "@مریم", "mobile": "+98 912 123 4567", "note": "'=1", "city": "یزد"])
        try node.ask(
            AddRow(table: "activity", fields: ["customer": .text(id), "kind": .text("call"), "subject": .text("-")])
        )
        try node.ask(
            AddOrder(
                fields: ["customer": .text(id), "kind": .text("order")],
                lines: [OrderLineEntry(text: "سی‌دی", quantity: "1.5", unitPrice: "10")]
            )
        )
        node.pass(milliseconds: 1000)
        let dump = try node.dump()
        for target in [ImportTarget.customers, .activities, .orders] {
            let file = try node.file("\(target).csv", Data(node.export(.csv, target, language: language)))
            let summary = try await node.importing(file, as: target)
            #expect(summary.skipped == 1 && summary.rows == 1 && summary.problems.isEmpty)
            #expect(summary.ignoredColumns.isEmpty)
        }
        #expect(try node.dump() == dump)
    }

    @Test("What was changed in the file is taken, but not over what somebody has edited here since")
    func changed() async throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "مریم", "city": "یزد", "street": "ولیعصر"])
        node.pass(milliseconds: 1000)
        let exported = try #require(rows(node.export(.csv, .customers)).first)
        node.pass(milliseconds: 1000)
        try node.ask(EditRow(table: "customer", row: id, fields: ["note": .text("تازه")]))
        node.pass(milliseconds: 1000)
        let edited = "id,name,note,exportedAt\r\n\(id),مریم رضایی,کهنه,\(exported["exportedAt"] ?? "")\r\n"
        let file = try node.file("edited.csv", Data(edited.utf8))
        let tried = try await node.importing(file, as: .customers, isDryRun: true)
        #expect(tried.changes.map(\.field) == ["name"])
        #expect(tried.changes.first?.before == .text("مریم") && tried.changes.first?.after == .text("مریم رضایی"))
        #expect(try await node.importing(file, as: .customers).updated == 1)
        let fields = try node.ask(ShowCustomer(customer: id)).fields
        #expect(fields["name"] == .text("مریم رضایی") && fields["note"] == .text("تازه"))
    }

    @Test("Everything of one organisation makes the same customers in another, with the decisions about them")
    func otherOrganisation() async throws {
        let node = try TestNode()
        let branch = try TestNode(branch: "isfahan", of: node)
        try branch.sync(with: node)
        _ = try node.addCustomer(["name": "مریم رضایی", "nationalCode": "0012345679", "mobile": "09121234567"])
        let same = try branch.addCustomer(["name": "مريم رضايي", "nationalCode": "0012345679"])
        let ali = try branch.addCustomer(["name": "علی"])
        let aliToo = try branch.addCustomer(["name": "علی کریمی"])
        try branch.ask(
            AddRow(
                table: "activity",
                fields: ["customer": .text(same), "kind": .text("visit"), "alsoWith": .text(ali)]
            )
        )
        try branch.ask(
            AddRow(
                table: "contactPoint",
                fields: ["customer": .text(ali), "kind": .text("phone"), "value": .text("02188776655")]
            )
        )
        try branch.sync(with: node)
        try node.ask(JudgeCustomers(customer: ali, other: aliToo, verdict: .same, reason: nil))
        for number in ["02188776655", "02188776656"] { try node.ask(NameGeneric(value: number)) }
        let file = try node.file("all.jsonl", Data(node.export(.jsonl, .everything)))

        let other = try TestNode(organisation: 4)
        _ = try other.addCustomer(["name": "کسی دیگر"])
        let summary = try await other.importing(file, as: nil)
        #expect(summary.invalid == 0)
        let page = try other.ask(ShowCustomer(customer: "09121234567"))
        #expect(page.members.count == 2 && page.timeline.count == 1)
        #expect(try other.ask(ListRows(table: "customer")).count == 5)
        #expect(try other.ask(ListGeneric()).map(\.value) == ["02188776655", "02188776656"])
        let names = try other.ask(ListRows(table: "customer")).filter { $0.text("name").hasPrefix("علی") }
        #expect(try other.ask(ShowCustomer(customer: #require(names.first?.id))).members == names.map(\.id).sorted())
        let dump = try other.dump()
        #expect(try await other.importing(file, as: nil).batch == nil)
        #expect(try other.dump() == dump)
        // And out again as a whole.
        let undone = try other.ask(UndoImport(batch: #require(summary.batch)))
        #expect(undone.keptCount == 0)
        #expect(try other.ask(ListRows(table: "customer")).count == 1)
        #expect(try await node.importing(file, as: nil).position == nil)
    }

    @Test("A row that names one further down waits for it, and one that names nothing is refused")
    func waits() async throws {
        let node = try TestNode()
        let lines = """
            {"op":"export","organisation":"77","exportedAt":"2026-01-01T00:00:00Z"}
            {"op":"put","table":"activity","id":"5-1","set":{"customer":"5-9","kind":"call"}}
            {"op":"put","table":"activity","id":"5-2","set":{"customer":"5-8","kind":"call"}}
            {"op":"put","table":"customer","id":"5-9","set":{"name":"مریم"}}
            {"op":"put","table":"customer","id":"x","set":{"name":"مریم"}}
            {"op":"put","table":"colours","id":"5-1","set":{}}
            not a line
            """
        let errors = node.directory + "/errors.jsonl"
        let summary = try await node.importing(node.file("a.jsonl", Data(lines.utf8)), as: nil, errors: errors)
        #expect(summary.created == 2 && summary.invalid == 4)
        #expect(summary.problems.map(\.line).sorted() == [3, 5, 6, 7])
        #expect(summary.problems.first { $0.line == 3 }?.value == "5-8")
        #expect(try String(contentsOfFile: errors, encoding: .utf8).split(separator: "\n").count == 5)
        #expect(try node.ask(ShowCustomer(customer: "1-1")).timeline.count == 1)
    }

    @Test("A spreadsheet keeps the zeros of codes, calculates nothing, and changes nothing when it comes back")
    func spreadsheet() async throws {
        let node = try TestNode()
        let id = try node.addCustomer([
            "name": "=1+1", "mobile": "09121234567", "nationalCode": "0012345679", "postalCode": "0123456789",
            "birthDay": "1370/01/15", "note": "یک\"دو", "kind": "person",
        ])
        try node.ask(
            AddOrder(fields: ["customer": .text(id), "kind": .text("invoice"), "total": .text("1500000")], lines: [])
        )
        node.pass(milliseconds: 1000)
        let dump = try node.dump()
        for (target, language) in [(ImportTarget.customers, Language.fa), (.customers, .en), (.orders, .fa)] {
            let path = node.directory + "/\(target)-\(language).xlsx"
            var sheet = SheetExport(target, path: path, words: Words(language))
            try sheet.take(node.export(.xlsx, target, language: language))
            try sheet.close()
            let reader = try SpreadsheetReader(path: path)
            let head = try reader.next()?.cells ?? []
            let row = try reader.next()?.cells ?? []
            let cells = Dictionary(zip(head, row)) { first, _ in first }
            if target == .customers, language == .en {
                #expect(cells["name"] == "=1+1" && cells["postalCode"] == "0123456789")
                #expect(cells["mobile"] == "09121234567" && cells["birthDayJalali"] == "1370/01/15")
            }
            if target == .orders { #expect(cells["مبلغ"] == "1500000") }
            let summary = try await node.importing(path, as: target)
            #expect(summary.skipped == 1 && summary.rows == 1 && summary.ignoredColumns.isEmpty && summary.invalid == 0)
        }
        #expect(try node.dump() == dump)
    }

    @Test("One customer is written with all records that are one with it, and nobody else's")
    func one() throws {
        let node = try TestNode()
        let maryam = try node.addCustomer(["name": "مریم رضایی", "nationalCode": "0012345679"])
        _ = try node.addCustomer(["name": "مريم رضايي", "nationalCode": "0012345679"])
        _ = try node.addCustomer(["name": "علی"])
        try node.ask(AddRow(table: "activity", fields: ["customer": .text(maryam), "kind": .text("call")]))
        #expect(try rows(node.export(.csv, .customers, customer: maryam)).compactMap { $0["id"] } == ["1-1", "1-2"])
        #expect(try rows(node.export(.csv, .activities, customer: "1-2")).isEmpty == false)
        let lines = try text(node.export(.jsonl, .everything, customer: maryam))
        #expect(!lines.contains("علی") && lines.contains("\"table\":\"activity\""))
    }

    @Test("A formula never leaves, and any text comes back as it was")
    func guarding() {
        for text in ["=1", "+98", "-", "@x", "'", "''=", "'=1", "a=1", "", "'a", "١-"] {
            let cell = FormulaGuard.added(to: text)
            #expect(!["=", "+", "-", "@"].contains(cell.first.map(String.init) ?? ""))
            #expect(FormulaGuard.removed(from: cell) == text)
        }
    }

    @Test(
        "Headers of exports in either language lead back to their fields",
        arguments: [ImportTarget.customers, .activities, .orders]
    )
    func headers(target: ImportTarget) throws {
        let columns = ExportColumn.of(target, withJalali: true)
        for language in Language.allCases {
            let plan = try ImportPlan(target, header: columns.map { Words(language).header(of: $0) })
            #expect(plan.ignored.isEmpty)
            for (column, field) in zip(columns, plan.fields) {
                if let field { #expect(field == column.name) }
            }
            #expect(
                Set(plan.fields.compactMap { $0 }).isSuperset(
                    of: target.fields.filter { $0 != "caseFile" && $0 != "deal" && $0 != "priceList" }
                )
            )
        }
    }
}

@Suite("Address books and calendars")
struct ExchangeFormatTests {
    private func text(_ node: TestNode, _ format: ExportFormat, _ target: ImportTarget) throws -> String {
        String(decoding: try node.export(format, target), as: UTF8.self)
    }

    @Test("Cards and entries that nobody has changed change nothing when they come back")
    func again() async throws {
        let node = try TestNode()
        let id = try node.addCustomer([
            "givenName": "مریم", "familyName": "رضایی", "mobile": "09121234567", "phone": "021 8877 6655",
            "email": "m@example.ir", "birthDay": "1370/01/15", "street": "ولیعصر، پلاک ۲", "city": "تهران",
            "note": "یک; دو",
        ])
        _ = try node.addCustomer(["mobile": "09121111111"])
        _ = try node.addCustomer(["name": "شرکت نور", "kind": "organisation"])
        try node.ask(
            AddRow(
                table: "contactPoint",
                fields: ["customer": .text(id), "kind": .text("email"), "value": .text("x@y.ir")]
            )
        )
        for kind in ["call", "meeting", "task"] {
            try node.ask(AddRow(table: "activity", fields: ["customer": .text(id), "kind": .text(kind)]))
        }
        node.pass(milliseconds: 5000)
        let dump = try node.dump()
        let cards = try text(node, .vcard, .customers)
        #expect(cards.components(separatedBy: "BEGIN:VCARD").count == 4)
        #expect(!cards.contains("NATIONALCODE"))
        let book = try node.file("book.vcf", Data(cards.utf8))
        #expect(try await node.importing(book, as: nil).skipped == 3)
        let calendar = try node.file("c.ics", Data(text(node, .ics, .activities).utf8))
        #expect(try await node.importing(calendar, as: nil).skipped == 3)
        #expect(try node.dump() == dump)
        // What was changed in the address book is taken.
        let moved = try node.file("moved.vcf", Data(cards.replacing("پلاک ۲", with: "پلاک ۳").utf8))
        #expect(try await node.importing(moved, as: nil).updated == 1)
        #expect(try node.ask(ShowCustomer(customer: id)).fields["street"] == .text("ولیعصر، پلاک ۳"))
    }

    @Test("Cards of a telephone become customers with all their numbers, once")
    func telephone() async throws {
        let node = try TestNode()
        let book = """
            BEGIN:VCARD
            VERSION:3.0
            UID:42
            N:رضایی;مریم;;;
            FN:مریم رضایی
            TEL;TYPE=CELL:0912 123 4567
            TEL;TYPE=CELL:0935 111 2233
            TEL;TYPE=HOME:021-88776655
            EMAIL:m@example.ir
            EMAIL:maryam@example.com
            ORG:شرکت نور
            END:VCARD
            BEGIN:VCARD
            VERSION:3.0
            FN:علی
            """
        let errors = node.directory + "/errors.csv"
        let file = try node.file("p.vcf", Data(book.utf8))
        let summary = try await node.importing(file, as: .customers, errors: errors)
        #expect(summary.created == 1 && summary.invalid == 1 && summary.warnings.count == 1)
        let page = try node.ask(ShowCustomer(customer: "09121234567"))
        #expect(page.contacts.map(\.value).contains("+989351112233"))
        #expect(page.contacts.map(\.value).contains("maryam@example.com"))
        #expect(page.fields["phone"] == .text("+982188776655"))
        #expect(try await node.importing(file, as: .customers).position == nil)
        // A number that somebody has deleted does not come back with the same card.
        let number = try #require(node.ask(ListRows(table: "contactPoint")).first?.id)
        try node.ask(RemoveRow(table: "contactPoint", row: number, isUndone: false))
        #expect(try await node.importing(file, as: .customers).position == nil)
        let undone = try node.ask(UndoImport(batch: #require(summary.batch)))
        #expect(undone.keptCount == 0 && undone.deleted == 2)
    }

    @Test("A calendar of another program needs customers that are known, and comes once")
    func calendar() async throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "مریم"])
        let text = """
            BEGIN:VCALENDAR
            BEGIN:VEVENT
            UID:a
            X-PEYVAND-CUSTOMER:\(id)
            DTSTART;TZID=Asia/Tehran:20261123T120000
            SUMMARY:دیدار
            END:VEVENT
            BEGIN:VEVENT
            UID:b
            DTSTART:20261123T120000Z
            END:VEVENT
            END:VCALENDAR
            """
        let file = try node.file("c.ics", Data(text.utf8))
        let summary = try await node.importing(file, as: nil)
        #expect(summary.created == 1 && summary.problems.map(\.column) == ["customer"])
        #expect(try node.ask(ShowCustomer(customer: id)).timeline.map(\.at) == ["2026-11-23T08:30:00.000Z"])
        #expect(try await node.importing(file, as: nil).position == nil)
        await #expect(throws: CommandFailure.self) { try await node.importing(file, as: .orders) }
    }
}
