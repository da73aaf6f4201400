import CRM
import CSQLite
import Causality
import Foundation
import GRDB
import GRDBSQLite
import Glibc

// Backups: a copy of the database that was opened again and checked before anybody relies on it, marked inside,
// so that it never becomes a live replica by accident: a node that went back to an older state must know it.

/// What a verified backup holds.
package struct BackupReport: Hashable, Sendable {
    package let file: String
    package let node: String
    package let role: LocalNode.Role
    /// The end of the log in it.
    package let position: UInt64
    package let rows: Int64
    package let bytes: Int
    /// Milliseconds since 1970-01-01 UTC.
    package let madeAt: UInt64
}

/// What came of restoring a backup.
package struct RestoreReport: Hashable, Sendable {
    package let backup: BackupReport
    /// Where the node lives now.
    package let directory: String
    /// The origin number in the backup, and the one that the node writes under now. A branch gets another one at
    /// its first contact.
    package let formerOrigin: Origin
    package let origin: Origin
    /// Where the file that was there has gone.
    package let keptAside: String?
    /// Change sets of head office's log that were in a newer backup and are missing in this one.
    package let missing: UInt64
    /// Change sets of a branch that are in the file that was kept aside, and nowhere else.
    package let unsentAside: UInt64
}

/// Why a backup was not made or not restored.
package enum BackupFailure: Error, Hashable, Sendable, CustomStringConvertible {
    case fileExists(String)
    case noFile(String)
    case notABackup(String, reason: String)
    /// The copy does not hold what it should.
    case damaged(String, reason: String)
    /// There is a node already.
    case nodeThere(directory: String)
    /// There is another node.
    case otherNode(directory: String, holds: String, backup: String)
    /// A newer backup was called safe.
    case older(position: UInt64, safe: UInt64, end: UInt64)
    case failed(String)

    package var description: String {
        switch self {
        case .fileExists(let file): "There is a file \(file) already. Nothing was changed; choose another name."
        case .noFile(let file): "There is no file \(file)."
        case .notABackup(let file, let reason): "\(file) is no backup of a node: \(reason)"
        case .damaged(let file, let reason):
            "The backup \(file) was read again and is damaged: \(reason) Do not rely on it; check the disk and make "
                + "another one."
        case .nodeThere(let directory):
            "\(directory) holds a node already. Restoring puts the backup in its place and keeps the present file "
                + "aside: say so with --force."
        case .otherNode(let directory, let holds, let backup):
            "\(directory) holds \(holds), and this is a backup of \(backup). Nothing was changed; choose another "
                + "directory."
        case .older(let position, let safe, let end):
            "This backup ends at position \(position), but one up to \(safe) was verified: \(safe - position) change "
                + "sets are missing in this one, and the present file goes up to \(end). Restore the newer backup, or "
                + "say --older if it is lost: branches bring back what they still hold."
        case .failed(let sentence): sentence
        }
    }
}

extension Replica {
    // MARK: Making one

    /// Copies the replica to a file, opens the copy again, checks every row, and marks it as a backup. Users go on
    /// meanwhile.
    ///
    /// - Parameter progress: Is told the steps done, and of how many.
    /// - Throws: ``BackupFailure``. No file is left then.
    package func backup(to file: String, progress: (Int, Int) throws -> Void) throws -> BackupReport {
        guard access(file, F_OK) != 0 else { throw BackupFailure.fileExists(file) }
        try sealForeignWrites()
        let draft = file + ".new"
        Self.removeDatabase(draft)
        var isDone = false
        defer { if !isDone { Self.removeDatabase(draft) } }
        let copy: DatabaseQueue
        do {
            copy = try DatabaseQueue(path: draft, configuration: Self.copyConfiguration())
        } catch {
            throw BackupFailure.failed("The file \(draft) cannot be written. Check the directory, and its free space.")
        }
        do {
            // Pages are copied out of one consistent state, and nobody waits for it.
            try withoutActuallyEscaping(progress) { progress in
                try pool.backup(to: copy, pagesPerStep: 1024) { step in
                    try progress(step.completedPageCount, step.totalPageCount * 2)
                }
            }
            let madeAt = wallClock()
            let report = try copy.writeWithoutTransaction { db in
                try db.execute(sql: "PRAGMA journal_mode = DELETE")
                let report = try Self.check(db, file: file, schema: schema, madeAt: madeAt) { done, total in
                    try progress(total + done, total * 2)
                }
                try db.cachedStatement(sql: "INSERT OR REPLACE INTO localFact VALUES (?, ?)").execute(arguments: [
                    LocalFact.backupMadeAt.rawValue, Int64(clamping: madeAt),
                ])
                // A node that is restored elsewhere is the same node; head office's branches must believe it.
                for (name, content) in try keyFiles.all() {
                    try db.cachedStatement(sql: "INSERT OR REPLACE INTO keptFile VALUES (?, ?)").execute(arguments: [
                        name, content,
                    ])
                }
                return report
            }
            try copy.close()
            // There are keys in it.
            chmod(draft, 0o600)
            try Self.putInPlace(draft, at: file)
            isDone = true
            try noteSafe(report)
            return report
        } catch {
            throw Self.backupFailure(error, file)
        }
    }

