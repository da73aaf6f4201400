import CRM
import Foundation
import ReplicaStore
import Spreadsheet
import SyncTransport
import WebConsole

/// How a command ends. The numbers are a contract with scripts.
///
/// | exit | when |
/// |---|---|
/// | 0 done | all was done, also when there was nothing to do |
/// | 1 failed | a disk, file or line failed; input in a file could not be used; it may work later or elsewhere |
/// | 2 refused | the state forbids it: no such node, row or log position, deleted or not deleted, ambiguous, not joined, head office only |
/// | 64 usage | the command line is wrong: unknown option, table or field, a value that does not fit its field, a required field missing |
///
/// `status`, `fleet`, `doctor` and `verify` use 0 to 3 in their own way.
enum ExitStatus: Int32, Codable, Sendable {
    case done = 0
    case failed = 1
    case refused = 2
    case usage = 64
}

/// Why a command did not do what was asked: a sentence for people, and the exit for scripts.
///
/// The only error whose text is printed. It holds identifiers, counts and names of fields, never customer data.
struct CommandFailure: Error, Hashable, Codable, Sendable, CustomStringConvertible {
    let exit: ExitStatus
    let sentence: String

    init(_ exit: ExitStatus, _ sentence: String) {
        self.exit = exit
        self.sentence = sentence
    }

    var description: String { sentence }

    /// Puts any error into a sentence.
    init(_ error: any Error, language: Language = .en) {
        switch error {
        case let failure as CommandFailure:
            self = failure
        case let failure as StoreFailure:
            self.init(Self.exit(of: failure), Words(language).sentence(of: failure))
        case let failure as FieldFailure:
            self.init(.usage, language == .fa ? failure.persian : failure.description)
        case let failure as SyncTransportFailure:
            self.init(.failed, failure.description)
        case let failure as SpreadsheetFailure:
            self.init(.failed, language == .fa ? failure.persian : failure.description)
        case let failure as ConsoleFailure:
            self.init(.failed, failure.description)
        case is CancellationError:
            self.init(.failed, Words(language).stopped)
        default:
            // Whatever else is thrown down there describes itself without values of rows.
            self.init(.failed, Words(language).unexpected("\(type(of: error))", code(of: error)))
        }
    }

    /// Where a failure of the replica stands in the table of ``ExitStatus``.
    private static func exit(of failure: StoreFailure) -> ExitStatus {
        switch failure {
        case .noNode, .nodeExists, .notJoined, .firstLoad, .unknownRow, .deletedRow, .erasedRow, .onlyHeadOfficeErases,
            .rowNotDeleted, .changedMeanwhile, .foreignRange, .headOfficeOnly, .headOfficeMakes, .isBackup,
            .notCertified:
            .refused
        case .unknownTable, .unknownColumn, .wrongType, .fieldTooLong, .missingColumn:
            .usage
        default:
            .failed
        }
    }
}

/// What can be said of an error of the system without printing what it carries.
private func code(of error: any Error) -> String {
    let error = error as NSError
    return "\(error.domain) \(error.code)"
}
