import CRM
import Causality
import ReplicaStore

/// One column of a table that is written to a file.
struct ExportColumn: Sendable {
    /// What a cell of it tells.
    enum Content: Sendable {
        case id
        case field(ColumnDescription)
        /// The same day or time by the Jalali calendar, for readers.
        case jalali(ColumnDescription)
        /// What the row is called that a field names, for readers.
        case name(ColumnDescription)
        /// A field of the line of an order that has one line.
        case line(ColumnDescription)
        /// How many lines an order has.
        case lineCount
        /// Further ways to reach a customer.
        case contactPoints
        /// When the row was written to the file.
        case exportedAt
    }

    /// The name of the column, by which an import knows it again.
    let name: String
    let content: Content

    /// The headers, in every language, of columns that tell readers more, and that imports leave aside.
    static let informativeHeaders: [String] = {
        let columns = ImportTarget.allCases.flatMap { of($0, withJalali: true) }.filter { !$0.isTaken }
        return Set(columns.flatMap { column in Language.allCases.map { Words($0).header(of: column) } }).sorted()
    }()

    /// Whether an import takes it.
    private var isTaken: Bool {
        switch content {
        case .field(let column): column.number > 2
        case .id, .line, .contactPoints, .exportedAt: true
        case .jalali, .name, .lineCount: false
        }
    }

    /// Whether its cells are numbers to calculate with.
    var isNumber: Bool {
        switch content {
        case .field(let column), .line(let column): column.type == .money || column.type == .integer
        case .lineCount: true
        case .id, .jalali, .name, .contactPoints, .exportedAt: false
        }
    }

    /// The columns of a table.
    static func of(_ target: ImportTarget, withJalali: Bool) -> [ExportColumn] {
        let table = target.table
        var columns = [ExportColumn(name: "id", content: .id)]
        for column in table.columns.dropFirst(3) where column.name != "importBatch" {
            if let target = column.type.referredTable, Schema.current.table(named: target) == nil { continue }
            columns.append(ExportColumn(name: column.name, content: .field(column)))
            if case .reference = column.type {
                columns.append(ExportColumn(name: column.name + "Name", content: .name(column)))
            }
            if withJalali, column.type == .day || column.type == .instant {
                columns.append(ExportColumn(name: column.name + "Jalali", content: .jalali(column)))
            }
        }
        if target == .orders {
            for name in ["text", "quantity", "unitPrice"] {
                guard let column = TableDescription.orderLine.column(named: name) else { continue }
                columns.append(ExportColumn(name: name, content: .line(column)))
            }
            columns.append(ExportColumn(name: "lines", content: .lineCount))
        }
        if target == .customers { columns.append(ExportColumn(name: ContactPointCell.field, content: .contactPoints)) }
        if let createdAt = table.column(named: "createdAt") {
            columns.append(ExportColumn(name: "createdAt", content: .field(createdAt)))
        }
        columns.append(ExportColumn(name: ImportPlan.exportedAtField, content: .exportedAt))
        return columns
    }
}

/// Writes the cells of rows.
///
/// Numbers of telephones are written as people in Iran write them, days and times as ISO 8601, identifiers as `17-4711`.
struct ExportCells {
    private let columns: [ExportColumn]
    private let reader: ReplicaReader
    private let exportedAt: String
    private var names: [String: [Int64: String]] = [:]

    /// Names of so many rows are remembered.
    private static let namesMax = 10_000

    init(_ columns: [ExportColumn], _ reader: ReplicaReader, exportedAt: UInt64) {
        self.columns = columns
        self.reader = reader
        self.exportedAt = CivilTime.rfc3339(ofMilliseconds: Int64(clamping: exportedAt)) ?? ""
    }

    /// The cells of one row.
    mutating func cells(of row: StoredRow) throws -> [String] {
        let lines =
            row.table == .salesOrder
            ? try reader.rows(.orderLine, where: "salesOrder", is: .integer(row.id.rawValue)) : []
        var cells: [String] = []
        cells.reserveCapacity(columns.count)
        for column in columns {
            switch column.content {
            case .id: cells.append(row.id.description)
            case .field(let field): cells.append(Self.text(row.values[field.number], of: field))
            case .jalali(let field): cells.append(Self.jalali(row.values[field.number], field))
            case .name(let field): cells.append(try name(row.values[field.number], field))
            case .line(let field):
                // What an order with several lines would say here, an import could not take apart again.
                cells.append(lines.count == 1 ? Self.text(lines[0].values[field.number], of: field) : "")
            case .lineCount: cells.append(String(lines.count))
            case .contactPoints: cells.append(try contactPoints(of: row))
            case .exportedAt: cells.append(exportedAt)
            }
        }
        return cells
    }

    private func contactPoints(of row: StoredRow) throws -> String {
        let points = try reader.rows(.contactPoint, where: "customer", is: .integer(row.id.rawValue)).map(
            RowValues.init
        )
        return ContactPointCell.text(
            of: points.compactMap { point in
                guard let kind = point.text("kind"), let value = point.text("value") else { return nil }
                return (kind, PhoneNumber.national(ofStored: value))
            }
        )
    }

    private static func text(_ value: FieldValue, of column: ColumnDescription) -> String {
        switch (value, column.name) {
        case (.text(let text), "mobile"), (.text(let text), "phone"):
            let parts = text.split(separator: " ", maxSplits: 1)
            guard let number = parts.first else { return text }
            return ([PhoneNumber.national(ofStored: String(number))] + parts.dropFirst().map(String.init))
                .joined(separator: " ")
        case (.integer(let thousandths), "quantity"): return Quantity.text(of: thousandths)
        default: return FieldText.print(value, for: column).text
        }
    }

    private static func jalali(_ value: FieldValue, _ column: ColumnDescription) -> String {
        switch value {
        case .text(let day): JalaliCalendar.text(ofDay: day).map(PersianText.foldDigits) ?? ""
        case .integer(let milliseconds):
            PersianText.foldDigits(JalaliCalendar.persianDateTime(ofMilliseconds: milliseconds))
        case .null, .blob: ""
        }
    }

    private mutating func name(_ value: FieldValue, _ column: ColumnDescription) throws -> String {
        guard case .integer(let number) = value, let table = column.type.referredTable else { return "" }
        if let known = names[table]?[number] { return known }
        guard let id = RowID(rawValue: number), let description = reader.schema.table(named: table),
            let row = try reader.row(description, id: id)
        else { return "" }
        let values = RowValues(row)
        let name = table == TableDescription.customer.name ? CustomerView.name(of: values) : values.text("name") ?? ""
        if names[table, default: [:]].count >= Self.namesMax { names[table] = [:] }
        names[table, default: [:]][number] = name
        return name
    }
}
