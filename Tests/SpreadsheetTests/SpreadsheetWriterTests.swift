import Foundation
import Glibc
import TestKit
import Testing

@testable import Spreadsheet

@Suite("Writing a spreadsheet")
struct SpreadsheetWriterTests {
    private let directory = TemporaryDirectory()
    private var path: String { directory.path + "/list.xlsx" }
    private var left: [String] { (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? [] }

    private func writer(_ columns: [SpreadsheetColumn] = [SpreadsheetColumn("نام")], sheet: String = "مشتریان") throws
        -> SpreadsheetWriter
    {
        try SpreadsheetWriter(path: path, sheet: sheet, isRightToLeft: true, columns: columns)
    }

    @Test("Every text comes back as it was written")
    func texts() throws {
        let texts = [
            "علی‌رضا", "\u{200C}می\u{200C}", "0012345679", "09121234567", "=1+1", "+98", "-3", "@a", "'a", "۰۱۲۳",
            " a ", "a\nb\tc", "a\r\nb", "\u{0}\u{1}\u{B}\u{1F}\u{7F}", "\u{FFFE}\u{FFFF}", "_x0041_", "_x005F_x000D_",
            "_", "_x", "_xGGGG_", "<a>&amp;\"]]>", "😀", "\u{202B}الف\u{202C}", "1.0", "TRUE", "#N/A",
            String(repeating: "ا", count: 32_767),
        ]
        let writer = try writer()
        for text in texts { try writer.append([.text(text)]) }
        try writer.close()
        let read = try rows(of: path)
        #expect(read.dropFirst().map(\.cells) == texts.map { [$0] })
        #expect(read.map(\.number) == Array(1...texts.count + 1))
    }

    @Test("Whole numbers are numbers as long as none of their digits would be rounded, and never change")
    func integers() throws {
        let numbers: [Int64] = [
            0, -1, 1_250_000, 999_999_999_999_999, -999_999_999_999_999, 1_000_000_000_000_000, .max, .min,
        ]
        let writer = try writer([SpreadsheetColumn("مبلغ", .integer)])
        for number in numbers { try writer.append([.integer(number)]) }
        try writer.close()
        #expect(try rows(of: path).dropFirst().map(\.cells) == numbers.map { [String($0)] })
        let sheet = try part("xl/worksheets/sheet1.xml", of: path)
        #expect(sheet.contains("<v>999999999999999</v>") && sheet.contains("<v>-999999999999999</v>"))
        #expect(sheet.contains("<t>1000000000000000</t>") && sheet.contains("<t>-9223372036854775808</t>"))
    }

    @Test("Nothing becomes a formula; the sheet is right to left, with a frozen head and a filter")
    func sheet() throws {
        let writer = try writer([SpreadsheetColumn("نام"), SpreadsheetColumn("مبلغ", .integer, width: 20)])
        try writer.append([.text("=HYPERLINK(\"http://localhost\")"), .integer(1)])
        try writer.append([.empty, .integer(2)])
        try writer.append([.text("")])
        try writer.append([])
        try writer.append([.text("آخر")])
        try writer.close()
        let sheet = try part("xl/worksheets/sheet1.xml", of: path)
        #expect(!sheet.contains("<f>") && !sheet.contains("<hyperlink"))
        #expect(sheet.contains("rightToLeft=\"1\"") && sheet.contains("state=\"frozen\""))
        #expect(sheet.contains("<autoFilter ref=\"A1:B6\"/>"))
        let styles = try part("xl/styles.xml", of: path)
        #expect(styles.contains("numFmtId=\"49\"") && styles.contains("numFmtId=\"3\"") && styles.contains("<b/>"))
        #expect(try part("xl/workbook.xml", of: path).contains("<sheet name=\"مشتریان\""))
        let read = try rows(of: path)
        #expect(read.map(\.number) == [1, 2, 3, 6])
        #expect(read[2].cells == ["", "2"])
        #expect(left == ["list.xlsx"])
    }

    @Test(
        "A sheet gets a name that the programs take",
        arguments: [
            ("a[1]/b:c*?\\d", "a 1  b c   d"), (String(repeating: "ا", count: 40), String(repeating: "ا", count: 31)),
        ]
    )
    func name(given: String, taken: String) throws {
        try writer(sheet: given).close()
        #expect(try part("xl/workbook.xml", of: path).contains("<sheet name=\"\(taken)\""))
    }

    @Test("A text that is too long is refused with its row and column, and nothing is left")
    func longText() throws {
        var writer: SpreadsheetWriter? = try writer()
        try writer?.append([.text("a")])
        // A letter beyond the first plane counts twice, as in the programs.
        let text = String(repeating: "😀", count: 16_384)
        let failure = #expect(throws: SpreadsheetFailure.self) { try writer?.append([.text(text)]) }
        #expect(failure?.problem == .textTooLong(row: 3, column: "نام"))
        #expect(failure?.description.contains("Row 3, column نام") == true)
        #expect(failure?.persian.contains("سطر ۳، ستون نام") == true)
        writer = nil
        #expect(left.isEmpty)
    }

    @Test("A sheet has no more rows than the programs read")
    func manyRows() throws {
        let writer = try writer()
        for _ in 1..<1_048_575 { try writer.append([]) }
        try writer.append([.text("آخر")])
        let failure = #expect(throws: SpreadsheetFailure.self) { try writer.append([]) }
        #expect(failure?.problem == .tooManyRows)
        try writer.close()
        #expect(try rows(of: path).last == SpreadsheetRow(number: 1_048_576, cells: ["آخر"]))
    }

    @Test("On a full disk, writing fails, and the file that was there stays")
    func fullDisk() throws {
        try Data("before".utf8).write(to: URL(fileURLWithPath: path))
        do {
            let writer = try writer()
            let full = open("/dev/full", O_RDWR)
            #expect(dup2(full, fileno(writer.rowsFile)) >= 0)
            close(full)
            try writer.append([.text(String(repeating: "a", count: 1000))])
            let failure = #expect(throws: SpreadsheetFailure.self) { try writer.close() }
            #expect(failure?.problem == .notWritable(reason: String(cString: strerror(ENOSPC))))
        }
        do {
            let writer = try writer()
            let full = open("/dev/full", O_RDWR)
            #expect(dup2(full, fileno(writer.rowsFile)) >= 0)
            close(full)
            // Long before the end.
            #expect(throws: SpreadsheetFailure.self) {
                for _ in 0..<2048 { try writer.append([.text("a")]) }
            }
        }
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "before")
        #expect(left == ["list.xlsx"])
    }

    @Test("A file in which the library has lost rows or a part is found out")
    func lostRows() throws {
        let writer = try writer()
        for number in 0..<5000 { try writer.append([.text("ردیف \(number)")]) }
        try writer.close()
        let sheet = Array(try part("xl/worksheets/sheet1.xml", of: path).utf8)
        let start = try #require(Data(sheet).range(of: Data("<sheetData>".utf8))).upperBound
        let end = try #require(Data(sheet).range(of: Data("</sheetData>".utf8))).lowerBound
        #expect(WrittenSheet.isWhole(path, rowBytes: end - start))
        #expect(!WrittenSheet.isWhole(path, rowBytes: end - start + 1))
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        try whole.prefix(whole.count / 2).write(to: URL(fileURLWithPath: path))
        #expect(!WrittenSheet.isWhole(path, rowBytes: end - start))
        var changed = whole
        changed[whole.count / 2] ^= 1
        try changed.write(to: URL(fileURLWithPath: path))
        #expect(!WrittenSheet.isWhole(path, rowBytes: end - start))
    }

    @Test("Without a directory to write in, the failure names the file; let go of, a draft vanishes")
    func noDirectory() throws {
        let failure = #expect(throws: SpreadsheetFailure.self) {
            try SpreadsheetWriter(
                path: directory.path + "/none/list.xlsx",
                sheet: "a",
                isRightToLeft: false,
                columns: [SpreadsheetColumn("a")]
            )
        }
        #expect(failure?.problem == .notWritable(reason: String(cString: strerror(ENOENT))))
        #expect(failure?.description.hasPrefix(directory.path + "/none/list.xlsx: ") == true)
        do { try writer().append([.text("a")]) }
        #expect(left.isEmpty)
    }
}
