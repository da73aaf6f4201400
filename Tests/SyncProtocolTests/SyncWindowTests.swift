import Causality
import TestKit
import Testing

@testable import SyncProtocol

@Suite("How much is sent at once")
struct SyncWindowTests {
    private static let limits: SyncLimits = {
        var limits = SyncLimits()
        limits.firstBatchBytes = 100
        limits.batchBytesMax = 350
        limits.partBytesMax = 350
        return limits
    }()

    private func batch(_ seq: UInt64) -> OutgoingBatch {
        let body = ChangeBody(isCompressed: false, bytes: [1])
        let entry = ChangeEntry.changeSet(time: .zero, body: body)
        return OutgoingBatch(
            batch: ChangeBatch(firstPosition: 0, entries: [entry], end: .empty),
            changeSets: 1,
            rows: 1,
            isAtEnd: false
        )
    }

    @Test("A session begins with small batches; each that arrives doubles the next, up to the largest")
    func batches() {
        var window = OutgoingWindow(after: .seq(0), hasMore: true, limits: Self.limits)
        var sizes = [window.batchBytes]
        for seq in UInt64(1)...3 {
            window.readStarted()
            _ = window.readEnded(batch(seq))
            // Nothing grows by being sent.
            #expect(window.batchBytes == sizes.last)
            let done = window.acknowledge(.seq(seq))
            #expect(done != nil)
            sizes.append(window.batchBytes)
        }
        #expect(sizes == [100, 200, 350, 350])
    }

    @Test("A large change set begins with small parts, and goes on with them after a cut where it was")
    func parts() throws {
        let body = LargeBody(
            id: ChangeSetID(origin: .child, seq: 1),
            byteCount: 2_000,
            hash: [UInt8](repeating: 1, count: LargeBody.hashByteCount)
        )
        let named = ChangeBatch(firstPosition: 0, entries: [.large(time: .zero, body)], end: .empty)
        var upload = try #require(Upload(named))
        do {
            let isTaken = upload.peerHolds(150)
            #expect(isTaken)
        }
        var asked: [PartRequest] = []
        var held = 150
        while let part = upload.nextPart(Self.limits) {
            asked.append(part)
            let count = min(part.bytesMax, body.byteCount - part.offset)
            let start = upload.wasRead(count)
            #expect(start == part.offset)
            held += count
            do {
                let isTaken = upload.peerHolds(held)
                #expect(isTaken)
            }
        }
        #expect(asked.map(\.offset) == [150, 250, 450, 800, 1_150, 1_500, 1_850])
        #expect(asked.map(\.bytesMax) == [100, 200, 350, 350, 350, 350, 350])
        #expect(upload.isHeld)
    }

    @Test("The peer takes every part that a sender may have on the way", arguments: [1, 3])
    func partsInFlight(acknowledged: Int) throws {
        let body = LargeBody(
            id: ChangeSetID(origin: .child, seq: 1),
            byteCount: 20_000,
            hash: [UInt8](repeating: 1, count: LargeBody.hashByteCount)
        )
        var upload = try #require(
            Upload(ChangeBatch(firstPosition: 0, entries: [.large(time: .zero, body)], end: .empty))
        )
        var download = Download(body)
        do {
            let isTaken = upload.peerHolds(0)
            #expect(isTaken)
        }
        download.holds(0)
        var sent = 0
        for round in 0...acknowledged {
            if round > 0 {
                do {
                    let isTaken = upload.peerHolds(sent)
                    #expect(isTaken)
                }
                download.holds(sent)
            }
            while let part = upload.nextPart(Self.limits) {
                let start = upload.wasRead(part.bytesMax)
                #expect(start == part.offset)
                let isTaken = download.receive(offset: UInt64(part.offset), count: part.bytesMax, Self.limits)
                #expect(isTaken)
                sent += part.bytesMax
            }
        }
    }
}
