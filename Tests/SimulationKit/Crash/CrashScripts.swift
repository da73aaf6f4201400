import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit

@testable import ReplicaStore

/// Something that a node does, during which its disk goes wrong at every point in turn.
package struct CrashScript: Sendable {
    package let name: String
    /// Whose disk goes wrong.
    var isHubTheVictim = false
    /// Makes both nodes; they are closed afterwards.
    var prepare: @Sendable (Stage) throws -> Void = { try $0.makeBoth() }
    /// What is swept. The victim is open, unless ``opensVictim`` says otherwise; its opening and closing are swept too.
    let play: @Sendable (Stage) throws -> Void
    var opensVictim = true
    /// What must be after a recovery, beside what always must; may open the victim first, or mend what the script broke.
    var recover: @Sendable (Stage) throws -> [String] = { _ in [] }
    /// Whether there are two nodes that meet afterwards.
    var hasPeer = true

    func victim(of stage: Stage) -> CrashNode { isHubTheVictim ? stage.hub : stage.branch }
    func peer(of stage: Stage) -> CrashNode { isHubTheVictim ? stage.branch : stage.hub }
}

extension CrashScript {
    package static let all: [CrashScript] = [
        create, enrolAtBranch, enrolAtHub, writes, largeWrite, otherProgram, foreignLargeWrite, search, resolve,
        sessionAtBranch, sessionAtHub, partsAtHub, partsAtBranch, parkedAtHub, shift, trimToBranch, trimToBackup,
        upgrade, eraseAtHub,
        eraseAtBranch, newLife, clone, backup, restore, firstLoad, firstLoadAtHub, loadFromFile, refill,
    ]

    static let create = CrashScript(
        name: "a head office is made",
        isHubTheVictim: true,
        prepare: { _ in },
        play: { stage in
            try stage.makeHeadOffice()
            try stage.add("نخست", at: stage.hub)
        },
        opensVictim: false,
        recover: { stage in
            let isPromised = !stage.promisedNames.isEmpty
            guard stage.hub.exists else {
                // Half a node is none; making it again works.
                try stage.makeHeadOffice()
                return isPromised ? ["the node is gone"] : []
            }
            try stage.hub.open()
            return []
        },
        hasPeer: false
    )

    static let writes = CrashScript(
        name: "people write at a branch",
        play: { stage in
            for number in 0..<3 { try stage.add("تازه \(number)", at: stage.branch) }
            try stage.edit(stage.ids[0], note: "ویرایش", at: stage.branch)
            // From here on it may be gone, also when nobody has been told yet.
            stage.release("پایه شعبه 0")
            try stage.delete(stage.ids[1], at: stage.branch)
        }
    )

    static let largeWrite = CrashScript(
        name: "a large transaction is written",
        play: { stage in
            var random = SeededRandom(seed: 9)
            let names = (0..<120).map { "انبوه \($0)" }
            _ = try stage.branch.replica.write { transaction in
                for name in names {
                    let note = String((0..<600).map { _ in Character(UnicodeScalar(UInt8(97 + random.below(26)))) })
                    try transaction.insert("customer", ["name": .text(name), "note": .text(note)])
                }
            }
            names.forEach(stage.promise)
        },
        recover: { stage in
            let count = try stage.branch.replica.read { reader in
                try Int.fetchOne(reader.db, sql: "SELECT count(*) FROM customer WHERE name LIKE 'انبوه %'")
            }
            return count == 0 || count == 120 ? [] : ["\(count ?? -1) rows of a transaction of 120 are there"]
        }
    )

    static let otherProgram = CrashScript(
        name: "what another program wrote is sealed",
        play: { stage in
            try stage.branch.otherProgram { db in
                try db.execute(
                    sql: """
                        BEGIN;
                        INSERT INTO customer(id, name) VALUES ((SELECT customer FROM nextId), 'از برنامهٔ دیگر');
                        UPDATE customer SET city = 'قم' WHERE id = \(stage.ids[1].rawValue);
                        COMMIT;
                        """
                )
            }
            stage.promise("از برنامهٔ دیگر")
            try stage.branch.replica.sealForeignWrites()
            try stage.add("پس از آن", at: stage.branch)
        }
    )

    static let unsentAtBoth: @Sendable (Stage) throws -> Void = { stage in
        try stage.makeBoth()
        for number in 0..<3 {
            try stage.add("نفرستادهٔ دفتر \(number)", at: stage.hub)
            try stage.add("نفرستادهٔ شعبه \(number)", at: stage.branch)
        }
        // One that somebody loses.
        try stage.edit(stage.ids[0], note: "شعبه", at: stage.branch)
        try stage.edit(stage.ids[0], note: "دفتر", at: stage.hub)
    }

    static let sessionAtBranch = CrashScript(
        name: "a branch synchronises",
        prepare: unsentAtBoth,
        play: { try $0.sync() }
    )

