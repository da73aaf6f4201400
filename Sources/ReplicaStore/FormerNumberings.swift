import Causality
import GRDB
import SyncProtocol

// Positions that head office's log has lost, when it was put back to an older copy. Branches remember them, and
// contexts name them: each is the end of a line of entries that leaves the present log, or another line.

/// A prefix of a log that this hub has, or once had, and all of which it holds.
struct ResolvedPrefix {
    /// Up to a position of one line.
    struct Stretch: Hashable {
        let line: Int64
        let position: UInt64
    }

    /// The part that lies in lost logs, the latest first.
    var former: [Stretch] = []
    /// The part that lies in this node's own log ends here.
    let position: UInt64
    /// The greatest time in it.
    let timeMax: HybridTimestamp
}

extension ReplicaWriter {
    /// What a prefix names here; nil when it is not known, or when change sets under it are missing.
    ///
    /// An entry of a former numbering is only made once the change set is held, and only after the entry before it.
    func resolve(_ prefix: LogPrefix) throws -> ResolvedPrefix? {
        if prefix.position == 0 {
            return prefix == .empty ? ResolvedPrefix(position: 0, timeMax: .zero) : nil
        }
        let number = Int64(clamping: prefix.position)
        let own = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT digest, timeMax FROM log WHERE position = ?"),
            arguments: [number]
        )
        if let own, UInt64(bitPattern: own[0]) == prefix.digest {
            return ResolvedPrefix(position: prefix.position, timeMax: HybridTimestamp(stored: own[1]))
        }
        let entry = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT line, timeMax FROM formerEntry WHERE position = ? AND digest = ?"),
            arguments: [number, Int64(bitPattern: prefix.digest)]
        )
        guard let entry else { return nil }
        var former: [ResolvedPrefix.Stretch] = []
        var line: Int64? = entry[0]
        var position = prefix.position
        while let present = line {
            former.append(.init(line: present, position: position))
            let parent = try Row.fetchOne(
                db.cachedStatement(sql: "SELECT parent, forkPosition FROM formerLine WHERE line = ?"),
                arguments: [present]
            )
            guard let parent else { throw StoreFailure.database("A former numbering is damaged; restore a backup.") }
            line = parent[0]
            position = UInt64(bitPattern: parent[1] as Int64)
        }
        return ResolvedPrefix(former: former, position: position, timeMax: HybridTimestamp(stored: entry[1]))
    }

    /// Whether a change set stands in one of some stretches of former numberings.
    func isUnder(_ stretches: [ResolvedPrefix.Stretch], _ id: ChangeSetID) throws -> Bool {
        for stretch in stretches {
            let position = try Int64.fetchOne(
                db.cachedStatement(
                    sql: "SELECT min(position) FROM formerEntry WHERE line = ? AND origin = ? AND seq = ?"
                ),
                arguments: [stretch.line, id.origin.rawValue, Int64(clamping: id.seq)]
            )
            if let position, UInt64(bitPattern: position) <= stretch.position { return true }
        }
        return false
    }

    /// Notes which change set, held here, followed a prefix in a lost log. Does nothing when it is known.
    ///
    /// - Precondition: The prefix is resolved.
    /// - Returns: The prefix that ends with it.
    func extendFormerNumbering(_ prefix: LogPrefix, by id: ChangeSetID, chain: ChangeChain) throws -> LogPrefix {
        let next = prefix.appending(id, chain: chain)
        guard try resolve(next) == nil, let before = try resolve(prefix) else { return next }
        let time = try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT time FROM log WHERE origin = ? AND seq = ?"),
            arguments: [id.origin.rawValue, Int64(clamping: id.seq)]
        )
        let line: Int64
        if let last = before.former.first, try isEnd(of: last.line, last.position) {
            line = last.line
        } else {
            // It leaves the own log, or a line that goes on otherwise.
            try db.cachedStatement(sql: "INSERT INTO formerLine(parent, forkPosition) VALUES (?, ?)").execute(
                arguments: [before.former.first?.line, Int64(clamping: prefix.position)]
            )
            line = db.lastInsertedRowID
        }
        try db.cachedStatement(sql: "INSERT INTO formerEntry VALUES (?, ?, ?, ?, ?, ?)").execute(
            arguments: [
                line, Int64(clamping: next.position), Int64(bitPattern: next.digest), id.origin.rawValue,
                Int64(clamping: id.seq), max(Int64(bitPattern: before.timeMax.packed), time ?? 0),
            ]
        )
        return next
    }

    /// Notes what stood in a lost log up to a prefix, told by a node that knows this but never had the log itself.
    /// In which order, nobody needs to know.
    ///
    /// - Returns: Whether the prefix is resolved; it is not when something of it is missing.
    func noteFormerPrefix(_ prefix: LogPrefix, of progress: [ChangeSetID]) throws -> Bool {
        if try resolve(prefix) != nil { return true }
        let under = Dictionary(progress.map { ($0.origin, $0.seq) }, uniquingKeysWith: max)
        let total = under.values.reduce(UInt64(0)) { $0.addingReportingOverflow($1).partialValue }
        guard prefix.position > 0, total == prefix.position,
            under.allSatisfy({ vector[$0.key]?.seq ?? 0 >= $0.value })
        else { return false }
        // The own log up to here is all part of it.
        var fork = min(end.position, prefix.position - 1)
        let find = try db.cachedStatement(sql: "SELECT position FROM log WHERE origin = ? AND seq = ?")
        for origin in vector.keys {
            let next = Int64(clamping: under[origin] ?? 0) + 1
            if let first = try Int64.fetchOne(find, arguments: [origin.rawValue, next]) {
                fork = min(fork, UInt64(clamping: first) - 1)
            }
        }
        var timeMax = try timeLookup.get().timeMax(at: fork).packed
        try db.cachedStatement(sql: "INSERT INTO formerLine(parent, forkPosition) VALUES (NULL, ?)").execute(
            arguments: [Int64(clamping: fork)]
        )
        let line = db.lastInsertedRowID
        let rows = try Row.fetchCursor(
            db,
            sql: "SELECT origin, seq, time FROM log WHERE position > ? ORDER BY position",
            arguments: [Int64(clamping: fork)]
        )
        let insert = try db.cachedStatement(sql: "INSERT INTO formerEntry VALUES (?, ?, ?, ?, ?, ?)")
        var position = fork
        while position < prefix.position, let row = try rows.next() {
            guard let origin = Origin(rawValue: row[0]), UInt64(clamping: row[1] as Int64) <= under[origin] ?? 0
            else { continue }
            position += 1
            timeMax = max(timeMax, UInt64(bitPattern: row[2] as Int64))
            // Only the last digest is known; the others stand for nothing, and are different at each line.
            let unknown = prefix.digest &+ (position &* 0x9E37_79B9_7F4A_7C15)
            let digest = position == prefix.position ? prefix.digest : unknown
            try insert.execute(
                arguments: [
                    line, Int64(clamping: position), Int64(bitPattern: digest), origin.rawValue, row[1] as Int64,
                    Int64(bitPattern: timeMax),
                ]
            )
        }
        return true
    }

    private func isEnd(of line: Int64, _ position: UInt64) throws -> Bool {
        try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT max(position) FROM formerEntry WHERE line = ?"),
            arguments: [line]
        ) == Int64(clamping: position)
    }
}

extension HybridTimestamp {
    /// Reads a stored time; zero for what is none.
    init(stored value: Int64) { self = HybridTimestamp(packed: UInt64(bitPattern: value)) ?? .zero }
}
