import CRM
import ReplicaStore

/// One change that could not be applied, as it is shown.
struct PrintedParked: Codable, Sendable {
    /// Why.
    struct Reason: Codable, Sendable {
        /// For scripts; permanent.
        let code: String
        /// What happened, and what to do.
        let sentence: String
    }

    /// The change set that it belongs to.
    struct ChangeSet: Codable, Sendable {
        let origin: UInt32
        let seq: UInt64
        let position: UInt64
    }

    let id: String
    let table: String
    let row: String
    let changeSet: ChangeSet
    let reason: Reason
    /// RFC 3339.
    @OrNull var parkedAt: String?
    let attempts: Int

    init(_ parked: ParkedRow) {
        id = String(parked.number)
        table = parked.table
        row = parked.row.description
        changeSet = ChangeSet(
            origin: parked.set.origin.rawValue,
            seq: parked.set.seq,
            position: parked.position
        )
        reason = Reason(code: parked.reason.code.rawValue, sentence: parked.reason.sentence)
        parkedAt = CivilTime.rfc3339(ofMilliseconds: Int64(clamping: parked.parkedAt))
        attempts = parked.attempts
    }
}

/// Reads what could not be applied.
struct ListParked: NodeRequest {
    static let name = "parked.list"

    let limit: Int

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> [PrintedParked] {
        try node.replica.parkedRows(limit: limit).map(PrintedParked.init)
    }
}

/// What came of trying parked changes again, or of giving one up.
struct ParkedOutcome: Codable, Sendable {
    /// Changes that are applied now.
    let applied: Int
    /// Changes that still wait, also of other rows.
    let parked: Int
}

/// Tries parked changes again.
struct RetryParked: NodeRequest {
    static let name = "parked.retry"

    /// The row of this one; nil for all.
    let id: String?

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> ParkedOutcome {
        let number = try id.map(ParkedArgument.number)
        guard let applied = try node.replica.retryParked(number) else { throw ParkedArgument.unknown(id ?? "") }
        return ParkedOutcome(applied: applied, parked: try node.replica.status().parked)
    }
}

/// Gives up one parked change.
struct DropParked: NodeRequest {
    static let name = "parked.drop"

    let id: String

    func perform(in node: NodeService, progress: (ProgressReport) throws -> Void) throws -> ParkedOutcome {
        guard try node.replica.dropParked(ParkedArgument.number(id)) else { throw ParkedArgument.unknown(id) }
        // What waited behind it may go on.
        let applied = try node.replica.retryParked() ?? 0
        return ParkedOutcome(applied: applied, parked: try node.replica.status().parked)
    }
}

/// The id of a parked change on the command line.
private enum ParkedArgument {
    static func number(_ typed: String) throws -> Int64 {
        guard let number = Int64(PersianText.key(typed)), number > 0 else {
            throw CommandFailure(.usage, "\"\(typed)\" is no id of `peyvand parked list`.")
        }
        return number
    }

    static func unknown(_ id: String) -> CommandFailure {
        CommandFailure(.refused, "Nothing is parked under \(id). `peyvand parked list` shows what is.")
    }
}
