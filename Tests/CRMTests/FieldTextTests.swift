import CRM
import Causality
import Testing

@Suite("Field text")
struct FieldTextTests {
    private func column(_ name: String, _ table: TableDescription = .customer) throws -> ColumnDescription {
        try #require(table.column(named: name))
    }

    private func parse(_ typed: String, _ name: String, _ table: TableDescription = .customer) throws
        -> FieldValue
    {
        try FieldText.parse(typed, for: column(name, table), of: table)
    }

    @Test("A word outside the list is refused, and the sentence names the known ones, not what was typed")
    func unknownWord() throws {
        let failure = try #require(throws: FieldFailure.self) { try parse("secret-word", "kind") }
        #expect(failure.description.contains("person, organisation"))
        #expect(!failure.description.contains("secret-word"))
        #expect(!failure.persian.contains("secret-word"))
    }

    @Test(
        "Numbers that could mean something else are refused",
        arguments: [
            "1,5", "1.5", "12,34,567", "1,,000", "1-2", "x", "-", "1,00", "٫۵", "9223372036854775808",
        ]
    )
    func ambiguousNumber(typed: String) {
        #expect(throws: FieldFailure.self) { try parse(typed, "total", .salesOrder) }
    }

    @Test(
        "Amounts are read in both digit scripts, with separators and units",
        arguments: [
            ("1250000", 1_250_000), ("1,250,000", 1_250_000), ("۱٬۲۵۰٬۰۰۰", 1_250_000), ("-۵۰۰", -500),
            ("+7", 7),
            ("۱۲۵ ۰۰۰", 125_000), ("1500.00", 1500), ("۲۰۰ تومان", 2000), ("3,000 ریال", 3000), ("0", 0),
        ]
    )
    func amounts(typed: String, rial: Int64) throws {
        #expect(try parse(typed, "total", .salesOrder) == .integer(rial))
    }

    @Test(
        "Days of both calendars are stored as Gregorian ones",
        arguments: [
            ("1405/09/01", "2026-11-22"), ("۱۴۰۵/۹/۱", "2026-11-22"), ("2026-11-22", "2026-11-22"),
            ("1400-01-01", "2021-03-21"),
        ]
    )
    func days(typed: String, stored: String) throws {
        #expect(try parse(typed, "birthDay") == .text(stored))
    }

    @Test(
        "A day that does not exist is refused",
        arguments: ["2026-02-30", "1405/13/01", "yesterday", "99/1/1"]
    )
    func wrongDay(typed: String) {
        #expect(throws: FieldFailure.self) { try parse(typed, "birthDay") }
    }

    @Test(
        "Times are read as RFC 3339, as milliseconds, and as a day and time in Tehran",
        arguments: [
            ("2026-11-22T03:15:30.123Z", 1_795_317_330_123),
            ("2026-11-22T06:45:30.123+03:30", 1_795_317_330_123),
            ("1795317330123", 1_795_317_330_123), ("1405/09/01 06:45:30", 1_795_317_330_000),
            ("۱۴۰۵/۰۹/۰۱ ۰۶:۴۵", 1_795_317_300_000), ("2026-11-22 06:45", 1_795_317_300_000),
            ("1405/09/01", 1_795_293_000_000),
        ]
    )
    func instants(typed: String, milliseconds: Int64) throws {
        #expect(try parse(typed, "at", .activity) == .integer(milliseconds))
    }

    @Test(
        "A time that is none is refused",
        arguments: ["soon", "1405/09/01 25:00", "1405/09/01 1:2:3:4", "12:30"]
    )
    func wrongInstant(typed: String) {
        #expect(throws: FieldFailure.self) { try parse(typed, "at", .activity) }
    }

    @Test("Ids are read in both digit scripts, and an id alone is not a number")
    func references() throws {
        let stored = try #require(RowID(printed: "17-4711")).rawValue
        #expect(try parse("17-4711", "customer", .activity) == .integer(stored))
        #expect(try parse("۱۷-۴۷۱۱", "customer", .activity) == .integer(stored))
        #expect(throws: FieldFailure.self) { try parse("4711", "customer", .activity) }
        #expect(try parse("2-1 1-3, 2-1", "alsoWith", .activity) == .text("1-3 2-1"))
    }

    @Test("Words are sorted, and each is kept once")
    func words() throws {
        #expect(try parse("supplier, customer supplier", "roles") == .text("customer supplier"))
        #expect(throws: FieldFailure.self) { try parse("customer enemy", "roles") }
    }

