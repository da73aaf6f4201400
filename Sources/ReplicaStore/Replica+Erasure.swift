import CRM
import Causality
import Foundation
import GRDB
import GRDBSQLite
import SyncProtocol

// Erasing a person's data: head office orders it, as an ordinary change set; every node obeys when it takes the
// order up; and afterwards the bytes leave its file.

/// One order to erase.
package struct ErasureOrder: Sendable {
    /// Where it stands in head office's log.
    package let position: UInt64
    /// Milliseconds since 1970-01-01 UTC.
    package let wallMilliseconds: UInt64
    package let rows: Int
    /// The nodes that have obeyed, and those that have not said so yet.
    package let done: [String]
    package let waiting: [String]
}

/// What an order has erased.
package struct Erasure: Sendable {
    /// Nil when there was nothing to erase.
    package let position: UInt64?
    /// How many rows of each table.
    package let rows: [(table: String, count: Int)]
}

extension ReplicaReader {
    /// Rows, and everything that belongs to them, alive or deleted: what is erased together.
    ///
    /// A row belongs to the rows that its required references name.
    func belongings(of roots: [Int: Set<Int64>]) throws -> [(table: TableDescription, ids: [RowID])] {
        var found = roots
        var fresh = roots
        while !fresh.isEmpty {
            var next: [Int: Set<Int64>] = [:]
            for table in schema.tables {
                for owner in table.owners {
                    guard let parents = schema.table(named: owner.table).flatMap({ fresh[$0.number] }) else { continue }
                    let values = parents.map { FieldValue.integer($0) }
                    for isDeleted in [false, true] {
                        let column = table.columns[owner.column].name
                        let rows = try identifiers(table, where: column, in: values, deleted: isDeleted)
                        for id in rows.values.joined() where !found[table.number, default: []].contains(id.rawValue) {
                            found[table.number, default: []].insert(id.rawValue)
                            next[table.number, default: []].insert(id.rawValue)
                        }
                    }
                }
            }
            fresh = next
        }
        found[TableDescription.conflict.number, default: []].formUnion(try conflicts(about: found))
        return ordered(found)
    }

    /// Rows by table and identifier.
    private func ordered(_ found: [Int: Set<Int64>]) -> [(table: TableDescription, ids: [RowID])] {
        schema.tables.compactMap { table in
            guard let ids = found[table.number], !ids.isEmpty else { return nil }
            return (table, ids.sorted().compactMap(RowID.init(rawValue:)))
        }
    }

    /// The losing writes that are listed of some rows: they hold values of them.
    func conflicts(about rows: [Int: Set<Int64>]) throws -> [Int64] {
        let conflicts = TableDescription.conflict
        var ids: [Int64] = []
        for (number, parents) in rows {
            guard let table = schema.table(number: number) else { continue }
            let values = parents.map { FieldValue.integer($0) }
            for isDeleted in [false, true] {
                for id in try identifiers(conflicts, where: "ofRow", in: values, deleted: isDeleted).values.joined() {
                    let row = try isDeleted ? deletedRow(conflicts, id: id) : row(conflicts, id: id)
                    if row?["tableName"] == .text(table.name) { ids.append(id.rawValue) }
                }
            }
        }
        return ids
    }

    /// The rows of all tables that were deleted before a moment, and the losing writes that are listed of them.
    fileprivate func deleted(before time: HybridTimestamp) throws -> [(table: TableDescription, ids: [RowID])] {
        var found: [Int: Set<Int64>] = [:]
        for table in schema.tables {
            found[table.number] = try Int64.fetchSet(
                db,
                sql: "SELECT id FROM \(table.graveyard) WHERE _time < ?",
                arguments: [Int64(clamping: time.packed)]
            )
        }
        found[TableDescription.conflict.number, default: []].formUnion(try conflicts(about: found))
        return ordered(found)
    }

