import ArgumentParser
import Foundation
import ReplicaStore
import SyncTransport
import TOMLKit

/// What a node is told about its surroundings: from flags, else the environment, else `DIR/peyvand.toml`.
struct Settings: Sendable {
    /// A setting that can stand in the file, in the environment as `PEYVAND_` and its name, and as a flag.
    enum Key: String, CaseIterable, Sendable {
        case listen, advertise, console, lang
        /// At a branch: where it calls head office, if not where it last did.
        case hub
        /// Days: how long head office keeps what an absent node lacks, and who changed what.
        case lease, history
        /// How the service writes its log: `text` or `json`, and from which level on.
        case log, logLevel
        /// At a branch: how much of its line it may use when, and of which tables rows are sent all the same.
        case bandwidth, urgent

        fileprivate var variable: String { "PEYVAND_" + rawValue.uppercased() }
    }

    /// The node's directory.
    let directory: String
    private let environment: [String: String]
    private let file: [String: String]
    private var flags: [Key: String] = [:]

    static let fileName = "peyvand.toml"
    /// Where head office listens unless it is told otherwise.
    static let listenDefault = "127.0.0.1:7443"
    private static let directoryDefault = "/var/lib/peyvand"

    /// Reads the settings of a node. A file that is missing is an empty one.
    ///
    /// - Parameter data: What the flag `--data` says.
    /// - Throws: ``CommandFailure`` when the file cannot be read, or has a key that is not a setting.
    init(data: String?, environment: [String: String] = ProcessInfo.processInfo.environment) throws {
        let named = data ?? environment["PEYVAND_DATA"].flatMap { $0.isEmpty ? nil : $0 }
        var directory = named ?? Self.directoryDefault
        while directory.count > 1, directory.hasSuffix("/") { directory.removeLast() }
        guard !directory.isEmpty else {
            throw CommandFailure(.usage, "--data names no directory. Give the node's directory.")
        }
        self.directory = directory
        self.environment = environment
        file = try Self.read(directory + "/" + Self.fileName)
    }

    /// The same settings with what a flag says over them; nil says nothing.
    func with(_ key: Key, flag: String?) -> Settings {
        guard let flag else { return self }
        var settings = self
        settings.flags[key] = flag
        return settings
    }

    /// The value of a setting: the flag if it was given, else the environment's, else the file's.
    func value(_ key: Key, flag: String? = nil) -> String? {
        flag ?? flags[key] ?? environment[key.variable].flatMap { $0.isEmpty ? nil : $0 } ?? file[key.rawValue]
    }

    /// The address that a setting names, else the default; nil when there is neither.
    ///
    /// - Throws: ``CommandFailure`` when it is none.
    func address(_ key: Key, default: String? = nil) throws -> NodeAddress? {
        guard let written = value(key) ?? `default` else { return nil }
        guard let address = NodeAddress(written) else {
            throw CommandFailure(.usage, "\"\(written)\" is not an address. Write it as 127.0.0.1:7443.")
        }
        return address
    }

    /// The path of the socket where a running node answers commands.
    var socketPath: String { directory + "/peyvand.sock" }

    /// The language of what people read.
    func language(flag: Language? = nil) throws -> Language {
        if let flag { return flag }
        if let named = value(.lang) {
            guard let language = Language(rawValue: named) else {
                throw CommandFailure(.usage, "The setting lang is \"\(named)\"; it can be en or fa.")
            }
            return language
        }
        // The order in which the C library looks.
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].lazy.compactMap { environment[$0] }.first {
            !$0.isEmpty
        }
        return locale?.hasPrefix("fa") == true ? .fa : .en
    }

    /// The node's clocks; the wall clock is shifted by `PEYVAND_CLOCK_OFFSET` seconds.
    func clock() throws -> NodeClock {
        let written = environment["PEYVAND_CLOCK_OFFSET"] ?? ""
        guard let seconds = written.isEmpty ? 0 : Double(written), seconds.magnitude < 1e10 else {
            throw CommandFailure(
                .usage,
                "PEYVAND_CLOCK_OFFSET is not a number of seconds. Write it as 90 or -3600."
            )
        }
        return .ofMachine(shiftMilliseconds: Int64((seconds * 1000).rounded()))
    }

    /// The node's wall clock, in milliseconds since 1970-01-01 UTC.
    func wallClock() throws -> @Sendable () -> UInt64 {
        let clock = try clock()
        return { clock.read().wallMilliseconds }
    }

    /// Writes settings of a new node into its file, beside those that stand there. Nil ones are left alone.
    func write(_ values: [Key: String?]) throws {
        let table = TOMLTable()
        for (name, value) in file { table[name] = value }
        var isChanged = false
        for (key, value) in values {
            guard let value else { continue }
            table[key.rawValue] = value
            isChanged = true
        }
        guard isChanged else { return }
        let path = directory + "/" + Self.fileName
        do {
            try (table.convert(to: .toml) + "\n").write(toFile: path, atomically: true, encoding: .utf8)
        } catch {
            throw CommandFailure(.failed, "\(path) cannot be written. Check the owner of the directory.")
        }
    }

    private static func read(_ path: String) throws -> [String: String] {
        guard FileManager.default.fileExists(atPath: path) else { return [:] }
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            throw CommandFailure(
                .failed,
                "\(path) cannot be read as UTF-8 text. Check its owner and contents."
            )
        }
        let table: TOMLTable
        do {
            table = try TOMLTable(string: text)
        } catch {
            throw CommandFailure(
                .failed,
                "\(path) is not valid TOML, \((error as? TOMLParseError)?.source.debugDescription ?? "")."
            )
        }
        var values: [String: String] = [:]
        for (name, value) in table {
            guard let key = Key(rawValue: name),
                let text = value.string ?? (key == .lease || key == .history ? value.int.map(String.init) : nil)
            else {
                let known = Key.allCases.map(\.rawValue).joined(separator: ", ")
                throw CommandFailure(
                    .failed,
                    "\(path) sets \"\(name)\", which is no setting with a text or a number. The settings are: \(known)."
                )
            }
            values[name] = text
        }
        return values
    }
}

/// The options that every command about a node takes.
struct NodeOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The node's directory (default: $PEYVAND_DATA, else /var/lib/peyvand).",
            valueName: "dir"
        )
    )
    var data: String?

    @Flag(help: "Print one JSON document instead of text.")
    var json = false

    @Option(help: "The language of text output: en or fa (default: from LANG).")
    var lang: Language?

    /// What the options, the environment and the settings file say together.
    func settings() throws -> Settings { try Settings(data: data) }

    /// Where this command prints.
    func output(_ settings: Settings) throws -> Output {
        Output(isJSON: json, language: try settings.language(flag: lang))
    }
}

/// The options of commands that list what can become long.
struct ListLimit: ParsableArguments {
    @Option(help: "At most so many.") var limit = 100

    func validate() throws {
        guard (1...100_000).contains(limit) else { throw ValidationError("--limit must be 1 to 100000.") }
    }
}

extension Language: ExpressibleByArgument {}
