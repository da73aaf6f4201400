import CRM
import Foundation
import ReplicaStore
import SyncProtocol

// Leases, what may be forgotten, who takes part no more, and snapshots in files.

extension Replica {
    /// Adopts what the settings say about leases and history.
    func adoptRetention(_ settings: Settings) throws {
        let lease = try settings.days(.lease, in: 1...3650)
        let history = try settings.days(.history, in: 0...36500)
        adopt { policy in
            if let lease { policy.leaseDays = lease }
            if let history { policy.historyDays = history }
        }
    }
}

extension Settings {
    /// A setting in days; nil when it is not set.
    fileprivate func days(_ key: Key, in range: ClosedRange<UInt64>) throws -> UInt64? {
        guard let text = value(key) else { return nil }
        guard let days = UInt64(text), range.contains(days) else {
            throw CommandFailure(
                .usage,
                "The setting \(key.rawValue) is \"\(text)\"; it is a number of days from \(range.lowerBound) to "
                    + "\(range.upperBound)."
            )
        }
        return days
    }
}

extension HealthReason {
    private static let dayMilliseconds = UInt64(CivilTime.dayMilliseconds)
    /// So long before the end of a lease it is said.
    private static let leaseWarningDays: UInt64 = 14
    /// With so many change sets in no backup it is said, or when the first is a day old.
    private static let unsafeChangeSetsMax: UInt64 = 1000

    /// What leases, backups and the first load add to the reasons of a status.
    static func retention(
        _ retention: RetentionStatus,
        role: LocalNode.Role,
        lastContact: UInt64?,
        now: UInt64
    ) -> [HealthReason] {
        var reasons: [HealthReason] = []
        if let load = retention.firstLoad, load.isFresh {
            reasons.append(
                HealthReason(
                    code: "loading",
                    sentence: "The first load has brought \(load.rows) of about \(load.total) rows. Run `peyvand sync` "
                        + "until it has ended.",
                    state: .yellow
                )
            )
        }
        if retention.areTablesWrong {
            reasons.append(
                HealthReason(
                    code: "snapshotsStopped",
                    sentence:
                        "Rows differ from what was written, so no snapshot is given to anybody. Run `peyvand verify`.",
                    state: .red
                )
            )
        }
        if role == .branch {
            if let expires = retention.leaseExpiresAt {
                reasons += lease(endsAt: expires, lastContact: lastContact ?? now, now: now)
            }
        } else if retention.activeNodes > 0, retention.unsafeChangeSets > 0 {
            let isOld = retention.unsafeSince.map { now > $0 + dayMilliseconds } ?? false
            guard isOld || retention.unsafeChangeSets > unsafeChangeSetsMax else { return reasons }
            reasons.append(
                retention.safePosition == 0
                    ? HealthReason(
                        code: "noBackup",
                        sentence: "There is no verified backup of head office. Run `peyvand backup FILE`, on another "
                            + "disk.",
                        state: .yellow
                    )
                    : HealthReason(
                        code: "backupOld",
                        sentence: "\(counted(retention.unsafeChangeSets, "change set")) are in no verified backup. "
                            + "Run `peyvand backup FILE`.",
                        state: .yellow
                    )
            )
        }
        return reasons
    }

    private static func lease(endsAt expires: UInt64, lastContact: UInt64, now: UInt64) -> [HealthReason] {
        if now >= expires {
            return [
                HealthReason(
                    code: "leaseExpired",
                    sentence: "This node has been away for so long that head office no longer keeps what it lacks. "
                        + "Nothing is lost: run `peyvand sync`; it hands in its work and loads the rows anew.",
                    state: .yellow
                )
            ]
        }
        let days = (expires - now) / dayMilliseconds
        // A short lease would always be about to end.
        let leaseDays = (max(expires, lastContact) - lastContact) / dayMilliseconds
        guard days < min(leaseWarningDays, max(leaseDays / 3, 1)) else { return [] }
        return [
            HealthReason(
                code: "leaseExpiring",
                sentence: "In \(counted(days, "day")) head office stops keeping what this node lacks. Run "
                    + "`peyvand sync` before, or loading takes longer afterwards.",
                state: .yellow
            )
        ]
    }

    /// What the lease of a node adds to the reasons of a line of `fleet`.
    static func lease(of node: RegisteredNodeState) -> [HealthReason] {
        guard node.retiredAt == nil, let days = node.leaseDaysLeft else { return [] }
        if days == 0 {
            return [
                HealthReason(
                    code: "leaseExpired",
                    sentence: "It was away for longer than its lease. When it calls it hands in its work and loads a "
                        + "snapshot; if it will not come back, retire it: `peyvand node retire \(node.name)`.",
                    state: .red
                )
            ]
        }
        guard days <= min(leaseWarningDays, node.leaseDays / 3) else { return [] }
        return [
            HealthReason(
                code: "leaseExpiring",
                sentence: "Its lease ends in \(counted(days, "day")); until then everything it lacks is kept for it.",
                state: .yellow
            )
        ]
    }
}

extension PrintedStatus.Lease {
    /// The lease of a node as head office counts it, if head office is used every day.
    init?(of node: RegisteredNodeState, now: UInt64) {
        guard node.retiredAt == nil, let days = node.leaseDaysLeft,
            let expires = CivilTime.rfc3339(
                ofMilliseconds: Int64(clamping: now) + Int64(clamping: days) * CivilTime.dayMilliseconds
            )
        else { return nil }
        self.init(expires: expires)
    }
}

