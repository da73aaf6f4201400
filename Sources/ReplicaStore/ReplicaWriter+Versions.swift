import CRM
import Causality
import GRDB
import SyncProtocol

// Nodes of several schemas exchange change sets. What this node's schema does not know stays in the log, is sent
// on from there as it came, and is applied once the schema knows it.

extension ReplicaWriter {
    /// Remembers that a change set, which is about to be logged, writes tables or columns of a newer schema.
    func noteUnknownParts(of set: IncomingChangeSet) throws {
        for block in set.reader.blocks {
            let known = schema.table(number: block.number)?.columns.count ?? 0
            // Cheap for everything of an older or the same schema.
            guard block.columnCount > known, block.writes(columnsFrom: known) else { continue }
            let id = set.reader.header.id
            try db.cachedStatement(sql: "INSERT OR IGNORE INTO unknownPart VALUES (?, ?, ?, ?)")
                .execute(arguments: [id.origin.rawValue, Int64(clamping: id.seq), block.number, known])
        }
    }

    /// Applies what the log holds and earlier schemas did not know, and tries parked rows again: once after each
    /// upgrade, in one transaction. A crash before its end leaves it to the next start.
    func catchUpWithSchema() throws {
        guard try fact(.schemaApplied).map({ $0 < Int64(schema.version) }) ?? true else { return }
        try transaction {
            try applyUnknownParts()
            _ = try retryParked()
            try note(.schemaApplied, Int64(schema.version))
        }
    }

    private func applyUnknownParts() throws {
        let parts = try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT origin, seq, tableNumber, columnsKnown FROM unknownPart JOIN log USING (origin, seq)
                    ORDER BY log.position, tableNumber
                    """
            )
        )
        var last: (id: ChangeSetID, logged: LoggedChangeSet)?
        for part in parts {
            guard let origin = Origin(rawValue: part[0]), let table = schema.table(number: part[2]) else { continue }
            let id = ChangeSetID(origin: origin, seq: UInt64(clamping: part[1] as Int64))
            let known: Int = part[3]
            guard known < table.columns.count else { continue }
            if last?.id != id { last = try loggedChangeSet(id).map { (id, $0) } }
            // Without a readable body it stays what it is, and `status` goes on telling of it.
            guard let last, last.id == id else { continue }
            guard let block = last.logged.set.reader.blocks.first(where: { $0.number == table.number }) else {
                // Erased meanwhile.
                try forget(part)
                continue
            }
            try apply(block, of: table, columnsKnown: known, last.logged)
            if block.writes(columnsFrom: table.columns.count) {
                try db.cachedStatement(
                    sql: """
                        UPDATE unknownPart SET columnsKnown = ? WHERE origin = ? AND seq = ? AND tableNumber = ?
                        """
                ).execute(arguments: [table.columns.count, part[0], part[1], part[2]])
            } else {
                try forget(part)
            }
        }
    }

    private func forget(_ part: Row) throws {
        try db.cachedStatement(sql: "DELETE FROM unknownPart WHERE origin = ? AND seq = ? AND tableNumber = ?").execute(
            arguments: [part[0], part[1], part[2]]
        )
    }

    /// Applies the columns of a block that were not known when it was taken; all of a table that was not.
    private func apply(
        _ block: TableBlock,
        of table: TableDescription,
        columnsKnown known: Int,
        _ logged: LoggedChangeSet
    ) throws {
        let columns = table.allColumns.subtracting(ColumnMask(first: known))
        let id = logged.set.reader.header.id
        var row = block.makeCursor()
        if known > 0 { row.show(only: columns) }
        while row.advance() {
            // What was known of the row waits: all of it is taken together, later.
            if known > 0, try isParked(RowKey(table: table.number, id: row.id), in: id) { continue }
            guard known == 0 || !row.columns.isEmpty else { continue }
            try takeOrPark(row, of: table, in: logged.set, from: logged.source) {
                try takeLogged(row, of: table, logged)
            }
        }
    }

    /// Takes a row of a change set that is in the log already.
    func takeLogged(_ row: ChangeCursor, of table: TableDescription, _ logged: LoggedChangeSet) throws {
        let header = logged.set.reader.header
        let stamp = Stamp(time: logged.set.time, origin: header.id.origin)
        let isSeen = try checkContext(of: logged.set, from: logged.source)
        var judged = judged(header.id, stamp: stamp, isSeen, from: logged.source)
        judged?.position = try loggedPosition(of: header.id) ?? end.position
        try takeWithinRights(row, of: table, stamp: stamp, header, judged, from: logged.source)
        guard let judged else { return }
        try judge?.noteLate(ConflictJudge.RowKey(table: table.number, row: row.id), judged) { later in
            // Whoever writes at head office has seen its whole log. Bodies that are gone were seen by everybody.
            guard later.origin != node.origin, let logged = try loggedChangeSet(later) else { return true }
            return try checkContext(of: logged.set, from: logged.source).contains(judged.id, at: judged.position)
        }
    }

    private func loggedPosition(of id: ChangeSetID) throws -> UInt64? {
        try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT position FROM log WHERE origin = ? AND seq = ?"),
            arguments: [id.origin.rawValue, Int64(clamping: id.seq)]
        ).map { UInt64(clamping: $0) }
    }

    private func isParked(_ row: RowKey, in set: ChangeSetID) throws -> Bool {
        guard !parked.isEmpty, parked.contains(row) else { return false }
        return try Bool.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT EXISTS (SELECT 1 FROM parkedRow WHERE origin = ? AND seq = ? AND tableNumber = ? AND id = ?)
                    """
            ),
            arguments: [set.origin.rawValue, Int64(clamping: set.seq), row.table, row.id]
        ) ?? false
    }
}

extension TableBlock {
    /// Whether a row carries a column from a number on. A table that is not known at all has none before.
    fileprivate func writes(columnsFrom first: Int) -> Bool {
        first == 0 || !writtenColumns.subtracting(ColumnMask(first: first)).isEmpty
    }
}
