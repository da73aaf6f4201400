import CRM
import Causality
import SyncProtocol

/// Says by definition what the rows must be, from nothing but the set of change sets that head office holds.
///
/// Knows no order of arrival, no clock of a row and no graveyard: of every field the write with the greatest
/// stamp holds, and a row lives if its newest write is not a delete; one that anybody erased is nowhere. Written apart from the merge, for which it
/// is the measure; shares only the form of change sets with it.
package struct HistoryOracle {
    private struct Write {
        let stamp: Stamp
        let operation: RowOperation
        let values: [Int: FieldValue]
    }

    private struct RowKey: Hashable {
        let table: Int
        let id: RowID
    }

    private var writes: [RowKey: [Write]] = [:]

    /// What a row must be.
    package struct Expectation: Equatable {
        package var isAlive: Bool
        /// By column number; what nobody wrote, or wrote as null, is left out.
        package var values: [Int: FieldValue]

        package init(isAlive: Bool, values: [Int: FieldValue]) {
            self.isAlive = isAlive
            self.values = values
        }
    }

    package init() {}

    package mutating func add(_ changeSet: ChangeSet, time: HybridTimestamp) {
        let stamp = Stamp(time: time, origin: changeSet.header.id.origin)
        for table in changeSet.tables {
            for row in table.rows {
                var values: [Int: FieldValue] = [:]
                for (column, value) in zip(row.columns.numbers, row.values) { values[column] = value }
                let write = Write(stamp: stamp, operation: row.operation, values: values)
                writes[RowKey(table: table.number, id: row.id), default: []].append(write)
            }
        }
    }

    /// Nil when no change set names the row, or one erases it.
    package func expectation(of id: RowID, in table: TableDescription) -> Expectation? {
        guard let writes = writes[RowKey(table: table.number, id: id)],
            let newest = writes.max(by: { $0.stamp < $1.stamp }),
            !writes.contains(where: { $0.operation == .erase })
        else { return nil }
        var values: [Int: FieldValue] = [:]
        for column in 1..<table.columns.count {
            let holders = writes.filter { $0.values[column] != nil }
            let value = holders.max { $0.stamp < $1.stamp }?.values[column]
            if let value, !value.isNull { values[column] = value }
        }
        return Expectation(isAlive: newest.operation != .delete, values: values)
    }

    /// How many rows of a table were made and not erased.
    package func rowCount(of table: TableDescription) -> Int {
        writes.count { $0.key.table == table.number && !$0.value.contains { $0.operation == .erase } }
    }

    /// The rows of a table that any change set names, ascending.
    package func identifiers(of table: TableDescription) -> [RowID] {
        writes.keys.filter { $0.table == table.number }.map(\.id).sorted()
    }
}