    /// Head office's log is safe as far as the backup goes.
    private func noteSafe(_ report: BackupReport) throws {
        guard node.role == .headOffice else { return }
        try withWriter { writer in
            try writer.transaction {
                guard try writer.fact(.safePosition) ?? 0 <= Int64(clamping: report.position) else { return }
                try writer.note(.safePosition, Int64(clamping: report.position))
                try writer.note(.safeAt, Int64(clamping: report.madeAt))
            }
        }
    }

    // MARK: Checking one

    /// Reads everything in a copy and compares it with the sums that every write has kept.
    private static func check(
        _ db: Database,
        file: String,
        schema: Schema,
        madeAt: UInt64,
        _ progress: (Int, Int) throws -> Void
    ) throws -> BackupReport {
        guard let node = try LocalNode.read(db) else {
            throw BackupFailure.notABackup(file, reason: "It names no node.")
        }
        let integrity = try String.fetchOne(db, sql: "PRAGMA integrity_check(1)") ?? ""
        guard integrity == "ok" else { throw BackupFailure.damaged(file, reason: integrity + ".") }
        var rows: Int64 = 0
        for (index, table) in schema.tables.enumerated() where try db.tableExists(table.name) {
            try progress(index, schema.tables.count)
            let written = table.asWritten(in: Set(try db.columns(in: table.name).map(\.name)))
            let found = try verify(written, node.organisation ?? [], db) {}
            guard found.isRight else {
                throw BackupFailure.damaged(
                    file,
                    reason: "\(found.differingBuckets.count) parts of \(table.name) differ from what was written."
                )
            }
            rows += found.counted.rows
        }
        let size =
            try (Int.fetchOne(db, sql: "PRAGMA page_count") ?? 0) * (Int.fetchOne(db, sql: "PRAGMA page_size") ?? 0)
        return BackupReport(
            file: file,
            node: node.name,
            role: node.role,
            position: UInt64(
                clamping: try Int64.fetchOne(db.cachedStatement(sql: "SELECT max(position) FROM log")) ?? 0
            ),
            rows: rows,
            bytes: size,
            madeAt: madeAt
        )
    }

