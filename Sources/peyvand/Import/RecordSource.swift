import CRM
import Causality
import Crypto
import Foundation

/// A file whose records all become rows of one kind.
///
/// Belongs to the one task that imports.
protocol RecordSource {
    /// The headers of the columns.
    var header: [String] { get }
    /// What parts the cells of the file of errors.
    var delimiter: UInt8 { get }
    /// The size of the file, and how far it has been read.
    var byteCount: Int { get }
    var bytesRead: Int { get }
    /// What is kept of the file.
    var description: ImportedFile { get }

    /// Reads the next record; nil at the end.
    mutating func next() throws -> FileRecord?
}

/// The identifier that a row has in address books and calendars: the same whenever it is written, and of no other row.
struct ExchangeIdentifier: Hashable, Sendable {
    let table: TableDescription
    let id: RowID
    /// In hexadecimal digits.
    let organisation: String

    var text: String { "\(table.name)-\(id)@\(organisation)" }

    init(_ table: TableDescription, _ id: RowID, organisation: String) {
        (self.table, self.id, self.organisation) = (table, id, organisation)
    }

    /// Nil for an identifier that another program has made.
    init?(_ text: String, of table: TableDescription) {
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].hasPrefix(table.name + "-"),
            let id = FieldText.identifier(String(parts[0].dropFirst(table.name.count + 1)))
        else { return nil }
        self.init(table, id, organisation: String(parts[1]))
    }
}

/// An address book or a calendar: its cards or entries are records whose columns are fields.
struct ComponentFile: RecordSource {
    let header: [String]
    let delimiter = UInt8(ascii: ",")
    let byteCount: Int
    let description: ImportedFile
    private(set) var bytesRead = 0

    private let table: TableDescription
    /// This organisation, in hexadecimal digits.
    private let organisation: String
    private var lines: LineReader
    /// Kept open as long as its descriptor is read from.
    private let file: FileHandle
    private var properties = ContentLineReader()
    private var components: ContentComponentReader
    private var isEnd = false

    private static let cardFields = [
        "id", "externalKey", "exportedAt", "kind", "name", "givenName", "familyName", "title", "nationalCode",
        "legalId",
        "foreignId", "mobile", "phone", "email", "web", "province", "city", "street", "postalCode", "birthDay", "note",
        ContactPointCell.field,
    ]
    private static let entryFields = [
        "id", "externalKey", "exportedAt", "customer", "kind", "subject", "body", "at", "seconds", "dueAt", "doneAt",
        "outcome",
    ]

