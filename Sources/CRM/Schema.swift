import Causality

/// What one column holds, and how people write it.
package enum ColumnType: Hashable, Sendable {
    /// Text as people write it; kept in the form of ``PersianText/display(_:)``.
    case text
    /// One word of a list. A word of a newer version is kept when it arrives, but not accepted from people.
    case choice([String])
    /// Sorted words of a list, separated by spaces.
    case words([String])
    /// A whole number.
    case integer
    /// Whole rial.
    case money
    /// 0 or 1.
    case boolean
    /// Milliseconds since 1970-01-01 UTC; RFC 3339 outside.
    case instant
    /// `YYYY-MM-DD`, Gregorian.
    case day
    /// The identifier of a row of the named table; `17-4711` outside.
    case reference(String)
    /// Printed identifiers of rows of the named table, separated by spaces.
    case references(String)
    /// Bytes.
    case bytes

    /// Whether SQLite stores it as an integer.
    package var isInteger: Bool {
        switch self {
        case .integer, .money, .boolean, .instant, .reference: true
        case .text, .choice, .words, .day, .references, .bytes: false
        }
    }

    /// The name of the table whose rows its values name; nil when they name none.
    package var referredTable: String? {
        switch self {
        case .reference(let name), .references(let name): name
        case .text, .choice, .words, .integer, .money, .boolean, .instant, .day, .bytes: nil
        }
    }

    /// How its values are stored.
    package enum Form: Hashable, Sendable {
        case integer, reference, text, blob
    }

    package var form: Form {
        switch self {
        case .integer, .money, .boolean, .instant: .integer
        case .reference: .reference
        case .text, .choice, .words, .day, .references: .text
        case .bytes: .blob
        }
    }

    /// The SQLite type of the column.
    package var sqlType: String {
        if case .bytes = self { return "BLOB" }
        return isInteger ? "INTEGER" : "TEXT"
    }
}

/// One column of a replicated table.
package struct ColumnDescription: Hashable, Sendable {
    /// Permanent: travels instead of the name, and is never given to another column.
    package let number: Int
    package let name: String
    package let type: ColumnType
    /// Columns of one group are written together and share a stamp, so that two addresses never mix.
    package let group: String?
    /// Whether a new row made by a person must have it.
    package let isRequired: Bool
    /// Whether this node keeps an index of it.
    package let isIndexed: Bool
    /// Whether the node sets it by itself when other fields of the row are written. Losing such a value is
    /// nobody's loss, unless it was written alone.
    package let isConsequence: Bool

    package init(
        number: Int,
        name: String,
        type: ColumnType,
        group: String? = nil,
        isRequired: Bool = false,
        isIndexed: Bool = false,
        isConsequence: Bool = false
    ) {
        self.number = number
        self.name = name
        self.type = type
        self.group = group
        self.isRequired = isRequired
        self.isIndexed = isIndexed
        self.isConsequence = isConsequence
    }
}

