import CRM
import Causality
import Foundation
import GRDB
import Glibc
import SimulationKit
import SyncProtocol
import Synchronization
import TestKit
import Testing

@testable import ReplicaStore

/// A node in a test: a real replica in a temporary directory, with clocks that the test moves.
final class Office: Sendable {
    let replica: Replica
    private let home: TemporaryDirectory

    /// Makes a head office.
    static func headOffice() throws -> Office {
        let office = try Office(.newHeadOffice("tehran-hq", randomBytes: bytes))
        try office.replica.completeHeadOffice()
        return office
    }

    /// Makes a branch and lets it join.
    static func branch(_ name: String, of hub: Office) throws -> Office {
        let office = try unjoined(name)
        try office.replica.join(hub.replica, with: hub.replica.invite(name, randomBytes: bytes))
        return office
    }

    /// Makes a branch that has not joined yet.
    static func unjoined(_ name: String) throws -> Office {
        try Office(.newBranch(name, randomBytes: bytes))
    }

    private init(_ node: LocalNode) throws {
        let home = TemporaryDirectory()
        self.home = home
        let clock = MachineClock(seed: .random(in: 0...UInt64.max))
        self.clock = clock
        directoryPath = home.path + "/node"
        replica = try Replica.create(home.path + "/node", node: node, clock: clock.nodeClock)
    }

    /// A copy of a node's files, as a backup program or a cloned disk has them.
    struct Copy {
        fileprivate let home: TemporaryDirectory
        let clock: UInt64
    }

    /// Copies the node's files as they are now.
    ///
    /// - Parameter withFence: Copies what lies beside the database too.
    func copy(withFence: Bool = true) throws -> Copy {
        let copy = Copy(home: TemporaryDirectory(), clock: clock.time.milliseconds)
        let directory = copy.home.path + "/node"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try DatabaseQueue(path: databasePath).inDatabase { db in
            try db.execute(sql: "VACUUM INTO ?", arguments: [Replica.path(in: directory)])
        }
        let fence = Fence.path(in: self.directory)
        if withFence, FileManager.default.fileExists(atPath: fence) {
            try FileManager.default.copyItem(atPath: fence, toPath: Fence.path(in: directory))
        }
        return copy
    }

    /// What lies beside the database when a copy is started.
    enum CopiedFence {
        /// As it was copied: it does not fit the new place.
        case asCopied
        /// As if the whole machine had been put back: only the hub can tell.
        case fitting
        case missing
    }

    /// Starts a node from a copy, in a directory of its own; the copy can be used again.
    init(from copy: Copy, fence: CopiedFence = .fitting) throws {
        let home = TemporaryDirectory()
        self.home = home
        let clock = MachineClock(seed: .random(in: 0...UInt64.max))
        clock.time.milliseconds = copy.clock
        self.clock = clock
        let directory = home.path + "/node"
        directoryPath = directory
        try FileManager.default.copyItem(atPath: copy.home.path + "/node", toPath: directory)
        let file = Fence.path(in: directory)
        switch fence {
        case .asCopied:
            break
        case .missing:
            try FileManager.default.removeItem(atPath: file)
        case .fitting:
            var state = try JSONDecoder().decode(Fence.State.self, from: Data(contentsOf: URL(filePath: file)))
            let path = Replica.path(in: directory)
            var information = stat()
            _ = stat(path, &information)
            (state.inode, state.device) = (UInt64(information.st_ino), UInt64(information.st_dev))
            state.path = path
            try JSONEncoder().encode(state).write(to: URL(filePath: file))
        }
        replica = try Replica.open(directory, clock: clock.nodeClock)
    }

    /// Another head office on a copy of this one's file, as it is now: with a new number, or, when nobody notices,
    /// under the same one.
    func revived(isNoticed: Bool) throws -> Office { try Office(from: copy(), fence: isNoticed ? .missing : .fitting) }

    /// Restores a backup and starts the node.
    init(restoring file: String, in directory: String) throws {
        home = TemporaryDirectory()
        directoryPath = directory
        let clock = MachineClock(seed: .random(in: 0...UInt64.max))
        self.clock = clock
        _ = try Replica.restore(file, to: directory, replacing: false, older: false, clock: clock.nodeClock)
        replica = try Replica.open(directory, clock: clock.nodeClock)
    }

