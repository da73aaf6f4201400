import CRM
import Causality
import Foundation
import GRDB
import SyncProtocol

// What a branch writes outside its rights. Its change set goes into the log and into the tables like any other, so that
// nothing that compares nodes has to know of rights; and in the same transaction head office writes back what stood there.
// The branch gets that like any change, and a line in the list of conflicts, decided already, that holds what it wrote.

/// A write that a rule forbids, and what it met.
struct VoidedWrite {
    let set: ChangeSetID
    let at: HybridTimestamp
    let table: TableDescription
    let id: Int64
    let operation: RowOperation
    let columns: ColumnMask
    /// What was written, ascending by column.
    let values: [FieldValue]
    let before: WriteRights.Standing?
    /// From 0.
    let rule: Int
}

extension ReplicaWriter {
    /// Merges one row of a branch's change set, and notes it when it is outside the branch's rights.
    func takeWithinRights(
        _ row: ChangeCursor,
        of table: TableDescription,
        stamp: Stamp,
        _ header: ChangeSetHeader,
        _ judged: JudgedChangeSet?,
        from source: ChangeSource
    ) throws {
        guard source == .child, let rights, let rule = try rights.rule(for: header.id.origin, table, row, db) else {
            return try take(row, of: table, stamp: stamp, header, judged)
        }
        let before = try standing(row.id, of: table)
        try take(row, of: table, stamp: stamp, header, judged)
        let standings = [before, try standing(row.id, of: table)]
        guard try !rights.allows(rule, header.id.origin, row.id, of: table, standings, self) else { return }
        let columns = row.columns.intersection(table.allColumns)
        voided.append(
            VoidedWrite(
                set: header.id,
                at: stamp.time,
                table: table,
                id: row.id,
                operation: row.operation,
                columns: columns,
                values: columns.numbers.map { FieldValue(row[$0]) },
                before: before,
                rule: rule
            )
        )
    }

    /// Writes back what stood where forbidden writes were taken; part of the present transaction.
    func revertVoided() throws {
        guard !voided.isEmpty else { return }
        let writes = voided
        voided = []
        let transaction = LocalTransaction(self)
        let next = (vector[origin]?.seq ?? 0) + 1
        for write in writes {
            try revert(write, transaction)
            try transaction.insert(TableDescription.conflict.name, entry(of: write, revertedBy: next))
            try db.cachedStatement(sql: "INSERT INTO voidedWrite VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)").execute(
                arguments: [
                    write.set.origin.rawValue, Int64(clamping: write.set.seq), write.table.number, write.id,
                    Int64(clamping: rights?.version ?? 0), write.rule + 1, Int64(clamping: wallClock()),
                ])
        }
        _ = try transaction.finish()
        for (set, same) in Dictionary(grouping: writes, by: \.set).sorted(by: { $0.key.seq < $1.key.seq }) {
            try audit(.voidWrite, "\(set)", outcome: "\(same.count) rows", by: "node \(set.origin)")
        }
    }

    private func revert(_ write: VoidedWrite, _ transaction: LocalTransaction) throws {
        let (name, table) = (write.table.name, write.table)
        guard let id = RowID(rawValue: write.id) else { return }
        let isAlive = try merge(of: table).live.contains(id: write.id)
        let wasAlive = write.before?.isAlive ?? false
        if isAlive, !wasAlive { return try transaction.delete(name, id: id) }
        if !isAlive, wasAlive { return try transaction.restore(name, id: id) }
        guard isAlive, let before = write.before else { return }
        var values: [String: FieldValue] = [:]
        for column in write.columns.numbers where column > 0 {
            values[table.columns[column].name] = before.values[column]
        }
        do {
            try transaction.update(name, id: id, values)
        } catch is StoreFailure {
            // A row that one of them named is gone meanwhile; the others are put back.
            for (column, value) in values.sorted(by: { $0.key < $1.key }) {
                _ = try? transaction.update(name, id: id, [column: value])
            }
        }
    }

    /// The line in the list of conflicts that keeps what was written.
    private func entry(of write: VoidedWrite, revertedBy seq: UInt64) -> [String: FieldValue] {
        func text(_ values: [FieldValue], _ columns: ColumnMask) -> FieldValue {
            .text(ConflictValues.text(values, columns, of: write.table, bytesMax: ChangeSet.textBytesMax))
        }
        let columns = write.columns.subtracting(ColumnMask(column: 0))
        let lost = columns.numbers.map { column in
            write.values[write.columns.intersection(ColumnMask(first: column)).count]
        }
        let now = FieldValue.integer(Int64(clamping: self.now))
        // A row that was not there, or deleted, keeps nothing.
        let standing = write.before.flatMap { $0.isAlive ? $0.values : nil }
        let kept = standing.map { values in text(columns.numbers.map { values[$0] }, columns) } ?? .null
        let isDeletion = write.operation == .delete
        return [
            "tableName": .text(write.table.name), "ofRow": .integer(write.id),
            "columnNames": .text(write.table.names(of: columns)),
            "kept": kept,
            "lost": isDeletion ? .null : text(lost, columns),
            "keptOrigin": .integer(Int64(origin.rawValue)), "keptSeq": .integer(Int64(clamping: seq)), "keptAt": now,
            "lostOrigin": .integer(Int64(write.set.origin.rawValue)),
            "lostSeq": .integer(Int64(clamping: write.set.seq)),
            "lostAt": .integer(Int64(clamping: write.at.milliseconds)),
            "resolution": .text(ConflictResolution.kept.rawValue), "resolvedAt": now,
        ]
    }
}