/// One replicated table.
///
/// A class, because it is handed along with each row: its parts are many, and must not be counted each time.
package final class TableDescription: Sendable {
    /// Who may write rows of a table.
    package enum Writers: Hashable, Sendable {
        case everyNode, headOfficeOnly
        /// Head office makes and deletes the rows; other nodes only update the columns of one group.
        case headOfficeMakes(othersUpdate: String)
    }

    /// A column that names the row which a row belongs to.
    package struct Owner: Hashable, Sendable {
        package let column: Int
        /// The table of that row.
        package let table: String
    }

    /// Permanent: travels instead of the name.
    package let number: Int
    package let name: String
    package let writers: Writers
    /// Columns by number; `columns[0]` is the identifier.
    package let columns: [ColumnDescription]
    /// How many columns the table had in its first schema; see ``RowClock``.
    package let baseColumnCount: Int

    /// The columns that a new row made by a person must have.
    package let requiredColumns: ColumnMask

    /// What a row of this table belongs to: its required references. It is erased together with them.
    package let owners: [Owner]

    /// How the values of each column are stored, by its number.
    package let forms: [ColumnType.Form]

    private let numbersByName: [String: Int]
    /// Per column number, all columns that are written when it is: itself, and those of its group.
    private let groupMasks: [ColumnMask]

    /// - Parameter baseColumnCount: How many of the columns the table had in its first schema; columns that were
    ///   added later come after them, and never change it.
    package init(number: Int, name: String, writers: Writers, columns: [ColumnDescription], baseColumnCount: Int) {
        self.number = number
        self.name = name
        self.writers = writers
        self.columns = columns
        self.baseColumnCount = baseColumnCount
        requiredColumns = columns.filter(\.isRequired).reduce(into: []) {
            $0.formUnion(ColumnMask(column: $1.number))
        }
        owners = columns.compactMap { column in
            guard column.isRequired, case .reference(let table) = column.type else { return nil }
            return Owner(column: column.number, table: table)
        }
        forms = columns.map(\.type.form)
        numbersByName = Dictionary(uniqueKeysWithValues: columns.map { ($0.name, $0.number) })
        groupMasks = columns.map { column in
            columns.reduce(into: ColumnMask(column: column.number)) { mask, other in
                if let group = column.group, other.group == group {
                    mask.formUnion(ColumnMask(column: other.number))
                }
            }
        }
    }

    /// The column of a name, nil when there is none.
    package func column(named name: String) -> ColumnDescription? {
        numbersByName[name].map { columns[$0] }
    }

    /// The table as an older version of the program has made it, which knew only the columns of these names.
    package func asWritten(in names: Set<String>) -> TableDescription {
        TableDescription(
            number: number,
            name: name,
            writers: writers,
            columns: Array(columns.prefix { names.contains($0.name) }),
            baseColumnCount: baseColumnCount
        )
    }

    /// The columns that a branch may update.
    package var branchColumns: ColumnMask {
        switch writers {
        case .everyNode: allColumns
        case .headOfficeOnly: []
        case .headOfficeMakes(let group):
            columns.reduce(into: []) { if $1.group == group { $0.formUnion(ColumnMask(column: $1.number)) } }
        }
    }

    /// Every column but the identifier.
    package var allColumns: ColumnMask {
        ColumnMask(first: columns.count).subtracting(ColumnMask(column: 0))
    }

    /// A set of columns, completed by the other columns of their groups.
    package func completed(_ mask: ColumnMask) -> ColumnMask {
        var result = mask
        for column in mask.numbers { result.formUnion(groupMasks[column]) }
        return result
    }
}

extension TableDescription: Hashable {
    package static func == (left: TableDescription, right: TableDescription) -> Bool {
        left === right
            || left.number == right.number && left.name == right.name && left.writers == right.writers
                && left.columns == right.columns && left.baseColumnCount == right.baseColumnCount
    }

    package func hash(into hasher: inout Hasher) { hasher.combine(number) }
}

/// The replicated tables, with their permanent numbers.
package struct Schema: Hashable, Sendable {
    /// Rises whenever a table or column is added; travels in every change set and greeting.
    package let version: Int
    /// Ascending by number.
    package let tables: [TableDescription]

    /// How many versions apart two nodes may be that exchange change sets.
    package static let versionsApartMax = 2

    private let indexByNumber: [Int: Int]
    private let indexByName: [String: Int]

    package init(version: Int, tables: [TableDescription]) {
        self.version = version
        self.tables = tables
        indexByNumber = Dictionary(uniqueKeysWithValues: tables.enumerated().map { ($1.number, $0) })
        indexByName = Dictionary(uniqueKeysWithValues: tables.enumerated().map { ($1.name, $0) })
    }

    /// The tables, each behind those that its rows refer to.
    package var inOrderOfReference: [TableDescription] {
        var ordered: [TableDescription] = []
        var visited: Set<Int> = []
        func visit(_ table: TableDescription) {
            guard visited.insert(table.number).inserted else { return }
            for column in table.columns.dropFirst() {
                if let target = column.type.referredTable.flatMap(self.table(named:)) { visit(target) }
            }
            ordered.append(table)
        }
        tables.forEach(visit)
        return ordered
    }

    /// The columns that name rows of a table.
    package func columns(
        referringTo target: TableDescription
    ) -> [(table: TableDescription, column: ColumnDescription)] {
        tables.flatMap { table in
            table.columns.dropFirst().filter { $0.type.referredTable == target.name }.map { (table, $0) }
        }
    }

    /// The table of a permanent number, nil when this version does not know it.
    package func table(number: Int) -> TableDescription? { indexByNumber[number].map { tables[$0] } }

    /// The table of a name, nil when there is none.
    package func table(named name: String) -> TableDescription? { indexByName[name].map { tables[$0] } }
}
