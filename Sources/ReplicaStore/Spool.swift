import Causality
import Crypto
import Foundation
import Glibc
import SyncProtocol

/// Where large change sets lie while they arrive in parts: one file each, in a directory beside the replica.
///
/// Nothing there is a promise. A file that a power cut has spoilt does not have the right hash, is thrown away, and
/// comes again.
struct Spool: Sendable {
    let directory: String

    /// What all files together may take.
    static let bytesMax = SyncLimits.spoolBytesMax
    /// Files that nobody has added to for so long are given up when room is needed, or when they are met.
    static let busySeconds: TimeInterval = 3600
    static let staleSeconds: TimeInterval = 7 * 24 * 3600

    private func path(of body: LargeBody) -> String {
        let hash = body.hash.prefix(8).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        return "\(directory)/\(body.id.origin)-\(body.id.seq)-\(hash)"
    }

    /// How many bytes are here; makes room for the rest.
    ///
    /// - Throws: A refusal when too much else is arriving.
    func open(_ body: LargeBody) throws -> Int {
        try FileManager.default.createDirectory(
            atPath: directory,
            withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700]
        )
        let own = path(of: body)
        var others = 0
        for name in try FileManager.default.contentsOfDirectory(atPath: directory).sorted() {
            let file = directory + "/" + name
            guard file != own, let state = Self.state(of: file) else { continue }
            // The same change set with other bytes: what was sent before is not what is meant now.
            let isSuperseded = name.hasPrefix("\(body.id.origin)-\(body.id.seq)-")
            let needsRoom = others + state.bytes + body.byteCount > Self.bytesMax
            let age = Date().timeIntervalSince1970 - state.changedAt
            if isSuperseded || age > Self.staleSeconds || (needsRoom && age > Self.busySeconds) {
                unlink(file)
            } else {
                others += state.bytes
            }
        }
        guard others + body.byteCount <= Self.bytesMax else {
            throw Refusal(
                .retryLater,
                "\(others) bytes of large change sets are arriving already, and \(body.byteCount) more do not fit.",
                retryAfterSeconds: 60
            )
        }
        let held = Self.state(of: own)?.bytes ?? 0
        guard held >= body.byteCount else { return held }
        return try isRight(body) ? body.byteCount : 0
    }

    /// Adds the next part.
    ///
    /// - Returns: How many bytes are here now.
    func append(_ part: [UInt8], at offset: Int, to body: LargeBody) throws -> Int {
        let descriptor = Glibc.open(path(of: body), O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw StoreFailure.spool(String(cString: strerror(errno))) }
        defer { close(descriptor) }
        var information = stat()
        guard fstat(descriptor, &information) == 0, information.st_size >= off_t(offset) else {
            throw StoreFailure.spool("a part of it has gone")
        }
        var rest = part[...]
        while !rest.isEmpty {
            let place = off_t(offset + part.count - rest.count)
            let count = rest.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, place) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                throw errno == ENOSPC ? StoreFailure.diskFull : StoreFailure.spool(String(cString: strerror(errno)))
            }
            rest = rest.dropFirst(count)
        }
        Failpoint.partSpooled.pass()
        let held = offset + part.count
        if held == body.byteCount, try !isRight(body) {
            throw StoreFailure.spool("its bytes are not the ones that were announced; it is sent again")
        }
        return held
    }

    /// Looks at a body of which all is here.
    func map(_ body: LargeBody) throws -> MappedFile {
        let file = try MappedFile(reading: path(of: body))
        guard file.bytes.count == body.byteCount else { throw StoreFailure.spool("a part of it has gone") }
        return file
    }

    /// Throws a body away.
    func remove(_ body: LargeBody) { unlink(path(of: body)) }

    /// Throws everything away: what was erased may be in it. What is still wanted comes again.
    func removeAll() {
        for name in (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? [] {
            unlink(directory + "/" + name)
        }
    }

    /// Whether the file has the announced bytes; if not, it is thrown away.
    private func isRight(_ body: LargeBody) throws -> Bool {
        let path = path(of: body)
        let file = try MappedFile(reading: path)
        var hash = SHA256()
        hash.update(bufferPointer: file.bytes)
        if file.bytes.count == body.byteCount, Array(hash.finalize()) == body.hash { return true }
        unlink(path)
        return false
    }

    private static func state(of path: String) -> (bytes: Int, changedAt: TimeInterval)? {
        var information = stat()
        guard stat(path, &information) == 0 else { return nil }
        return (Int(information.st_size), TimeInterval(information.st_mtim.tv_sec))
    }
}
