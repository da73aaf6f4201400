import Causality
import TestKit
import Testing

@testable import SyncProtocol

@Suite("Sync messages")
struct SyncMessageTests {
    @Test("What is sent is what arrives", arguments: SyncMessage.samples)
    func roundTrip(message: SyncMessage) throws {
        let codec = SyncMessageCodec()
        #expect(try codec.decode(codec.encode(message)) == message)
    }

    @Test("Every refusal code arrives as itself")
    func refusalCodes() {
        for number in UInt16(1)...40 {
            #expect(Refusal.Code(number: number).number == number)
        }
        #expect(Refusal.Code(number: 1) == .unknownNode)
        #expect(Refusal.Code(number: 13) == .internalFailure)
        #expect(Refusal.Code(number: 14) == .clockAhead)
        #expect(Refusal.Code(number: 15) == .clockBehind)
        #expect(Refusal.Code(number: 16) == .alreadyHave)
        #expect(Refusal.Code(number: 17) == .certificateExpired)
        #expect(Refusal.Code(number: 20) == .paused)
        #expect(Refusal.Code(number: 1000) == .other(1000))
    }

    @Test("A greeting of a newer peer with more fields can be read", arguments: SyncMessage.samples.prefix(10))
    func newerGreeting(message: SyncMessage) throws {
        let codec = SyncMessageCodec()
        var framed = codec.encode(message)
        framed.payload += [1, 2, 3]
        #expect(try codec.decode(framed) == message)
    }

    @Test("Bytes after the end of any other message are refused", arguments: SyncMessage.samples.dropFirst(10))
    func leftOver(message: SyncMessage) {
        let codec = SyncMessageCodec()
        var framed = codec.encode(message)
        framed.payload += [0]
        #expect(throws: SyncWireFailure.self) { try codec.decode(framed) }
    }

    @Test("A message that was cut short is refused", arguments: SyncMessage.samples)
    func cut(message: SyncMessage) {
        let codec = SyncMessageCodec()
        let framed = codec.encode(message)
        for count in framed.payload.indices {
            let part = FramedMessage(type: framed.type, payload: [UInt8](framed.payload[..<count]))
            #expect(throws: SyncWireFailure.self) { try codec.decode(part) }
        }
    }

