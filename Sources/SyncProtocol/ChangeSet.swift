import Causality

/// What a write does to a row. Raw values are permanent: they travel.
package enum RowOperation: UInt8, Hashable, Sendable, CaseIterable {
    /// Makes the row; carries every column of the writer's schema.
    case birth = 0
    /// Writes some columns, and says that the row lives.
    case update = 1
    /// Says that the row is deleted. May carry columns that the same transaction wrote before.
    case delete = 2
    /// Says that the row lives again. May carry columns too.
    case restore = 3
    /// Takes the row's values away for ever, at every node; carries no columns. Only head office orders it, and
    /// every other write of the row, before or after, is dropped.
    case erase = 4

    /// Whether the row lives after this, if no newer write says otherwise.
    package var leavesAlive: Bool { self != .delete && self != .erase }
}

/// What one transaction did to one row.
package struct RowChange: Hashable, Sendable {
    package let id: RowID
    package var operation: RowOperation
    /// The columns it wrote; never column 0.
    package var columns: ColumnMask
    /// Their values, ascending by column number.
    package var values: [FieldValue]

    /// - Precondition: as many values as columns.
    package init(id: RowID, operation: RowOperation, columns: ColumnMask, values: [FieldValue]) {
        precondition(columns.count == values.count, "A row change needs one value for each column")
        self.id = id
        self.operation = operation
        self.columns = columns
        self.values = values
    }
}

/// What one transaction did to one table.
package struct TableChanges: Hashable, Sendable {
    /// The table's permanent number.
    package let number: Int
    /// How many columns the writer's schema gave the table, with the identifier.
    package let columnCount: Int
    /// In any order; at most one change a row.
    package var rows: [RowChange]

    package init(number: Int, columnCount: Int, rows: [RowChange]) {
        self.number = number
        self.columnCount = columnCount
        self.rows = rows
    }
}

/// The part of a change set that tells where it belongs.
package struct ChangeSetHeader: Hashable, Sendable {
    package let id: ChangeSetID
    /// The schema of the writer.
    package let schemaVersion: Int
    /// What the writer had seen.
    package let context: CausalContext
    /// The first 8 bytes of the chain up to the change set before this one.
    package let previousChain: UInt64
    /// What it says beside its rows.
    package let extensions: ChangeSetExtensions

    package init(
        id: ChangeSetID,
        schemaVersion: Int,
        context: CausalContext,
        previousChain: UInt64,
        extensions: ChangeSetExtensions = ChangeSetExtensions()
    ) {
        self.id = id
        self.schemaVersion = schemaVersion
        self.context = context
        self.previousChain = previousChain
        self.extensions = extensions
    }
}

/// Everything that one local transaction wrote. Its time travels beside it.
package struct ChangeSet: Hashable, Sendable {
    package let header: ChangeSetHeader
    /// Ascending by number, none empty.
    package let tables: [TableChanges]

    package init(header: ChangeSetHeader, tables: [TableChanges]) {
        self.header = header
        self.tables = tables
    }

    /// The largest content, in bytes, that one transaction may make.
    package static let contentBytesMax = SyncLimits.changeSetBytesMax
    /// The largest text of one field, in bytes.
    package static let textBytesMax = SyncLimits.textBytesMax
    /// The largest blob of one field, in bytes.
    package static let blobBytesMax = SyncLimits.blobBytesMax
}
