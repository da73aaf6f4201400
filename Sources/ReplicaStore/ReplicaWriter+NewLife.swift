import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// A new life begins: what only this copy wrote is taken out of log and tables, and waits.

/// A change set of a former life that waits to be issued again.
struct WaitingChange {
    let number: Int64
    let id: ChangeSetID
    let time: HybridTimestamp
    /// The chain up to it in the life that wrote it.
    let chain: ChangeChain
    let body: Data
    /// What it is called by all copies that share it.
    let identity: FirstIdentity

    /// Those that wait longest.
    static func first(_ count: Int, _ db: Database) throws -> [WaitingChange] {
        let decompressor = ZstdDecompressor()
        return try Row.fetchAll(
            db.cachedStatement(
                sql: "SELECT number, origin, seq, time, chain, body FROM waitingChange ORDER BY number LIMIT ?"
            ),
            arguments: [count]
        ).map { row in
            let body: Data = row[5]
            guard let origin = Origin(rawValue: row[1]), let chain = ChangeChain(bytes: [UInt8](row[4] as Data)),
                let time = HybridTimestamp(packed: UInt64(bitPattern: row[3] as Int64))
            else { throw StoreFailure.database("A change set that waits to be issued again is damaged.") }
            let id = ChangeSetID(origin: origin, seq: UInt64(clamping: row[2] as Int64))
            let first = try Replica.withContent(of: body, position: 0, decompressor) {
                $0.header.extensions.firstIdentity
            }
            return WaitingChange(
                number: row[0],
                id: id,
                time: time,
                chain: chain,
                body: body,
                identity: first ?? FirstIdentity(id: id, chain: chain)
            )
        }
    }
}

/// Rows that a new life must set right, by table number.
private struct TouchedRows {
    /// Made by what is set aside: nobody else has them.
    var born: [Int: Set<Int64>] = [:]
    /// Written by it, and by others before.
    var written: [Int: Set<Int64>] = [:]
    /// Of a written row, whether it lived before the first of those writes.
    var wasAlive: [Int: [Int64: Bool]] = [:]
    /// The times of the writes that are set aside.
    var times: Set<HybridTimestamp> = []

    var isEmpty: Bool { born.isEmpty && written.isEmpty }

    mutating func add(_ reader: ChangeSetReader, bornHere: Bool) {
        for block in reader.blocks {
            var row = block.makeCursor()
            while row.advance() {
                if born[block.number]?.contains(row.id) == true { continue }
                if bornHere, row.operation == .birth {
                    born[block.number, default: []].insert(row.id)
                } else if written[block.number, default: []].insert(row.id).inserted {
                    wasAlive[block.number, default: [:]][row.id] = row.operation != .restore
                }
            }
        }
    }
}

/// Rows whose clocks cannot be read, as long as something else is put in their place: what such a row has in the
/// sums of its bucket is not known any more, so that the bucket is counted again.
struct DamagedRows {
    /// By table number.
    private(set) var buckets: [Int: Set<Int>] = [:]

    /// Notes a row if it is one.
    @discardableResult
    mutating func look(at id: Int64, _ merge: RowMerge) throws -> Bool {
        do {
            for place in [merge.live, merge.graveyard] {
                _ = try place.read(id: id, columns: []) { try merge.clock(in: $0, at: 0, id: id) }
            }
            return false
        } catch StoreFailure.damagedRow {
            note(id, of: merge.table)
            return true
        }
    }

    /// Notes one.
    mutating func note(_ id: Int64, of table: TableDescription) {
        buckets[table.number, default: []].insert(RowHasher.bucket(of: id))
    }
}

/// A write of the log that is not in the tables: it waits, or was given up.
private struct ParkedWrite: Hashable {
    let origin: Origin
    let seq: Int64
    let table: Int
    let id: Int64

    init(_ origin: Origin, _ seq: Int64, _ table: Int, _ id: Int64) {
        self.origin = origin
        self.seq = seq
        self.table = table
        self.id = id
    }

