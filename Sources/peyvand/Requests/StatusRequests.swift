import CRM
import Causality
import ReplicaStore
import Trust

/// How well a node is, for people and for monitoring: the exit code of `status`, `fleet`, `doctor` and `verify`.
enum HealthState: String, Codable, Sendable, Comparable {
    case green, yellow, red

    var exitCode: Int32 {
        switch self {
        case .green: 0
        case .yellow: 1
        case .red: 2
        }
    }

    static func < (left: HealthState, right: HealthState) -> Bool { left.exitCode < right.exitCode }
}

/// The exit code of `status`, `fleet`, `doctor` and `verify` when they cannot tell.
let healthUnknownExitCode: Int32 = 3

/// Why a node is not green.
struct HealthReason: Codable, Sendable {
    /// For scripts; permanent.
    let code: String
    /// What happened, and what to do.
    let sentence: String
    /// How bad it is.
    let state: HealthState

    private enum CodingKeys: String, CodingKey { case code, sentence, state }
}

/// `status --json`.
struct PrintedStatus: Codable, Sendable {
    struct Node: Codable, Sendable {
        let id: String
        let name: String
        let role: String
        let origin: UInt32
        /// The SHA-256 of its public key, as people compare it; nil before it has a certificate.
        @OrNull var fingerprint: String?
        /// When its certificate ends.
        @OrNull var certificateExpires: String?
    }

    struct Hub: Codable, Sendable {
        @OrNull var name: String?
        let address: String
        let connected: Bool
        @OrNull var lastContact: String?
    }

    struct Ahead: Codable, Sendable {
        let changeSets: UInt64
        let rows: Int
    }

    struct Behind: Codable, Sendable {
        let changeSets: UInt64
    }

    struct Lease: Codable, Sendable {
        let expires: String
    }

    struct Progress: Codable, Sendable {
        let origin: UInt32
        @OrNull var node: String?
        let seq: UInt64
    }

    struct Stable: Codable, Sendable {
        let position: UInt64
    }

    struct TableState: Codable, Sendable {
        let name: String
        let rows: Int64
        /// 128 bits in hexadecimal: equal on nodes with equal rows.
        let digest: String
    }

    struct Disk: Codable, Sendable {
        let databaseBytes: Int
        let walBytes: Int
        let freeBytes: Int
    }

    struct Traffic: Codable, Sendable {
        let sent: Int
        let received: Int
    }

    let node: Node
    let software: String
    let state: HealthState
    let reasons: [HealthReason]
    @OrNull var hub: Hub?
    let position: UInt64
    let ahead: Ahead
    @OrNull var behind: Behind?
    @OrNull var skewMilliseconds: Int64?
    let parked: Int
    let conflicts: Int
    let duplicates: Int
    @OrNull var lease: Lease?
    let vector: [Progress]
    let stable: Stable
    let tables: [TableState]
    let disk: Disk
    let bytesToday: Traffic
    /// Rows that other programs have written and that are not part of a change set yet.
    let unsealed: Int
    /// The position up to which this node and its hub were last proved equal.
    @OrNull var provedEqualAt: UInt64?
    /// How many writes to erased rows were dropped.
    let erasedDropped: Int
    /// When every row was last read and added up; nil before the first time.
    @OrNull var checkedAt: String?
}

