import Dispatch
import SyncProtocol
import Synchronization

/// Pieces of snapshots that are read before they are asked for: while a child joins one, its hub reads the next.
///
/// However old a piece is when it goes out, it is right: what was written since the snapshot began comes by the log
/// again. Used from any thread.
final class SnapshotReadAhead: Sendable {
    /// Pieces that are kept, of all children; each has about a megabyte. Whoever does not find his waits a little longer.
    private static let piecesMax = 4

    private struct Pieces {
        /// Under way or ready, the oldest first.
        var places: [SnapshotPlace] = []
        var ready: [SnapshotPlace: SnapshotPiece] = [:]
    }

    private let queue = DispatchQueue(label: "peyvand.snapshot")
    private let pieces = Mutex(Pieces())

    /// Begins to read the piece at a place, unless that was done. What cannot be read is left to whoever asks for it.
    func begin(at place: SnapshotPlace, read: @escaping @Sendable () throws -> SnapshotPiece) {
        let isNew = pieces.withLock { pieces in
            guard !pieces.places.contains(place) else { return false }
            pieces.places.append(place)
            if pieces.places.count > Self.piecesMax { pieces.ready[pieces.places.removeFirst()] = nil }
            return true
        }
        guard isNew else { return }
        queue.async {
            guard self.pieces.withLock({ $0.places.contains(place) }) else { return }
            let piece = try? read()
            self.pieces.withLock { pieces in
                if pieces.places.contains(place) { pieces.ready[place] = piece }
            }
        }
    }

    /// Hands over the piece at a place, once; waits if it is being read. Nil when nobody reads it.
    func take(at place: SnapshotPlace) -> SnapshotPiece? {
        guard pieces.withLock({ $0.places.contains(place) }) else { return nil }
        queue.sync {}
        return pieces.withLock { pieces in
            pieces.places.removeAll { $0 == place }
            return pieces.ready.removeValue(forKey: place)
        }
    }

    /// Waits until nothing is being read, and forgets everything. Before the database is closed.
    func end() {
        pieces.withLock { $0 = Pieces() }
        queue.sync {}
    }
}
