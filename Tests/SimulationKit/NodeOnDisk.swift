import CCrashDisk
import CRM
import Foundation
import GRDB

@testable import ReplicaStore

/// A machine with a disk in memory, clocks, and a node that may be down.
class NodeOnDisk {
    let disk: CrashDisk
    let clock: MachineClock
    /// The replica, while the node is up.
    private(set) var opened: Replica?
    /// What the program knows, from its next start on.
    var schema = Schema.current
    /// What the organisation has decided: told again after each opening.
    var policy: (inout ReplicaPolicy) -> Void = { _ in }

    init(_ clock: MachineClock) throws {
        disk = try CrashDisk()
        self.clock = clock
    }

    /// Where the node lies in a state of its disk.
    static let directoryOnDisk = "/node"
    var directory: String { disk.directory + Self.directoryOnDisk }
    var exists: Bool { Replica.exists(in: directory) }
    var isOpen: Bool { opened != nil }

    func create(_ node: LocalNode) throws {
        started(try Replica.create(directory, node: node, schema: schema, clock: clock.nodeClock))
    }

    /// Starts the program, unless it runs.
    func open() throws {
        guard opened == nil else { return }
        started(try Replica.open(directory, schema: schema, clock: clock.nodeClock))
    }

    func started(_ replica: Replica) {
        // Each operation of the disk has its turn here, which what runs beside would not keep.
        replica.adopt { $0.readsSnapshotAhead = false }
        replica.adopt(policy)
        opened = replica
    }

    /// The program ends in order.
    func close() throws {
        let replica = opened
        opened = nil
        try replica?.close()
    }

    /// The process is gone.
    func die() { opened = nil }

    /// Another program on the node's file, with triggers, as `sqlite3` has them. It sees the machine's wall clock.
    func otherProgram(_ body: (Database) throws -> Void) throws {
        crash_time_show(Int64(clamping: clock.reading.wallMilliseconds))
        defer { crash_time_show(0) }
        let database = try DatabaseQueue(path: Replica.path(in: directory))
        defer { try? database.close() }
        try database.writeWithoutTransaction { db in
            // A program that ends within its transaction leaves nothing of it.
            defer { if db.isInsideTransaction { try? db.execute(sql: "ROLLBACK") } }
            try body(db)
        }
    }

    /// Changes the file beside the replica that notices copies. In place: it stays the same file.
    func changeFence(_ change: (String) -> String) {
        let path = Fence.path(in: directory)
        guard let text = try? String(contentsOfFile: path, encoding: .utf8),
            let file = FileHandle(forWritingAtPath: path)
        else { return }
        let changed = change(text)
        try? file.write(contentsOf: Data(changed.utf8))
        try? file.truncate(atOffset: UInt64(changed.utf8.count))
    }
}
