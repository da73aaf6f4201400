import CRM
import Causality
import Crypto
import Foundation
import TOMLKit

/// What the rows of a file become.
enum ImportTarget: String, Codable, Sendable, CaseIterable {
    case customers, activities, orders
    /// Rows of all tables.
    case everything

    /// The table whose rows carry the external key.
    var table: TableDescription {
        switch self {
        case .customers, .everything: .customer
        case .activities: .activity
        case .orders: .salesOrder
        }
    }

    /// The names of the fields that a file may fill.
    var fields: [String] {
        let own = table.columns.dropFirst(3).map(\.name).filter { $0 != "importBatch" }
        switch self {
        case .orders: return own + ["text", "quantity", "unitPrice"]
        case .customers: return own + [ContactPointCell.field]
        case .activities, .everything: return own
        }
    }
}

/// Which column of a file fills which field.
struct ImportPlan: Hashable, Sendable {
    /// One for each column of the file, nil where it is not taken; then the external key if the file has none.
    let fields: [String?]
    /// The headers that nothing is known about.
    let ignored: [String]
    /// Where the file gives why a row was not taken the last time; nil when it does not.
    let reasonIndex: Int?
    private let keyIndex: Int
    private let idIndex: Int?
    private let columnCount: Int

    static let keyField = "externalKey"
    /// The row that a row of the file was written from, and when.
    static let idField = "id"
    static let exportedAtField = "exportedAt"

    /// The key of a row of a file that was written from a row which is not here.
    static func key(ofRow id: RowID) -> String { "id:\(id)" }

    /// Whether the file says itself what makes its rows the same when they come again.
    var hasKeyColumn: Bool { keyIndex < columnCount }

    /// Finds the field of each header, by its name or by the words that people use for it, in both languages.
    ///
    /// - Parameter map: Headers by field, from the file that `--map` names; it comes first.
    /// - Throws: ``CommandFailure`` when the map names a field or header that is not there, or no column is known.
    init(_ target: ImportTarget, header: [String], map: [String: String] = [:]) throws {
        let known = target.fields + [Self.idField, Self.exportedAtField]
        var fields = [String?](repeating: nil, count: header.count)
        let keys = header.map(Self.key)
        for (field, wanted) in map.sorted(by: { $0.key < $1.key }) {
            guard known.contains(field) else {
                throw CommandFailure(
                    .usage,
                    "The map names the field \"\(field)\", which \(target.rawValue) do not have. "
                        + "They have: \(known.joined(separator: ", "))."
                )
            }
            guard let index = keys.firstIndex(of: Self.key(wanted)) else {
                throw CommandFailure(
                    .usage,
                    "The map takes \(field) from the column \"\(wanted)\", which the file does not have."
                )
            }
            fields[index] = field
        }
        for (index, key) in keys.enumerated() where fields[index] == nil && !key.isEmpty {
            guard let field = Self.field(of: key, among: known), !fields.contains(field) else { continue }
            fields[index] = field
        }
        guard fields.contains(where: { $0.map { $0 != Self.exportedAtField } ?? false }) else {
            throw CommandFailure(
                .failed,
                "No column of the file is known. Name them in a file for --map, one field=Header a line; "
                    + "\(target.rawValue) have: \(known.joined(separator: ", "))."
            )
        }
        let told = Set((ExportColumn.informativeHeaders + Words.reasonColumns).map(Self.key))
        ignored = zip(header, fields).filter { $1 == nil && !$0.isEmpty && !told.contains(Self.key($0)) }.map {
            PersianText.display($0.0)
        }
        let reasons = Set(Words.reasonColumns.map(Self.key))
        reasonIndex = zip(keys, fields).enumerated().first { $1.1 == nil && reasons.contains($1.0) }?.offset
        columnCount = header.count
        idIndex = fields.firstIndex(of: Self.idField)
        if let index = fields.firstIndex(of: Self.keyField) {
            keyIndex = index
        } else {
            keyIndex = fields.count
            fields.append(Self.keyField)
        }
        self.fields = fields
    }

    /// Returns the cells of a record as many as ``fields``, with an external key made from the others if it has
    /// none; nil when it has more cells than the header.
    ///
    /// - Parameter seen: How often each content without a key has come in this file: rows that are equal, two
    ///   purchases on one day for example, are different rows.
    func cells(of record: FileRecord, seen: inout [String: Int]) -> [String]? {
        var cells = record.cells
        while cells.count > columnCount, cells.last == "" { cells.removeLast() }
        guard cells.count <= columnCount else { return nil }
        cells += repeatElement("", count: fields.count - cells.count)
        if PersianText.display(FormulaGuard.removed(from: cells[keyIndex])).isEmpty {
            if let written = idIndex.map({ PersianText.display(FormulaGuard.removed(from: cells[$0])) }),
                !written.isEmpty
            {
                // Another program's identifier is a key like any other.
                cells[keyIndex] = FieldText.identifier(written).map(Self.key(ofRow:)) ?? written
                return cells
            }
            var hash = SHA256()
            for (cell, field) in zip(cells, fields) {
                guard let field, field != Self.keyField, field != Self.exportedAtField else { continue }
                hash.update(data: Data("\(field)=\(PersianText.display(cell))\u{1F}".utf8))
            }
            let digits = hash.finalize().prefix(10).map { byte in
                (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
            let key = "row:" + digits.joined()
            seen[key, default: 0] += 1
            let times = seen[key, default: 1]
            cells[keyIndex] = times == 1 ? key : "\(key)-\(times)"
        }
        return cells
    }

    /// The key of a record whose cells ``cells(of:seen:)`` has completed; nil for one that it has not.
    func key(of record: FileRecord) -> String? {
        record.cells.count == fields.count
            ? PersianText.display(FormulaGuard.removed(from: record.cells[keyIndex])) : nil
    }

    /// Reads the file that `--map` names: TOML, or lines `field=Header`.
    static func map(_ text: String) throws -> [String: String] {
        if let table = try? TOMLTable(string: text) {
            var map: [String: String] = [:]
            for (field, value) in table {
                if let header = value.string { map[field] = header }
            }
            if !map.isEmpty { return map }
        }
        var map: [String: String] = [:]
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let line = PersianText.display(String(line))
            if line.isEmpty || line.hasPrefix("#") || line.hasPrefix("[") { continue }
            guard let sign = line.firstIndex(of: "=") else {
                throw CommandFailure(.usage, "Line \(number + 1) of the map is not field=Header.")
            }
            let header = line[line.index(after: sign)...].trimmingCharacters(
                in: CharacterSet(charactersIn: " \"")
            )
            map[line[..<sign].trimmingCharacters(in: .whitespaces)] = header
        }
        return map
    }

    /// What headers are compared by: how words are spaced, cased or vocalised does not matter.
    private static func key(_ header: String) -> String { PersianText.joined(header) }

    private static func field(of key: String, among known: [String]) -> String? {
        known.first { Self.key($0) == key }
            ?? known.first { field in FieldLabels.headers(of: field).contains { Self.key($0) == key } }
    }
}
