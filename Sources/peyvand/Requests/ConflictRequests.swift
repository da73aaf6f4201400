import CRM
import Causality
import ReplicaStore
import SyncProtocol

/// A losing write as it is shown.
struct PrintedConflict: Codable, Sendable {
    /// What lost against what. Raw values are permanent: scripts read them.
    enum Kind: String, Codable, Sendable {
        /// An edit against another edit.
        case edit
        /// Edits against the deletion of their row.
        case editOfDeleted
        /// A deletion against edits.
        case deletion
    }

    /// One side: which change set, of which node, when.
    struct Side: Codable, Sendable {
        let origin: UInt32
        @OrNull var node: String?
        let seq: UInt64
        @OrNull var at: String?

        init(_ entry: StoredRow, _ side: String, _ reader: ReplicaReader) throws {
            let id = entry.changeSet(side)
            origin = id?.origin.rawValue ?? 0
            node = try id.flatMap { try reader.nodeName(of: $0.origin) }
            seq = id?.seq ?? 0
            at = entry.instant(side + "At")
        }
    }

    let id: String
    let table: String
    let row: String
    let kind: Kind
    let fields: [String]
    /// What stands, by field; nothing when the row is deleted.
    let kept: [String: PrintedField]
    /// What lost, by field; nothing when a deletion lost.
    let lost: [String: PrintedField]
    let keptBy: Side
    let lostBy: Side
    let resolution: String
    @OrNull var resolvedAt: String?
    @OrNull var resolvedBy: String?
    /// Whether this node lost it.
    let mine: Bool

    /// - Parameter own: The numbers under which this node writes and has written.
    init(_ entry: StoredRow, _ own: Set<Origin>, _ reader: ReplicaReader) throws {
        id = entry.id.description
        table = PrintedRow(entry).text("tableName")
        let target = ConflictTarget(entry, reader.schema)
        row = target?.id.description ?? ""
        kind = entry["kept"].isNull ? .editOfDeleted : entry["lost"].isNull ? .deletion : .edit
        fields = entry.conflictColumnNames.split(separator: " ").map(String.init)
        kept = ConflictValues.printed(entry["kept"])
        lost = ConflictValues.printed(entry["lost"])
        keptBy = try Side(entry, "kept", reader)
        lostBy = try Side(entry, "lost", reader)
        resolution = entry.resolution.rawValue
        resolvedAt = entry.instant("resolvedAt")
        if case .integer(let staff) = entry["resolvedBy"] {
            resolvedBy = RowID(rawValue: staff)?.description
        }
        var losers: Set<Origin> = Set([entry.changeSet("lost")?.origin].compactMap { $0 })
        // A deletion may have taken the edits of several nodes; the entry names the newest.
        if kind == .editOfDeleted, let target, let clock = try reader.clock(target.table, id: target.id)?.clock {
            for name in fields {
                if let column = target.table.column(named: name) {
                    losers.insert(clock.stamp(ofColumn: column.number).origin)
                }
            }
        }
        mine = !losers.isDisjoint(with: own)
    }
}

/// The row that an entry is about.
struct ConflictTarget {
    let table: TableDescription
    let id: RowID

    /// Nil when this version does not know the table.
    init?(_ entry: StoredRow, _ schema: Schema) {
        guard case .text(let name) = entry["tableName"], let table = schema.table(named: name),
            case .integer(let number) = entry["ofRow"], let id = RowID(rawValue: number)
        else { return nil }
        self.table = table
        self.id = id
    }
}

extension StoredRow {
    fileprivate func instant(_ name: String) -> String? {
        guard case .integer(let milliseconds) = self[name] else { return nil }
        return CivilTime.rfc3339(ofMilliseconds: milliseconds)
    }
}

/// Reads the losing writes, those of this node first.
struct ListConflicts: NodeRequest {
    static let name = "conflict.list"

