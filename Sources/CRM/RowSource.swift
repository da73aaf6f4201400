import Causality

/// One row as the rules of this module see it: values by column number, without clocks.
package struct RowValues: Hashable, Sendable {
    package let table: TableDescription
    package let id: RowID
    /// By column number; `values[0]` is the identifier.
    package let values: [FieldValue]

    package init(table: TableDescription, id: RowID, values: [FieldValue]) {
        self.table = table
        self.id = id
        self.values = values
    }

    /// The value of a column by name; null for a column that the table does not have.
    package subscript(_ name: String) -> FieldValue {
        table.column(named: name).map { values[$0.number] } ?? .null
    }

    /// The text of a column; nil when it holds none.
    package func text(_ name: String) -> String? {
        if case .text(let text) = self[name], !text.isEmpty { return text }
        return nil
    }

    /// The number of a column; nil when it holds none.
    package func integer(_ name: String) -> Int64? {
        if case .integer(let number) = self[name] { return number }
        return nil
    }

    /// The row that a column names; nil when it names none.
    package func reference(_ name: String) -> RowID? { integer(name).flatMap(RowID.init(rawValue:)) }
}

/// Where views read their rows: one consistent state of a replica, and only its live rows.
package protocol RowSource {
    /// One row; nil when there is none.
    func values(_ table: TableDescription, id: RowID) throws -> RowValues?

    /// The rows whose column has a value, by identifier.
    func values(_ table: TableDescription, where column: String, is value: FieldValue) throws -> [RowValues]

    /// The rows whose column, a list of identifiers, names a row, by identifier.
    func values(_ table: TableDescription, where column: String, names id: RowID) throws -> [RowValues]
}