    init(path: String, _ format: FileFormat, organisation: String, words: Words) throws {
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw CommandFailure(.failed, words.cannotRead(path))
        }
        self.file = file
        self.organisation = organisation
        table = format == .cards ? .customer : .activity
        header = format == .cards ? Self.cardFields : Self.entryFields
        components = ContentComponentReader(format == .cards ? ["VCARD"] : CalendarEntry.components)
        (description, byteCount) = try ImportedFile.survey(file, path: path, format: format.rawValue, words)
        lines = LineReader(file.fileDescriptor)
    }

    mutating func next() throws -> FileRecord? {
        while !isEnd {
            guard let line = try lines.next() else {
                isEnd = true
                if let last = properties.finish(), let component = components.take(last) { return record(component) }
                return components.finish().map(record)
            }
            bytesRead += line.bytes.count + 1
            if let property = properties.take(line.bytes, line: line.number), let component = components.take(property)
            {
                return record(component)
            }
        }
        return nil
    }

    private func record(_ component: ContentComponent) -> FileRecord {
        func flawed(_ flaw: FileRecord.Flaw) -> FileRecord { FileRecord(line: component.line, cells: [], flaw: flaw) }
        switch component.flaw {
        case .noEnd: return flawed(.noEnd)
        case .tooLarge: return flawed(.tooLarge)
        case nil: break
        }
        if table == .customer { return record(VCard(component), component.line) }
        guard let entry = CalendarEntry(component) else { return flawed(.unknownTime) }
        return record(entry, component.line)
    }

    private func record(_ card: VCard, _ line: Int) -> FileRecord {
        var fields: [String: String] = [
            "kind": card.isOrganisation ? "organisation" : "person", "name": card.name, "givenName": card.givenName,
            "familyName": card.familyName, "title": card.title, "province": card.address.province,
            "city": card.address.city, "street": card.address.street, "postalCode": card.address.postalCode,
            "birthDay": card.birthDay ?? "", "note": card.note,
        ]
        var further: [VCard.Point] = []
        for point in card.points {
            if fields[point.kind] == nil, point.label == nil, header.contains(point.kind) {
                fields[point.kind] = point.value
            } else {
                further.append(point)
            }
        }
        fields[ContactPointCell.field] = ContactPointCell.text(of: further.map { ($0.kind, $0.value) })
        for code in card.codes {
            if let field = ["nationalCode", "legalId", "foreignId"].first(where: { $0.uppercased() == code.field }) {
                fields[field] = code.value
            }
        }
        name(card.uid, card.revision, &fields)
        let left = card.organisation.isEmpty ? [] : [FileRecord.Remark.employerLeftOut]
        return FileRecord(line: line, cells: header.map { fields[$0] ?? "" }, flaw: nil, remarks: left)
    }

    private func record(_ entry: CalendarEntry, _ line: Int) -> FileRecord {
        func time(_ milliseconds: Int64?) -> String { milliseconds.flatMap(CivilTime.rfc3339(ofMilliseconds:)) ?? "" }
        var fields: [String: String] = [
            "customer": entry.customer ?? "", "kind": entry.kind, "subject": entry.subject, "body": entry.body,
            "at": time(entry.at), "seconds": entry.seconds.map { String($0) } ?? "", "dueAt": time(entry.dueAt),
            "doneAt": time(entry.doneAt), "outcome": entry.isCancelled ? "cancelled" : "",
        ]
        // A customer is named like the row itself.
        if let customer = entry.customer.flatMap({ ExchangeIdentifier($0, of: .customer) }) {
            fields["customer"] = customer.organisation == organisation ? customer.id.description : entry.customer
        }
        name(entry.uid, entry.revision, &fields)
        let remarks = entry.isRepeated ? [FileRecord.Remark.onlyFirstTime] : []
        return FileRecord(line: line, cells: header.map { fields[$0] ?? "" }, flaw: nil, remarks: remarks)
    }

    /// What makes the record the same when it comes again.
    private func name(_ uid: String?, _ revision: Int64?, _ fields: inout [String: String]) {
        guard let uid else { return }
        guard let own = ExchangeIdentifier(uid, of: table), own.organisation == organisation else {
            fields["externalKey"] = uid
            return
        }
        fields["id"] = own.id.description
        // Written with the second in which the row was changed last: whoever has read it has seen that.
        fields["exportedAt"] = revision.flatMap { CivilTime.rfc3339(ofMilliseconds: $0 + 1000) } ?? ""
    }
}

/// Further ways to reach a customer, in one cell: `kind:value`, a line each.
enum ContactPointCell {
    static let field = "contactPoints"

    static func text(of points: [(kind: String, value: String)]) -> String {
        points.map { "\($0.kind):\($0.value.replacing("\n", with: " "))" }.joined(separator: "\n")
    }

    /// Reads a cell. What has no kind that there is, is left out.
    static func points(in text: String, areaCode: String? = nil) -> [(kind: String, value: String)] {
        text.split(whereSeparator: \.isNewline).compactMap { line in
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { return nil }
            let (kind, value) = (PersianText.display(String(parts[0])), PersianText.display(String(parts[1])))
            guard ["mobile", "phone", "email", "web", "address", "account"].contains(kind), !value.isEmpty else {
                return nil
            }
            guard kind == "mobile" || kind == "phone",
                let number = PhoneNumber.read(value, branchAreaCode: areaCode).value
            else { return (kind, value) }
            return (
                number.kind == .mobile ? "mobile" : "phone",
                number.extension.map { "\(number.e164) ext \($0)" } ?? number.e164
            )
        }
    }
}
