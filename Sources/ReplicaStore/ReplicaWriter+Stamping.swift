import Causality
import Foundation
import GRDB
import SyncProtocol

// At a branch: what its change sets are stamped with, and how that is corrected before they leave home.

/// Head office's time when this node's machine was started.
struct HubTime: Hashable {
    /// Which start.
    var boot: UInt64
    var millisecondsAtBoot: Int64
}

extension Stamping {
    /// - Parameters:
    ///   - floor: The greatest time that was known before.
    ///   - earlier: How long before the reading something was written, in milliseconds.
    init(_ reading: NodeClock.Reading, after floor: HybridTimestamp, earlierBy earlier: UInt64, isMeasured: Bool) {
        let earlier = Int64(min(earlier, HybridTimestamp.millisecondsMax))
        self.init(
            floor: floor,
            boot: reading.boot,
            sinceBootMilliseconds: reading.sinceBoot - earlier,
            wallMilliseconds: reading.wall - earlier,
            isMeasured: isMeasured
        )
    }
}

extension ReplicaWriter {
    // MARK: Stamping

    /// What this node takes the time to be, in milliseconds since 1970-01-01 UTC.
    var now: UInt64 { milliseconds(at: nodeClock.read()) }

    /// Head office's time if it was measured since the machine was started, whatever became of the wall clock;
    /// else the wall clock's.
    func milliseconds(at reading: NodeClock.Reading) -> UInt64 {
        guard let hubTime, hubTime.boot == reading.boot else { return reading.wallMilliseconds }
        return UInt64(clamping: hubTime.millisecondsAtBoot + reading.sinceBoot)
    }

    /// The moment at which another program, which reads the machine's wall clock, has noted that time; now, if
    /// that clock was set back since.
    func milliseconds(atMachineWall noted: UInt64) -> UInt64 {
        let reading = nodeClock.read()
        let now = milliseconds(at: reading)
        let wall = Int64(min(noted, HybridTimestamp.millisecondsMax)) + nodeClock.shiftMilliseconds
        return now - min(now, UInt64(clamping: reading.wall - wall))
    }

    /// Reads what the file says of head office's time.
    func loadHubTime() throws {
        guard let milliseconds = try fact(.hubMillisecondsAtBoot), let boot = try fact(.measuredBoot) else {
            hubTime = nil
            return
        }
        hubTime = HubTime(boot: UInt64(bitPattern: boot), millisecondsAtBoot: milliseconds)
    }

    /// Keeps what is needed to correct the time of a new change set; nothing if it may leave home at once.
    func noteStamping(of id: ChangeSetID) throws {
        guard node.role == .branch, !isInSession, let stamping else { return }
        try db.cachedStatement(sql: "INSERT OR REPLACE INTO stamping VALUES (?, ?, ?, ?, ?, ?, ?)").execute(
            arguments: [
                id.origin.rawValue, Int64(clamping: id.seq), Int64(bitPattern: stamping.floor.packed),
                Int64(bitPattern: stamping.boot), stamping.sinceBootMilliseconds, stamping.wallMilliseconds,
                stamping.isMeasured,
            ]
        )
    }

    /// Leaves the times of everything that was written so far as they are, for ever: it is leaving home, or
    /// something that has not come through the log is about to be merged.
    func settleTimes() throws {
        if isPlanted(.correctedAfterLeavingHome) { return }
        try db.cachedStatement(sql: "DELETE FROM stamping").execute()
    }

    // MARK: Correcting

    /// Corrects the times of what this node has written since the last session, before anything is sent or
    /// accepted, and takes the time from the hub from here on.
    ///
    /// - Parameters:
    ///   - acceptedSeq: How much of this node's work the hub holds: another copy of this node may have sent it.
    ///   - isTrusted: Whether the hub's clock is worth to be followed.
    func followHubClock(
        _ measured: ClockMeasurement,
        at now: NodeClock.Reading,
        acceptedSeq: UInt64,
        isTrusted: Bool
    ) throws {
        let correction = TimeCorrection(measured, at: now)
        let isConfirmed =
            hubTime?.boot == now.boot
            && correction.confirms(hubMillisecondsAtBoot: hubTime?.millisecondsAtBoot ?? 0)
        let hasUnsettled =
            try isForeignWritePending()
            || Bool.fetchOne(db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM stamping)")) == true
        if hasUnsettled || isTrusted && !isConfirmed {
            func settle(correcting: Bool) throws {
                try transaction {
                    if correcting { try correctTimes(correction, acceptedSeq: acceptedSeq) }
                    try settleTimes()
                    guard isTrusted, !isConfirmed else { return }
                    try note(.hubMillisecondsAtBoot, correction.hubMillisecondsAtBoot)
                    try note(.measuredBoot, Int64(bitPattern: now.boot))
                    hubTime = HubTime(boot: now.boot, millisecondsAtBoot: correction.hubMillisecondsAtBoot)
                }
            }
            do {
                try settle(correcting: isTrusted)
            } catch is StampOrderFailure {
                // Something was merged that the log does not tell of: who won there stays.
                try settle(correcting: false)
            }
        }
        isInSession = true
    }

