import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// A child's side of a snapshot. How far it has come is written with the rows, in one transaction, so that any cut
// on either side costs at most one piece. The log is never touched: what this node and others have written stays.

/// How far a snapshot has come.
package struct FirstLoadProgress: Hashable, Sendable {
    /// Whether the replica was empty: it cannot be worked with before the end.
    package var isFresh: Bool
    package var rows: Int
    /// About how many there will be.
    package var total: Int
}

/// The snapshot that is being loaded, as the file keeps it.
struct SnapshotLoad {
    let head: SnapshotHead
    /// Whether the replica was empty when this began: it cannot be worked with before the end.
    let isFresh: Bool
    /// Whether no row can be here yet that is still to come, so that none is looked for.
    let isPlain: Bool
    /// What comes next.
    var table: Int
    var afterID: Int64
    var rows: Int

    static func read(_ db: Database) throws -> SnapshotLoad? {
        guard let row = try Row.fetchOne(db, sql: "SELECT * FROM snapshotLoad") else { return nil }
        do {
            let head = try (row["head"] as Data).withUnsafeBytes { try SnapshotHead($0) }
            return SnapshotLoad(
                head: head,
                isFresh: row["isFresh"],
                isPlain: row["isPlain"],
                table: row["tableNumber"],
                afterID: row["afterID"],
                rows: row["rows"]
            )
        } catch let error as MalformedBytes {
            throw StoreFailure.database("The note of the snapshot that is being loaded is damaged. \(error)")
        }
    }

    func save(_ db: Database) throws {
        try db.cachedStatement(sql: "INSERT OR REPLACE INTO snapshotLoad VALUES (1, ?, ?, ?, ?, ?, ?)").execute(
            arguments: [Data(head.encoded()), isFresh, isPlain, table, afterID, rows]
        )
    }

    var place: SnapshotPlace { SnapshotPlace(start: head.start, table: table, afterID: afterID) }

    var progress: FirstLoadProgress {
        FirstLoadProgress(
            isFresh: isFresh,
            rows: rows,
            total: Int(clamping: head.tables.reduce(0) { $0 &+ $1.rows })
        )
    }
}

extension Replica {
    /// The snapshot that is being loaded, as far as this process knows; nil when there is none.
    package var firstLoadProgress: FirstLoadProgress? { firstLoad.withLock { $0 } }

    // MARK: Asking the hub

    /// Says in a hello what this node is loading.
    func noteLoading(in hello: inout Hello, _ writer: ReplicaWriter) throws {
        hello.extras.loadingSnapshot = try SnapshotLoad.read(writer.db)?.head.start
        if let known = try writer.fact(.snapshotSchema) {
            // Columns of the hub's tables were left out, because this program did not have them then.
            hello.extras.wantsSnapshot = schema.version >= Int(known)
        }
    }

    /// Loads a snapshot when the hub wants it, or goes on with one.
    func loadSnapshot(on occasion: ConsultationOccasion) throws -> SyncStep {
        switch occasion {
        case .during(.handedIn):
            return try withWriter { writer in
                if let load = try SnapshotLoad.read(writer.db) { return .ask(Self.question(load.place)) }
                return .ask(SyncQuestion(kind: QuestionKind.beginSnapshot.rawValue, payload: []))
            }
        case .welcomed, .during(.settled):
            return .goOn
        }
    }

    private static func question(_ place: SnapshotPlace) -> SyncQuestion {
        SyncQuestion(kind: QuestionKind.snapshotPiece.rawValue, payload: place.encoded())
    }

    /// Takes what the hub says when a snapshot begins.
    func takeSnapshotHead(_ answer: SyncAnswer) throws -> SyncStep {
        let head = try Self.decoding { try answer.payload.withUnsafeBytes { try SnapshotHead($0) } }
        let load = try beginLoading(head)
        return load.map { .ask(Self.question($0.place)) } ?? .reconnect
    }

    /// Takes one piece, and asks for the next.
    func takeSnapshotPiece(_ answer: SyncAnswer, to question: SyncQuestion) throws -> SyncStep {
        let place = try Self.decoding { try question.payload.withUnsafeBytes { try SnapshotPlace($0) } }
        let piece = try Self.decoding { try answer.payload.withUnsafeBytes { try SnapshotPiece($0) } }
        guard case .rows(let lastID, let isTableEnd, let states) = piece else {
            return .ask(SyncQuestion(kind: QuestionKind.beginSnapshot.rawValue, payload: []))
        }
        let load = try takePiece(at: place, lastID: lastID, isTableEnd: isTableEnd, states)
        return load.map { .ask(Self.question($0.place)) } ?? .reconnect
    }

