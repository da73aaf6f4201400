import CRM

extension Schema {
    /// The schema after the present one, as it may be: two more columns, and a table.
    package static let next = Schema(
        version: Schema.current.version + 1,
        tables: Schema.current.tables.map { table in
            table.number == 1
                ? table.appending([("loyalty", .text, false), ("points", .integer, true)]) : table
        } + [voucher]
    )

    private static let voucher = TableDescription(
        number: 200,
        name: "voucher",
        writers: .everyNode,
        columns: [
            ColumnDescription(number: 0, name: "id", type: .reference("voucher")),
            ColumnDescription(number: 1, name: "createdAt", type: .instant),
            ColumnDescription(number: 2, name: "createdBy", type: .reference("staff")),
            ColumnDescription(number: 3, name: "code", type: .text, isRequired: true, isIndexed: true),
        ],
        baseColumnCount: 4
    )

    /// The same under another version.
    package func renumbered(_ version: Int) -> Schema { Schema(version: version, tables: tables) }
}

extension TableDescription {
    fileprivate func appending(_ added: [(name: String, type: ColumnType, isIndexed: Bool)]) -> TableDescription {
        TableDescription(
            number: number,
            name: name,
            writers: writers,
            columns: columns
                + added.enumerated().map { index, column in
                    ColumnDescription(
                        number: columns.count + index,
                        name: column.name,
                        type: column.type,
                        isIndexed: column.isIndexed
                    )
                },
            baseColumnCount: baseColumnCount
        )
    }
}
