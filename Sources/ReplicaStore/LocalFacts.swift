import GRDB

/// What a node remembers of itself in single numbers, beside what has a table of its own. Raw values are the
/// names in the file; permanent.
enum LocalFact: String {
    /// At head office: the log is in a verified backup up to here. At a branch: the hub has said so.
    case safePosition
    /// At a branch: head office's time, in milliseconds, when the machine was started, as a session has measured;
    /// and which start that was.
    case hubMillisecondsAtBoot, measuredBoot
    /// At head office: when the backup was verified that ``safePosition`` is about, in milliseconds since 1970.
    case safeAt
    /// This node takes a new life at its next contact; why, as ``RenewalReason``.
    case mustRenew
    /// At a branch: the name and version of the program that head office has heard of, as a number.
    case softwareTold
    /// At a branch: 1 when head office signed its last receipt with a key that is not the one known here.
    case receiptHasForeignKey
    /// At a branch: its own change sets up to this one are in a bundle, which may be read at any time.
    case carriedSeq
    /// The schema that the tables of the file have.
    case schemaVersion
    /// The schema up to which everything in the log that it knows is in the tables.
    case schemaApplied
    /// How many writes to erased rows were dropped.
    case erasedDropped
    /// Whether erased values may still lie in free pages of the file, or in the write-ahead log.
    case scrubDue
    /// When this node was last compared with head office row by row, and how many rows differed.
    case comparedAt
    case differingRows
    /// How many buckets did not add up at head office then.
    case damagedAtHub
    /// Since when this node looks at all its rows now and then.
    case selfCheckBegan
    /// At head office: the next origin number is at least this.
    case nextOrigin
    /// New rows get numbers above this one: lower ones may have been given out by another copy of this file.
    case rowCounterFloor
    /// Numbers of new rows are reserved up to this one; see ``Fence``.
    case rowCounterReserved
    /// How often this file was opened to be written; see ``Fence``.
    case openings
    /// This file is a backup, made then, in milliseconds since 1970, and may not be used as it is.
    case backupMadeAt
    /// The greatest time of rows that were taken in beside the log.
    case timeSeen
    /// When this node's rows were last found to differ from what was written.
    case tablesWrongAt
    /// Bodies of the log were let go up to here, but for those that are listed.
    case trimmedPosition
    /// At a branch: the hub's time at which its lease ends, and how many days of history are kept.
    case leaseExpiresAt, historyDays
    /// Everything up to here of the hub's log came by a snapshot, of this node's own change sets up to this one.
    case snapshotPosition, snapshotOwnSeq
    /// The digest at ``snapshotPosition``; nil when the hub has lost its log up to there since.
    case snapshotDigest
    /// The schema of the hub whose snapshot was loaded, while this node does not know all of it.
    case snapshotSchema
    /// The customers up to this identifier have been indexed again, after rows came in beside the log.
    case searchedCustomer
    /// Up to here in the log it was noted which customers have changed, and by which rules they were compared; see
    /// ``ReplicaWriter/matchedPosition()``.
    case matchedPosition, matchedRules
    /// At a branch: the newest time that head office has told, rounded down to a day.
    case hubTimeSeen
    /// At a branch: the number of the code with which head office turned it away last, until it is let in again.
    case turnedAway
}

extension ReplicaWriter {
    /// Nil when it was never noted.
    func fact(_ fact: LocalFact) throws -> Int64? { try LocalFact.read(fact, db) }

    /// Notes a number, as part of the present transaction; nil forgets it.
    func note(_ fact: LocalFact, _ value: Int64?) throws { try LocalFact.write(fact, value, db) }
}

extension LocalFact {
    /// Writes it, as part of the present transaction; nil forgets it.
    static func write(_ fact: LocalFact, _ value: Int64?, _ db: Database) throws {
        if let value {
            try db.cachedStatement(sql: "INSERT OR REPLACE INTO localFact VALUES (?, ?)")
                .execute(arguments: [fact.rawValue, value])
        } else {
            try db.cachedStatement(sql: "DELETE FROM localFact WHERE name = ?")
                .execute(arguments: [fact.rawValue])
        }
    }

    /// Reads it out of any consistent state.
    static func read(_ fact: LocalFact, _ db: Database) throws -> Int64? {
        try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT value FROM localFact WHERE name = ?"),
            arguments: [fact.rawValue]
        )
    }
}
