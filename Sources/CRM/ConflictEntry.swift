import Causality
import Foundation

// What rows of the table `conflict` hold: losing writes, as head office has judged them.

/// What has become of an entry. Raw values are the words of the column.
package enum ConflictResolution: String, Hashable, Sendable, CaseIterable {
    /// It waits for somebody.
    case open
    /// Somebody has let stand what won.
    case kept
    /// Somebody has taken the lost value back.
    case taken
    /// Somebody has written a third value.
    case edited
    /// It needs nobody any more: somebody who knew it has written the field since, or it holds the value.
    case superseded

    /// Reads the column; a word of a newer version counts as a decision.
    package init(_ value: FieldValue) {
        guard case .text(let word) = value else {
            self = .open
            return
        }
        self = ConflictResolution(rawValue: word) ?? .edited
    }

    /// Whether a person has decided.
    package var isDecision: Bool {
        switch self {
        case .kept, .taken, .edited: true
        case .open, .superseded: false
        }
    }
}

/// Values by field, as an entry holds them: a JSON object, in the form of `dump`.
package enum ConflictValues {
    /// Writes the values of some columns, given ascending. What does not fit is left out: the log of each node
    /// has it.
    package static func text(
        _ values: [FieldValue],
        _ columns: ColumnMask,
        of table: TableDescription,
        bytesMax: Int
    ) -> String {
        var fields: [String: PrintedField] = [:]
        for (column, value) in zip(columns.numbers, values) {
            fields[table.columns[column].name] = FieldText.print(value, for: table.columns[column])
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        while let data = try? encoder.encode(fields) {
            if data.count <= bytesMax { return String(decoding: data, as: UTF8.self) }
            let longest = fields.max { ($0.value.text.utf8.count, $0.key) < ($1.value.text.utf8.count, $1.key) }
            guard let longest else { break }
            fields[longest.key] = nil
        }
        return "{}"
    }

    /// The values by name, as they are printed; none for a text that is not an object.
    package static func printed(_ value: FieldValue) -> [String: PrintedField] {
        guard case .text(let text) = value else { return [:] }
        return (try? JSONDecoder().decode([String: PrintedField].self, from: Data(text.utf8))) ?? [:]
    }

    /// The values by column number, as a row stores them.
    package static func read(_ value: FieldValue, of table: TableDescription) -> [Int: FieldValue] {
        var values: [Int: FieldValue] = [:]
        for (name, printed) in printed(value) {
            guard let column = table.column(named: name) else { continue }
            values[column.number] = FieldText.stored(printed, for: column)
        }
        return values
    }
}
