import CRM
import Causality
import Foundation
import GRDB
import GRDBSQLite
import SyncProtocol

/// The one writer of a replica: every change of the file goes through it, one transaction at a time.
///
/// It keeps in memory what each transaction needs (clock, vector, end of the log, digests), and is right as
/// long as the node's lock is held, because nobody else writes those. Lives on the writer's queue.
final class ReplicaWriter {
    let db: Database
    let schema: Schema
    let nodeClock: NodeClock
    let fence: Fence
    private(set) var node: LocalNode { didSet { (role, origin, isJoined) = (node.role, node.origin, node.isJoined) } }
    // Asked for each row, where a whole node is much to look at.
    private(set) var role: LocalNode.Role
    private(set) var origin: Origin
    private(set) var isJoined: Bool
    private(set) var clock = HybridLogicalClock()
    /// The end of this node's own log.
    private(set) var end = LogPrefix.empty
    /// The greatest time in this node's own log.
    private(set) var timeMax = HybridTimestamp.zero
    /// How much of the hub's log this node has taken.
    private(set) var cursor = LogPrefix.empty
    private(set) var vector: [Origin: (seq: UInt64, chain: ChangeChain)] = [:]
    /// Origins whose entries of the vector are to be written with this transaction. This node's own is read from the
    /// end of its change sets in the log, so that a local write touches one page less.
    private var changedEntries: Set<Origin> = []
    /// The state as the file has it.
    private var saved = (clock: HybridTimestamp.zero, cursor: LogPrefix.empty)
    /// At a branch: what the machine's start was by head office's clock.
    var hubTime: HubTime?
    /// At a branch: whether what is written now may leave home at once, so that its time stays.
    var isInSession = false
    /// How the present transaction came by its time.
    private(set) var stamping: Stamping?
    /// At head office: what branches' clocks say of this one.
    let clockWitnesses = ClockWitnesses()
    lazy var timeLookup = Result { try TimeLookup(db) }
    /// Rows in all change sets of the log.
    private(set) var logRows: UInt64 = 0
    /// At each multiple of this position it is written down how many rows the log has so far.
    static let logMarkInterval: UInt64 = 256

    /// A large change set that the search index is following.
    var searchedContent: (position: UInt64, content: ContentStorage, reader: ChangeSetReader)?
    /// Judges conflicts; nil at a branch.
    let judge: ConflictJudge?
    /// What branches may write; nil where nothing is forbidden.
    var rights: WriteRights?
    /// What the present transaction has taken outside of that.
    var voided: [VoidedWrite] = []

    /// What the hub's log was before it was lost, as far as the cursor does not cover it.
    var keptNumberings: [KeptNumbering] = []
    /// The changes that could not be applied, by row.
    var parked = ParkedRows()
    /// Whether each row of a change set is taken with a way back to before it.
    private(set) var isCareful = false

    private var merges: [Int: RowMerge] = [:]
    /// What erasing has still to do in the present transaction.
    var erasing = Erasing()
    let digests: DigestBuckets
    /// Buckets that are known not to add up; nil until somebody asks.
    var damagedBuckets: Set<Int>?
    private(set) lazy var loggedValues = LoggedValues(db)
    /// A look at a table that is under way.
    var selfCheck: SelfCheck? {
        get { digests.selfCheck }
        set { digests.selfCheck = newValue }
    }
    /// Whether a change set says already that the file was opened; see ``ChangeSetExtensions/opening``.
    private var hasMarkedOpening = false
    private let compressor = ZstdCompressor()
    let spareRows = SpareRows()
    private let insertLog: RawStatement
    private let saveEntry: RawStatement
    private let saveState: RawStatement
    private let hasPending: RawStatement

    init(_ db: Database, schema: Schema, node: LocalNode, fence: Fence, nodeClock: NodeClock) throws {
        self.db = db
        self.fence = fence
        self.schema = schema
        self.node = node
        (role, origin, isJoined) = (node.role, node.origin, node.isJoined)
        self.nodeClock = nodeClock
        digests = try DigestBuckets(db)
        judge = node.role == .headOffice ? try ConflictJudge(db) : nil
        insertLog = try RawStatement(
            """
            INSERT INTO log(position, origin, seq, time, rows, chain, digest, hubPosition, body, timeMax, hubDigest)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """,
            in: db
        )
        saveEntry = try RawStatement("INSERT OR REPLACE INTO versionVector VALUES (?, ?, ?)", in: db)
        saveState = try RawStatement("INSERT OR REPLACE INTO localState VALUES (1, ?, ?, ?)", in: db)
        hasPending = try RawStatement("SELECT EXISTS (SELECT 1 FROM pending)", in: db)
        try load()
    }