/// Reads how this node is.
struct ShowStatus: NodeRequest {
    static let name = "status"
    static let worksDuringFirstLoad = true

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedStatus {
        let status = try node.replica.status()
        let retention = try node.replica.retentionStatus()
        // A file of keys that cannot be read is told of where lines are made.
        let certificate = (try? node.replica.lineIdentity())??.certificate
        // A lease is told in head office's time. This clock may have been set right since it was measured, so the
        // earlier of the two counts: a wrong clock ends no lease.
        func atHeadOffice(_ milliseconds: UInt64) -> UInt64 {
            UInt64(clamping: Int64(clamping: milliseconds) - (status.skewMilliseconds ?? 0))
        }
        let now = node.wallClock()
        let reasons =
            HealthReason.all(of: status)
            + HealthReason.retention(
                retention,
                role: status.node.role,
                lastContact: status.lastContact.map(atHeadOffice),
                now: min(now, atHeadOffice(now))
            )
        return PrintedStatus(
            node: PrintedStatus.Node(
                id: hexadecimal(status.node.node),
                name: status.node.name,
                role: status.node.role.rawValue,
                origin: status.node.origin.rawValue,
                fingerprint: certificate.map { fingerprint($0.keyDigest) },
                certificateExpires: certificate.flatMap { rfc3339($0.notAfter) }
            ),
            software: Replica.software,
            state: reasons.map(\.state).max() ?? .green,
            reasons: reasons,
            hub: status.node.hub.map { hub in
                PrintedStatus.Hub(
                    name: hub.name,
                    address: hub.address,
                    connected: status.isConnected,
                    lastContact: status.lastContact.flatMap(rfc3339)
                )
            },
            position: status.end.position,
            ahead: PrintedStatus.Ahead(changeSets: status.ahead.changeSets, rows: status.ahead.rows),
            behind: status.behind.map { PrintedStatus.Behind(changeSets: $0) },
            skewMilliseconds: status.skewMilliseconds,
            parked: status.parked,
            conflicts: status.conflicts,
            duplicates: try node.replica.read { try $0.openDuplicateCount() },
            lease: retention.leaseExpiresAt.flatMap(rfc3339).map { PrintedStatus.Lease(expires: $0) },
            vector: status.vector.map {
                PrintedStatus.Progress(origin: $0.origin.rawValue, node: $0.node, seq: $0.seq)
            },
            stable: PrintedStatus.Stable(position: retention.stablePosition),
            tables: status.tables.map {
                PrintedStatus.TableState(name: $0.name, rows: $0.digest.rows, digest: $0.digest.hexadecimal)
            },
            disk: PrintedStatus.Disk(
                databaseBytes: status.databaseBytes,
                walBytes: status.walBytes,
                freeBytes: status.freeBytes
            ),
            bytesToday: PrintedStatus.Traffic(sent: status.bytesToday.sent, received: status.bytesToday.received),
            unsealed: status.unsealedRows,
            provedEqualAt: status.provedEqualAt,
            erasedDropped: status.erasedDropped,
            checkedAt: status.soundness.checkedAt.flatMap(rfc3339)
        )
    }
}

/// One line of `fleet`.
struct PrintedFleetNode: Codable, Sendable {
    let id: String
    let name: String
    let origin: UInt32
    let role: String
    let state: HealthState
    let reasons: [HealthReason]
    let connected: Bool
    @OrNull var lastContact: String?
    let ahead: PrintedStatus.Behind
    let behind: PrintedStatus.Behind
    @OrNull var skewMilliseconds: Int64?
    let parked: Int
    let conflicts: Int
    @OrNull var software: String?
    @OrNull var lease: PrintedStatus.Lease?
    /// Nil while it takes part.
    @OrNull var retiredAt: String?
    /// What head office has decided about it.
    let standing: NodeStanding
    /// The SHA-256 of its public key, as people compare it.
    @OrNull var fingerprint: String?
    @OrNull var certificateExpires: String?
    let bytesToday: PrintedStatus.Traffic
    let enrolledAt: String
}

/// Reads what head office knows of every node.
struct ShowFleet: NodeRequest {
    static let name = "fleet"

