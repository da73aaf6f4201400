import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// What erasing a row takes with it: what other tables of this node and the bodies of its log know of it. Done
// in the transaction that erased the row, so that nobody ever sees half of it.

extension Format2 {
    /// Orders to erase, and the log rows whose remains head office has still to sign.
    static let erasures = """
        CREATE TABLE erasure(
            position INTEGER PRIMARY KEY,
            wallMilliseconds INTEGER NOT NULL,
            rows INTEGER NOT NULL
        );
        CREATE TABLE unsignedBody(position INTEGER PRIMARY KEY);
        """
}

/// What erasing keeps in mind during a transaction.
struct Erasing {
    /// Where the log ended when the transaction began.
    var logEnd: UInt64 = 0
    /// At head office: rows that arrived after what they belong to was erased, by table.
    var lateChildren: [Int: Set<Int64>] = [:]
    /// Whether anything was ever erased here; nil until somebody asks.
    var hasErased: Bool?
}

extension ReplicaWriter {
    // MARK: Taking change sets

    /// Checks that whoever orders rows to be erased may do so.
    func checkErasures(in set: IncomingChangeSet, from source: ChangeSource) throws {
        guard source == .child, set.reader.blocks.contains(where: \.erasesRows) else { return }
        throw Refusal(
            .invalidChange,
            "Change set \(set.reader.header.id) erases rows, which only head office may order."
        )
    }

    /// The chain after a change set: computed from its content, or, when rows of it were erased, signed.
    func provedChain(of set: IncomingChangeSet, after chain: ChangeChain) throws -> ChangeChain {
        guard let redaction = set.redaction else { return chain.appending(content: set.content) }
        let id = set.reader.header.id
        guard let key = try organisationKey() else {
            throw Refusal(
                .retryLater,
                "Rows of change set \(id) were erased, and this node does not know yet how head office signs. "
                    + "Nothing of it was taken; synchronise again."
            )
        }
        let statement = Redaction.statement(of: id, chain: redaction.chain, content: set.content)
        guard key.hasSigned(statement, signature: redaction.signature) else {
            throw Refusal(
                .invalidChange,
                "What is left of change set \(id), of which rows were erased, is not signed by head office."
            )
        }
        return redaction.chain
    }

    /// What the log keeps of a change set that has just been merged, without its writes to erased rows, which
    /// are counted; nil when there were none.
    func withoutErased(_ set: IncomingChangeSet, chain: ChangeChain) throws -> (body: [UInt8], rows: Int)? {
        var dropped: [Int: Set<Int64>] = [:]
        var count = 0
        for merge in openMerges {
            let rows = merge.takeDropped()
            if rows.isEmpty { continue }
            count += rows.count
            dropped[merge.table.number] = Set(rows)
        }
        guard count > 0 else { return nil }
        try note(.erasedDropped, (fact(.erasedDropped) ?? 0) + Int64(count))
        return try redacted(set.reader, id: set.reader.header.id, chain: chain, without: dropped)
    }

    /// Notes that head office has to sign what is left of a log row. Head office has.
    func noteUnsigned(position: UInt64) throws {
        guard node.role != .headOffice else { return }
        try db.cachedStatement(sql: "INSERT OR IGNORE INTO unsignedBody VALUES (?)")
            .execute(arguments: [Int64(clamping: position)])
    }

    /// At head office: notes a row that has arrived and belongs to an erased one. It is erased too, in the same
    /// transaction, since nobody who ordered the erasure could know of it.
    func noteChildOfErased(_ row: ChangeCursor, of table: TableDescription) throws {
        guard node.role == .headOffice, row.operation.leavesAlive, !table.owners.isEmpty, try hasErased() else {
            return
        }
        for owner in table.owners where row.columns.contains(column: owner.column) {
            guard case .integer(let id) = row[owner.column], let parent = schema.table(named: owner.table),
                try merge(of: parent).isErased(id)
            else { continue }
            erasing.lateChildren[table.number, default: []].insert(row.id)
        }
    }