    @Test("A message of an unknown type is refused with its number")
    func unknownType() {
        #expect(throws: SyncWireFailure.unknownType(99)) {
            try SyncMessageCodec().decode(FramedMessage(type: 99, payload: []))
        }
    }

    @Test("A long sentence is cut between two characters when it is sent")
    func longSentence() throws {
        let codec = SyncMessageCodec()
        let limit = SyncLimits.standard.sentenceBytesMax
        for extra in -1...1 {
            let sentence = "x" + String(repeating: "م", count: limit / 2 + extra)
            let arrived = try codec.decode(codec.encode(.bye(reason: sentence)))
            guard case .bye(let reason) = arrived else {
                Issue.record("Not a bye")
                return
            }
            #expect(sentence.hasPrefix(reason) && reason.utf8.count <= limit)
            #expect(reason.utf8.count >= min(limit - 1, sentence.utf8.count))
        }
    }

    @Test("A sentence at the limit arrives, one byte more is refused", arguments: [-1, 0, 1])
    func sentenceLimit(extra: Int) throws {
        let limit = SyncLimits.standard.sentenceBytesMax
        var writer = ByteWriter()
        // In words.
        writer.byte(0)
        writer.sized([UInt8](repeating: 65, count: limit + extra))
        let framed = FramedMessage(type: MessageType.bye.rawValue, payload: writer.bytes)
        if extra <= 0 {
            _ = try SyncMessageCodec().decode(framed)
        } else {
            #expect(throws: SyncWireFailure.self) { try SyncMessageCodec().decode(framed) }
        }
    }

    @Test("A batch at the limit of entries arrives, one more is refused", arguments: [-1, 0, 1])
    func entriesLimit(extra: Int) throws {
        let limit = SyncLimits.standard.batchEntriesMax
        let entry = ChangeEntry.stub(ChangeSetID(origin: .child, seq: 1))
        let batch = ChangeBatch(
            firstPosition: 1,
            entries: [ChangeEntry](repeating: entry, count: limit + extra),
            end: .sample(1)
        )
        let codec = SyncMessageCodec()
        let framed = codec.encode(.changes(batch))
        if extra <= 0 {
            #expect(try codec.decode(framed) == .changes(batch))
        } else {
            #expect(throws: SyncWireFailure.self) { try codec.decode(framed) }
        }
    }

    @Test("Plain bodies travel compressed, compressed ones as they are")
    func compression() {
        let codec = SyncMessageCodec()
        let text = String(repeating: "customer ", count: 500)
        let entries: [ChangeEntry] = [.sample(text)]
        let plain = codec.encode(.changes(ChangeBatch(firstPosition: 0, entries: entries, end: .empty)))
        #expect(plain.payload.count < 200)
        let packed: [ChangeEntry] = [.sample(text, isCompressed: true)]
        let asItIs = codec.encode(.changes(ChangeBatch(firstPosition: 0, entries: packed, end: .empty)))
        #expect(asItIs.payload.count > 4_500)
    }

    @Test("A batch that compression would not shrink travels plain")
    func incompressible() throws {
        var random = SeededRandom(seed: 5)
        let bytes = (0..<1_000).map { _ in UInt8.random(in: 0...255, using: &random) }
        let entry = ChangeEntry.changeSet(time: .zero, body: ChangeBody(isCompressed: false, bytes: bytes))
        let batch = ChangeBatch(firstPosition: 0, entries: [entry], end: .empty)
        let codec = SyncMessageCodec()
        let framed = codec.encode(.changes(batch))
        #expect(framed.payload.first == 0)
        #expect(try codec.decode(framed) == .changes(batch))
    }

    @Test("A batch that shrinks a thousandfold still arrives")
    func extremeRatio() throws {
        let zeros = [UInt8](repeating: 0, count: 1 << 20)
        let entry = ChangeEntry.changeSet(time: .zero, body: ChangeBody(isCompressed: false, bytes: zeros))
        let batch = ChangeBatch(firstPosition: 0, entries: [entry], end: .empty)
        let codec = SyncMessageCodec()
        #expect(try codec.decode(codec.encode(.changes(batch))) == .changes(batch))
    }

    @Test("A decompression bomb is refused before it is opened")
    func bomb() {
        let bomb = ZstdCompressor().compress([UInt8](repeating: 0, count: 16 << 20))
        let framed = FramedMessage(type: MessageType.changes.rawValue, payload: [1] + bomb)
        #expect {
            try SyncMessageCodec().decode(framed)
        } throws: { error in
            guard case .compressed("changes", .tooLarge)? = error as? SyncWireFailure else { return false }
            return true
        }
    }

    @Test("The largest part fills a frame, one byte more is refused", arguments: [-1, 0, 1])
    func largestPart(extra: Int) throws {
        let limits = SyncLimits.standard
        let bytes = [UInt8](repeating: 7, count: limits.partBytesMax + extra)
        let message = SyncMessage.part(offset: UInt64(ChangeSet.contentBytesMax), bytes)
        let codec = SyncMessageCodec()
        let framed = codec.encode(message)
        if extra <= 0 {
            #expect(framed.frameCount() == 1)
            #expect(framed.frames().count <= limits.frameBytesMax)
            #expect(try codec.decode(framed) == message)
        } else {
            #expect(throws: SyncWireFailure.self) { try codec.decode(framed) }
        }
    }

    @Test("The largest batch arrives whole, in more than one frame if it must")
    func largestBatch() throws {
        var random = SeededRandom(seed: 3)
        let bytes = (0..<SyncLimits.standard.batchBytesMax).map { _ in UInt8.random(in: 0...255, using: &random) }
        let entry = ChangeEntry.changeSet(time: .zero, body: ChangeBody(isCompressed: true, bytes: bytes))
        let batch = ChangeBatch(firstPosition: 0, entries: [entry], end: .empty)
        let codec = SyncMessageCodec()
        let framed = codec.encode(.changes(batch))
        var decoder = FrameDecoder()
        decoder.trustPeer()
        var arrived: FramedMessage?
        for index in 0..<framed.frameCount() {
            let frame = framed.frame(index)
            #expect(frame.header.count + frame.payload.count <= SyncLimits.standard.frameBytesMax)
            decoder.feed(frame.header)
            decoder.feed(frame.payload)
            arrived = try decoder.next()
        }
        #expect(arrived == framed)
        #expect(try codec.decode(framed) == .changes(batch))
    }

    @Test("A large body that is empty, or larger than a change set may be, is refused")
    func largeBodyLimits() {
        let codec = SyncMessageCodec()
        for count in [0, ChangeSet.contentBytesMax + 1] {
            let body = LargeBody(id: ChangeSetID(origin: .child, seq: 1), byteCount: count, hash: LargeBody.sample.hash)
            #expect(throws: SyncWireFailure.self) { try codec.decode(codec.encode(.offer(body))) }
        }
    }

    @Test("Random bytes are refused or read, and never stop the process")
    func randomBytes() {
        let seed = testSeed("random messages")
        var random = SeededRandom(seed: seed)
        let codec = SyncMessageCodec()
        for _ in 0..<10_000 {
            let type = UInt8.random(in: 0...19, using: &random)
            let count = Int.random(in: 0...200, using: &random)
            let payload = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            expectHarmless(FramedMessage(type: type, payload: payload), codec, seed: seed)
        }
    }

    @Test("Damaged messages are refused or read, and never stop the process")
    func mutatedBytes() {
        let seed = testSeed("damaged messages")
        var random = SeededRandom(seed: seed)
        let codec = SyncMessageCodec()
        for _ in 0..<1_000 {
            for message in SyncMessage.samples {
                var framed = codec.encode(message)
                for _ in 0...Int.random(in: 0...3, using: &random) where !framed.payload.isEmpty {
                    let index = framed.payload.indices.randomElement(using: &random) ?? 0
                    switch Int.random(in: 0...3, using: &random) {
                    case 0: framed.payload[index] ^= 1 << UInt8.random(in: 0...7, using: &random)
                    case 1: framed.payload[index] = [0, 0x7F, 0x80, 0xFF].randomElement(using: &random) ?? 0
                    case 2: framed.payload.remove(at: index)
                    default: framed.payload.insert(0xFF, at: index)
                    }
                }
                expectHarmless(framed, codec, seed: seed)
            }
        }
    }

    /// Whatever can be read can be written, and read again as the same.
    private func expectHarmless(_ framed: FramedMessage, _ codec: SyncMessageCodec, seed: UInt64) {
        do throws(SyncWireFailure) {
            let message = try codec.decode(framed)
            let again = try codec.decode(codec.encode(message))
            #expect(again == message, "seed \(seed)")
        } catch {
            #expect(!error.description.isEmpty, "seed \(seed)")
        }
    }
}
