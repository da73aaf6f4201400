import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// A row of a change set that cannot be applied waits, with its reason; all others go on. Later changes of a
// waiting row wait behind it. The change set itself is in the log like any other, and its body is kept.

extension ReplicaWriter {
    /// Takes one row of a change set, or parks it.
    ///
    /// - Parameter apply: Merges the row. It runs once; what it did is undone if it fails.
    /// - Throws: ``RowTrouble`` when the row failed and this transaction has no way back: see ``transaction(_:)``.
    func takeOrPark(
        _ row: ChangeCursor,
        of table: TableDescription,
        in set: IncomingChangeSet,
        from source: ChangeSource,
        _ apply: () throws -> Void
    ) throws {
        if let reason = reasonToPark(row, of: table, in: set, from: source) {
            return try park(row.id, of: table, in: set.reader.header.id, reason)
        }
        _ = try applyOrPark(row.id, of: table, in: set.reader.header.id, apply)
    }

    /// Merges one row of a change set that is in the log, or is about to be, or parks it.
    ///
    /// - Returns: Whether it was merged.
    /// - Throws: ``RowTrouble`` as ``takeOrPark(_:of:in:from:_:)`` does.
    func applyOrPark(
        _ id: Int64,
        of table: TableDescription,
        in set: ChangeSetID,
        _ apply: () throws -> Void
    ) throws -> Bool {
        guard let reason = try trouble(apply) else { return true }
        try park(id, of: table, in: set, reason)
        return false
    }

    /// Runs something for one row, with a way back if this transaction is a careful one.
    ///
    /// - Returns: Why it failed, after everything was undone; nil when it did not.
    /// - Throws: ``RowTrouble`` when it failed and there is no way back.
    func trouble(_ apply: () throws -> Void) throws -> ParkingReason? {
        if isCareful { return try reasonOfFailing(apply) }
        do {
            try apply()
            return nil
        } catch {
            guard let reason = ParkingReason(error) else { throw error }
            throw RowTrouble(reason: reason)
        }
    }

    /// Lets a change of a row wait behind an earlier one that is parked.
    func parkBehind(_ id: Int64, of table: TableDescription, in set: ChangeSetID) throws {
        try park(id, of: table, in: set, .queued)
    }

    /// What can be seen without trying.
    ///
    /// - Parameter isFirst: It is the first change of its row that waits, and not a new one behind it.
    private func reasonToPark(
        _ row: ChangeCursor,
        of table: TableDescription,
        in set: IncomingChangeSet,
        from source: ChangeSource,
        isFirst: Bool = false
    ) -> ParkingReason? {
        // Nothing holds up an erasure: it takes what waits with it.
        if !isFirst, !parked.isEmpty, row.operation != .erase, parked.contains(RowKey(table: table.number, id: row.id))
        {
            return .queued
        }
        if let columns = set.wrongTypes[table.number] {
            for column in columns.intersection(row.columns).numbers {
                if case .null = row[column] { continue }
                return ParkingReason(
                    code: .wrongType,
                    sentence: "Change set \(set.reader.header.id) holds a value of a wrong type in "
                        + "\(table.name).\(table.columns[column].name). Check the software version of the node "
                        + "that made it."
                )
            }
        }
        // A hub refuses this; a branch takes what its hub has, which may not have known the table.
        if source.position != nil || set.isLogged, row.operation == .birth, !row.isBorn(at: set.reader.header.id.origin)
        {
            return ParkingReason(
                code: .foreignNumber,
                sentence: "Change set \(set.reader.header.id) makes a \(table.name) with a number of another origin."
            )
        }
        return nil
    }

