import Causality
import SyncProtocol
import Synchronization
import Testing

@testable import ReplicaStore

@Suite("Pieces of snapshots read ahead")
struct SnapshotReadAheadTests {
    private let readAhead = SnapshotReadAhead()

    @Test("A piece is read once, however often that is begun, and handed over once")
    func once() {
        let reads = Mutex(0)
        for _ in 0..<3 {
            readAhead.begin(at: Self.place(7)) {
                reads.withLock { $0 += 1 }
                return Self.piece(7)
            }
        }
        #expect(readAhead.take(at: Self.place(8)) == nil)
        #expect(readAhead.take(at: Self.place(7)) == Self.piece(7))
        #expect(readAhead.take(at: Self.place(7)) == nil)
        #expect(reads.withLock { $0 } == 1)
    }

    @Test("Of many children the newest few pieces are kept")
    func bounded() {
        for number in 1...9 { readAhead.begin(at: Self.place(Int64(number))) { Self.piece(Int64(number)) } }
        #expect((1...9).map { readAhead.take(at: Self.place($0)) } == (1...9).map { $0 < 6 ? nil : Self.piece($0) })
    }

    @Test("What could not be read is read by whoever asks for it, who then hears why it fails")
    func failing() {
        readAhead.begin(at: Self.place(1)) { throw Refusal(.invalidChange, "unreadable") }
        #expect(readAhead.take(at: Self.place(1)) == nil)
    }

    @Test("After the end nothing is handed over")
    func ended() {
        readAhead.begin(at: Self.place(1)) { Self.piece(1) }
        readAhead.end()
        #expect(readAhead.take(at: Self.place(1)) == nil)
    }

    private static func place(_ afterID: Int64) -> SnapshotPlace {
        SnapshotPlace(start: .empty, table: 1, afterID: afterID)
    }

    private static func piece(_ lastID: Int64) -> SnapshotPiece {
        .rows(lastID: lastID, isTableEnd: false, states: [1])
    }
}
