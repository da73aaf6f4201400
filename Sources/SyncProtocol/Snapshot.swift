import Causality

// A snapshot is fuzzy: its rows are read piece by piece while the hub goes on working, and joined into the
// receiver's rows. It begins with a place in the hub's log; whatever happened after that place comes by the log
// again, which changes nothing that a piece has brought already.
//
// `v` is a LEB128 number. Head, format 1:
//
//   bytes    content
//   1        format, 1
//   v, 8     position and digest of the place in the hub's log
//   v        greatest time at the hub
//   v        schema version of the hub
//   v        safe position of the hub
//   v        number of origins, ascending; each: origin v, seq v, chain 32
//   v        number of tables, ascending; each: number v, rows v
//
// Question for a piece: position v, digest 8, table v, identifier v after which it begins.
// Piece: status 1 (0 begin anew, 1 more rows follow in the table, 2 the table ends here), and unless it is 0:
// last identifier v, then the rows as `RowStates` puts them.

/// What a snapshot begins with.
package struct SnapshotHead: Hashable, Sendable {
    /// What of one origin is in the hub's log up to ``start``.
    package struct Progress: Hashable, Sendable {
        package let id: ChangeSetID
        package let chain: ChangeChain

        package init(id: ChangeSetID, chain: ChangeChain) {
            self.id = id
            self.chain = chain
        }
    }

    /// One table, and about how many rows of it will come.
    package struct Table: Hashable, Sendable {
        package let number: Int
        package let rows: UInt64

        package init(number: Int, rows: UInt64) {
            self.number = number
            self.rows = rows
        }
    }

    /// Everything up to here is in the rows; everything after it is in the hub's log.
    package var start: LogPrefix
    /// The greatest time at the hub when this was made.
    package var timeMax: HybridTimestamp
    package var schemaVersion: Int
    /// The hub's log is in a verified backup up to here.
    package var safePosition: UInt64
    /// Ascending by origin.
    package var progress: [Progress]
    /// Ascending by number.
    package var tables: [Table]

    package init(
        start: LogPrefix,
        timeMax: HybridTimestamp,
        schemaVersion: Int,
        safePosition: UInt64,
        progress: [Progress],
        tables: [Table]
    ) {
        self.start = start
        self.timeMax = timeMax
        self.schemaVersion = schemaVersion
        self.safePosition = safePosition
        self.progress = progress
        self.tables = tables
    }

    private static let format: UInt8 = 1

    /// The bytes, as the table above says.
    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 64 + progress.count * 40)
        writer.byte(Self.format)
        writer.varint(start.position)
        writer.fixed64(start.digest)
        writer.varint(timeMax.packed)
        writer.varint(UInt64(schemaVersion))
        writer.varint(safePosition)
        writer.varint(UInt64(progress.count))
        for origin in progress {
            writer.varint(UInt64(origin.id.origin.rawValue))
            writer.varint(origin.id.seq)
            writer.raw(origin.chain.bytes)
        }
        writer.varint(UInt64(tables.count))
        for table in tables {
            writer.varint(UInt64(table.number))
            writer.varint(table.rows)
        }
        return writer.bytes
    }

    /// - Throws: ``MalformedBytes`` for anything that ``encoded()`` would not write.
    package init(_ bytes: UnsafeRawBufferPointer) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        guard try reader.byte() == Self.format else { throw .outOfRange("format of a snapshot", offset: 0) }
        start = try reader.storedPrefix()
        guard let time = HybridTimestamp(packed: try reader.varint()) else {
            throw .outOfRange("time", offset: reader.offset)
        }
        timeMax = time
        schemaVersion = Int(try reader.varint(max: UInt64(Int32.max)))
        safePosition = try reader.varint(max: UInt64(Int64.max))
        progress = []
        for _ in 0..<(try reader.count(bytesEach: 34, max: Int(Origin.rawValueMax))) {
            let number = try reader.varint(max: UInt64(Origin.rawValueMax))
            let seq = try reader.varint(max: UInt64(Int64.max))
            guard let origin = Origin(rawValue: UInt32(number)), origin > progress.last?.id.origin ?? .none, seq > 0,
                let chain = ChangeChain(bytes: [UInt8](try reader.raw(ChangeChain.byteCount)))
            else { throw .outOfRange("origin", offset: reader.offset) }
            progress.append(Progress(id: ChangeSetID(origin: origin, seq: seq), chain: chain))
        }
        tables = []
        for _ in 0..<(try reader.count(bytesEach: 2)) {
            let number = Int(try reader.varint(max: UInt64(Int32.max)))
            guard number > tables.last?.number ?? 0 else { throw .outOfRange("table", offset: reader.offset) }
            tables.append(Table(number: number, rows: try reader.varint(max: UInt64(Int64.max))))
        }
        try reader.finish()
    }
}

/// Which piece of a snapshot is wanted.
package struct SnapshotPlace: Hashable, Sendable {
    /// The ``SnapshotHead/start`` of the snapshot that is being loaded.
    package var start: LogPrefix
    package var table: Int
    /// The piece begins after this identifier.
    package var afterID: Int64

    package init(start: LogPrefix, table: Int, afterID: Int64) {
        self.start = start
        self.table = table
        self.afterID = afterID
    }

    /// The form that travels in a question.
    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 32)
        writer.varint(start.position)
        writer.fixed64(start.digest)
        writer.varint(UInt64(table))
        writer.varint(UInt64(afterID))
        return writer.bytes
    }

    /// - Throws: ``MalformedBytes`` for anything that ``encoded()`` would not write.
    package init(_ bytes: UnsafeRawBufferPointer) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        start = try reader.storedPrefix()
        table = Int(try reader.varint(max: UInt64(Int32.max)))
        afterID = Int64(try reader.varint(max: UInt64(Int64.max)))
        try reader.finish()
    }
}

/// A piece of a snapshot.
package enum SnapshotPiece: Hashable, Sendable {
    /// The hub can no longer continue this snapshot from its log.
    case beginAnew
    /// Rows of one table up to an identifier, as `RowStates` puts them.
    case rows(lastID: Int64, isTableEnd: Bool, states: [UInt8])

    /// The form that travels in an answer.
    package func encoded() -> [UInt8] {
        guard case .rows(let lastID, let isTableEnd, let states) = self else { return [0] }
        var writer = ByteWriter(capacity: states.count + 16)
        writer.byte(isTableEnd ? 2 : 1)
        writer.varint(UInt64(lastID))
        writer.raw(states)
        return writer.bytes
    }

    /// - Throws: ``MalformedBytes`` for anything that ``encoded()`` would not write; the rows are not looked at.
    package init(_ bytes: UnsafeRawBufferPointer) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        switch try reader.byte() {
        case 0:
            try reader.finish()
            self = .beginAnew
        case let status where status <= 2:
            let lastID = Int64(try reader.varint(max: UInt64(Int64.max)))
            let states = [UInt8](try reader.raw(reader.remaining))
            self = .rows(lastID: lastID, isTableEnd: status == 2, states: states)
        default:
            throw .outOfRange("status of a piece", offset: 0)
        }
    }
}

extension ByteReader {
    /// Takes a number that must not exceed a maximum.
    package mutating func varint(max: UInt64) throws(MalformedBytes) -> UInt64 {
        let start = offset
        let value = try varint()
        guard value <= max else { throw .outOfRange("a number of \(value), at most \(max)", offset: start) }
        return value
    }

    /// Takes a position that can be stored, and its digest.
    mutating func storedPrefix() throws(MalformedBytes) -> LogPrefix {
        LogPrefix(position: try varint(max: UInt64(Int64.max)), digest: try fixed64())
    }
}
