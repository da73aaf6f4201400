import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// Work of a former life is issued again: in order, each change set once among all copies of the node, with new
// numbers for the rows that were made in it.

extension ReplicaWriter {
    /// Issues change sets that wait, as part of the present transaction, when this node has taken the whole log
    /// of head office.
    ///
    /// - Parameter answers: What head office has of the first ones that wait, in order: those are dropped.
    func issueWaiting(
        _ answers: [(identity: FirstIdentity, found: AlreadyHaveQuestion.Found?)],
        hubMilliseconds: UInt64
    ) throws {
        let waiting = try WaitingChange.first(answers.count, db)
        var present = try PresentIdentifiers(db)
        let arena = FieldArena()
        for (change, answer) in zip(waiting, answers) {
            guard change.identity == answer.identity else { return }
            if let found = answer.found {
                try follow(found, insteadOf: change, &present)
            } else if let found = try change.identity.found(in: db) {
                try follow(found, insteadOf: change, &present)
            } else {
                try issue(change, &present, arena, hubMilliseconds: hubMilliseconds)
            }
            try db.cachedStatement(sql: "DELETE FROM waitingChange WHERE number = ?").execute(arguments: [change.number]
            )
        }
        let isDone =
            try Bool.fetchOne(db.cachedStatement(sql: "SELECT NOT EXISTS (SELECT 1 FROM waitingChange)")) ?? false
        if isDone { try db.cachedStatement(sql: "DELETE FROM waitingIdentifier").execute() }
    }

    /// Head office has the change set from another copy: what follows here is about the rows as that copy has
    /// numbered them.
    private func follow(
        _ found: AlreadyHaveQuestion.Found,
        insteadOf change: WaitingChange,
        _ present: inout PresentIdentifiers
    ) throws {
        var theirs: [RowKey: RowID] = [:]
        for row in found.renumbered { theirs[RowKey(table: row.table, id: row.former.rawValue)] = row.present }
        try Replica.withContent(of: change.body, position: 0, ZstdDecompressor()) { reader in
            // What this copy had made of the first numbers, if it had issued the change set before.
            for row in reader.header.extensions.renumbered {
                guard let id = theirs[RowKey(table: row.table, id: row.former.rawValue)] else { continue }
                try present.note(row.present, of: row.table, is: id, db)
            }
            for block in reader.blocks {
                var cursor = block.makeCursor()
                while cursor.advance() {
                    guard cursor.operation == .birth, let id = RowID(rawValue: cursor.id),
                        let new = theirs[RowKey(table: block.number, id: id.rawValue)]
                    else {
                        continue
                    }
                    try present.note(id, of: block.number, is: new, db)
                }
            }
        }
    }

    private func issue(
        _ change: WaitingChange,
        _ present: inout PresentIdentifiers,
        _ arena: FieldArena,
        hubMilliseconds: UInt64
    ) throws {
        let original = try Replica.withContent(of: change.body, position: 0, ZstdDecompressor()) { ChangeSet($0) }
        var renumbered: [RenumberedRow] = []
        // New numbers first, because rows may name each other in any order.
        for table in original.tables {
            guard let description = schema.table(number: table.number) else { continue }
            var next: Int64?
            for row in table.rows where row.operation == .birth {
                let number = try next ?? nextIdentifier(of: description)
                guard let id = RowID(rawValue: number), id.origin == node.origin else {
                    throw StoreFailure.database("This node has used up its row numbers of \(description.name).")
                }
                next = number + 1
                try reserve(id)
                try present.note(row.id, of: table.number, is: id, db)
                renumbered.append(RenumberedRow(table: table.number, former: row.id, present: id))
            }
        }
        // All numbers that the rows ever had lead to the present ones.
        for row in original.header.extensions.renumbered {
            guard let id = present[row.present, of: row.table] else { continue }
            renumbered.append(RenumberedRow(table: row.table, former: row.former, present: id))
        }
        let latest = HybridTimestamp(milliseconds: hubMilliseconds)
        let time = max(timeMax.next, min(change.time, latest))
        let stamp = Stamp(time: time, origin: node.origin)
        var rows = 0
        let id = ChangeSetID(origin: node.origin, seq: (vector[node.origin]?.seq ?? 0) + 1)
        let tables = try original.tables.compactMap { table -> TableChanges? in
            guard let description = schema.table(number: table.number) else { return table }
            let merge = try merge(of: description)
            var moved = TableChanges(number: table.number, columnCount: table.columnCount, rows: [])
            for row in table.rows {
                let row = present.following(row, description, schema)
                // Erased while it waited: it must not come into the log again.
                if try merge.isErased(row.id.rawValue) {
                    try note(.scrubDue, 1)
                    continue
                }
                moved.rows.append(row)
                let key = RowKey(table: table.number, id: row.id.rawValue)
                if parked.contains(key) {
                    try parkBehind(key.id, of: description, in: id)
                    continue
                }
                arena.load(row.columns, row.values)
                let write = RowWrite(id: key.id, operation: row.operation, columns: row.columns, stamp: stamp)
                _ = try applyOrPark(key.id, of: description, in: id) { try merge.apply(write, arena) }
            }
            rows += moved.rows.count
            return moved.rows.isEmpty ? nil : moved
        }
        var extensions = original.header.extensions
        extensions.firstIdentity = change.identity
        extensions.renumbered = Array(Set(renumbered)).sorted()
        let seen = original.header.context
        try appendOwn(
            tables.map { WrittenRows($0) },
            rows: rows,
            schemaVersion: original.header.schemaVersion,
            time: time,
            context: CausalContext(
                lives: Self.joined(seen.lives, try formerLives() + lifeBefore(change.id)),
                hubs: known(seen.hubs)
            ),
            extensions: extensions
        )
        try noteFirstIdentity(
            ChangeSetID(origin: node.origin, seq: vector[node.origin]?.seq ?? 0),
            extensions
        )
    }