    private struct UnsentChangeSet {
        let position: Int64
        let seq: UInt64
        let time: HybridTimestamp
        var stamping: Stamping
    }

    /// Re-stamps the run at the end of the log in which everything is this node's own, was never sent and never
    /// corrected: nothing that this node has seen came after it, so within this replica the same writes win.
    private func correctTimes(_ correction: TimeCorrection, acceptedSeq: UInt64) throws {
        var run = try unsentRun(acceptedSeq: acceptedSeq)
        guard let first = run.first else { return }
        let before = try timeLookup.get().timeMax(at: UInt64(first.position - 1))
        run[0].stamping.floor = max(first.stamping.floor, before)
        let times = correction.correctedTimes(run.map { ($0.time, $0.stamping) })
        guard let last = times.last, times != run.map(\.time) else { return }

        var corrected: [HybridTimestamp: HybridTimestamp] = [:]
        for (set, time) in zip(run, times) { corrected[set.time] = time }
        try restampRows(of: run.map(\.position), corrected)
        // Times are unique in the log, and an old one may be another's new one: out of the way first.
        try db.cachedStatement(sql: "UPDATE log SET time = -position WHERE position >= ?").execute(arguments: [
            first.position
        ])
        let update = try RawStatement("UPDATE log SET time = ?1, timeMax = ?1 WHERE position = ?2", in: db)
        for (set, time) in zip(run, times) {
            update.bind(1, time.packed)
            update.bind(2, set.position)
            try update.run()
        }
        moveTimes(to: last)
    }

    private func unsentRun(acceptedSeq: UInt64) throws -> [UnsentChangeSet] {
        var run: [UnsentChangeSet] = []
        let sentSeq = max(acceptedSeq, UInt64(clamping: try fact(.carriedSeq) ?? 0))
        let rows = try Row.fetchCursor(
            db,
            sql: """
                SELECT log.position, log.origin, log.seq, log.time, stamping.floor, stamping.boot,
                    stamping.sinceBootMilliseconds, stamping.wallMilliseconds, stamping.isMeasured
                FROM log LEFT JOIN stamping ON stamping.origin = log.origin AND stamping.seq = log.seq
                ORDER BY log.position DESC
                """
        )
        while let row = try rows.next() {
            let seq = UInt64(clamping: row[2] as Int64)
            let isSent = seq <= sentSeq && !isPlanted(.correctedAfterLeavingHome)
            guard row[1] as UInt32 == node.origin.rawValue, !isSent, let floor = row[4] as Int64? else { break }
            let stamping = Stamping(
                floor: HybridTimestamp(packed: UInt64(bitPattern: floor)) ?? .zero,
                boot: UInt64(bitPattern: row[5] as Int64),
                sinceBootMilliseconds: row[6],
                wallMilliseconds: row[7],
                isMeasured: row[8]
            )
            run.append(
                UnsentChangeSet(
                    position: row[0],
                    seq: seq,
                    time: HybridTimestamp(packed: UInt64(bitPattern: row[3] as Int64)) ?? .zero,
                    stamping: stamping
                )
            )
        }
        return run.reversed()
    }

    /// Replaces the stamps in all rows that change sets of this node have written, each row once.
    private func restampRows(of positions: [Int64], _ corrected: [HybridTimestamp: HybridTimestamp]) throws {
        let own = node.origin
        func replacement(_ stamp: Stamp) -> Stamp {
            guard stamp.origin == own, let time = corrected[stamp.time] else { return stamp }
            return Stamp(time: time, origin: own)
        }
        let decompressor = ZstdDecompressor()
        var done: [Int: Set<Int64>] = [:]
        for position in positions {
            let body = try Data.fetchOne(
                db.cachedStatement(sql: "SELECT body FROM log WHERE position = ?"),
                arguments: [position]
            )
            try Replica.withContent(of: body, position: UInt64(position), decompressor) { reader in
                for block in reader.blocks {
                    guard let table = schema.table(number: block.number) else { continue }
                    let merge = try merge(of: table)
                    var rows = block.makeCursor()
                    while rows.advance() {
                        guard done[table.number, default: []].insert(rows.id).inserted else { continue }
                        do {
                            try merge.restamp(id: rows.id, replacement)
                        } catch StoreFailure.damagedRow {
                            // Its stamps cannot be read, let alone corrected. It is repaired from head office.
                            continue
                        }
                    }
                }
            }
        }
    }
}
