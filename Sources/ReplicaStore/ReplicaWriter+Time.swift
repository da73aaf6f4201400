import Causality
import Foundation
import GRDB
import SyncProtocol

// At head office: which times it accepts, and whether it may trust its own clock.

extension ReplicaWriter {
    /// How far ahead of head office's clock a change set may be.
    private static let aheadMillisecondsMax: UInt64 = 120_000

    /// Checks that a change set's time may be accepted here.
    ///
    /// Only what comes from its writer is tested: what a hub or a receipt has accepted stays accepted. A time must
    /// be later than all that its writer had seen, and not later than now, unless the log is.
    ///
    /// - Throws: ``Refusal`` for a time that is not; ``SyncProtocol/Refusal/Code/retryLater`` when it may be this
    ///   node's own clock that is wrong.
    func checkTime(of set: IncomingChangeSet, having seen: SeenChangeSets, from source: ChangeSource) throws {
        guard source == .child else { return }
        let id = set.reader.header.id
        let lookup = try timeLookup.get()
        var floor = max(seen.timeMax, try lookup.timeMax(at: seen.position))
        for life in seen.lives + [ChangeSetID(origin: id.origin, seq: id.seq - 1)] {
            floor = max(floor, try lookup.time(of: life))
        }
        guard set.time > floor || isPlanted(.clockBehindAccepted) else {
            throw Refusal(
                .clockBehind,
                "Change set \(id) bears a time \(seconds(floor.milliseconds, set.time.milliseconds)) s before what its "
                    + "writer had seen already; it was not taken.\(skew(of: id.origin)) Set the branch's clock and "
                    + "synchronise again: it goes on under a new number, with all its work."
            )
        }
        let now = wallClock()
        if set.time.milliseconds <= now + Self.aheadMillisecondsMax || isPlanted(.clockAheadAccepted) { return }
        if set.time <= timeMax.next, !isPlanted(.limitWithoutCausality) { return }
        switch try clockTrust() {
        case .trusted, .behindLog(_, isConfirmed: true):
            throw Refusal(
                .clockAhead,
                "Change set \(id) bears a time \(seconds(set.time.milliseconds, now)) s ahead of head office's clock, "
                    + "\(Self.aheadMillisecondsMax / 1000) s are allowed; it was not taken.\(skew(of: id.origin)) Set "
                    + "the branch's clock and synchronise again: it goes on under a new number, with all its work."
            )
        case .apart(let milliseconds, _):
            let branchesNow = Int64(clamping: now) + milliseconds + Int64(Self.aheadMillisecondsMax)
            if Int64(clamping: set.time.milliseconds) <= branchesNow { return }
        case .behindLog(_, isConfirmed: false):
            break
        }
        throw Refusal(
            .retryLater,
            "Head office's own clock seems to be wrong, so it cannot tell whether the time of change set \(id) may be "
                + "right. Nothing is lost; set head office's clock, then synchronise again.",
            retryAfterSeconds: 60
        )
    }

    private func seconds(_ later: UInt64, _ earlier: UInt64) -> UInt64 {
        (max(later, earlier) - min(later, earlier) + 999) / 1000
    }

    /// What the last greeting told of a branch's clock, as a sentence; empty when it was right.
    private func skew(of origin: Origin) -> String {
        guard let skew = clockWitnesses.skew(of: origin), skew.magnitude >= 1000 else { return "" }
        return " At its last call its clock was \((skew.magnitude + 500) / 1000) s "
            + "\(skew > 0 ? "ahead of" : "behind") head office's."
    }

    /// Notes what a greeting tells of a child's clock, and says whether to trust this node's own.
    ///
    /// - Parameter skew: The child's clock minus this node's, in milliseconds.
    func hearClock(of node: UniqueID, _ origin: Origin, skew: Int64) throws -> ClockTrust {
        try clockWitnesses.load(db)
        clockWitnesses.note(node, origin, skew: skew, atMilliseconds: wallClock())
        return try clockTrust()
    }

    private func clockTrust() throws -> ClockTrust {
        try clockWitnesses.load(db)
        let now = wallClock()
        return ClockTrust(now: now, newest: timeMax, skews: clockWitnesses.skews(atMilliseconds: now))
    }

    /// This node's wall clock, in milliseconds since 1970-01-01 UTC.
    func wallClock() -> UInt64 { nodeClock.read().wallMilliseconds }
}