    private static func decoding<Result>(_ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch let error as MalformedBytes {
            throw Refusal(.invalidChange, "A piece of a snapshot cannot be read. \(error)")
        }
    }

    // MARK: Loading

    /// Notes a snapshot that is to be loaded from its beginning, unless this node is in the middle of it.
    ///
    /// - Returns: How far it is; nil when nothing of it is left to load.
    @discardableResult
    func beginLoading(_ head: SnapshotHead) throws -> SnapshotLoad? {
        try withWriter { writer in
            let load = try writer.transaction { () -> SnapshotLoad? in
                let before = try SnapshotLoad.read(writer.db)
                if let before, before.head.start == head.start { return before }
                guard head.start.position >= writer.cursor.position else {
                    throw Refusal(
                        .invalidChange,
                        "The snapshot begins at position \(head.start.position) of head office's log; this node has "
                            + "taken everything up to \(writer.cursor.position) already."
                    )
                }
                try checkHistory(head, writer)
                let isEmpty = try before == nil && writer.isEmpty()
                if isEmpty { try writer.setIndexesAside() }
                let isFresh = before.map { $0.isFresh } ?? isEmpty
                try writer.note(.snapshotSchema, nil)
                try noteSchema(head.schemaVersion, of: head, writer)
                guard let first = nextTable(of: head, after: 0) else {
                    return try self.finish(head, isFresh: isFresh, writer)
                }
                let load = SnapshotLoad(
                    head: head,
                    isFresh: isFresh,
                    isPlain: isEmpty,
                    table: first.number,
                    afterID: 0,
                    rows: 0
                )
                try load.save(writer.db)
                try writer.witnessBesideLog(head.timeMax)
                return load
            }
            firstLoad.withLock { $0 = load?.progress }
            return load
        }
    }

    /// Joins one piece into the rows.
    ///
    /// - Returns: How far the snapshot is; nil when it has ended.
    func takePiece(
        at place: SnapshotPlace,
        lastID: Int64,
        isTableEnd: Bool,
        _ states: [UInt8]
    ) throws -> SnapshotLoad? {
        let reader: RowStatesReader
        do {
            reader = try states.withUnsafeBytes { try RowStatesReader($0, decompressor: ZstdDecompressor()) }
        } catch let failure as ChangeSetFailure {
            throw Refusal(.invalidChange, "A piece of a snapshot is damaged. \(failure)")
        }
        guard reader.blocks.allSatisfy({ $0.number == place.table }), isTableEnd || lastID > place.afterID else {
            throw Refusal(.invalidChange, "A piece of a snapshot is not the one that was asked for.")
        }
        return try withWriter { writer in
            let load = try writer.transaction { () -> SnapshotLoad? in
                guard var load = try SnapshotLoad.read(writer.db) else { return nil }
                guard load.place == place else { return load }
                try writer.witnessBesideLog(reader.newestTime)
                _ = try writer.join(reader, isPlain: load.isPlain)
                try noteSchema(reader.schemaVersion, of: load.head, writer)
                load.rows += reader.rowCount
                load.afterID = lastID
                if isTableEnd {
                    guard let next = nextTable(of: load.head, after: place.table) else {
                        return try self.finish(load.head, isFresh: load.isFresh, writer)
                    }
                    load.table = next.number
                    load.afterID = 0
                }
                try load.save(writer.db)
                return load
            }
            firstLoad.withLock { $0 = load?.progress }
            return load
        }
    }

    /// The table that comes next. Tables of a newer program are loaded after the upgrade.
    private func nextTable(of head: SnapshotHead, after number: Int) -> SnapshotHead.Table? {
        head.tables.first { $0.number > number && schema.table(number: $0.number) != nil }
    }

    /// Remembers the schema of what was left out: columns that this program does not know, tables that the snapshot's head
    /// does not name. Whoever knows them, after an upgrade of either, asks for the snapshot again.
    private func noteSchema(_ version: Int, of head: SnapshotHead, _ writer: ReplicaWriter) throws {
        guard version > min(schema.version, head.schemaVersion) else { return }
        try writer.note(.snapshotSchema, max(Int64(version), writer.fact(.snapshotSchema) ?? 0))
    }