    /// Runs something for one row with a way back.
    ///
    /// - Returns: Why the row cannot be applied, after everything was undone; nil when it was applied.
    func reasonOfFailing(_ apply: () throws -> Void) throws -> ParkingReason? {
        try db.cachedStatement(sql: "SAVEPOINT parking").execute()
        beginUndoOfDigests()
        do {
            try apply()
            try endUndoOfDigests(undoing: false)
            try db.cachedStatement(sql: "RELEASE parking").execute()
            return nil
        } catch {
            guard let reason = ParkingReason(error) else { throw error }
            try endUndoOfDigests(undoing: true)
            try db.cachedStatement(sql: "ROLLBACK TO parking").execute()
            try db.cachedStatement(sql: "RELEASE parking").execute()
            try judge?.forgetUndone()
            return reason
        }
    }

    private func park(
        _ id: Int64,
        of table: TableDescription,
        in set: ChangeSetID,
        _ reason: ParkingReason
    ) throws {
        if isPlanted(.parkedDropped) { return }
        guard parked.count < ParkedRows.countMax else {
            throw Refusal(
                .retryLater,
                "\(parked.count) rows are parked here, and change set \(set) brings another. Nothing more is taken "
                    + "until they are looked at: `peyvand parked`."
            )
        }
        try db.cachedStatement(
            sql: """
                INSERT INTO parkedRow(origin, seq, tableNumber, id, reason, sentence, parkedAt)
                VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT(origin, seq, tableNumber, id) DO NOTHING
                """
        ).execute(arguments: [
            set.origin.rawValue, Int64(clamping: set.seq), table.number, id, reason.code.rawValue, reason.sentence,
            Int64(clamping: wallClock()),
        ])
        if db.changesCount > 0 { parked.add(RowKey(table: table.number, id: id)) }
    }

    // MARK: Trying again

