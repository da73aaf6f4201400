import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

@testable import ReplicaStore

/// A machine with a disk, clocks and a node on it, which may be down.
final class SimulatedNode {
    let number: Int
    let disk: CrashDisk
    let clock: MachineClock
    private(set) var replica: Replica?
    /// What the program knows, from its next start on.
    var schema = Schema.current
    /// How often the process was started: whoever belongs to an earlier start is gone.
    private(set) var start = 0
    /// What the organisation has decided: told again after each opening.
    let policy: (inout ReplicaPolicy) -> Void
    /// No line before that time.
    var awayUntil: UInt64 = 0
    /// What its disk held at moments that a script wanted remembered.
    var remembered: CrashDisk.State?
    /// Its log was in a backup up to here.
    var backedUp: UInt64 = 0
    /// Its number when the world began.
    var firstOrigin: Origin?
    /// What its log is known to hold.
    var log = KnownLog() { didSet { held.formUnion(log.marks) } }
    /// What its disk has had since it was put back last: what waits to be issued again is in no log for a while.
    var held: Set<Mark> = []
    /// Whether somebody did something to its disk, so that what it does may fail.
    var isDiskBad = false
    /// Whether an administrator's index refuses rows.
    var isForbidding = false
    /// Whether it sends what no node of ours would.
    var lies = false

    init(_ number: Int, time: VirtualTime, policy: @escaping (inout ReplicaPolicy) -> Void) throws {
        self.number = number
        disk = try CrashDisk()
        clock = MachineClock(time, seed: UInt64(number))
        self.policy = policy
    }

    var directory: String { disk.directory + "/node" }
    var exists: Bool { Replica.exists(in: directory) }
    var isUp: Bool { replica != nil }

    func create(_ node: LocalNode) throws -> Replica {
        try started(Replica.create(directory, node: node, schema: schema, clock: nodeClock))
    }

    @discardableResult
    func open() throws -> Replica {
        try started(Replica.open(directory, schema: schema, clock: nodeClock))
    }

    private var nodeClock: NodeClock {
        let clock = clock
        return NodeClock(chance: { clock.draw() }, read: { clock.reading })
    }

    private func started(_ replica: Replica) -> Replica {
        replica.adopt(policy)
        self.replica = replica
        start += 1
        return replica
    }

    /// The program ends in order.
    func close() throws {
        guard let replica else { return }
        self.replica = nil
        try replica.close()
    }

    /// The process is gone.
    func die() { replica = nil }

    /// Another program on the node's file, with triggers, as `sqlite3` has them.
    func otherProgram(_ body: (Database) throws -> Void) throws {
        let database = try DatabaseQueue(path: Replica.path(in: directory))
        defer { try? database.close() }
        try database.writeWithoutTransaction(body)
    }

    /// The file beside the replica that notices copies: taken away, or made one of another file.
    func breakFence(isMissing: Bool) {
        let path = Fence.path(in: directory)
        if isMissing {
            try? FileManager.default.removeItem(atPath: path)
        } else if let text = try? String(contentsOfFile: path, encoding: .utf8),
            let file = FileHandle(forWritingAtPath: path)
        {
            let foreign = text.replacing(/"inode":\d+/, with: "\"inode\":1")
                .replacing(/"path":"[^"]*"/, with: "\"path\":\"/other\"")
            // In place: it stays the same file.
            try? file.write(contentsOf: Data(foreign.utf8))
            try? file.truncate(atOffset: UInt64(foreign.utf8.count))
        }
    }
}
