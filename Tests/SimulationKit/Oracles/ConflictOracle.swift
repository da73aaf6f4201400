import CRM
import Causality
import SyncProtocol

/// Says what must be open, by definition, from the whole log of head office: no clocks, no memory, no order but
/// that of the log.
package struct ConflictOracle {
    /// What one change set did to one row.
    private struct Write {
        let id: ChangeSetID
        let position: UInt64
        let stamp: Stamp
        let seenUpTo: UInt64
        let change: RowChange

        func saw(_ other: Write) -> Bool {
            other.id.origin == id.origin ? other.id.seq < id.seq : other.position <= seenUpTo
        }

        func value(_ column: Int) -> FieldValue? {
            guard let index = Array(change.columns.numbers).firstIndex(of: column) else { return nil }
            return change.values[index]
        }

        var isDeletion: Bool { change.operation == .delete }
        var isRestore: Bool { change.operation == .restore }
    }

    private var writesOfRow: [RowID: [Write]] = [:]
    private let table = TableDescription.customer

    package init() {}

    /// Takes the next change set of head office's log.
    package mutating func add(_ content: ChangeSet, _ id: ChangeSetID, position: UInt64, time: HybridTimestamp) {
        let seen = content.header.context.hubs.map(\.position).max() ?? 0
        for changes in content.tables where changes.number == table.number {
            for change in changes.rows {
                writesOfRow[change.id, default: []].append(
                    Write(
                        id: id,
                        position: position,
                        stamp: Stamp(time: time, origin: id.origin),
                        seenUpTo: seen,
                        change: change
                    )
                )
            }
        }
    }

    /// One line for each losing write that nobody has answered.
    package var open: Set<String> {
        var lines: Set<String> = []
        for (row, writes) in writesOfRow where !writes.contains(where: { $0.change.operation == .erase }) {
            let last = writes.max { $0.stamp < $1.stamp }!
            var holder: [Int: Write] = [:]
            for column in table.allColumns.numbers {
                holder[column] = writes.filter { $0.value(column) != nil }.max { $0.stamp < $1.stamp }
            }
            let standing = writes.filter { deletion in
                deletion.isDeletion && !writes.contains { $0.isRestore && $0.saw(deletion) }
            }
            for write in writes {
                let lost = write.change.columns.numbers.filter { column in
                    guard let holder = holder[column], holder.id != write.id else { return false }
                    return holder.value(column) != write.value(column)
                        && !writes.contains { $0.saw(write) && $0.value(column) != nil }
                        && !(last.isDeletion && standing.contains { $0.saw(write) })
                }
                for unit in Set(lost.map { table.completed(ColumnMask(column: $0)) }) {
                    lines.insert("\(row) edit \(write.id) \(names(unit))")
                }
            }
            if last.isDeletion {
                let columns = holder.filter { _, write in !standing.contains { $0.id == write.id || $0.saw(write) } }
                    .keys
                let restores = writes.filter { write in write.isRestore && !writes.contains { $0.saw(write) } }
                if !columns.isEmpty || !restores.isEmpty {
                    lines.insert("\(row) under deletion \(last.id) \(names(columns))")
                }
            } else {
                for deletion in writes where deletion.isDeletion {
                    if writes.contains(where: { $0.saw(deletion) && ($0.isDeletion || $0.isRestore) }) { continue }
                    let columns = holder.filter { column, write in
                        !deletion.saw(write) && write.id != deletion.id
                            && !writes.contains { $0.saw(deletion) && $0.value(column) != nil }
                    }.keys
                    if !columns.isEmpty || (last.isRestore && !deletion.saw(last)) {
                        lines.insert("\(row) deletion \(deletion.id) \(names(columns))")
                    }
                }
            }
        }
        return lines
    }

    private func names(_ mask: ColumnMask) -> String { names(mask.numbers) }

    private func names(_ columns: some Sequence<Int>) -> String {
        columns.sorted().map { table.columns[$0].name }.joined(separator: " ")
    }
}
