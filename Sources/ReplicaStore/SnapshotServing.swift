import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// A hub's side of a snapshot: who gets one, what it begins with, and its pieces. Nothing lies around: each piece is
// read while the child joins the one before, out of the state of that moment.

extension Replica {
    /// For how long a successful verification lets snapshots begin.
    private static let verificationMilliseconds: UInt64 = 3_600_000
    /// With fewer change sets missing than this, nobody counts rows.
    private static let changeSetsMin: UInt64 = 16
    /// What a piece should not exceed on the line, so that it is one frame.
    private static let pieceFrameBytes = 900 << 10

    // MARK: Who gets one

    /// Whether a child takes the log or loads a snapshot first. Costs nothing unless it lacks a lot.
    func snapshotReason(for hello: Hello, _ writer: ReplicaWriter) throws -> SnapshotReason? {
        if hello.extras.loadingSnapshot != nil { return .begun }
        if hello.extras.wantsSnapshot { return .asked }
        if hello.cursor.position < (try writer.trimmedPosition()) { return .trimmed }
        let missing = writer.end.position - min(hello.cursor.position, writer.end.position)
        guard missing >= Self.changeSetsMin else { return nil }
        let rows = try writer.logRows(after: hello.cursor.position)
        guard rows >= policy.withLock({ $0.snapshotRowsMin }) else { return nil }
        guard let start = try writer.snapshotStart(for: hello.node), hello.cursor.position < start.position else {
            return nil
        }
        let snapshotRows = try writer.tableRows() + (try writer.logRows(after: start.position))
        // An empty replica also saves its indexes.
        let isEmpty = hello.cursor == .empty && hello.ownSeq == 0
        return rows > snapshotRows || isEmpty && rows == snapshotRows ? .cheaper : nil
    }

    // MARK: Serving

    /// Begins a snapshot for a child: the log after its start is kept from here on.
    func beginSnapshot(for node: UniqueID?) throws -> SnapshotHead {
        try requireRightTables()
        return try withWriter { writer in
            try writer.transaction {
                guard let start = try writer.snapshotStart(for: node) else {
                    throw Refusal(
                        .retryLater,
                        "Rows are parked at head office whose change sets a snapshot would leave out. Look at "
                            + "`peyvand parked` there, and synchronise again.",
                        retryAfterSeconds: 3600
                    )
                }
                if let node { try writer.noteLoading(from: start.position, by: node) }
                return SnapshotHead(
                    start: start,
                    timeMax: max(writer.timeMax, writer.clock.latest),
                    schemaVersion: schema.version,
                    safePosition: try writer.safePosition(),
                    progress: try writer.progress(at: start.position),
                    tables: try writer.rowsOfTables()
                )
            }
        }
    }

    /// Answers a child's question for a piece.
    func answerSnapshotPiece(_ question: SyncQuestion, from peer: SyncPeer) throws -> SyncAnswer {
        let place: SnapshotPlace
        do {
            place = try question.payload.withUnsafeBytes { bytes throws(MalformedBytes) in try SnapshotPlace(bytes) }
        } catch {
            throw Refusal(.invalidChange, "A question for a piece of a snapshot cannot be read. \(error)")
        }
        let piece = try snapshotPiece(at: place, for: peer.node)
        readAhead(of: piece, at: place)
        return SyncAnswer(payload: piece.encoded())
    }

    /// Begins to read what the child will ask for next.
    private func readAhead(of piece: SnapshotPiece, at place: SnapshotPlace) {
        guard policy.withLock({ $0.readsSnapshotAhead }), case .rows(let lastID, let isTableEnd, _) = piece else {
            return
        }
        guard let table = isTableEnd ? schema.tables.map(\.number).filter({ $0 > place.table }).min() : place.table
        else { return }
        let next = SnapshotPlace(start: place.start, table: table, afterID: isTableEnd ? 0 : lastID)
        snapshotReadAhead.begin(at: next) { try self.readPiece(at: next) }
    }

    /// One piece, if the snapshot can still be continued.
    func snapshotPiece(at place: SnapshotPlace, for node: UniqueID?) throws -> SnapshotPiece {
        let isGood = try withWriter { writer in
            guard try writer.begins(with: place.start),
                place.start.position >= (try writer.trimmedPosition())
            else { return false }
            try writer.sealIfNeeded()
            if let node, try writer.loadingPosition(of: node) != place.start.position {
                try writer.transaction { try writer.noteLoading(from: place.start.position, by: node) }
            }
            return true
        }
        guard isGood else { return .beginAnew }
        return try snapshotReadAhead.take(at: place) ?? readPiece(at: place)
    }

    /// Reads one piece, out of the state of this moment.
    private func readPiece(at place: SnapshotPlace) throws -> SnapshotPiece {
        guard let table = schema.table(number: place.table) else {
            throw Refusal(
                .protocolVersion,
                "Head office does not know table \(place.table). Upgrade head office before its branches."
            )
        }
        var bytesMax = policy.withLock { $0.snapshotPieceBytes }
        let compressor = ZstdCompressor()
        while true {
            let piece = try read { try RowStateSource(table, $0.db).states(after: place.afterID, bytesMax: bytesMax) }
            let states: [UInt8]
            do {
                states = try RowStates.encoded([piece.rows], schemaVersion: schema.version, compressor: compressor)
            } catch {
                throw StoreFailure.changeSet(error)
            }
            if states.count <= Self.pieceFrameBytes || piece.rows.rowCount <= 1 {
                return .rows(lastID: piece.lastID, isTableEnd: piece.isLast, states: states)
            }
            // Values that hardly compress.
            bytesMax = max(1, bytesMax / 3)
        }
    }

