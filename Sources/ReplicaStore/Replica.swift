import CRM
import CSQLite
import Causality
import Foundation
import GRDB
import GRDBSQLite
import Glibc
import Synchronization

/// A node's replica: the SQLite file, its one writer, and any number of readers.
///
/// Safe to call from any thread. Writes wait for each other; reads see the last committed state and wait for
/// nobody. Calls block, so they do not belong on an event loop.
///
/// - Source: the layout of the directory is `replica.db`, `lock`, `peyvand.sock`, `peyvand.toml`.
package final class Replica: Sendable {
    package let directory: String
    package let schema: Schema
    let pool: DatabasePool
    let clock: NodeClock
    private let lock: NodeLock
    /// Touched on the pool's writer queue only. Nil once the replica is closed.
    private nonisolated(unsafe) var openWriter: ReplicaWriter?
    /// Pages in the write-ahead log after the last commit; written by SQLite on the writer queue.
    private let walPages: WalPages
    private let observers = Mutex(Observers())
    /// What the writer has last said of the node; for everybody else.
    private let currentNode: Mutex<LocalNode>
    /// What sessions have told since it was last written down.
    let contacts = Mutex(ContactNotes())
    /// When bulk work lets go of the writer.
    let writerTurn = WriterTurn()
    /// How many customers are indexed in one turn of the writer.
    let searchPace = Mutex(WorkPace(unitsMax: 2000))
    /// How many customers are compared in one turn of the writer, and who is at it.
    let matchingPace = Mutex(WorkPace(unitsMin: 10, unitsMax: 500))
    let matchingTurn = NSLock()
    /// How many wait for the writer.
    private let waiting = Atomic(0)
    let policy = Mutex(ReplicaPolicy())
    /// When all rows were last read and found right, so that snapshots may begin.
    let lastVerification = Mutex<UInt64?>(nil)
    let snapshotReadAhead = SnapshotReadAhead()
    /// How far the first load has come; nil when there is none.
    let firstLoad = Mutex<FirstLoadProgress?>(nil)
    /// What this branch is asking its hub.
    let consultation = Mutex<Consultation?>(nil)
    /// How far this branch has come with refilling a hub that has lost the end of its log.
    let refillRun = Mutex(RefillRun())
    /// What is to be compared at the next contact, how far that has come, and how many rows were repaired.
    let comparisonWish = Mutex(ComparisonWish.none)
    let comparison = Mutex<Comparison?>(nil)
    let lastRepaired = Mutex(0)
    /// Whether the certificate that is being renewed has expired.
    let renewsExpired = Mutex(false)
    /// Keys and certificates as they were read last.
    let keys = Mutex(KeyCache())
    /// Who wants to know when somebody may have to leave.
    let nodeObservers = Mutex(Observers())
    /// Where this branch looks for the end of what it and its hub have in common.
    let forkSearch = Mutex<ForkSearch?>(nil)

    /// Format of the file; rises with each migration.
    package static let format = 8
    /// From how many pages on the write-ahead log is copied into the file after a commit (16 MiB).
    private static let walPagesMax: Int32 = 4096
    /// To what size the write-ahead log is cut when it begins anew.
    private static let journalBytesMax = 64 << 20
    /// How long a write waits for another program's transaction.
    package static let defaultBusySeconds = 10.0

    /// The replica's file in a node's directory.
    package static func path(in directory: String) -> String { directory + "/replica.db" }

    /// Whether a directory holds a node.
    package static func exists(in directory: String) -> Bool {
        FileManager.default.fileExists(atPath: path(in: directory))
    }

    // MARK: Opening

    /// Opens the replica of a node.
    ///
    /// - Parameters:
    ///   - directory: The node's directory.
    ///   - busySeconds: How long a write waits for another program's transaction.
    ///   - clock: What it takes its time from.
    /// - Throws: ``StoreFailure/noNode(directory:)``, ``StoreFailure/inUse(directory:)``, or what the file says.
    package static func open(
        _ directory: String,
        schema: Schema = .current,
        busySeconds: Double = defaultBusySeconds,
        clock: NodeClock
    ) throws -> Replica {
        guard exists(in: directory) else { throw StoreFailure.noNode(directory: directory) }
        return try Replica(directory, schema: schema, creating: nil, busySeconds: busySeconds, clock: clock)
    }

    /// Opens the replica of a node with a wall clock, in milliseconds since 1970-01-01 UTC, that nobody sets.
    package static func open(
        _ directory: String,
        schema: Schema = .current,
        busySeconds: Double = defaultBusySeconds,
        wallClock: @escaping @Sendable () -> UInt64
    ) throws -> Replica {
        try open(directory, schema: schema, busySeconds: busySeconds, clock: NodeClock(wallClock: wallClock))
    }

    /// Makes the replica of a new node. The directory is made if it is missing.
    ///
    /// - Throws: ``StoreFailure/nodeExists(directory:)`` when there is one already.
    package static func create(
        _ directory: String,
        node: LocalNode,
        schema: Schema = .current,
        clock: NodeClock
    ) throws -> Replica {
        try FileManager.default.createDirectory(
            atPath: directory,
            withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o750]
        )
        guard !exists(in: directory) else { throw StoreFailure.nodeExists(directory: directory) }
        return try Replica(directory, schema: schema, creating: node, busySeconds: defaultBusySeconds, clock: clock)
    }

    /// Makes the replica of a new node with a wall clock, in milliseconds since 1970-01-01 UTC, that nobody sets.
    package static func create(
        _ directory: String,
        node: LocalNode,
        schema: Schema = .current,
        wallClock: @escaping @Sendable () -> UInt64
    ) throws -> Replica {
        try create(directory, node: node, schema: schema, clock: NodeClock(wallClock: wallClock))
    }

    private init(
        _ directory: String,
        schema: Schema,
        creating newNode: LocalNode?,
        busySeconds: Double,
        clock: NodeClock
    ) throws {
        guard let lock = try NodeLock(directory: directory) else {
            throw StoreFailure.inUse(directory: directory)
        }
        self.lock = lock
        self.directory = directory
        self.schema = schema
        self.clock = clock
        do {
            let path = Self.path(in: directory)
            if newNode != nil {
                // Made under another name, so that a crash half way leaves no node rather than half a one.
                try Self.make(path: path, node: newNode, schema: schema)
            }
            pool = try DatabasePool(path: path, configuration: Self.configuration(busySeconds: busySeconds))
            let walPages = WalPages()
            self.walPages = walPages
            let writer = try pool.writeWithoutTransaction { db in
                // The pool chooses NORMAL, under which a power cut takes back what was acknowledged.
                try db.execute(sql: "PRAGMA synchronous = \(isPlanted(.normalForFull) ? "NORMAL" : "FULL")")
                // What a sync failed to write may still be read after the process has died, and is gone with the
                // power: nobody may be told of it before it is in the file.
                _ = Self.checkpoint(db, SQLITE_CHECKPOINT_PASSIVE)
                walPages.watch(db)
                let migrator = Self.migrator(schema)
                try migrator.check(db)
                try migrator.migrate(db: db)
                guard let node = try LocalNode.read(db) else { throw StoreFailure.noNode(directory: directory) }
                if let time = try LocalFact.read(.backupMadeAt, db) {
                    throw StoreFailure.isBackup(directory: directory, madeAt: UInt64(clamping: time))
                }
                let fence = Fence(directory: directory)
                let finding = fence.compare(openings: try LocalFact.read(.openings, db))
                let writer = try ReplicaWriter(db, schema: schema, node: node, fence: fence, nodeClock: clock)
                // Before any other transaction, because that would seal what other programs wrote under the old number.
                if finding == .broken { try writer.transaction(sealing: false) { try writer.fenceIsBroken() } }
                if node.role == .headOffice, let reason = try writer.fact(.mustRenew) {
                    try writer.transaction(sealing: false) {
                        try writer.beginNewLifeOfHeadOffice(
                            reason: (RenewalReason(rawValue: reason) ?? .fence).sentence
                        )
                    }
                }
                try writer.catchUpWithSchema()
                return writer
            }
            openWriter = writer
            currentNode = Mutex(writer.node)
            let load = try readState { try SnapshotLoad.read($0) }
            firstLoad.withLock { $0 = load?.progress }
        } catch {
            throw StoreFailure.wrapping(error)
        }
    }

    private static func make(path: String, node: LocalNode?, schema: Schema) throws {
        let draft = path + ".new"
        for file in [draft, draft + "-wal", draft + "-shm"] { try? FileManager.default.removeItem(atPath: file) }
        let queue = try DatabaseQueue(path: draft, configuration: configuration(busySeconds: defaultBusySeconds))
        try queue.writeWithoutTransaction { db in
            try migrator(schema).migrate(db: db)
            try db.inTransaction {
                try node?.save(db)
                return .commit
            }
        }
        try queue.close()
        Failpoint.replicaDrafted.pass()
        guard rename(draft, path) == 0 else {
            throw StoreFailure.database("The replica could not be put at \(path). Check the directory.")
        }
        Failpoint.replicaNamed.pass()
        // A power cut must not take the name back.
        syncDirectory(of: path)
    }

    /// How SQLite gets its memory in this process, said once. Refused when it works already, which does no harm.
    private static let memorySettings: Void = {
        // Readers and the writer wait for each other many times less.
        _ = csqlite_leave_out_memory_count()
        Failpoint.orderFailingAllocation()
    }()

    /// How this node's own connections work.
    static func configuration(busySeconds: Double) -> Configuration {
        _ = memorySettings
        var configuration = Configuration()
        configuration.foreignKeysEnabled = false
        configuration.busyMode = .timeout(busySeconds)
        configuration.prepareDatabase { db in
            // Triggers notice other programs; this connection's own writes carry their clocks already.
            guard csqlite_set_triggers_enabled(UnsafeMutableRawPointer(db.sqliteConnection), 0) == SQLITE_OK,
                csqlite_set_defensive(UnsafeMutableRawPointer(db.sqliteConnection), 1) == SQLITE_OK
            else { throw DatabaseError(message: "SQLite does not take its settings") }
            try db.execute(
                sql: """
                    PRAGMA trusted_schema = OFF;
                    PRAGMA cell_size_check = ON;
                    PRAGMA mmap_size = 0;
                    PRAGMA secure_delete = FAST;
                    PRAGMA journal_size_limit = \(journalBytesMax);
                    PRAGMA cache_size = -\((db.configuration.readonly ? 8 : 64) << 10);
                    """
            )
        }
        return configuration
    }

    private static func migrator(_ schema: Schema) -> Migrations { Migrations(schema: schema) }

    // MARK: Reading and writing

    /// Runs one transaction of this node's own users, durable when this returns.
    ///
    /// - Returns: What the closure returned, and the position of the change set it made; nil when it has
    ///   changed nothing.
    /// - Throws: What the closure throws, and ``StoreFailure``. Nothing of the transaction stays then.
    package func write<Result>(
        _ body: (LocalTransaction) throws -> Result
    ) throws -> (result: Result, position: UInt64?) {
        if firstLoadProgress?.isFresh == true { throw StoreFailure.firstLoad }
        return try withWriter { writer in
            try writer.transaction {
                let transaction = LocalTransaction(writer)
                let result = try body(transaction)
                return (result, try transaction.finish())
            }
        }
    }

    /// Reads one consistent state. Never waits for a writer.
    package func read<Result>(_ body: (ReplicaReader) throws -> Result) throws -> Result {
        do {
            return try readState { try body(ReplicaReader($0, schema: schema)) }
        } catch {
            throw StoreFailure.wrapping(error)
        }
    }

    /// Reads one consistent state. The pool's own way compiles its two statements again for each read, which takes
    /// longer than most reads.
    func readState<Result>(_ body: (Database) throws -> Result) throws -> Result {
        try pool.unsafeRead { db in
            try db.cachedStatement(sql: "BEGIN").execute()
            do {
                let result = try body(db)
                try db.cachedStatement(sql: "COMMIT").execute()
                return result
            } catch {
                if db.isInsideTransaction { try? db.cachedStatement(sql: "ROLLBACK").execute() }
                throw error
            }
        }
    }

    /// Seals what other programs have written; observers are told if there was anything.
    package func sealForeignWrites() throws {
        try withWriter { try $0.sealIfNeeded() }
    }

    /// This node's wall clock, in milliseconds since 1970-01-01 UTC.
    func wallClock() -> UInt64 { clock.read().wallMilliseconds }

    /// Who this node is.
    package var node: LocalNode { currentNode.withLock { $0 } }

    /// Calls `observer` after every commit that made the log longer, until the returned function is called.
    /// It is called on the writer's queue, must be quick, and must not use the replica.
    package func observeCommits(_ observer: @escaping @Sendable () -> Void) -> @Sendable () -> Void {
        let number = observers.withLock { $0.add(observer) }
        return { [weak self] in self?.observers.withLock { $0.remove(number) } }
    }

    /// Copies the write-ahead log into the file and closes it. Nothing may be called afterwards.
    package func close() throws {
        // What was erased leaves the file now; if it cannot, the next one who opens it sees to that.
        if currentNode.withLock({ $0.isJoined }) { _ = try? scrubErased() }
        snapshotReadAhead.end()
        // Its statements must be gone before the connection can close.
        pool.writeWithoutTransaction { db in
            openWriter = nil
            // A reader that closes last would leave the write-ahead log behind.
            _ = Self.checkpoint(db, SQLITE_CHECKPOINT_TRUNCATE)
        }
        try pool.close()
        lock.release()
    }

    /// Copies the write-ahead log into the file.
    ///
    /// - Parameter mode: One of SQLite's `SQLITE_CHECKPOINT_...`.
    /// - Returns: SQLite's result code.
    static func checkpoint(_ db: Database, _ mode: Int32) -> Int32 {
        Failpoint.beforeCheckpoint.pass()
        defer { Failpoint.afterCheckpoint.pass() }
        return sqlite3_wal_checkpoint_v2(db.sqliteConnection, nil, mode, nil, nil)
    }

    private var writer: ReplicaWriter {
        get throws {
            guard let openWriter else { throw StoreFailure.database("The replica is closed.") }
            try openWriter.comeBackToFile()
            return openWriter
        }
    }

    /// Whether somebody waits for the writer now.
    var isWriterAwaited: Bool { waiting.load(ordering: .relaxed) > 0 }

    /// Looks at what the writer knows, in its turn.
    func withWriterState<Result>(_ body: (ReplicaWriter) throws -> Result) throws -> Result {
        try pool.writeWithoutTransaction { _ in try body(try writer) }
    }

    /// Runs on the one writer; then checkpoints if it is time, and tells observers if the log has grown.
    func withWriter<Result>(_ body: (ReplicaWriter) throws -> Result) throws -> Result {
        waiting.add(1, ordering: .relaxed)
        return try pool.writeWithoutTransaction { db in
            waiting.subtract(1, ordering: .relaxed)
            let writer = try self.writer
            let end = writer.end
            defer {
                if walPages.count >= Self.walPagesMax {
                    // The only checkpointer is this connection, in its own turn (SQLite 3.40 can lose pages
                    // when two do it). A reader may keep part of it for the next time.
                    _ = Self.checkpoint(db, SQLITE_CHECKPOINT_PASSIVE)
                    walPages.count = 0
                }
                currentNode.withLock { $0 = writer.node }
                if writer.end != end {
                    for observer in observers.withLock({ $0.all }) { observer() }
                }
            }
            return try body(writer)
        }
    }
}

/// Who wants to know of commits.
struct Observers {
    private var last = 0
    private var byNumber: [Int: @Sendable () -> Void] = [:]

    var all: [@Sendable () -> Void] { byNumber.sorted { $0.key < $1.key }.map(\.value) }

    mutating func add(_ observer: @escaping @Sendable () -> Void) -> Int {
        last += 1
        byNumber[last] = observer
        return last
    }

    mutating func remove(_ number: Int) { byNumber[number] = nil }
}

/// How long the write-ahead log is, told by SQLite after each commit.
///
/// Watching replaces SQLite's own checkpoint after every thousand pages.
///
/// `@unchecked Sendable`: touched on the writer's queue only.
private final class WalPages: @unchecked Sendable {
    var count: Int32 = 0

    func watch(_ db: Database) {
        sqlite3_wal_hook(
            db.sqliteConnection,
            { context, _, _, pages in
                if let context { Unmanaged<WalPages>.fromOpaque(context).takeUnretainedValue().count = pages }
                return SQLITE_OK
            },
            Unmanaged.passUnretained(self).toOpaque()
        )
    }
}
