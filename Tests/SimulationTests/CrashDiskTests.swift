import Foundation
import GRDB
import SimulationKit
import TestKit
import Testing

/// The disk itself: that it keeps what it must, and that it bites.
@Suite("A disk whose power is cut")
struct CrashDiskTests {
    /// What came of many cuts.
    private struct Outcome {
        var cuts = 0
        var corrupt = 0
        var lost = 0
        var torn = 0
    }

    /// Cuts the power at every change of a few transactions of plain SQLite.
    private func sweep(_ pragmas: String, seeds: Int) throws -> Outcome {
        let disk = try CrashDisk()
        let path = disk.directory + "/plain.db"
        var configuration = Configuration()
        configuration.prepareDatabase { try $0.execute(sql: pragmas) }
        let empty = disk.state()
        var outcome = Outcome()
        var number = 0
        while true {
            number += 1
            disk.restore(empty)
            disk.cut(atChange: number)
            var acknowledged = 0
            do {
                let queue = try DatabaseQueue(path: path, configuration: configuration)
                try queue.write {
                    try $0.execute(sql: "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB); CREATE INDEX i ON t(v)")
                }
                for id in 1...8 {
                    try queue.write { db in
                        try db.execute(sql: "INSERT INTO t VALUES (?, randomblob(900))", arguments: [id])
                    }
                    acknowledged = id
                }
                try queue.writeWithoutTransaction { try $0.execute(sql: "PRAGMA wal_checkpoint(PASSIVE)") }
                try queue.write { try $0.execute(sql: "INSERT INTO t VALUES (9, randomblob(900))") }
                acknowledged = 9
                try queue.close()
            } catch is DatabaseError {
            }
            guard !disk.isPowered else { break }
            let left = disk.state()
            for seed in 0..<seeds {
                disk.restart(left, seed: UInt64(number * 1000 + seed))
                outcome.cuts += 1
                do {
                    let queue = try DatabaseQueue(path: path, configuration: configuration)
                    let (check, ids, isThere) = try queue.read { db in
                        let isThere = try db.tableExists("t")
                        return (
                            try String.fetchOne(db, sql: "PRAGMA integrity_check"),
                            isThere ? try Int.fetchAll(db, sql: "SELECT id FROM t ORDER BY id") : [], isThere
                        )
                    }
                    if check != "ok" { outcome.corrupt += 1 }
                    if ids.count < acknowledged || (acknowledged > 0 && !isThere) { outcome.lost += 1 }
                    if ids != Array(1..<(ids.count + 1)) { outcome.torn += 1 }
                } catch is DatabaseError {
                    outcome.corrupt += 1
                }
            }
        }
        return outcome
    }

    @Test("Full synchronisation loses and corrupts nothing", arguments: ["WAL", "DELETE"])
    func full(mode: String) throws {
        let outcome = try sweep("PRAGMA journal_mode = \(mode); PRAGMA synchronous = FULL", seeds: 8)
        print("crash disk: \(mode) FULL \(outcome)")
        #expect(outcome.cuts > 300)
        #expect(outcome.corrupt == 0)
        #expect(outcome.lost == 0)
        #expect(outcome.torn == 0)
    }

    @Test("Less synchronisation loses what was acknowledged, and none corrupts the file")
    func less() throws {
        let normal = try sweep("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL", seeds: 8)
        print("crash disk: WAL NORMAL \(normal)")
        #expect(normal.corrupt == 0)
        #expect(normal.lost > 0)
        let off = try sweep("PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF", seeds: 8)
        print("crash disk: DELETE OFF \(off)")
        #expect(off.corrupt > 0)
        #expect(off.lost > 0)
    }

    @Test("A disk whose syncs lie loses what was acknowledged")
    func lies() throws {
        let disk = try CrashDisk()
        let path = disk.directory + "/plain.db"
        let queue = try DatabasePool(path: path)
        // A pool chooses NORMAL.
        try queue.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = FULL") }
        try queue.write { try $0.execute(sql: "CREATE TABLE t(id INTEGER PRIMARY KEY)") }
        disk.lie(true)
        try queue.write { try $0.execute(sql: "INSERT INTO t VALUES (1)") }
        disk.cut()
        #expect(throws: DatabaseError.self) { try queue.write { try $0.execute(sql: "INSERT INTO t VALUES (2)") } }
        #expect(throws: DatabaseError.self) { try DatabaseQueue(path: path) }
        disk.restart(disk.state(), seed: 1, manner: .allDropped)
        let count = try DatabaseQueue(path: path).read { try Int.fetchOne($0, sql: "SELECT count(*) FROM t") }
        #expect(count == 0)
    }

