import Foundation
import Spreadsheet

/// What kind of file somebody has given, told by how it begins.
enum FileFormat: String, Hashable, Sendable {
    case csv
    case jsonLines = "jsonl"
    case cards = "vcard"
    case calendar = "ics"
    case spreadsheet = "xlsx"

    /// Looks at the beginning of a file.
    ///
    /// - Throws: ``CommandFailure`` when it cannot be read.
    init(of path: String, _ words: Words) throws {
        let start: Data
        do {
            guard let file = FileHandle(forReadingAtPath: path) else {
                throw CommandFailure(.failed, words.cannotRead(path))
            }
            // An empty file has nothing to read.
            start = try file.read(upToCount: 512) ?? Data()
            try file.close()
        } catch {
            throw CommandFailure(.failed, words.cannotRead(path))
        }
        if SpreadsheetReader.isSpreadsheet(path) {
            self = .spreadsheet
            return
        }
        let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
        let content = (start.starts(with: mark) ? start.dropFirst(mark.count) : start).drop {
            [0x20, 0x09, 0x0A, 0x0D].contains($0)
        }
        let word = String(decoding: content.prefix(15), as: UTF8.self).uppercased()
        self =
            content.first == UInt8(ascii: "{")
            ? .jsonLines : word.hasPrefix("BEGIN:VCARD") ? .cards : word.hasPrefix("BEGIN:VCALENDAR") ? .calendar : .csv
    }
}
