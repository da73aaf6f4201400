import Causality
import SyncProtocol

extension ReplicaWriter {
    /// Checks that a change set's time may be accepted here.
    func checkTime(of set: IncomingChangeSet, from source: ChangeSource) throws {}
}
