import CRM
import Causality
import ReplicaStore
import SyncProtocol

/// One field that a column of the file fills, and where it belongs.
struct ImportColumn: Codable, Hashable, Sendable {
    let field: String
    /// Whether it belongs to the order's line rather than the order.
    let isOfLine: Bool

    init(_ field: String, _ target: ImportTarget) {
        self.field = field
        isOfLine = target == .orders && ["text", "quantity", "unitPrice"].contains(field)
    }

    /// Whether it names a customer, who is looked up later.
    var isCustomer: Bool { field == "customer" }
}

/// Asks the node for what is needed to read a file.
struct ImportContext: NodeRequest {
    static let name = "import.context"

    /// What a reader of files needs to know.
    struct Reply: Codable, Sendable {
        /// The area code of this branch, for telephone numbers of eight digits.
        let areaCode: String?
        /// In hexadecimal digits.
        let organisation: String
    }

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Reply {
        let organisation = ExportHeader(organisation: node.replica.node.organisation, milliseconds: 0).organisation
        guard let id = node.replica.node.branchRow else { return Reply(areaCode: nil, organisation: organisation) }
        return Reply(
            areaCode: try node.replica.read { try $0.values(.branch, id: id)?.text("areaCode") },
            organisation: organisation
        )
    }
}

/// Reads the cells of a file's rows into values, without the replica.
struct ImportReading: Sendable {
    let columns: [ImportColumn]
    private let places: [Place?]
    private let areaCode: String?
    private let language: Language

    /// A field with what its table says about it.
    private struct Place: Sendable {
        let column: ImportColumn
        let table: TableDescription
        /// Nil for what says where a row comes from, and is no field of it.
        let description: ColumnDescription?
    }

    /// - Parameter fields: One for each cell of a row; nil where the cell is not taken.
    init(_ target: ImportTarget, fields: [String?], areaCode: String?, language: Language) {
        places = fields.map { field in
            guard let field else { return nil }
            let column = ImportColumn(field, target)
            let table = column.isOfLine ? .orderLine : target.table
            if [ImportPlan.idField, ImportPlan.exportedAtField, ContactPointCell.field].contains(field) {
                return Place(column: column, table: table, description: nil)
            }
            return table.column(named: field).map { Place(column: column, table: table, description: $0) }
        }
        columns = places.compactMap { $0?.column }
        self.areaCode = areaCode
        self.language = language
    }

    /// Reads one row.
    ///
    /// - Parameter warnings: Gets what is taken but looks wrong.
    /// - Throws: ``ImportChunk/Problem`` when a cell does not fit its field.
    func row(
        line: Int,
        cells: [String],
        warnings: inout [ImportChunk.Problem]
    ) throws(ImportChunk.Problem) -> ImportChunk.Row {
        var values: [FieldInput] = []
        values.reserveCapacity(columns.count)
        var originals: [(field: String, cell: String)] = []
        for (place, cell) in zip(places, cells) {
            guard let place else { continue }
            let reading: FieldEntry.Reading
            do throws(FieldFailure) {
                reading = try read(cell, place)
            } catch {
                throw ImportChunk.Problem(
                    line: line,
                    column: place.column.field,
                    reason: language == .fa ? error.persianReason : error.reason
                )
            }
            if let warning = reading.warning {
                let reason = language == .fa ? warning.persianReason : warning.reason
                warnings.append(ImportChunk.Problem(line: line, column: place.column.field, reason: reason))
            }
            if let description = place.description, !place.column.isCustomer, !cell.isEmpty,
                FieldText.print(reading.value, for: description).text != cell
            {
                originals.append((place.column.field, cell))
            }
            switch reading.value {
            case .null, .blob: values.append(.null)
            case .integer(let number): values.append(.integer(number))
            case .text(let text): values.append(.text(text))
            }
        }
        return ImportChunk.Row(line: line, values: values, original: originals.isEmpty ? nil : Self.json(originals))
    }

    /// A JSON object of texts. Written here because an encoder took longer than reading the row.
    private static func json(_ cells: [(field: String, cell: String)]) -> String {
        var bytes: [UInt8] = [UInt8(ascii: "{")]
        for (field, cell) in cells {
            if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
            // Names of fields need no escapes.
            bytes += "\"\(field)\":\"".utf8
            for byte in cell.utf8 {
                switch byte {
                case 0x22, 0x5C: bytes += [0x5C, byte]
                case ..<0x20: bytes += Array("\\u00\(byte < 16 ? "0" : "")\(String(byte, radix: 16))".utf8)
                default: bytes.append(byte)
                }
            }
            bytes.append(0x22)
        }
        bytes.append(UInt8(ascii: "}"))
        return String(decoding: bytes, as: UTF8.self)
    }

    private func read(_ written: String, _ place: Place) throws(FieldFailure) -> FieldEntry.Reading {
        let cell = FormulaGuard.removed(from: written)
        if cell.isEmpty { return FieldEntry.Reading(value: .null) }
        guard let description = place.description else {
            if place.column.field == ContactPointCell.field {
                let points = ContactPointCell.points(in: cell, areaCode: areaCode)
                return FieldEntry.Reading(value: .text(ContactPointCell.text(of: points)))
            }
            guard place.column.field == ImportPlan.exportedAtField,
                let at = TableDescription.customer.column(named: "createdAt")
            else { return FieldEntry.Reading(value: .text(PersianText.display(cell))) }
            return FieldEntry.Reading(value: try FieldText.parse(cell, for: at, of: place.table))
        }
        if place.column.isCustomer { return FieldEntry.Reading(value: .text(PersianText.display(cell))) }
        if place.column.field == "quantity" { return FieldEntry.Reading(value: try Quantity.parse(cell)) }
        let reading = try FieldEntry.read(
            .text(cell),
            for: description,
            of: place.table,
            branchAreaCode: areaCode
        )
        if case .text(let text) = reading.value, text.utf8.count > ChangeSet.textBytesMax {
            throw FieldFailure(
                table: place.table.name,
                column: place.column.field,
                problem: .wrongKind(expected: "at most \(ChangeSet.textBytesMax) bytes long")
            )
        }
        return reading
    }
}
