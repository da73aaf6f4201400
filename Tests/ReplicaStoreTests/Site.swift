import CRM
import Causality
import Foundation
import GRDB
import ReplicaStore
import SimulationKit
import SyncProtocol
import TestKit

/// A node in a test that can be closed and opened again, with any schema, and also with files of another place.
final class Site {
    let directory: String
    private var opened: Replica?
    private(set) var schema: Schema
    private let home: TemporaryDirectory
    let clock = MachineClock(seed: .random(in: 0...UInt64.max))

    /// The replica; closed for good if opening it again has failed.
    var replica: Replica {
        guard let opened else { preconditionFailure("The node is closed") }
        return opened
    }

    /// Makes a head office.
    static func headOffice(_ schema: Schema = .current) throws -> Site {
        let site = try Site(.newHeadOffice("tehran-hq", randomBytes: randomBytes), schema)
        try site.replica.completeHeadOffice()
        return site
    }

    /// Makes a branch and lets it join.
    static func branch(_ name: String, of hub: Site, _ schema: Schema = .current) throws -> Site {
        let site = try Site(.newBranch(name, randomBytes: randomBytes), schema)
        try site.replica.join(hub.replica, with: hub.replica.invite(name, randomBytes: randomBytes))
        return site
    }

    private init(_ node: LocalNode, _ schema: Schema) throws {
        home = TemporaryDirectory()
        directory = home.path + "/node"
        self.schema = schema
        let clock = self.clock
        opened = try Replica.create(directory, node: node, schema: schema) { clock.reading.wallMilliseconds }
    }

    /// Opens a file of an earlier version.
    ///
    /// - Parameter database: The bytes of `replica.db`.
    init(database: [UInt8], schema: Schema = .current) throws {
        home = TemporaryDirectory()
        directory = home.path + "/node"
        self.schema = schema
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try Data(database).write(to: URL(fileURLWithPath: Replica.path(in: directory)))
        let clock = self.clock
        opened = try Replica.open(directory, schema: schema) { clock.reading.wallMilliseconds }
    }

    /// Closes the replica, lets something happen while the node is down, and opens it again.
    func reopen(
        with schema: Schema? = nil,
        busySeconds: Double = Replica.defaultBusySeconds,
        while down: (String) throws -> Void = { _ in }
    ) throws {
        try replica.close()
        // Lets go of the lock.
        opened = nil
        try down(Replica.path(in: directory))
        self.schema = schema ?? self.schema
        let clock = self.clock
        opened = try Replica.open(directory, schema: self.schema, busySeconds: busySeconds) {
            clock.reading.wallMilliseconds
        }
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

    func value(_ field: String, of id: RowID, in table: String = "customer") throws -> FieldValue? {
        let description = schema.table(named: table)!
        return try replica.read { try $0.row(description, id: id)?[field] }
    }

    /// Exchanges everything with the hub, in sessions of the real protocol.
    ///
    /// - Returns: What was moved.
    @discardableResult
    func sync(with hub: Site) throws -> SessionTotals {
        var random = SeededRandom(seed: 1)
        for _ in 0..<8 {
            var conversation = Conversation(child: replica, hub: hub.replica)
            let end = conversation.run(&random)[0]
            if end == .reconnecting { continue }
            if let end { throw end }
            return conversation.childTotals
        }
        throw SyncFailure.reconnecting
    }

    // MARK: Looking

    /// Everything that converges, in the columns of a schema: rows, graveyard, clocks, digests, and whether the
    /// kept digests are right.
    func state() throws -> [String] {
        var lines = try replica.verify { _, _ in }.map {
            "\($0.name) \($0.kept.hexadecimal) \($0.kept.rows) right \($0.isRight)"
        }
        try onDisk { db in
            for table in schema.tables {
                let columns = (table.columns.map { "\"\($0.name)\"" } + ["_time", "_origin", "_fields"])
                    .joined(separator: ", ")
                for place in [table.name, table.name + "Graveyard"] {
                    for row in try Row.fetchAll(db, sql: "SELECT \(columns) FROM \(place) ORDER BY id") {
                        lines.append(place + " " + row.databaseValues.map(\.description).joined(separator: "|"))
                    }
                }
            }
        }
        return lines
    }

    /// The canonical dump.
    func dump() throws -> String {
        try replica.sealForeignWrites()
        var text = ""
        try replica.read { reader in
            for table in schema.tables.sorted(by: { $0.name < $1.name }) {
                _ = try reader.dump(table, chunkBytes: 1 << 16) { text += String(decoding: $0, as: UTF8.self) }
            }
        }
        return text
    }

    /// The bodies of a node's log, by change set, without their compression.
    func contents() throws -> [String: [UInt8]] {
        try onDisk { db in
            let rows = try Row.fetchAll(db, sql: "SELECT origin, seq, body FROM log")
            return try Dictionary(
                uniqueKeysWithValues: rows.map { row in
                    let body = [UInt8](row[2] as Data)
                    let content =
                        body.first == 0x28
                        ? try body.withUnsafeBytes { try ZstdDecompressor().decompress($0, sizeMax: 1 << 26) } : body
                    return ("\(row[0] as Int)/\(row[1] as Int)", content)
                }
            )
        }
    }

    /// A second connection to the file, with triggers, as another program has it.
    func onDisk<Result>(_ body: (Database) throws -> Result) throws -> Result {
        let database = try DatabaseQueue(path: Replica.path(in: directory))
        defer { try? database.close() }
        return try database.writeWithoutTransaction(body)
    }
}

/// Whether nodes hold the same, bit for bit, and their digests are right; says where they differ.
func expectSame(_ sites: [Site]) throws -> Bool {
    let first = try sites[0].state()
    var isSame = true
    for line in first where line.hasSuffix("right false") {
        isSame = false
        print("\(sites[0].replica.node.name): \(line)")
    }
    for site in sites.dropFirst() {
        for change in try site.state().difference(from: first) {
            isSame = false
            switch change {
            case .remove(_, let line, _): print("\(sites[0].replica.node.name), not \(site.replica.node.name): \(line)")
            case .insert(_, let line, _): print("\(site.replica.node.name), not \(sites[0].replica.node.name): \(line)")
            }
        }
    }
    return isSame
}

private func randomBytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 0...255) } }

/// The files of earlier versions.
enum Fixture {
    /// A database as a node of that format left it.
    static func database(_ name: String, format: Int) throws -> [UInt8] {
        let frame = [UInt8](try Data(contentsOf: directory(format).appendingPathComponent("\(name).db.zst")))
        return try frame.withUnsafeBytes { try ZstdDecompressor().decompress($0, sizeMax: 1 << 24) }
    }

    /// What that node's own program dumped.
    static func dump(_ name: String, format: Int) throws -> String {
        try String(contentsOf: directory(format).appendingPathComponent("\(name).dump"), encoding: .utf8)
    }

    private static func directory(_ format: Int) -> URL {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Fixtures/format-\(format)")
    }
}
