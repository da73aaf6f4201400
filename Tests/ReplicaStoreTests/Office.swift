import CRM
import Causality
import Foundation
import GRDB
import ReplicaStore
import SyncProtocol
import Synchronization
import TestKit

/// A node in a test: a real replica in a temporary directory, with a wall clock that the test sets.
final class Office: Sendable {
    let replica: Replica
    private let home: TemporaryDirectory

    /// Makes a head office.
    static func headOffice() throws -> Office {
        let office = try Office(
            LocalNode(
                node: bytes(16),
                nodeKey: bytes(32),
                role: .headOffice,
                name: "tehran-hq",
                organisation: bytes(16),
                origin: Origin(rawValue: 1) ?? .none
            )
        )
        try office.replica.completeHeadOffice()
        return office
    }

    /// Makes a branch and lets it join.
    static func branch(_ name: String, of hub: Office) throws -> Office {
        let office = try unjoined(name)
        let invitation = try hub.replica.invite(
            name,
            address: "127.0.0.1:1",
            lifetimeSeconds: 3600,
            randomBytes: bytes
        )
        try office.join(hub, with: invitation)
        return office
    }

    /// Makes a branch that has not joined yet.
    static func unjoined(_ name: String) throws -> Office {
        try Office(
            LocalNode(
                node: bytes(16),
                nodeKey: bytes(32),
                role: .branch,
                name: name,
                organisation: nil,
                origin: .none,
                hub: LocalNode.Hub(address: "127.0.0.1:1")
            )
        )
    }

    private init(_ node: LocalNode) throws {
        let home = TemporaryDirectory()
        self.home = home
        let clock = ClockBox(1_800_000_000_000)
        self.clock = clock
        replica = try Replica.create(home.path + "/node", node: node) { clock.milliseconds }
    }

    private let clock: ClockBox

    /// The node's wall clock, in milliseconds since 1970-01-01 UTC.
    var wallMilliseconds: UInt64 {
        get { clock.milliseconds }
        set { clock.milliseconds = newValue }
    }

    var databasePath: String { Replica.path(in: home.path + "/node") }

    func join(_ hub: Office, with invitation: Invitation) throws {
        let node = replica.node
        let answer = try hub.replica.decideJoin(
            Join(
                tokenID: invitation.token,
                secret: invitation.secret,
                node: UniqueID(bytes: node.node)!,
                nodeKey: Key256(bytes: node.nodeKey)!,
                software: "test"
            )
        )
        try replica.completeJoin(answer)
    }

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

    func value(_ field: String, of id: RowID, in table: TableDescription = .customer) throws -> FieldValue? {
        try replica.read { try $0.row(table, id: id)?[field] }
    }

    /// Everything that converges: rows, graveyard, clocks, digests, and whether the kept digests are right.
    func state() throws -> [String] {
        let verification = try replica.verify { _, _ in }
        var lines = verification.map { "\($0.name) \($0.kept.hexadecimal) \($0.kept.rows) right \($0.isRight)" }
        let database = try DatabaseQueue(path: databasePath)
        try database.read { db in
            for table in Schema.current.tables {
                for place in [table.name, table.name + "Graveyard"] {
                    for row in try Row.fetchAll(db, sql: "SELECT * FROM \(place) ORDER BY id") {
                        lines.append(place + " " + row.databaseValues.map(\.description).joined(separator: "|"))
                    }
                }
            }
        }
        return lines
    }

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
        var limits = SyncLimits()
        limits.batchBytesMax = bytesMax
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
                if cutAfter == .max, let end { throw end }
                return end
            }
        }
        throw SyncFailure.reconnecting
    }

    /// What the last session has moved.
    let lastTotals = Mutex(SessionTotals())

    /// Whether hub and child stand at the same knowledge and have the same root.
    func isProvedEqual(to hub: Office) throws -> Bool {
        let hello = try replica.childFacts()
        let child = ChangeSetID(origin: hello.origin, seq: hello.ownSeq)
        let root = try hub.replica.currentRoot(at: hello.cursor, child: child)
        return try root != nil && root == replica.currentRoot(at: hello.cursor, child: child)
    }
}

/// A clock that a test sets from outside.
final class ClockBox: Sendable {
    private let value: Mutex<UInt64>

    init(_ milliseconds: UInt64) { value = Mutex(milliseconds) }

    var milliseconds: UInt64 {
        get { value.withLock { $0 } }
        set { value.withLock { $0 = newValue } }
    }
}

private func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 0...255) } }
