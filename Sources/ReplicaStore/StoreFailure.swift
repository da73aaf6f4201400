import Causality
import GRDB
import SyncProtocol

/// Why the replica could not do what was asked. Nothing of the failed transaction stays.
package enum StoreFailure: Error, Sendable {
    /// The directory holds no node.
    case noNode(directory: String)
    /// The directory holds one already.
    case nodeExists(directory: String)
    /// Another process has the node.
    case inUse(directory: String)
    /// The node has not been given its identity yet.
    case notJoined
    /// A file of keys or certificates cannot be used.
    case keyFile(path: String, reason: String)
    /// The node has no certificate that can be used.
    case notCertified(reason: String)
    /// The first load of the node has not ended.
    case firstLoad
    case unknownTable(String)
    case unknownColumn(String, table: String, known: [String])
    case wrongType(column: String, table: String, expected: String)
    case fieldTooLong(column: String, table: String, bytes: Int, limit: Int)
    case missingColumn(String, table: String)
    case unknownRow(table: String, id: RowID)
    case deletedRow(table: String, id: RowID)
    /// The row is erased, for ever.
    case erasedRow(table: String, id: RowID)
    case onlyHeadOfficeErases
    case rowNotDeleted(table: String, id: RowID)
    /// Somebody else has written these fields since a form was loaded.
    case changedMeanwhile(table: String, id: RowID, columns: [String])
    case foreignRange(table: String, id: RowID, origin: Origin)
    case headOfficeOnly(table: String)
    /// The table whose rows only head office makes, and the columns that a branch may write.
    case headOfficeMakes(table: String, open: [String])
    case damagedRow(table: String, id: Int64, reason: String)
    case damagedLog(position: UInt64, reason: String)
    /// The file is a backup that was put in the place of a replica by hand.
    case isBackup(directory: String, madeAt: UInt64)
    case newerReplica(file: Int, software: Int)
    case newerSchema(file: Int, software: Int)
    case changeSet(ChangeSetFailure)
    case database(String)
    /// A large change set that arrives in parts could not be kept.
    case spool(String)
    /// Another program has a write transaction open, and nobody waits longer for it.
    case locked(by: String?)
    case diskFull
}

extension StoreFailure: CustomStringConvertible {
    package var description: String {
        switch self {
        case .noNode(let directory):
            "There is no node in \(directory). Make one with `peyvand init`, or name another directory "
                + "with --data."
        case .nodeExists(let directory):
            "\(directory) holds a node already. Nothing was changed; choose another directory."
        case .inUse(let directory):
            "Another process works with the node in \(directory) and does not answer on its socket. "
                + "Wait until it has finished, then try again."
        case .notJoined:
            "This node has not joined its organisation yet. Finish `peyvand init --join` first."
        case .keyFile(let path, let reason): "\(path): \(reason)."
        case .notCertified(let reason):
            "This node has no certificate (\(reason)). Ask head office for a new invitation, and join again in another "
                + "directory."
        case .firstLoad:
            "The first load of this node has not ended: run `peyvand init --join` with its invitation again, or "
                + "`peyvand sync`, until it has."
        case .unknownTable(let name): "There is no table \"\(name)\"."
        case .unknownColumn(let column, let table, let known):
            "\(table) has no field \"\(column)\". It has: \(known.joined(separator: ", "))."
        case .wrongType(let column, let table, let expected):
            "\(table).\(column) holds \(expected); the value given is of another kind."
        case .fieldTooLong(let column, let table, let bytes, let limit):
            "\(table).\(column) was given \(bytes) bytes; at most \(limit) fit."
        case .missingColumn(let column, let table): "A new \(table) needs the field \"\(column)\"."
        case .unknownRow(let table, let id):
            "There is no \(table) \(id) here. If it was made elsewhere, synchronise and try again."
        case .deletedRow(let table, let id):
            "The \(table) \(id) is deleted. Restore it before changing it."
        case .erasedRow(let table, let id):
            "The \(table) \(id) was erased for good; nothing of it is left to change or restore."
        case .onlyHeadOfficeErases:
            "Only head office erases. Ask it to run this command; the order then reaches every node."
        case .changedMeanwhile(let table, let id, let columns):
            "Somebody else has changed \(columns.joined(separator: ", ")) of the \(table) \(id) since the form was "
                + "opened. Nothing was saved; look at the new values and try again."
        case .rowNotDeleted(let table, let id): "The \(table) \(id) is not deleted."
        case .foreignRange(let table, let id, let origin):
            "There is no \(table) \(id) here, and this node can only make rows of its own numbers, "
                + "\(origin)-1 and following."
        case .headOfficeOnly(let table): "Only head office writes \(table); ask it to make the change."
        case .headOfficeMakes(let table, let open):
            "Only head office makes, deletes and changes rows of \(table); a branch may write: "
                + "\(open.joined(separator: ", "))."
        case .damagedRow(let table, let id, let reason):
            "The stored \(table) \(RowID(rawValue: id)?.description ?? String(id)) is damaged. \(reason) "
                + "Check the disk, and compare with head office."
        case .damagedLog(let position, let reason):
            "The log is damaged at position \(position). \(reason) Check the disk, and restore a backup."
        case .isBackup(let directory, _):
            "The replica in \(directory) is a backup, which may not be used as it is: this node may have gone on "
                + "since. Move the file elsewhere and run `peyvand restore FILE`."
        case .newerReplica(let file, let software):
            "The replica has format \(file); this program knows formats up to \(software). "
                + "Use the newer program that made it."
        case .newerSchema(let file, let software):
            "The replica has tables of schema \(file); this program knows schemas up to \(software). "
                + "Use the newer program that made them."
        case .changeSet(let failure): failure.description
        case .database(let message): message
        case .spool(let reason):
            "A large change set could not be taken in parts: \(reason). It is tried again; check the disk if it "
                + "happens often."
        case .locked(let holder):
            "\(holder ?? "Another program") has held the replica's write lock for too long. Close it or let it "
                + "commit, then try again. Nothing of this change was kept."
        case .diskFull:
            "The disk is full. Nothing of this change was kept; free some space and try again."
        }
    }

    /// Puts an error of the database into a sentence; other errors stay what they are.
    ///
    /// - Parameter path: The replica's file, where whoever holds its lock is looked for.
    package static func wrapping(_ error: any Error, path: String? = nil) -> any Error {
        guard let error = error as? DatabaseError else { return error }
        switch error.resultCode {
        case .SQLITE_FULL:
            return StoreFailure.diskFull
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            return StoreFailure.locked(by: path.flatMap(LockHolder.writer))
        case .SQLITE_CORRUPT, .SQLITE_NOTADB:
            return StoreFailure.database(
                "The replica's file is damaged (\(error.message ?? "")). Restore it from a backup."
            )
        case .SQLITE_CANTOPEN:
            return StoreFailure.database("The replica's file cannot be opened. Check that it may be read.")
        case .SQLITE_READONLY:
            return StoreFailure.database("The replica's file cannot be written. Check its owner and mode.")
        default:
            // The message and the statement hold no values: those are always bound.
            return StoreFailure.database(
                "The database failed: \(error.message ?? error.resultCode.description)."
            )
        }
    }
}
