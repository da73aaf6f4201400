import Foundation
import Glibc
import TestKit
import Testing

@testable import Spreadsheet

@Suite("Spreadsheets that are damaged or meant to harm")
struct HostileSpreadsheetTests {
    private let directory = TemporaryDirectory()
    private var path: String { directory.path + "/list.xlsx" }

    private func problem(_ file: WorkbookFile) throws -> SpreadsheetFailure.Problem? {
        try? FileManager.default.removeItem(atPath: path)
        try file.write(to: path)
        return SpreadsheetTests.problem(of: path)
    }

    private func problem(_ bytes: Data) throws -> SpreadsheetFailure.Problem? {
        try bytes.write(to: URL(fileURLWithPath: path))
        return SpreadsheetTests.problem(of: path)
    }

    private func packed(_ file: WorkbookFile = WorkbookFile(rows: "<row><c><v>1</v></c></row>")) throws -> Data {
        try? FileManager.default.removeItem(atPath: path)
        try file.write(to: path)
        return try Data(contentsOf: URL(fileURLWithPath: path))
    }

    @Test("What is no spreadsheet is refused in both languages, with what to do")
    func notASpreadsheet() throws {
        #expect(try problem(Data()) == .notASpreadsheet)
        #expect(try problem(Data("a,b\r\n1,2\r\n".utf8)) == .notASpreadsheet)
        #expect(try problem(Data("PK\u{3}\u{4}".utf8) + Data(count: 1000)) == .notASpreadsheet)
        // An encrypted .xlsx and an old .xls are of the same kind of file.
        let old = Data([0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1]) + Data(count: 1024)
        #expect(try problem(old) == .protectedOrOld)
        let failure = #expect(throws: SpreadsheetFailure.self) { try SpreadsheetReader(path: path) }
        #expect(failure?.description.hasSuffix("Open it, and save it as .xlsx without a password.") == true)
        #expect(failure?.persian.contains("بدون رمز") == true)
        #expect(
            SpreadsheetTests.problem(of: directory.path + "/none")
                == .notReadable(reason: String(cString: strerror(ENOENT)))
        )
        #expect(SpreadsheetTests.problem(of: directory.path) == .notReadable(reason: "it is not a file"))
        #expect(mkfifo(directory.path + "/pipe", 0o600) == 0)
        #expect(SpreadsheetTests.problem(of: directory.path + "/pipe") == .notReadable(reason: "it is not a file"))
    }

    @Test("A file that is cut anywhere is refused")
    func cut() throws {
        let whole = try packed()
        for count in stride(from: 0, to: whole.count, by: 7) {
            #expect(try problem(whole.prefix(count)) != nil, "\(count) of \(whole.count) bytes")
        }
    }

    @Test("A part whose checksum is wrong is refused")
    func checksum() throws {
        var bytes = try packed(WorkbookFile(rows: "<row><c><v>123456789</v></c></row>"))
        let header = Data([0x50, 0x4B, 0x01, 0x02])
        var place = bytes.startIndex
        while let found = bytes.range(of: header, in: place..<bytes.endIndex) {
            bytes[found.lowerBound + 16] ^= 1
            place = found.upperBound
        }
        #expect(try problem(bytes) == .damaged(.relationships, line: 1))
    }

    @Test("An encrypted part is refused")
    func encrypted() throws {
        var bytes = try packed()
        var place = bytes.startIndex
        while let found = bytes.range(of: Data([0x50, 0x4B, 0x01, 0x02]), in: place..<bytes.endIndex) {
            bytes[found.lowerBound + 8] |= 1
            place = found.upperBound
        }
        #expect(try problem(bytes) == .protectedOrOld)
    }

    @Test("Two parts of one name are refused: another program might see the other one")
    func twice() throws {
        var file = WorkbookFile(rows: "")
        file.parts["XL/worksheets/Sheet1.xml"] = "<worksheet/>"
        #expect(try problem(file) == .notASpreadsheet)
    }

    @Test("A part that would grow without end is refused before it is unpacked")
    func bomb() throws {
        let spaces = String(repeating: " ", count: 17 << 20)
        #expect(try problem(WorkbookFile(rows: spaces)) == .packedTooWell(.sheet))
        #expect(try problem(WorkbookFile(rows: "", texts: spaces)) == .packedTooWell(.sharedTexts))
        var file = WorkbookFile(rows: "")
        file.parts["xl/styles.xml"] = "<styleSheet>" + spaces + spaces + "</styleSheet>"
        #expect(try problem(file) == .tooLarge(.styles))
    }

    @Test("A part that is longer than it says ends where it says, and is refused")
    func lyingSize() throws {
        let rows = String(repeating: "<row><c><v>1</v></c></row>", count: 1000)
        var bytes = try packed(WorkbookFile(rows: rows))
        let name = Data("xl/worksheets/sheet1.xml".utf8)
        // The last place of the name is in the directory, 46 bytes behind the beginning of its record.
        let record = try #require(bytes.range(of: name, options: .backwards)).lowerBound - 46
        #expect(bytes[record..<record + 4] == Data([0x50, 0x4B, 0x01, 0x02]))
        bytes.replaceSubrange(record + 24..<record + 28, with: [200, 0, 0, 0])
        let found = try problem(bytes)
        #expect(found.map { if case .damaged(.sheet, _) = $0 { true } else { false } } == true)
    }

    @Test("A document type is refused, whatever it defines", arguments: ["sheet1", "sharedStrings", "workbook"])
    func documentType(name: String) throws {
        var file = WorkbookFile(rows: "")
        let key = try #require(file.parts.keys.first { $0.hasSuffix(name + ".xml") })
        let laughs = (1..<10).map { "<!ENTITY a\($0) \"\(String(repeating: "&a\($0 - 1);", count: 10))\">" }.joined()
        file.parts[key] = "<!DOCTYPE x [<!ENTITY a0 \"ha\">\(laughs)]><x>&a9;</x>"
        let found = try problem(file)
        #expect([.documentType(.sheet), .documentType(.sharedTexts), .documentType(.workbook)].contains(found))
    }

    @Test(
        "Rows and cells must follow each other",
        arguments: [
            ("<row r=\"2\"/><row r=\"1\"/>", 2), ("<row r=\"2\"/><row r=\"2\"/>", 2), ("<row r=\"0\"/>", 0),
            ("<row r=\"1048577\"/>", 0), ("<row r=\"-1\"/>", 0), ("<row r=\"99999999999999999999\"/>", 0),
            ("<row r=\"\"/>", 0),
            ("<row><c r=\"B1\"/><c r=\"A1\"/></row>", 0), ("<row><c r=\"A1\"/><c r=\"A1\"/></row>", 0),
            ("<row r=\"5\"><c r=\"A6\"/></row>", 4), ("<row><c r=\"1\"/></row>", 0), ("<row><c r=\"A\"/></row>", 0),
            ("<row><c r=\"AAAA1\"/></row>", 0), ("<row><c r=\"a1\"/></row>", 0), ("<row><c r=\"A1x\"/></row>", 0),
            ("<row r=\"1048576\"/><row/>", 1_048_576),
        ]
    )
    func references(rows: String, after: Int) throws {
        #expect(try problem(WorkbookFile(rows: rows)) == .wildReference(afterRow: after))
    }

    @Test("A sheet of a million columns is refused; a format there alone does no harm")
    func columns() throws {
        let cells = String(repeating: "<c><v>1</v></c>", count: 1_000_000)
        #expect(try problem(WorkbookFile(rows: "<row>\(cells)</row>")) == .tooManyColumns(row: 1))
        #expect(
            try problem(WorkbookFile(rows: "<row r=\"7\"><c r=\"AMK7\"><v>1</v></c></row>")) == .tooManyColumns(row: 7)
        )
        #expect(try problem(WorkbookFile(rows: "<row r=\"7\"><c r=\"XFE7\"/></row>")) == .tooManyColumns(row: 7))
        #expect(
            try problem(WorkbookFile(rows: "<row r=\"7\"><c r=\"AMJ7\"><v>1</v></c><c r=\"XFD7\" s=\"0\"/></row>"))
                == nil
        )
    }

    @Test("A row that holds too much text is refused, also when cells only point at it")
    func longRow() throws {
        let text = String(repeating: "ab ", count: 200_000)
        let inline = "<row><c t=\"inlineStr\"><is><t>\(text)</t></is></c>"
        #expect(try problem(WorkbookFile(rows: inline + "</row>")) == nil)
        #expect(try problem(WorkbookFile(rows: inline + inline.dropFirst(5) + "</row>")) == .rowTooLong(row: 1))
        let shared = WorkbookFile(
            rows: "<row><c t=\"s\"><v>0</v></c><c t=\"s\"><v>0</v></c></row>",
            texts: "<si><t>\(text)</t></si>"
        )
        #expect(try problem(shared) == .rowTooLong(row: 1))
        let long = "<row><c t=\"str\"><v>\(text)\(text)</v></c></row>"
        #expect(try problem(WorkbookFile(rows: long)) == .rowTooLong(row: 1))
    }

    @Test(
        "What does not fit together is refused",
        arguments: [
            "<row><c t=\"s\"><v>1</v></c></row>", "<row><c t=\"s\"><v>-1</v></c></row>",
            "<row><c t=\"s\"><v>a</v></c></row>",
            "<row><c t=\"x\"><v>1</v></c></row>", "<row><c s=\"-1\"><v>1</v></c></row>", "<row><c>", "<row></c></row>",
            "&nothing;", "\u{1}", String(repeating: "<a>", count: 100_000),
            "<row a=\"\(String(repeating: "a", count: 2 << 20))\"/>",
        ]
    )
    func nonsense(rows: String) throws {
        let found = try problem(WorkbookFile(rows: rows, texts: "<si><t>a</t></si>"))
        #expect(found.map { if case .damaged = $0 { true } else { false } } == true)
    }

    @Test("A formula without a value is refused with its cell rather than taken for nothing")
    func notCalculated() throws {
        for cell in [
            "<c r=\"AB7\"><f>1+1</f></c>", "<c r=\"AB7\"><f>1+1</f><v></v></c>", "<c r=\"AB7\"><f>1+1</f><v/></c>",
        ] {
            #expect(try problem(WorkbookFile(rows: "<row r=\"7\">\(cell)</row>")) == .notCalculated(cell: "AB7"))
        }
    }

    @Test("What is missing is named")
    func missing() throws {
        for (name, found) in [
            ("_rels/.rels", SpreadsheetFailure.Problem.noWorkbook), ("xl/workbook.xml", .noWorkbook),
            ("xl/_rels/workbook.xml.rels", .missing(.relationships)), ("xl/worksheets/sheet1.xml", .missing(.sheet)),
            ("xl/styles.xml", nil), ("xl/sharedStrings.xml", nil),
        ] as [(String, SpreadsheetFailure.Problem?)] {
            var file = WorkbookFile(rows: "<row><c><v>1</v></c></row>")
            file.parts[name] = .some(nil)
            #expect(try problem(file) == found)
        }
        var file = WorkbookFile(rows: "")
        for state in ["hidden", "veryHidden"] {
            file.parts["xl/workbook.xml"] = """
                <workbook xmlns:r="\(WorkbookFile.links)"><sheets><sheet name="a" state="\(state)" r:id="rId1"/></sheets></workbook>
                """
            #expect(try problem(file) == .noSheet)
        }
    }

    @Test("Whatever is changed in a file, it is read or refused")
    func changes() throws {
        var random = SeededRandom(seed: testSeed("Changed spreadsheets"))
        let file = WorkbookFile(
            rows: """
                <row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" s="1"><v>46349.5</v></c><c r="C1" s="2"><f>A1</f><v>12</v></c></row>\
                <row r="3"><c r="A3" t="inlineStr"><is><r><t>a_x000D_</t></r></is></c><c r="D3" t="b"><v>1</v></c></row>
                """,
            texts: "<si><t>یک</t></si>",
            formats: ["yyyy-mm-dd h:mm", "00000"]
        )
        let names = file.parts.keys.sorted()
        let words = ["\"", "<", ">", "/", "&", "r=", "9", "-", "_x0000_", "<c>", "<v>", "</row>", "[", "\\", "é"]
        var refused = 0
        for round in 0..<600 {
            var changed = file
            let name = names[random.below(names.count)]
            var text = Array((changed.parts[name] ?? "").map { Array($0.utf8) } ?? [])
            for _ in 0...random.below(3) {
                let start = random.below(text.count)
                let end = min(text.count, start + random.below(8))
                text.replaceSubrange(
                    start..<end,
                    with: random.oneIn(2) ? Array(words[random.below(words.count)].utf8) : []
                )
            }
            changed.parts[name] = String(decoding: text, as: UTF8.self)
            if round % 2 == 0 {
                refused += try problem(changed) == nil ? 0 : 1
            } else {
                var bytes = try packed(file)
                for _ in 0...random.below(3) { bytes[random.below(bytes.count)] = UInt8(random.below(256)) }
                refused += try problem(bytes) == nil ? 0 : 1
            }
        }
        #expect((1..<600).contains(refused))
    }
}
