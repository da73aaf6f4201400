import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// How a branch finds out which rows differ from head office's: sums of buckets, then the rows of the buckets that
// differ, then the fields of those rows. Asked when both know the same change sets, so that nothing differs because
// it is on its way.
//
//   question          payload                                       answer: state 1, then
//   30 buckets        knowledge, number of tables v, each: number   number of tables that differ v, each: number v,
//                     v, rows zigzag, sums 8 and 8                  then 8 bytes for each of the 4,096 buckets
//   31 rows           knowledge, table v, number of buckets v,      how many of the buckets are answered v, number of
//                     each v, ascending                             those damaged at head office v, each v; number of
//                                                                   rows v, each: identifier v as difference, hash 8
//   32 row states     knowledge, table v, number of rows v, each:   how many of the rows are answered v, then their
//                     identifier v as difference                    states, see `RowStates`
//
// knowledge: position v, digest 8, seq of the child v. state: 0 head office knows something else by now, and the
// rest is missing; 1 answered.

/// What both sides of a comparison know.
struct SharedKnowledge: Hashable, Sendable {
    let prefix: LogPrefix
    let child: ChangeSetID

    func write(to writer: inout ByteWriter) {
        writer.varint(prefix.position)
        writer.fixed64(prefix.digest)
        writer.varint(child.seq)
    }

    init(prefix: LogPrefix, child: ChangeSetID) {
        self.prefix = prefix
        self.child = child
    }

    init(_ reader: inout ByteReader, child origin: Origin) throws(MalformedBytes) {
        prefix = LogPrefix(position: try reader.varint(), digest: try reader.fixed64())
        child = ChangeSetID(origin: origin, seq: try reader.varint())
    }

    /// Whether a node stands at just this knowledge, with nothing of other programs unsealed.
    func holds(in db: Database) throws -> Bool {
        let role = try String.fetchOne(db.cachedStatement(sql: "SELECT role FROM localNode"))
        let isHeadOffice = role == LocalNode.Role.headOffice.rawValue
        let row = try Row.fetchOne(
            db,
            sql: isHeadOffice
                ? "SELECT position, digest FROM log ORDER BY position DESC LIMIT 1"
                : "SELECT cursorPosition, cursorDigest FROM localState"
        )
        let stands = row.map { LogPrefix(stored: $0[0], $0[1]) } ?? .empty
        let seq = try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT seq FROM heldSeq WHERE origin = ?"),
            arguments: [child.origin.rawValue]
        )
        let isPending = try Bool.fetchOne(db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM pending)"))
        return stands == prefix && UInt64(clamping: seq ?? 0) == child.seq && isPending != true
    }
}

/// What somebody wants to have done at the next contact.
package enum ComparisonWish: Hashable, Sendable {
    /// Look only if the sums differ.
    case none
    /// Look whatever the sums say, and, with `repairs`, put head office's rows in place of those that differ.
    case compare(repairs: Bool)
}

/// How far a comparison has come, at the child.
struct Comparison: Sendable {
    let knowledge: SharedKnowledge
    let repairs: Bool
    /// Buckets to be looked at by table number, ascending.
    var buckets: [(table: Int, buckets: [Int])] = []
    /// All of them, from the beginning.
    var lookedAt: [(table: Int, buckets: [Int])] = []
    /// Buckets that do not add up at head office: nothing is taken from there.
    var damagedAtHub = 0
    /// What differs, by table.
    var found: [(table: Int, id: Int64, kind: RowDifference.Kind)] = []
    /// How many of them have their fields named, or were replaced.
    var done = 0
    /// The fields of those.
    var named: [RowDifference] = []
    /// Rows put in place.
    var repaired = 0

    /// Rows that one comparison finds and repairs; another one goes on.
    static let foundMax = 10_000
    /// Buckets that one question is about.
    static let bucketsMax = 512
    /// Rows that one answer lists.
    static let rowsMax = 40_000
    /// Rows whose states one question asks for.
    static let statesMax = 200
    /// The states of one answer, before compression; one row may be larger.
    static let stateBytesMax = 400 << 10
}

