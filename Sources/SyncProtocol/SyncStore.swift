import Causality

/// Why a store could not do what a session asked.
package enum SyncStoreFailure: Error, Hashable, Sendable {
    /// The peer must be told; it is the peer's state or data that is wrong.
    case refused(Refusal)
    /// This node is in trouble (disk full, I/O error, locked): the peer comes back later. The sentence
    /// goes to this node's log and to the peer, so it holds no customer data.
    case unavailable(String)
}

extension SyncStoreFailure: CustomStringConvertible {
    package var description: String {
        switch self {
        case .refused(let refusal): refusal.sentence
        case .unavailable(let sentence): sentence
        }
    }
}

/// The node at the other end, as the session knows it after the greeting.
package struct SyncPeer: Hashable, Sendable {
    package var node: UniqueID
    package var origin: Origin

    package init(node: UniqueID, origin: Origin) {
        self.node = node
        self.origin = origin
    }
}

/// How far the hub's clock is ahead of this node's, measured with four timestamps.
///
/// - Source: RFC 5905, section 8.
package struct ClockMeasurement: Hashable, Sendable {
    /// The hub's time minus this node's.
    package var offsetMilliseconds: Int64
    /// How long the question was on the way, there and back: the offset is right to half of it.
    package var roundTripMilliseconds: Int64

    package init(offsetMilliseconds: Int64, roundTripMilliseconds: Int64) {
        self.offsetMilliseconds = offsetMilliseconds
        self.roundTripMilliseconds = roundTripMilliseconds
    }
}

/// What a session wants to have of this node's log.
package enum ReadRequest: Hashable, Sendable {
    /// A child's own change sets with a greater `seq`.
    case own(afterSeq: UInt64, bytesMax: Int, entriesMax: Int)
    /// A hub's log after a position, with stubs for the reader's own change sets.
    case log(afterPosition: UInt64, for: Origin, bytesMax: Int, entriesMax: Int)
}

/// A piece of this node's log on its way out.
package struct OutgoingBatch: Hashable, Sendable {
    /// No entries when there is nothing after the place that was asked for.
    package var batch: ChangeBatch
    /// Change sets in it that are not stubs.
    package var changeSets: Int
    /// Rows in them.
    package var rows: Int
    /// Whether nothing followed the last entry when this was read.
    package var isAtEnd: Bool

    package init(batch: ChangeBatch, changeSets: Int, rows: Int, isAtEnd: Bool) {
        self.batch = batch
        self.changeSets = changeSets
        self.rows = rows
        self.isAtEnd = isAtEnd
    }
}

/// What a store has made durable.
package struct ApplyOutcome: Hashable, Sendable {
    /// How far the peer's stream is durable here now.
    package enum Durable: Hashable, Sendable {
        /// At a child: the hub's log.
        case position(LogPrefix)
        /// At a hub: the child's own work, with the first 8 bytes of its chain.
        case seq(UInt64, chain: UInt64)
    }

    package var durable: Durable
    /// Change sets of other origins that are new here.
    package var changeSets: Int
    /// Rows in them.
    package var rows: Int
    /// Losing writes that were listed.
    package var conflicts: Int
    /// Rows that could not be applied and wait.
    package var parked: Int

    package init(durable: Durable, changeSets: Int, rows: Int, conflicts: Int, parked: Int) {
        self.durable = durable
        self.changeSets = changeSets
        self.rows = rows
        self.conflicts = conflicts
        self.parked = parked
    }
}

/// What a session learned about its peer, for `status` and `fleet`.
package enum SyncFact: Hashable, Sendable {
    /// At a hub: the child has taken the log up to here, durably. Often; may be written lazily.
    case childAcknowledged(LogPrefix)
    /// At a child: the hub has its work up to here, durably. The chain is the hub's.
    case hubAccepted(seq: UInt64, chain: UInt64)
    /// At a child: the hub's log ends here.
    case hubEnd(LogPrefix)
    /// At both: whether the tables were equal when both knew the same.
    case compared(isEqual: Bool, at: LogPrefix)
    /// At a child: the hub cannot take what this node wrote under its present origin number.
    case lifeRefused(Refusal)
    /// At both: so many bytes went over the line since this was last told.
    case traffic(sentBytes: Int, receivedBytes: Int)
    /// At a child: the hub does not know it; the next hello shows its voucher. The peer is the child itself.
    case forgotten
    /// At a child: the hub did not let it in. The peer is the child itself.
    case turnedAway(Refusal)
    /// At both: the session is over.
    case ended(SyncFailure?)
}

