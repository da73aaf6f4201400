import CMinizip
import Foundation
import Testing

@testable import Spreadsheet

/// A spreadsheet made by hand, part by part, as no program would write it.
struct WorkbookFile {
    /// The XML of parts by name; what is nil is left out.
    var parts: [String: String?]

    static let namespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    static let links = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

    /// - Parameters:
    ///   - rows: What stands within `sheetData`.
    ///   - texts: What stands within `sst`.
    ///   - formats: Format codes, for styles 1, 2 and so on; style 0 is plain.
    init(rows: String, texts: String = "", formats: [String] = [], workbook: String = "") {
        let package = "http://schemas.openxmlformats.org/package/2006/relationships"
        func relation(_ id: String, _ kind: String, _ target: String) -> String {
            "<Relationship Id=\"\(id)\" Type=\"\(Self.links)/\(kind)\" Target=\"\(target)\"/>"
        }
        let codes = formats.enumerated().map { index, code in
            "<numFmt numFmtId=\"\(200 + index)\" formatCode=\"\(code.replacing("\"", with: "&quot;"))\"/>"
        }
        let cells = formats.indices.map { "<xf numFmtId=\"\(200 + $0)\"/>" }
        parts = [
            "_rels/.rels":
                "<Relationships xmlns=\"\(package)\">\(relation("rId1", "officeDocument", "xl/workbook.xml"))"
                + "</Relationships>",
            "xl/workbook.xml": "<workbook xmlns=\"\(Self.namespace)\" xmlns:r=\"\(Self.links)\">\(workbook)"
                + "<sheets><sheet name=\"a\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>",
            "xl/_rels/workbook.xml.rels": "<Relationships xmlns=\"\(package)\">"
                + relation("rId1", "worksheet", "worksheets/sheet1.xml") + relation("rId2", "styles", "/xl/styles.xml")
                + relation("rId3", "sharedStrings", "../xl/sharedStrings.xml") + "</Relationships>",
            "xl/worksheets/sheet1.xml":
                "<worksheet xmlns=\"\(Self.namespace)\"><sheetData>\(rows)</sheetData></worksheet>",
            "xl/sharedStrings.xml": "<sst xmlns=\"\(Self.namespace)\">\(texts)</sst>",
            "xl/styles.xml": "<styleSheet xmlns=\"\(Self.namespace)\"><numFmts>\(codes.joined())</numFmts>"
                + "<cellStyleXfs><xf numFmtId=\"14\"/></cellStyleXfs><cellXfs><xf numFmtId=\"0\"/>\(cells.joined())</cellXfs>"
                + "</styleSheet>",
        ]
    }

    /// Packs the parts into a file.
    func write(to path: String, password: String? = nil) throws {
        let file = try #require(zipOpen(path, 0))
        for (name, text) in parts.sorted(by: { $0.key < $1.key }) {
            guard let text else { continue }
            let bytes = Array(text.utf8)
            #expect(zipOpenNewFileInZip(file, name, nil, nil, 0, nil, 0, nil, Z_DEFLATED, 6) == ZIP_OK)
            #expect(zipWriteInFileInZip(file, bytes, UInt32(bytes.count)) == ZIP_OK)
            #expect(zipCloseFileInZip(file) == ZIP_OK)
        }
        #expect(zipClose(file, nil) == ZIP_OK)
    }
}

/// All rows of a file.
func rows(of path: String) throws(SpreadsheetFailure) -> [SpreadsheetRow] {
    let reader = try SpreadsheetReader(path: path)
    var rows: [SpreadsheetRow] = []
    while let row = try reader.next() { rows.append(row) }
    return rows
}

/// What is wrong with a file; nil when all of it can be read.
func problem(of path: String) -> SpreadsheetFailure.Problem? {
    do throws(SpreadsheetFailure) {
        _ = try rows(of: path)
        return nil
    } catch {
        return error.problem
    }
}

/// The XML of a part.
func part(_ name: String, of path: String) throws -> String {
    let archive = try ZipArchive(path)
    try archive.open(try #require(archive.entries[name.lowercased()]), as: .sheet)
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while case let count = try buffer.withUnsafeMutableBytes({ try archive.read($0) }), count > 0 {
        bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
}
