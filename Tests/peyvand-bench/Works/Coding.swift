import CRM
import Causality
import SyncProtocol
import TestKit

// Change sets of new rows made into bytes and read out of them, beside plain inserts of the same rows: plain SQLite has
// nothing to compare with, and a ratio holds on any machine.

/// How often one is done to be measured: a single one is over too soon.
private let goesAtOnce = 4

/// Contents and their compression, as a transaction ends.
final class Encoding: Contest {
    private static let rowsEach = 1000

    private let site: Site
    private let count: Int
    private var ids: [RowID] = []
    private var rows: [DataSet.Values] = []
    private var sets: [ChangeSet] = []
    private var frames: [[UInt8]] = []

    init(_ site: Site, rows count: Int) { (self.site, self.count) = (site, count) }

    func prepare() throws {
        (ids, rows) = try site.newActivities(count)
        let table = TableDescription.activity
        let origin = site.hub.replica.node.origin
        sets = stride(from: 0, to: count, by: Self.rowsEach).enumerated().map { number, start in
            let changes = (start..<min(start + Self.rowsEach, count)).map { row in
                RowChange(
                    id: ids[row],
                    operation: .birth,
                    columns: table.allColumns,
                    values: Array(rows[row].dropFirst())
                )
            }
            return ChangeSet(
                header: ChangeSetHeader(
                    id: ChangeSetID(origin: origin, seq: UInt64(number + 1)),
                    schemaVersion: Schema.current.version,
                    context: CausalContext(lives: [], hubs: []),
                    previousChain: 0
                ),
                tables: [TableChanges(number: table.number, columnCount: table.columns.count, rows: changes)]
            )
        }
        try site.settle()
    }

    func runPlain() throws { try site.plain.insert(.activity, ids, rows, rowsEach: Self.rowsEach) }

    func costOfPeyvand() throws -> Cost { try Cost.ofOne(of: goesAtOnce, runPeyvand) }

    func runPeyvand() throws {
        let compressor = ZstdCompressor()
        frames = try sets.map { compressor.compress(try $0.content()) }
    }

    func check() throws {
        let decompressor = ZstdDecompressor()
        for (set, frame) in zip(sets, frames) {
            let isSame = try frame.withUnsafeBytes { frame in
                let content = try decompressor.decompress(frame, sizeMax: ChangeSet.contentBytesMax)
                return try content.withUnsafeBytes { ChangeSet(try ChangeSetReader($0)) == set }
            }
            guard isSame else { throw NotTheSame(description: "\(set.header.id) is read as something else.") }
        }
        try site.hub.insert(.activity, rows, rowsEach: Self.rowsEach)
    }

    func finish() throws { try site.checkSame(as: site.hub) }
}

/// Decompressed, validated, and each field of each row looked at.
final class Decoding: Contest {
    private let site: Site
    private let count: Int
    private var ids: [RowID] = []
    private var rows: [DataSet.Values] = []
    private var bodies: [ChangeBody] = []
    private var rowsSeen = 0
    private var textBytesSeen = 0

    init(_ site: Site, rows count: Int) { (self.site, self.count) = (site, count) }

    func prepare() throws {
        (ids, rows) = try site.newActivities(count)
        let before = try site.hub.end()
        try site.hub.insert(.activity, rows, rowsEach: 1000)
        bodies = try site.hub.log(after: before, for: site.branch).flatMap(\.entries).compactMap { entry in
            if case .changeSet(_, let body) = entry { body } else { nil }
        }
        try site.settle()
    }

    func runPlain() throws { try site.plain.insert(.activity, ids, rows, rowsEach: 1000) }

    func costOfPeyvand() throws -> Cost { try Cost.ofOne(of: goesAtOnce, runPeyvand) }

    func runPeyvand() throws {
        (rowsSeen, textBytesSeen) = (0, 0)
        let decompressor = ZstdDecompressor()
        for body in bodies {
            try body.bytes.withUnsafeBytes { bytes in
                if body.isCompressed {
                    let content = try decompressor.decompress(bytes, sizeMax: ChangeSet.contentBytesMax)
                    try content.withUnsafeBytes(look)
                } else {
                    try look(bytes)
                }
            }
        }
    }

    private func look(_ content: UnsafeRawBufferPointer) throws {
        for block in try ChangeSetReader(content).blocks {
            var rows = block.makeCursor()
            while rows.advance() {
                rowsSeen += 1
                for column in rows.columns.numbers {
                    if case .text(let bytes) = rows[column] { textBytesSeen += bytes.count }
                }
            }
        }
    }

    func check() throws {
        let textBytes = rows.joined().reduce(0) { sum, value in
            if case .text(let text) = value { sum + text.utf8.count } else { sum }
        }
        guard rowsSeen == count, textBytesSeen == textBytes else {
            throw NotTheSame(description: "\(rowsSeen) rows with \(textBytesSeen) bytes of text were decoded.")
        }
    }

    func finish() throws { try site.checkSame(as: site.hub) }
}
