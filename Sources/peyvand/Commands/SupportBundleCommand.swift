import ArgumentParser
import CRM
import Foundation
import Glibc
import ReplicaStore

/// Collects what somebody needs who is asked for help.
struct SupportBundleCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "support-bundle",
        abstract: "Write what somebody needs who is asked for help into a file, without customer data.",
        discussion: """
            One JSON document for its owner alone: versions, settings, what doctor, status, fleet, metrics, parked and audit \
            say. It holds names of nodes and accounts, identifiers and counts; no key, no invitation, no field of a row.
            """
    )

    /// What a node that answers says of itself.
    private struct NodePart: Encodable {
        let status: ShowStatus.Reply
        let fleet: ShowFleet.Reply?
        let metrics: ShowMetrics.Reply
        let parked: ListParked.Reply
        let audit: ListAudit.Reply
        let auditVerdict: VerifyAudit.Reply
    }

    private struct Document: Encodable {
        let schema = 1
        let madeAt: String?
        let software: String
        let system: String
        let settings: [String: String]
        let checks: [Finding]
        let node: NodePart?
        /// Why the node did not answer.
        let trouble: String?
    }

    struct Written: Encodable {
        let id: String
        let bytes: Int
    }

    @Argument(help: "The file.") var file: String
    @OptionGroup var options: NodeOptions

    func run() async throws {
        let settings = try options.settings()
        let output = try options.output(settings)
        var (node, trouble): (NodePart?, String?)
        do { node = try await Self.ask(settings, output.language) } catch { trouble = CommandFailure(error).sentence }
        let named = Settings.Key.allCases.compactMap { key in settings.value(key).map { (key.rawValue, $0) } }
        let document = Document(
            madeAt: CivilTime.rfc3339(ofMilliseconds: Int64(clamping: try settings.wallClock()())),
            software: Replica.software,
            system: Self.system,
            settings: Dictionary(uniqueKeysWithValues: named),
            checks: Examination(directory: settings.directory).findings(),
            node: node,
            trouble: trouble
        )
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        let bytes = try encoder.encode(document)
        try Self.write(bytes, to: file)
        try output.result(
            Written(id: file, bytes: bytes.count),
            text: output.words.choose(
                "Wrote \(file) (\(bytes.count) bytes). Look at it before you give it away: it names nodes and accounts.\n",
                "\(file) نوشته شد (\(output.words.number(bytes.count)) بایت). پیش از دادن به دیگری نگاهش کنید: نام گره‌ها و "
                    + "حساب‌ها در آن است.\n"
            )
        )
    }

    private static func ask(_ settings: Settings, _ language: Language) async throws -> NodePart {
        let connection = try await NodeConnection.open(settings, language: language)
        defer { try? connection.close() }
        let status = try await connection.perform(ShowStatus())
        return NodePart(
            status: status,
            fleet: status.hub == nil ? try await connection.perform(ShowFleet()) : nil,
            metrics: try await connection.perform(ShowMetrics()),
            parked: try await connection.perform(ListParked(limit: 1000)),
            audit: try await connection.perform(ListAudit(limit: 1000)),
            auditVerdict: try await connection.perform(VerifyAudit())
        )
    }

    /// What uname(2) says.
    private static var system: String {
        var name = utsname()
        guard uname(&name) == 0 else { return "" }
        func text<Field>(_ field: Field) -> String {
            withUnsafeBytes(of: field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        }
        return [text(name.sysname), text(name.release), text(name.machine)].joined(separator: " ")
    }

    private static func write(_ bytes: Data, to path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw CommandFailure(
                .failed,
                "\(path) cannot be written (\(String(cString: strerror(errno)))). Name a file that is not there yet."
            )
        }
        let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        do {
            try handle.write(contentsOf: bytes)
        } catch {
            unlink(path)
            throw CommandFailure(.failed, "\(path) cannot be written. Is there space left?")
        }
    }
}