    @Test("An empty text clears any field", arguments: TableDescription.customer.columns.dropFirst())
    func empty(column: ColumnDescription) throws {
        #expect(try FieldText.parse(" \u{200C} ", for: column, of: .customer) == .null)
    }

    @Test("Text is stored with Persian letters and clean spacing")
    func text() throws {
        #expect(try parse("  علي   رضايي ", "name") == .text("علی رضایی"))
    }

    @Test("JSON gives numbers to number fields only")
    func json() throws {
        let total = try column("total", .salesOrder)
        #expect(try FieldText.parse(.integer(5), for: total, of: .salesOrder) == .integer(5))
        #expect(throws: FieldFailure.self) {
            try FieldText.parse(.integer(5), for: column("nationalCode"), of: .customer)
        }
        #expect(throws: FieldFailure.self) {
            try FieldText.parse(.boolean(true), for: total, of: .salesOrder)
        }
        #expect(
            try FieldText.parse(.boolean(true), for: column("active", .branch), of: .branch) == .integer(1)
        )
        #expect(try FieldText.parse(.null, for: total, of: .salesOrder) == .null)
    }

    @Test("What is printed is read as the same value again")
    func roundTrip() throws {
        let id = try #require(RowID(printed: "2-1"))
        let samples: [(String, TableDescription, FieldValue)] = [
            ("at", .activity, .integer(1_795_317_330_123)), ("at", .activity, .integer(-1)),
            ("customer", .activity, .integer(id.rawValue)), ("active", .branch, .integer(0)),
            ("total", .salesOrder, .integer(.min)), ("birthDay", .customer, .text("1979-01-01")),
            ("name", .customer, .text("علی‌رضا \"x\"")), ("kind", .customer, .text("person")),
        ]
        for (name, table, value) in samples {
            let column = try column(name, table)
            let input: FieldInput =
                switch FieldText.print(value, for: column) {
                case .null: .null
                case .integer(let number): .integer(number)
                case .boolean(let flag): .boolean(flag)
                case .text(let text): .text(text)
                }
            #expect(try FieldText.parse(input, for: column, of: table) == value)
        }
    }
}

@Suite("Field entry")
struct FieldEntryTests {
    private func read(_ typed: String, _ name: String, areaCode: String? = nil) throws -> FieldEntry.Reading {
        let column = try #require(TableDescription.customer.column(named: name))
        return try FieldEntry.read(.text(typed), for: column, of: .customer, branchAreaCode: areaCode)
    }

    @Test("A wrong number or code is kept and warned about, without repeating it")
    func kept() throws {
        for (name, typed, stored) in [
            ("mobile", "۰۹۱۲", "0912"), ("nationalCode", "۱۲۳۴۵۶۷۸۹۰", "1234567890"),
            ("postalCode", "12-34", "1234"),
            ("nationalCode", "ندارد", "ندارد"),
        ] {
            let reading = try read(typed, name)
            #expect(reading.value == .text(stored))
            let warning = try #require(reading.warning)
            #expect(!warning.description.contains(stored))
        }
    }

    @Test("Telephone numbers are stored in one form")
    func phones() throws {
        for typed in ["09121234567", "+98 912 123 4567", "۰۹۱۲-۱۲۳-۴۵۶۷", "00989121234567"] {
            #expect(try read(typed, "mobile") == FieldEntry.Reading(value: .text("+989121234567")))
        }
    }

    @Test("A number of eight digits takes the branch's area code, and says so")
    func areaCode() throws {
        let reading = try read("88776655", "phone", areaCode: "021")
        #expect(reading.value == .text("+982188776655"))
        #expect(reading.warning?.cause == .areaCodeAssumed("021"))
    }

    @Test("An extension stays behind its number, also when it is entered again")
    func phoneExtension() throws {
        let first = try read("02188776655 داخلی ۱۲", "phone")
        #expect(first.value == .text("+982188776655 ext 12"))
        #expect(try read("+982188776655 ext 12", "phone") == first)
    }

    @Test("A code gets back the zeros that spreadsheets drop")
    func nationalCode() throws {
        #expect(try read("13542419", "nationalCode").value == .text("0013542419"))
    }
}

