import CRM
import Causality
import SimulationKit
import SyncProtocol

@testable import ReplicaStore

extension Office {
    /// An oracle of everything in this office's log.
    func oracle() throws -> HistoryOracle {
        try replica.read { reader in
            var oracle = HistoryOracle()
            for entry in try reader.log(after: 0, limit: .max) {
                if let content = try reader.logEntry(at: entry.position)?.content {
                    oracle.add(content, time: entry.time)
                }
            }
            return oracle
        }
    }

    /// What a row is here, in the words of the oracle.
    func present(_ id: RowID, in table: TableDescription) throws -> HistoryOracle.Expectation? {
        try replica.present(id, in: table)
    }
}

extension Office {
    /// What must be open, by the log of this office.
    func conflictOracle() throws -> ConflictOracle {
        var oracle = ConflictOracle()
        let sets = try replica.read { reader in
            try reader.log(after: 0, limit: .max).map { try reader.logEntry(at: $0.position) }
        }
        for case (let entry, let content?)? in sets {
            oracle.add(content, entry.id, position: entry.position, time: entry.time)
        }
        return oracle
    }

    /// The entries of the list, in the words of the oracle.
    func conflicts(_ resolution: ConflictResolution = .open) throws -> [String] {
        try replica.openConflicts(resolution)
    }

    func entries(_ resolution: ConflictResolution = .open) throws -> [StoredRow] {
        try replica.read { try $0.rows(.conflict, where: "resolution", is: .text(resolution.rawValue)) }
    }
}
