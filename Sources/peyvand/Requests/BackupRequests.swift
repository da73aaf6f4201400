import CRM
import Causality
import Foundation
import ReplicaStore

/// A verified backup, as commands print it.
struct PrintedBackup: Codable, Sendable {
    let file: String
    let node: String
    let role: String
    /// The end of the log in it.
    let position: UInt64
    let rows: Int64
    let bytes: Int
    let madeAt: String

    init(_ report: BackupReport) {
        file = report.file
        node = report.node
        role = report.role.rawValue
        position = report.position
        rows = report.rows
        bytes = report.bytes
        madeAt = rfc3339(report.madeAt) ?? ""
    }
}

/// Makes a backup, while the node goes on.
struct MakeBackup: NodeRequest {
    static let name = "backup"

    /// Absolute, because a running node has another working directory.
    let file: String

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedBackup {
        do {
            return PrintedBackup(
                try node.replica.backup(to: file) { done, total in
                    try progress(ProgressReport(count: done, total: total))
                }
            )
        } catch let failure as BackupFailure {
            throw CommandFailure(failure)
        }
    }
}

extension CommandFailure {
    /// Puts a failed backup or restore into its exit code.
    init(_ failure: BackupFailure) {
        let isState: Bool =
            switch failure {
            case .fileExists, .noFile, .nodeThere, .otherNode, .older: true
            case .notABackup, .damaged, .failed: false
            }
        self.init(isState ? .refused : .failed, failure.description)
    }
}

/// The rows that a number leads to beside the row that has it: those that had it before.
struct FormerNumber: NodeRequest {
    static let name = "row.former"

    let table: String
    let row: String

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [String] {
        try node.replica.read { reader in
            guard let table = reader.schema.table(named: table), let id = FieldText.identifier(row) else { return [] }
            return try reader.presentIdentifiers(of: id, in: table).map(\.description)
        }
    }
}