    /// The rows of some customers in all tables, deleted ones too, by table and identifier.
    package func belongings(ofCustomers ids: [RowID]) throws -> [(row: StoredRow, isDeleted: Bool)] {
        var rows: [(StoredRow, Bool)] = []
        for (table, ids) in try belongings(of: [TableDescription.customer.number: Set(ids.map(\.rawValue))]) {
            for id in ids {
                if let row = try row(table, id: id) {
                    rows.append((row, false))
                } else if let row = try deletedRow(table, id: id) {
                    rows.append((row, true))
                }
            }
        }
        return rows
    }
}

extension Replica {
    /// At head office: erases records of customers with all that belongs to them, here now and everywhere at the next
    /// contact.
    package func erase(customers ids: [RowID]) throws -> Erasure {
        try erase { reader in
            for id in ids {
                let isKnown = try reader.row(.customer, id: id) != nil || reader.deletedRow(.customer, id: id) != nil
                guard isKnown else { throw try reader.absence(of: id, in: .customer) }
            }
            return try reader.belongings(of: [TableDescription.customer.number: Set(ids.map(\.rawValue))])
        }
    }

    /// The same for one record.
    package func erase(customer id: RowID) throws -> Erasure { try erase(customers: [id]) }

    /// At head office: erases the rows of all tables that were deleted before a moment.
    package func erase(deletedBefore milliseconds: UInt64) throws -> Erasure {
        try erase { try $0.deleted(before: HybridTimestamp(milliseconds: milliseconds)) }
    }

    private func erase(
        _ choose: (ReplicaReader) throws -> [(table: TableDescription, ids: [RowID])]
    ) throws -> Erasure {
        guard node.role == .headOffice else { throw StoreFailure.onlyHeadOfficeErases }
        let written = try write { transaction in
            let rows = try choose(transaction.reader)
            for (table, ids) in rows { try transaction.erase(table.name, ids: ids) }
            let counts = rows.filter { !$0.ids.isEmpty }.map { "\($0.ids.count) \($0.table.name)" }
            try transaction.audit(.erase, counts.joined(separator: ", "))
            return rows.map { (table: $0.table.name, count: $0.ids.count) }
        }
        _ = try scrubErased()
        return Erasure(position: written.position, rows: written.result)
    }

    /// How many writes to erased rows this node has dropped.
    package func erasedDropped() throws -> Int {
        try read { Int(clamping: try LocalFact.read(.erasedDropped, $0.db) ?? 0) }
    }

    /// The orders to erase that this node knows, newest first; at head office with who has obeyed.
    package func erasures() throws -> [ErasureOrder] {
        let nodes = node.role == .headOffice ? try registeredNodes() : []
        return try read { reader in
            let end = try Int64.fetchOne(reader.db.cachedStatement(sql: "SELECT max(position) FROM log")) ?? 0
            return try Row.fetchAll(
                reader.db.cachedStatement(
                    sql: "SELECT position, wallMilliseconds, rows FROM erasure ORDER BY position DESC"
                )
            ).map { row in
                let position = UInt64(clamping: row[0] as Int64)
                let has = { (node: RegisteredNodeState) in
                    UInt64(clamping: end) - min(node.behind, UInt64(clamping: end)) >= position
                }
                return ErasureOrder(
                    position: position,
                    wallMilliseconds: UInt64(clamping: row[1] as Int64),
                    rows: row[2],
                    done: nodes.filter(has).map(\.name),
                    waiting: nodes.filter { !has($0) }.map(\.name)
                )
            }
        }
    }

    // MARK: The bytes