/// What a node can do for a session. The one implementation over SQLite is in `ReplicaStore`.
///
/// All functions except ``nowMilliseconds()`` and ``observeCommits(_:)`` may block; they are called on
/// threads made for that, never on an event loop. For one session, at most one read runs at a time, and
/// beside it at most one of the others. Different sessions call at the same time.
package protocol SyncStore: Sendable {
    /// The wall clock in milliseconds since 1970-01-01 UTC. Must not block.
    func nowMilliseconds() -> UInt64

    /// Calls back after every commit that lengthens the log, on any thread, until the function it
    /// returns is called. The callback returns at once. Must not block on a running transaction.
    func observeCommits(_ callback: @escaping @Sendable () -> Void) -> @Sendable () -> Void

    /// At a child: what this node says of itself, after sealing foreign writes.
    func childFacts() throws(SyncStoreFailure) -> Hello

    /// At a child: checks the answer of the hub (node, chain, end), notes the clock, corrects what may be
    /// corrected, and says what comes next. Nothing is sent or accepted before it says ``SyncStep/goOn``.
    ///
    /// - Throws: ``SyncStoreFailure/refused(_:)`` when this node must not go on with that hub.
    func adoptWelcome(_ welcome: Welcome, clock: ClockMeasurement) throws(SyncStoreFailure) -> SyncStep

    /// At a child: takes the hub's answer to a question, and says what comes next.
    func take(_ answer: SyncAnswer, to question: SyncQuestion) throws(SyncStoreFailure) -> SyncStep

    /// At a child: says whether there is anything to ask now. Asked once on each occasion.
    func consult(on occasion: SyncOccasion) throws(SyncStoreFailure) -> SyncStep

    /// At a hub: answers a child's question.
    func answer(_ question: SyncQuestion, from peer: SyncPeer) throws(SyncStoreFailure) -> SyncAnswer

    /// At a hub: lets a new node in, or says why not. The same node and key again gets the same answer.
    func decideJoin(_ join: Join) throws(SyncStoreFailure) -> Joined

    /// At a hub: lets a child in, or says why not. May be called twice for one hello: when an older session
    /// of the node had to end first.
    func decideWelcome(
        _ hello: Hello,
        receivedAtMilliseconds: UInt64
    ) throws(SyncStoreFailure) -> Welcome

    /// At a child: own change sets after `afterSeq`, in order. A batch ends before it exceeds a maximum. A change
    /// set whose body alone exceeds it is ``ChangeEntry/large(time:_:)``, alone in its batch. `firstPosition` is 0
    /// and `end` empty.
    func readOwn(
        afterSeq: UInt64,
        bytesMax: Int,
        entriesMax: Int
    ) throws(SyncStoreFailure) -> OutgoingBatch

    /// At a hub: the log after a position, in order, under the same rules. The change sets of `reader` are
    /// stubs.
    func readLog(
        afterPosition: UInt64,
        for reader: Origin,
        bytesMax: Int,
        entriesMax: Int
    ) throws(SyncStoreFailure) -> OutgoingBatch

    /// Reads a part of a large body that ``readOwn(afterSeq:bytesMax:entriesMax:)`` or
    /// ``readLog(afterPosition:for:bytesMax:entriesMax:)`` has named; at least one byte.
    func readPart(_ request: PartRequest) throws(SyncStoreFailure) -> [UInt8]

    /// Gets ready to take a large body in parts.
    ///
    /// - Returns: How many of its first bytes are here already; all, if the change set itself is held.
    func openSpool(for body: LargeBody, from peer: SyncPeer) throws(SyncStoreFailure) -> Int

    /// Keeps the next part of a large body. When it is the last one, all of it is checked against its hash.
    ///
    /// - Returns: How many of its first bytes are here now.
    func spool(
        _ part: [UInt8],
        at offset: Int,
        of body: LargeBody,
        from peer: SyncPeer
    ) throws(SyncStoreFailure) -> Int

    /// Takes batches, in order, in as few transactions as is wise, and returns after the last COMMIT. The
    /// end of the last batch is then durable: that is what the outcome says. What is already held is
    /// skipped.
    ///
    /// - Throws: When not all could be taken. What was committed stays, and the peer is told nothing.
    func apply(_ batches: [ChangeBatch], from peer: SyncPeer) throws(SyncStoreFailure) -> ApplyOutcome

    /// The root of the tables, if this node stands at just that knowledge: its hub's log (at a hub: its
    /// own) ends or is taken up to `prefix`, and the last change set of the child is `child`, with
    /// nothing beyond it. Nil otherwise.
    func currentRoot(at prefix: LogPrefix, child: ChangeSetID) throws(SyncStoreFailure) -> DatabaseRoot?

    /// Notes what a session learned. Losing one in a power cut does no harm.
    func record(_ fact: SyncFact, of peer: SyncPeer) throws(SyncStoreFailure)
}
