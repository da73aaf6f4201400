import Causality
import Foundation

/// Values that head office has named as nobody's own: the number of a switchboard, the mail address of a shop. Nobody is
/// found by them, they weigh nothing and link nothing, however few records have them.
///
/// - Source: DOMAIN.md 3.4.
package enum GenericValues {
    /// The name of their rows in the table of policies; there is one for each value.
    package static let policyName = "generic"

    private struct Document: Codable {
        let value: String
    }

    /// The keys by which records with a value would be found: a telephone number, a mail address or a code.
    ///
    /// - Parameter typed: As people write it. Nothing is found by anything else.
    package static func keys(of typed: String) -> [MatchingKey] {
        var keys = MatchingRecord.contactKeys(typed)
        if case .valid(let number) = PhoneNumber.read(typed), number.kind == .mobile,
            let digits = UInt64(number.e164.dropFirst())
        {
            keys.append(KeyMaker.mobile(digits))
        }
        for (name, code) in [
            ("nationalCode", NationalCode.read(typed).value), ("legalId", LegalIdentifier.read(typed).value),
        ] {
            guard let code else { continue }
            keys.append(KeyMaker.code(name, MatchingRecord.Code(text: Array(code.utf16), isValid: true)))
        }
        return keys
    }

    /// The value of the row that names a value.
    package static func document(of value: String) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(Document(value: value))).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }

    /// The value that a row names; nil for a row of another policy, or of a newer program.
    package static func value(of row: RowValues) -> String? {
        guard row.text("name") == policyName, let document = row.text("value") else { return nil }
        return (try? JSONDecoder().decode(Document.self, from: Data(document.utf8)))?.value
    }

    /// The keys of all values that are named.
    package static func keys(from source: some RowSource) throws -> Set<MatchingKey> {
        let rows = try source.values(.policy, where: "name", is: .text(policyName))
        return Set(rows.compactMap(value).flatMap(keys))
    }
}
