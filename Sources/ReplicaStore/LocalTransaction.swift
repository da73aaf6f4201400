import CRM
import Causality
import GRDB
import SyncProtocol

/// One transaction of this node's own users: it becomes one change set.
///
/// Valid only inside the closure that it is given to.
package final class LocalTransaction {
    let writer: ReplicaWriter
    private var draft: ChangeDraft
    private(set) var time: HybridTimestamp?
    /// The file that it takes rows from, or whose rows it takes back.
    var importNotes = ImportNotes()
    /// Where, in the hub's log, the first change stands that somebody had not seen who saved a form.
    private var firstUnseen: UInt64?
    private var nextIdentifiers: [Int: Int64] = [:]
    /// The row that was last seen to live: rows written one after the other often name the same.
    private var lastSeenAlive: (table: String, id: Int64)?
    /// What rows say that are made now and do not say when.
    private lazy var createdAt = Int64(clamping: writer.now)

    init(_ writer: ReplicaWriter) {
        self.writer = writer
        draft = ChangeDraft(writer.spareRows)
    }

    /// The tables that rows can be written to.
    package var schema: Schema { writer.schema }

    /// About how many bytes the change set has so far.
    var byteCount: Int { draft.byteCount }

    /// Reads the replica as this transaction sees it.
    package var reader: ReplicaReader { ReplicaReader(writer.db, schema: writer.schema) }

    /// The row of this node in the table of branches.
    package var branchRow: RowID? { writer.node.branchRow }

    /// Appends what was written to the log.
    ///
    /// - Returns: The position of the change set; nil when nothing has changed.
    func finish() throws -> UInt64? {
        guard let time, !draft.isEmpty else { return nil }
        try writer.appendOwn(draft, time: time, before: firstUnseen)
        draft.giveBack()
        try writer.note(importNotes)
        return writer.end.position
    }

    /// Adds an entry to the audit log, together with what this transaction writes.
    package func audit(_ action: AuditAction, _ object: String) throws { try writer.audit(action, object) }

    // MARK: Writing

    /// Makes a row.
    ///
    /// - Parameters:
    ///   - id: A number of this node's own range, or nil for the next free one.
    ///   - values: By column name; what is left out is null. `createdAt` is set unless it is given.
    /// - Throws: ``StoreFailure`` when a value does not fit, a required one is missing, or a reference
    ///   leads nowhere. The transaction must then be given up.
    @discardableResult
    package func insert(
        _ tableName: String,
        id wanted: RowID? = nil,
        _ values: [String: FieldValue]
    ) throws -> RowID {
        let table = try table(tableName)
        var row = [FieldValue](repeating: .null, count: table.columns.count)
        for (name, value) in values { row[try column(name, of: table).number] = value }
        return try insert(table, id: wanted, row: row)
    }

    /// Makes a row from its values by column number, as imports do; the first one, the identifier's, is ignored.
    ///
    /// - Precondition: `values` has as many elements as the table has columns.
    @discardableResult
    package func insert(_ table: TableDescription, id wanted: RowID? = nil, row values: [FieldValue]) throws -> RowID {
        precondition(values.count == table.columns.count, "A row needs one value for each column")
        for number in table.requiredColumns.numbers where values[number].isNull {
            throw StoreFailure.missingColumn(table.columns[number].name, table: table.name)
        }
        for number in 1..<values.count { try check(values[number], for: number, of: table) }
        let id = try identifier(wanted, of: table)
        try writer.reserve(id)
        try write(id, of: table, .birth, table.allColumns) { row in
            for number in 1..<values.count {
                let isMissing = number == createdAtColumn && values[number].isNull
                row.append(isMissing ? .integer(createdAt) : values[number])
            }
        }
        return id
    }

    /// Writes some columns of a row.
    ///
    /// A column that is set to the value it has already is left alone, so that nobody else's edit of it is
    /// overwritten by saying the same again. Columns of one group are written together.
    ///
    /// - Returns: Whether anything changed.
    @discardableResult
    package func update(
        _ tableName: String,
        id: RowID,
        _ values: [String: FieldValue]
    ) throws -> Bool {
        try update(tableName, id: id, values) { _, _ in true }.isChanged
    }

    /// Updates a row with what somebody has changed in a form.
    ///
    /// Who saves it has seen what the form showed, and nothing newer. If a change of another node has come into these
    /// fields since, the change set says that it was not seen, so that head office lists what loses.
    ///
    /// - Parameter loaded: The row's clock when the form was opened.
    /// - Throws: ``StoreFailure/changedMeanwhile(table:id:columns:)`` when a change set could not say so: the fields
    ///   were written at this node, or it is head office, whose log is what has been seen.
    @discardableResult
    package func update(
        _ tableName: String,
        id: RowID,
        _ values: [String: FieldValue],
        loadedWith loaded: RowClock
    ) throws -> Bool {
        let table = try table(tableName)
        var refused: [String] = []
        let outcome = try update(tableName, id: id, values) { column, present in
            let stamp = present.stamp(ofColumn: column)
            let isOfThis = stamp.origin == writer.origin && stamp.time == time
            if isOfThis || stamp <= loaded.stamp(ofColumn: column) { return true }
            guard writer.role == .branch, stamp.origin != writer.origin else {
                refused.append(table.columns[column].name)
                return false
            }
            firstUnseen = min(firstUnseen ?? .max, try writer.hubPosition(of: stamp))
            return true
        }
        guard refused.isEmpty else {
            throw StoreFailure.changedMeanwhile(table: tableName, id: id, columns: refused.sorted())
        }
        return outcome.isChanged
    }

    /// What became of a row.
    struct Edit {
        var isChanged = false
        /// Columns that would have changed, had they been allowed to.
        var kept: [Int] = []
        /// Columns that have changed, with what they held before.
        var changed: [(column: Int, before: FieldValue)] = []
    }

    /// Writes those columns of a row that change, and of which `mayWrite` says so.
    func update(
        _ tableName: String,
        id: RowID,
        _ values: [String: FieldValue],
        mayWrite: (Int, RowClock) throws -> Bool
    ) throws -> Edit {
        let table = try table(tableName)
        var given = ColumnMask()
        var valueOf = [FieldValue?](repeating: nil, count: table.columns.count)
        for (name, value) in values {
            let column = try column(name, of: table)
            try check(value, for: column.number, of: table)
            given.formUnion(ColumnMask(column: column.number))
            valueOf[column.number] = value
        }
        let merge = try writer.merge(of: table)
        let rows = draft.rows(of: table)
        let read = table.completed(given)
        var edit = Edit()
        let isChanged = try merge.edit(id.rawValue, reading: read) {
            clock,
            row -> (write: RowWrite, fields: WrittenRows)? in
            func present(_ column: Int) -> FieldView {
                row.field(ReplicaSQL.clockColumns.count + read.rank(of: column))
            }
            var changed = ColumnMask()
            for column in given.numbers where valueOf[column]?.isStored(as: present(column)) == false {
                if try mayWrite(column, clock) {
                    changed.formUnion(ColumnMask(column: column))
                    edit.changed.append((column, FieldValue(present(column))))
                } else {
                    edit.kept.append(column)
                    valueOf[column] = FieldValue(present(column))
                }
            }
            guard !changed.isEmpty else { return nil }
            let columns = table.completed(changed)
            let write = try write(.update, columns, of: id, in: table, rows)
            rows.begin(id, .update, columns)
            for column in columns.numbers {
                if let value = valueOf[column] {
                    rows.append(value)
                } else {
                    let value = FieldValue(present(column))
                    rows.append(
                        write.replacesOwnStamp
                            ? value : try writer.proved(value, column: column, id: id, table: table, clock: clock)
                    )
                }
            }
            return (write, rows)
        }
        guard let isChanged else { throw try absence(of: id, in: merge) }
        if isChanged { rows.finish() }
        edit.isChanged = isChanged
        return edit
    }

    /// Deletes a row: it goes to the graveyard, from where it can be restored.
    package func delete(_ tableName: String, id: RowID) throws {
        let table = try table(tableName)
        let merge = try writer.merge(of: table)
        guard try merge.live.contains(id: id.rawValue) else {
            throw try absence(of: id, in: merge)
        }
        try write(id, of: table, .delete)
    }

    /// Brings a deleted row back, with the newest value of each field.
    package func restore(_ tableName: String, id: RowID) throws {
        let table = try table(tableName)
        let merge = try writer.merge(of: table)
        guard try merge.graveyard.contains(id: id.rawValue), try !merge.isErased(id.rawValue) else {
            throw try merge.isErased(id.rawValue)
                ? StoreFailure.erasedRow(table: table.name, id: id)
                : merge.live.contains(id: id.rawValue)
                    ? StoreFailure.rowNotDeleted(table: table.name, id: id)
                    : StoreFailure.unknownRow(table: table.name, id: id)
        }
        try write(id, of: table, .restore)
    }

    /// Takes the values of rows away for ever, here and at every node that hears of it, whether they live, are
    /// deleted, or have not arrived. Only head office may.
    package func erase(_ tableName: String, ids: some Sequence<RowID>) throws {
        guard writer.role == .headOffice else { throw StoreFailure.onlyHeadOfficeErases }
        let table = try table(tableName)
        let merge = try writer.merge(of: table)
        for id in ids where try !merge.isErased(id.rawValue) {
            try write(id, of: table, .erase)
        }
    }

    /// Why a row that does not live here cannot be used.
    private func absence(of id: RowID, in merge: RowMerge) throws -> StoreFailure {
        guard try merge.graveyard.contains(id: id.rawValue) else {
            return .unknownRow(table: merge.table.name, id: id)
        }
        return try merge.isErased(id.rawValue)
            ? .erasedRow(table: merge.table.name, id: id) : .deletedRow(table: merge.table.name, id: id)
    }

    /// Whether a row of this identifier lives here.
    package func contains(_ tableName: String, id: RowID) throws -> Bool {
        try writer.merge(of: table(tableName)).live.contains(id: id.rawValue)
    }

    /// Writes a row to the change set, and to its table from there.
    private func write(
        _ id: RowID,
        of table: TableDescription,
        _ operation: RowOperation,
        _ columns: ColumnMask = [],
        _ append: (WrittenRows) -> Void = { _ in }
    ) throws {
        let rows = draft.rows(of: table)
        let write = try write(operation, columns, of: id, in: table, rows)
        rows.begin(id, operation, columns)
        append(rows)
        try writer.merge(of: table).apply(write, rows)
        rows.finish()
        if !operation.leavesAlive { lastSeenAlive = nil }
    }

    private func write(
        _ operation: RowOperation,
        _ columns: ColumnMask,
        of id: RowID,
        in table: TableDescription,
        _ rows: WrittenRows
    ) throws -> RowWrite {
        if writer.role == .branch { try table.checkBranchMay(operation, columns) }
        return RowWrite(
            id: id.rawValue,
            operation: operation,
            columns: columns,
            stamp: try stamp(),
            replacesOwnStamp: rows.contains(id)
        )
    }

    /// One time for the whole transaction.
    private func stamp() throws -> Stamp {
        guard writer.isJoined else { throw StoreFailure.notJoined }
        let time = try self.time ?? writer.tick()
        self.time = time
        return Stamp(time: time, origin: writer.origin)
    }

    private func identifier(_ wanted: RowID?, of table: TableDescription) throws -> RowID {
        let origin = writer.origin
        guard origin != .none else { throw StoreFailure.notJoined }
        if let wanted {
            guard wanted.origin == origin else {
                throw StoreFailure.foreignRange(table: table.name, id: wanted, origin: origin)
            }
            let merge = try writer.merge(of: table)
            guard try !merge.graveyard.contains(id: wanted.rawValue) else {
                throw try absence(of: wanted, in: merge)
            }
            if let next = nextIdentifiers[table.number] {
                nextIdentifiers[table.number] = max(next, wanted.rawValue + 1)
            }
            return wanted
        }
        let next = try nextIdentifiers[table.number] ?? writer.nextIdentifier(of: table)
        guard let id = RowID(rawValue: next), id.origin == origin else {
            throw StoreFailure.database("This node has used up its row numbers of \(table.name).")
        }
        nextIdentifiers[table.number] = next + 1
        return id
    }

    // MARK: Checking

    private func table(_ name: String) throws -> TableDescription {
        guard let table = writer.schema.table(named: name) else { throw StoreFailure.unknownTable(name) }
        return table
    }

    private func column(_ name: String, of table: TableDescription) throws -> ColumnDescription {
        guard let column = table.column(named: name), column.number > 0 else {
            throw StoreFailure.unknownColumn(
                name,
                table: table.name,
                known: table.columns.dropFirst(3).map(\.name)
            )
        }
        return column
    }

    private func check(_ value: FieldValue, for column: Int, of table: TableDescription) throws {
        let length: Int
        switch (value, table.forms[column]) {
        case (.null, _), (.integer, .integer):
            return
        case (.integer(let number), .reference):
            return try checkReference(number, in: table.columns[column], of: table)
        case (.text(let text), .text):
            length = text.utf8.count
            if length <= ChangeSet.textBytesMax { return }
        case (.blob(let bytes), .blob):
            length = bytes.count
            if length <= ChangeSet.blobBytesMax { return }
        case (_, let form):
            let expected =
                switch form {
                case .integer: "a number"
                case .reference: "the id of a row"
                case .text: "text"
                case .blob: "bytes"
                }
            throw StoreFailure.wrongType(column: table.columns[column].name, table: table.name, expected: expected)
        }
        let limit = table.forms[column] == .text ? ChangeSet.textBytesMax : ChangeSet.blobBytesMax
        let name = table.columns[column].name
        throw StoreFailure.fieldTooLong(column: name, table: table.name, bytes: length, limit: limit)
    }

    private func checkReference(_ number: Int64, in column: ColumnDescription, of table: TableDescription) throws {
        guard case .reference(let target) = column.type else { return }
        guard let id = RowID(rawValue: number) else {
            throw StoreFailure.wrongType(column: column.name, table: table.name, expected: "the id of a \(target)")
        }
        if let last = lastSeenAlive, last.id == number, last.table == target { return }
        guard let targetTable = writer.schema.table(named: target) else {
            throw StoreFailure.unknownTable(target)
        }
        let merge = try writer.merge(of: targetTable)
        guard try merge.live.contains(id: number) else { throw try absence(of: id, in: merge) }
        lastSeenAlive = (target, number)
    }
}

extension TableDescription {
    /// Checks that a branch may do this to a row.
    ///
    /// - Throws: ``StoreFailure`` that says who may.
    func checkBranchMay(_ operation: RowOperation, _ columns: ColumnMask) throws(StoreFailure) {
        switch writers {
        case .everyNode:
            return
        case .headOfficeOnly:
            throw .headOfficeOnly(table: name)
        case .headOfficeMakes:
            if operation == .update, columns.isSubset(of: branchColumns) { return }
            throw .headOfficeMakes(table: name, open: branchColumns.numbers.map { self.columns[$0].name })
        }
    }
}

extension ReplicaWriter {
    /// The next free identifier of this node in a table, seen also after other programs' inserts.
    func nextIdentifier(of table: TableDescription) throws -> Int64 {
        guard let next = try merge(of: table).nextIdentifier() else { throw StoreFailure.notJoined }
        return next
    }
}