    /// Makes what was erased leave the file: out of the search index, then by writing the file anew, then the
    /// write-ahead log is emptied. Nothing to do when nothing was erased since the last time.
    ///
    /// Writers wait meanwhile, about as long as copying the file takes.
    ///
    /// - Returns: Whether it is done. False when somebody reads an older state; to be tried again later.
    @discardableResult
    package func scrubErased() throws -> Bool {
        guard try read({ try LocalFact.read(.scrubDue, $0.db) }) != nil else { return true }
        spool.removeAll()
        return try withWriter { writer in
            let db = writer.db
            // While somebody reads an older state the write-ahead log would grow by the whole file with each try.
            guard Self.checkpoint(db, SQLITE_CHECKPOINT_TRUNCATE) == SQLITE_OK else { return false }
            try writer.transaction {
                // What was deleted from the index stays in it until its parts are merged.
                for index in ["customerSearch", "customerSearchJoined"] where !isPlanted(.erasureLeavesIndex) {
                    try db.execute(sql: "INSERT INTO \(index)(\(index)) VALUES ('optimize')")
                }
            }
            Failpoint.erasedFromTables.pass()
            // Free pages keep what they held, and pages in use keep, between their rows, copies of rows that have moved:
            // SQLite overwrites what is deleted, not what it leaves behind when it shares rows out among pages.
            try db.execute(sql: "VACUUM")
            guard Self.checkpoint(db, SQLITE_CHECKPOINT_TRUNCATE) == SQLITE_OK else { return false }
            try writer.transaction { try writer.note(.scrubDue, nil) }
            return true
        }
    }
}

// MARK: - Signatures of what is left

extension Replica {
    /// How many change sets are asked about at once.
    private static let idsMax = 1000

    /// A step of the consultation: has head office sign what is left of the change sets in this node's log of which
    /// rows were erased, so that they can be handed on if head office should lose its own.
    ///
    /// The question: number v, each: origin v, seq v. The answer: for each in turn 1 byte, 0 unknown or 1, then 64.
    func askForRedactions(_ occasion: ConsultationOccasion) throws -> SyncStep {
        guard case .during(.settled(_, let ownSeq, _)) = occasion else { return .goOn }
        return try askForRedactions(after: 0, ownSeq: ownSeq)
    }

    private func askForRedactions(after position: UInt64, ownSeq: UInt64) throws -> SyncStep {
        let isAny = try read { reader in
            try Bool.fetchOne(reader.db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM unsignedBody)")) ?? false
        }
        guard isAny else { return .goOn }
        let ids = try withWriter { writer in
            try writer.transaction { try writer.unsignedBodies(after: position, ownSeq: ownSeq, max: Self.idsMax) }
        }
        guard !ids.isEmpty else { return .goOn }
        var payload = ByteWriter(capacity: ids.count * 8)
        payload.varint(UInt64(ids.count))
        for id in ids {
            payload.varint(UInt64(id.origin.rawValue))
            payload.varint(id.seq)
        }
        return .ask(SyncQuestion(kind: QuestionKind.redactionSignatures.rawValue, payload: payload.bytes))
    }

    /// At head office: the signatures of what is left of change sets.
    func answerRedactions(_ question: SyncQuestion) throws -> SyncAnswer {
        let ids = try Self.identities(in: question)
        return try read { reader in
            var payload = ByteWriter(capacity: ids.count * (Redaction.signatureBytes + 1))
            for id in ids {
                let body = try Data.fetchOne(
                    reader.db.cachedStatement(sql: "SELECT body FROM log WHERE origin = ? AND seq = ?"),
                    arguments: [Int64(id.origin.rawValue), Int64(clamping: id.seq)]
                )
                let redaction = body.flatMap { StoredContent([UInt8]($0))?.redaction }
                let isSigned = redaction?.isSigned == true
                payload.byte(isSigned ? 1 : 0)
                if let redaction, isSigned { payload.raw(redaction.signature) }
            }
            return SyncAnswer(payload: payload.bytes)
        }
    }