    static func all(_ db: Database) throws -> Set<ParkedWrite> {
        let rows = try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT origin, seq, tableNumber, id FROM parkedRow
                    UNION ALL SELECT origin, seq, tableNumber, id FROM droppedRow
                    """
            )
        )
        return Set(rows.compactMap { row in Origin(rawValue: row[0]).map { ParkedWrite($0, row[1], row[2], row[3]) } })
    }
}

extension ReplicaWriter {
    /// Goes on under a new origin number, as part of the present transaction: what this copy wrote after the
    /// fork leaves log, vector and tables, and waits to be issued again; change sets up to the fork take the
    /// times that head office has them with.
    ///
    /// - Returns: The customers whose rows have changed, for the search index.
    func beginNewLife(_ origin: Origin, _ search: ForkSearch, hubMilliseconds: UInt64) throws -> [Int64] {
        let old = node.origin
        let fork = search.fork ?? 0
        var touched = TouchedRows()
        let tail = try setAside(old, after: fork, &touched)
        let adopted = try adopt(search.times, of: old, &touched)
        if let first = [tail, adopted].compactMap({ $0 }).min() { try rechain(after: first - 1) }
        let last = fork == 0 ? nil : try storedChain(of: ChangeSetID(origin: old, seq: fork))
        try logWasCut(old, at: last.map { (fork, $0) })
        try rebuild(touched)
        try db.cachedStatement(sql: "UPDATE searchState SET position = min(position, ?), customer = 0").execute(
            arguments: [Int64(clamping: end.position)]
        )
        // Rows went back to what they were, so all are compared again.
        try note(.matchedPosition, nil)
        try db.cachedStatement(sql: "DELETE FROM firstIdentity WHERE issuedOrigin = ? AND issuedSeq > ?").execute(
            arguments: [old.rawValue, Int64(clamping: fork)]
        )
        try db.cachedStatement(sql: "UPDATE localContact SET acceptedSeq = 0").execute()
        try note(.carriedSeq, nil)
        try settleTimes()
        try switchOrigin(to: origin, after: fork, reason: search.reason)
        try calmClock(hubMilliseconds: hubMilliseconds)
        let customer = TableDescription.customer.number
        return [touched.born[customer], touched.written[customer]].flatMap { $0?.sorted() ?? [] }
    }

    /// From here on this node writes under another number.
    private func switchOrigin(to origin: Origin, after fork: UInt64, reason: String) throws {
        try db.cachedStatement(sql: "INSERT OR REPLACE INTO formerLife VALUES (?, ?, ?, ?)").execute(arguments: [
            node.origin.rawValue, Int64(clamping: fork), Int64(clamping: wallClock()), reason,
        ])
        try note(.mustRenew, nil)
        try note(.rowCounterFloor, nil)
        try note(.rowCounterReserved, nil)
        try fence.beginLife()
        try audit(.newLife, "\(node.origin) to \(origin)", outcome: reason)
        var node = node
        node.origin = origin
        try updateNode(node)
    }

    // MARK: Without a hub

    /// How many origin numbers head office leaves out when it was restored: those may have been given since. It
    /// leaves out some more, by chance, because one backup may be restored twice, and each time is another life.
    static let originsLeftOut: Int64 = 1000
    private static let originsDrawnFrom: Int64 = 16_384

    /// At head office: goes on under a new origin number, because it was restored or is a copy, as part of the
    /// present transaction, which has sealed nothing. What it has written stays as it is; what it has written since
    /// comes back from its branches, under the old number. What other programs had written and it had not taken up
    /// gets the new number: under the old one it may have been sent already, with another content.
    func beginNewLifeOfHeadOffice(reason: String) throws {
        guard node.role == .headOffice else { return }
        let seq = vector[node.origin]?.seq ?? 0
        let next = try Int64(nextOrigin().rawValue)
        let first = next + Self.originsLeftOut + Int64(nodeClock.chance() % UInt64(Self.originsDrawnFrom))
        // Near the end of the numbers there is no room to choose.
        try note(.nextOrigin, min(first, max(next + 1, Int64(Origin.rawValueMax) - Self.originsDrawnFrom)))
        let origin = try nextOrigin()
        try switchOrigin(to: origin, after: seq, reason: reason)
        try sealForeignWrites()
        guard let row = node.branchRow else { return }
        let transaction = LocalTransaction(self)
        guard try transaction.contains("branch", id: row) else { return }
        try transaction.update("branch", id: row, ["origin": .integer(Int64(origin.rawValue))])
        _ = try transaction.finish()
    }

    /// What lies beside the database says that this is a copy of it, or an older state: as part of the present
    /// transaction, which has sealed nothing.
    func fenceIsBroken() throws {
        guard node.isJoined else { return }
        switch node.role {
        case .headOffice:
            try beginNewLifeOfHeadOffice(reason: RenewalReason.fence.sentence)
        case .branch:
            try mustRenew(.fence)
            try raiseRowCounters()
        }
    }

    /// Leaves out the row numbers that another state of this file may have given out.
    func raiseRowCounters() throws {
        let known = try fact(.rowCounterReserved) ?? 0
        // Without the fence's word nobody knows how far it came.
        let reserved = fence.state.reserved > 0 ? max(fence.state.reserved, known) : known + Fence.leftOut
        try note(.rowCounterFloor, max(reserved, try fact(.rowCounterFloor) ?? 0))
    }

    /// Makes sure that the number of a new row is reserved; see ``Fence``.
    func reserve(_ id: RowID) throws {
        guard id.origin == node.origin, let reserved = try fence.reserve(id.counter) else { return }
        try note(.rowCounterReserved, reserved)
    }

    // MARK: What is set aside

    /// Moves own change sets out of the log.
    ///
    /// - Returns: The position of the first one; nil when there was none.
    private func setAside(_ origin: Origin, after fork: UInt64, _ touched: inout TouchedRows) throws -> Int64? {
        let arguments: StatementArguments = [origin.rawValue, Int64(clamping: fork)]
        let decompressor = ZstdDecompressor()
        let rows = try Row.fetchCursor(
            db,
            sql: "SELECT position, time, body FROM log WHERE origin = ? AND seq > ? ORDER BY seq",
            arguments: arguments
        )
        var first: Int64?
        while let row = try rows.next() {
            let position: Int64 = row[0]
            first = min(first ?? position, position)
            if let time = HybridTimestamp(packed: UInt64(bitPattern: row[1] as Int64)) { touched.times.insert(time) }
            try Replica.withContent(of: row[2], position: UInt64(clamping: position), decompressor) {
                touched.add($0, bornHere: true)
            }
        }
        if !isPlanted(.tailDropped) {
            try db.cachedStatement(
                sql: """
                    INSERT INTO waitingChange(origin, seq, time, rows, chain, body)
                    SELECT origin, seq, time, rows, chain, body FROM log WHERE origin = ? AND seq > ? ORDER BY seq
                    """
            ).execute(
                arguments: arguments
            )
        }
        try db.cachedStatement(sql: "DELETE FROM log WHERE origin = ? AND seq > ?").execute(arguments: arguments)
        if let first { try recountLog(from: first) }
        // Their numbers will be others again.
        for (table, ids) in touched.born {
            for id in ids {
                try db.cachedStatement(sql: "DELETE FROM formerIdentifier WHERE tableNumber = ? AND present = ?")
                    .execute(arguments: [table, id])
            }
        }
        return first
    }

    /// Gives change sets the times that head office has: another copy had corrected them before it sent them.
    private func adopt(
        _ times: [UInt64: HybridTimestamp],
        of origin: Origin,
        _ touched: inout TouchedRows
    ) throws -> Int64? {
        let decompressor = ZstdDecompressor()
        var first: Int64?
        var moved: [(position: Int64, time: HybridTimestamp)] = []
        for (seq, time) in times.sorted(by: { $0.key < $1.key }) {
            let row = try Row.fetchOne(
                db.cachedStatement(sql: "SELECT position, body, time FROM log WHERE origin = ? AND seq = ?"),
                arguments: [origin.rawValue, Int64(clamping: seq)]
            )
            guard let row else { continue }
            let position: Int64 = row[0]
            first = min(first ?? position, position)
            moved.append((position, time))
            if let old = HybridTimestamp(packed: UInt64(bitPattern: row[2] as Int64)) { touched.times.insert(old) }
            if let body = row[1] as Data? {
                try Replica.withContent(of: body, position: UInt64(clamping: position), decompressor) {
                    touched.add($0, bornHere: false)
                }
            }
            // Out of the way of the others, because times are unique.
            try db.cachedStatement(sql: "UPDATE log SET time = -position WHERE position = ?").execute(arguments: [
                position
            ])
        }
        for (position, time) in moved {
            try db.cachedStatement(sql: "UPDATE log SET time = ? WHERE position = ?").execute(arguments: [
                Int64(bitPattern: time.packed), position,
            ])
        }
        return first
    }

    /// Computes what the log's later rows say of those before them again.
    private func rechain(after position: Int64) throws {
        let before = try Row.fetchOne(
            db.cachedStatement(
                sql: "SELECT digest, timeMax FROM log WHERE position <= ? ORDER BY position DESC LIMIT 1"
            ),
            arguments: [position]
        )
        var digest = before.map { UInt64(bitPattern: $0[0] as Int64) } ?? LogPrefix.empty.digest
        var timeMax = (before?[1] as Int64?) ?? 0
        var reached = position
        let update = try db.cachedStatement(sql: "UPDATE log SET digest = ?, timeMax = ? WHERE position = ?")
        while true {
            let rows = try Row.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT position, origin, seq, time, chain FROM log WHERE position > ? ORDER BY position LIMIT 1000
                        """
                ),
                arguments: [reached]
            )
            if rows.isEmpty { return }
            for row in rows {
                reached = row[0]
                guard let origin = Origin(rawValue: row[1]), let chain = ChangeChain(bytes: [UInt8](row[4] as Data))
                else { throw StoreFailure.damagedLog(position: UInt64(clamping: reached), reason: "It has no chain.") }
                let id = ChangeSetID(origin: origin, seq: UInt64(clamping: row[2] as Int64))
                digest = LogPrefix(position: 0, digest: digest).appending(id, chain: chain).digest
                timeMax = max(timeMax, row[3])
                try update.execute(arguments: [Int64(bitPattern: digest), timeMax, reached])
            }
        }
    }

    private func storedChain(of id: ChangeSetID) throws -> ChangeChain? {
        try Data.fetchOne(
            db.cachedStatement(sql: "SELECT chain FROM log WHERE origin = ? AND seq = ?"),
            arguments: [id.origin.rawValue, Int64(clamping: id.seq)]
        ).flatMap { ChangeChain(bytes: [UInt8]($0)) }
    }

    // MARK: Rows

    /// Makes rows what the log says, after writes were taken out of it.
    ///
    /// Clocks are not merged, because two lives may have written different values under one stamp: the rows are
    /// taken away, and every write that is left is merged again, in the order of the log.
    private func rebuild(_ touched: TouchedRows) throws {
        guard !touched.isEmpty, !isPlanted(.rowsOfFormerLifeKept) else { return }
        let isComplete = try logIsComplete()
        var damaged = DamagedRows()
        for (number, ids) in touched.born {
            guard let table = schema.table(number: number) else { continue }
            for id in ids.sorted() where try !merge(of: table).isErased(id) {
                try damaged.look(at: id, merge(of: table))
                try takeAway(id, of: table)
            }
        }
        for (number, ids) in touched.written {
            guard let table = schema.table(number: number) else { continue }
            // An erased row stays erased: there is nothing of it to set right.
            for id in ids.sorted() where try !merge(of: table).isErased(id) {
                // Of what cannot be read nothing can stay: the log tells what it was, and head office.
                if try damaged.look(at: id, merge(of: table)) || isComplete {
                    try takeAway(id, of: table)
                } else {
                    try strip(id, of: table, touched)
                }
            }
        }
        try applyLogged(touched.written)
        try recount(damaged)
    }

    /// Merges what the log has of some rows again, by table number. A write that waits, or was given up, stays out;
    /// one that cannot be merged any more is parked, and so are those that follow it.
    func applyLogged(_ wanted: [Int: Set<Int64>]) throws {
        guard !wanted.isEmpty else { return }
        let decompressor = ZstdDecompressor()
        let parked = try ParkedWrite.all(db)
        var blocked: Set<RowKey> = []
        let rows = try Row.fetchCursor(
            db,
            sql: "SELECT position, origin, time, body, seq FROM log WHERE body IS NOT NULL ORDER BY position"
        )
        while let row = try rows.next() {
            guard let origin = Origin(rawValue: row[1]),
                let time = HybridTimestamp(packed: UInt64(bitPattern: row[2] as Int64))
            else { continue }
            let set = ChangeSetID(origin: origin, seq: UInt64(clamping: row[4] as Int64))
            let stamp = Stamp(time: time, origin: origin)
            try Replica.withContent(of: row[3], position: UInt64(clamping: row[0] as Int64), decompressor) { reader in
                for block in reader.blocks {
                    guard let ids = wanted[block.number], let table = schema.table(number: block.number)
                    else { continue }
                    let merge = try merge(of: table)
                    var cursor = block.makeCursor()
                    while cursor.advance() {
                        guard ids.contains(cursor.id),
                            !parked.contains(ParkedWrite(origin, row[4], block.number, cursor.id))
                        else { continue }
                        let key = RowKey(table: block.number, id: cursor.id)
                        if blocked.contains(key) {
                            try parkBehind(cursor.id, of: table, in: set)
                            continue
                        }
                        let write = RowWrite(
                            id: cursor.id,
                            operation: cursor.operation,
                            columns: cursor.columns,
                            stamp: stamp
                        )
                        let isDone = try applyOrPark(cursor.id, of: table, in: set) { try merge.apply(write, cursor) }
                        if !isDone { blocked.insert(key) }
                    }
                }
            }
        }
    }

    /// Counts the buckets of damaged rows again, after something else was put in their place.
    func recount(_ damaged: DamagedRows) throws {
        for (number, buckets) in damaged.buckets {
            if let table = schema.table(number: number) { try recount(buckets, of: table) }
        }
    }

    /// Whether every change set that this node has taken is here with its body, so that any row follows from the
    /// log alone.
    private func logIsComplete() throws -> Bool {
        let bodies = try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT count(*) FROM log WHERE hubPosition <= ? AND body IS NOT NULL"),
            arguments: [Int64(clamping: cursor.position)]
        )
        return bodies == Int64(clamping: cursor.position)
    }

    private func takeAway(_ id: Int64, of table: TableDescription) throws {
        let merge = try merge(of: table)
        let contribution = try merge.contribution(ofLive: id)
        if contribution != .zero {
            try addToDigest(merge.negative(of: contribution), table: table.number, id: id)
            try merge.live.remove(id: id)
        }
        try merge.graveyard.remove(id: id)
    }

    /// Takes the given writes out of a row whose earlier ones are no longer all in the log: its other fields
    /// stay as they are. What was below the fields that go is filled in by what the log still has, and by
    /// comparing with head office.
    private func strip(_ id: Int64, of table: TableDescription, _ touched: TouchedRows) throws {
        let merge = try merge(of: table)
        var isAlive = true
        let read: (RawStatement) throws -> (RowClock, [FieldValue]) = { row in
            let clock = try merge.clock(in: row, at: table.columns.count, id: id)
            return (clock, table.columns.map { FieldValue(row.field($0.number)) })
        }
        var row = try merge.live.readRow(id: id, read)
        if row == nil {
            isAlive = false
            row = try merge.graveyard.readRow(id: id, read)
        }
        guard let (clock, values) = row else { return }
        try takeAway(id, of: table)
        func isGone(_ stamp: Stamp) -> Bool { stamp.origin == node.origin && touched.times.contains(stamp.time) }
        if isGone(clock.newest) { isAlive = touched.wasAlive[table.number]?[id] ?? isAlive }
        var columnsByStamp: [Stamp: ColumnMask] = [:]
        for column in 1..<table.columns.count {
            let stamp = clock.stamp(ofColumn: column)
            guard stamp != .zero, !isGone(stamp) else { continue }
            columnsByStamp[stamp, default: []].formUnion(ColumnMask(column: column))
        }
        if !isGone(clock.newest), columnsByStamp[clock.newest] == nil { columnsByStamp[clock.newest] = [] }
        let arena = FieldArena()
        let stamps = columnsByStamp.keys.sorted()
        for stamp in stamps {
            guard let columns = columnsByStamp[stamp] else { continue }
            var written: [FieldValue] = []
            for column in columns.numbers { written.append(values[column]) }
            arena.load(columns, written)
            let operation: RowOperation = stamp == stamps.last && !isAlive ? .delete : .update
            try merge.apply(RowWrite(id: id, operation: operation, columns: columns, stamp: stamp), arena)
        }
    }

    /// Sets the clock back when only what was set aside had driven it into the future, so that this life does
    /// not inherit a wrong clock.
    private func calmClock(hubMilliseconds: UInt64) throws {
        let limit = HybridTimestamp(milliseconds: hubMilliseconds + 120_000)
        guard clock.latest > limit else { return }
        var greatest = timeMax
        for table in schema.tables {
            for place in [table.name, table.graveyard] {
                let sql = "SELECT max(_time) FROM \(place) WHERE \(ReplicaSQL.isKept)"
                let newest = try Int64.fetchOne(db, sql: sql) ?? 0
                greatest = max(greatest, HybridTimestamp(packed: UInt64(bitPattern: newest)) ?? .zero)
            }
        }
        setClock(back: max(greatest, limit))
    }
}