    /// Whether those that nobody has to decide any more are shown too.
    var isAll = false

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [PrintedConflict] {
        try node.replica.sealForeignWrites()
        return try node.replica.read { reader in
            let entries =
                isAll
                ? try reader.rows(.conflict, after: nil, limit: .max)
                : try reader.rows(.conflict, where: "resolution", is: .text(ConflictResolution.open.rawValue))
            let own = try reader.ownOrigins()
            let printed = try entries.map { try PrintedConflict($0, own, reader) }
            return printed.filter(\.mine) + printed.filter { !$0.mine }
        }
    }
}

/// Reads one losing write.
struct ShowConflict: NodeRequest {
    static let name = "conflict.show"

    let conflict: String

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedConflict {
        try node.replica.read { reader in
            let id = try RowArgument.resolve(conflict, in: .conflict, reader)
            return try PrintedConflict(reader.requiredRow(.conflict, id: id), reader.ownOrigins(), reader)
        }
    }
}

/// What came of deciding about a losing write.
struct ResolvedConflict: Codable, Sendable {
    let id: String
    let table: String
    let row: String
    let fields: [String]
    let kind: PrintedConflict.Kind
    let resolution: String
    /// Where the change set stands in this node's log.
    let position: UInt64?
}

/// Lets stand what won, or takes back what lost: one transaction with the mark that it is decided.
struct ResolveConflict: NodeRequest {
    static let name = "conflict.resolve"

    let conflict: String
    /// Whether what lost is taken back.
    let isTaken: Bool

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> ResolvedConflict {
        let written = try node.replica.write { transaction in
            let id = try RowArgument.resolve(conflict, in: .conflict, transaction.reader)
            let entry = try transaction.reader.requiredRow(.conflict, id: id)
            guard entry.resolution == .open else {
                throw CommandFailure(.refused, Self.reason(entry))
            }
            if isTaken { try Self.takeBack(entry, transaction, node) }
            let resolution = isTaken ? ConflictResolution.taken : .kept
            try transaction.update(
                TableDescription.conflict.name,
                id: id,
                ["resolution": .text(resolution.rawValue), "resolvedAt": node.now, "resolvedBy": .null]
            )
            return try PrintedConflict(
                transaction.reader.requiredRow(.conflict, id: id),
                transaction.reader.ownOrigins(),
                transaction.reader
            )
        }
        let printed = written.result
        return ResolvedConflict(
            id: printed.id,
            table: printed.table,
            row: printed.row,
            fields: printed.fields,
            kind: printed.kind,
            resolution: printed.resolution,
            position: written.position
        )
    }

    private static func reason(_ entry: StoredRow) -> String {
        let what =
            switch entry.resolution {
            case .open, .kept: "resolved already: what stood was kept"
            case .taken: "resolved already: the lost value was taken back"
            case .edited: "resolved already: the field was edited"
            case .superseded: "needed no more: the field was written again since, or holds the value"
            }
        return "Conflict \(entry.id) is \(what). Nothing was changed."
    }

    /// Writes back what lost, as an ordinary edit.
    private static func takeBack(
        _ entry: StoredRow,
        _ transaction: LocalTransaction,
        _ node: NodeService
    ) throws {
        guard let target = ConflictTarget(entry, transaction.schema) else {
            throw CommandFailure(
                .refused,
                "Conflict \(entry.id) is about a table that this version does not know. Upgrade this node first."
            )
        }
        let (table, id) = (target.table, target.id)
        let reader = transaction.reader
        let present = try reader.row(table, id: id)
        let isDeleted = try present == nil && reader.deletedRow(table, id: id) != nil
        func gone() -> CommandFailure {
            CommandFailure(.refused, "The \(table.name) \(id) is not here any more, so nothing can be taken back.")
        }
        if entry["kept"].isNull {
            guard present != nil || isDeleted else { throw gone() }
            // Somebody may have restored it in the meantime: then the edits are back already.
            if isDeleted { try transaction.restore(table.name, id: id) }
        } else if entry["lost"].isNull {
            guard present != nil || isDeleted else { throw gone() }
            if present != nil { try transaction.delete(table.name, id: id) }
        } else {
            guard let present else {
                guard isDeleted else { throw gone() }
                throw CommandFailure(
                    .refused,
                    "The \(table.name) \(id) is deleted. Restore it before taking the lost value back."
                )
            }
            var values: [String: FieldValue] = [:]
            let kept = ConflictValues.read(entry["lost"], of: table)
            var logged: [Int: FieldValue]?
            for name in entry.conflictColumnNames.split(separator: " ") {
                guard let column = table.column(named: String(name)) else { continue }
                if let value = kept[column.number] {
                    values[column.name] = value
                    continue
                }
                // Too long for the list; the log has it.
                if logged == nil {
                    logged = try entry.changeSet("lost").flatMap {
                        try reader.written(by: $0, to: id, of: table)
                    }
                }
                guard let value = logged?[column.number] else {
                    throw CommandFailure(
                        .refused,
                        "The lost value of \(table.name).\(column.name) is not kept here any more."
                    )
                }
                values[column.name] = value
            }
            var edit = RowEntry(values: values, of: table)
            edit.setConsequences(for: present, in: node)
            try transaction.update(table.name, id: id, edit.values)
        }
    }
}

