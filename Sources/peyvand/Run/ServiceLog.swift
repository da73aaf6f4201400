import Foundation
import Logging
import Synchronization

/// How the service writes its log: the settings `log` and `logLevel`, which may change while it runs.
///
/// Log lines hold identifiers, counts and sizes, never what customers said or are called.
final class ServiceLog: Sendable {
    /// The shape of a line.
    enum Shape: String, Sendable, CaseIterable {
        /// Time, level, message, details: for people.
        case text
        /// One JSON object a line: for programs.
        case json
    }

    private struct State {
        var shape: Shape
        var level: Logger.Level
    }

    private let state: Mutex<State>

    /// - Throws: ``CommandFailure`` when a setting is not what it can be.
    init(_ settings: Settings) throws { state = Mutex(try Self.state(settings)) }

    /// Takes up changed settings.
    ///
    /// - Throws: ``CommandFailure`` when a setting is not what it can be; then nothing has changed.
    func adopt(_ settings: Settings) throws {
        let read = try Self.state(settings)
        state.withLock { $0 = read }
    }

    var shape: Shape { state.withLock { $0.shape } }
    var level: Logger.Level { state.withLock { $0.level } }

    /// A logger that writes here.
    func logger(_ label: String = "peyvand") -> Logger {
        Logger(label: label) { _ in ServiceLogHandler(log: self) }
    }

    private static func state(_ settings: Settings) throws -> State {
        let (shape, level) = (settings.value(.log) ?? "text", settings.value(.logLevel) ?? "info")
        guard let shape = Shape(rawValue: shape) else {
            throw CommandFailure(.usage, "The setting log is \"\(shape)\"; it can be text or json.")
        }
        guard let level = Logger.Level(rawValue: level) else {
            let known = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
            throw CommandFailure(.usage, "The setting logLevel is \"\(level)\"; it can be one of \(known).")
        }
        return State(shape: shape, level: level)
    }

    /// Writes one line to standard error.
    fileprivate func write(_ level: Logger.Level, _ message: String, _ details: [String: String]) {
        let milliseconds = UInt64(clamping: Int64(Date().timeIntervalSince1970 * 1000))
        let time = rfc3339(milliseconds) ?? ""
        switch shape {
        case .text:
            let details = details.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
            Terminal.write("\(time) \(level) \(message)\(details)\n", to: .error)
        case .json:
            let line = Line(time: time, level: level.rawValue, message: message, details: details)
            // Texts can always be encoded.
            let bytes = (try? Output.json(line)) ?? []
            Terminal.write(String(decoding: bytes, as: UTF8.self) + "\n", to: .error)
        }
    }

    /// One line in JSON.
    private struct Line: Encodable {
        let time: String
        let level: String
        let message: String
        let details: [String: String]
    }
}

/// Hands events to the log of the service.
private struct ServiceLogHandler: LogHandler {
    let log: ServiceLog
    var metadata: Logger.Metadata = [:]

    /// That of the settings, whatever a logger is told.
    var logLevel: Logger.Level {
        get { log.level }
        set {}
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { $1 }
        log.write(event.level, "\(event.message)", all.mapValues { "\($0)" })
    }
}