@Suite("Canonical lines")
struct CanonicalLineTests {
    private func line(_ table: TableDescription, _ values: [String: RawField]) throws -> String {
        let id = try #require(RowID(printed: "2-1"))
        var bytes: [UInt8] = []
        CanonicalLine(table).append(id, to: &bytes) { values[table.columns[$0].name] ?? .null }
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test("Keys are sorted, nulls left out, and only what JSON demands is escaped")
    func shape() throws {
        let text = Array("a\"b\\c\n\u{1}/\u{200C}é".utf8)
        let result = try text.withUnsafeBytes { bytes in
            try line(
                .activity,
                [
                    "subject": .text(bytes), "at": .integer(0), "seconds": .integer(-12),
                    "customer": .integer(#require(RowID(printed: "17-4711")).rawValue),
                ]
            )
        }
        let subject = #""a\"b\\c\n\u0001/"# + "\u{200C}é\""
        let set = #""at":"1970-01-01T00:00:00.000Z","customer":"17-4711","seconds":-12,"subject":"# + subject
        #expect(result == #"{"id":"2-1","op":"put","set":{"# + set + #"},"table":"activity"}"# + "\n")
    }

    @Test("A row without values is a line with an empty set")
    func empty() throws {
        #expect(try line(.staff, [:]) == #"{"id":"2-1","op":"put","set":{},"table":"staff"}"# + "\n")
    }

    @Test("Truth values and damaged ones are told apart")
    func booleans() throws {
        #expect(try line(.branch, ["active": .integer(1)]).contains(#"{"active":true}"#))
        #expect(try line(.branch, ["active": .integer(7)]).contains(#"{"active":7}"#))
        #expect(try line(.activity, ["at": .integer(.max)]).contains(#"{"at":9223372036854775807}"#))
    }
}

@Suite("Customer page")
struct CustomerViewTests {
    /// Rows held in memory.
    private struct Shelf: RowSource {
        var rows: [RowValues] = []

        mutating func add(_ table: TableDescription, _ printed: String, _ values: [String: FieldValue]) throws {
            let id = try #require(RowID(printed: printed))
            var columns = [FieldValue](repeating: .null, count: table.columns.count)
            columns[0] = .integer(id.rawValue)
            for (name, value) in values { columns[try #require(table.column(named: name)).number] = value }
            rows.append(RowValues(table: table, id: id, values: columns))
        }

        func values(_ table: TableDescription, id: RowID) throws -> RowValues? {
            rows.first { $0.table == table && $0.id == id }
        }

        func values(_ table: TableDescription, where column: String, names id: RowID) throws -> [RowValues] {
            rows.filter { row in
                row.table == table && row.text(column)?.split(separator: " ").contains("\(id)") ?? false
            }
        }

        func values(_ table: TableDescription, where column: String, is value: FieldValue) throws
            -> [RowValues]
        {
            rows.filter { $0.table == table && $0[column] == value }.sorted { $0.id < $1.id }
        }
    }

    @Test("There is no page for a customer who is not here")
    func missing() throws {
        #expect(try CustomerView(of: #require(RowID(printed: "2-1")), from: Shelf()) == nil)
    }

    @Test("Everything that happened is shown newest first, with the office where it was recorded")
    func timeline() throws {
        let id = try #require(RowID(printed: "2-1"))
        let customer = FieldValue.integer(id.rawValue)
        let order = FieldValue.integer(try #require(RowID(printed: "3-1")).rawValue)
        var shelf = Shelf()
        try shelf.add(.customer, "2-1", ["givenName": .text("مریم"), "familyName": .text("رضایی")])
        try shelf.add(.branch, "1-2", ["name": .text("isfahan"), "origin": .integer(2)])
        try shelf.add(.activity, "2-5", ["customer": customer, "kind": .text("call"), "at": .integer(1_000)])
        try shelf.add(
            .salesOrder,
            "3-1",
            ["customer": customer, "kind": .text("creditNote"), "day": .text("2026-11-22")]
        )
        try shelf.add(.orderLine, "3-1", ["salesOrder": order, "text": .text("book"), "total": .integer(70)])
        try shelf.add(.orderLine, "3-2", ["salesOrder": order, "text": .text("pen"), "total": .integer(30)])
        try shelf.add(
            .activity,
            "2-6",
            ["customer": .integer(1), "kind": .text("visit"), "at": .integer(2_000)]
        )

        let view = try #require(try CustomerView(of: id, from: shelf))
        #expect(view.name == "مریم رضایی")
        #expect(view.golden == "2-1")
        #expect(view.members == ["2-1"])
        #expect(view.timeline.map(\.id) == ["3-1", "2-5"])
        #expect(view.timeline.map(\.branch) == [nil, "isfahan"])
        #expect(view.timeline[0].amount == -100)
        #expect(view.timeline[0].summary == "book +1")
        #expect(view.timeline[0].at == "2026-11-21T20:30:00.000Z")
        #expect(view.timeline[1].at == "1970-01-01T00:00:01.000Z")
    }
}
