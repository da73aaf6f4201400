import Causality
import Foundation

/// What came in for a field, from a person or from JSON.
package enum FieldInput: Hashable, Sendable {
    case null
    case text(String)
    case integer(Int64)
    case boolean(Bool)
}

/// The value of a field as it goes out: in JSON, and as text.
package enum PrintedField: Hashable, Sendable {
    case null
    case integer(Int64)
    case boolean(Bool)
    case text(String)

    /// The value as one text; empty for null.
    package var text: String {
        switch self {
        case .null: ""
        case .integer(let number): String(number)
        case .boolean(let value): value ? "true" : "false"
        case .text(let text): text
        }
    }
}

extension PrintedField: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .boolean(value)
        } else if let number = try? container.decode(Int64.self) {
            self = .integer(number)
        } else {
            self = .text(try container.decode(String.self))
        }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .integer(let number): try container.encode(number)
        case .boolean(let value): try container.encode(value)
        case .text(let text): try container.encode(text)
        }
    }
}

/// Between the values that a replica stores and the text that people and scripts write.
///
/// Outside, identifiers are `2-1`, instants RFC 3339 in UTC, truth values `true` and `false`, bytes base64.
package enum FieldText {
    // MARK: In

    /// Reads what a person typed; an empty text is null, which clears the field.
    ///
    /// Takes digits of any script, numbers with separators, days of both calendars. Texts are stored in the
    /// form of ``PersianText/display(_:)``.
    package static func parse(
        _ typed: String,
        for column: ColumnDescription,
        of table: TableDescription
    ) throws(FieldFailure) -> FieldValue {
        let text = PersianText.display(typed)
        if text.isEmpty { return .null }
        func fail(_ problem: FieldFailure.Problem) -> FieldFailure {
            FieldFailure(table: table.name, column: column.name, problem: problem)
        }
        switch column.type {
        case .text:
            return .text(text)
        case .choice(let known):
            guard let word = word(text, of: known) else { throw fail(.unknownWord(known: known)) }
            return .text(word)
        case .words(let known):
            var words: Set<String> = []
            for part in parts(of: text) {
                guard let word = word(part, of: known) else { throw fail(.unknownWord(known: known)) }
                words.insert(word)
            }
            return words.isEmpty ? .null : .text(words.sorted().joined(separator: " "))
        case .integer:
            return .integer(try number(text).orThrow(fail))
        case .money:
            return .integer(try money(text).orThrow(fail))
        case .boolean:
            guard let value = boolean(text) else { throw fail(.notBoolean) }
            return .integer(value ? 1 : 0)
        case .instant:
            guard let milliseconds = instant(text) else { throw fail(.notAnInstant) }
            return .integer(milliseconds)
        case .day:
            // As replicas and most files write it.
            if let days = CivilTime.days(ofDay: text), daysOfGregorianEntry.contains(days) {
                return .text(text)
            }
            do {
                return .text(try JalaliCalendar.read(text))
            } catch {
                throw fail(.notADay(error))
            }
        case .reference(let target):
            guard let id = identifier(text) else { throw fail(.notAnIdentifier(of: target)) }
            return .integer(id.rawValue)
        case .references(let target):
            var ids: Set<RowID> = []
            for part in parts(of: text) {
                guard let id = identifier(part) else { throw fail(.notAnIdentifier(of: target)) }
                ids.insert(id)
            }
            return ids.isEmpty ? .null : .text(ids.sorted().map(\.description).joined(separator: " "))
        case .bytes:
            guard let data = Data(base64Encoded: text) else { throw fail(.notBase64) }
            return .blob([UInt8](data))
        }
    }

    /// Reads a value of JSON. Texts are read as typed ones; numbers and truth values must be of the field's
    /// own kind.
    package static func parse(
        _ input: FieldInput,
        for column: ColumnDescription,
        of table: TableDescription
    ) throws(FieldFailure) -> FieldValue {
        switch (input, column.type) {
        case (.null, _):
            return .null
        case (.text(let text), _):
            return try parse(text, for: column, of: table)
        case (.integer(let number), .integer), (.integer(let number), .money):
            return .integer(number)
        case (.integer(let number), .instant) where CivilTime.millisecondsRange.contains(number):
            return .integer(number)
        case (.integer(let number), .boolean) where number == 0 || number == 1:
            return .integer(number)
        case (.boolean(let value), .boolean):
            return .integer(value ? 1 : 0)
        case (.integer, _), (.boolean, _):
            throw FieldFailure(
                table: table.name,
                column: column.name,
                problem: .wrongKind(expected: column.type.jsonWords)
            )
        }
    }

    /// Reads a printed identifier in digits of any script; nil when it is not one.
    package static func identifier(_ typed: String) -> RowID? {
        let text = PersianText.foldDigits(typed).unicodeScalars.filter { !$0.properties.isWhitespace }
        return RowID(printed: String(String.UnicodeScalarView(text)))
    }

    /// The days of the Gregorian years that people may type; earlier years are Jalali.
    private static let daysOfGregorianEntry: Range<Int> = {
        let years = JalaliCalendar.gregorianYears
        let first = CivilTime.days(year: years.lowerBound, month: 1, day: 1) ?? 0
        return first..<(CivilTime.days(year: years.upperBound + 1, month: 1, day: 1) ?? first)
    }()

    private static func word(_ typed: String, of known: [String]) -> String? {
        known.first { $0 == typed } ?? known.first { $0.lowercased() == typed.lowercased() }
    }

    private static func parts(of text: String) -> [String] {
        text.split { $0 == " " || $0 == "," || $0 == "،" || $0 == ";" }.map(String.init)
    }

    private static func boolean(_ text: String) -> Bool? {
        switch PersianText.foldDigits(text).lowercased() {
        case "true", "yes", "y", "1", "on", "بله", "بلی", "آری": true
        case "false", "no", "n", "0", "off", "خیر", "نه": false
        default: nil
        }
    }

    // MARK: Numbers

    private enum Number {
        case value(Int64)
        case problem(FieldFailure.Problem)

        func orThrow(_ failure: (FieldFailure.Problem) -> FieldFailure) throws(FieldFailure) -> Int64 {
            switch self {
            case .value(let value): return value
            case .problem(let problem): throw failure(problem)
            }
        }
    }

    /// Reads an amount of rial. Toman count only where they are written.
    private static func money(_ text: String) -> Number {
        let units: [(word: String, rial: Int64)] = [
            ("ریال", 1), ("rials", 1), ("rial", 1), ("irr", 1), ("تومان", 10), ("toman", 10), ("tomans", 10),
        ]
        let lowered = text.lowercased()
        guard let unit = units.first(where: { lowered.hasSuffix($0.word) }) else { return number(text) }
        let bare = PersianText.display(String(lowered.dropLast(unit.word.count)))
        guard case .value(let value) = number(bare) else { return number(bare) }
        let (rial, overflow) = value.multipliedReportingOverflow(by: unit.rial)
        return overflow ? .problem(.numberOutOfRange) : .value(rial)
    }

    /// Reads a whole number: a sign, digits with separators between groups of three, perhaps a fraction of zeros.
    private static func number(_ text: String) -> Number {
        if let value = Int64(text) { return .value(value) }
        var isNegative = false
        var digits: [UInt8] = []
        /// Digits since the last separator; nil before the first one.
        var groupCount: Int?
        var fraction: [UInt8]?
        for (index, scalar) in PersianText.foldDigits(text).unicodeScalars.enumerated() {
            switch scalar {
            case "-", "\u{2212}", "+":
                guard index == 0 else { return .problem(.notANumber) }
                isNegative = scalar != "+"
            case "0"..."9":
                let digit = UInt8(truncatingIfNeeded: scalar.value)
                if fraction != nil {
                    fraction?.append(digit)
                } else {
                    digits.append(digit)
                    groupCount = groupCount.map { $0 + 1 }
                }
            case ",", "،", "\u{066C}", "_", "'", " ", "\u{00A0}", "\u{202F}":
                // A comma that does not part thousands could be a decimal mark: never guessed.
                guard fraction == nil, groupCount.map({ $0 == 3 }) ?? (1...3).contains(digits.count) else {
                    return .problem(.notANumber)
                }
                groupCount = 0
            case ".", "\u{066B}":
                guard fraction == nil else { return .problem(.notANumber) }
                fraction = []
            default:
                return .problem(.notANumber)
            }
        }
        guard !digits.isEmpty, groupCount.map({ $0 == 3 }) ?? true else { return .problem(.notANumber) }
        if let fraction {
            guard !fraction.isEmpty else { return .problem(.notANumber) }
            guard fraction.allSatisfy({ $0 == UInt8(ascii: "0") }) else { return .problem(.notWhole) }
        }
        let written = (isNegative ? "-" : "") + String(decoding: digits, as: UTF8.self)
        return Int64(written).map(Number.value) ?? .problem(.numberOutOfRange)
    }

    // MARK: Instants

    /// Reads RFC 3339, whole milliseconds, or a day of either calendar with an optional time, in Asia/Tehran.
    private static func instant(_ text: String) -> Int64? {
        let text = PersianText.foldDigits(text)
        if let milliseconds = CivilTime.milliseconds(ofRFC3339: text) { return milliseconds }
        if let number = Int64(text) { return CivilTime.millisecondsRange.contains(number) ? number : nil }
        let parts = text.split(whereSeparator: { $0 == " " || $0 == "T" })
        guard (1...2).contains(parts.count), let day = try? JalaliCalendar.read(String(parts[0])),
            let start = JalaliCalendar.startMilliseconds(ofDay: day)
        else { return nil }
        guard parts.count == 2 else { return start }
        let numbers = parts[1].split(separator: ":", omittingEmptySubsequences: false)
        let time = numbers.compactMap { $0.count <= 2 ? Int64($0) : nil }
        guard (2...3).contains(time.count), time.count == numbers.count, (0...23).contains(time[0]),
            time.dropFirst().allSatisfy({ (0...59).contains($0) })
        else { return nil }
        let seconds = time[0] * 3600 + time[1] * 60 + (time.count == 3 ? time[2] : 0)
        return start + seconds * 1000
    }

    // MARK: Out

    /// Returns a stored value as it is shown outside. What does not fit its column is shown as it is stored.
    package static func print(_ value: FieldValue, for column: ColumnDescription) -> PrintedField {
        switch value {
        case .null: return .null
        case .text(let text): return .text(text)
        case .blob(let bytes): return .text(Data(bytes).base64EncodedString())
        case .integer(let number):
            switch column.type {
            case .reference:
                return RowID(rawValue: number).map { .text($0.description) } ?? .integer(number)
            case .instant:
                return CivilTime.rfc3339(ofMilliseconds: number).map { .text($0) } ?? .integer(number)
            case .boolean:
                return number == 0 || number == 1 ? .boolean(number == 1) : .integer(number)
            case .text, .choice, .words, .integer, .money, .day, .references, .bytes:
                return .integer(number)
            }
        }
    }

    /// Returns the stored value of what ``print(_:for:)`` gave; nil when it cannot have come from there.
    package static func stored(_ printed: PrintedField, for column: ColumnDescription) -> FieldValue? {
        switch printed {
        case .null: return .null
        case .integer(let number): return .integer(number)
        case .boolean(let value): return .integer(value ? 1 : 0)
        case .text(let text):
            switch column.type {
            case .bytes: return Data(base64Encoded: text).map { .blob([UInt8]($0)) }
            case .reference: return RowID(printed: text).map { .integer($0.rawValue) }
            case .instant: return CivilTime.milliseconds(ofRFC3339: text).map { .integer($0) }
            case .integer, .money, .boolean: return nil
            case .text, .choice, .words, .day, .references: return .text(text)
            }
        }
    }

    /// Returns the fields of a row by name, without the identifier and without nulls.
    package static func print(_ values: [FieldValue], of table: TableDescription) -> [String: PrintedField] {
        var fields: [String: PrintedField] = [:]
        for (column, value) in zip(table.columns, values).dropFirst() where !value.isNull {
            fields[column.name] = print(value, for: column)
        }
        return fields
    }
}

extension ColumnType {
    /// What JSON must give for a column of this type.
    fileprivate var jsonWords: String {
        switch self {
        case .text, .choice, .words, .day: "a text"
        case .integer, .money: "a whole number"
        case .boolean: "true or false"
        case .instant: "a time as RFC 3339 text, or milliseconds between the years 0 and 9999"
        case .reference: "an id as text, like \"17-4711\""
        case .references: "ids as one text, divided by spaces"
        case .bytes: "a base64 text"
        }
    }
}
