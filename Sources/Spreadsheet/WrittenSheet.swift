import Foundation

/// Looks whether a file that the library has written is whole.
///
/// The library copies rows and parts through files of its own and does not notice when they cannot grow: a full disk would
/// leave a file that opens and lacks rows.
enum WrittenSheet {
    /// - Parameter rowBytes: How long the XML of all rows is.
    /// - Returns: Whether each part can be read to its end, and the sheet has just so many bytes between `sheetData`.
    static func isWhole(_ path: String, rowBytes: Int) -> Bool {
        do {
            let archive = try ZipArchive(path)
            guard let sheet = archive.entries[sheetName] else { return false }
            for (name, entry) in archive.entries where name != sheetName {
                try archive.open(entry, as: .relationships)
                try XMLPart(archive, .relationships, NoElements()).finish()
            }
            return try contentBytes(archive, sheet) == rowBytes
        } catch {
            return false
        }
    }

    private static let sheetName = "xl/worksheets/sheet1.xml"
    /// What comes behind the rows is shorter.
    private static let tailBytes = 16 << 10
    /// What comes before the rows: some words, and a hundred bytes for each column.
    private static let headBytesMax = 4 << 20

    private final class NoElements: XMLElements {
        func start(_ name: XMLName, _ attributes: XMLAttributes, depth: Int) throws(SpreadsheetFailure.Problem) {}
    }

    /// How many bytes stand between the tags of `sheetData`; nil when one of them is missing.
    private static func contentBytes(_ archive: ZipArchive, _ sheet: ZipArchive.Entry) throws -> Int? {
        try archive.open(sheet, as: .sheet, bytesMax: .max)
        var (head, tail, total) = (Data(), Data(), 0)
        var start: Int?
        var buffer = [UInt8](repeating: 0, count: SpreadsheetLimits.chunkBytes)
        while true {
            let count = try buffer.withUnsafeMutableBytes { try archive.read($0) }
            if count == 0 { break }
            if start == nil {
                head.append(contentsOf: buffer[..<count])
                start = head.range(of: Data("<sheetData>".utf8))?.upperBound
                guard start != nil || head.count <= headBytesMax else { return nil }
            }
            total += count
            tail.append(contentsOf: buffer[max(0, count - tailBytes)..<count])
            if tail.count > tailBytes { tail = Data(tail.suffix(tailBytes)) }
        }
        guard let start, tail.suffix(12) == Data("</worksheet>".utf8),
            let end = tail.range(of: Data("</sheetData>".utf8), options: .backwards)
        else { return nil }
        return total - tail.count + end.lowerBound - start
    }
}
