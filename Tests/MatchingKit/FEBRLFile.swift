import CRM
import Causality
import Foundation

/// A file of invented Australian people, made with FEBRL, some of them recorded again with mistakes.
///
/// The number in `rec-N-org` and `rec-N-dup-K` tells who is who. The social security number is left out: it would
/// answer the question.
package enum FEBRLFile {
    /// Why a file could not be read.
    package struct Failure: Error, CustomStringConvertible {
        package let description: String
    }

    /// Reads the file that lies beside the tests.
    ///
    /// - Parameter name: `dataset1` or `dataset2`.
    package static func entries(_ name: String) throws -> [CustomerGenerator.Entry] {
        let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Fixtures/febrl/\(name).csv")
        let lines = try String(contentsOf: file, encoding: .utf8).split(whereSeparator: \.isNewline)
        return try lines.dropFirst().enumerated().map { number, line in
            let values = line.split(separator: ",", omittingEmptySubsequences: false).map {
                $0.trimmingCharacters(in: .whitespaces)
            }
            let name = values[0].split(separator: "-")
            guard values.count == 11, name.count >= 3, let person = Int(name[1]), let origin = Origin(rawValue: 2)
            else {
                throw Failure(description: "Line \(number + 2) of \(file.lastPathComponent) is no FEBRL record.")
            }
            func value(_ column: Int) -> String? { values[column].isEmpty ? nil : values[column] }
            let record = MatchingRecord(
                id: RowID(origin: origin, counter: Int64(number + 1)),
                givenName: value(1),
                familyName: value(2),
                birthDay: value(9),
                city: value(6),
                street: value(4),
                postalCode: value(7)
            )
            return CustomerGenerator.Entry(person: person, record: record, fields: [:])
        }
    }
}
