import Causality
import SyncProtocol

// A snapshot in a file, for a branch whose line is slow or missing. `v` is a LEB128 number.
//
//   bytes  content
//   16     "peyvand snapshot"
//   ...    records, each: kind 1, length 4 (little-endian), content,
//          checksum 8: the first 8 bytes of the SHA-256 of kind, length and content
//
//   kind 1, the first: format 1 (1), organisation 16, head office's node 16, the head of the snapshot
//   kind 2: table v, identifier v after which the piece begins, the piece
//   kind 3, the last: the SHA-256 of everything before this record

/// Why a snapshot could not be written to a file, or taken out of one. Nothing was changed then.
package enum SnapshotFileFailure: Error, Hashable, Sendable, CustomStringConvertible {
    case notHeadOffice
    case notBranch
    case notReadable(String, reason: String)
    case notWritable(String, reason: String)
    case notASnapshot(String)
    case newerFormat(String, format: UInt8)
    case damaged(String, offset: Int)
    case cut(String, bytes: Int)
    case otherOrganisation(String)
    case nothingNew(String, position: UInt64, cursor: UInt64)

    package var description: String {
        switch self {
        case .notHeadOffice: "Only head office writes a snapshot; run this on head office's directory."
        case .notBranch: "This node is head office, where every snapshot comes from. Read the file at a branch."
        case .notReadable(let path, let reason): "\(path) cannot be read: \(reason). Check the name and its owner."
        case .notWritable(let path, let reason): "\(path) cannot be written: \(reason). Nothing is left of it."
        case .notASnapshot(let path): "\(path) is no file that `peyvand bundle write` has written."
        case .newerFormat(let path, let format):
            "\(path) has format \(format), which this program does not know. Upgrade this node first."
        case .damaged(let path, let offset):
            "\(path) is damaged at byte \(offset). Nothing was taken from it; copy it again."
        case .cut(let path, let bytes):
            "\(path) ends after \(bytes) bytes, before its end mark. Nothing was taken from it; copy it again."
        case .otherOrganisation(let path):
            "\(path) belongs to another organisation or another head office. Nothing was taken from it."
        case .nothingNew(let path, let position, let cursor):
            "\(path) begins at position \(position) of head office's log; this node has taken everything up to "
                + "\(cursor) already. There is nothing in it for this node."
        }
    }
}

/// What a snapshot's file has moved.
package struct SnapshotFileReport: Hashable, Sendable {
    package let rows: Int
    package let bytes: Int
    /// Where in head office's log the snapshot begins.
    package let position: UInt64
}

private enum SnapshotFileFormat {
    static let magic = Array("peyvand snapshot".utf8)
    static let version: UInt8 = 1
}

extension Replica {
    /// Writes a snapshot of all rows into a file, which appears under its name when it is whole.
    ///
    /// - Parameter progress: Is told the rows written so far, and about how many there will be.
    package func writeSnapshot(
        to path: String,
        progress: (Int, Int) throws -> Void
    ) throws -> SnapshotFileReport {
        guard node.role == .headOffice, let organisation = node.organisation else {
            throw SnapshotFileFailure.notHeadOffice
        }
        let head = try beginSnapshot(for: nil)
        let total = Int(clamping: head.tables.reduce(0) { $0 &+ $1.rows })
        let file = try RecordFileWriter(path, SnapshotFileFormat.magic)
        do {
            try file.write(.head, [SnapshotFileFormat.version] + organisation + node.node + head.encoded())
            var rows = 0
            let decompressor = ZstdDecompressor()
            for table in head.tables {
                var after: Int64 = 0
                while true {
                    let place = SnapshotPlace(start: head.start, table: table.number, afterID: after)
                    let piece = try snapshotPiece(at: place, for: nil)
                    guard case .rows(let lastID, let isTableEnd, let states) = piece else {
                        throw StoreFailure.database(
                            "The log was trimmed while the snapshot was written. Write it again."
                        )
                    }
                    var record = ByteWriter(capacity: states.count + 32)
                    record.varint(UInt64(table.number))
                    record.varint(UInt64(after))
                    record.raw(piece.encoded())
                    try file.write(.piece, record.bytes)
                    rows += try states.withUnsafeBytes {
                        try RowStatesReader($0, decompressor: decompressor).rowCount
                    }
                    try progress(rows, total)
                    if isTableEnd { break }
                    after = lastID
                }
            }
            let bytes = try file.finish()
            return SnapshotFileReport(rows: rows, bytes: bytes, position: head.start.position)
        } catch {
            file.abandon()
            throw error
        }
    }