    static let sessionAtHub = CrashScript(
        name: "head office is synchronised with",
        isHubTheVictim: true,
        prepare: unsentAtBoth,
        play: { try $0.sync() }
    )

    static let parkedAtHub = CrashScript(
        name: "a row is parked and retried",
        isHubTheVictim: true,
        prepare: { stage in
            try stage.makeBoth()
            try stage.hub.otherProgram {
                try $0.execute(sql: "CREATE UNIQUE INDEX adminNote ON customer(note)")
            }
            try stage.add("یک", at: stage.hub, note: "یکتا")
            try stage.add("دو", at: stage.branch, note: "یکتا")
            try stage.add("سه", at: stage.branch)
        },
        play: { stage in
            try stage.sync()
            try stage.hub.otherProgram { try $0.execute(sql: "DROP INDEX adminNote") }
            _ = try stage.hub.replica.retryParked()
        },
        recover: { stage in
            try stage.hub.otherProgram { try $0.execute(sql: "DROP INDEX IF EXISTS adminNote") }
            _ = try stage.hub.replica.retryParked()
            return []
        }
    )

    /// - Parameter isSafe: Whether the backup reaches further than what the branch holds, or less far.
    private static func trim(_ name: String, isSafe: Bool) -> CrashScript {
        CrashScript(
            name: name,
            isHubTheVictim: true,
            prepare: { stage in
                stage.hub.policy = { ($0.leaseDays, $0.historyDays) = (3, 1) }
                try stage.makeBoth()
                for round in 0..<3 {
                    stage.clock.milliseconds += VirtualTime.day
                    try stage.edit(stage.ids[0], note: "\(stage.clock.milliseconds)", at: stage.hub)
                    if round == 2, !isSafe {
                        try stage.setSafe()
                        stage.remembered = try stage.hub.replica.withWriterState { $0.end.position }
                        try stage.edit(stage.ids[0], note: "نه در پشتیبان", at: stage.hub)
                    }
                    try stage.sync()
                }
                if isSafe {
                    stage.remembered = try stage.hub.replica.withWriterState { $0.end.position }
                    try stage.edit(stage.ids[0], note: "نفرستاده", at: stage.hub)
                    try stage.setSafe()
                }
                try stage.edit(stage.ids[0], note: "نه در پشتیبان و نفرستاده", at: stage.hub)
                stage.clock.milliseconds += VirtualTime.day * 3 / 2
            },
            play: { stage in
                try stage.hub.replica.trimLog()
                guard try stage.bodies(gone: 0) > 0 else { throw StoreFailure.database("Nothing was trimmed.") }
                try stage.add("پس از کوتاه کردن", at: stage.hub)
            },
            recover: { stage in
                let gone = try stage.bodies(gone: stage.remembered)
                return gone == 0
                    ? [] : ["\(gone) change sets were trimmed that \(isSafe ? "the branch" : "the backup") lacks"]
            }
        )
    }

    static let trimToBranch = trim("the log is trimmed as far as a branch holds it", isSafe: true)
    static let trimToBackup = trim("the log is trimmed as far as it is safe", isSafe: false)

    static let upgrade = CrashScript(
        name: "a file of format 1 is upgraded",
        prepare: { stage in
            for (node, name) in [(stage.hub, "hq"), (stage.branch, "isfahan")] {
                try FileManager.default.createDirectory(atPath: node.directory, withIntermediateDirectories: true)
                let fixture = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                    .deletingLastPathComponent()
                    .appendingPathComponent("Fixtures/format-1/\(name).db.zst")
                let frame = [UInt8](try Data(contentsOf: fixture))
                let bytes = try frame.withUnsafeBytes { try ZstdDecompressor().decompress($0, sizeMax: 1 << 24) }
                try Data(bytes).write(to: URL(fileURLWithPath: Replica.path(in: node.directory)))
                // The disk takes it as its own.
                try DatabaseQueue(path: Replica.path(in: node.directory)).read { _ = try $0.tableExists("log") }
            }
        },
        play: { try $0.add("پس از ارتقا", at: $0.branch) }
    )

    private static let withPerson: @Sendable (Stage) throws -> Void = { stage in
        try stage.makeBoth()
        for number in 0..<3 {
            try stage.edit(stage.ids[1], note: "خصوصی \(number)", at: stage.branch)
            _ = try stage.branch.replica.write { transaction in
                try transaction.insert(
                    "activity",
                    ["customer": .integer(stage.ids[1].rawValue), "kind": .text("call"), "body": .text("خصوصی")]
                )
            }
        }
        try stage.sync()
        stage.release("پایه شعبه 0")
    }

    private static let scrub: @Sendable (Stage) throws -> [String] = { stage in
        // Whatever was left of the person goes now.
        try stage.hub.replica.scrubErased() ? [] : ["erased bytes stay in the file"]
    }

