import CRM
import Foundation
import ReplicaStore
import Synchronization
import TestKit
import Testing

@testable import peyvand

@Suite("CSV")
struct CSVReaderTests {
    private func records(_ text: String, delimiter: Character = ",", piece: Int = .max) -> [FileRecord] {
        var reader = CSVReader(delimiter: delimiter.asciiValue ?? 0, encoding: .utf8)
        var records: [FileRecord] = []
        let bytes = Array(text.utf8)
        var start = 0
        while start < bytes.count {
            let end = piece > bytes.count - start ? bytes.count : start + piece
            reader.append(bytes[start..<end])
            while let record = reader.next(isEnd: false) { records.append(record) }
            start = end
        }
        while let record = reader.next(isEnd: true) { records.append(record) }
        return records
    }

    @Test("A quote that is never closed spoils its own line only")
    func openQuote() {
        let found = records("a,b\n1,\"x\n2,y\n")
        #expect(found.map(\.flaw) == [nil, .openQuote, nil])
        #expect(found.map(\.line) == [1, 2, 3])
        #expect(found[2].cells == ["2", "y"])
    }

    @Test("Text behind a closing quote spoils its own line only")
    func textAfterQuote() {
        #expect(records("\"a\"b,c\nd,e\n").map(\.flaw) == [.textAfterQuote, nil])
    }

    @Test("A cell may begin with a ZWNJ or a vowel sign")
    func leadingMarks() {
        #expect(records("1,\u{200C}x,\u{064B}y\n").map(\.cells) == [["1", "\u{200C}x", "\u{064B}y"]])
    }

    @Test(
        "However a file is cut into pieces, its records are the same",
        arguments: [1, 2, 3, 7, 1000]
    )
    func pieces(piece: Int) {
        let text = "id,\"na\"\"me\",z\r\n1,\"two\r\nlines\",\r\n\r\n2, \"x\" ,5\" pipe\r3,,آ"
        let found = records(text, piece: piece)
        #expect(
            found.map(\.cells) == [
                ["id", "na\"me", "z"], ["1", "two\r\nlines", ""], [""], ["2", "x", "5\" pipe"],
                ["3", "", "آ"],
            ]
        )
        #expect(found.map(\.line) == [1, 2, 4, 5, 6])
    }

    @Test("Random tables come back as they were written")
    func random() {
        var random = SeededRandom(seed: testSeed("CSV"))
        let letters = ["a", "\"", ",", "\n", "\r\n", " ", "ی", "\u{200C}", ""]
        for _ in 0..<300 {
            let rows = (0...random.below(4)).map { _ in
                (0...random.below(3)).map { _ in
                    (0...random.below(4)).map { _ in letters[random.below(9)] }.joined()
                }
            }
            let text = rows.map { CSVText.line($0, delimiter: ",") }.joined()
            #expect(records(text, piece: 1 + random.below(9)).map(\.cells) == rows)
        }
    }
}

@Suite("Import")
struct ImportTests {
    /// A node whose disk is full from the second transaction on.
    private final class FullDisk: RequestPerformer {
        private let service: NodeService
        private let written = Mutex(0)

        init(service: NodeService) { self.service = service }

        func ask<Request: NodeRequest>(_ request: Request) async throws -> Request.Reply {
            if request is ImportChunk {
                let number = written.withLock { count in
                    count += 1
                    return count
                }
                if number == 2 { throw StoreFailure.diskFull }
            }
            return try request.perform(in: service) { _ in }
        }
    }

    private let orders = """
        externalKey,customer,day,quantity,total,kind,text
        o-1,c-1,1405/09/01,3,"1,250,000",,سی‌دی
        o-2,c-1,1997-01-01,1,0,invoice,
        """
    private let customers =
        "کد مشتری;نام;نام خانوادگی;موبایل;شهر\r\nc-1;مريم;رضايي;۰۹۱۲۱۲۳۴۵۶۷;اصفهان\r\nc-2;علی;؛;;\r\n"