    /// Checks that the rows are what the writes have made them: what turned on the disk must not spread.
    private func requireRightTables() throws {
        let now = wallClock()
        let isFresh = lastVerification.withLock { at in
            at.map { now >= $0 && now - $0 < Self.verificationMilliseconds } ?? false
        }
        if isFresh { return }
        let wrong = try verify { _, _ in }.filter { !$0.isRight }
        try withWriter { writer in
            let isNoted = try writer.fact(.tablesWrongAt) != nil
            guard isNoted == wrong.isEmpty else { return }
            try writer.transaction { try writer.note(.tablesWrongAt, wrong.isEmpty ? nil : Int64(clamping: now)) }
        }
        guard wrong.isEmpty else {
            throw Refusal(
                .retryLater,
                "Head office's rows of \(wrong.map(\.name).joined(separator: ", ")) are not what was written, so it "
                    + "gives no snapshot. Run `peyvand verify` there, and repair or restore it.",
                retryAfterSeconds: 3600
            )
        }
        lastVerification.withLock { $0 = now }
    }
}

extension ReplicaWriter {
    /// Where a snapshot begins: after it, everything that is not safe yet comes as change sets, with its history.
    ///
    /// Never below what the child has acknowledged, and never below what was trimmed. Nil while something before
    /// that is not in this node's tables yet: only the log would bring it.
    func snapshotStart(for node: UniqueID?) throws -> LogPrefix? {
        let acknowledged = try node.flatMap { node in
            try Int64.fetchOne(
                db.cachedStatement(sql: "SELECT acknowledgedPosition FROM registeredNode WHERE node = ?"),
                arguments: [Data(node.bytes)]
            )
        }
        let safe = try safePosition()
        let lowest = max(try trimmedPosition(), UInt64(clamping: acknowledged ?? 0))
        var position = safe == 0 ? end.position : min(end.position, max(safe, lowest))
        if let first = try firstUnapplied(), first <= position { position = first - 1 }
        guard position >= lowest, let digest = try digest(at: position) else { return nil }
        return LogPrefix(position: position, digest: digest)
    }

    /// What of each origin is in the log up to a position. Looks only at what is after it.
    func progress(at position: UInt64) throws -> [SnapshotHead.Progress] {
        let firstLater = try firstLogged("position > ?", position)
        return try vector.sorted { $0.key < $1.key }.compactMap { origin, last in
            let seq = firstLater[origin].map { $0 - 1 } ?? last.seq
            guard seq > 0 else { return nil }
            let id = ChangeSetID(origin: origin, seq: seq)
            guard let chain = try chain(of: id) else {
                throw StoreFailure.damagedLog(position: position, reason: "It lacks change set \(id).")
            }
            return SnapshotHead.Progress(id: id, chain: chain)
        }
    }

    /// Of each origin, the first change set in a part of the log.
    ///
    /// - Parameter place: What is true of the part, with one argument: a position.
    func firstLogged(_ place: String, _ position: UInt64) throws -> [Origin: UInt64] {
        var first: [Origin: UInt64] = [:]
        let rows = try Row.fetchCursor(
            db,
            sql: "SELECT origin, min(seq) FROM log WHERE \(place) GROUP BY origin",
            arguments: [Int64(clamping: position)]
        )
        while let row = try rows.next() {
            if let origin = Origin(rawValue: row[0]) { first[origin] = UInt64(clamping: row[1] as Int64) }
        }
        return first
    }

    /// Rows that a snapshot has, by table: the deleted ones are part of it.
    fileprivate func rowsOfTables() throws -> [SnapshotHead.Table] {
        let roots = try tableRoots()
        return try schema.tables.map { table in
            let dead = try Int.fetchOne(db, sql: "SELECT count(*) FROM \(table.graveyard)") ?? 0
            let alive = roots[table.number]?.rows ?? 0
            return SnapshotHead.Table(number: table.number, rows: UInt64(clamping: alive) + UInt64(clamping: dead))
        }
    }

    /// Live rows of all tables; known without counting.
    fileprivate func tableRows() throws -> UInt64 {
        try tableRoots().values.reduce(0) { $0 + UInt64(clamping: $1.rows) }
    }

    /// Rows of the log after a position, to a few change sets.
    func logRows(after position: UInt64) throws -> UInt64 {
        let mark = try Row.fetchOne(
            db.cachedStatement(
                sql: "SELECT position, rows FROM logMark WHERE position <= ? ORDER BY position DESC LIMIT 1"
            ),
            arguments: [Int64(clamping: position)]
        )
        let (marked, before) = mark.map { ($0[0] as Int64, $0[1] as Int64) } ?? (0, 0)
        let between = try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT sum(rows) FROM log WHERE position > ? AND position <= ?"),
            arguments: [marked, Int64(clamping: position)]
        )
        return logRows - min(logRows, UInt64(clamping: before) + UInt64(clamping: between ?? 0))
    }
}
