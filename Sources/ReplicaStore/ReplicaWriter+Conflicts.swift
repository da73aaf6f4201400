import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// What head office says about losing writes: entries of the replicated table `conflict`, in change sets of its
// own, in the transaction of the change sets that they are about, and after them in the log.

extension ReplicaWriter {
    /// About how many bytes of entries become one change set.
    private static let bytesPerChangeSetMax = 256 << 10

    /// Begins to judge a change set; nil where there is nothing to judge: branches take what head office has judged.
    func judged(_ id: ChangeSetID, stamp: Stamp, _ seen: SeenChangeSets, from source: ChangeSource) -> JudgedChangeSet?
    {
        guard judge != nil, source.position == nil else { return nil }
        return JudgedChangeSet(id: id, stamp: stamp, position: end.position + 1, seen: seen)
    }

    /// Merges one row of a change set, and has the judge look at what it meets.
    func merge(_ write: RowWrite, _ row: ChangeCursor, of table: TableDescription, by judged: JudgedChangeSet?) throws {
        let merge = try merge(of: table)
        guard let judge, let judged else {
            try merge.apply(write, row)
            return
        }
        if table.number == TableDescription.conflict.number {
            if write.operation == .birth, let key = entryKey(of: row) { judge.noteEntry(key) }
            try merge.apply(write, row)
            return
        }
        // A new row meets nothing, and an erasure leaves nothing to decide.
        guard write.operation != .birth, write.operation != .erase else {
            try merge.apply(write, row)
            return
        }
        try merge.apply(write, row) { clock, isAlive in
            try judge.meet(
                write,
                of: table,
                values: { write.columns.intersection(table.allColumns).numbers.map { FieldValue(row[$0]) } },
                clock: clock,
                isAlive: isAlive,
                by: judged,
                present: {
                    try (isAlive ? merge.live : merge.graveyard).readRow(id: write.id) { stored in
                        table.columns.map { FieldValue(stored.field($0.number)) }
                    }
                }
            )
        }
    }

    /// At the end of a transaction: lists what has lost, hides what has been answered.
    func listConflicts() throws {
        guard let judge, judge.hasWork else { return }
        defer { judge.endTransaction() }
        let keys = judge.touched.union(judge.listedBefore).sorted()
        var list = ConflictList(self, judge)
        for key in keys {
            guard let table = schema.table(number: key.table) else { continue }
            try list.judge(key, of: table)
            if list.byteCount > Self.bytesPerChangeSetMax { try list.finish() }
        }
        try list.finish()
    }

    /// The row that an entry of another life is about.
    private func entryKey(of row: ChangeCursor) -> ConflictJudge.RowKey? {
        let columns = TableDescription.conflict
        guard let name = columns.column(named: "tableName"), let number = columns.column(named: "ofRow"),
            case .text(let table) = FieldValue(row[name.number]),
            case .integer(let id) = FieldValue(row[number.number]),
            let described = schema.table(named: table)
        else { return nil }
        return ConflictJudge.RowKey(table: described.number, row: id)
    }
}

/// Brings the entries about contested rows to what is lost now.
private struct ConflictList {
    private let writer: ReplicaWriter
    private let judge: ConflictJudge
    private var transaction: LocalTransaction

    init(_ writer: ReplicaWriter, _ judge: ConflictJudge) {
        self.writer = writer
        self.judge = judge
        transaction = LocalTransaction(writer)
    }

    /// About how many bytes the change set has that is being made.
    var byteCount: Int { transaction.byteCount }

    /// Ends one change set and begins the next.
    mutating func finish() throws {
        _ = try transaction.finish()
        transaction = LocalTransaction(writer)
    }

    private static func entries(of table: TableDescription, _ id: Int64, _ reader: ReplicaReader) throws -> [StoredRow]
    {
        try reader.rows(.conflict, where: "ofRow", is: .integer(id)).filter {
            $0["tableName"].isStoredAs(.text(table.name))
        }
    }

    func judge(_ key: ConflictJudge.RowKey, of table: TableDescription) throws {
        var entries: [ConflictKey: StoredRow] = [:]
        let stored = try Self.entries(of: table, key.row, ReplicaReader(writer.db, schema: writer.schema))
        for (key, same) in Dictionary(grouping: stored, by: \.conflictKey) {
            if let key { entries[key] = try single(of: same) }
        }
        // A row whose history is forgotten has nothing to add.
        guard judge.isContested(key) else { return }
        let row = try judge.row(key)
        var isLost: Set<ConflictKey> = []
        for losing in row.losingWrites(of: table) {
            isLost.insert(losing.key)
            try list(losing, of: table, key.row, isPlanted(.conflictTwice) ? nil : entries[losing.key])
        }
        var resolved: Set<ConflictKey> = []
        for (key, entry) in entries {
            if entry.resolution.isDecision { resolved.insert(key) }
            if !isLost.contains(key), entry.resolution == .open { try resolve(entry, .superseded) }
        }
        if row.isSettled(of: table, resolved: resolved) { try judge.forget(key) }
    }

