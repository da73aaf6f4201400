import Causality
import Foundation

/// The scripts that are kept: each shows something that once went wrong, or would.
package struct CorpusScript: Sendable {
    /// The file, without its directory: number, invariant and name.
    package let name: String
    package let script: Script
    /// The planted bugs that it finds: a line `# finds` names them.
    package let finds: [PlantedBug]

    /// A line of a script that names planted bugs.
    private static let word = "# finds "

    /// Where they are.
    package static let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Corpus").path

    /// All, in the order of their numbers.
    package static func all() throws -> [CorpusScript] {
        guard FileManager.default.fileExists(atPath: directory) else { return [] }
        return try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
            .filter { $0.hasSuffix(".sim") }.map { try CorpusScript(name: $0) }
    }

    private init(name: String) throws {
        self.name = name
        let text = try String(contentsOfFile: Self.directory + "/" + name, encoding: .utf8)
        script = try Script(text: text)
        finds = text.split(separator: "\n").filter { $0.hasPrefix(Self.word) }
            .flatMap { $0.dropFirst(Self.word.count).split(separator: " ") }
            .compactMap { PlantedBug(rawValue: String($0)) }
    }

    /// Keeps a script that finds a planted bug, under the next number.
    ///
    /// - Returns: The file's name.
    package static func keep(_ script: Script, finding bug: PlantedBug, by violation: World.Violation) throws -> String
    {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let last = try all().last.flatMap { Int($0.name.prefix(3)) } ?? 0
        let number = String("00\(last + 1)".suffix(3))
        let words = bug.rawValue.reduce(into: "") { $0 += $1.isUppercase ? "-" + $1.lowercased() : String($1) }
        let name = "\(number)-\(violation.invariant)-\(words).sim"
        try "\(word)\(bug.rawValue)\n\(script)".write(
            toFile: directory + "/" + name,
            atomically: true,
            encoding: .utf8
        )
        return name
    }
}
