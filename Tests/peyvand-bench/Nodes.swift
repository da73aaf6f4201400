import CRM
import Causality
import Foundation
import ReplicaStore
import SyncProtocol
import TestKit

/// A node in a directory of its own, on the disk.
final class Node {
    private let home: TemporaryDirectory
    private(set) var replica: Replica
    /// Beside the node, as another program has its file.
    private var madeForeign: PreparedWriter?
    var directory: String { home.path + "/node" }
    var path: String { Replica.path(in: directory) }

    private init(_ home: TemporaryDirectory, _ replica: Replica) { (self.home, self.replica) = (home, replica) }

    private static func made(_ node: LocalNode) throws -> Node {
        let home = TemporaryDirectory()
        return Node(home, try Replica.create(home.path + "/node", node: node, clock: .ofMachine()))
    }

    static func headOffice() throws -> Node {
        let node = try made(.newHeadOffice("hq", randomBytes: randomBytes))
        try node.replica.completeHeadOffice()
        return node
    }

    static func branch(_ name: String, of hub: Node) throws -> Node {
        let node = try made(.newBranch(name, randomBytes: randomBytes))
        try node.replica.join(hub.replica, with: hub.replica.invite(name, randomBytes: randomBytes))
        return node
    }

    static func randomBytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 0...255) } }

    /// Another program that writes the node's file, with its triggers.
    func foreign() throws -> PreparedWriter {
        if let madeForeign { return madeForeign }
        let made = try PreparedWriter(path)
        madeForeign = made
        return made
    }

    /// Copies the write-ahead log into the file and begins it anew, so that no round pays for the one before.
    func checkpoint() throws { try foreign().checkpoint() }

    /// Lets other processes have the node, until it is opened again.
    func close() throws {
        madeForeign = nil
        try replica.close()
    }

    func reopen() throws { replica = try Replica.open(directory, clock: .ofMachine()) }

    /// Copies the node to a file, which also says that what is in it cannot be lost any more.
    func backUp() throws { _ = try replica.backup(to: home.path + "/backup-\(end()).db") { _, _ in } }

    /// Puts customers, and then activities, in transactions of so many rows.
    ///
    /// - Returns: The rows of both.
    @discardableResult
    func load(_ data: DataSet, rowsEach: Int) throws -> (customers: [RowID], activities: [RowID]) {
        let customers = try insert(.customer, data.customers, rowsEach: rowsEach)
        return (customers, try insert(.activity, data.activities(of: customers), rowsEach: rowsEach))
    }

    /// Makes rows, in transactions of so many.
    @discardableResult
    func insert(_ table: TableDescription, _ rows: [DataSet.Values], rowsEach: Int) throws -> [RowID] {
        var ids: [RowID] = []
        ids.reserveCapacity(rows.count)
        for start in stride(from: 0, to: rows.count, by: rowsEach) {
            let slice = rows[start..<min(start + rowsEach, rows.count)]
            ids += try replica.write { transaction in
                try slice.map { try transaction.insert(table, row: $0) }
            }.result
        }
        return ids
    }

    /// Gives activities an outcome, in transactions of so many.
    func setOutcome(_ outcome: FieldValue, of ids: [RowID], rowsEach: Int) throws {
        for start in stride(from: 0, to: ids.count, by: rowsEach) {
            _ = try replica.write { transaction in
                for id in ids[start..<min(start + rowsEach, ids.count)] {
                    try transaction.update("activity", id: id, ["outcome": outcome])
                }
            }
        }
    }

    /// Meets head office in memory, without sockets.
    ///
    /// - Returns: The bytes of the last session, both ways.
    @discardableResult
    func sync(with hub: Node) throws -> Int {
        var random = SeededRandom(seed: 1)
        while true {
            var conversation = Conversation(child: replica, hub: hub.replica)
            let ends = conversation.run(&random)
            // After its first contact, and after a first load, a branch calls again at once.
            if case .reconnecting? = ends[0] { continue }
            guard ends.allSatisfy({ $0 == nil }) else { throw NotTheSame(description: "A session ended with \(ends).") }
            return conversation.bytes
        }
    }

    /// Head office's log after a position, as it goes out.
    func log(after position: UInt64, for reader: Node) throws -> [ChangeBatch] {
        var batches: [ChangeBatch] = []
        var position = position
        while true {
            let batch = try replica.readLog(
                afterPosition: position,
                for: reader.replica.node.origin,
                bytesMax: 1 << 20,
                entriesMax: 1000
            ).batch
            if batch.entries.isEmpty { return batches }
            batches.append(batch)
            position = batch.end.position
        }
    }

    /// Takes what head office has sent.
    func apply(_ batches: [ChangeBatch], from hub: Node) throws {
        let peer = try hub.peer
        for batch in batches { _ = try replica.apply([batch], from: peer) }
    }

    /// Who it is to those that it meets.
    var peer: SyncPeer {
        get throws {
            guard let id = UniqueID(bytes: replica.node.node) else {
                throw NotTheSame(description: "A node has no identity.")
            }
            return SyncPeer(node: id, origin: replica.node.origin)
        }
    }

    func end() throws -> UInt64 { try replica.status().end.position }
}