    /// Whether a failed transaction has left more in memory than there is in the file.
    private var isAheadOfFile = false

    /// Reads the file again when that could not be done after a failed transaction.
    ///
    /// - Throws: What keeps the file from being read. Nobody may go on with what this remembers then: it would give a
    ///   change set a number after one that was never written.
    func comeBackToFile() throws {
        guard isAheadOfFile else { return }
        try load()
        isAheadOfFile = false
    }

    /// Reads what the file says, after opening and after a failed transaction.
    private func load() throws {
        digests.forget()
        hasMarkedOpening = false
        try judge?.load()
        rights = try WriteRights.read(db, schema: schema)
        voided = []
        erasing = Erasing()
        damagedBuckets = nil
        loggedValues = LoggedValues(db)
        if let stored = try LocalNode.read(db) { node = stored }
        let state = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT clock, cursorPosition, cursorDigest FROM localState")
        )
        guard let state else { throw StoreFailure.database("The replica has lost its state; restore a backup.") }
        cursor = LogPrefix(
            position: UInt64(bitPattern: state[1] as Int64),
            digest: UInt64(bitPattern: state[2] as Int64)
        )
        saved = (HybridTimestamp(packed: UInt64(bitPattern: state[0] as Int64)) ?? .zero, cursor)
        try readEnd()
        try loadHubTime()
        try countLogRows()
        if let seen = try LocalFact.read(.timeSeen, db), let time = HybridTimestamp(packed: UInt64(clamping: seen)) {
            timeMax = max(timeMax, time)
        }
        clock = HybridLogicalClock(latest: isPlanted(.hybridClockUnsaved) ? .zero : max(saved.clock, timeMax))
        vector = [:]
        changedEntries = []
        for row in try Row.fetchAll(db.cachedStatement(sql: "SELECT origin, seq, chain FROM versionVector")) {
            guard let origin = Origin(rawValue: row[0]), let chain = ChangeChain(bytes: [UInt8](row[2] as Data))
            else { throw StoreFailure.database("The version vector is damaged; restore a backup.") }
            vector[origin] = (UInt64(bitPattern: row[1] as Int64), chain)
        }
        if let last = try lastOwn(), last.seq > vector[node.origin]?.seq ?? 0 { vector[node.origin] = last }
        keptNumberings = try KeptNumbering.uncovered(db)
        parked = try ParkedRows.read(db)
    }

    private func readEnd() throws {
        (end, timeMax) = (.empty, .zero)
        let last = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT position, digest, timeMax FROM log ORDER BY position DESC LIMIT 1")
        )
        if let last {
            end = LogPrefix(stored: last[0], last[1])
            timeMax = HybridTimestamp(packed: UInt64(bitPattern: last[2] as Int64)) ?? .zero
        }
    }

    /// The last change set of this node's own in its log.
    private func lastOwn() throws -> (seq: UInt64, chain: ChangeChain)? {
        let row = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT seq, chain FROM log WHERE origin = ? ORDER BY seq DESC LIMIT 1"),
            arguments: [node.origin.rawValue]
        )
        guard let row else { return nil }
        guard let chain = ChangeChain(bytes: [UInt8](row[1] as Data)) else {
            throw StoreFailure.database("The log is damaged at its end; restore a backup.")
        }
        return (UInt64(bitPattern: row[0] as Int64), chain)
    }

    // MARK: Transactions

    /// Runs one transaction. Writes of other programs are sealed first, before anything else happens.
    ///
    /// Data, log, vector, cursor, clock and digests are committed together, durably, or not at all.
    ///
    /// A row that cannot be applied is seldom, so nobody pays for a way back to before each row: when one turns
    /// up, all is rolled back and `body` runs a second time, carefully.
    ///
    /// - Parameter sealing: False where `body` decides first under which number those writes are sealed, or whether.
    func transaction<Result>(sealing: Bool = true, _ body: () throws -> Result) throws -> Result {
        do {
            return try attempt(sealing, body)
        } catch is RowTrouble {
            isCareful = true
            defer { isCareful = false }
            return try attempt(sealing, body)
        }
    }

    private func attempt<Result>(_ sealing: Bool, _ body: () throws -> Result) throws -> Result {
        do {
            try comeBackToFile()
            try db.cachedStatement(sql: "BEGIN IMMEDIATE").execute()
            do {
                // Until now other programs could write.
                for merge in merges.values { merge.graveyard.forgetGreatest() }
                erasing.logEnd = end.position
                if sealing { try sealForeignWrites() }
                let result = try body()
                try revertVoided()
                try completeErasures()
                // After that, for nothing is listed of a row that is erased.
                try listConflicts()
                try digests.flush()
                if fence.mustCount { try note(.openings, fence.count()) }
                try saveVector()
                if !isPlanted(.cursorInSecondTransaction) { try saveClockAndCursor() }
                Failpoint.beforeCommit.pass()
                do {
                    try db.cachedStatement(sql: "COMMIT").execute()
                } catch {
                    guard isPlanted(.failedCommitIgnored) else { throw error }
                    if db.isInsideTransaction { try? db.cachedStatement(sql: "ROLLBACK").execute() }
                }
                if isPlanted(.cursorInSecondTransaction) { try saveClockAndCursor() }
                Failpoint.afterCommit.pass()
                try? fence.wasCommitted()
                return result
            } catch {
                // SQLite has rolled back by itself after some errors.
                if db.isInsideTransaction { try? db.cachedStatement(sql: "ROLLBACK").execute() }
                merges = [:]
                isAheadOfFile = !isPlanted(.memoryKeptAfterRollback)
                // A disk that fails may not be read either: whoever comes next tries again.
                try? comeBackToFile()
                throw error
            }
        } catch {
            throw StoreFailure.wrapping(error, path: path)
        }
    }

    /// Writes the clock and the cursor, unless the file says them already: with its state of before, and the times of
    /// its log.
    private func saveClockAndCursor() throws {
        guard cursor != saved.cursor || clock.latest != max(saved.clock, timeMax) else { return }
        saveState.bind(1, clock.latest.packed)
        saveState.bind(2, cursor.position)
        saveState.bind(3, cursor.digest)
        try saveState.run()
        saved = (clock.latest, cursor)
    }

    /// Writes the entries of the vector that have changed: once, however many change sets came from an origin.
    private func saveVector() throws {
        for origin in changedEntries {
            guard let last = vector[origin] else { continue }
            saveEntry.bind(1, Int64(origin.rawValue))
            saveEntry.bind(2, isPlanted(.vectorOffByOne) ? last.seq - 1 : last.seq)
            saveEntry.bind(3, blob: last.chain.bytes)
            try saveEntry.run()
        }
        changedEntries.removeAll(keepingCapacity: true)
    }

    /// The replica's file.
    private var path: String? {
        sqlite3_db_filename(db.sqliteConnection, "main").map { String(cString: $0) }
    }

    /// Where large change sets are put to be looked at.
    var scratch: String { ((path ?? "/tmp/") as NSString).deletingLastPathComponent + "/spool" }

    /// Seals what other programs wrote, in a transaction of its own if there is anything.
    func sealIfNeeded() throws {
        if try isForeignWritePending() { try transaction {} }
    }

    func merge(of table: TableDescription) throws -> RowMerge {
        if let known = merges[table.number] { return known }
        let hasher = RowHasher(organisation: node.organisation ?? [], table: table.number)
        let made = try RowMerge(table, hasher: hasher, digests: digests, in: db)
        merges[table.number] = made
        return made
    }

    /// The tables that were written to since the node was opened.
    var openMerges: [RowMerge] { merges.sorted { $0.key < $1.key }.map(\.value) }

    func addToDigest(_ change: DigestSum, table: Int, id: Int64) throws {
        try digests.add(change, table: table, id: id)
    }

    /// From here on what is added to the digests can be taken back.
    func beginUndoOfDigests() { digests.beginUndo() }

    func endUndoOfDigests(undoing: Bool) throws { try digests.endUndo(undoing: undoing) }

    func updateNode(_ node: LocalNode) throws {
        try node.save(db)
        if node.origin != origin, vector[origin] != nil { changedEntries.insert(origin) }
        self.node = node
        // The organisation seeds the digests.
        merges = [:]
    }

    /// What all live rows of all tables add up to.
    func databaseRoot() throws -> DigestSum {
        try digests.tableRoots(db).values.reduce(into: .zero) { $0 += $1 }
    }

    /// What the live rows of each table add up to, by table number.
    func tableRoots() throws -> [Int: DigestSum] { try digests.tableRoots(db) }

    func moveCursor(to prefix: LogPrefix) { cursor = prefix }

    /// Issues the time of a new change set of this node, at most `limit` unless what it has seen is later.
    func tick(notAfter limit: UInt64 = .max) throws -> HybridTimestamp {
        let reading = nodeClock.read()
        let now = milliseconds(at: reading)
        stamping = Stamping(
            reading,
            after: clock.latest,
            earlierBy: now - min(now, limit),
            isMeasured: hubTime?.boot == reading.boot
        )
        return try clock.tick(wallMilliseconds: min(now, limit))
    }

    /// Takes back the last time, which nothing has been stamped with.
    func untick() {
        if let stamping { clock = HybridLogicalClock(latest: stamping.floor) }
        stamping = nil
    }

    /// Sets the clock and the greatest time of the log after the times at its end were corrected.
    func moveTimes(to last: HybridTimestamp) {
        clock = HybridLogicalClock(latest: last)
        timeMax = last
    }

    func witness(_ time: HybridTimestamp) { clock.witness(time) }

    /// Notes that rows with times up to this one are taken in beside the log: whatever is written from now on is
    /// later, and what was written before has been compared with them, so its times are never corrected.
    func witnessBesideLog(_ time: HybridTimestamp) throws {
        clock.witness(time)
        try settleTimes()
        guard time > timeMax else { return }
        timeMax = time
        try note(.timeSeen, Int64(bitPattern: time.packed))
    }

    /// Notes that everything of an origin up to a change set is in the tables, whether it is in the log or not.
    func adopt(_ id: ChangeSetID, chain: ChangeChain) {
        guard id.seq > vector[id.origin]?.seq ?? 0 else { return }
        vector[id.origin] = (id.seq, chain)
        changedEntries.insert(id.origin)
    }

    // MARK: Log

    /// Appends a change set of this node's own, made from what a transaction wrote.
    ///
    /// - Parameter position: If its author had not seen all that this node has: only what stands in the hub's log
    ///   before this.
    func appendOwn(_ draft: ChangeDraft, time: HybridTimestamp, before position: UInt64? = nil) throws {
        var extensions = ChangeSetExtensions()
        if !hasMarkedOpening { extensions.opening = nodeClock.chance() >> 16 }
        try appendOwn(
            draft.tables.filter { $0.rowCount > 0 },
            rows: draft.rowCount,
            schemaVersion: schema.version,
            time: time,
            context: position.map { try context(before: $0) } ?? context(),
            extensions: extensions
        )
        hasMarkedOpening = true
    }

    /// Appends a change set of this node's own.
    func appendOwn(
        _ tables: [WrittenRows],
        rows: Int,
        schemaVersion: Int,
        time: HybridTimestamp,
        context: CausalContext,
        extensions: ChangeSetExtensions = ChangeSetExtensions()
    ) throws {
        let last = vector[node.origin]
        let chain = last?.chain ?? .empty
        let id = ChangeSetID(origin: node.origin, seq: (last?.seq ?? 0) + 1)
        let header = ChangeSetHeader(
            id: id,
            schemaVersion: schemaVersion,
            context: context,
            previousChain: chain.prefix,
            extensions: extensions
        )
        let content: [UInt8]
        do {
            content = try header.content(of: tables)
        } catch {
            throw StoreFailure.changeSet(error)
        }
        let next = content.withUnsafeBytes { chain.appending(content: $0) }
        try append(id, time: time, rows: rows, chain: next, hubPosition: nil, body: compressed(content))
        try noteStamping(of: id)
        try judge?.noteOwn(
            tables,
            id,
            stamp: Stamp(time: time, origin: id.origin),
            position: end.position
        )
    }

    /// Reads the end of the log again, after an origin's last change sets were taken out of it.
    func logWasCut(_ origin: Origin, at last: (seq: UInt64, chain: ChangeChain)?) throws {
        try readEnd()
        vector[origin] = last
        try db.cachedStatement(sql: "DELETE FROM versionVector WHERE origin = ?").execute(arguments: [origin.rawValue])
        if last != nil { changedEntries.insert(origin) } else { changedEntries.remove(origin) }
    }

    /// Sets the clock back, when nothing in this replica bears a later time any more.
    func setClock(back time: HybridTimestamp) { clock = HybridLogicalClock(latest: time) }

    /// Appends a change set that was verified and merged.
    func append(
        _ id: ChangeSetID,
        time: HybridTimestamp,
        rows: Int,
        chain: ChangeChain,
        hubPosition: UInt64?,
        body: [UInt8]
    ) throws {
        try append(id, time: time, rows: rows, chain: chain, hubPosition: hubPosition, body: .bytes(body))
    }

    /// Appends a change set that was verified and merged.
    func append(
        _ id: ChangeSetID,
        time: HybridTimestamp,
        rows: Int,
        chain: ChangeChain,
        hubPosition: UInt64?,
        body: StoredBody
    ) throws {
        let prefix = end.appending(id, chain: chain)
        insertLog.bind(1, prefix.position)
        insertLog.bind(2, Int64(id.origin.rawValue))
        insertLog.bind(3, id.seq)
        insertLog.bind(4, time.packed)
        insertLog.bind(5, Int64(rows))
        insertLog.bind(6, blob: chain.bytes)
        insertLog.bind(7, prefix.digest)
        if let hubPosition {
            insertLog.bind(8, hubPosition)
            insertLog.bind(11, cursor.appending(id, chain: chain).digest)
        }
        insertLog.bind(10, max(timeMax, time).packed)
        switch body {
        case .bytes(let bytes):
            insertLog.bind(9, blob: bytes)
            try insertLog.run()
        case .file(let file):
            insertLog.bind(9, zeroBytes: file.bytes.count)
            try insertLog.run()
            try LogBody(at: Int64(bitPattern: prefix.position), isWritable: true, db).write(file.bytes)
        }
        if id.origin != origin {
            adopt(id, chain: chain)
        } else if id.seq > vector[origin]?.seq ?? 0 {
            vector[origin] = (id.seq, chain)
        }
        end = prefix
        logRows += UInt64(clamping: rows)
        if prefix.position % Self.logMarkInterval == 0 {
            try db.cachedStatement(sql: "INSERT INTO logMark VALUES (?, ?)")
                .execute(arguments: [Int64(clamping: prefix.position), Int64(clamping: logRows)])
        }
        timeMax = max(timeMax, time)
        clock.witness(time)
    }

    /// Counts the rows of the log: from the last mark on, so that it does not take longer as the log grows.
    private func countLogRows() throws {
        let rows = try Int64.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT coalesce((SELECT rows FROM logMark ORDER BY position DESC LIMIT 1), 0)
                        + coalesce((SELECT sum(rows) FROM log
                            WHERE position > coalesce((SELECT max(position) FROM logMark), 0)), 0)
                    """
            )
        )
        logRows = UInt64(clamping: rows ?? 0)
    }

    /// Change sets were taken out of the log: what was counted from there on is counted again.
    func recountLog(from position: Int64) throws {
        try db.cachedStatement(sql: "DELETE FROM logMark WHERE position >= ?").execute(arguments: [position])
        try countLogRows()
    }

    /// The stored form of content: one zstd frame, or the content itself when that is not larger.
    /// Their first bytes differ.
    func compressed(_ content: [UInt8]) -> [UInt8] {
        let frame = compressor.compress(content)
        return frame.count < content.count ? frame : content
    }

    /// What this node has seen: its former lives, its hub's log up to the cursor, and what it had taken of logs
    /// that the hub has lost; or, at head office, its own.
    private func context() throws -> CausalContext {
        let prefix = node.role == .headOffice ? end : cursor
        return CausalContext(
            lives: try formerLives(),
            hubs: (prefix == .empty ? [] : [prefix]) + keptNumberings.map(\.end)
        )
    }

    /// What this node had seen before a position of its hub's log.
    private func context(before position: UInt64) throws -> CausalContext {
        let prefix = position > 1 ? try hubPrefixes(at: [position - 1]).last : nil
        return CausalContext(lives: try formerLives(), hubs: prefix.map { $0 == .empty ? [] : [$0] } ?? [])
    }

    /// Where a write stands in the hub's log; zero when that is not known.
    func hubPosition(of stamp: Stamp) throws -> UInt64 {
        let position = try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT hubPosition FROM log WHERE origin = ? AND time = ?"),
            arguments: [Int64(stamp.origin.rawValue), Int64(bitPattern: stamp.time.packed)]
        )
        return position.map { UInt64(clamping: $0) } ?? 0
    }

    // MARK: Other programs

    func isForeignWritePending() throws -> Bool {
        defer { hasPending.reset() }
        return try hasPending.step() && hasPending.integer(0) != 0
    }
}
