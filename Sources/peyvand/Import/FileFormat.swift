import Foundation

/// What kind of file somebody has given, told by how it begins.
enum FileFormat: Hashable, Sendable {
    case csv, jsonLines

    /// Looks at the beginning of a file.
    ///
    /// - Throws: ``CommandFailure`` when it cannot be read.
    init(of path: String, _ words: Words) throws {
        guard let file = FileHandle(forReadingAtPath: path), let start = try? file.read(upToCount: 512) else {
            throw CommandFailure(.failed, words.cannotRead(path))
        }
        try? file.close()
        let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
        let content = start.starts(with: mark) ? start.dropFirst(mark.count) : start
        let first = content.first { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }
        self = first == UInt8(ascii: "{") ? .jsonLines : .csv
    }
}