    /// Takes a snapshot out of a file. The whole file is checked before anything is taken; cut off half way,
    /// reading the same file again goes on where it was.
    ///
    /// - Parameter progress: Is told the rows taken so far, and about how many there will be.
    package func readSnapshot(
        from path: String,
        progress: (Int, Int) throws -> Void
    ) throws -> SnapshotFileReport {
        let node = self.node
        // Whatever node this is: first of all the file must be one of these.
        let file = try RecordFileReader(path, SnapshotFileFormat.magic)
        try file.rewind()
        guard node.role == .branch else { throw SnapshotFileFailure.notBranch }
        guard node.isJoined, let organisation = node.organisation, let hub = node.hub?.node else {
            throw StoreFailure.notJoined
        }
        try file.checkAll()
        let head = try file.head(organisation: organisation, hub: hub)
        let cursor = try withWriterState { $0.cursor }
        let isLoading = try withWriter { try SnapshotLoad.read($0.db) != nil }
        guard isLoading || head.start.position > cursor.position else {
            throw SnapshotFileFailure.nothingNew(path, position: head.start.position, cursor: cursor.position)
        }
        var load = try beginLoading(head)
        var rows = 0
        try file.eachPiece { table, after, piece in
            guard let now = load, case .rows(let lastID, let isTableEnd, let states) = piece else { return }
            // What came before, by this file or by the line, is not taken again.
            guard table == now.table, isTableEnd || lastID > now.afterID else { return }
            guard after <= now.afterID else {
                throw SnapshotFileFailure.damaged(path, offset: file.offset)
            }
            load = try takePiece(at: now.place, lastID: lastID, isTableEnd: isTableEnd, states)
            rows = load?.rows ?? rows
            try progress(rows, now.progress.total)
        }
        guard load == nil else { throw SnapshotFileFailure.damaged(path, offset: file.offset) }
        return SnapshotFileReport(rows: rows, bytes: file.offset, position: head.start.position)
    }
}

extension RecordFileReader {
    /// What the snapshot begins with.
    fileprivate func head(organisation: [UInt8], hub: [UInt8]) throws -> SnapshotHead {
        try rewind()
        guard let record = try next(), let format = record.content.first, record.content.count > 33 else {
            throw SnapshotFileFailure.damaged(path, offset: offset)
        }
        guard format == SnapshotFileFormat.version else {
            throw SnapshotFileFailure.newerFormat(path, format: format)
        }
        guard Array(record.content[1..<17]) == organisation, Array(record.content[17..<33]) == hub else {
            throw SnapshotFileFailure.otherOrganisation(path)
        }
        return try decoding { try Array(record.content[33...]).withUnsafeBytes { try SnapshotHead($0) } }
    }

    fileprivate func eachPiece(_ body: (_ table: Int, _ after: Int64, SnapshotPiece) throws -> Void) throws {
        try rewind()
        while let record = try next() {
            guard record.kind == .piece else { continue }
            let (table, after, piece) = try decoding {
                try record.content.withUnsafeBytes { bytes in
                    var reader = ByteReader(bytes)
                    let table = Int(try reader.varint(max: UInt64(Int32.max)))
                    let after = Int64(try reader.varint(max: UInt64(Int64.max)))
                    return (table, after, try SnapshotPiece(try reader.raw(reader.remaining)))
                }
            }
            try body(table, after, piece)
        }
    }

    private func decoding<Result>(_ body: () throws -> Result) throws -> Result {
        do { return try body() } catch is MalformedBytes {
            throw SnapshotFileFailure.damaged(path, offset: offset)
        }
    }
}
