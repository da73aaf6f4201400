import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol
import TestKit

@testable import ReplicaStore

/// A node of a script.
final class CrashNode: NodeOnDisk {
    /// Whether the node is opened when somebody first asks for its replica.
    var opensWhenNeeded = false

    /// The replica, while the node is open.
    var replica: Replica {
        get throws {
            if opensWhenNeeded { try open() }
            guard let opened else { throw StoreFailure.noNode(directory: directory) }
            return opened
        }
    }

    override func die() {
        super.die()
        opensWhenNeeded = false
    }

    /// Takes back what the fence beside the replica has written without a sync.
    func takeBackFence() { changeFence { $0.replacing("\"isOpening\":false", with: "\"isOpening\":true") } }
}

/// Head office and a branch, and what has been promised to anybody.
final class Stage {
    let clock = VirtualTime()
    let hub: CrashNode
    let branch: CrashNode
    /// Names of customers that somebody was told are kept.
    private(set) var promisedNames: [String] = []
    /// Logs that somebody was told are kept up to there.
    private(set) var promisedLogs: [(isHub: Bool, end: LogPrefix)] = []
    /// Whether the end of a log may be issued again, under another number.
    var mayRewriteLog = false
    /// Things that a script wants to remember from its preparation.
    var ids: [RowID] = []
    var remembered: UInt64 = 0
    private var invitation: Join?
    /// What the two agree on for their sessions.
    var limits = SyncLimits.standard

    init() throws {
        hub = try CrashNode(MachineClock(clock, seed: 1))
        branch = try CrashNode(MachineClock(clock, seed: 2))
    }

    /// A mark to go back to, with the promises that held then.
    struct Mark {
        fileprivate let names: [String]
        fileprivate let logs: [(isHub: Bool, end: LogPrefix)]
        let hub: CrashDisk.State
        let branch: CrashDisk.State
        fileprivate let milliseconds: UInt64
        fileprivate let acknowledged: Acknowledged
    }

    /// What one node has told the other that it keeps, as the other remembers it.
    struct Acknowledged: Hashable {
        /// Head office: the branch's change sets up to this one.
        var seq: UInt64 = 0
        /// The branch: head office's log up to here.
        var position: UInt64 = 0
    }

    /// What was acknowledged when the power went.
    private(set) var acknowledged = Acknowledged()

    /// What has been promised of a node, to anybody.
    struct Promise: Hashable {
        let end: LogPrefix?
        let acknowledged: Acknowledged
        let names: Int
    }

    /// What is promised of a node at this moment.
    func promise(of node: CrashNode) -> Promise {
        Promise(
            end: promisedEnd(of: node),
            acknowledged: (try? present()) ?? Acknowledged(),
            names: promisedNames.count
        )
    }

    /// Looks into the memory of processes that are still alive.
    private func present() throws -> Acknowledged {
        var present = Acknowledged()
        guard !mayRewriteLog, hub.isOpen, branch.isOpen else { return present }
        let id = UniqueID(bytes: try branch.replica.node.node)
        present.seq = try branch.replica.contacts.withLock { $0.own.acceptedSeq } ?? 0
        if let id { present.position = try hub.replica.contacts.withLock { $0[id].acknowledged?.position } ?? 0 }
        return present
    }

    func mark() -> Mark {
        Mark(
            names: promisedNames,
            logs: promisedLogs,
            hub: hub.disk.state(),
            branch: branch.disk.state(),
            milliseconds: clock.milliseconds,
            acknowledged: (try? present()) ?? Acknowledged()
        )
    }

    func goBack(to mark: Mark) {
        remember(mark)
        hub.disk.restore(mark.hub)
        branch.disk.restore(mark.branch)
    }

    private func remember(_ mark: Mark) {
        hub.die()
        branch.die()
        clock.milliseconds = mark.milliseconds
        promisedNames = mark.names
        promisedLogs = mark.logs
        acknowledged = mark.acknowledged
    }

