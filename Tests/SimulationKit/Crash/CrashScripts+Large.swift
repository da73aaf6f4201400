import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit

@testable import ReplicaStore

// What is too large for one piece, and what is done about rows afterwards.

extension CrashScript {
    /// A large transaction: names, and notes that hardly get smaller.
    private static let largeRows: [(name: String, note: String)] = {
        var random = SeededRandom(seed: 8)
        return (0..<80).map { number in
            ("بزرگ \(number)", String(decoding: (0..<500).map { _ in UInt8(33 + random.below(90)) }, as: UTF8.self))
        }
    }()

    /// Whether all rows of one transaction are there, or none.
    private static func wholeness(at node: CrashNode) throws -> [String] {
        let names = largeRows.map(\.name)
        let present = try node.replica.read { reader in
            try Set(String.fetchAll(reader.db, sql: "SELECT name FROM customer"))
        }
        let count = present.intersection(names).count
        return count == 0 || count == names.count ? [] : ["\(count) rows of a transaction of \(names.count) are there"]
    }

    private static func inParts(_ name: String, isHubTheVictim: Bool) -> CrashScript {
        CrashScript(
            name: name,
            isHubTheVictim: isHubTheVictim,
            prepare: { stage in
                try stage.makeBoth()
                stage.limits.batchBytesMax = 8 << 10
                stage.limits.partBytesMax = 4 << 10
                let writer = isHubTheVictim ? stage.branch : stage.hub
                _ = try writer.replica.write { transaction in
                    for row in largeRows {
                        try transaction.insert("customer", ["name": .text(row.name), "note": .text(row.note)])
                    }
                }
                largeRows.map(\.name).forEach(stage.promise)
                try stage.add("پس از بزرگ", at: writer)
            },
            play: { try $0.sync() },
            recover: { try wholeness(at: isHubTheVictim ? $0.hub : $0.branch) }
        )
    }

    static let partsAtHub = inParts("head office takes a large transaction in parts", isHubTheVictim: true)
    static let partsAtBranch = inParts("a branch takes a large transaction in parts", isHubTheVictim: false)

    static let foreignLargeWrite = CrashScript(
        name: "a large write of another program is sealed",
        play: { stage in
            try stage.branch.otherProgram { db in
                try db.inTransaction {
                    let insert = try db.makeStatement(
                        sql: "INSERT INTO customer(id, name, note) VALUES ((SELECT customer FROM nextId), ?, ?)"
                    )
                    for row in largeRows { try insert.execute(arguments: [row.name, row.note]) }
                    return .commit
                }
            }
            largeRows.map(\.name).forEach(stage.promise)
            try stage.branch.replica.sealForeignWrites()
            try stage.add("پس از بزرگ", at: stage.branch)
        },
        recover: { stage in
            try stage.branch.replica.sealForeignWrites()
            return try wholeness(at: stage.branch)
        }
    )

    static let resolve = CrashScript(
        name: "a losing write is taken back",
        isHubTheVictim: true,
        prepare: { stage in
            try unsentAtBoth(stage)
            try stage.sync()
            try stage.sync()
        },
        play: { stage in
            guard let lost = try stage.openConflicts().first else { return }
            stage.clock.milliseconds += 10
            _ = try stage.hub.replica.write { transaction in
                try transaction.update("customer", id: stage.ids[0], ["note": .text("پس‌گرفته")])
                try transaction.update(
                    "conflict",
                    id: lost,
                    ["resolution": .text(ConflictResolution.taken.rawValue)]
                )
            }
            try stage.sync()
        },
        recover: { stage in
            let note = try stage.hub.replica.read { reader in
                try String.fetchOne(
                    reader.db,
                    sql: "SELECT note FROM customer WHERE id = ?",
                    arguments: [stage.ids[0].rawValue]
                )
            }
            // The decision and the edit are one.
            return try stage.openConflicts().isEmpty == (note == "پس‌گرفته")
                ? [] : ["the losing write counts as decided, or not, beside \(note ?? "nothing")"]
        }
    )

    static let search = CrashScript(
        name: "the search index is kept",
        play: { stage in
            try stage.add("جستنی یک", at: stage.branch)
            try stage.branch.replica.followLogForSearch()
            try stage.add("جستنی دو", at: stage.branch)
            // From here on it may be gone.
            stage.release("پایه شعبه 0")
            try stage.delete(stage.ids[1], at: stage.branch)
            try stage.branch.replica.followLogForSearch()
        },
        recover: { stage in
            let replica = try stage.branch.replica
            for (word, pattern) in [("جستنی", "جستنی%"), ("پایه", "پایه%")] {
                let found = try replica.findCustomers(word, limit: 100).count
                let there = try replica.read { reader in
                    try Int.fetchOne(
                        reader.db,
                        sql: "SELECT count(*) FROM customer WHERE name LIKE ?",
                        arguments: [pattern]
                    )
                }
                if found != there { return ["\(found) of \(there ?? 0) customers are found by \(word)"] }
            }
            return []
        }
    )

    static let loadFromFile = CrashScript(
        name: "a new branch loads a snapshot from a file",
        prepare: { stage in
            stage.hub.policy = { $0.snapshotPieceBytes = 3000 }
            try stage.makeHeadOffice()
            for round in 0..<6 {
                let names = (0..<4).map { "پرونده \(round) \($0)" }
                _ = try stage.hub.replica.write { transaction in
                    for name in names { try transaction.insert("customer", ["name": .text(name)]) }
                }
                names.forEach(stage.promise)
            }
            try stage.makeBranch()
            _ = try stage.hub.replica.writeSnapshot(to: stage.snapshotFile) { _, _ in }
        },
        play: { stage in
            _ = try stage.branch.replica.readSnapshot(from: stage.snapshotFile) { _, _ in }
            try stage.add("پس از بار", at: stage.branch)
            try stage.sync()
        },
        recover: { stage in
            // The command is given again.
            do {
                _ = try stage.branch.replica.readSnapshot(from: stage.snapshotFile) { _, _ in }
            } catch SnapshotFileFailure.nothingNew {
            }
            return []
        }
    )
}

extension Stage {
    /// Where the branch finds a file that it was sent.
    fileprivate var snapshotFile: String { branch.disk.directory + "/snapshot" }

    /// The losing writes of which head office has not decided.
    fileprivate func openConflicts() throws -> [RowID] {
        try hub.replica.read { reader in
            try Int64.fetchAll(reader.db, sql: "SELECT id FROM conflict WHERE resolution = 'open' ORDER BY id")
        }.compactMap(RowID.init(rawValue:))
    }
}