    @Test("The same file again changes nothing")
    func again() async throws {
        let node = try TestNode()
        let people = try node.file("c.csv", Data(customers.utf8))
        let sales = try node.file("o.csv", Data(orders.utf8))
        #expect(try await node.importing(people, as: .customers).created == 2)
        #expect(try await node.importing(sales, as: .orders).created == 2)
        let dump = try node.dump()
        #expect(try await node.importing(people, as: .customers).skipped == 2)
        let second = try await node.importing(sales, as: .orders)
        #expect(second.skipped == 2)
        #expect(second.position == nil)
        #expect(try node.dump() == dump)
    }

    @Test("What was edited here after an import stays, though the file comes again or newer")
    func editsStay() async throws {
        let node = try TestNode()
        let header = "externalKey,name,mobile,city\n"
        let first = try node.file("1.csv", Data((header + "c-1,مریم رضایی,09121234567,اصفهان\n").utf8))
        _ = try await node.importing(first, as: .customers)
        try node.ask(EditRow(table: "customer", row: "1-1", fields: ["city": .text("یزد")]))
        let dump = try node.dump()
        let again = try await node.importing(first, as: .customers)
        #expect(again.kept == 1 && again.updated == 0 && again.position == nil)
        #expect(try node.dump() == dump)

        // The mobile is the file's, before and after it has changed there; the city is not any more.
        for mobile in ["09129999999", "09121111111"] {
            let text = header + "c-1,مریم رضایی,\(mobile),شیراز\n"
            let next = try await node.importing(node.file("2.csv", Data(text.utf8)), as: .customers)
            #expect(next.updated == 1 && next.kept == 1)
            let fields = try node.ask(ShowCustomer(customer: "1-1")).fields
            #expect(fields["mobile"] == .text("+98" + mobile.dropFirst()))
            #expect(fields["city"] == .text("یزد"))
        }
    }

    @Test("An import that fails half way says how many rows stay")
    func failsHalfWay() async throws {
        let node = try TestNode()
        let rows = (1...9000).map { "c-\($0),نام \($0)\n" }.joined()
        let file = try node.file("many.csv", Data(("externalKey,name\n" + rows).utf8))
        let summary = try await node.importing(file, as: .customers, node: FullDisk(service: node.service))
        #expect(summary.failure?.exit == .failed)
        #expect(summary.created == 4000)
        #expect(Words(.en).failedImport("x", summary.created).contains("4000 rows before that were done and stay"))
    }

    @Test("An order of a file becomes an issued invoice with one line")
    func order() async throws {
        let node = try TestNode()
        _ = try await node.importing(node.file("c.csv", Data(customers.utf8)), as: .customers)
        _ = try await node.importing(node.file("o.csv", Data(orders.utf8)), as: .orders)
        let order = try node.ask(ShowOrder(order: "1-1"))
        #expect(order.fields["kind"] == .text("invoice"))
        #expect(order.fields["state"] == .text("issued"))
        #expect(order.fields["day"] == .text("2026-11-22"))
        #expect(order.fields["total"] == .integer(1_250_000))
        #expect(order.fields["branch"] == .text("1-1"))
        #expect(order.lines.map(\.quantity) == [3000])
        #expect(order.lines.map(\.total) == [1_250_000])
        #expect(try node.ask(ShowCustomer(customer: "09121234567")).timeline.count == 2)
    }

    @Test("Rows that cannot be taken stop nothing, and come out with the reason")
    func invalid() async throws {
        let node = try TestNode()
        let text =
            orders + "\no-3,c-9,1997-01-01,1,5,,\no-4,c-1,1997-02-30,1,5,,\no-5,c-1,,1,5,,,,\no-6,\"c-1,1,2\n"
        _ = try await node.importing(node.file("c.csv", Data(customers.utf8)), as: .customers)
        let rejected = node.directory + "/bad.csv"
        let summary = try await node.importing(
            node.file("o.csv", Data(text.utf8)),
            as: .orders,
            errors: rejected
        )
        #expect(summary.created == 3)
        #expect(summary.invalid == 3)
        #expect(summary.problems.map(\.line) == [4, 5, 7])
        #expect(summary.problems.map(\.column) == ["customer", "day", nil])
        let lines = try String(contentsOfFile: rejected, encoding: .utf8).split(separator: "\r\n")
        #expect(lines.count == 4)
        #expect(lines[0].hasSuffix(",text,reason"))
        #expect(lines[1].hasPrefix("o-3,c-9,1997-01-01,1,5,,,customer: "))
    }