    /// Another stage, with disks of its own, for the same nodes.
    func twin() throws -> Stage {
        let twin = try Stage()
        (twin.ids, twin.remembered, twin.invitation) = (ids, remembered, invitation)
        (twin.mayRewriteLog, twin.limits) = (mayRewriteLog, limits)
        for (other, node) in [(twin.hub, hub), (twin.branch, branch)] {
            other.policy = node.policy
            other.clock.set(off: Int64(node.clock.reading.wallMilliseconds) - Int64(clock.milliseconds))
        }
        return twin
    }

    /// Puts a mark of this stage or of its twin here, but for what a power cut has left of one of the nodes.
    ///
    /// - Parameter takesBackFence: Whether the last word of the fence, which was not synced, is lost too.
    func begin(_ mark: Mark, at victim: CrashNode, left: CrashDisk.State, takesBackFence: Bool) {
        remember(mark)
        let isHub = victim === hub
        (isHub ? branch : hub).disk.restore(isHub ? mark.branch : mark.hub)
        victim.disk.restore(left)
        if takesBackFence { victim.takeBackFence() }
    }

    // MARK: Making nodes

    static let headOffice = LocalNode.newHeadOffice("tehran-hq") { [UInt8](repeating: 1, count: $0) }

    func makeHeadOffice() throws {
        try hub.create(Self.headOffice)
        try hub.replica.completeHeadOffice()
    }

    /// Makes a branch that belongs to nobody yet.
    func createBranch() throws {
        try branch.create(.newBranch("isfahan") { [UInt8](repeating: 4, count: $0) })
    }

    /// Head office invites the branch.
    func invite() throws {
        let sent = try hub.replica.invite("isfahan") { [UInt8](repeating: 6, count: $0) }
        invitation = try branch.replica.join(with: sent)
    }

    /// The branch follows its invitation.
    func join() throws {
        guard let invitation else { return }
        try branch.replica.completeJoin(hub.replica.decideJoin(invitation))
    }

    func makeBranch() throws {
        try createBranch()
        try invite()
        try join()
    }

    /// Head office and a branch that know each other and hold the same few rows; both open.
    func makeBoth() throws {
        try makeHeadOffice()
        try makeBranch()
        for number in 0..<3 {
            ids.append(try add("پایه دفتر \(number)", at: hub))
            ids.append(try add("پایه شعبه \(number)", at: branch))
        }
        try sync()
        try sync()
    }

    // MARK: Working

    /// Adds a customer; when this returns, the promise is given.
    @discardableResult
    func add(_ name: String, at node: CrashNode, note: String? = nil) throws -> RowID {
        clock.milliseconds += 10
        var values: [String: FieldValue] = ["name": .text(name)]
        if let note { values["note"] = .text(note) }
        let id = try node.replica.write { try $0.insert("customer", values) }.result
        promisedNames.append(name)
        try promiseLog(of: node)
        return id
    }

    func edit(_ id: RowID, note: String, at node: CrashNode) throws {
        clock.milliseconds += 10
        _ = try node.replica.write { try $0.update("customer", id: id, ["note": .text(note)]) }
        try promiseLog(of: node)
    }

    func delete(_ id: RowID, at node: CrashNode) throws {
        clock.milliseconds += 10
        _ = try node.replica.write { try $0.delete("customer", id: id) }
        try promiseLog(of: node)
    }

    /// Somebody was told that this name is kept.
    func promise(_ name: String) { promisedNames.append(name) }

    /// The name is to go, on somebody's order.
    func release(_ name: String) { promisedNames.removeAll { $0 == name } }

    private func promiseLog(of node: CrashNode) throws {
        guard let end = try node.replica.read({ try $0.end() }) else { return }
        promisedLogs.append((node === hub, end))
    }

    /// How long the sessions between the two may last, in messages, and who listens to them.
    var deliveredMax = Int.max
    var onArrival: ((_ receiver: Int, _ message: inout FramedMessage, _ session: SyncSession) -> Void)?

    /// A session between the two, of the real protocol.
    func sync() throws {
        clock.milliseconds += 10
        var random = SeededRandom(seed: 1)
        for _ in 0..<8 {
            var conversation = Conversation(
                child: try branch.replica,
                hub: try hub.replica,
                limits: limits,
                deliveredMax: deliveredMax
            )
            conversation.onArrival = onArrival
            let end = conversation.run(&random)[0]
            guard end == .reconnecting else {
                if let end { throw end }
                return
            }
        }
        throw SyncFailure.reconnecting
    }

