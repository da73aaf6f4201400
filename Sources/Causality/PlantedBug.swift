#if FAULT_INJECTION
    import Synchronization
#endif

/// A mistake that somebody might make in this product, made on purpose: a simulator that does not notice it is too
/// weak.
///
/// Only debug builds have them, nothing but the simulator switches one on, and one at a time. Each stands where it
/// would be made: look for its name.
package enum PlantedBug: String, CaseIterable, Sendable {
    // What is durable.
    /// A peer is told that a batch is durable here when it has arrived.
    case acknowledgeBeforeCommit
    /// The disk is not waited for at the end of each transaction.
    case normalForFull
    /// A commit that fails counts as one.
    case failedCommitIgnored
    /// The cursor and the clock are written after the transaction that moves them.
    case cursorInSecondTransaction
    /// What the writer keeps in memory stays as it was when a transaction is rolled back.
    case memoryKeptAfterRollback
    /// A file of an old format is brought to the present one in two transactions.
    case twoStepMigration

    // Who wrote what.
    /// The version vector in the file is one behind.
    case vectorOffByOne
    /// A change set may come before the one that precedes it.
    case gapAccepted
    /// Whoever continues the count of an origin is believed to continue its history.
    case previousChainUnchecked
    /// A branch may send what another has written.
    case originUnchecked
    /// A branch may make rows with numbers of another.
    case rowNumberUnchecked
    /// What a branch may write is checked by the branch alone.
    case rightsCheckedAtSender
    /// A branch may claim to have seen what nobody has sent it.
    case contextUnchecked

    // Copies.
    /// What tells a copy from its original is copied with it.
    case fenceInDatabase
    /// A restored head office goes on under its old number.
    case restoredKeepsNumber
    /// What a copy wrote after the fork is let go of.
    case tailDropped
    /// Rows that a former life has written stay as it wrote them.
    case rowsOfFormerLifeKept

    // Time.
    /// A node's clock is not moved by what it accepts.
    case clockBeforeCausality
    /// The logical clock begins anew with each start of the program.
    case hybridClockUnsaved
    /// Times are corrected also when others know them already.
    case correctedAfterLeavingHome
    /// Head office takes a time before that of what its writer had seen.
    case clockBehindAccepted
    /// Head office takes a time of any year to come.
    case clockAheadAccepted
    /// Head office refuses what is later than its clock also when its own log is.
    case limitWithoutCausality

    // Merging.
    /// Of two writes at the same time the one that arrives later wins.
    case tieByArrival
    /// A deleted row takes no edits any more.
    case deadRowIgnoresUpdates
    /// A write to a row that is not in its table makes it, wherever else the row may be.
    case insertFirst
    /// The sums of a table do not learn that a row has come back.
    case digestForgetsRevival
    /// An erased row is gone, and so is the knowledge that it was erased.
    case erasedRevived
    /// The search index keeps what was erased.
    case erasureLeavesIndex
    /// The log keeps what was erased.
    case erasureLeavesLog

    // Conflicts.
    /// A value that loses is not listed.
    case loserDropped
    /// A value that loses is listed again whenever its row is looked at.
    case conflictTwice
    /// What somebody has answered by writing again stays on the list.
    case conflictNeverAnswered
    /// A delete counts as having seen all that it deletes.
    case deletionSeesAll

    // Large and old things.
    /// A snapshot takes the place of the log.
    case snapshotReplacesLog
    /// A snapshot has the rows that live, and no others.
    case snapshotWithoutDeleted
    /// Old bodies of the log go, whoever lacks them.
    case trimmedByAge
    /// A body goes although a row of it waits.
    case parkedBodyTrimmed
    /// A row that cannot be applied is left out.
    case parkedDropped

    /// Whether this build has them.
    package static var areBuilt: Bool {
        #if FAULT_INJECTION
            true
        #else
            false
        #endif
    }
}

#if FAULT_INJECTION
    private let activeNumber = Atomic<Int>(-1)
    private let all = PlantedBug.allCases
#endif

extension PlantedBug {
    /// The mistake that all nodes of this process make now; never any in a build without them.
    package static var active: PlantedBug? {
        get {
            #if FAULT_INJECTION
                let number = activeNumber.load(ordering: .relaxed)
                return number < 0 ? nil : all[number]
            #else
                nil
            #endif
        }
        set {
            #if FAULT_INJECTION
                activeNumber.store(newValue.flatMap(all.firstIndex) ?? -1, ordering: .relaxed)
            #endif
        }
    }
}

/// Whether a mistake is to be made here.
package func isPlanted(_ bug: PlantedBug) -> Bool {
    #if FAULT_INJECTION
        let number = activeNumber.load(ordering: .relaxed)
        return number >= 0 && all[number] == bug
    #else
        false
    #endif
}