    /// At a branch: keeps the signatures that fit, and asks for the next ones.
    func takeRedactions(_ answer: SyncAnswer, to question: SyncQuestion) throws -> SyncStep {
        let ids = try Self.identities(in: question)
        let signatures = try answer.payload.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            let signatures = try ids.map { _ in
                try reader.byte() == 0 ? nil : [UInt8](try reader.raw(Redaction.signatureBytes))
            }
            try reader.finish()
            return signatures
        }
        let last = try withWriter { writer in
            try writer.transaction {
                var last: UInt64 = 0
                for (id, signature) in zip(ids, signatures) {
                    last = max(last, try writer.sign(id, with: signature))
                }
                return last
            }
        }
        guard last > 0 else { return .goOn }
        return try askForRedactions(after: last, ownSeq: withWriterState { $0.vector[$0.node.origin]?.seq ?? 0 })
    }

    private static func identities(in question: SyncQuestion) throws -> [ChangeSetID] {
        do {
            return try question.payload.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                var ids: [ChangeSetID] = []
                for _ in 0..<(try reader.count(bytesEach: 2, max: idsMax)) {
                    let number = try reader.varint()
                    guard let origin = UInt32(exactly: number).flatMap(Origin.init(rawValue:)) else {
                        throw MalformedBytes.outOfRange("an origin of \(number)", offset: reader.offset)
                    }
                    ids.append(ChangeSetID(origin: origin, seq: try reader.varint()))
                }
                try reader.finish()
                return ids
            }
        } catch let failure as MalformedBytes {
            throw Refusal(.invalidChange, "A question about erased rows cannot be read. \(failure)")
        }
    }
}

extension ReplicaWriter {
    /// The change sets of this node's log whose remains are not signed, by position. Those of its own that head office
    /// has by now are redacted first.
    fileprivate func unsignedBodies(after position: UInt64, ownSeq: UInt64, max: Int) throws -> [ChangeSetID] {
        let rows = try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT log.position, origin, seq, body FROM unsignedBody JOIN log USING (position)
                    WHERE log.position > ? AND (origin <> ? OR seq <= ?) ORDER BY log.position LIMIT ?
                    """
            ),
            arguments: [Int64(clamping: position), node.origin.rawValue, Int64(clamping: ownSeq), max]
        )
        let decompressor = ZstdDecompressor()
        return try rows.compactMap { row in
            let position = UInt64(clamping: row[0] as Int64)
            guard let body = row[3] as Data?, let origin = Origin(rawValue: row[1]) else { return nil }
            if [UInt8](body).first != StoredContent.redactedFirstByte {
                try redactLogRow(at: position, decompressor)
                try note(.scrubDue, 1)
            }
            return ChangeSetID(origin: origin, seq: UInt64(clamping: row[2] as Int64))
        }
    }

    /// Keeps head office's signature of what is left of a change set, if it is one.
    ///
    /// - Returns: The position of the change set here; 0 when it is not here.
    fileprivate func sign(_ id: ChangeSetID, with signature: [UInt8]?) throws -> UInt64 {
        let row = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT position, body FROM log WHERE origin = ? AND seq = ?"),
            arguments: [Int64(id.origin.rawValue), Int64(clamping: id.seq)]
        )
        guard let row, let data = row[1] as Data?, let body = StoredContent([UInt8](data)),
            let chain = body.redaction?.chain
        else { return 0 }
        let position = UInt64(clamping: row[0] as Int64)
        guard let signature, let key = try organisationKey() else { return position }
        let content = try body.content(ZstdDecompressor())
        let statement = content.withUnsafeBytes { Redaction.statement(of: id, chain: chain, content: $0) }
        // What does not fit is asked again by the next session.
        guard key.hasSigned(statement, signature: signature) else { return position }
        try db.cachedStatement(sql: "UPDATE log SET body = ? WHERE position = ?").execute(arguments: [
            Data(StoredContent.redacted(Array(body.stored), Redaction(chain: chain, signature: signature))),
            Int64(clamping: position),
        ])
        try db.cachedStatement(sql: "DELETE FROM unsignedBody WHERE position = ?").execute(arguments: [
            Int64(clamping: position)
        ])
        return position
    }
}