    /// The last transaction of a snapshot: from now on this node knows everything up to its start.
    private func finish(_ head: SnapshotHead, isFresh: Bool, _ writer: ReplicaWriter) throws -> SnapshotLoad? {
        try checkHistory(head, writer)
        if isFresh { try writer.putIndexesBack() }
        if isPlanted(.snapshotReplacesLog) { try writer.db.cachedStatement(sql: "DELETE FROM log").execute() }
        for origin in head.progress {
            writer.adopt(origin.id, chain: origin.chain)
            guard origin.id.origin != writer.node.origin else { continue }
            // The vector may know more than this, of a log that was lost; what follows the snapshot comes again.
            try writer.db.cachedStatement(sql: "INSERT OR REPLACE INTO snapshotHead VALUES (?, ?, ?)").execute(
                arguments: [
                    origin.id.origin.rawValue, Int64(clamping: origin.id.seq), Data(origin.chain.bytes),
                ]
            )
        }
        writer.moveCursor(to: head.start)
        try writer.note(.snapshotPosition, Int64(clamping: head.start.position))
        try writer.note(.snapshotDigest, Int64(bitPattern: head.start.digest))
        let own = head.progress.first { $0.id.origin == writer.node.origin }?.id.seq
        try writer.note(.snapshotOwnSeq, own.map { Int64(clamping: $0) })
        try writer.note(.searchedCustomer, 0)
        try writer.note(.matchedPosition, nil)
        try writer.db.cachedStatement(sql: "DELETE FROM snapshotLoad").execute()
        return nil
    }

    /// Checks that hub and node mean the same histories, where both can tell.
    private func checkHistory(_ head: SnapshotHead, _ writer: ReplicaWriter) throws {
        for origin in head.progress {
            guard let own = writer.vector[origin.id.origin], own.seq >= origin.id.seq,
                let chain = try writer.chain(of: origin.id), chain != origin.chain
            else { continue }
            throw Refusal(
                .forked,
                "Head office's snapshot holds another change set \(origin.id) than this node. Nothing was taken over; "
                    + "an administrator must decide (`peyvand log list` shows both)."
            )
        }
    }
}

extension RowStatesReader {
    /// The newest stamp's time of all rows.
    fileprivate var newestTime: HybridTimestamp {
        var newest = HybridTimestamp.zero
        for block in blocks {
            var rows = block.makeCursor()
            while rows.advance() {
                let time = rows.clock.newest.time
                // The mark of a row that is gone for good is later than any time.
                if time != .max { newest = max(newest, time) }
            }
        }
        return newest
    }
}

extension ReplicaWriter {
    /// Whether nothing was ever written or taken here.
    fileprivate func isEmpty() throws -> Bool {
        guard end == .empty, cursor == .empty, vector.isEmpty else { return false }
        for table in schema.tables {
            for place in [table.name, table.graveyard, table.before] {
                let hasRows = try Bool.fetchOne(db, sql: "SELECT EXISTS (SELECT 1 FROM \(place))")
                if hasRows == true { return false }
            }
        }
        return true
    }

    /// Takes the indexes of the replicated tables away: made at once at the end, they cost a third.
    fileprivate func setIndexesAside() throws {
        for table in schema.tables {
            let indexes = try Row.fetchAll(
                db.cachedStatement(
                    sql: "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
                ),
                arguments: [table.name]
            )
            for row in indexes {
                let name: String = row[0]
                try db.cachedStatement(sql: "INSERT OR IGNORE INTO snapshotIndex VALUES (?, ?)").execute(arguments: [
                    name, row[1] as String,
                ])
                try db.execute(sql: "DROP INDEX \(name.quotedName)")
            }
        }
    }

    fileprivate func putIndexesBack() throws {
        for row in try Row.fetchAll(db.cachedStatement(sql: "SELECT name, definition FROM snapshotIndex")) {
            let name: String = row[0]
            let isThere = try Bool.fetchOne(
                db.cachedStatement(
                    sql: "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?)"
                ),
                arguments: [name]
            )
            if isThere != true { try db.execute(sql: row[1] as String) }
        }
        try db.cachedStatement(sql: "DELETE FROM snapshotIndex").execute()
    }
}
