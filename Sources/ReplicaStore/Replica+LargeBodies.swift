import Causality
import Crypto
import Foundation
import GRDB
import GRDBSQLite
import SyncProtocol

// Change sets that do not fit a batch: read from the log and written to it in pieces, so that no session ever holds
// one in memory.

extension Replica {
    /// Where large change sets arrive.
    var spool: Spool { Spool(directory: directory + "/spool") }

    /// Reads a part of a change set that is too large for one message.
    package func readPart(_ request: PartRequest) throws(SyncStoreFailure) -> [UInt8] {
        try throwingStoreFailure {
            try self.readState { db in
                let id = request.body.id
                let row = try Row.fetchOne(
                    db.cachedStatement(sql: "SELECT position, length(body) FROM log WHERE origin = ? AND seq = ?"),
                    arguments: [Int64(id.origin.rawValue), Int64(clamping: id.seq)]
                )
                guard let row, row[1] as Int? == request.body.byteCount else {
                    throw StoreFailure.database("The body of change set \(id) has changed while it was being sent.")
                }
                let blob = try LogBody(at: row[0], db)
                return try blob.read(at: request.offset, count: min(request.bytesMax, blob.count - request.offset))
            }
        }
    }

    /// Makes room for a large change set, and says how many bytes of it are here already.
    package func openSpool(for body: LargeBody, from peer: SyncPeer) throws(SyncStoreFailure) -> Int {
        try throwingStoreFailure {
            // What is held as a change set is not needed again.
            if try self.holds(body.id) { return body.byteCount }
            return try self.spool.open(body)
        }
    }

    /// Keeps a part of a large change set, and says how many bytes are here now.
    package func spool(
        _ part: [UInt8],
        at offset: Int,
        of body: LargeBody,
        from peer: SyncPeer
    ) throws(SyncStoreFailure) -> Int {
        try throwingStoreFailure { try self.spool.append(part, at: offset, to: body) }
    }

    /// Whether this node holds a change set.
    func holds(_ id: ChangeSetID) throws -> Bool {
        try read { reader in
            let seq = try Int64.fetchOne(
                reader.db.cachedStatement(sql: "SELECT seq FROM heldSeq WHERE origin = ?"),
                arguments: [id.origin.rawValue]
            )
            return id.seq <= UInt64(clamping: seq ?? 0)
        }
    }

    /// The name of a body in this node's log, for sending it in parts.
    static func largeBody(_ id: ChangeSetID, at position: Int64, _ db: Database) throws -> LargeBody {
        let blob = try LogBody(at: position, db)
        var hash = SHA256()
        var offset = 0
        while offset < blob.count {
            let piece = try blob.read(at: offset, count: min(LogBody.pieceBytes, blob.count - offset))
            hash.update(data: piece)
            offset += piece.count
        }
        return LargeBody(id: id, byteCount: blob.count, hash: Array(hash.finalize()))
    }
}

/// The body of one row of the log, opened for reading or writing in pieces.
final class LogBody {
    /// How much is in memory at a time.
    static let pieceBytes = 1 << 20

    let count: Int
    private let blob: OpaquePointer
    private let connection: OpaquePointer

    /// - Throws: `DatabaseError` when there is no such row, or it has no body.
    init(at position: Int64, isWritable: Bool = false, _ db: Database) throws {
        guard let connection = db.sqliteConnection else {
            throw DatabaseError(resultCode: .SQLITE_MISUSE, message: "The connection is closed")
        }
        var blob: OpaquePointer?
        let code = sqlite3_blob_open(connection, "main", "log", "body", position, isWritable ? 1 : 0, &blob)
        guard code == SQLITE_OK, let blob else {
            throw DatabaseError(
                resultCode: ResultCode(rawValue: code),
                message: String(cString: sqlite3_errmsg(connection))
            )
        }
        self.blob = blob
        self.connection = connection
        count = Int(sqlite3_blob_bytes(blob))
    }

    deinit { sqlite3_blob_close(blob) }

    /// Reads some bytes, which must be there.
    func read(at offset: Int, count: Int) throws -> [UInt8] {
        guard offset >= 0, count > 0, offset + count <= self.count else {
            throw DatabaseError(resultCode: .SQLITE_MISUSE, message: "Not a part of the body")
        }
        var code = SQLITE_OK
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            code = sqlite3_blob_read(blob, buffer.baseAddress, Int32(count), Int32(offset))
            initialized = code == SQLITE_OK ? count : 0
        }
        try check(code)
        return bytes
    }

    /// The content of the change set, looked at in a file.
    func content(_ decompressor: ZstdDecompressor, scratch: String) throws -> ContentStorage {
        let file = try MappedFile(scratchIn: scratch, byteCount: count) { memory in
            var offset = 0
            while offset < self.count {
                let piece = min(Self.pieceBytes, self.count - offset)
                try check(
                    sqlite3_blob_read(blob, memory.baseAddress?.advanced(by: offset), Int32(piece), Int32(offset))
                )
                offset += piece
            }
        }
        if file.bytes.first == StoredContent.redactedFirstByte, let left = StoredContent(Array(file.bytes)) {
            return left.isCompressed
                ? try left.stored.withUnsafeBytes {
                    try ContentStorage(decompressing: $0, decompressor, scratch: scratch)
                } : ContentStorage(copying: Array(left.stored))
        }
        return file.bytes.first == Replica.zstdFirstByte
            ? try ContentStorage(decompressing: file.bytes, decompressor, scratch: scratch) : ContentStorage(file)
    }

    /// Writes all of it.
    func write(_ bytes: UnsafeRawBufferPointer) throws {
        var offset = 0
        while offset < bytes.count {
            let piece = min(Self.pieceBytes, bytes.count - offset)
            try check(sqlite3_blob_write(blob, bytes.baseAddress?.advanced(by: offset), Int32(piece), Int32(offset)))
            offset += piece
        }
    }

    private func check(_ code: Int32) throws {
        guard code != SQLITE_OK else { return }
        throw DatabaseError(
            resultCode: ResultCode(rawValue: code),
            message: String(cString: sqlite3_errmsg(connection))
        )
    }
}
