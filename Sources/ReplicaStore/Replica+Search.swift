import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// Full-text search over customers. The index follows the log: it remembers up to which position it knows, and
// reads which rows the change sets after that have touched. So nothing is added to the cost of a merge.
//
// `customerSearch` holds `PersianText.key` of the words, `customerSearchJoined` the same without spaces, cut
// into groups of three letters, so that a piece of a name is found however it is spaced.

extension Replica {
    /// The columns that are searched.
    private static let searchedColumns = [
        "name", "givenName", "familyName", "title", "nationalCode", "legalId", "mobile", "phone", "email", "city",
        "street", "postalCode", "note", "externalKey",
    ]
    /// What is followed in one transaction, so that others need not wait long.
    private static let changeSetsPerPiece = 1000

    /// Finds customers whose words begin with the words of a text, best first; when there are none, customers in
    /// whose names the text stands anywhere.
    ///
    /// - Parameter progress: Told how many customers were indexed so far, when much was written since the last search.
    package func findCustomers(
        _ text: String,
        limit: Int,
        progress: (Int) throws -> Void = { _ in }
    ) throws -> [RowID] {
        try followLogForSearch(progress: progress)
        let words = PersianText.key(text).split(separator: " ").map { "\"\($0)\"*" }
        guard !words.isEmpty else { return [] }
        return try read { reader in
            let found = try Int64.fetchAll(
                reader.db.cachedStatement(
                    sql: "SELECT rowid FROM customerSearch WHERE customerSearch MATCH ? ORDER BY rank, rowid LIMIT ?"
                ),
                arguments: [words.joined(separator: " "), limit]
            )
            let joined = PersianText.joined(text)
            guard found.isEmpty, joined.count >= 3 else { return found.compactMap(RowID.init(rawValue:)) }
            return try Int64.fetchAll(
                reader.db.cachedStatement(
                    sql: """
                        SELECT rowid FROM customerSearchJoined WHERE customerSearchJoined MATCH ?
                        ORDER BY rank, rowid LIMIT ?
                        """
                ),
                arguments: ["\"\(joined)\"", limit]
            ).compactMap(RowID.init(rawValue:))
        }
    }

    /// Brings the index towards the end of the log, piece by piece, so that nobody waits long for the writer.
    ///
    /// - Returns: Whether it is there.
    @discardableResult
    package func followLogForSearch(
        piecesMax: Int = .max,
        progress: (Int) throws -> Void = { _ in }
    ) throws -> Bool {
        try sealForeignWrites()
        var indexed = 0
        for _ in 0..<piecesMax {
            if indexed > 0 { try progress(indexed) }
            let isDone = try withWriter { writer in
                let start = ContinuousClock.now
                if try writer.fact(.searchedCustomer) != nil {
                    let count = try writer.transaction {
                        try indexNextCustomers(writer, customersMax: searchPace.withLock { $0.units })
                    }
                    searchPace.withLock { $0.took(ContinuousClock.now - start, for: count) }
                    indexed += count
                    return false
                }
                guard var reached = try SearchPosition.read(writer.db), reached.position < writer.end.position else {
                    writer.searchedContent = nil
                    return true
                }
                let count = try writer.transaction {
                    let count = try followLog(writer, from: &reached, customersMax: searchPace.withLock { $0.units })
                    try reached.save(writer.db)
                    return count
                }
                searchPace.withLock { $0.took(ContinuousClock.now - start, for: count) }
                indexed += count
                return false
            }
            if isDone { return true }
        }
        return false
    }

    /// Follows some change sets, or a part of one, until they have touched enough customers.
    ///
    /// - Returns: How many.
    private func followLog(
        _ writer: ReplicaWriter,
        from reached: inout SearchPosition,
        customersMax: Int
    ) throws -> Int {
        let decompressor = ZstdDecompressor()
        let rows = try Row.fetchCursor(
            writer.db,
            sql: """
                SELECT position, CASE WHEN length(body) <= ? THEN body END, length(body) FROM log
                WHERE position > ? ORDER BY position LIMIT ?
                """,
            arguments: [LogBody.pieceBytes, Int64(clamping: reached.position), Self.changeSetsPerPiece]
        )
        var touched: Set<Int64> = []
        while touched.count < customersMax, let row = try rows.next() {
            let position = UInt64(bitPattern: row[0] as Int64)
            guard row[2] as Int? != nil else {
                // Let go of since, so everything in it was indexed, or came again with a snapshot.
                reached = SearchPosition(position: position, customer: 0)
                continue
            }
            let isLarge = (row[2] as Int? ?? 0) > LogBody.pieceBytes
            let isWhole = try withContent(of: row[1], isLarge: isLarge, position, decompressor, writer) { reader in
                for block in reader.blocks where block.number == TableDescription.customer.number {
                    // Rows come by identifier, so the last one tells where to go on.
                    var cursor = block.makeCursor()
                    while cursor.advance() {
                        guard cursor.id > reached.customer else { continue }
                        guard touched.count < customersMax else { return false }
                        touched.insert(cursor.id)
                        reached.customer = cursor.id
                    }
                }
                return true
            }
            guard isWhole else { break }
            reached = SearchPosition(position: position, customer: 0)
        }
        for id in touched.sorted() { try indexForSearch(id, writer) }
        return touched.count
    }

