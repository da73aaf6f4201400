import CRM
import Causality
import ReplicaStore

/// What was erased.
struct PrintedErasure: Codable, Sendable {
    struct Rows: Codable, Sendable {
        let table: String
        let rows: Int
    }

    /// The position of the order, as everything that is made has an id; nil when there was nothing to erase.
    @OrNull var id: String?
    @OrNull var position: UInt64?
    /// The records that were the person: the one that was named, and those that are one customer with it.
    let members: [String]
    let erased: [Rows]
    /// The nodes that have not heard of it yet.
    let waiting: [String]
}

/// Erases a customer, or what was deleted before a day.
struct ErasePerson: NodeRequest {
    static let name = "privacy.erase"

    /// What a person typed.
    var customer: String?
    /// A day, as typed.
    var deletedBefore: String?

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> PrintedErasure {
        let replica = node.replica
        guard replica.node.role == .headOffice else { throw StoreFailure.onlyHeadOfficeErases }
        let erasure: Erasure
        var members: [RowID] = []
        if let customer {
            members = try replica.read { try $0.records(ofPerson: customer) }
            erasure = try replica.erase(customers: members)
        } else {
            erasure = try replica.erase(deletedBefore: try Self.moment(deletedBefore ?? ""))
        }
        let order = try replica.erasures().first { $0.position == erasure.position }
        return PrintedErasure(
            id: erasure.position.map { String($0) },
            position: erasure.position,
            members: members.map(\.description),
            erased: erasure.rows.map { PrintedErasure.Rows(table: $0.table, rows: $0.count) },
            waiting: order?.waiting ?? []
        )
    }

    /// When a day begins in Tehran.
    private static func moment(_ typed: String) throws -> UInt64 {
        let day: String
        do {
            day = try JalaliCalendar.read(typed)
        } catch {
            throw CommandFailure(.usage, "\"\(typed)\" is not a day. Write it as 1405-01-31 or 2026-04-20.")
        }
        guard let start = JalaliCalendar.startMilliseconds(ofDay: day) else {
            throw CommandFailure(.usage, "\"\(typed)\" is not a day. Write it as 1405-01-31 or 2026-04-20.")
        }
        return UInt64(clamping: start)
    }
}

/// One order to erase.
struct PrintedErasureOrder: Codable, Sendable {
    /// The position of the order.
    let id: String
    let position: UInt64
    @OrNull var at: String?
    let rows: Int
    let done: [String]
    let waiting: [String]
}

/// Lists the orders to erase, and who has obeyed.
struct ListErasures: NodeRequest {
    static let name = "privacy.list"

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [PrintedErasureOrder] {
        try node.replica.erasures().map { order in
            PrintedErasureOrder(
                id: String(order.position),
                position: order.position,
                at: CivilTime.rfc3339(ofMilliseconds: Int64(clamping: order.wallMilliseconds)),
                rows: order.rows,
                done: order.done,
                waiting: order.waiting
            )
        }
    }
}

/// Prints everything that is kept of a person, one row a line in the shape of a `put` line, with who wrote it last.
struct ExportPerson: NodeRequest {
    static let name = "privacy.export"

    let customer: String

    private struct Line: Encodable {
        let table: String
        let id: String
        let op = "put"
        let set: [String: PrintedField]
        let deleted: Bool
        /// The office where the row was made, and where and when it was last written.
        let madeAt: UInt32
        let writtenAt: UInt32
        let written: String?
        /// What files wrote of it that were imported here, by field.
        let imported: [[String: String]]?
    }

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Dump.Summary {
        try node.replica.sealForeignWrites()
        let named = try node.replica.read { try RowArgument.resolve(customer, in: .customer, $0, isToChange: true) }
        try node.replica.audit(.export, "customer \(named)")
        return try node.replica.read { reader in
            let rows = try reader.belongings(ofCustomers: reader.records(ofPerson: customer))
            for (row, isDeleted) in rows {
                let time = Int64(clamping: row.stamp.time.milliseconds)
                let originals = try reader.importedOriginals(of: row.id, in: row.table)
                let line = Line(
                    table: row.table.name,
                    id: row.id.description,
                    set: FieldText.print(row.values, of: row.table),
                    deleted: isDeleted,
                    madeAt: row.id.origin.rawValue,
                    writtenAt: row.stamp.origin.rawValue,
                    written: CivilTime.rfc3339(ofMilliseconds: time),
                    imported: originals.isEmpty ? nil : originals.map { ShowImport.texts($0.cells) }
                )
                try progress(ProgressReport(count: 0, output: Output.json(line) + [UInt8(ascii: "\n")]))
            }
            return Dump.Summary(rows: rows.count)
        }
    }
}

extension ReplicaReader {
    /// The record that somebody names, and all others that are one customer with it, those in the recycle bin too.
    ///
    /// - Throws: ``CommandFailure`` or ``StoreFailure`` when there is none, or several have the number.
    fileprivate func records(ofPerson typed: String) throws -> [RowID] {
        let id = try RowArgument.resolve(typed, in: .customer, self, isToChange: true)
        func isHere(_ id: RowID) throws -> Bool {
            try row(.customer, id: id) != nil || deletedRow(.customer, id: id) != nil
        }
        guard try isHere(id) else { throw try absence(of: id, in: .customer) }
        return try CustomerCluster(of: id, from: self).members.filter(isHere)
    }
}
