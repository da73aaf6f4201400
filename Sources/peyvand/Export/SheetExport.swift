import Foundation
import Spreadsheet

/// Turns the table that a node writes into a spreadsheet: codes and numbers to dial as text, amounts as numbers.
struct SheetExport {
    private let columns: [ExportColumn]
    private let path: String
    private let words: Words
    private var reader = CSVReader(delimiter: UInt8(ascii: ","), encoding: .utf8)
    /// Nil until the headers have come.
    private var writer: SpreadsheetWriter?

    init(_ target: ImportTarget, path: String, words: Words) {
        columns = ExportColumn.of(target, withJalali: true)
        self.path = path
        self.words = words
    }

    /// Takes the next bytes of the table.
    mutating func take(_ bytes: [UInt8]) throws {
        reader.append(bytes)
        while let record = reader.next(isEnd: false) { try take(record) }
    }

    /// Writes what is left, and gives the file its name.
    mutating func close() throws {
        while let record = reader.next(isEnd: true) { try take(record) }
        try writer?.close()
    }

    private mutating func take(_ record: FileRecord) throws {
        guard let writer else {
            let titled = zip(columns, record.cells).map { column, title in
                SpreadsheetColumn(title, column.isNumber ? .integer : .text)
            }
            writer = try SpreadsheetWriter(
                path: path,
                sheet: words.exportTitle,
                isRightToLeft: true,
                columns: titled
            )
            return
        }
        try writer.append(
            zip(columns, record.cells).map { column, cell in
                if cell.isEmpty { return .empty }
                return column.isNumber ? Int64(cell).map(SpreadsheetCell.integer) ?? .text(cell) : .text(cell)
            }
        )
    }
}