/// Whether head office takes its own clock to be right. When it does not, it corrects nobody's.
package enum ClockTrust: Hashable, Sendable {
    case trusted
    /// Most of the branches that were heard lately agree with each other on another time: theirs minus head
    /// office's. Clocks that are wrong are not wrong by the same.
    case apart(milliseconds: Int64, branches: Int)
    /// The newest change set of the log is later than now. Most branches may agree with head office all the
    /// same: then it was written by a clock that was wrong.
    case behindLog(milliseconds: UInt64, isConfirmed: Bool)

    static let witnessMillisecondsMax: UInt64 = 30 * 86_400_000
    private static let branchesMin = 3
    private static let apartMillisecondsMax: UInt64 = 5 * 60_000
    private static let behindMillisecondsMax: UInt64 = 86_400_000

    /// - Parameters:
    ///   - now: Head office's wall clock.
    ///   - newest: The greatest time in its log.
    ///   - skews: The clocks of the branches minus its own, in milliseconds.
    package init(now: UInt64, newest: HybridTimestamp, skews: [Int64]) {
        func mostAgree(on milliseconds: Int64) -> Bool {
            skews.count { $0.magnitude(from: milliseconds) <= Self.apartMillisecondsMax } * 2 > skews.count
        }
        let isConfirmed = mostAgree(on: 0)
        if newest.milliseconds > now, newest.milliseconds - now > Self.behindMillisecondsMax {
            self = .behindLog(milliseconds: newest.milliseconds - now, isConfirmed: isConfirmed)
            return
        }
        self = .trusted
        guard !isConfirmed, skews.count >= Self.branchesMin else { return }
        let median = skews.sorted()[skews.count / 2]
        if median.magnitude > Self.apartMillisecondsMax, mostAgree(on: median) {
            self = .apart(milliseconds: median, branches: skews.count)
        }
    }
}

extension Int64 {
    fileprivate func magnitude(from other: Int64) -> UInt64 {
        let (difference, overflow) = subtractingReportingOverflow(other)
        return overflow ? .max : difference.magnitude
    }
}

/// What the branches' clocks have said about head office's. Belongs to the writer.
final class ClockWitnesses {
    private struct Witness {
        var origin: Origin
        var skewMilliseconds: Int64
        var heardAtMilliseconds: UInt64
    }

    /// Nil until somebody asks.
    private var byNode: [UniqueID: Witness]?

    /// Reads what was heard before this program was started.
    func load(_ db: Database) throws {
        guard byNode == nil else { return }
        var known: [UniqueID: Witness] = [:]
        let rows = try Row.fetchCursor(
            db,
            sql: """
                SELECT node, origin, skewMilliseconds, lastContact FROM registeredNode
                WHERE skewMilliseconds IS NOT NULL AND lastContact IS NOT NULL
                """
        )
        while let row = try rows.next() {
            guard let node = UniqueID(bytes: [UInt8](row[0] as Data)), let origin = Origin(rawValue: row[1]) else {
                continue
            }
            known[node] = Witness(
                origin: origin,
                skewMilliseconds: row[2],
                heardAtMilliseconds: UInt64(clamping: row[3] as Int64)
            )
        }
        byNode = known
    }

    func note(_ node: UniqueID, _ origin: Origin, skew: Int64, atMilliseconds now: UInt64) {
        byNode?[node] = Witness(origin: origin, skewMilliseconds: skew, heardAtMilliseconds: now)
    }

    /// The clocks that were heard lately.
    func skews(atMilliseconds now: UInt64) -> [Int64] {
        (byNode ?? [:]).values.compactMap { witness in
            witness.heardAtMilliseconds + ClockTrust.witnessMillisecondsMax >= now ? witness.skewMilliseconds : nil
        }
    }

    func skew(of origin: Origin) -> Int64? {
        byNode?.values.first { $0.origin == origin }?.skewMilliseconds
    }
}

/// Finds times in the log. Belongs to the writer.
final class TimeLookup {
    private let greatest: RawStatement
    private let single: RawStatement

    init(_ db: Database) throws {
        greatest = try RawStatement("SELECT timeMax FROM log WHERE position = ?", in: db)
        single = try RawStatement("SELECT time FROM log WHERE origin = ? AND seq = ?", in: db)
    }

    /// The greatest time in the log up to a position; zero for the empty log.
    func timeMax(at position: UInt64) throws -> HybridTimestamp {
        greatest.bind(1, position)
        return try time(greatest)
    }

    /// The time of a change set; zero when it is not in the log.
    func time(of id: ChangeSetID) throws -> HybridTimestamp {
        single.bind(1, Int64(id.origin.rawValue))
        single.bind(2, id.seq)
        return try time(single)
    }

    private func time(_ select: RawStatement) throws -> HybridTimestamp {
        defer { select.reset() }
        guard try select.step() else { return .zero }
        return HybridTimestamp(packed: UInt64(bitPattern: select.integer(0))) ?? .zero
    }
}
