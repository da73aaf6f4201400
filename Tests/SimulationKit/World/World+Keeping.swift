import CRM
import Causality
import Foundation
import GRDB
import GRDBSQLite
import SyncProtocol

@testable import ReplicaStore

// What must stay, what must go, and who must stay who he is.

extension World {
    /// A body that is not in any backup is the only one that nobody can take away.
    func lookAtTrimming(_ hub: Replica) throws {
        let lost = try hub.read { reader in
            try Int64.fetchOne(reader.db, sql: "SELECT max(position) FROM log WHERE body IS NULL")
        }
        guard let lost, lost > Int64(self.hub.backedUp) else { return }
        violate("I15", "head office let go of position \(lost), and its backup ends at \(self.hub.backedUp)")
    }

    /// What a branch has acknowledged is never more than there is, and stays so where no disk is put back: a copy truly has
    /// less.
    func lookAtAcknowledgements(_ hub: Replica) throws {
        let (end, acknowledged) = try hub.read { reader in
            let rows = try Row.fetchAll(
                reader.db.cachedStatement(sql: "SELECT origin, acknowledgedPosition FROM registeredLife")
            )
            return (
                try Int64.fetchOne(reader.db, sql: "SELECT max(position) FROM log") ?? 0,
                Dictionary(uniqueKeysWithValues: rows.map { ($0[0] as Int64, $0[1] as Int64) })
            )
        }
        let hasCopies = script.steps.contains { [.putBack, .clone, .recover].contains($0.verb) }
        for (origin, position) in acknowledged.sorted(by: { $0.key < $1.key }) {
            if position > end {
                violate("I17", "origin \(origin) has acknowledged \(position), and the log ends at \(end)")
            }
            if !hasCopies, let before = self.acknowledged[origin], before > position {
                violate("I17", "origin \(origin) had acknowledged \(before), and now \(position)")
            }
        }
        self.acknowledged = acknowledged
    }

    /// The log follows from itself: nobody wrote before what he had seen.
    func lookAtOrder() throws {
        var oracle = OrderOracle()
        for (entry, content) in try wholeLog() {
            let key = hub.log.keys[Int(entry.position) - 1]
            oracle.add(content.header, time: entry.time, chain: key.chain)
        }
        for problem in oracle.found.prefix(3) { violate(problem.invariant, problem.sentence) }
        try lookAtReplacedValues()
    }

    /// A value that somebody saw and replaced stands nowhere any more, whatever the clocks said.
    private func lookAtReplacedValues() throws {
        guard let hub = hub.replica else { return }
        var replaced: [Mark: Mark] = [:]
        for (new, old) in ledger.replaced where self.hub.log.marks.contains(new) { replaced[old] = new }
        try hub.read { reader in
            // Who restores a row says again what it held, and may not know who had replaced that.
            for row in try Row.fetchAll(reader.db, sql: "SELECT id, name, note, email, web FROM customer ORDER BY id") {
                for value in row.databaseValues.dropFirst() {
                    guard let text = String.fromDatabaseValue(value), let mark = Mark(.text(text)),
                        let new = replaced[mark], !ledger.restored.contains(row[0])
                    else { continue }
                    violate("I5", "\(mark) stands, and \(new) was written by somebody who saw it")
                }
            }
        }
    }

    /// What branches and head office have sent each other comes again, and changes nothing.
    func lookAtSecondDelivery() throws {
        guard let hub = hub.replica else { return }
        var hubBefore = try stateSeen(hub)
        for branch in nodes.dropFirst() {
            guard let replica = branch.replica else { continue }
            let before = try stateSeen(replica)
            try deliverAgain(replica, hub, of: branch)
            let hubAfter = try stateSeen(hub)
            if try hubBefore != hubAfter || before != stateSeen(replica) {
                violate("I9", "what came again between node \(branch.number) and head office changed something")
            }
            hubBefore = hubAfter
        }
    }

    private func stateSeen(_ replica: Replica) throws -> [String] {
        try replica.everything() + ["\(replica.status().end)"]
    }

    private func deliverAgain(_ replica: Replica, _ hub: Replica, of branch: SimulatedNode) throws {
        let facts = try replica.childFacts()
        let own = try Self.afterTrimmed(replica, origin: facts.origin)
        // What a branch has by a snapshot, or by another copy's work, would come for the first time.
        let known = Set(branch.log.keys)
        let new = self.hub.log.keys.lastIndex { !known.contains($0) }.map { UInt64($0 + 1) } ?? 0
        let log = max(try Self.afterTrimmed(hub, origin: nil), new)
        let sent = try replica.readOwn(afterSeq: own, bytesMax: 64 << 10, entriesMax: 64).batch
        let came = try hub.readLog(afterPosition: log, for: facts.origin, bytesMax: 64 << 10, entriesMax: 64).batch
        let isSmall = { (batch: ChangeBatch) in batch.largeBody == nil && !batch.entries.isEmpty }
        do {
            if isSmall(sent) { _ = try hub.apply([sent], from: SyncPeer(node: facts.node, origin: facts.origin)) }
            if isSmall(came), let node = UniqueID(bytes: hub.node.node) {
                _ = try replica.apply([came], from: SyncPeer(node: node, origin: hub.node.origin))
            }
        } catch {
            violate("I9", "what came again between node \(branch.number) and head office is refused: \(error)")
        }
    }