    /// Indexes all customers again, some at a time: rows that came in beside the log are in no change set here.
    private func indexNextCustomers(_ writer: ReplicaWriter, customersMax: Int) throws -> Int {
        let customer = TableDescription.customer
        let ids = try Int64.fetchAll(
            writer.db,
            sql: """
                SELECT id FROM \(customer.name) WHERE id > ?1 UNION ALL
                SELECT id FROM \(customer.graveyard) WHERE id > ?1 ORDER BY id LIMIT ?2
                """,
            arguments: [try writer.fact(.searchedCustomer) ?? 0, customersMax]
        )
        for id in ids { try indexForSearch(id, writer) }
        try writer.note(.searchedCustomer, ids.last)
        return ids.count
    }

    /// Puts a customer into the index as it is now; a deleted one leaves it.
    func indexForSearch(_ id: Int64, _ writer: ReplicaWriter) throws {
        let db = writer.db
        try writer.removeFromSearch(id)
        let columns = Self.searchedColumns.map(\.quotedName).joined(separator: ", ")
        let select = try db.cachedStatement(sql: "SELECT \(columns) FROM customer WHERE id = ?")
        guard let row = try Row.fetchOne(select, arguments: [id]) else { return }
        let texts = (0..<Self.searchedColumns.count).compactMap { row[$0] as String? }
        guard !texts.isEmpty else { return }
        try db.cachedStatement(sql: "INSERT INTO customerSearch(rowid, words) VALUES (?, ?)")
            .execute(arguments: [id, texts.map(PersianText.key).joined(separator: " ")])
        let names = (0..<4).compactMap { row[$0] as String? }
        try db.cachedStatement(sql: "INSERT INTO customerSearchJoined(rowid, joined) VALUES (?, ?)")
            .execute(arguments: [id, names.map(PersianText.joined).joined(separator: " ")])
    }

    /// Reads the change set in a log row. A large one, which takes many pieces to follow, stays open until then.
    func withContent<Result>(
        of body: Data?,
        isLarge: Bool,
        _ position: UInt64,
        _ decompressor: ZstdDecompressor,
        _ writer: ReplicaWriter,
        _ read: (ChangeSetReader) throws -> Result
    ) throws -> Result {
        guard isLarge else {
            writer.searchedContent = nil
            return try Self.withContent(of: body, position: position, decompressor, read)
        }
        do {
            if writer.searchedContent?.position != position {
                let log = try LogBody(at: Int64(bitPattern: position), writer.db)
                let content = try log.content(decompressor, scratch: spool.directory)
                writer.searchedContent = (position, content, try ChangeSetReader(content.bytes))
            }
        } catch let failure as ChangeSetFailure {
            throw StoreFailure.damagedLog(position: position, reason: "\(failure)")
        } catch let refusal as Refusal {
            throw StoreFailure.damagedLog(position: position, reason: refusal.sentence)
        }
        guard let open = writer.searchedContent else { preconditionFailure("It was opened just now") }
        return try read(open.reader)
    }

    /// Reads the change set in a log row.
    static func withContent<Result>(
        of body: Data?,
        position: UInt64,
        _ decompressor: ZstdDecompressor,
        _ read: (ChangeSetReader) throws -> Result
    ) throws -> Result {
        guard let body, let body = StoredContent([UInt8](body)) else {
            throw StoreFailure.damagedLog(position: position, reason: "Its body is missing.")
        }
        do {
            let content = try body.content(decompressor)
            return try content.withUnsafeBytes { try read(ChangeSetReader($0)) }
        } catch let failure as ZstdFailure {
            throw StoreFailure.damagedLog(position: position, reason: "\(failure)")
        } catch let failure as ChangeSetFailure {
            throw StoreFailure.damagedLog(position: position, reason: "\(failure)")
        }
    }
}

extension ReplicaWriter {
    /// Takes a customer out of the index, if it is there.
    func removeFromSearch(_ id: Int64) throws {
        try db.cachedStatement(sql: "DELETE FROM customerSearch WHERE rowid = ?").execute(arguments: [id])
        try db.cachedStatement(sql: "DELETE FROM customerSearchJoined WHERE rowid = ?").execute(arguments: [id])
    }
}

/// How far the index has followed the log.
private struct SearchPosition {
    var position: UInt64
    /// Of the change set after ``position``, the last customer that is indexed; 0 for none.
    var customer: Int64

    static func read(_ db: Database) throws -> SearchPosition? {
        try Row.fetchOne(db.cachedStatement(sql: "SELECT position, customer FROM searchState")).map {
            SearchPosition(position: UInt64(bitPattern: $0[0] as Int64), customer: $0[1])
        }
    }

    func save(_ db: Database) throws {
        try db.cachedStatement(sql: "UPDATE searchState SET position = ?, customer = ?").execute(arguments: [
            Int64(clamping: position), customer,
        ])
    }
}