    @Test("Rows that were refused are mended in the file of errors, and taken from there")
    func mended() async throws {
        let node = try TestNode()
        // Without a key: what makes the rows the same is what stands in them.
        let text = "نام مشتری;تاریخ تولد;یادداشت\r\nمریم;۱۳۷۰/۱۳/۴۵;=1+1\r\nعلی;1370/1/1;\r\nعلی;1370/1/99;\r\n"
        let rejected = node.directory + "/bad.csv"
        let first = try await node.importing(node.file("c.csv", Data(text.utf8)), as: .customers, errors: rejected)
        #expect(first.created == 1 && first.invalid == 2)
        #expect(first.problems.map(\.column) == ["birthDay", "birthDay"])
        #expect(first.problems.map(\.value) == ["۱۳۷۰/۱۳/۴۵", "1370/1/99"])
        let errors = try String(contentsOfFile: rejected, encoding: .utf8)
        #expect(errors.contains(";'=1+1;"))
        let mended = errors.replacing("۱۳۷۰/۱۳/۴۵", with: "۱۳۷۰/۱۲/۱۵").replacing("1370/1/99", with: "1370/1/1")
        let again = node.directory + "/still-bad.csv"
        let file = try node.file("mended.csv", Data(mended.utf8))
        let second = try await node.importing(file, as: .customers, errors: again)
        // One row has become equal to one that was taken, and is another all the same.
        #expect(second.created == 2 && second.invalid == 0 && second.ignoredColumns.isEmpty)
        #expect(try node.ask(ListRows(table: "customer")).map { $0.text("name") } == ["علی", "مریم", "علی"])
        #expect(try node.ask(ListRows(table: "customer")).map { $0.text("note") } == ["", "=1+1", ""])
        #expect(try await node.importing(file, as: .customers).position == nil)
        #expect(try String(contentsOfFile: again, encoding: .utf8).split(separator: "\r\n").count == 1)
    }

    @Test("Two rows of one key that said different things changed the row each time the file came")
    func keyTwice() async throws {
        let node = try TestNode()
        let text = "externalKey,name,city\nc-1,علی,یزد\nc-1,علی,قم\nc-1,علی,یزد\n"
        let file = try node.file("c.csv", Data(text.utf8))
        let first = try await node.importing(file, as: .customers)
        #expect(first.created == 1 && first.skipped == 1 && first.problems.map(\.line) == [3])
        #expect(first.problems.first?.reason.contains("Line 2") == true && first.problems.first?.value == "c-1")
        #expect(try await node.importing(file, as: .customers).position == nil)
    }

