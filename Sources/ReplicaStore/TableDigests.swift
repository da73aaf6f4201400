import CXXHash
import Causality
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
/// Buckets that a transaction touched are held in memory and written at its end. Belongs to the writer.
final class DigestBuckets {
    static let bucketCount = 4096

    private struct Entry {
        var sum: DigestSum
        var isDirty: Bool
    }

    private var entries: [Int: Entry] = [:]
    private var dirty: [Int] = []
    /// What all buckets of a table add up to, once somebody has asked.
    private var roots: [Int: DigestSum]?
    /// What was added since an undo began; nil when none has.
    private var added: [(change: DigestSum, table: Int, id: Int64)]?
    /// A look at a table that is under way, which must hear of every change.
    var selfCheck: SelfCheck?
    private let read: RawStatement
    private let write: RawStatement

    init(_ db: Database) throws {
        read = try RawStatement(
            "SELECT rows, sum1, sum2 FROM digestBucket WHERE tableNumber = ? AND bucket = ?",
            in: db
        )
        write = try RawStatement("INSERT OR REPLACE INTO digestBucket VALUES (?, ?, ?, ?, ?)", in: db)
    }

    /// Adds what a row has changed by.
    func add(_ change: DigestSum, table: Int, id: Int64) throws {
        added?.append((change, table, id))
        let key = table * Self.bucketCount + RowHasher.bucket(of: id)
        var entry = try entries[key] ?? load(key)
        entry.sum += change
        selfCheck?.add(change, table: table, id: id)
        roots?[table, default: .zero] += change
        if !entry.isDirty {
            entry.isDirty = true
            dirty.append(key)
        }
        entries[key] = entry
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
        for key in dirty.sorted() {
            guard let entry = entries[key] else { continue }
            write.bind(1, Int64(key / Self.bucketCount))
            write.bind(2, Int64(key % Self.bucketCount))
            write.bind(3, entry.sum.rows)
            write.bind(4, entry.sum.sum1)
            write.bind(5, entry.sum.sum2)
            try write.run()
            entries[key]?.isDirty = false
        }
        dirty.removeAll(keepingCapacity: true)
    }

    /// Forgets what a failed transaction may have left in memory.
    func forget() {
        selfCheck = nil
        entries.removeAll()
        dirty.removeAll()
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
        let select = try RawStatement("SELECT tableNumber, rows, sum1, sum2 FROM digestBucket", in: db)
        defer { select.reset() }
        var roots: [Int: DigestSum] = [:]
        while try select.step() {
            roots[Int(select.integer(0)), default: .zero] += DigestSum(
                rows: select.integer(1),
                sum1: UInt64(bitPattern: select.integer(2)),
                sum2: UInt64(bitPattern: select.integer(3))
            )
        }
        return roots.filter { $0.value != .zero }
    }

    /// The buckets of one table, out of any consistent state.
    static func buckets(of table: Int, _ db: Database) throws -> [DigestSum] {
        var buckets = [DigestSum](repeating: .zero, count: bucketCount)
        let select = try RawStatement(
            "SELECT bucket, rows, sum1, sum2 FROM digestBucket WHERE tableNumber = ?",
            in: db
        )
        defer { select.reset() }
        select.bind(1, Int64(table))
        while try select.step() {
            let bucket = Int(select.integer(0))
            guard buckets.indices.contains(bucket) else { continue }
            buckets[bucket] = DigestSum(
                rows: select.integer(1),
                sum1: UInt64(bitPattern: select.integer(2)),
                sum2: UInt64(bitPattern: select.integer(3))
            )
        }
        return buckets
    }

    /// Replaces what is kept of a bucket by what its rows add up to.
    func replace(_ sum: DigestSum, table: Int, bucket: Int) throws {
        let key = table * Self.bucketCount + bucket
        entries[key] = Entry(sum: sum, isDirty: true)
        if !dirty.contains(key) { dirty.append(key) }
        roots = nil
    }

    private func load(_ key: Int) throws -> Entry {
        defer { read.reset() }
        read.bind(1, Int64(key / Self.bucketCount))
        read.bind(2, Int64(key % Self.bucketCount))
        guard try read.step() else { return Entry(sum: .zero, isDirty: false) }
        return Entry(
            sum: DigestSum(
                rows: read.integer(0),
                sum1: UInt64(bitPattern: read.integer(1)),
                sum2: UInt64(bitPattern: read.integer(2))
            ),
            isDirty: false
        )
    }
}