    /// What head office has of the life that wrote a change set, as far as that had written it before. The cursor may
    /// cover it by now, but not where that life stood.
    private func lifeBefore(_ id: ChangeSetID) throws -> [ChangeSetID] {
        let accepted = try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT seq FROM formerLife WHERE origin = ?"),
            arguments: [id.origin.rawValue]
        )
        let seq = min(UInt64(clamping: accepted ?? 0), id.seq - 1)
        return seq > 0 ? [ChangeSetID(origin: id.origin, seq: seq)] : []
    }

    /// One entry for each life, with the greater number; ascending.
    private static func joined(_ left: [ChangeSetID], _ right: [ChangeSetID]) -> [ChangeSetID] {
        VersionVector(left + right).entries
    }
}

/// What became of the rows that were made in work which waits, or waited just before.
private struct PresentIdentifiers {
    private var presentByFormer: [RowKey: RowID] = [:]

    init(_ db: Database) throws {
        for row in try Row.fetchAll(
            db.cachedStatement(sql: "SELECT tableNumber, former, present FROM waitingIdentifier")
        ) {
            guard let former = RowID(rawValue: row[1]), let present = RowID(rawValue: row[2]) else { continue }
            presentByFormer[RowKey(table: row[0], id: former.rawValue)] = present
        }
    }

    subscript(former: RowID, of table: Int) -> RowID? { presentByFormer[RowKey(table: table, id: former.rawValue)] }

    mutating func note(_ former: RowID, of table: Int, is present: RowID, _ db: Database) throws {
        presentByFormer[RowKey(table: table, id: former.rawValue)] = present
        try db.cachedStatement(sql: "INSERT OR REPLACE INTO waitingIdentifier VALUES (?, ?, ?)").execute(
            arguments: [table, former.rawValue, present.rawValue]
        )
    }

    /// The same change, about the rows as they are numbered now.
    func following(_ change: RowChange, _ table: TableDescription, _ schema: Schema) -> RowChange {
        var values = change.values
        var index = 0
        for column in change.columns.numbers {
            defer { index += 1 }
            guard column < table.columns.count else { continue }
            switch (table.columns[column].type, values[index]) {
            case (.reference(let target), .integer(let number)):
                guard let number = RowID(rawValue: number), let target = schema.table(named: target),
                    let id = self[number, of: target.number]
                else { continue }
                values[index] = .integer(id.rawValue)
            case (.references(let target), .text(let text)):
                guard let target = schema.table(named: target) else { continue }
                let words = text.split(separator: " ", omittingEmptySubsequences: false).map { word in
                    RowID(printed: word).flatMap { self[$0, of: target.number] }?.description ?? String(word)
                }
                values[index] = .text(words.joined(separator: " "))
            default:
                continue
            }
        }
        return RowChange(
            id: self[change.id, of: table.number] ?? change.id,
            operation: change.operation,
            columns: change.columns,
            values: values
        )
    }
}