    /// Whether nodes that take part no more are listed too.
    var withRetired = false

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [PrintedFleetNode] {
        guard node.replica.node.role == .headOffice else {
            throw CommandFailure(
                .refused,
                "Only head office sees the fleet. Use `peyvand status` for this node."
            )
        }
        try node.replica.sealForeignWrites()
        let known = try node.replica.registeredNodes().filter { withRetired || $0.retiredAt == nil }
        return known.map { known in
            let reasons = known.retiredAt == nil ? HealthReason.all(of: known) + HealthReason.lease(of: known) : []
            return PrintedFleetNode(
                id: known.node.description,
                name: known.name,
                origin: known.origin.rawValue,
                role: LocalNode.Role.branch.rawValue,
                state: reasons.map(\.state).max() ?? .green,
                reasons: reasons,
                connected: known.isConnected,
                lastContact: known.lastContact.flatMap(rfc3339),
                ahead: PrintedStatus.Behind(changeSets: known.ahead),
                behind: PrintedStatus.Behind(changeSets: known.behind),
                skewMilliseconds: known.skewMilliseconds,
                parked: known.parked,
                conflicts: known.conflicts,
                software: known.software,
                lease: PrintedStatus.Lease(of: known, now: node.wallClock()),
                retiredAt: known.retiredAt.flatMap(rfc3339),
                standing: known.standing,
                fingerprint: known.key.map { fingerprint($0.digest) },
                certificateExpires: known.key?.validUntil.flatMap(rfc3339),
                bytesToday: PrintedStatus.Traffic(sent: known.bytesToday.sent, received: known.bytesToday.received),
                enrolledAt: rfc3339(known.enrolledAt) ?? ""
            )
        }
    }
}

// MARK: - What is not green

extension HealthReason {
    /// From how many milliseconds on a clock is said to be wrong.
    private static let skewMillisecondsMax: UInt64 = 2000
    /// Rows that a reason names.
    private static let rowsNamed = 5
    private static let freeBytesLow = 1 << 30
    private static let freeBytesCritical = 64 << 20