    /// Checks a backup, without changing anything.
    package static func checkBackup(_ file: String, schema: Schema = .current) throws -> BackupReport {
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: file, isDirectory: &isDirectory), !isDirectory.boolValue,
            access(file, R_OK) == 0
        else { throw BackupFailure.noFile(file) }
        var configuration = copyConfiguration()
        configuration.readonly = true
        do {
            let copy = try DatabaseQueue(path: file, configuration: configuration)
            defer { try? copy.close() }
            return try copy.read { db in
                let isNode = try db.tableExists("localFact")
                if isNode { try Migrations(schema: schema).check(db) }
                guard isNode, let madeAt = try LocalFact.read(.backupMadeAt, db) else {
                    throw BackupFailure.notABackup(
                        file,
                        reason: "It has no mark of one. Make backups with `peyvand backup`, not by copying files."
                    )
                }
                return try check(db, file: file, schema: schema, madeAt: UInt64(clamping: madeAt)) { _, _ in }
            }
        } catch {
            throw backupFailure(error, file)
        }
    }

    // MARK: Restoring one

    /// Puts a backup in the place of a node's replica.
    ///
    /// The node knows that it went back: a branch takes a new origin number at its first contact and gets back
    /// what it had sent since, head office takes one at once.
    ///
    /// - Parameters:
    ///   - replacing: Whether a node that is there may be replaced; its file is kept aside.
    ///   - older: Whether a backup may be restored that lacks what a later one had.
    package static func restore(
        _ file: String,
        to directory: String,
        replacing: Bool,
        older: Bool,
        schema: Schema = .current,
        clock: NodeClock
    ) throws -> RestoreReport {
        let backup = try checkBackup(file, schema: schema)
        let backupNode = try presentState(file, isBackup: true).node
        try FileManager.default.createDirectory(
            atPath: directory,
            withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o750]
        )
        guard let lock = try NodeLock(directory: directory) else { throw StoreFailure.inUse(directory: directory) }
        var missing: UInt64 = 0
        var unsentAside: UInt64 = 0
        let target = path(in: directory)
        if exists(in: directory) {
            guard replacing else { throw BackupFailure.nodeThere(directory: directory) }
            // A file that cannot be read says nothing against the backup.
            if let present = try? presentState(target) {
                guard present.node.node == backupNode.node else {
                    throw BackupFailure.otherNode(
                        directory: directory,
                        holds: present.node.name,
                        backup: backupNode.name
                    )
                }
                if backup.role == .headOffice, present.safe > backup.position {
                    guard older else {
                        throw BackupFailure.older(position: backup.position, safe: present.safe, end: present.end)
                    }
                    missing = present.safe - backup.position
                }
                if backup.role == .branch { unsentAside = (try? unsent(in: target, notIn: file)) ?? 0 }
            }
        }
        let fence = Fence(directory: directory)
        let draft = target + ".restoring"
        removeDatabase(draft)
        let formerOrigin: Origin
        do {
            try FileManager.default.copyItem(atPath: file, toPath: draft)
            // The right to read it is the directory's again, once the keys are out.
            let prepared = try prepare(draft, reserved: fence.state.reserved)
            formerOrigin = prepared.origin
            try KeyFiles(directory: directory).putBack(prepared.files)
            chmod(draft, 0o640)
        } catch {
            removeDatabase(draft)
            throw backupFailure(error, file)
        }
        let keptAside = try keepAside(target, madeAt: clock.read().wallMilliseconds)
        Failpoint.presentSetAside.pass()
        // The next opening makes a new one.
        unlink(Fence.path(in: directory))
        try putInPlace(draft, at: target)
        lock.release()
        // Head office takes its new number as it is opened.
        let replica = try Replica.open(directory, schema: schema, clock: clock)
        let origin = replica.node.origin
        try replica.close()
        return RestoreReport(
            backup: backup,
            directory: directory,
            formerOrigin: formerOrigin,
            origin: origin,
            keptAside: keptAside,
            missing: missing,
            unsentAside: unsentAside
        )
    }

    /// Takes the mark and the keys away and notes what the node has to know.
    private static func prepare(
        _ draft: String,
        reserved: Int64
    ) throws -> (origin: Origin, files: [(name: String, content: String)]) {
        let copy = try DatabaseQueue(path: draft, configuration: copyConfiguration())
        let (origin, files) = try copy.writeWithoutTransaction { db in
            // What leaves is written over.
            try db.execute(sql: "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON")
            var files: [(name: String, content: String)] = []
            try db.inTransaction(.immediate) {
                // A file of an older format has none.
                if try db.tableExists("keptFile") {
                    files = try Row.fetchAll(db, sql: "SELECT name, content FROM keptFile").map { ($0[0], $0[1]) }
                    try db.execute(sql: "DELETE FROM keptFile")
                }
                func note(_ fact: LocalFact, _ value: Int64) throws {
                    try db.cachedStatement(sql: "INSERT OR REPLACE INTO localFact VALUES (?, ?)")
                        .execute(arguments: [fact.rawValue, value])
                }
                let known = try LocalFact.read(.rowCounterReserved, db) ?? 0
                try note(.rowCounterFloor, reserved > 0 ? max(reserved, known) : known + Fence.leftOut)
                if !isPlanted(.restoredKeepsNumber) { try note(.mustRenew, RenewalReason.restored.rawValue) }
                for fact in [LocalFact.backupMadeAt, .openings] {
                    try db.cachedStatement(sql: "DELETE FROM localFact WHERE name = ?").execute(arguments: [
                        fact.rawValue
                    ])
                }
                return .commit
            }
            return (try LocalNode.read(db)?.origin, files)
        }
        try copy.close()
        return (origin ?? .none, files)
    }

    private static func presentState(
        _ path: String,
        isBackup: Bool = false
    ) throws -> (node: LocalNode, safe: UInt64, end: UInt64) {
        try reading(path, isBackup: isBackup) { db in
            guard let node = try LocalNode.read(db) else {
                throw BackupFailure.notABackup(path, reason: "It names no node.")
            }
            return (
                node,
                UInt64(clamping: try LocalFact.read(.safePosition, db) ?? 0),
                UInt64(clamping: try Int64.fetchOne(db.cachedStatement(sql: "SELECT max(position) FROM log")) ?? 0)
            )
        }
    }

    /// How many change sets of a branch's present file head office has not acknowledged, and the backup lacks.
    private static func unsent(in present: String, notIn backup: String) throws -> UInt64 {
        let newest = "SELECT max(seq) FROM log WHERE origin = ?"
        let (origin, last, accepted) = try reading(present) { db in
            let origin = try LocalNode.read(db)?.origin.rawValue ?? 0
            let last = try Int64.fetchOne(db, sql: newest, arguments: [origin]) ?? 0
            let accepted = try Int64.fetchOne(
                db.cachedStatement(
                    sql: "SELECT max(acceptedSeq, acceptedMost) FROM localContact WHERE acceptedOrigin = ?"
                ),
                arguments: [origin]
            )
            return (origin, last, accepted ?? 0)
        }
        let kept = try reading(backup, isBackup: true) { db in
            try Int64.fetchOne(db, sql: newest, arguments: [origin]) ?? 0
        }
        return UInt64(clamping: last - max(accepted, kept))
    }

    private static func reading<Result>(
        _ path: String,
        isBackup: Bool = false,
        _ body: (Database) throws -> Result
    ) throws -> Result {
        var configuration = copyConfiguration()
        configuration.readonly = isBackup
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        defer { try? queue.close() }
        return try queue.read(body)
    }

    /// Renames a database with its write-ahead log; nil when there is none.
    private static func keepAside(_ target: String, madeAt milliseconds: UInt64) throws -> String? {
        guard access(target, F_OK) == 0 else { return nil }
        let aside = "\(target).before-\(milliseconds)"
        for suffix in ["-wal", "-shm", ""] where access(target + suffix, F_OK) == 0 {
            guard rename(target + suffix, aside + suffix) == 0 else {
                throw BackupFailure.failed("The present file \(target) cannot be renamed. Check the directory.")
            }
        }
        return aside
    }

    // MARK: Files

    private static func copyConfiguration() -> Configuration {
        var configuration = Configuration()
        configuration.foreignKeysEnabled = false
        configuration.prepareDatabase { db in
            // The node's own tables are closed to connections that have triggers.
            guard csqlite_set_triggers_enabled(UnsafeMutableRawPointer(db.sqliteConnection), 0) == SQLITE_OK else {
                throw DatabaseError(message: "SQLite does not take its settings")
            }
            try db.execute(sql: "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0")
        }
        return configuration
    }

    private static func removeDatabase(_ path: String) {
        for suffix in ["", "-wal", "-shm", "-journal"] { unlink(path + suffix) }
    }

    /// Gives a finished file its name, durably.
    private static func putInPlace(_ draft: String, at path: String) throws {
        let file = Glibc.open(draft, O_RDWR | O_CLOEXEC)
        guard file >= 0 else { throw BackupFailure.failed("The file \(draft) cannot be opened again.") }
        let isSynced = fsync(file) == 0
        Glibc.close(file)
        Failpoint.copyDrafted.pass()
        guard isSynced, rename(draft, path) == 0 else {
            throw BackupFailure.failed("The file \(path) cannot be written: \(String(cString: strerror(errno))).")
        }
        Failpoint.copyNamed.pass()
        syncDirectory(of: path)
    }

    private static func backupFailure(_ error: any Error, _ file: String) -> any Error {
        if let error = error as? CocoaError {
            let reason = error.code == .fileWriteOutOfSpace ? "the disk is full" : error.localizedDescription
            return BackupFailure.failed("\(file) cannot be copied: \(reason). Nothing was changed.")
        }
        guard let error = error as? DatabaseError else { return error }
        switch error.resultCode {
        case .SQLITE_FULL: return BackupFailure.failed("The disk of \(file) is full. Nothing was kept.")
        case .SQLITE_CORRUPT: return BackupFailure.damaged(file, reason: "Its pages do not fit together.")
        case .SQLITE_NOTADB: return BackupFailure.notABackup(file, reason: "It is no database.")
        default: return StoreFailure.wrapping(error)
        }
    }
}