    static let eraseAtHub = CrashScript(
        name: "head office erases a person",
        isHubTheVictim: true,
        prepare: withPerson,
        play: { stage in
            _ = try stage.hub.replica.erase(customer: stage.ids[1])
            try stage.hub.replica.scrubErased()
            try stage.sync()
        },
        recover: scrub
    )

    static let eraseAtBranch = CrashScript(
        name: "a branch obeys an order to erase",
        prepare: { stage in
            try withPerson(stage)
            try stage.edit(stage.ids[1], note: "نفرستاده", at: stage.branch)
            _ = try stage.hub.replica.erase(customer: stage.ids[1])
        },
        play: { stage in
            try stage.sync()
            try stage.branch.replica.scrubErased()
        }
    )

    static let newLife = CrashScript(
        name: "a branch begins a new life and issues its work again",
        prepare: { stage in
            try unsentAtBoth(stage)
            stage.mayRewriteLog = true
            try stage.branch.replica.withWriter { writer in
                try writer.transaction { try writer.mustRenew(.fence) }
            }
        },
        play: { try $0.sync() }
    )

    static let backup = CrashScript(
        name: "a backup is made",
        isHubTheVictim: true,
        play: { stage in
            _ = try stage.hub.replica.backup(to: stage.hub.disk.directory + "/backup.db") { _, _ in }
            try stage.add("پس از پشتیبان", at: stage.hub)
        },
        recover: { stage in
            let file = stage.hub.disk.directory + "/backup.db"
            let safe = try stage.hub.replica.read { try LocalFact.read(.safePosition, $0.db) } ?? 0
            guard FileManager.default.fileExists(atPath: file) else {
                return safe == 0 ? [] : ["what is called safe is in no backup"]
            }
            // A file that has its name is whole.
            let report = try Replica.checkBackup(file)
            return safe <= Int64(report.position) ? [] : ["what is called safe is not in the backup"]
        }
    )

    static let restore = CrashScript(
        name: "head office is restored from a backup",
        isHubTheVictim: true,
        prepare: { stage in
            try stage.makeBoth()
            _ = try stage.hub.replica.backup(to: stage.hub.disk.directory + "/backup.db") { _, _ in }
            try stage.add("پس از پشتیبان", at: stage.hub)
            try stage.sync()
            stage.mayRewriteLog = true
        },
        play: { stage in
            try stage.restoreHub()
            try stage.hub.open()
            try stage.sync()
        },
        opensVictim: false,
        recover: { stage in
            if !stage.hub.exists {
                // Between two names: the command is given again.
                try stage.restoreHub()
            }
            try stage.hub.open()
            return []
        }
    )

    private static let withoutSnapshot: @Sendable (Stage) throws -> Void = { stage in
        stage.hub.policy = {
            $0.snapshotRowsMin = 20
            $0.snapshotPieceBytes = 3000
        }
        try stage.makeHeadOffice()
        for round in 0..<12 {
            let names = (0..<4).map { "بار \(round) \($0)" }
            let ids = try stage.hub.replica.write { transaction in
                try names.map { try transaction.insert("customer", ["name": .text($0)]) }
            }.result
            try stage.edit(ids[0], note: "دوباره", at: stage.hub)
            try stage.delete(ids[3], at: stage.hub)
            names.prefix(3).forEach(stage.promise)
        }
        try stage.makeBranch()
    }

    static let firstLoad = CrashScript(
        name: "a new branch loads a snapshot",
        prepare: withoutSnapshot,
        play: { stage in
            try stage.sync()
            try stage.add("پس از بار", at: stage.branch)
        }
    )

    static let firstLoadAtHub = CrashScript(
        name: "head office sends a snapshot",
        isHubTheVictim: true,
        prepare: withoutSnapshot,
        play: { stage in
            try stage.sync()
            try stage.add("پس از بار", at: stage.hub)
        }
    )

    static let refill = CrashScript(
        name: "a head office that has lost its end is filled again",
        isHubTheVictim: true,
        prepare: { stage in
            try stage.makeBoth()
            try stage.loseEndOfHub()
            stage.mayRewriteLog = true
        },
        play: { try $0.sync() }
    )
}

extension Stage {
    /// How many change sets after a position have lost their content at head office.
    fileprivate func bodies(gone after: UInt64) throws -> Int {
        try hub.replica.read { reader in
            try Int.fetchOne(
                reader.db,
                sql: "SELECT count(*) FROM log WHERE body IS NULL AND position > ?",
                arguments: [Int64(after)]
            )
        } ?? 0
    }

    /// Puts head office back to the backup that it has made.
    fileprivate func restoreHub() throws {
        let now = clock.milliseconds
        _ = try Replica.restore(
            hub.disk.directory + "/backup.db",
            to: hub.directory,
            replacing: true,
            older: true,
            clock: NodeClock(wallClock: { now })
        )
    }
}
