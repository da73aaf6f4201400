import Foundation
import ReplicaStore

/// How far a request has come, or a piece of what it prints.
struct ProgressReport: Hashable, Codable, Sendable {
    /// What is counted.
    var count = 0
    /// The count at the end; nil when nobody knows.
    var total: Int?
    /// Bytes for the command's standard output; nil when this only tells progress.
    var output: [UInt8]?
}

/// Something that a command asks of a node, whether the node runs in another process or in this one.
protocol NodeRequest: Codable, Sendable {
    associatedtype Reply: Codable & Sendable

    /// The permanent name under which a running node knows the request.
    static var name: String { get }

    /// Whether it can be asked of a node whose first load has not ended.
    static var worksDuringFirstLoad: Bool { get }

    /// Does what is asked. Blocks.
    ///
    /// - Parameter progress: May be called any number of times, never inside a write transaction: it waits for
    ///   the command to take what it is given, and throws when the command is gone.
    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Reply
}

extension NodeRequest {
    static var worksDuringFirstLoad: Bool { false }

    /// Does what is asked, unless most of the rows are still missing.
    func performIfLoaded(
        in node: NodeService,
        progress: (ProgressReport) throws -> Void
    ) throws -> Reply {
        guard Self.worksDuringFirstLoad || node.replica.firstLoadProgress?.isFresh != true else {
            throw StoreFailure.firstLoad
        }
        return try perform(in: node, progress: progress)
    }
}

/// Asks whether anybody answers.
struct Ping: NodeRequest {
    /// Nothing but the answer itself.
    struct Pong: Codable, Sendable {}

    static let name = "ping"
    static let worksDuringFirstLoad = true

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> Pong { Pong() }
}

/// The requests that a node answers.
enum NodeRequests {
    /// All of them. A new one is added here.
    static let all: [any NodeRequest.Type] = [
        Ping.self, AddRow.self, EditRow.self, RemoveRow.self, ShowRow.self, ListRows.self,
        ShowCustomer.self, FindCustomers.self, JudgeCustomers.self, ListDuplicates.self, ListGeneric.self,
        NameGeneric.self, AddOrder.self, ShowOrder.self,
        WriteBatch.self, ImportContext.self, ImportChunk.self, ImportLinesChunk.self, FinishImport.self,
        ListImports.self,
        ShowImport.self, UndoImport.self, ExportRows.self, Dump.self, ListLog.self, ShowLog.self,
        ErasePerson.self,
        ListErasures.self,
        ExportPerson.self,
        ShowStatus.self,
        ShowMetrics.self,
        ShowFleet.self,
        ListRefusals.self,
        VerifyReplica.self,
        CompareWithHub.self,
        Enroll.self,
        SyncNow.self,
        ShowReceipt.self,
        ListConflicts.self,
        ShowConflict.self,
        ResolveConflict.self,
        ExplainField.self,
        ListParked.self,
        RetryParked.self,
        DropParked.self,
        MakeBackup.self,
        FormerNumber.self,
        ShowNode.self,
        RetireNode.self,
        DecideNode.self,
        WriteSnapshotFile.self,
        ReadSnapshotFile.self,
        WriteBundle.self,
        ReadBundle.self,
        ListAudit.self,
        VerifyAudit.self,
        ShowPolicy.self,
        SetPolicy.self,
        ListVoided.self,
    ]

    /// The request of a name; nil when this version knows none.
    static func named(_ name: String) -> (any NodeRequest.Type)? { byName[name] }

    private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })
}

// What a command and a running node say to each other through the local socket.
//
//   request   one line `NAME LANGUAGE`, a line feed, then the request as JSON
//   pieces    1 kind, then
//             kind 1  a ProgressReport as JSON
//             kind 2  bytes for standard output, as they are
//             kind 3  the reply as JSON: the last piece
//             kind 4  a CommandFailure as JSON: the last piece

/// One piece of a node's reply.
enum NodePiece {
    case progress(ProgressReport)
    case reply([UInt8])
    case failure(CommandFailure)

    /// Reads a piece.
    ///
    /// - Throws: ``CommandFailure`` for bytes of another version.
    init(_ bytes: [UInt8]) throws {
        let content = bytes.dropFirst()
        do {
            switch bytes.first {
            case 1: self = .progress(try JSONDecoder().decode(ProgressReport.self, from: Data(content)))
            case 2: self = .progress(ProgressReport(output: [UInt8](content)))
            case 3: self = .reply([UInt8](content))
            case 4: self = .failure(try JSONDecoder().decode(CommandFailure.self, from: Data(content)))
            default: throw NodeWire.foreign
            }
        } catch {
            throw NodeWire.foreign
        }
    }

    /// The bytes of the piece.
    func bytes() throws -> [UInt8] {
        switch self {
        case .progress(let report):
            if let output = report.output { return [2] + output }
            return try [1] + JSONEncoder().encode(report)
        case .reply(let content): return [3] + content
        case .failure(let failure): return try [4] + JSONEncoder().encode(failure)
        }
    }
}

/// Puts requests into bytes, and back.
enum NodeWire {
    /// What is said when the other side speaks differently.
    static let foreign = CommandFailure(
        .failed,
        "The command and the running node do not understand each other. Use the same version of both: "
            + "restart the node after an upgrade."
    )

    /// The bytes of a request.
    static func bytes<Request: NodeRequest>(_ request: Request, language: Language) throws -> [UInt8] {
        try Array("\(Request.name) \(language.rawValue)\n".utf8) + JSONEncoder().encode(request)
    }

    /// Splits a request into its type, the language of the command, and the JSON.
    static func parse(
        _ bytes: [UInt8]
    ) throws -> (type: any NodeRequest.Type, language: Language, content: Data) {
        guard let end = bytes.firstIndex(of: UInt8(ascii: "\n")) else { throw foreign }
        let words = String(decoding: bytes[..<end], as: UTF8.self).split(separator: " ")
        guard words.count == 2, let type = NodeRequests.named(String(words[0])),
            let language = Language(rawValue: String(words[1]))
        else { throw foreign }
        return (type, language, Data(bytes[(end + 1)...]))
    }
}
