import CRM
import Causality
import Crypto
import Foundation
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

    /// Reads a file once to its end, and goes back to its beginning.
    static func survey(
        _ file: FileHandle,
        path: String,
        format: String,
        _ words: Words
    ) throws -> (ImportedFile, byteCount: Int) {
        var hash = SHA256()
        var count = 0
        do {
            while let chunk = try file.read(upToCount: 1 << 20), !chunk.isEmpty {
                hash.update(data: chunk)
                count += chunk.count
            }
            try file.seek(toOffset: 0)
        } catch {
            throw CommandFailure(.failed, words.cannotRead(path))
        }
        return (ImportedFile(path: path, hash, options: ["format": format]), count)
    }

    init(path: String, _ hash: SHA256, options: [String: String]) {
        name = (path as NSString).lastPathComponent
        sha256 = hash.finalize().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        self.options = options
    }

    /// A JSON object, its keys sorted.
    static func json(_ content: some Encodable) -> String {
        (try? Output.json(content)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }
}
