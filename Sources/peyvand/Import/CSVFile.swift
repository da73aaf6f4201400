import Crypto
import Foundation

/// A CSV file on disk, read in pieces: its encoding, delimiter and header first, then record by record.
///
/// Belongs to the one task that imports.
struct CSVFile: RecordSource {
    /// The letters of the file.
    private let encoding: TextEncoding
    /// What parts cells.
    let delimiter: UInt8
    /// The cells of the first record.
    private(set) var header: [String]
    /// The size of the file.
    let byteCount: Int
    /// What is kept of it.
    let description: ImportedFile
    /// How far it has been read.
    private(set) var bytesRead = 0

    private let path: String
    private let words: Words
    private let descriptor: FileHandle
    private var reader: CSVReader
    private var isEnd = false

    private static let chunkBytes = 256 << 10

    /// Opens a file and reads its header.
    ///
    /// Reads all of the file once to learn whether it is UTF-8: a file that is not is Windows-1256.
    ///
    /// - Throws: ``CommandFailure`` when it cannot be read, or is no CSV file.
    init(path: String, words: Words) throws {
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw CommandFailure(.failed, words.cannotRead(path))
        }
        descriptor = file
        do {
            let survey = try Self.survey(file, path: path, words: words)
            encoding = survey.encoding
            byteCount = survey.byteCount
            delimiter = survey.delimiter
            description = ImportedFile(
                path: path,
                survey.hash,
                options: [
                    "format": "csv", "encoding": survey.encoding.rawValue,
                    "delimiter": String(Unicode.Scalar(survey.delimiter)),
                ]
            )
            try file.seek(toOffset: UInt64(survey.markBytes))
        } catch let failure as CommandFailure {
            throw failure
        } catch {
            throw CommandFailure(.failed, words.cannotRead(path))
        }
        reader = CSVReader(delimiter: delimiter, encoding: encoding)
        header = []
        self.path = path
        self.words = words
        guard let first = try next(), !first.isBlank else {
            throw CommandFailure(.failed, words.noHeader(path))
        }
        header = first.cells
    }

    /// Reads the next record; nil at the end.
    mutating func next() throws -> FileRecord? {
        while true {
            if let record = reader.next(isEnd: isEnd) { return record }
            if isEnd { return nil }
            let chunk: Data?
            do {
                chunk = try descriptor.read(upToCount: Self.chunkBytes)
            } catch {
                throw CommandFailure(.failed, words.cannotRead(path))
            }
            if let chunk, !chunk.isEmpty {
                bytesRead += chunk.count
                reader.append(chunk)
            } else {
                isEnd = true
            }
        }
    }

    private struct Survey {
        var encoding = TextEncoding.utf8
        var delimiter = UInt8(ascii: ",")
        var byteCount = 0
        /// The length of the byte order mark.
        var markBytes = 0
        var hash = SHA256()
    }

    private static func survey(_ file: FileHandle, path: String, words: Words) throws -> Survey {
        var survey = Survey()
        var rest = Data()
        while let chunk = try file.read(upToCount: chunkBytes), !chunk.isEmpty {
            if survey.byteCount == 0 {
                if chunk.starts(with: [0xFF, 0xFE]) || chunk.starts(with: [0xFE, 0xFF])
                    || chunk.prefix(4096).contains(0)
                {
                    throw CommandFailure(.failed, words.notCSV(path))
                }
                survey.markBytes = chunk.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
                survey.delimiter = Self.delimiter(of: chunk)
            }
            survey.byteCount += chunk.count
            survey.hash.update(data: chunk)
            if survey.encoding == .utf8 {
                // A letter may be cut at the end of the piece: up to three of its bytes wait for the next one.
                rest.append(chunk)
                let whole = rest.prefix(rest.count - Self.cutBytes(atEndOf: rest))
                if String(validating: whole, as: UTF8.self) == nil { survey.encoding = .windows1256 }
                rest = Data(rest.dropFirst(whole.count))
            }
        }
        if !rest.isEmpty { survey.encoding = .windows1256 }
        return survey
    }

    /// How many bytes at the end begin a letter of UTF-8 that is not complete.
    private static func cutBytes(atEndOf bytes: Data) -> Int {
        for count in 1...3 where count <= bytes.count {
            let byte = bytes[bytes.endIndex - count]
            if byte & 0xC0 == 0x80 { continue }
            let length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1
            return length > count ? count : 0
        }
        return 0
    }

    /// The delimiter that stands most often in the first line, outside quotes.
    private static func delimiter(of start: Data) -> UInt8 {
        var counts: [UInt8: Int] = [:]
        var isQuoted = false
        for byte in start {
            if byte == UInt8(ascii: "\"") { isQuoted.toggle() }
            if isQuoted { continue }
            if byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") { break }
            counts[byte, default: 0] += 1
        }
        let known = [UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "\t")]
        return known.max { counts[$0, default: 0] < counts[$1, default: 0] } ?? known[0]
    }
}