// MARK: - Who takes part

/// Reads what head office knows of one node.
struct ShowNode: NodeRequest {
    static let name = "node.show"

    let node: String

    func perform(in service: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedFleetNode {
        let fleet = try ShowFleet(withRetired: true).perform(in: service, progress: progress)
        guard let printed = fleet.first(where: { $0.name == node }) else {
            throw CommandFailure(.refused, RetirementFailure.unknownNode(node).description)
        }
        return printed
    }
}

/// Lets a node take part no more.
struct RetireNode: NodeRequest {
    struct Reply: Codable, Sendable {
        let id: String
        let name: String
        /// False when it had been retired before.
        let isChanged: Bool
    }

    static let name = "node.retire"

    let node: String

    func perform(in service: NodeService, progress: (ProgressReport) throws -> Void) throws -> Reply {
        do {
            return Reply(id: node, name: node, isChanged: try service.replica.retire(node))
        } catch let failure as RetirementFailure {
            throw CommandFailure(.refused, failure.description)
        }
    }
}

// MARK: - Snapshots in files

/// What a bundle's file has moved.
struct PrintedSnapshotFile: Codable, Sendable {
    let id: String
    let rows: Int
    let bytes: Int
    /// Where in head office's log the snapshot begins.
    let position: UInt64

    init(_ path: String, _ report: SnapshotFileReport) {
        id = path
        rows = report.rows
        bytes = report.bytes
        position = report.position
    }
}

/// Writes all rows into a file.
struct WriteSnapshotFile: NodeRequest {
    static let name = "bundle.write"

    /// Absolute: a running node has another working directory than the command.
    let path: String

    func perform(
        in node: NodeService,
        progress: (ProgressReport) throws -> Void
    ) throws -> PrintedSnapshotFile {
        try SnapshotFileFailure.asCommandFailure {
            let report = try node.replica.writeSnapshot(to: path) {
                try progress(ProgressReport(count: $0, total: $1))
            }
            return PrintedSnapshotFile(path, report)
        }
    }
}

/// Takes all rows out of a file.
struct ReadSnapshotFile: NodeRequest {
    static let name = "bundle.read"
    static let worksDuringFirstLoad = true

    /// Absolute, as in ``WriteSnapshotFile``.
    let path: String

    func perform(
        in node: NodeService,
        progress: (ProgressReport) throws -> Void
    ) throws -> PrintedSnapshotFile {
        try SnapshotFileFailure.asCommandFailure {
            let report = try node.replica.readSnapshot(from: path) {
                try progress(ProgressReport(count: $0, total: $1))
            }
            return PrintedSnapshotFile(path, report)
        }
    }
}

/// What a bundle of change sets holds, or what was taken from one.
struct PrintedBundle: Codable, Sendable {
    let id: String
    let changeSets: Int
    let rows: Int
    let bytes: Int
    /// At a branch: the last of its own change sets that head office confirms in it. At head office: the position of its log
    /// up to which the branch has it.
    @OrNull var confirmed: UInt64?

    init(_ path: String, _ report: BundleReport) {
        id = path
        changeSets = report.changeSets
        rows = report.rows
        bytes = report.bytes
        confirmed = report.confirmed
    }
}

/// Writes what another node lacks into a file.
struct WriteBundle: NodeRequest {
    static let name = "bundle.writeChanges"

    /// Absolute, as in ``WriteSnapshotFile``.
    let path: String
    /// At head office: for which branch.
    let receiver: String?

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedBundle {
        try SnapshotFileFailure.asCommandFailure {
            let report = try node.replica.writeBundle(to: path, for: receiver, randomBytes: randomBytes) {
                try progress(ProgressReport(count: $0))
            }
            return PrintedBundle(path, report)
        }
    }
}

/// Takes change sets out of a file.
struct ReadBundle: NodeRequest {
    static let name = "bundle.readChanges"

    /// Absolute, as in ``WriteSnapshotFile``.
    let path: String

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedBundle {
        try SnapshotFileFailure.asCommandFailure {
            let report = try node.replica.readBundle(from: path) { try progress(ProgressReport(count: $0)) }
            return PrintedBundle(path, report)
        }
    }
}

extension SnapshotFileFailure {
    fileprivate static func asCommandFailure<Result>(_ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch let failure as SnapshotFileFailure {
            switch failure {
            case .notHeadOffice, .notBranch, .otherOrganisation, .nothingNew:
                throw CommandFailure(.refused, failure.description)
            case .notReadable, .notWritable, .notASnapshot, .newerFormat, .damaged, .cut:
                throw CommandFailure(.failed, failure.description)
            }
        } catch let failure as BundleFailure {
            switch failure {
            case .noReceiver: throw CommandFailure(.usage, failure.description)
            case .notSigned: throw CommandFailure(.failed, failure.description)
            case .unknownNode, .notForThisNode, .notCertified, .trimmed, .mustMeet, .inSession, .refused:
                throw CommandFailure(.refused, failure.description)
            }
        } catch let refusal as Refusal {
            throw CommandFailure(.failed, refusal.sentence)
        }
    }
}
