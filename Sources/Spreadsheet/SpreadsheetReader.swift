/// A row of a sheet that has something in it.
package struct SpreadsheetRow: Hashable, Sendable {
    /// As the spreadsheet program shows it, from 1.
    package let number: Int
    /// From column A to the last one that has something in it; what is missing between them is empty.
    package let cells: [String]

    package init(number: Int, cells: [String]) {
        self.number = number
        self.cells = cells
    }
}

/// Reads the first visible sheet of a spreadsheet (.xlsx) row by row, believing nothing.
///
/// Memory holds one row, and the texts that cells share. A cell is what the program shows, as far as it means something:
///
/// | cell | text |
/// |---|---|
/// | text | as it is, with the lines and spaces that it has |
/// | number | digits, without separators and without an exponent; with zeros in front where its format puts them |
/// | day, time | `2026-11-23`, `2026-11-23T14:05:00`, `14:05:00` |
/// | formula | the value that was calculated last |
/// | truth, error | `true`, `false`; `#N/A` |
///
/// Owned by whoever reads; not for two threads at once. Blocks.
///
/// - Source: ECMA-376 Part 1 (SpreadsheetML) and Part 2 (packages).
package final class SpreadsheetReader {
    /// Bytes of XML that there are to read, unpacked; for progress.
    package let byteCount: Int

    private let path: String
    private let rows: SheetRows
    private let sheet: XMLPart
    private let bytesBefore: Int
    private var isDone = false

    /// Opens a file and reads what belongs to it besides rows.
    ///
    /// - Throws: When it is not such a file, is damaged, protected, or larger than ``SpreadsheetLimits`` allow.
    package init(path: String) throws(SpreadsheetFailure) {
        self.path = path
        do throws(SpreadsheetFailure.Problem) {
            let archive = try ZipArchive(path)
            let parts = try WorkbookParts(archive)
            let sharedTexts = SharedTexts(byteCount: parts.sharedTexts?.byteCount ?? 0)
            let formats = CellFormats()
            if let entry = parts.styles { try Self.read(entry, .styles, formats, archive) }
            if let entry = parts.sharedTexts {
                try Self.read(entry, .sharedTexts, sharedTexts, archive, bytesMax: SpreadsheetLimits.partBytesMax)
            }
            rows = SheetRows(sharedTexts, formats, countsFrom1904: parts.countsFrom1904)
            try archive.open(parts.sheet, as: .sheet, bytesMax: SpreadsheetLimits.partBytesMax)
            sheet = XMLPart(archive, .sheet, rows)
            bytesBefore = parts.sharedTexts?.byteCount ?? 0
            byteCount = bytesBefore + parts.sheet.byteCount
        } catch {
            throw SpreadsheetFailure(path, error)
        }
    }

    /// Bytes of XML that were read so far; at the end, ``byteCount``.
    package var bytesRead: Int { bytesBefore + sheet.bytesRead }

    /// The next row that has something in it; nil at the end.
    ///
    /// - Throws: When the file turns out to be damaged or too large. Rows that came before are right; no more will come.
    package func next() throws(SpreadsheetFailure) -> SpreadsheetRow? {
        guard !isDone else { return nil }
        do throws(SpreadsheetFailure.Problem) {
            if try sheet.advance() { return rows.row }
        } catch {
            isDone = true
            throw SpreadsheetFailure(path, error)
        }
        isDone = true
        return nil
    }

    /// Whether a file is meant to be a spreadsheet, by its first bytes: also one that is then refused with a reason.
    package static func isSpreadsheet(_ path: String) -> Bool {
        guard let kind = try? ZipArchive.kind(of: path) else { return false }
        return kind.isZip || kind.isOld
    }

    fileprivate static func read(
        _ entry: ZipArchive.Entry,
        _ part: SpreadsheetFailure.Part,
        _ elements: any XMLElements,
        _ archive: ZipArchive,
        bytesMax: Int = SpreadsheetLimits.smallPartBytesMax
    ) throws(SpreadsheetFailure.Problem) {
        try archive.open(entry, as: part, bytesMax: bytesMax)
        try XMLPart(archive, part, elements).finish()
    }
}

/// Where in an archive that lies what is read.
private struct WorkbookParts {
    let sheet: ZipArchive.Entry
    let styles: ZipArchive.Entry?
    let sharedTexts: ZipArchive.Entry?
    let countsFrom1904: Bool

    init(_ archive: ZipArchive) throws(SpreadsheetFailure.Problem) {
        func entry(_ name: String?) -> ZipArchive.Entry? { name.flatMap { archive.entries[ZipArchive.key($0)] } }
        guard let root = entry("_rels/.rels") else { throw .noWorkbook }
        let package = Relationships(of: "")
        try SpreadsheetReader.read(root, .relationships, package, archive)
        guard let name = package.first("officeDocument"), name.hasSuffix(".xml"), let workbook = entry(name) else {
            throw .noWorkbook
        }
        let sheets = WorkbookSheets()
        try SpreadsheetReader.read(workbook, .workbook, sheets, archive)

        let directory = name.lastIndex(of: "/").map { String(name[...$0]) } ?? ""
        let relationships = Relationships(of: directory)
        guard let list = entry(directory + "_rels/" + name.dropFirst(directory.count) + ".rels") else {
            throw .missing(.relationships)
        }
        try SpreadsheetReader.read(list, .relationships, relationships, archive)
        // A sheet may also be a chart alone.
        let first = sheets.visible.compactMap { relationships.targets[$0] }.first { $0.kind == "worksheet" }
        guard let first else { throw .noSheet }
        guard let sheet = entry(first.name) else { throw .missing(.sheet) }
        self.sheet = sheet
        styles = entry(relationships.first("styles"))
        sharedTexts = entry(relationships.first("sharedStrings"))
        countsFrom1904 = sheets.countsFrom1904
    }
}