extension DigestSum {
    /// The sum in 8 bytes.
    var folded: UInt64 { sum1 ^ (sum2 &* 0x9E37_79B9_7F4A_7C15) ^ UInt64(bitPattern: rows) }
}

/// The rows of some buckets of a table, with what each adds to the sums; and the buckets that do not add up.
struct BucketRows {
    var rows: [(id: Int64, hash: UInt64)] = []
    var damaged: [Int] = []
    /// How many of the buckets are complete.
    var answered = 0

    /// Cost: reads the identifiers of the whole table.
    init(_ buckets: [Int], of table: TableDescription, organisation: [UInt8], rowsMax: Int, _ db: Database) throws {
        let hasher = RowHasher(organisation: organisation, table: table.number)
        let wanted = Set(buckets)
        var counted: [Int: DigestSum] = [:]
        var rowsOf: [Int: [(Int64, UInt64)]] = [:]
        let select = try RawStatement("SELECT \(table.columnList) FROM \(table.name)", in: db)
        defer { select.reset() }
        while try select.step() {
            let id = select.integer(0)
            let bucket = RowHasher.bucket(of: id)
            guard wanted.contains(bucket) else { continue }
            let sum = hasher.contribution(of: select, id: id, in: table)
            counted[bucket, default: .zero] += sum
            rowsOf[bucket, default: []].append((id, sum.folded))
        }
        let kept = try DigestBuckets.buckets(of: table.number, db)
        for bucket in buckets {
            let found = rowsOf[bucket] ?? []
            if answered > 0, rows.count + found.count > rowsMax { break }
            if kept[bucket] != counted[bucket] ?? .zero { damaged.append(bucket) }
            rows += found.map { (id: $0.0, hash: $0.1) }
            answered += 1
        }
        rows.sort { $0.id < $1.id }
    }
}

extension ByteWriter {
    /// Ascending numbers as differences.
    mutating func ascending(_ numbers: [Int64]) {
        varint(UInt64(numbers.count))
        var last: Int64 = 0
        for number in numbers {
            varint(UInt64(bitPattern: number &- last))
            last = number
        }
    }
}

extension ByteReader {
    /// Ascending row identifiers.
    mutating func ascendingIdentifiers(max: Int) throws(MalformedBytes) -> [Int64] {
        var numbers: [Int64] = []
        var last: Int64 = 0
        for _ in 0..<(try count(bytesEach: 1, max: max)) {
            last = try nextIdentifier(after: last)
            numbers.append(last)
        }
        return numbers
    }

    /// The next of ascending row identifiers.
    mutating func nextIdentifier(after last: Int64) throws(MalformedBytes) -> Int64 {
        let (next, overflow) = UInt64(bitPattern: last).addingReportingOverflow(try varint())
        guard !overflow, next <= UInt64(Int64.max), Int64(next) > last, RowID(rawValue: Int64(next)) != nil else {
            throw .outOfRange("identifier", offset: offset)
        }
        return Int64(next)
    }

    /// A number of a table that this node knows.
    mutating func table(_ schema: Schema) throws(MalformedBytes) -> TableDescription {
        let number = try varint()
        guard let number = Int(exactly: number), let table = schema.table(number: number) else {
            throw .outOfRange("table \(number)", offset: offset)
        }
        return table
    }

    /// Ascending numbers of buckets.
    mutating func buckets() throws(MalformedBytes) -> [Int] {
        var buckets: [Int] = []
        for _ in 0..<(try count(bytesEach: 1, max: DigestBuckets.bucketCount)) {
            let bucket = try varint()
            guard bucket < UInt64(DigestBuckets.bucketCount), Int(bucket) > buckets.last ?? -1 else {
                throw .outOfRange("bucket \(bucket)", offset: offset)
            }
            buckets.append(Int(bucket))
        }
        return buckets
    }
}