    /// Tries parked rows again, in the order of the log; a row whose first change fails again keeps all of its
    /// later ones. Part of a transaction.
    ///
    /// - Parameter wanted: These rows only, or all.
    /// - Returns: The rows that changed.
    func retryParked(_ wanted: Set<RowKey>? = nil) throws -> [RowKey] {
        guard !parked.isEmpty else { return [] }
        let waiting = try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT parkedRow.number, parkedRow.origin, parkedRow.seq, parkedRow.tableNumber, parkedRow.id
                    FROM parkedRow JOIN log USING (origin, seq) ORDER BY log.position, tableNumber, id
                    """
            )
        ).compactMap(ParkedChange.init).filter { wanted?.contains($0.row) ?? true }
        var applied: [RowKey] = []
        var blocked: Set<RowKey> = []
        var rest = waiting[...]
        while let first = rest.first {
            let changes = rest.prefix { $0.set == first.set }
            rest = rest.dropFirst(changes.count)
            try retry(changes.filter { !blocked.contains($0.row) }, in: first.set, &applied, &blocked)
        }
        return applied
    }

    /// Tries the waiting rows of one change set.
    private func retry(
        _ changes: [ParkedChange],
        in id: ChangeSetID,
        _ applied: inout [RowKey],
        _ blocked: inout Set<RowKey>
    ) throws {
        guard !changes.isEmpty else { return }
        guard let logged = try loggedChangeSet(id) else {
            for change in changes {
                try keep(
                    change,
                    ParkingReason(
                        code: .bodyMissing,
                        sentence: "The body of change set \(id) is not here, or damaged. Check the disk."
                    ),
                    &blocked
                )
            }
            return
        }
        var waiting = Dictionary(uniqueKeysWithValues: changes.map { ($0.row, $0) })
        for block in logged.set.reader.blocks {
            guard let table = schema.table(number: block.number) else { continue }
            var row = block.makeCursor()
            while row.advance() {
                guard let change = waiting.removeValue(forKey: RowKey(table: block.number, id: row.id)) else {
                    continue
                }
                let reason =
                    try reasonToPark(row, of: table, in: logged.set, from: logged.source, isFirst: true)
                    ?? reasonOfFailing { try takeLogged(row, of: table, logged) }
                if let reason {
                    try keep(change, reason, &blocked)
                } else {
                    try forget(change)
                    applied.append(change.row)
                }
            }
        }
        // Erased meanwhile: the body does not hold the row any more, and nothing is left that could be applied.
        for change in waiting.values { try forget(change) }
    }

    /// Lets go of everything that waits of an erased row. Part of a transaction.
    func forgetParked(_ row: RowKey) throws {
        guard parked.contains(row) else { return }
        try db.cachedStatement(sql: "DELETE FROM parkedRow WHERE tableNumber = ? AND id = ?").execute(arguments: [
            row.table, row.id,
        ])
        while parked.contains(row) { parked.remove(row) }
    }

    private func keep(_ change: ParkedChange, _ reason: ParkingReason, _ blocked: inout Set<RowKey>) throws {
        blocked.insert(change.row)
        try db.cachedStatement(
            sql: "UPDATE parkedRow SET reason = ?, sentence = ?, attempts = attempts + 1 WHERE number = ?"
        ).execute(arguments: [reason.code.rawValue, reason.sentence, change.number])
    }

    private func forget(_ change: ParkedChange) throws {
        try db.cachedStatement(sql: "DELETE FROM parkedRow WHERE number = ?").execute(arguments: [change.number])
        parked.remove(change.row)
    }

    /// Gives up one waiting change, for good; what waits behind it is tried next time. Part of a transaction.
    ///
    /// - Returns: Whether there was one.
    func dropParked(_ number: Int64) throws -> Bool {
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: "SELECT number, origin, seq, tableNumber, id, reason FROM parkedRow WHERE number = ?"
            ),
            arguments: [number]
        )
        guard let row, let change = ParkedChange(row) else { return false }
        try db.cachedStatement(
            sql: """
                INSERT INTO droppedRow(origin, seq, tableNumber, id, reason, droppedAt)
                VALUES (?, ?, ?, ?, ?, ?)
                """
        ).execute(arguments: [row[1], row[2], row[3], row[4], row[5], Int64(clamping: wallClock())])
        try forget(change)
        return true
    }

    // MARK: Change sets of the log

    /// A change set out of this node's log, as it came; nil when its body is not here, or damaged.
    func loggedChangeSet(_ id: ChangeSetID) throws -> LoggedChangeSet? {
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: "SELECT time, position, hubPosition FROM log WHERE origin = ? AND seq = ? AND body IS NOT NULL"
            ),
            arguments: [id.origin.rawValue, Int64(clamping: id.seq)]
        )
        guard let row, let time = HybridTimestamp(packed: UInt64(bitPattern: row[0] as Int64)) else { return nil }
        let set: IncomingChangeSet
        do {
            let content = try LogBody(at: row[1], db).content(ZstdDecompressor(), scratch: scratch)
            set = try IncomingChangeSet(time: time, logged: content, schema: schema)
        } catch is Refusal {
            // Damaged on disk: nothing that waits for it may keep the node from working.
            return nil
        }
        let position = (row[2] as Int64?).map { UInt64(clamping: $0) }
        let source = node.role == .headOffice ? ChangeSource.child : .hub(position: position ?? 0)
        return LoggedChangeSet(set: set, source: source)
    }
}

/// A change set that is in the log already, and some of whose rows are taken now.
struct LoggedChangeSet {
    let set: IncomingChangeSet
    let source: ChangeSource
}

/// One change that waits.
private struct ParkedChange {
    let number: Int64
    let set: ChangeSetID
    let row: RowKey

    init?(_ row: Row) {
        guard let origin = Origin(rawValue: row[1]) else { return nil }
        number = row[0]
        set = ChangeSetID(origin: origin, seq: UInt64(clamping: row[2] as Int64))
        self.row = RowKey(table: row[3], id: row[4])
    }
}

extension ChangeCursor {
    /// Whether the row has a number of an origin.
    func isBorn(at origin: Origin) -> Bool { id >> RowID.counterBits == Int64(origin.rawValue) }
}
