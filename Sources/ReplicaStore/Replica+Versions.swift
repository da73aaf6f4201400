import CRM
import Causality
import SyncProtocol

// What nodes of different schemas do with each other.

extension Replica {
    /// Refuses a peer whose schema is too old to be spoken to.
    ///
    /// A peer with a newer schema decides for itself.
    ///
    /// - Parameter who: The peer, as the sentence calls it.
    func checkSchema(_ version: UInt32, of who: String) throws {
        let lowest = schema.version - Schema.versionsApartMax
        guard Int(version) < lowest else { return }
        throw Refusal(
            .protocolVersion,
            "\(who) has schema \(version); this node, with schema \(schema.version), needs at least \(lowest). "
                + "Upgrade \(who) to \(Self.software) first. Nothing was exchanged, and nothing is lost.",
            retryAfterSeconds: 600
        )
    }

    /// Whether the tables of this node and a peer must be equal when both know the same. Not when they have
    /// different tables or columns, and not while rows are parked at either: `status` tells of those.
    func isComparable(peerSchema: UInt32?, peerParked: UInt64, _ writer: ReplicaWriter) -> Bool {
        peerSchema.map { Int($0) == schema.version } ?? true && peerParked == 0 && writer.parked.isEmpty
    }

    /// The same for the peer of an open session: at a hub the child of an origin, at a child its hub.
    func isComparable(withPeerOf child: Origin, _ writer: ReplicaWriter) -> Bool {
        let peer = contacts.withLock { notes in
            writer.node.role == .headOffice ? notes.schemas[child] : (notes.own.schema, 0)
        }
        return isComparable(peerSchema: peer?.schema, peerParked: peer?.parked ?? 0, writer)
    }
}