    fileprivate static func all(of status: ReplicaStatus) -> [HealthReason] {
        var reasons: [HealthReason] = []
        func add(_ state: HealthState, _ code: String, _ sentence: String) {
            reasons.append(HealthReason(code: code, sentence: sentence, state: state))
        }
        if !status.node.isJoined {
            add(.red, "notJoined", "This node has not joined its organisation. Finish `peyvand init --join`.")
        }
        if let position = status.divergedAt {
            let rows = status.soundness.differing.prefix(rowsNamed).map(\.printed).joined(separator: ", ")
            let count = status.soundness.differingRows
            let named = count == 0 ? "" : " \(counted(count, "row")): \(rows)\(count > rowsNamed ? " ..." : "")."
            add(
                .red,
                "diverged",
                "At position \(position) the tables differed from head office's.\(named) "
                    + "`peyvand verify --repair` shows what would be put right, and how."
            )
        }
        if !status.soundness.damagedBuckets.isEmpty {
            let tables = status.soundness.damagedBuckets.map(\.table).joined(separator: ", ")
            let rows = status.soundness.damaged.prefix(rowsNamed).map(\.printed).joined(separator: ", ")
            add(
                .red,
                "damaged",
                "Rows of \(tables) have changed on disk by themselves\(rows.isEmpty ? "" : ": " + rows). "
                    + (status.node.role == .headOffice
                        ? "Check the disk, and restore a backup."
                        : "Check the disk; `peyvand verify --repair` puts the rows right.")
            )
        }
        for contradiction in status.contradictions { add(.red, "contradiction", contradiction.sentence) }
        if status.freeBytes < freeBytesCritical {
            add(.red, "diskFull", "Only \(status.freeBytes >> 20) MiB of disk are free. Free some space now.")
        } else if status.freeBytes < freeBytesLow {
            add(.yellow, "diskLow", "Only \(status.freeBytes >> 20) MiB of disk are free. Free some space soon.")
        }
        reasons += lives(status.lives)
        if let code = status.turnedAway {
            add(
                .red,
                "refused",
                code == .revoked
                    ? "Head office has retired this node and lets it take part no more. What it had not sent is still "
                        + "on this machine: keep the directory, and ask head office."
                    : "Head office refused this node when it last called (\(code)). `peyvand sync` says why."
            )
        }
        if status.node.role == .branch, status.node.isJoined {
            if status.lastContact == nil {
                add(.yellow, "neverContacted", "Head office was never reached. Run `peyvand sync`.")
            }
            if status.ahead.changeSets > 0 {
                add(
                    .yellow,
                    "unsent",
                    "\(counted(status.ahead.changeSets, "change set")) with \(counted(status.ahead.rows, "row")) "
                        + "\(status.ahead.changeSets == 1 ? "exists" : "exist") only here. Run `peyvand sync`."
                )
            }
            if let behind = status.behind, behind > 0 {
                add(
                    .yellow,
                    "unreceived",
                    "\(counted(behind, "change set")) of head office \(behind == 1 ? "has" : "have") not been received. Run `peyvand sync`."
                )
            }
        }
        if status.unsealedRows > 0 {
            add(
                .yellow,
                "unsealed",
                "\(counted(status.unsealedRows, "row")) written by other programs will be taken up by the next "
                    + "command that writes, or by `peyvand sync`."
            )
        }
        if status.conflicts > 0 {
            add(
                .yellow,
                "conflicts",
                "\(counted(status.conflicts, "value")) lost against others written at the same time and nobody has "
                    + "decided yet. Run `peyvand conflicts`."
            )
        }
        if status.isScrubDue {
            add(
                .yellow,
                "erasing",
                "Bytes of erased rows still lie in the file, until programs that read it have finished and this node "
                    + "runs, or runs a command that writes."
            )
        }
        if let reason = skew(status.skewMilliseconds, "this node's clock") { reasons.append(reason) }
        switch status.clockTrust {
        case .trusted: break
        case .apart(let milliseconds, let branches):
            add(
                .red,
                "clockWrong",
                "Most of the \(branches) branches heard lately agree on a time that is "
                    + "\(lasting(milliseconds.magnitude)) \(milliseconds > 0 ? "ahead of" : "behind") this clock, so no "
                    + "branch's times are corrected by it. Set head office's clock."
            )
        case .behindLog(let milliseconds, isConfirmed: false):
            add(
                .red,
                "clockWrong",
                "This clock is \(lasting(milliseconds)) behind the newest change set of the log, so no branch's times "
                    + "are corrected by it. Set head office's clock."
            )
        case .behindLog(let milliseconds, isConfirmed: true):
            add(
                .red,
                "clockWrong",
                "The newest change set of the log is \(lasting(milliseconds)) ahead of this clock, with which the "
                    + "branches' clocks agree: it was written by a clock that was wrong. Until that time has come no "
                    + "branch's times are corrected."
            )
        }
        if status.parked > 0 {
            add(
                .yellow,
                "parked",
                "\(counted(status.parked, "change")) of rows could not be applied and "
                    + "\(status.parked == 1 ? "waits" : "wait"). "
                    + "\(status.parkedReason.map { "The first: \($0.sentence) " } ?? "")`peyvand parked` lists them."
            )
        }
        // Nothing is left of it where head office has none of it either, or its rows were taken since.
        if status.dropped > 0, status.divergedAt != nil || status.provedEqualAt != status.end.position {
            add(
                .yellow,
                "dropped",
                "\(counted(status.dropped, "parked change")) \(status.dropped == 1 ? "was" : "were") given up here. "
                    + "Where head office has applied them, these rows differ."
            )
        }
        if status.newerChangeSets > 0 {
            add(
                .yellow,
                "newerSchema",
                "\(counted(status.newerChangeSets, "change set")) \(status.newerChangeSets == 1 ? "holds" : "hold") "
                    + "fields that this version does not know. They are kept and sent on, and appear after an upgrade."
            )
        }
        if status.walBytes > ReplicaStatus.walBytesMax {
            add(
                .yellow,
                "walLarge",
                "The write-ahead log has grown to \(status.walBytes >> 20) MiB, because "
                    + "\(status.walReader ?? "another program") has been reading an old state for long. Let it end "
                    + "its transaction, or stop it."
            )
        }
        return reasons
    }