    @Test("What a cut leaves is drawn from its seed, and what was synced stays")
    func cuts() throws {
        let disk = try CrashDisk()
        let path = disk.directory + "/plain.db"
        let queue = try DatabaseQueue(path: path)
        try queue.writeWithoutTransaction { db in
            try db.execute(sql: "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t(v BLOB)")
            try db.execute(sql: "INSERT INTO t VALUES (randomblob(9000))")
            try db.execute(sql: "PRAGMA synchronous = OFF; INSERT INTO t VALUES (randomblob(9000))")
        }
        let state = disk.state()
        #expect(state.unsynced > 4)
        var kinds: Set<UInt64> = []
        var contents: Set<UInt64> = []
        for manner in CrashDisk.Manner.allCases {
            for seed in 0..<20 as Range<UInt64> {
                let left = state.cut(seed: seed, manner: manner)
                #expect(left.print() == state.cut(seed: seed, manner: manner).print())
                #expect(left.unsynced == 0)
                kinds.insert(left.print())
                let (code, recovered) = left.recovered("/plain.db")
                #expect(code == 0)
                contents.insert(recovered.print(ofFilesEndingIn: ".db"))
            }
        }
        #expect(kinds.count > 30)
        // With the second row or without.
        #expect(contents.count == 2)
        // A state is never changed by what is done with it.
        disk.restart(state, seed: 1, manner: .allKept)
        #expect(try DatabaseQueue(path: path).read { try Int.fetchOne($0, sql: "SELECT count(*) FROM t") } == 2)
        disk.restart(state, seed: 1, manner: .allDropped)
        #expect(try DatabaseQueue(path: path).read { try Int.fetchOne($0, sql: "SELECT count(*) FROM t") } == 1)
    }

    @Test("Readers see the last commit while a writer works, and writers exclude each other")
    func severalConnections() throws {
        let disk = try CrashDisk()
        let pool = try DatabasePool(path: disk.directory + "/plain.db")
        try pool.write { try $0.execute(sql: "CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)") }
        let other = try DatabaseQueue(path: disk.directory + "/plain.db")
        try pool.write { db in
            try db.execute(sql: "INSERT INTO t VALUES (2)")
            let seen = try other.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM t") }
            #expect(seen == 1)
            let error = #expect(throws: DatabaseError.self) {
                try other.write { try $0.execute(sql: "INSERT INTO t VALUES (3)") }
            }
            #expect(error?.resultCode == .SQLITE_BUSY)
        }
        #expect(try other.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM t") } == 2)
        try other.write { try $0.execute(sql: "INSERT INTO t VALUES (3)") }
        #expect(try pool.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM t") } == 3)
    }

    @Test("Files that are renamed, copied or removed with the system's own calls stay what they are")
    func names() throws {
        let disk = try CrashDisk()
        let (one, two, three) = (disk.directory + "/1.db", disk.directory + "/2.db", disk.directory + "/3.db")
        try DatabaseQueue(path: one).write { try $0.execute(sql: "CREATE TABLE t(v); INSERT INTO t VALUES ('یک')") }
        #expect(rename(one, two) == 0)
        try FileManager.default.copyItem(atPath: two, toPath: three)
        try DatabaseQueue(path: three).write { try $0.execute(sql: "INSERT INTO t VALUES ('دو')") }
        #expect(try DatabaseQueue(path: two).read { try Int.fetchOne($0, sql: "SELECT count(*) FROM t") } == 1)
        #expect(try DatabaseQueue(path: three).read { try Int.fetchOne($0, sql: "SELECT count(*) FROM t") } == 2)
        #expect(!FileManager.default.fileExists(atPath: one))
        try FileManager.default.removeItem(atPath: two)
        #expect(try DatabaseQueue(path: two).read { try $0.tableExists("t") } == false)
        // A database of the real disk that is put here is taken as it is.
        let real = TemporaryDirectory()
        try DatabaseQueue(path: real.path + "/4.db").write { try $0.execute(sql: "CREATE TABLE r(v)") }
        try FileManager.default.copyItem(atPath: real.path + "/4.db", toPath: disk.directory + "/4.db")
        #expect(try DatabaseQueue(path: disk.directory + "/4.db").read { try $0.tableExists("r") })
    }

    @Test("A write, a sync or a read can be made to fail, once or for ever")
    func faults() throws {
        let disk = try CrashDisk()
        let queue = try DatabaseQueue(path: disk.directory + "/plain.db")
        try queue.write { try $0.execute(sql: "CREATE TABLE t(id INTEGER PRIMARY KEY)") }
        func insert() throws { try queue.write { try $0.execute(sql: "INSERT INTO t DEFAULT VALUES") } }
        disk.fail(.writes, at: 1, with: .full)
        #expect(#expect(throws: DatabaseError.self) { try insert() }?.resultCode == .SQLITE_FULL)
        try insert()
        disk.fail(.syncs, at: 1, with: .inputOutput, forEver: true)
        for _ in 0..<2 {
            #expect(#expect(throws: DatabaseError.self) { try insert() }?.resultCode == .SQLITE_IOERR)
        }
        #expect(disk.failures >= 2)
        disk.mend()
        try insert()
        #expect(try queue.read { try Int.fetchOne($0, sql: "SELECT count(*) FROM t") } == 2)
    }
}