    @Test("A mended file of errors was emptied when it was also given as the place for new errors")
    func sameFile() async throws {
        let node = try TestNode()
        let file = try node.file("errors.csv", Data("name\nعلی\n".utf8))
        await #expect(throws: CommandFailure.self) {
            try await node.importing(file, as: .customers, errors: node.directory + "/./errors.csv")
        }
        await #expect(throws: CommandFailure.self) { try await node.importing(file, as: .customers, results: file) }
        #expect(try await node.importing(file, as: .customers).created == 1)
    }

    @Test("What the file wrote is kept where something else is stored, until the person is erased")
    func originals() async throws {
        let node = try TestNode()
        let text = "externalKey,name,mobile,birthDay,city\nc-1,مريم \"م\",۰۹۱۲ ۱۲۳ ۴۵۶۷,1370/1/15,یزد\nc-2,علی,,,\n"
        let summary = try await node.importing(node.file("c.csv", Data(text.utf8)), as: .customers)
        let shown = try node.ask(ShowImport(batch: #require(summary.batch), limit: 10))
        #expect(shown.originals.map(\.line) == [2])
        #expect(
            shown.originals.first?.cells
                == ["name": "مريم \"م\"", "mobile": "۰۹۱۲ ۱۲۳ ۴۵۶۷", "birthDay": "1370/1/15"]
        )
        #expect(shown.fileName == "c.csv" && shown.options["encoding"] == "UTF-8" && shown.sha256.count == 64)
        var lines = ""
        _ = try ExportPerson(customer: "1-1").perform(in: node.service) {
            lines += String(decoding: $0.output ?? [], as: UTF8.self)
        }
        #expect(lines.contains("۰۹۱۲ ۱۲۳ ۴۵۶۷"))
        _ = try node.ask(ErasePerson(customer: "1-1", deletedBefore: nil))
        #expect(try node.ask(ShowImport(batch: #require(summary.batch), limit: 10)).originals.isEmpty)
    }

    @Test("Of each row is told what became of it")
    func results() async throws {
        let node = try TestNode()
        _ = try node.addCustomer(["name": "مریم رضایی", "nationalCode": "0012345679"])
        let text = """
            externalKey,name,nationalCode,birthDay
            c-1,مريم رضايي,0012345679,
            c-2,علی,,
            c-3,رضا,,1370/13/1

            """
        let path = node.directory + "/results.jsonl"
        let file = try node.file("c.csv", Data(text.utf8))
        let summary = try await node.importing(file, as: .customers, results: path)
        #expect(summary.created == 2 && summary.linked == 1 && summary.invalid == 1)
        let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
        #expect(lines.count == 3)
        #expect(lines[0] == #"{"id":"1-2","line":2,"result":"linked"}"#)
        #expect(lines[1].contains(#""result":"created""#))
        #expect(lines[2].contains(#""column":"birthDay""#) && lines[2].contains(#""value":"1370\/13\/1""#) == false)
        _ = try await node.importing(file, as: .customers, results: path)
        #expect(try String(contentsOfFile: path, encoding: .utf8).contains(#""result":"skipped""#))
    }

    @Test("A dry run counts and writes nothing")
    func dryRun() async throws {
        let node = try TestNode()
        let before = try node.dump()
        let people = try node.file("c.csv", Data(customers.utf8))
        #expect(try await node.importing(people, as: .customers, isDryRun: true).created == 2)
        #expect(try node.dump() == before)
        // In several transactions too.
        let rows = (1...9000).map { "c-\($0),نام \($0)\n" }.joined()
        let many = try node.file("many.csv", Data(("externalKey,name\n" + rows).utf8))
        let tried = try await node.importing(many, as: .customers, isDryRun: true)
        #expect(tried.created == 9000 && tried.batch == nil && tried.failure == nil)
        #expect(try node.dump() == before)
    }

    @Test("A changed row changes its fields only, and leaves the others")
    func changed() async throws {
        let node = try TestNode()
        _ = try await node.importing(node.file("c.csv", Data(customers.utf8)), as: .customers)
        try node.ask(EditRow(table: "customer", row: "1-1", fields: ["note": .text("x")]))
        let next = customers.replacing("اصفهان", with: "یزد")
        let summary = try await node.importing(node.file("d.csv", Data(next.utf8)), as: .customers)
        #expect(summary.updated == 1)
        #expect(summary.skipped == 1)
        let view = try node.ask(ShowCustomer(customer: "1-1"))
        #expect(view.fields["city"] == .text("یزد"))
        #expect(view.fields["note"] == .text("x"))
        #expect(view.name == "مریم رضایی")
    }

    @Test("A row that was deleted here is not made again")
    func deleted() async throws {
        let node = try TestNode()
        let people = try node.file("c.csv", Data(customers.utf8))
        _ = try await node.importing(people, as: .customers)
        try node.ask(RemoveRow(table: "customer", row: "1-1", isUndone: false))
        #expect(try await node.importing(people, as: .customers).skipped == 2)
        #expect(try node.ask(ListRows(table: "customer")).map(\.id) == ["1-2"])
    }

    @Test("Equal rows without a key are different rows, and still the same when the file comes again")
    func withoutKey() async throws {
        let node = try TestNode()
        let id = try node.addCustomer(["name": "الف"])
        let text = "customer,day,total\n\(id),1997-01-01,5\n\(id),1997-01-01,5\n"
        let path = try node.file("o.csv", Data(text.utf8))
        #expect(try await node.importing(path, as: .orders).created == 2)
        #expect(try await node.importing(path, as: .orders).skipped == 2)
    }

    @Test("A file in Windows-1256 is read, with a byte order mark one in UTF-8 too")
    func encodings() async throws {
        let node = try TestNode()
        // نام = E4 C7 E3, علي = DA E1 ED
        let windows: [UInt8] = [0xE4, 0xC7, 0xE3, 0x0A, 0xDA, 0xE1, 0xED, 0x0A]
        _ = try await node.importing(node.file("w.csv", Data(windows)), as: .customers)
        _ = try await node.importing(node.file("u.csv", Data("\u{FEFF}name\nعلی\n".utf8)), as: .customers)
        #expect(try node.ask(ListRows(table: "customer")).map { $0.text("name") } == ["علی", "علی"])
    }

    @Test("A map names the columns of a file that nobody knows")
    func map() async throws {
        let node = try TestNode()
        let path = try node.file("m.csv", Data("A\tB\nعلی\tیزد\n".utf8))
        await #expect(throws: CommandFailure.self) { try await node.importing(path, as: .customers) }
        for (name, content) in [
            ("a.map", "# names\nname=A\ncity = \"B\"\n"), ("b.toml", "name = \"A\"\ncity = \"B\"\n"),
        ] {
            let map = try node.file(name, Data(content.utf8))
            let summary = try await node.importing(path, as: .customers, map: map)
            #expect(summary.created + summary.skipped == 1)
        }
        #expect(try node.ask(ShowCustomer(customer: "1-1")).fields["city"] == .text("یزد"))
        let wrong = try node.file("c.map", Data("colour=A\n".utf8))
        await #expect(throws: CommandFailure.self) {
            try await node.importing(path, as: .customers, map: wrong)
        }
    }

    @Test("A file that is a spreadsheet, empty or missing is refused with a sentence")
    func notCSV() async throws {
        let node = try TestNode()
        for content in [[0x50, 0x4B, 3, 4, 0, 0], [0xFF, 0xFE, 0x41, 0], []] as [[UInt8]] {
            let path = try node.file("x.csv", Data(content))
            await #expect(throws: CommandFailure.self) { try await node.importing(path, as: .customers) }
        }
        await #expect(throws: CommandFailure.self) {
            try await node.importing("/nowhere.csv", as: .customers)
        }
    }
}

