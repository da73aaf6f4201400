import Foundation
import Spreadsheet

/// A spreadsheet: its first visible sheet, whose first row names the columns.
struct SheetFile: RecordSource {
    let header: [String]
    let delimiter = UInt8(ascii: ",")
    let description: ImportedFile
    private let reader: SpreadsheetReader

    /// What there is to read, unpacked.
    var byteCount: Int { reader.byteCount }
    var bytesRead: Int { reader.bytesRead }

    init(path: String, words: Words) throws {
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw CommandFailure(.failed, words.cannotRead(path))
        }
        (description, _) = try ImportedFile.survey(file, path: path, format: FileFormat.spreadsheet.rawValue, words)
        try? file.close()
        let first: SpreadsheetRow?
        do {
            reader = try SpreadsheetReader(path: path)
            first = try reader.next()
        } catch {
            throw CommandFailure(error, language: words.language)
        }
        guard let first else { throw CommandFailure(.failed, words.noHeader(path)) }
        header = first.cells
    }

    mutating func next() throws -> FileRecord? {
        try reader.next().map { FileRecord(line: $0.number, cells: $0.cells, flaw: nil) }
    }
}