// MARK: - Why

/// Why a field has its value.
struct PrintedReason: Codable, Sendable {
    /// Somebody who wrote the field.
    struct Write: Codable, Sendable {
        let value: PrintedField
        let origin: UInt32
        @OrNull var node: String?
        @OrNull var seq: UInt64?
        @OrNull var at: String?
        @OrNull var position: UInt64?

        init(_ write: FieldWrite, _ column: ColumnDescription, _ reader: ReplicaReader) throws {
            value = FieldText.print(write.value, for: column)
            origin = write.stamp.origin.rawValue
            node = try reader.nodeName(of: write.stamp.origin)
            seq = write.seq
            at = CivilTime.rfc3339(ofMilliseconds: Int64(clamping: write.stamp.time.milliseconds))
            position = write.position
        }
    }

    let table: String
    let id: String
    let field: String
    let value: PrintedField
    let rule: String
    @OrNull var writer: Write?
    @OrNull var replaced: Write?
    /// What was written by people who did not know of the present value, and lost.
    let lost: [Write]
    @OrNull var deletedBy: Write?
    /// Whether the log is no longer whole enough to tell everything.
    let trimmed: Bool
    @OrNull var conflict: PrintedConflict?
}

/// Finds out why a field has its value.
struct ExplainField: NodeRequest {
    static let name = "why"

    /// A table, or a noun of the command line.
    let table: String
    let row: String
    let field: String

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedReason {
        try node.replica.sealForeignWrites()
        let wanted = self.table
        let noun = [Noun.customer, .activity, .order].first { $0.english == wanted }
        let table = try noun?.table ?? node.replica.schema.requiredTable(named: wanted)
        let column = try table.writableColumn(named: field)
        return try node.replica.read { reader in
            let id = try RowArgument.resolve(row, in: table, reader)
            guard let history = try reader.history(of: column, in: table, id: id) else {
                throw StoreFailure.unknownRow(table: table.name, id: id)
            }
            func write(_ write: FieldWrite?) throws -> PrintedReason.Write? {
                try write.map { try PrintedReason.Write($0, column, reader) }
            }
            let entries = try reader.rows(.conflict, where: "ofRow", is: .integer(id.rawValue)).filter { entry in
                ConflictTarget(entry, reader.schema)?.table == table
                    && entry.conflictColumnNames.split(separator: " ").contains { $0 == column.name }
            }
            let entry = entries.last { $0.resolution == .open } ?? entries.last
            return PrintedReason(
                table: table.name,
                id: id.description,
                field: column.name,
                value: FieldText.print(history.value, for: column),
                rule: history.rule.rawValue,
                writer: try write(history.writer),
                replaced: try write(history.replaced),
                lost: try history.lost.compactMap { try write($0) },
                deletedBy: try write(history.deletion),
                trimmed: history.isTrimmed,
                conflict: try entry.map { try PrintedConflict($0, reader.ownOrigins(), reader) }
            )
        }
    }
}