    /// Who this node is to those that it meets.
    var peer: SyncPeer {
        get throws {
            SyncPeer(node: try #require(UniqueID(bytes: replica.node.node)), origin: replica.node.origin)
        }
    }

    /// The node's directory.
    var directory: String { directoryPath }

    private let directoryPath: String
    private let clock: MachineClock

    /// The node's wall clock, in milliseconds since 1970-01-01 UTC.
    ///
    /// Put forward, it says that time passes, here and, from the next session on, at the other node: the clocks
    /// stay right. Put back, it says that the clock was set wrong.
    var wallMilliseconds: UInt64 {
        get { clock.reading.wallMilliseconds }
        set {
            let now = clock.reading.wallMilliseconds
            if newValue >= now {
                clock.time.milliseconds += newValue - now
            } else {
                setWall(to: newValue)
            }
        }
    }

    /// Sets the wall clock, although no time has passed.
    func setWall(to milliseconds: UInt64) {
        clock.set(off: Int64(clamping: milliseconds) - Int64(trueMilliseconds))
    }

    /// Sets the wall clock by so much.
    func setWall(by milliseconds: Int64) {
        setWall(to: UInt64(clamping: Int64(clamping: wallMilliseconds) + milliseconds))
    }

    /// Lets time pass, here only, until the next session.
    func wait(_ milliseconds: UInt64) { clock.time.milliseconds += milliseconds }

    /// Starts the machine again: its time since the start begins anew.
    func reboot() { clock.start() }

    /// The true time, as far as this office has lived through it.
    var trueMilliseconds: UInt64 { clock.time.milliseconds }

    /// Lets time pass until the later of two offices' times has come at both.
    func meet(_ other: Office) {
        let now = max(clock.time.milliseconds, other.clock.time.milliseconds)
        for clock in [clock, other.clock] { clock.time.milliseconds = now }
    }

    var databasePath: String { Replica.path(in: directory) }

    func join(_ hub: Office, with invitation: Invitation) throws { try replica.join(hub.replica, with: invitation) }

    // MARK: Working

    @discardableResult
    func add(_ values: [String: FieldValue], to table: String = "customer") throws -> RowID {
        try replica.write { try $0.insert(table, values) }.result
    }

    func edit(_ id: RowID, _ values: [String: FieldValue], in table: String = "customer") throws {
        _ = try replica.write { try $0.update(table, id: id, values) }
    }

    func delete(_ id: RowID, from table: String = "customer") throws {
        _ = try replica.write { try $0.delete(table, id: id) }
    }

    func restore(_ id: RowID, to table: String = "customer") throws {
        _ = try replica.write { try $0.restore(table, id: id) }
    }

    /// Says something about a pair as the commands do: into every row of it.
    func judge(_ pair: CustomerPair, _ verdict: IdentityVerdict) throws {
        _ = try replica.write { transaction in
            let rows = try IdentityDecisions.rows(of: pair, from: transaction.reader)
            let value = FieldValue.text(verdict.rawValue)
            for row in rows { try transaction.update("identityDecision", id: row.id, ["verdict": value]) }
            guard rows.isEmpty else { return }
            try transaction.insert(
                "identityDecision",
                ["low": .integer(pair.low.rawValue), "high": .integer(pair.high.rawValue), "verdict": value]
            )
        }
    }

    func value(_ field: String, of id: RowID, in table: TableDescription = .customer) throws -> FieldValue? {
        try replica.read { try $0.row(table, id: id)?[field] }
    }

    /// Everything that converges: rows, graveyard, clocks, digests, and whether the kept digests are right.
    func state() throws -> [String] {
        try replica.verify { _, _ in }.map {
            "\($0.name) \($0.kept.hexadecimal) \($0.kept.rows) right \($0.isRight)"
        } + rows()
    }

    /// Rows, graveyard and clocks.
    func rows() throws -> [String] { try replica.everything() }

    /// A second program on the same file, with triggers, as `sqlite3` has them.
    func otherProgram<Result>(_ body: (Database) throws -> Result) throws -> Result {
        let database = try DatabaseQueue(path: databasePath)
        return try database.writeWithoutTransaction(body)
    }

    // MARK: Synchronising, without a network

    /// Exchanges everything with the hub in sessions of the real protocol, over a line in memory.
    ///
    /// - Parameters:
    ///   - cutAfter: Breaks the line after so many messages.
    /// - Returns: Why the session ended early, at the child; nil when it did not.
    @discardableResult
    func sync(
        with hub: Office,
        bytesMax: Int = 1 << 20,
        entriesMax: Int = 8192,
        cutAfter: Int = .max
    ) throws -> SyncFailure? {
        meet(hub)
        var limits = SyncLimits()
        limits.batchBytesMax = bytesMax
        limits.partBytesMax = min(limits.partBytesMax, bytesMax)
        limits.batchEntriesMax = entriesMax
        var random = SeededRandom(seed: 1)
        var left = cutAfter
        for _ in 0..<8 {
            var conversation = Conversation(
                child: replica,
                hub: hub.replica,
                limits: limits,
                deliveredMax: left
            )
            let end = conversation.run(&random)[0]
            left -= conversation.delivered
            guard end == .reconnecting else {
                lastTotals.withLock { $0 = conversation.childTotals }
                lastLine.withLock { $0 = (conversation.bytes, conversation.delivered) }
                if cutAfter == .max, let end { throw end }
                return end
            }
        }
        throw SyncFailure.reconnecting
    }

    /// What the last session has moved.
    let lastTotals = Mutex(SessionTotals())

    /// Bytes and messages of the last session, both directions together.
    private let lastLine = Mutex((bytes: 0, messages: 0))
    var lastBytes: Int { lastLine.withLock { $0.bytes } }
    var lastMessages: Int { lastLine.withLock { $0.messages } }

    /// Whether hub and child stand at the same knowledge and have the same root.
    func isProvedEqual(to hub: Office) throws -> Bool {
        let hello = try replica.childFacts()
        let child = ChangeSetID(origin: hello.origin, seq: hello.ownSeq)
        let root = try hub.replica.currentRoot(at: hello.cursor, child: child)
        return try root != nil && root == replica.currentRoot(at: hello.cursor, child: child)
    }
}

private func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 0...255) } }
