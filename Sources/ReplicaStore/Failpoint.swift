import CSQLite
import Glibc

/// A place at which a process can be made to end as if it were killed: the moments between two things that must both
/// last, or neither.
///
/// Only debug builds end there. `PEYVAND_FAILPOINT=beforeCommit:3` ends the process when it comes there for the third
/// time, with exit code 137, and without a word to anybody.
package enum Failpoint: String, CaseIterable, Sendable {
    // Transactions.
    /// The fence has counted an opening, the database has not.
    case fenceCounted
    /// Everything is written, nothing is durable.
    case beforeCommit
    /// All is durable, and nobody was told.
    case afterCommit
    /// The write-ahead log is to be copied into the file, or has just been.
    case beforeCheckpoint, afterCheckpoint

    // Files.
    /// A new replica is complete, under another name.
    case replicaDrafted
    /// It has its name; its directory may not know that durably.
    case replicaNamed
    /// A backup, or the replica that is restored from one, is complete under another name, and durable.
    case copyDrafted
    /// It has its name.
    case copyNamed
    /// The replica that was there before has gone out of the way.
    case presentSetAside
    /// A snapshot's file is complete under another name.
    case snapshotFileDrafted
    /// A part of a large change set lies in its file, and the sender was not told.
    case partSpooled
    /// What was erased has left the tables and the index, not yet the free pages of the file.
    case erasedFromTables

    /// Ends the process here if that was ordered.
    func pass() {
        #if FAULT_INJECTION
            guard let order = Self.order, order.point == self else { return }
            passes += 1
            if passes == order.pass { _exit(137) }
        #endif
    }

    /// Lets SQLite run out of memory if that was ordered: `PEYVAND_ALLOCATION=37` refuses it the 37th piece that it asks
    /// for, `PEYVAND_ALLOCATION=37:` that one and all that follow.
    static func orderFailingAllocation() {
        #if FAULT_INJECTION
            guard let text = getenv("PEYVAND_ALLOCATION").map({ String(cString: $0) }) else { return }
            let forEver = text.hasSuffix(":")
            guard let number = Int(forEver ? text.dropLast() : text[...]),
                csqlite_fail_allocation(number, forEver ? 1 : 0) == 0
            else { fatalError("PEYVAND_ALLOCATION is \(text); it should be like 37, before SQLite is used.") }
        #endif
    }

    #if FAULT_INJECTION
        /// Where this process is to end, and at which of its visits there.
        private static let order: (point: Failpoint, pass: Int)? = {
            guard let text = getenv("PEYVAND_FAILPOINT").map({ String(cString: $0) }) else { return nil }
            let words = text.split(separator: ":")
            guard words.count == 2, let point = Failpoint(rawValue: String(words[0])), let pass = Int(words[1])
            else { fatalError("PEYVAND_FAILPOINT is \(text); it should be like beforeCommit:3.") }
            return (point, pass)
        }()
    #endif
}

#if FAULT_INJECTION
    /// Visits of the point that was ordered. The one writer counts; what else does is a command by itself.
    private nonisolated(unsafe) var passes = 0
#endif