    private func hasErased() throws -> Bool {
        if let known = erasing.hasErased { return known }
        let found = try Bool.fetchOne(db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM erasure)")) ?? false
        erasing.hasErased = found
        return found
    }

    /// At head office: orders the erasure of what came too late to be part of an order, and of entries of the list of
    /// conflicts about what is erased. A head office that was put back may have made such entries before its order came
    /// back, which does not name them. Whatever else belongs to erased rows stays: an order may have left it.
    private func eraseLate() throws {
        guard node.role == .headOffice else { return }
        let children = erasing.lateChildren
        erasing.lateChildren = [:]
        var erased: [Int: Set<Int64>] = [:]
        for merge in openMerges where merge.hasErased { erased[merge.table.number] = Set(merge.erased) }
        let reader = ReplicaReader(db, schema: schema)
        var late: [Int: Set<Int64>] = [:]
        if !children.isEmpty {
            for (table, ids) in try reader.belongings(of: children) { late[table.number] = Set(ids.map(\.rawValue)) }
        }
        late[TableDescription.conflict.number, default: []].formUnion(try reader.conflicts(about: erased))
        var draft = ChangeDraft(spareRows)
        var stamp: Stamp?
        for table in schema.tables {
            guard let ids = late[table.number] else { continue }
            let merge = try merge(of: table)
            for number in ids.sorted() where try !merge.isErased(number) {
                guard let id = RowID(rawValue: number) else { continue }
                let now = try stamp ?? Stamp(time: tick(), origin: node.origin)
                stamp = now
                try merge.apply(RowWrite(id: number, operation: .erase, columns: [], stamp: now), NoFields())
                draft.add(RowChange(id: id, operation: .erase, columns: [], values: []), to: table)
            }
        }
        if let stamp { try appendOwn(draft, time: stamp.time) }
    }

    // MARK: Ending a transaction

    /// Takes whatever the present transaction has erased out of the rest of the file as well.
    func completeErasures() throws {
        // What is erased only now was written in this transaction.
        let isOrdered = openMerges.contains(where: \.hasErased)
        try eraseLate()
        var rows: [Int: Set<Int64>] = [:]
        for merge in openMerges {
            let erased = merge.takeErased()
            // Own writes cannot meet an erased row; what another program did was dropped when it was sealed.
            _ = merge.takeDropped()
            if erased.isEmpty { continue }
            rows[merge.table.number] = Set(erased)
            for id in erased { try forget(id, of: merge.table) }
        }
        guard !rows.isEmpty else { return }
        erasing.hasErased = true
        searchedContent = nil
        try redactLog(without: rows, after: isOrdered ? 0 : erasing.logEnd)
        try note(.scrubDue, 1)
        try db.cachedStatement(
            sql: """
                INSERT INTO erasure VALUES (?, ?, ?)
                ON CONFLICT(position) DO UPDATE SET rows = rows + excluded.rows
                """
        ).execute(arguments: [
            Int64(clamping: end.position), Int64(clamping: wallClock()),
            rows.values.reduce(0) { $0 + $1.count },
        ])
    }

    /// What this node keeps of a row outside its table, graveyard and log.
    private func forget(_ id: Int64, of table: TableDescription) throws {
        try db.cachedStatement(sql: "DELETE FROM \(table.before) WHERE id = ?").execute(arguments: [id])
        try db.cachedStatement(sql: "DELETE FROM pending WHERE tableNumber = ? AND id = ?")
            .execute(arguments: [table.number, id])
        try forgetParked(RowKey(table: table.number, id: id))
        for notes in ["importedField", "importedOriginal"] {
            try db.cachedStatement(sql: "DELETE FROM \(notes) WHERE tableNumber = ? AND id = ?")
                .execute(arguments: [table.number, id])
        }
        if table.number == TableDescription.customer.number {
            try removeFromSearch(id)
            try removeFromMatching(id)
        }
        try judge?.forget(ConflictJudge.RowKey(table: table.number, row: id))
    }

