import Foundation
import TestKit
import Testing

@testable import Spreadsheet

@Suite("Reading a spreadsheet")
struct SpreadsheetReaderTests {
    private let directory = TemporaryDirectory()
    private var path: String { directory.path + "/list.xlsx" }

    private func fixture(_ name: String) -> String {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Files/" + name).path
    }

    private func cells(_ cells: String, texts: String = "", formats: [String] = [], workbook: String = "") throws
        -> [String]
    {
        let file = WorkbookFile(rows: "<row>\(cells)</row>", texts: texts, formats: formats, workbook: workbook)
        try? FileManager.default.removeItem(atPath: path)
        try file.write(to: path)
        return try rows(of: path).first?.cells ?? []
    }

    @Test(
        "What LibreOffice and openpyxl write is read as they show it",
        arguments: ["libreoffice.xlsx", "openpyxl.xlsx"]
    )
    func others(name: String) throws {
        let isCalculated = name == "libreoffice.xlsx"
        let read = try rows(of: fixture(name))
        #expect(read.map(\.number) == [1, 2, 3, 5])
        #expect(
            read[0].cells == ["نام", "کد ملی", "تلفن", "بدهی", "تولد", "دیدار", "فعال", "کد با قالب", "جمع", "نسبت"]
        )
        #expect(
            read[1].cells == [
                "علی‌رضا کریمی", "0012345679", "09121234567", "1250000", "1979-03-21", "2026-11-23T14:05:00", "true",
                "0012345679", isCalculated ? "2500000" : "", "0.1",
            ]
        )
        #expect(
            read[2].cells == [
                "=شیرین", "0499370899", "9121234567", "-75", "1900-01-15", "2026-11-23", "false", "0012345679",
                isCalculated ? "-150" : "", "0.1",
            ]
        )
        #expect(read[3].cells == ["", "", "تنها"])
    }

    @Test(
        "A number is told without an exponent and without noise",
        arguments: [
            ("9121234567", "9121234567"), ("1.25E9", "1250000000"), ("1.0", "1"), ("-5.0E0", "-5"), ("0.1", "0.1"),
            ("0.10000000000000001", "0.1"), ("0.30000000000000004", "0.3"), ("1249999999.9999998", "1250000000"),
            ("1E-3", "0.001"), ("-1.5E-7", "-0.00000015"), ("1.2345678901234567E+19", "12345678901234600000"),
            ("12345678901234567890", "12345678901234567890"), ("9007199254740991.0", "9007199254740991"),
            ("1E300", "1E300"), ("0", "0"), ("007", "007"),
        ]
    )
    func numbers(written: String, told: String) throws {
        #expect(try cells("<c><v>\(written)</v></c>") == [told])
    }

    @Test(
        "A day and a time are told in digits that sort",
        arguments: [
            ("yyyy-mm-dd", "46349", "2026-11-23"), ("dd/mm/yyyy hh:mm", "46349.586805555555", "2026-11-23T14:05:00"),
            ("d mmm", "46349", "2026-11-23"), ("mm-yy", "46349", "2026-11-23"),
            ("[$-fa-IR,96]yyyy/mm/dd;@", "46349", "2026-11-23"),
            ("[$-409]mmmm d, yyyy", "1", "1900-01-01"), ("yyyy", "59", "1900-02-28"), ("yyyy", "60", "1900-02-29"),
            ("yyyy", "61", "1900-03-01"), ("yyyy", "2958465", "9999-12-31"), ("yyyy", "2958466", "2958466"),
            ("yyyy", "-1", "-1"), ("yyyy", "0", "0"), ("h:mm AM/PM", "0.5", "12:00:00"),
            ("hh:mm", "46349.5", "2026-11-23T12:00:00"), ("[h]:mm", "1.5", "36:00:00"),
            ("mm:ss", "0.000011574", "00:00:01"),
            ("0000000000", "12345679", "0012345679"), ("0000000000", "12345678901", "12345678901"),
            ("0000000000", "-5", "-5"), ("General", "5", "5"), ("#,##0", "1250000", "1250000"), ("0.00", "2.5", "2.5"),
            ("#,##0 \"day\"", "3", "3"), ("[Red]0", "3", "3"), ("0\\d", "3", "3"),
            ("0.00E+00", "1250000000", "1250000000"),
            ("@", "912", "912"), ("0", "7", "7"), ("0%", "0.5", "0.5"),
        ]
    )
    func formats(code: String, written: String, told: String) throws {
        #expect(try cells("<c s=\"1\"><v>\(written)</v></c>", formats: [code]) == [told])
    }

    @Test("Years may count from 1904, and formats that have only a number may be days")
    func other() throws {
        #expect(
            try cells(
                "<c s=\"1\"><v>0.25</v></c><c s=\"1\"><v>44887</v></c>",
                formats: ["yyyy"],
                workbook: "<workbookPr date1904=\"1\"/>"
            )
                == ["06:00:00", "2026-11-23"]
        )
        for (number, told) in [(14, "2026-11-23"), (22, "2026-11-23"), (3, "46349"), (49, "46349"), (9, "46349")] {
            var file = WorkbookFile(rows: "<row><c s=\"0\"><v>46349</v></c></row>")
            file.parts["xl/styles.xml"] = "<styleSheet><cellXfs><xf numFmtId=\"\(number)\"/></cellXfs></styleSheet>"
            try? FileManager.default.removeItem(atPath: path)
            try file.write(to: path)
            #expect(try rows(of: path).first?.cells == [told])
        }
    }

    @Test("Texts may be shared, within the cell or calculated, in runs and with a pronunciation")
    func texts() throws {
        let shared = """
            <si><t>یک</t></si><si><r><rPr><b/></rPr><t xml:space="preserve">دو </t></r><r><t>بخش</t></r></si>\
            <si><t>漢字</t><rPh sb="0" eb="2"><t>かんじ</t></rPh><phoneticPr fontId="1"/></si><si/>\
            <si><t>a_x000D_b_x005F_x0041__xD83D__xDE00__xD83D_</t></si>
            """
        let read = try cells(
            """
            <c t="s"><v>0</v></c><c t="s"><v>1</v></c><c t="s"><v>2</v></c><c t="s"><v>3</v></c><c t="s"><v>4</v></c>\
            <c t="inlineStr"><is><t>‌نیم</t></is></c><c t="inlineStr"><is><r><t>a</t></r><rPh><t>x</t></rPh><r><t>b</t></r></is></c>\
            <c t="str"><f>A1&amp;"x"</f><v>یکx</v></c><c t="str"><f>""</f><v></v></c><c t="b"><v>1</v></c><c t="b"><v>0</v></c>\
            <c t="e"><f>1/0</f><v>#DIV/0!</v></c><c t="d"><v>2026-11-23T00:00:00Z</v></c><c><f>1+1</f><v>2</v></c><c s="0"/>
            """,
            texts: shared
        )
        #expect(
            read == [
                "یک", "دو بخش", "漢字", "", "a\rb_x0041_😀\u{FFFD}", "‌نیم", "ab", "یکx", "", "true", "false", "#DIV/0!",
                "2026-11-23", "2",
            ]
        )
    }

    @Test("Rows and cells stand where the file says, with or without a prefix before their names")
    func places() throws {
        let rows = """
            <x:row r="2"><x:c r="B2"><x:v>1</x:v></x:c><x:c r="AA2"><x:v>2</x:v></x:c></x:row>\
            <x:row r="3"><x:c r="XFD3" s="0"/></x:row><x:row><x:c><x:v>3</x:v></x:c><x:c r="C4"><x:v>4</x:v></x:c></x:row>
            """
        var file = WorkbookFile(rows: "")
        file.parts["xl/worksheets/sheet1.xml"] = """
            <x:worksheet xmlns:x="\(WorkbookFile.namespace)"><x:dimension ref="A1"/><x:sheetData>\(rows)</x:sheetData>\
            <x:extLst><x:row r="1"><x:c><x:v>9</x:v></x:c></x:row></x:extLst></x:worksheet>
            """
        try file.write(to: path)
        let read = try SpreadsheetTests.rows(of: path)
        #expect(read.map(\.number) == [2, 4])
        #expect(read[0].cells == [""] + ["1"] + Array(repeating: "", count: 24) + ["2"])
        #expect(read[1].cells == ["3", "", "4"])
    }

    @Test("Progress ends at the number of bytes that was told first")
    func progress() throws {
        let line = "<row><c t=\"s\"><v>0</v></c></row>"
        try WorkbookFile(rows: String(repeating: line, count: 20_000), texts: "<si><t>a</t></si>").write(to: path)
        let reader = try SpreadsheetReader(path: path)
        var last = reader.bytesRead
        #expect(last < reader.byteCount / 10)
        var count = 0
        while try reader.next() != nil {
            #expect(reader.bytesRead >= last)
            last = reader.bytesRead
            count += 1
        }
        #expect(count == 20_000)
        #expect(reader.bytesRead == reader.byteCount)
        #expect(try reader.next() == nil)
    }

    @Test("Spreadsheets are told from text by their first bytes")
    func kind() throws {
        #expect(SpreadsheetReader.isSpreadsheet(fixture("openpyxl.xlsx")))
        #expect(!SpreadsheetReader.isSpreadsheet(fixture("README.md")))
        #expect(!SpreadsheetReader.isSpreadsheet(directory.path))
        #expect(!SpreadsheetReader.isSpreadsheet(directory.path + "/none"))
    }
}
