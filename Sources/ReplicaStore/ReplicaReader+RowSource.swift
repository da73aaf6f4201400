import CRM
import Causality

extension ReplicaReader: RowSource {
    package func values(_ table: TableDescription, id: RowID) throws -> RowValues? {
        try row(table, id: id).map(RowValues.init)
    }

    package func values(
        _ table: TableDescription,
        where column: String,
        is value: FieldValue
    ) throws -> [RowValues] {
        try rows(table, where: column, is: value).map(RowValues.init)
    }

    package func values(_ table: TableDescription, where column: String, names id: RowID) throws -> [RowValues] {
        try rows(table, where: column, names: id).map(RowValues.init)
    }
}

extension RowValues {
    /// A stored row without its clock.
    package init(_ row: StoredRow) {
        self.init(table: row.table, id: row.id, values: row.values)
    }
}