    /// Takes the writes of rows out of all bodies of the log.
    ///
    /// Cost: reads the whole log, since nothing tells which change sets wrote a row. Orders to erase are rare,
    /// and several that arrive together cost one reading.
    ///
    /// What this node has written and head office has not taken yet stays: head office must get it whole, to see
    /// that it continues the node's history. It is redacted when head office has it.
    private func redactLog(without rows: [Int: Set<Int64>], after start: UInt64) throws {
        if isPlanted(.erasureLeavesLog) { return }
        let acceptedSeq = try Int64.fetchOne(db.cachedStatement(sql: "SELECT acceptedSeq FROM localContact")) ?? 0
        let decompressor = ZstdDecompressor()
        var found: [UInt64] = []
        let cursor = try Row.fetchCursor(
            db,
            sql:
                "SELECT position, origin, seq, body FROM log WHERE position > ? AND body IS NOT NULL ORDER BY position",
            arguments: [Int64(clamping: start)]
        )
        while let row = try cursor.next() {
            let position = UInt64(bitPattern: row[0] as Int64)
            let isFound = try Replica.withContent(of: row[3], position: position, decompressor) { reader in
                reader.blocks.contains { block in
                    rows[block.number].map { block.writesRow(in: $0) } ?? false
                }
            }
            if isFound { found.append(position) }
        }
        for position in found {
            try noteUnsigned(position: position)
            let own = try Bool.fetchOne(
                db.cachedStatement(sql: "SELECT origin = ? AND seq > ? FROM log WHERE position = ?"),
                arguments: [node.origin.rawValue, acceptedSeq, Int64(clamping: position)]
            )
            if node.role == .branch, own == true { continue }
            try redactLogRow(at: position, decompressor)
        }
    }

    /// Takes the writes of rows that are erased by now out of one body of the log.
    func redactLogRow(at position: UInt64, _ decompressor: ZstdDecompressor) throws {
        let row = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT origin, seq, chain, body FROM log WHERE position = ?"),
            arguments: [Int64(clamping: position)]
        )
        guard let row, let origin = Origin(rawValue: row[0]), let chain = ChangeChain(bytes: [UInt8](row[2] as Data))
        else { throw StoreFailure.damagedLog(position: position, reason: "It has no origin, or no chain.") }
        let id = ChangeSetID(origin: origin, seq: UInt64(clamping: row[1] as Int64))
        let kept = try Replica.withContent(of: row[3], position: position, decompressor) { reader in
            var erased: [Int: Set<Int64>] = [:]
            for block in reader.blocks {
                guard let table = schema.table(number: block.number) else { continue }
                let merge = try merge(of: table)
                var cursor = block.makeCursor()
                while cursor.advance() {
                    if try merge.isErased(cursor.id) { erased[block.number, default: []].insert(cursor.id) }
                }
            }
            return try redacted(reader, id: id, chain: chain, without: erased)
        }
        try db.cachedStatement(sql: "UPDATE log SET body = ?, rows = ? WHERE position = ?")
            .execute(arguments: [Data(kept.body), kept.rows, Int64(clamping: position)])
    }

    /// The stored form of what is left of a change set; signed at head office.
    private func redacted(
        _ reader: ChangeSetReader,
        id: ChangeSetID,
        chain: ChangeChain,
        without rows: [Int: Set<Int64>]
    ) throws -> (body: [UInt8], rows: Int) {
        let left = ChangeSet(reader).without(rows)
        let content: [UInt8]
        do {
            content = try left.content()
        } catch {
            throw StoreFailure.changeSet(error)
        }
        let statement = content.withUnsafeBytes { Redaction.statement(of: id, chain: chain, content: $0) }
        let signature = node.role == .headOffice ? try organisationKey()?.sign(statement) : nil
        return (
            StoredContent.redacted(compressed(content), Redaction(chain: chain, signature: signature)),
            left.tables.reduce(0) { $0 + $1.rows.count }
        )
    }
}
