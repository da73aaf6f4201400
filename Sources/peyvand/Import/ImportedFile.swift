import CRM
import Causality
import ReplicaStore

/// What is kept of a file that rows are taken from.
struct ImportedFile: Codable, Hashable, Sendable {
    /// Without the directory.
    let name: String
    /// In hexadecimal digits.
    let sha256: String
    /// How it was read.
    let options: [String: String]

    /// The fields of its row.
    func values(of target: ImportTarget) -> [String: FieldValue] {
        [
            "fileName": .text(name), "sha256": .text(sha256), "kind": .text(target.rawValue),
            "options": .text(Self.json(options)), "state": .text("active"),
        ]
    }

    /// A JSON object, its keys sorted.
    static func json(_ content: some Encodable) -> String {
        (try? Output.json(content)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }
}
