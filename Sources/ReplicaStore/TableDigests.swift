import CXXHash
import Causality
import Foundation
import GRDB
import SyncProtocol

/// What the live rows of a table, or of a part of it, add up to: equal sums prove equal rows, clocks included.
///
/// Both sums are modulo 2^64 over the halves of a 128-bit hash of each field and each clock, so a write
/// costs what it changed. Hashes are seeded by organisation and identifier.
///
/// - Source: XXH3, Yann Collet, xxHash specification; not made against forgery, for which the chain stands.
package struct DigestSum: Hashable, Sendable {
    package var rows: Int64
    package var sum1: UInt64
    package var sum2: UInt64

    package static let zero = DigestSum(rows: 0, sum1: 0, sum2: 0)

    package init(rows: Int64, sum1: UInt64, sum2: UInt64) {
        self.rows = rows
        self.sum1 = sum1
        self.sum2 = sum2
    }

    package static func += (left: inout DigestSum, right: DigestSum) {
        left.rows += right.rows
        left.sum1 &+= right.sum1
        left.sum2 &+= right.sum2
    }

    package static func -= (left: inout DigestSum, right: DigestSum) {
        left.rows -= right.rows
        left.sum1 &-= right.sum1
        left.sum2 &-= right.sum2
    }

    /// Both sums as 32 hexadecimal digits.
    package var hexadecimal: String {
        [sum1, sum2].map { sum in
            let digits = String(sum, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}

/// Hashes fields and clocks of rows.
struct RowHasher {
    private let seed: UInt64

    /// - Parameters:
    ///   - organisation: The 16 bytes that name the organisation.
    ///   - table: The permanent number of the table, so that sums of several tables may be added up.
    init(organisation: [UInt8], table: Int) {
        let own = organisation.withUnsafeBytes { XXH3_64bits($0.baseAddress, $0.count) }
        seed = Self.mix(own &+ UInt64(table))
    }

    /// The bucket of a row, 0..<4096.
    static func bucket(of id: Int64) -> Int { Int(mix(UInt64(bitPattern: id)) >> 52) }

    /// Adds or takes away one field of a row. Nothing stands for null: the clock tells who wrote it.
    func add(_ field: FieldView, column: Int, of id: Int64, to sum: inout DigestSum, sign: Int64) {
        switch field {
        case .null:
            break
        case .integer(let value):
            withUnsafeBytes(of: value.littleEndian) { bytes in
                add(bytes, seed: fieldSeed(id, column, 1), to: &sum, sign: sign)
            }
        case .text(let bytes):
            add(bytes, seed: fieldSeed(id, column, 2), to: &sum, sign: sign)
        case .blob(let bytes):
            add(bytes, seed: fieldSeed(id, column, 3), to: &sum, sign: sign)
        }
    }

    /// Adds or takes away the clock of a row, given as it is stored.
    func addClock(
        newest: Stamp,
        fields: UnsafeRawBufferPointer?,
        of id: Int64,
        to sum: inout DigestSum,
        sign: Int64
    ) {
        withUnsafeTemporaryAllocation(byteCount: 16 + (fields?.count ?? 0), alignment: 8) { buffer in
            buffer.storeBytes(of: newest.time.packed.littleEndian, as: UInt64.self)
            buffer.storeBytes(
                of: UInt64(newest.origin.rawValue).littleEndian,
                toByteOffset: 8,
                as: UInt64.self
            )
            if let fields, !fields.isEmpty {
                UnsafeMutableRawBufferPointer(rebasing: buffer[16...]).copyMemory(from: fields)
            }
            add(UnsafeRawBufferPointer(buffer), seed: fieldSeed(id, 0, 4), to: &sum, sign: sign)
        }
    }

    private func add(_ bytes: UnsafeRawBufferPointer, seed: UInt64, to sum: inout DigestSum, sign: Int64) {
        let hash = XXH3_128bits_withSeed(bytes.baseAddress, bytes.count, seed)
        if sign > 0 {
            sum.sum1 &+= hash.low64
            sum.sum2 &+= hash.high64
        } else {
            sum.sum1 &-= hash.low64
            sum.sum2 &-= hash.high64
        }
    }

    private func fieldSeed(_ id: Int64, _ column: Int, _ kind: UInt64) -> UInt64 {
        Self.mix(UInt64(bitPattern: id) &+ seed) &+ (UInt64(column) << 3 | kind) &* 0x9E37_79B9_7F4A_7C15
    }

    /// The finaliser of SplitMix64 (Steele et al., OOPSLA 2014).
    private static func mix(_ value: UInt64) -> UInt64 {
        var value = value &+ 0x9E37_79B9_7F4A_7C15
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}

/// The buckets of all tables, kept current with every write.
///
/// A table has 4096 buckets. They are stored in 64 groups, one row each, because a transaction touches many buckets and
/// a row costs much more than the bytes in it. Groups that a transaction touched are held in memory and written at its
/// end. Belongs to the writer.
final class DigestBuckets {
    static let bucketCount = 4096

    /// The buckets of one table; those of groups that nobody asked for yet are zero.
    private final class TableBuckets {
        let table: Int
        let sums: UnsafeMutableBufferPointer<DigestSum>
        /// One bit a group.
        var loaded: UInt64 = 0
        var dirty: UInt64 = 0

        init(table: Int) {
            self.table = table
            sums = .allocate(capacity: bucketCount)
            sums.initialize(repeating: .zero)
        }

        deinit { sums.deallocate() }
    }

    /// Ascending by table number.
    private var tables: [TableBuckets] = []
    private var last: TableBuckets?
    /// What all buckets of a table add up to, once somebody has asked.
    private var roots: [Int: DigestSum]?
    /// What was added since an undo began; nil when none has.
    private var added: [(change: DigestSum, table: Int, id: Int64)]?
    /// A look at a table that is under way, which must hear of every change.
    var selfCheck: SelfCheck?
    private let read: RawStatement
    private let write: RawStatement

    init(_ db: Database) throws {
        read = try RawStatement("SELECT sums FROM digestGroup WHERE id = ?", in: db)
        write = try RawStatement("INSERT OR REPLACE INTO digestGroup VALUES (?, ?)", in: db)
    }

    /// Adds what a row has changed by.
    func add(_ change: DigestSum, table: Int, id: Int64) throws {
        added?.append((change, table, id))
        let bucket = RowHasher.bucket(of: id)
        let buckets = try self.buckets(of: table, holding: bucket)
        buckets.sums[bucket] += change
        selfCheck?.add(change, table: table, id: id)
        roots?[table, default: .zero] += change
    }

    /// The buckets of a table, that bucket loaded and about to be written.
    private func buckets(of table: Int, holding bucket: Int) throws -> TableBuckets {
        let buckets: TableBuckets
        if let last, last.table == table {
            buckets = last
        } else if let known = tables.first(where: { $0.table == table }) {
            buckets = known
        } else {
            buckets = TableBuckets(table: table)
            tables.append(buckets)
            tables.sort { $0.table < $1.table }
        }
        last = buckets
        let group = DigestGroup.number(of: bucket)
        if buckets.loaded & (1 << UInt64(group)) == 0 {
            defer { read.reset() }
            read.bind(1, DigestGroup.id(group, of: table))
            if try read.step(), let stored = read.blob(0) {
                DigestGroup.read(stored, into: buckets.sums, group)
            }
            buckets.loaded |= 1 << UInt64(group)
        }
        buckets.dirty |= 1 << UInt64(group)
        return buckets
    }

    /// From here on what is added can be taken back.
    func beginUndo() { added = [] }

    /// Ends it, and takes back what was added since.
    func endUndo(undoing: Bool) throws {
        let taken = undoing ? added ?? [] : []
        added = nil
        for (change, table, id) in taken.reversed() {
            var opposite = DigestSum.zero
            opposite -= change
            try add(opposite, table: table, id: id)
        }
    }

    /// Writes what changed. Part of the transaction that changed it.
    func flush() throws {
        for buckets in tables where buckets.dirty != 0 {
            for group in 0..<DigestGroup.count where buckets.dirty & (1 << UInt64(group)) != 0 {
                write.bind(1, DigestGroup.id(group, of: buckets.table))
                write.bind(2, blob: DigestGroup.stored(UnsafeBufferPointer(buckets.sums), group))
                try write.run()
            }
            buckets.dirty = 0
        }
    }

    /// Forgets what a failed transaction may have left in memory.
    func forget() {
        selfCheck = nil
        tables.removeAll()
        last = nil
        roots = nil
        added = nil
    }

    /// What the live rows of each table add up to, by table number; tables without rows are left out.
    func tableRoots(_ db: Database) throws -> [Int: DigestSum] {
        if let roots { return roots }
        let made = try Self.tableRoots(db)
        roots = made
        return made
    }

    /// The same, out of any consistent state.
    static func tableRoots(_ db: Database) throws -> [Int: DigestSum] {
        let select = try RawStatement("SELECT id, sums FROM digestGroup", in: db)
        defer { select.reset() }
        var roots: [Int: DigestSum] = [:]
        var sums = [DigestSum](repeating: .zero, count: DigestGroup.buckets)
        while try select.step() {
            guard let stored = select.blob(1) else { continue }
            sums.withUnsafeMutableBufferPointer { DigestGroup.read(stored, into: $0, 0) }
            roots[DigestGroup.table(ofID: select.integer(0)), default: .zero] += sums.reduce(into: .zero) { $0 += $1 }
        }
        return roots.filter { $0.value != .zero }
    }

    /// The buckets of one table, out of any consistent state.
    static func buckets(of table: Int, _ db: Database) throws -> [DigestSum] {
        var sums = [DigestSum](repeating: .zero, count: bucketCount)
        let select = try RawStatement("SELECT id, sums FROM digestGroup WHERE id BETWEEN ? AND ?", in: db)
        defer { select.reset() }
        let first = DigestGroup.id(0, of: table)
        select.bind(1, first)
        select.bind(2, DigestGroup.id(DigestGroup.count - 1, of: table))
        while try select.step() {
            guard let stored = select.blob(1) else { continue }
            let group = Int(select.integer(0) - first)
            sums.withUnsafeMutableBufferPointer { DigestGroup.read(stored, into: $0, group) }
        }
        return sums
    }

    /// Replaces what is kept of a bucket by what its rows add up to.
    func replace(_ sum: DigestSum, table: Int, bucket: Int) throws {
        let buckets = try self.buckets(of: table, holding: bucket)
        buckets.sums[bucket] = sum
        roots = nil
    }
}

/// How buckets that are neighbours lie in one row: for each its rows and both sums, as 8 bytes each, lowest first.
enum DigestGroup {
    /// Buckets in a group.
    static let buckets = 64
    /// Groups of a table.
    static let count = DigestBuckets.bucketCount / buckets
    private static let bytesEach = 24

    static func number(of bucket: Int) -> Int { bucket / buckets }

    /// The row where a group of a table lies.
    static func id(_ group: Int, of table: Int) -> Int64 { Int64(table * count + group) }

    static func table(ofID id: Int64) -> Int { Int(id) / count }

    static func stored(_ sums: UnsafeBufferPointer<DigestSum>, _ group: Int) -> [UInt8] {
        var writer = ByteWriter(capacity: buckets * bytesEach)
        for sum in sums[group * buckets..<(group + 1) * buckets] {
            writer.fixed64(UInt64(bitPattern: sum.rows))
            writer.fixed64(sum.sum1)
            writer.fixed64(sum.sum2)
        }
        return writer.bytes
    }

    /// Reads a stored group. One of another length is damaged and counts as zeros, which does not add up.
    static func read(_ stored: UnsafeRawBufferPointer, into sums: UnsafeMutableBufferPointer<DigestSum>, _ group: Int) {
        guard stored.count == buckets * bytesEach else { return }
        func number(_ index: Int) -> UInt64 {
            UInt64(littleEndian: stored.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
        }
        for bucket in 0..<buckets {
            sums[group * buckets + bucket] = DigestSum(
                rows: Int64(bitPattern: number(bucket * 3)),
                sum1: number(bucket * 3 + 1),
                sum2: number(bucket * 3 + 2)
            )
        }
    }

    /// Takes over what a file of an older format has, a row for each bucket.
    static func takeOver(_ db: Database) throws {
        let rows = try Row.fetchAll(
            db,
            sql: "SELECT tableNumber, bucket, rows, sum1, sum2 FROM digestBucket ORDER BY tableNumber, bucket"
        )
        for (table, kept) in Dictionary(grouping: rows, by: { $0[0] as Int }) {
            var sums = [DigestSum](repeating: .zero, count: DigestBuckets.bucketCount)
            for row in kept where sums.indices.contains(row[1]) {
                sums[row[1]] = DigestSum(
                    rows: row[2],
                    sum1: UInt64(bitPattern: row[3] as Int64),
                    sum2: UInt64(bitPattern: row[4] as Int64)
                )
            }
            for group in 0..<count where sums[group * buckets..<(group + 1) * buckets].contains(where: { $0 != .zero })
            {
                try db.execute(
                    sql: "INSERT INTO digestGroup VALUES (?, ?)",
                    arguments: [id(group, of: table), Data(sums.withUnsafeBufferPointer { stored($0, group) })]
                )
            }
        }
    }
}
