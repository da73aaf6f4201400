import CMinizip
import Foundation
import Glibc

/// The parts of a file that is a zip archive, one of them open at a time. Owned by whoever reads it; not for two threads.
final class ZipArchive {
    /// A part that the archive says to have.
    struct Entry {
        fileprivate let place: unz64_file_pos
        /// Bytes when it is unpacked; no more of it are read.
        let byteCount: Int
        fileprivate let packedCount: Int
        fileprivate let isReadable: Bool
    }

    /// By the name in lower case, with `/` between directories: the format compares names so.
    private(set) var entries: [String: Entry] = [:]
    private let file: unzFile
    private var openPart: SpreadsheetFailure.Part?

    /// - Throws: What is wrong with the file as a whole.
    init(_ path: String) throws(SpreadsheetFailure.Problem) {
        let fileBytes = try Self.checkKind(of: path)
        guard let file = unzOpen64(path) else { throw .notASpreadsheet }
        self.file = file
        var status = unzGoToFirstFile(file)
        while status == UNZ_OK {
            try addEntry(fileBytes)
            guard entries.count <= SpreadsheetLimits.partsMax else { throw .tooManyParts }
            status = unzGoToNextFile(file)
        }
        guard status == UNZ_END_OF_LIST_OF_FILE else { throw .notASpreadsheet }
    }

    deinit { unzClose(file) }

    /// Reads only the first bytes: whether they are those of a zip archive, or of what the programs wrote before.
    static func kind(of path: String) throws(SpreadsheetFailure.Problem) -> (isZip: Bool, isOld: Bool, bytes: Int) {
        // Without waiting, should it be a pipe.
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw .notReadable(reason: String(cString: strerror(errno))) }
        defer { close(descriptor) }
        var information = stat()
        guard fstat(descriptor, &information) == 0 else {
            throw .notReadable(reason: String(cString: strerror(errno)))
        }
        guard information.st_mode & S_IFMT == S_IFREG else { throw .notReadable(reason: "it is not a file") }
        var bytes = [UInt8](repeating: 0, count: oldMagic.count)
        guard Glibc.read(descriptor, &bytes, bytes.count) >= 0 else {
            throw .notReadable(reason: String(cString: strerror(errno)))
        }
        return (bytes.starts(with: Array("PK".utf8)), bytes == oldMagic, Int(information.st_size))
    }

    /// Opens a part to be read from its beginning. Whatever was open is closed.
    ///
    /// - Parameter bytesMax: What the part may hold when it is unpacked.
    func open(
        _ entry: Entry,
        as part: SpreadsheetFailure.Part,
        bytesMax: Int = SpreadsheetLimits.smallPartBytesMax
    ) throws(SpreadsheetFailure.Problem) {
        if openPart != nil { unzCloseCurrentFile(file) }
        openPart = nil
        guard entry.isReadable else { throw .protectedOrOld }
        guard entry.byteCount <= bytesMax else { throw .tooLarge(part) }
        guard
            entry.byteCount < SpreadsheetLimits.ratioBytesMin
                || entry.byteCount / SpreadsheetLimits.packingRatioMax <= entry.packedCount
        else { throw .packedTooWell(part) }
        var place = entry.place
        guard unzGoToFilePos64(file, &place) == UNZ_OK, unzOpenCurrentFile(file) == UNZ_OK else {
            throw .damaged(part, line: 1)
        }
        openPart = part
    }

    /// Reads what follows in the open part; 0 at its end, where its checksum has been compared.
    func read(_ buffer: UnsafeMutableRawBufferPointer) throws(SpreadsheetFailure.Problem) -> Int {
        guard let part = openPart else { return 0 }
        let count = unzReadCurrentFile(file, buffer.baseAddress, UInt32(buffer.count))
        guard count >= 0 else { throw .damaged(part, line: 1) }
        if count == 0 {
            openPart = nil
            guard unzCloseCurrentFile(file) == UNZ_OK else { throw .damaged(part, line: 1) }
        }
        return Int(count)
    }

    /// Where the programs before 2007 and those that encrypt put everything: a "compound file".
    private static let oldMagic: [UInt8] = [0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1]

    private static func checkKind(of path: String) throws(SpreadsheetFailure.Problem) -> Int {
        let (isZip, isOld, bytes) = try kind(of: path)
        guard !isOld else { throw .protectedOrOld }
        guard isZip else { throw .notASpreadsheet }
        return bytes
    }

    private func addEntry(_ fileBytes: Int) throws(SpreadsheetFailure.Problem) {
        var information = unz_file_info64()
        var name = [CChar](repeating: 0, count: 1024)
        var place = unz64_file_pos()
        guard
            unzGetCurrentFileInfo64(file, &information, &name, UInt(name.count), nil, 0, nil, 0) == UNZ_OK,
            unzGetFilePos64(file, &place) == UNZ_OK
        else { throw .notASpreadsheet }
        // Longer names are of no part that is looked for.
        guard information.size_filename < name.count else { return }
        let text = String(
            decoding: name.prefix(Int(information.size_filename)).map { UInt8(bitPattern: $0) },
            as: UTF8.self
        )
        let entry = Entry(
            place: place,
            byteCount: Int(clamping: information.uncompressed_size),
            packedCount: min(Int(clamping: information.compressed_size), fileBytes),
            isReadable: information.flag & 1 == 0
        )
        // With two parts of one name, two programs could see different rows in the same file.
        guard entries.updateValue(entry, forKey: Self.key(text)) == nil else { throw .notASpreadsheet }
    }

    /// A name as ``entries`` has it.
    static func key(_ name: String) -> String { name.replacing("\\", with: "/").lowercased() }
}