    /// The last change set of an origin, or of all, that a log cannot hand on: its body was let go, or is what an erasure
    /// has left, unsigned, of one that head office itself has let go.
    private static func afterTrimmed(_ replica: Replica, origin: Origin?) throws -> UInt64 {
        let last = try replica.read { reader in
            try Int64.fetchOne(
                reader.db,
                sql: """
                    SELECT max(iif(?1 IS NULL, position, seq)) FROM log
                    WHERE (body IS NULL OR position IN (SELECT position FROM unsignedBody))
                        AND (?1 IS NULL OR origin = ?1)
                    """,
                arguments: [origin.map { Int64($0.rawValue) }]
            )
        }
        return UInt64(clamping: last ?? 0)
    }

    /// Of what was erased nothing is left in any file, in the index or in the log.
    func lookAtErased(_ erased: Set<RowKey>) throws {
        let marks = ledger.rows.filter { erased.contains(RowKey(table: $0.value.table, id: $0.value.id)) }.keys.sorted()
        guard !marks.isEmpty else { return }
        for node in nodes {
            guard let replica = node.replica else { continue }
            _ = try replica.scrubErased()
            let bytes = try replica.fileBytes()
            let left = marks.first { mark in
                mark.traces.contains { bytes.contains(text: $0) }
            }
            if let left {
                let places = try replica.tables(with: left.traces)
                violate(
                    "I25",
                    "node \(node.number) has the bytes of \(left), which was erased, in "
                        + (places.isEmpty ? "no table" : places.joined(separator: ", "))
                )
            }
            for position in 1...UInt64(max(1, node.log.keys.count)) {
                let written = try replica.read { try $0.logEntry(at: position)?.content?.tables } ?? []
                let left = written.first { table in
                    table.rows.contains { row in
                        row.operation != .erase && erased.contains(RowKey(table: table.number, id: row.id))
                    }
                }
                if let left {
                    violate("I25", "the log of node \(node.number) has an erased \(left.number) at \(position)")
                }
            }
        }
    }

    /// A branch and head office know the same, and their tables were compared: comparing mends what differs, and nothing
    /// may need it where no disk was put back or broken, and no row was refused. A new life may, where the log does not
    /// go back far enough to tell what was below the writes that it takes out.
    func lookAtComparison(_ branch: SimulatedNode, isEqual: Bool) {
        guard let replica = branch.replica else { return }
        let origin = replica.node.origin
        if isEqual { branch.equalAs = origin }
        let excuses: Set<Step.Verb> = [.putBack, .clone, .recover, .fail, .forbid]
        guard !isEqual, !script.steps.contains(where: { excuses.contains($0.verb) }) else { return }
        if origin != branch.equalAs, (try? replica.hasTrimmedLog()) == true { return }
        violate("I4", "node \(branch.number) and head office know the same, and differ")
    }

    /// Whoever was never copied, never lost anything and had no wrong clock beside him keeps his number.
    func lookAtNumbers() {
        let excuses: Set<Step.Verb> = [.putBack, .clone, .recover, .fail]
        let isExcused = script.steps.contains { step in
            excuses.contains(step.verb) || (step.node == 0 && [.setClock, .freezeClock].contains(step.verb))
        }
        guard !isExcused else { return }
        for node in nodes where node.replica?.node.origin != node.firstOrigin {
            violate("I7", "node \(node.number) took another number for no reason")
        }
    }
}

extension Data {
    /// Whether the bytes of a text are somewhere in these.
    fileprivate func contains(text: String) -> Bool {
        let text = Array(text.utf8)
        return withUnsafeBytes { bytes in
            var rest = bytes[...]
            while rest.count >= text.count, let base = UnsafeRawBufferPointer(rebasing: rest).baseAddress,
                let found = memchr(base, Int32(text[0]), rest.count - text.count + 1)
            {
                if memcmp(found, text, text.count) == 0 { return true }
                rest = rest.dropFirst(UnsafeRawPointer(found) - base + 1)
            }
            return false
        }
    }
}

extension Replica {
    /// The tables, the node's own ones too, that hold one of some texts, with the row and the column.
    fileprivate func tables(with texts: [String]) throws -> [String] {
        try read { reader in
            let tables = try String.fetchAll(
                reader.db,
                sql: "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
            )
            return try tables.flatMap { table in
                try Row.fetchAll(reader.db, sql: "SELECT * FROM \"\(table)\"").flatMap { row in
                    row.filter { _, value in
                        guard let data = Data.fromDatabaseValue(value) else { return false }
                        return texts.contains { data.contains(text: $0) }
                    }.map { column, _ in "\(table).\(column) (\(Array(row.databaseValues)[0]))" }
                }
            }
        }
    }

    /// The file as it is, pages that are free included.
    fileprivate func fileBytes() throws -> Data {
        try pool.read { db in
            var count: sqlite3_int64 = 0
            guard let bytes = sqlite3_serialize(db.sqliteConnection, "main", &count, 0) else {
                throw StoreFailure.database("The file cannot be read.")
            }
            defer { sqlite3_free(bytes) }
            return Data(bytes: bytes, count: Int(count))
        }
    }
}
