import Crypto
import Foundation
import Glibc
import SyncProtocol

// What a file holds that carries rows or change sets.
//
//   bytes  content
//   16     what kind of file it is
//   ...    records, each: kind 1, length 4 (little-endian), content,
//          checksum 8: the first 8 bytes of the SHA-256 of kind, length and content
//
// The first record is of kind 1, the last of kind 3: the SHA-256 of everything before it.

enum RecordFile {
    /// A piece with one row whose values hardly compress, and more.
    static let recordBytesMax = 96 << 20

    enum Kind: UInt8 {
        case head = 1
        case piece = 2
        case end = 3
        /// A signature of what comes before it.
        case seal = 4
    }

    /// Whether a file says that it is of some kind; false when it cannot be read.
    static func isOf(_ magic: [UInt8], _ path: String) -> Bool {
        guard let file = FileHandle(forReadingAtPath: path) else { return false }
        defer { try? file.close() }
        return (try? file.read(upToCount: magic.count)).map { $0.map { [UInt8]($0) } == magic } ?? false
    }
}

/// Writes records under another name, and gives the file its name when all is written.
final class RecordFileWriter {
    private let path: String
    private let draft: String
    private let descriptor: Int32
    private var hash = SHA256()
    private var bytes = 0

    init(_ path: String, _ magic: [UInt8]) throws {
        self.path = path
        draft = path + ".part"
        descriptor = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else { throw Self.failure(path) }
        try put(magic)
    }

    deinit { Glibc.close(descriptor) }

    func write(_ kind: RecordFile.Kind, _ content: [UInt8]) throws {
        let length = UInt32(content.count)
        var record = [kind.rawValue] + (0..<4).map { UInt8(truncatingIfNeeded: length >> (8 * UInt32($0))) }
        record += content
        let sum = record.withUnsafeBytes { ChangeChain.checksum(of: $0) }
        record += (0..<8).map { UInt8(truncatingIfNeeded: sum >> (8 * UInt64($0))) }
        try put(record)
    }

    /// Ends the file, makes it durable, and gives it its name.
    func finish() throws -> Int {
        let digest = [UInt8](hash.finalize())
        try write(.end, digest)
        Failpoint.snapshotFileDrafted.pass()
        guard fsync(descriptor) == 0, rename(draft, path) == 0 else { throw Self.failure(path) }
        syncDirectory(of: path)
        return bytes
    }

    func abandon() { unlink(draft) }

    private func put(_ content: [UInt8]) throws {
        var rest = content[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count >= 0 || errno == EINTR else { throw Self.failure(path) }
            rest = rest.dropFirst(max(count, 0))
        }
        hash.update(data: content)
        bytes += content.count
    }

    private static func failure(_ path: String) -> SnapshotFileFailure {
        .notWritable(path, reason: String(cString: strerror(errno)))
    }
}

/// Reads records, believing nothing.
final class RecordFileReader {
    let path: String
    private let magic: [UInt8]
    private let recordBytesMax: Int
    private let descriptor: Int32
    private let size: Int
    /// Where the next record begins.
    private(set) var offset = 0

    /// - Parameter recordBytesMax: No record of such a file is longer; nothing is allocated for one that says it is.
    init(_ path: String, _ magic: [UInt8], recordBytesMax: Int = RecordFile.recordBytesMax) throws {
        self.path = path
        self.magic = magic
        self.recordBytesMax = recordBytesMax
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        var information = stat()
        guard descriptor >= 0, fstat(descriptor, &information) == 0 else {
            throw SnapshotFileFailure.notReadable(path, reason: String(cString: strerror(errno)))
        }
        size = Int(information.st_size)
    }

    deinit { if descriptor >= 0 { Glibc.close(descriptor) } }

    /// Reads everything once, and checks each record, their order, and the hash at the end.
    func checkAll() throws {
        try rewind()
        var hash = SHA256()
        hash.update(data: magic)
        var isFirst = true
        while true {
            let start = offset
            guard let record = try next() else { throw SnapshotFileFailure.cut(path, bytes: size) }
            switch record.kind {
            case .head where isFirst, .piece where !isFirst, .seal where !isFirst:
                hash.update(data: record.bytes)
            case .end where !isFirst && record.content == [UInt8](hash.finalize()) && offset == size:
                return
            default:
                throw SnapshotFileFailure.damaged(path, offset: start)
            }
            isFirst = false
        }
    }

    func rewind() throws {
        offset = 0
        guard lseek(descriptor, 0, SEEK_SET) == 0,
            try read(magic.count) == magic
        else { throw SnapshotFileFailure.notASnapshot(path) }
        offset = magic.count
    }

    /// The next record; nil at the end of the file, or when it ends in the middle of one.
    func next() throws -> (kind: RecordFile.Kind, content: [UInt8], bytes: [UInt8])? {
        guard let header = try read(5) else { return nil }
        let length = header.dropFirst().reversed().reduce(0) { $0 << 8 | Int($1) }
        guard let kind = RecordFile.Kind(rawValue: header[0]), length <= recordBytesMax
        else { throw SnapshotFileFailure.damaged(path, offset: offset) }
        // Nothing is allocated for a length that the file cannot hold.
        guard offset + 5 + length + 8 <= size, let content = try read(length), let sum = try read(8) else { return nil }
        let covered = header + content
        let expected = covered.withUnsafeBytes { ChangeChain.checksum(of: $0) }
        guard (0..<8).allSatisfy({ sum[$0] == UInt8(truncatingIfNeeded: expected >> (8 * UInt64($0))) }) else {
            throw SnapshotFileFailure.damaged(path, offset: offset)
        }
        offset += covered.count + 8
        return (kind, content, covered + sum)
    }

    /// So many bytes; nil when the file ends before.
    private func read(_ count: Int) throws -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let got = bytes.withUnsafeMutableBytes { buffer in
                Glibc.read(descriptor, buffer.baseAddress.map { $0 + done }, count - done)
            }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else {
                throw SnapshotFileFailure.notReadable(path, reason: String(cString: strerror(errno)))
            }
            if got == 0 { return nil }
            done += got
        }
        return bytes
    }
}