    fileprivate static func all(of node: RegisteredNodeState) -> [HealthReason] {
        var reasons: [HealthReason] = []
        func add(_ state: HealthState, _ code: String, _ sentence: String) {
            reasons.append(HealthReason(code: code, sentence: sentence, state: state))
        }
        if let position = node.divergedAt {
            add(
                .red,
                "diverged",
                "At position \(position) its tables differed from these. Run `peyvand verify --repair` there."
            )
        }
        for contradiction in node.contradictions { add(.red, "contradiction", contradiction.sentence) }
        switch node.standing {
        case .waiting:
            let sentence = "It waits: compare fingerprints by telephone, then `peyvand node approve \(node.name)`."
            add(.yellow, "waitsForApproval", sentence)
        case .paused: add(.yellow, "paused", "It is paused: `peyvand node resume \(node.name)` lets it in again.")
        case .revoked:
            add(.yellow, "revoked", "Its certificate is revoked. `peyvand node retire \(node.name)` ends it.")
        case .active, .retired: break
        }
        // Who is kept out by a decision is refused because of it.
        if let sentence = node.lastRefusal, node.standing == .active {
            add(.red, "refused", "Its last call was refused: \(sentence)")
        }
        if node.parked > 0 {
            add(
                .yellow,
                "parked",
                "\(counted(node.parked, "change")) of rows could not be applied there and "
                    + "\(node.parked == 1 ? "waits" : "wait"). See "
                    + "`peyvand parked` there."
            )
        }
        if let fork = node.fork { reasons += lives(fork, of: node) }
        if node.lastContact == nil {
            add(.yellow, "neverContacted", "It has joined and never synchronised.")
        }
        if node.ahead > 0 {
            add(
                .yellow,
                "unsent",
                "It holds \(counted(node.ahead, "change set")) that \(node.ahead == 1 ? "is" : "are") not here yet."
            )
        }
        if node.behind > 0 {
            add(.yellow, "unreceived", "It has not received \(counted(node.behind, "change set")) of head office.")
        }
        if node.conflicts > 0 {
            add(.yellow, "conflicts", "It shows \(counted(node.conflicts, "conflict")) that nobody has decided yet.")
        }
        if let reason = skew(node.skewMilliseconds, "its clock") { reasons.append(reason) }
        return reasons
    }

    private static func skew(_ milliseconds: Int64?, _ whose: String) -> HealthReason? {
        guard let milliseconds, milliseconds.magnitude >= skewMillisecondsMax else { return nil }
        return HealthReason(
            code: "clockSkew",
            sentence: "At the last contact \(whose) was \(lasting(milliseconds.magnitude)) "
                + "\(milliseconds > 0 ? "ahead of" : "behind") head office's. Set that clock; what was written by it is "
                + "corrected when it is synchronised.",
            state: .yellow
        )
    }
}

/// A length of time in its largest unit that is not too coarse.
private func lasting(_ milliseconds: UInt64) -> String {
    let units: [(seconds: UInt64, noun: String)] = [(86_400, "day"), (3600, "hour"), (60, "minute")]
    let seconds = milliseconds / 1000 + (milliseconds % 1000 >= 500 ? 1 : 0)
    for unit in units where seconds >= 2 * unit.seconds { return counted(seconds / unit.seconds, unit.noun) }
    return counted(seconds, "second")
}

func counted(_ number: some BinaryInteger, _ noun: String) -> String {
    number == 1 ? "1 \(noun)" : "\(number) \(noun)s"
}

func rfc3339(_ milliseconds: UInt64) -> String? {
    CivilTime.rfc3339(ofMilliseconds: Int64(clamping: milliseconds))
}

func hexadecimal(_ bytes: [UInt8]) -> String {
    bytes.reduce(into: "") { $0 += String($1 >> 4, radix: 16) + String($1 & 15, radix: 16) }
}
