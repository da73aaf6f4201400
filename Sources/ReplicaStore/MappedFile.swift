import Foundation
import Glibc

/// A file that is looked at where it lies: its bytes are in the page cache, which the system takes back when it
/// needs the memory, instead of in this program's own.
///
/// `@unchecked Sendable`: nothing is written after it was made.
final class MappedFile: @unchecked Sendable {
    let bytes: UnsafeRawBufferPointer
    private let writable: UnsafeMutableRawBufferPointer

    deinit { munmap(writable.baseAddress, max(writable.count, 1)) }

    /// Looks at a file that nobody changes meanwhile.
    init(reading path: String) throws {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw StoreFailure.spool(String(cString: strerror(errno))) }
        defer { close(descriptor) }
        var information = stat()
        guard fstat(descriptor, &information) == 0, information.st_size > 0 else {
            throw StoreFailure.spool("\(path) is empty")
        }
        let start = mmap(nil, Int(information.st_size), PROT_READ, MAP_SHARED, descriptor, 0)
        guard let start, start != MAP_FAILED else { throw StoreFailure.spool(String(cString: strerror(errno))) }
        writable = UnsafeMutableRawBufferPointer(start: start, count: Int(information.st_size))
        bytes = UnsafeRawBufferPointer(writable)
    }

    /// Makes a file without a name, fills it, and looks at it.
    ///
    /// - Throws: What `fill` throws; ``StoreFailure/diskFull`` before anything is written that would not fit.
    init(
        scratchIn directory: String,
        byteCount: Int,
        fill: (UnsafeMutableRawBufferPointer) throws -> Void
    ) throws {
        try FileManager.default.createDirectory(
            atPath: directory,
            withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700]
        )
        var name = Array((directory + "/scratch-XXXXXX").utf8CString)
        let descriptor = mkstemp(&name)
        guard descriptor >= 0 else { throw StoreFailure.spool(String(cString: strerror(errno))) }
        defer { close(descriptor) }
        unlink(name)
        // Reserved first: writing to a mapped page that finds no room would end the process.
        let code = posix_fallocate(descriptor, 0, max(byteCount, 1))
        guard code == 0 else {
            throw code == ENOSPC ? StoreFailure.diskFull : StoreFailure.spool(String(cString: strerror(code)))
        }
        let start = mmap(nil, max(byteCount, 1), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        guard let start, start != MAP_FAILED else { throw StoreFailure.spool(String(cString: strerror(errno))) }
        writable = UnsafeMutableRawBufferPointer(start: start, count: byteCount)
        bytes = UnsafeRawBufferPointer(writable)
        try fill(writable)
    }
}