    /// Leaves one of several entries about the same write, that of a former life of head office if there is one.
    private func single(of same: [StoredRow]) throws -> StoredRow? {
        guard same.count > 1 else { return same.first }
        let own = writer.node.origin
        let sorted = same.sorted { ($0.id.origin == own ? 1 : 0, $0.id) < ($1.id.origin == own ? 1 : 0, $1.id) }
        var survivor = sorted[0]
        for other in sorted.dropFirst() {
            if other.resolution.isDecision, !survivor.resolution.isDecision {
                try transaction.update(
                    TableDescription.conflict.name,
                    id: survivor.id,
                    [
                        "resolution": other["resolution"], "resolvedBy": other["resolvedBy"],
                        "resolvedAt": other["resolvedAt"],
                    ]
                )
                survivor = try stored(survivor.id) ?? survivor
            }
            try transaction.delete(TableDescription.conflict.name, id: other.id)
        }
        return survivor
    }

    private func stored(_ id: RowID) throws -> StoredRow? {
        try ReplicaReader(writer.db, schema: writer.schema).row(.conflict, id: id)
    }

    private func list(_ losing: LosingWrite, of table: TableDescription, _ row: Int64, _ entry: StoredRow?) throws {
        let content = losing.entry(of: table)
        guard let entry else {
            var values = content
            values["tableName"] = .text(table.name)
            values["ofRow"] = .integer(row)
            values["resolution"] = .text(ConflictResolution.open.rawValue)
            try transaction.insert(TableDescription.conflict.name, values)
            judge.countListed()
            return
        }
        switch entry.resolution {
        case .superseded:
            try transaction.update(TableDescription.conflict.name, id: entry.id, content)
            try resolve(entry, .open)
            judge.countListed()
        case .open:
            // An edit keeps the winner that it was listed with; a deletion names all that it did not see.
            guard case .deletion = losing.key else { return }
            try transaction.update(TableDescription.conflict.name, id: entry.id, content)
        case .kept, .taken, .edited:
            guard case .deletion = losing.key, !losing.isKnown(in: entry, of: table) else { return }
            try transaction.update(TableDescription.conflict.name, id: entry.id, content)
            try resolve(entry, .open)
            judge.countListed()
        }
    }

    private func resolve(_ entry: StoredRow, _ resolution: ConflictResolution) throws {
        let now = FieldValue.integer(Int64(clamping: writer.now))
        try transaction.update(
            TableDescription.conflict.name,
            id: entry.id,
            [
                "resolution": .text(resolution.rawValue), "resolvedBy": .null,
                "resolvedAt": resolution == .open ? .null : now,
            ]
        )
    }
}

extension LosingWrite {
    /// What an entry holds of it.
    fileprivate func entry(of table: TableDescription) -> [String: FieldValue] {
        func instant(_ write: ContestedWrite) -> FieldValue {
            .integer(Int64(clamping: write.stamp.time.milliseconds))
        }
        return [
            "columnNames": .text(table.names(of: columns)),
            "kept": kept.map { .text(ConflictValues.text($0, columns, of: table, bytesMax: ChangeSet.textBytesMax)) }
                ?? .null,
            "lost": lost.map { .text(ConflictValues.text($0, columns, of: table, bytesMax: ChangeSet.textBytesMax)) }
                ?? .null,
            "keptOrigin": .integer(Int64(keptBy.id.origin.rawValue)),
            "keptSeq": .integer(Int64(clamping: keptBy.id.seq)), "keptAt": instant(keptBy),
            "lostOrigin": .integer(Int64(lostBy.id.origin.rawValue)),
            "lostSeq": .integer(Int64(clamping: lostBy.id.seq)), "lostAt": instant(lostBy),
        ]
    }

    /// Whether an entry that somebody has decided says all of this already.
    fileprivate func isKnown(in entry: StoredRow, of table: TableDescription) -> Bool {
        guard entry["kept"].isNull == (kept == nil), entry["lost"].isNull == (lost == nil) else { return false }
        let known = table.columns(named: entry.conflictColumnNames)
        guard columns.isSubset(of: known) else { return false }
        func isSame(_ values: [FieldValue]?, _ name: String) -> Bool {
            guard let values else { return true }
            let stored = ConflictValues.read(entry[name], of: table)
            return zip(columns.numbers, values).allSatisfy { column, value in
                stored[column].map { $0.isStoredAs(value) } ?? true
            }
        }
        return isSame(kept, "kept") && isSame(lost, "lost")
    }
}

extension ReplicaReader {
    /// How many losing writes wait for somebody.
    package func openConflicts() throws -> Int {
        try Int.fetchOne(
            db.cachedStatement(sql: "SELECT count(*) FROM conflict WHERE resolution = ?"),
            arguments: [ConflictResolution.open.rawValue]
        ) ?? 0
    }
}

extension StoredRow {
    /// What has become of an entry of the list of conflicts.
    package var resolution: ConflictResolution { ConflictResolution(self["resolution"]) }

    /// The names of an entry's columns.
    package var conflictColumnNames: String {
        if case .text(let names) = self["columnNames"] { names } else { "" }
    }

    /// The change set that lost, or won.
    package func changeSet(_ side: String) -> ChangeSetID? {
        guard case .integer(let number) = self[side + "Origin"], case .integer(let seq) = self[side + "Seq"],
            let origin = Origin(rawValue: UInt32(clamping: number)), seq > 0
        else { return nil }
        return ChangeSetID(origin: origin, seq: UInt64(seq))
    }

    /// What names the losing write of an entry; nil when it does not say.
    var conflictKey: ConflictKey? {
        if self["kept"].isNull { return changeSet("kept").map(ConflictKey.deletion) }
        guard let lost = changeSet("lost") else { return nil }
        return self["lost"].isNull ? .deletion(lost) : .edit(columns: conflictColumnNames, lost)
    }
}