@Suite("Settings")
struct SettingsTests {
    @Test("A flag comes before the environment, and the environment before the file")
    func order() throws {
        let home = TemporaryDirectory()
        try "listen = \"1.1.1.1:1\"\nconsole = \"1.1.1.1:2\"\n"
            .write(toFile: home.path + "/peyvand.toml", atomically: true, encoding: .utf8)
        let settings = try Settings(data: home.path + "/", environment: ["PEYVAND_LISTEN": "2.2.2.2:2"])
        #expect(settings.directory == home.path)
        #expect(settings.value(.listen, flag: "3.3.3.3:3") == "3.3.3.3:3")
        #expect(settings.value(.listen) == "2.2.2.2:2")
        #expect(settings.value(.console) == "1.1.1.1:2")
        #expect(settings.value(.advertise) == nil)
    }

    @Test("A setting that does not exist, or a clock offset that is no number, is refused")
    func wrong() throws {
        let home = TemporaryDirectory()
        let path = home.path + "/peyvand.toml"
        for text in ["lisen = \"1.1.1.1:1\"\n", "listen = 5\n", "listen = \n"] {
            try text.write(toFile: path, atomically: true, encoding: .utf8)
            #expect(throws: CommandFailure.self) { try Settings(data: home.path, environment: [:]) }
        }
        let settings = try Settings(data: "/nowhere", environment: ["PEYVAND_CLOCK_OFFSET": "soon"])
        #expect(throws: CommandFailure.self) { try settings.wallClock() }
    }

    @Test("The language comes from the flag, the setting, then the locale")
    func language() throws {
        func language(_ environment: [String: String], _ flag: Language? = nil) throws -> Language {
            try Settings(data: "/nowhere", environment: environment).language(flag: flag)
        }
        #expect(try language([:]) == .en)
        #expect(try language(["LANG": "fa_IR.UTF-8"]) == .fa)
        #expect(try language(["LANG": "fa_IR", "LC_ALL": "C"]) == .en)
        #expect(try language(["LANG": "fa_IR", "PEYVAND_LANG": "en"]) == .en)
        #expect(try language(["PEYVAND_LANG": "en"], .fa) == .fa)
        #expect(throws: CommandFailure.self) { try language(["PEYVAND_LANG": "de"]) }
    }
}
