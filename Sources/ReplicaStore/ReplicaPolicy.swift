/// What the people of an organisation decide about its replicas, and bounds that tests make smaller.
package struct ReplicaPolicy: Sendable {
    /// For how many days of its own life head office keeps what an absent node lacks.
    package var leaseDays: UInt64 = 90
    /// For how many days it is kept who changed what.
    package var historyDays: UInt64 = 90
    /// Fewer rows than this always come by the log.
    package var snapshotRowsMin: UInt64 = 20_000
    /// The bytes of values in one piece of a snapshot, before compression.
    package var snapshotPieceBytes = 2 << 20
    /// Whether a piece of a snapshot is read while the child joins the one before.
    package var readsSnapshotAhead = true

    package init() {}
}

extension Replica {
    /// Sets what the organisation has decided; counts from the next session.
    package func adopt(_ change: (inout ReplicaPolicy) -> Void) {
        policy.withLock { change(&$0) }
    }
}
