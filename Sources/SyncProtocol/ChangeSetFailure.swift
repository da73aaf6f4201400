import Causality

/// Why a change set could not be made or read.
package enum ChangeSetFailure: Error, Hashable, Sendable {
    case tooLarge(bytes: Int)
    case mixedTypes(table: Int, column: Int)
    case unknownFormat(UInt8)
    case malformed(MalformedBytes)
    case inconsistent(String)
}

extension ChangeSetFailure: CustomStringConvertible {
    package var description: String {
        switch self {
        case .tooLarge(let bytes):
            "The transaction makes a change set of \(bytes) bytes; at most \(ChangeSet.contentBytesMax) "
                + "fit. Commit in smaller transactions."
        case .mixedTypes(let table, let column):
            "Column \(column) of table \(table) was given values of different types in one transaction."
        case .unknownFormat(let format):
            "The change set has format \(format); this node reads formats up to \(ContentFormat.extended). "
                + "Upgrade this node first."
        case .malformed(let error): "The change set is malformed. \(error)"
        case .inconsistent(let what): "The change set contradicts itself: \(what)."
        }
    }
}
