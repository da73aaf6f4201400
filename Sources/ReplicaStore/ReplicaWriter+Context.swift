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

    /// Whether a change set that this node holds at `position` of its log was seen.
    func contains(_ other: ChangeSetID, at position: UInt64) -> Bool {
        if other.origin == id.origin { return other.seq < id.seq }
        if position <= self.position { return true }
        return lives.contains { $0.origin == other.origin && other.seq <= $0.seq }
    }
}

extension ReplicaWriter {
    /// Checks that this node knows what a change set's writer had seen.
    ///
    /// - Throws: ``Refusal`` when it names a log that is not this one.
    func checkContext(of set: IncomingChangeSet, from source: ChangeSource) throws -> SeenChangeSets {
        let header = set.reader.header
        var position: UInt64 = 0
        // A branch takes what its hub has judged.
        if source.position == nil {
            for prefix in header.context.hubs {
                guard try digest(at: prefix.position) == prefix.digest else {
                    throw Refusal(
                        .invalidChange,
                        "Change set \(header.id) was written after position \(prefix.position) of a log that is "
                            + "not this one."
                    )
                }
                position = max(position, prefix.position)
            }
        }
        return SeenChangeSets(id: header.id, lives: header.context.lives, position: position)
    }
}
