import CRM
import Causality
import Foundation
import GRDB
import GRDBSQLite
import SyncProtocol

@testable import ReplicaStore

// What must stay, what must go, and who must stay who he is.

extension World {
    /// A body that is not in any backup is the only one that nobody can take away.
    func lookAtTrimming(_ hub: Replica) throws {
        let lost = try hub.read { reader in
            try Int64.fetchOne(reader.db, sql: "SELECT max(position) FROM log WHERE body IS NULL")
        }
        guard let lost, lost > Int64(self.hub.backedUp) else { return }
        violate("I15", "head office let go of position \(lost), and its backup ends at \(self.hub.backedUp)")
    }

    /// Of what was erased nothing is left in any file, in the index or in the log.
    func lookAtErased(_ erased: Set<RowKey>) throws {
        let marks = ledger.rows.filter { erased.contains(RowKey(table: $0.value.table, id: $0.value.id)) }.keys.sorted()
        guard !marks.isEmpty else { return }
        for node in nodes {
            guard let replica = node.replica else { continue }
            _ = try replica.scrubErased()
            let bytes = try replica.fileBytes()
            let left = marks.first { mark in
                mark.traces.contains { bytes.range(of: Data($0.utf8)) != nil }
            }
            if let left {
                let places = try replica.tables(with: left.traces)
                violate(
                    "I25",
                    "node \(node.number) has the bytes of \(left), which was erased, in "
                        + (places.isEmpty ? "no table" : places.joined(separator: ", "))
                )
            }
            for position in 1...UInt64(max(1, node.log.keys.count)) {
                let written = try replica.read { try $0.logEntry(at: position)?.content?.tables } ?? []
                let left = written.first { table in
                    table.rows.contains { row in
                        row.operation != .erase && erased.contains(RowKey(table: table.number, id: row.id))
                    }
                }
                if let left {
                    violate("I25", "the log of node \(node.number) has an erased \(left.number) at \(position)")
                }
            }
        }
    }

    /// A branch and head office know the same, and their tables differ: comparing mends that, and nothing may need it
    /// where no disk was put back or broken, and no row was refused.
    func lookAtDifference(_ branch: SimulatedNode) {
        let excuses: Set<Step.Verb> = [.putBack, .clone, .recover, .fail, .forbid]
        guard !script.steps.contains(where: { excuses.contains($0.verb) }) else { return }
        violate("I4", "node \(branch.number) and head office know the same, and differ")
    }

    /// Whoever was never copied, never lost anything and had no wrong clock beside him keeps his number.
    func lookAtNumbers() {
        let excuses: Set<Step.Verb> = [.putBack, .clone, .recover, .fail]
        let isExcused = script.steps.contains { step in
            excuses.contains(step.verb) || (step.node == 0 && [.setClock, .freezeClock].contains(step.verb))
        }
        guard !isExcused else { return }
        for node in nodes where node.replica?.node.origin != node.firstOrigin {
            violate("I7", "node \(node.number) took another number for no reason")
        }
    }
}

extension Replica {
    /// The tables, the node's own ones too, that hold one of some texts, with the row and the column.
    fileprivate func tables(with texts: [String]) throws -> [String] {
        try read { reader in
            let tables = try String.fetchAll(
                reader.db,
                sql: "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
            )
            return try tables.flatMap { table in
                try Row.fetchAll(reader.db, sql: "SELECT * FROM \"\(table)\"").flatMap { row in
                    row.filter { _, value in
                        guard let data = Data.fromDatabaseValue(value) else { return false }
                        return texts.contains { data.range(of: Data($0.utf8)) != nil }
                    }.map { column, _ in "\(table).\(column) (\(Array(row.databaseValues)[0]))" }
                }
            }
        }
    }

    /// The file as it is, pages that are free included.
    fileprivate func fileBytes() throws -> Data {
        try pool.read { db in
            var count: sqlite3_int64 = 0
            guard let bytes = sqlite3_serialize(db.sqliteConnection, "main", &count, 0) else {
                throw StoreFailure.database("The file cannot be read.")
            }
            defer { sqlite3_free(bytes) }
            return Data(bytes: bytes, count: Int(count))
        }
    }
}
