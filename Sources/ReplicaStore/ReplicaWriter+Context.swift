import Causality
import GRDB
import SyncProtocol

/// Which change sets the writer of another one had seen.
struct SeenChangeSets {
    /// The origin and number of the change set whose writer this is about: everything of its own before was seen.
    let id: ChangeSetID
    /// Former lives of its writer.
    let lives: [ChangeSetID]
    /// This node's log up to here was seen.
    let position: UInt64
    /// What was seen under positions of logs that this node has lost.
    var former: [ResolvedPrefix.Stretch] = []
    /// The greatest time of everything under the context.
    var timeMax = HybridTimestamp.zero
    /// Looks into former numberings; nil when there is nothing to look for.
    private let writer: ReplicaWriter?

    init(
        id: ChangeSetID,
        lives: [ChangeSetID],
        position: UInt64,
        former: [ResolvedPrefix.Stretch] = [],
        timeMax: HybridTimestamp = .zero,
        writer: ReplicaWriter? = nil
    ) {
        self.id = id
        self.lives = lives
        self.position = position
        self.former = former
        self.timeMax = timeMax
        self.writer = writer
    }

    /// Whether a change set that this node holds at `position` of its log was seen.
    func contains(_ other: ChangeSetID, at position: UInt64) throws -> Bool {
        if other.origin == id.origin { return other.seq < id.seq }
        if position <= self.position { return true }
        if lives.contains(where: { $0.origin == other.origin && other.seq <= $0.seq }) { return true }
        guard !former.isEmpty, let writer else { return false }
        return try writer.isUnder(former, other)
    }
}

extension ReplicaWriter {
    /// More prefixes than this no context names.
    private static let prefixesMax = SyncExtras.keptPrefixesMax + 1

    /// Checks that this node knows what a change set's writer had seen, and holds all of it.
    ///
    /// - Throws: ``Refusal`` when it names a log that this node neither has nor had.
    func checkContext(of set: IncomingChangeSet, from source: ChangeSource) throws -> SeenChangeSets {
        let header = set.reader.header
        // A branch takes what its hub has judged.
        guard source.position == nil else {
            return SeenChangeSets(id: header.id, lives: header.context.lives, position: 0)
        }
        var (position, timeMax) = (UInt64(0), HybridTimestamp.zero)
        var former: [ResolvedPrefix.Stretch] = []
        guard header.context.hubs.count <= Self.prefixesMax else {
            throw Refusal(.invalidChange, "Change set \(header.id) names \(header.context.hubs.count) logs.")
        }
        for prefix in header.context.hubs {
            guard let resolved = try resolve(prefix) else {
                if isPlanted(.contextUnchecked) { continue }
                throw Refusal(
                    .invalidChange,
                    "Change set \(header.id) was written after position \(prefix.position) of a log that is "
                        + "not this one."
                )
            }
            position = max(position, resolved.position)
            timeMax = max(timeMax, resolved.timeMax)
            former += resolved.former
        }
        return SeenChangeSets(
            id: header.id,
            lives: header.context.lives,
            position: position,
            former: former,
            timeMax: timeMax,
            writer: self
        )
    }

    /// Whether everything under a context is held here.
    func isHeld(_ context: CausalContext) throws -> Bool {
        try context.hubs.allSatisfy { try resolve($0) != nil }
    }
}
