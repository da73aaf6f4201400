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
                reader.db,
                sql: "SELECT rowid FROM customerSearch WHERE customerSearch MATCH ? ORDER BY rank, rowid LIMIT ?",
                arguments: [words.joined(separator: " "), limit]
            )
            let joined = PersianText.joined(text)
            guard found.isEmpty, joined.count >= 3 else { return found.compactMap(RowID.init(rawValue:)) }
            return try Int64.fetchAll(
                reader.db,
                sql: """
                    SELECT rowid FROM customerSearchJoined WHERE customerSearchJoined MATCH ?
                    ORDER BY rank, rowid LIMIT ?
                    """,
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
                guard var reached = try SearchPosition.read(writer.db), reached.position < writer.end.position else {
                    writer.searchedContent = nil
                    return true
                }
                let start = ContinuousClock.now
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
        for id in touched.sorted() { try index(id, writer) }
        return touched.count
    }

    /// Brings one customer's entry up to date, as part of the writer's transaction.
    func index(_ id: Int64, _ writer: ReplicaWriter) throws {
        let db = writer.db
        try db.cachedStatement(sql: "DELETE FROM customerSearch WHERE rowid = ?").execute(arguments: [id])
        try db.cachedStatement(sql: "DELETE FROM customerSearchJoined WHERE rowid = ?").execute(arguments: [id])
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
    private func withContent<Result>(
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
        guard let body, let first = body.first else {
            throw StoreFailure.damagedLog(position: position, reason: "Its body is missing.")
        }
        var content = [UInt8](body)
        do {
            if first == zstdFirstByte {
                content = try content.withUnsafeBytes {
                    try decompressor.decompress($0, sizeMax: ChangeSet.contentBytesMax)
                }
            }
            return try content.withUnsafeBytes { try read(ChangeSetReader($0)) }
        } catch let failure as ZstdFailure {
            throw StoreFailure.damagedLog(position: position, reason: "\(failure)")
        } catch let failure as ChangeSetFailure {
            throw StoreFailure.damagedLog(position: position, reason: "\(failure)")
        }
    }
}

/// How far the index has followed the log.
private struct SearchPosition {
    var position: UInt64
    /// Of the change set after ``position``, the last customer that is indexed; 0 for none.
    var customer: Int64

    static func read(_ db: Database) throws -> SearchPosition? {
        try Row.fetchOne(db, sql: "SELECT position, customer FROM searchState").map {
            SearchPosition(position: UInt64(bitPattern: $0[0] as Int64), customer: $0[1])
        }
    }

    func save(_ db: Database) throws {
        try db.execute(
            sql: "UPDATE searchState SET position = ?, customer = ?",
            arguments: [Int64(clamping: position), customer]
        )
    }
}