    /// Both work and meet; then head office's disk is as it was before, and the branch works on.
    ///
    /// - Parameter more: What else is lost.
    func loseEndOfHub(with more: () throws -> Void = {}) throws {
        try hub.close()
        let old = hub.disk.state()
        try hub.open()
        for number in 0..<3 {
            try add("گم‌شدهٔ دفتر \(number)", at: hub)
            try add("گم‌شدهٔ شعبه \(number)", at: branch)
            try sync()
        }
        try more()
        hub.die()
        hub.disk.restore(old)
        try hub.open()
        try add("نفرستاده", at: branch)
    }

    /// As after a verified backup of everything.
    func setSafe() throws {
        try hub.replica.withWriter { writer in
            try writer.transaction { try writer.note(.safePosition, Int64(writer.end.position)) }
        }
    }

    // MARK: Looking

    /// The end of the log that was promised to somebody at a node.
    func promisedEnd(of node: CrashNode) -> LogPrefix? {
        mayRewriteLog ? nil : promisedLogs.last { $0.isHub == (node === hub) }?.end
    }

    /// What a node has acknowledged to the other and does not hold.
    private func broken(_ acknowledged: Acknowledged, at node: CrashNode, _ db: Database) throws -> [String] {
        guard !mayRewriteLog else { return [] }
        if node === branch {
            let cursor = try Int64.fetchOne(db, sql: "SELECT cursorPosition FROM localState") ?? 0
            return cursor >= Int64(acknowledged.position)
                ? [] : ["head office was told that its log is here up to \(acknowledged.position), not \(cursor)"]
        }
        // The branch of a script is the second origin.
        let seq = try Int64.fetchOne(db, sql: "SELECT seq FROM heldSeq WHERE origin = 2") ?? 0
        return seq >= Int64(acknowledged.seq)
            ? [] : ["the branch was told that its work is here up to \(acknowledged.seq), not \(seq)"]
    }

    private static func missing(_ end: LogPrefix, _ db: Database) throws -> [String] {
        let digest = try Int64.fetchOne(
            db,
            sql: "SELECT digest FROM log WHERE position = ?",
            arguments: [Int64(end.position)]
        )
        // The digest names everything before it, too.
        return digest.map { UInt64(bitPattern: $0) } == end.digest
            ? [] : ["the log up to \(end.position) was promised, and is not there"]
    }

    /// What is wrong with a node by itself: broken pages, sums, chains, a cursor or a vector beyond the data, or a
    /// promised log that is not there.
    func problems(of node: CrashNode) throws -> [String] {
        let replica = try node.replica
        var found = try replica.problems(isRewritten: mayRewriteLog)
        try replica.read { reader in
            found += try broken(acknowledged, at: node, reader.db)
            if let end = promisedEnd(of: node) { found += try Self.missing(end, reader.db) }
        }
        return found
    }

    /// What is wrong after both have met: they differ, or something that was promised is gone or is there twice.
    func problemsOfBoth() throws -> [String] {
        var found: [String] = []
        let (here, there) = (try hub.replica.everything(), try branch.replica.everything())
        if here != there {
            found += there.difference(from: here).prefix(6).map { "\($0)".prefix(300).description }
        }
        for node in [hub, branch] {
            var counts: [String: Int] = [:]
            for name in try node.replica.read({ try String.fetchAll($0.db, sql: "SELECT name FROM customer") }) {
                counts[name, default: 0] += 1
            }
            for name in promisedNames where counts[name] != 1 {
                found.append("\(name) is \(counts[name] ?? 0) times at \(try node.replica.node.name)")
            }
        }
        let ahead = try branch.replica.status().ahead.changeSets
        if ahead != 0 { found.append("\(ahead) change sets are still unsent") }
        return found
    }
}

extension ReplicaReader {
    /// The end of the log; nil while it is empty.
    fileprivate func end() throws -> LogPrefix? {
        try Row.fetchOne(db, sql: "SELECT position, digest FROM log ORDER BY position DESC LIMIT 1").map {
            LogPrefix(stored: $0[0], $0[1])
        }
    }
}
