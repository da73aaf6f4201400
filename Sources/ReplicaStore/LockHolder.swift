import Foundation

/// Finds out which other process keeps a replica's file busy, for sentences that people can act on.
///
/// Reads what the system tells of all locks. SQLite's own file is not opened for it: closing it again would let
/// go of this process's locks.
///
/// - Source: proc(5), `/proc/locks`; the bytes of the locks are in SQLite's "WAL-mode File Format", section 2.2.
enum LockHolder {
    /// The byte of the `-shm` file that a writer locks, and those that readers lock. The first of these is held
    /// by a reader that needs nothing of the write-ahead log.
    private static let writeByte: Int64 = 120
    private static let readBytes: ClosedRange<Int64> = 124...127

    /// The program that has a write transaction open: `sqlite3 (process 4711)`; nil when none can be seen.
    static func writer(of path: String) -> String? {
        holder(of: path) { $0.isWrite && $0.bytes.contains(writeByte) }
    }

    /// A program that reads an old state.
    static func reader(of path: String) -> String? {
        holder(of: path) { !$0.isWrite && $0.bytes.overlaps(readBytes) }
    }

    private struct Lock {
        let isWrite: Bool
        let process: Int32
        let inode: UInt64
        let bytes: ClosedRange<Int64>

        /// Reads `1: POSIX  ADVISORY  WRITE 4711 08:01:2621441 120 120`.
        init?(line: Substring) {
            let words = line.split(separator: " ")
            guard words.count >= 8, words[1] == "POSIX", let process = Int32(words[4]), process > 0,
                let inode = words[5].split(separator: ":").last.flatMap({ UInt64($0) }),
                let first = Int64(words[6])
            else { return nil }
            let last = Int64(words[7]) ?? .max
            guard first <= last else { return nil }
            isWrite = words[3] == "WRITE"
            self.process = process
            self.inode = inode
            bytes = first...last
        }
    }

    private static func holder(of path: String, where matches: (Lock) -> Bool) -> String? {
        var information = stat()
        guard stat(path + "-shm", &information) == 0,
            let locks = try? String(contentsOfFile: "/proc/locks", encoding: .utf8)
        else { return nil }
        let own = getpid()
        for line in locks.split(separator: "\n") {
            guard let lock = Lock(line: line), lock.inode == UInt64(information.st_ino), lock.process != own,
                matches(lock)
            else { continue }
            let name = try? String(contentsOfFile: "/proc/\(lock.process)/comm", encoding: .utf8)
            let word = name?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
            return word.isEmpty ? "process \(lock.process)" : "\(word) (process \(lock.process))"
        }
        return nil
    }
}
