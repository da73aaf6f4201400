import CRM
import Causality
import ReplicaStore

/// One table of `verify --json`.
struct PrintedVerification: Codable, Sendable {
    let id: String
    let name: String
    let rows: Int64
    let digest: String
    let isRight: Bool
    let differingBuckets: Int
    /// Some of the rows among which the damaged ones are.
    let suspects: [String]
}

/// A row that is not what it should be.
struct PrintedDifference: Codable, Sendable {
    let id: String
    let table: String
    /// `differs`, `missing` here, or `extra` here.
    let kind: String
    /// The fields, as far as they are known.
    let fields: [String]

    init(_ difference: RowDifference) {
        id = difference.id.description
        table = difference.table
        kind = "\(difference.kind)"
        fields = difference.columns
    }
}

extension RowDifference {
    /// The row and its fields in a sentence.
    var printed: String {
        let what =
            switch kind {
            case .differs: columns.isEmpty ? "" : " (\(Self.named(columns).joined(separator: ", ")))"
            case .missing: " (missing here)"
            case .extra: " (only here)"
            }
        return "\(table) \(id)\(what)"
    }

    /// Fields as people read them: the first few when there are many.
    static func named(_ fields: [String]) -> [String] {
        fields.count > 6 ? fields.prefix(5) + ["... \(fields.count)"] : fields
    }
}

/// A living row that belongs to a deleted or erased one.
struct PrintedOrphan: Codable, Sendable {
    struct Parent: Codable, Sendable {
        let table: String
        let id: String
    }

    let id: String
    let table: String
    let parent: Parent
    /// `deleted` or `erased`.
    let reason: String

    init(_ orphan: OrphanedRow) {
        id = orphan.id.description
        table = orphan.table.name
        parent = Parent(table: orphan.parentTable, id: orphan.parent.description)
        reason = orphan.isParentErased ? "erased" : "deleted"
    }
}

/// What a node knows of its soundness.
struct PrintedSoundness: Codable, Sendable {
    /// The last comparison with head office.
    struct Hub: Codable, Sendable {
        /// When it was made row by row; nil when the sums were always equal.
        @OrNull var comparedAt: String?
        /// Where both were last proved equal, and where they were found different.
        @OrNull var provedEqualAt: UInt64?
        @OrNull var divergedAt: UInt64?
        let differingRows: Int
        /// Head office's own rows did not add up: it must be put right first.
        let isHubDamaged: Bool
        let differing: [PrintedDifference]
    }

    let state: HealthState
    let tables: [PrintedVerification]
    /// When every row was last read and added up.
    @OrNull var checkedAt: String?
    /// Rows that are not what the log says.
    let damaged: [PrintedDifference]
    @OrNull var hub: Hub?
    let orphans: [PrintedOrphan]
    /// Rows that the last repair has put in place.
    var repaired = 0
    let isHeadOffice: Bool
}

/// Tells what is known of a node's rows, after reading all of them if that is wanted.
struct VerifyReplica: NodeRequest {
    static let name = "verify"

    /// Reads every row.
    var isDeep = false

    private static let orphansMax = 1000

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedSoundness {
        let replica = node.replica
        var tables: [PrintedVerification] = []
        if isDeep {
            tables = try replica.verifyDeep { done, total in
                try progress(ProgressReport(count: done, total: total))
            }.map {
                PrintedVerification(
                    id: $0.name,
                    name: $0.name,
                    rows: $0.counted.rows,
                    digest: $0.counted.hexadecimal,
                    isRight: $0.isRight,
                    differingBuckets: $0.differingBuckets.count,
                    suspects: $0.suspects.map(\.description)
                )
            }
        }
        let status = try replica.status()
        let soundness = status.soundness
        if !isDeep {
            let damaged = Dictionary(uniqueKeysWithValues: soundness.damagedBuckets.map { ($0.table, $0.count) })
            tables = status.tables.map {
                PrintedVerification(
                    id: $0.name,
                    name: $0.name,
                    rows: $0.digest.rows,
                    digest: $0.digest.hexadecimal,
                    isRight: damaged[$0.name] == nil,
                    differingBuckets: damaged[$0.name] ?? 0,
                    suspects: []
                )
            }
        }
        let isHeadOffice = status.node.role == .headOffice
        let isRight = soundness.isSound && status.divergedAt == nil && tables.allSatisfy(\.isRight)
        return PrintedSoundness(
            state: isRight ? .green : .red,
            tables: tables,
            checkedAt: soundness.checkedAt.flatMap(rfc3339),
            damaged: soundness.damaged.map(PrintedDifference.init),
            hub: isHeadOffice
                ? nil
                : PrintedSoundness.Hub(
                    comparedAt: soundness.comparedAt.flatMap(rfc3339),
                    provedEqualAt: status.provedEqualAt,
                    divergedAt: status.divergedAt,
                    differingRows: soundness.differingRows,
                    isHubDamaged: soundness.damagedAtHub > 0,
                    differing: soundness.differing.map(PrintedDifference.init)
                ),
            orphans: try replica.read { try $0.orphans(limit: Self.orphansMax).map(PrintedOrphan.init) },
            repaired: replica.lastRepair,
            isHeadOffice: isHeadOffice
        )
    }
}

/// Has a running node meet head office now and compare row by row; with `repairs`, put rows right.
struct CompareWithHub: NodeRequest {
    static let name = "compare"

    let repairs: Bool

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedSync {
        node.replica.wish(.compare(repairs: repairs))
        // Nobody waits for it after this.
        defer { node.replica.wish(.none) }
        return try SyncNow(timeoutSeconds: nil).perform(in: node, progress: progress)
    }
}
