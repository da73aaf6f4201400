import Causality
import TestKit
import Testing

@testable import SyncProtocol

@Suite("Frames")
struct SyncFrameTests {
    private static let limits: SyncLimits = {
        var limits = SyncLimits()
        limits.frameBytesMax = 108
        limits.messageBytesMax = 1_000
        limits.unauthenticatedBytesMax = 50
        return limits
    }()

    private func messages(
        in bytes: [UInt8],
        step: Int,
        isTrusted: Bool = true
    ) throws(SyncWireFailure) -> [FramedMessage] {
        var decoder = FrameDecoder(limits: Self.limits)
        if isTrusted { decoder.trustPeer() }
        var messages: [FramedMessage] = []
        for start in stride(from: 0, to: bytes.count, by: step) {
            decoder.feed(bytes[start..<min(start + step, bytes.count)])
            while let message = try decoder.next() { messages.append(message) }
        }
        return messages
    }

    @Test("Messages arrive however the line chops them", arguments: [1, 2, 3, 7, 64, 5_000])
    func chopped(step: Int) throws {
        let sent = [0, 1, 99, 100, 101, 200, 201, 999, 1_000].map { count in
            FramedMessage(type: 6, payload: (0..<count).map { UInt8(truncatingIfNeeded: $0) })
        }
        let bytes = sent.flatMap { $0.frames(limits: Self.limits) }
        #expect(try messages(in: bytes, step: step) == sent)
    }

    @Test("A frame at the limit is read, one byte more is refused at its length", arguments: [-1, 0, 1])
    func frameLimit(extra: Int) throws {
        let length = 100 + extra
        let header = [UInt8(length)]
        if extra <= 0 {
            let message = FramedMessage(type: 11, payload: [UInt8](repeating: 0, count: length))
            let bytes = message.frames(limits: Self.limits)
            #expect(try messages(in: bytes, step: 1).count == 1)
        } else {
            #expect(throws: SyncWireFailure.frameTooLarge(bytes: 101, limit: 100)) {
                try messages(in: header, step: 1)
            }
        }
    }

    @Test("A message at the limit is read, one byte more is refused", arguments: [-1, 0, 1])
    func messageLimit(extra: Int) throws {
        let message = FramedMessage(type: 6, payload: [UInt8](repeating: 1, count: 1_000 + extra))
        let bytes = message.frames(limits: Self.limits)
        if extra <= 0 {
            #expect(try messages(in: bytes, step: 13) == [message])
        } else {
            #expect(throws: SyncWireFailure.messageTooLarge(bytes: 1_001, limit: 1_000)) {
                try messages(in: bytes, step: 13)
            }
        }
    }

    @Test("A stranger may send small messages only", arguments: [-1, 0, 1])
    func strangerLimit(extra: Int) throws {
        let message = FramedMessage(type: 3, payload: [UInt8](repeating: 1, count: 42 + extra))
        let bytes = message.frames(limits: Self.limits)
        if extra <= 0 {
            #expect(try messages(in: bytes, step: 1, isTrusted: false) == [message])
        } else {
            #expect(throws: SyncWireFailure.frameTooLarge(bytes: 43, limit: 42)) {
                try messages(in: bytes, step: 1, isTrusted: false)
            }
        }
    }

    @Test("A stranger cannot make a large message of small frames")
    func strangerSlices() {
        var small = Self.limits
        small.frameBytesMax = 49
        let bytes = FramedMessage(type: 3, payload: [UInt8](repeating: 1, count: 80)).frames(limits: small)
        #expect(throws: SyncWireFailure.messageTooLarge(bytes: 80, limit: 50)) {
            try messages(in: bytes, step: 1, isTrusted: false)
        }
    }

    @Test(
        "Lengths up to the largest 32-bit number are refused",
        arguments: [1 << 24, 1 << 31, (1 << 32) - 1]
    )
    func hugeLength(length: Int) {
        var header = ByteWriter()
        header.varint(UInt64(length))
        #expect(throws: SyncWireFailure.self) { try messages(in: header.bytes, step: 4) }
    }

    @Test("An unknown type is refused before its payload comes", arguments: [0, 99, 127] as [UInt8])
    func unknownType(type: UInt8) {
        #expect(throws: SyncWireFailure.unknownType(type)) {
            try messages(in: [9, type], step: 1)
        }
    }

    @Test("An empty frame that announces more is refused, so that nobody can send them for ever")
    func emptyFrames() {
        #expect(throws: SyncWireFailure.emptyFrame(type: 6)) {
            try messages(in: [0, 6 | 0x80], step: 1)
        }
    }

    @Test("A frame of another type inside a message is refused")
    func mixedTypes() {
        var small = Self.limits
        small.frameBytesMax = 9
        let begun = FramedMessage(type: 6, payload: [1, 1]).frames(limits: small).prefix(7)
        #expect(throws: SyncWireFailure.mixedFrames(type: 11, after: 6)) {
            try messages(in: begun + FramedMessage(type: 11, payload: [1]).frames(limits: small), step: 1)
        }
    }

    @Test("A bit that turns on the line is noticed wherever it is, and nothing of the frame is taken")
    func flippedBit() {
        let bytes = FramedMessage(type: 6, payload: [UInt8](0..<60)).frames(limits: Self.limits)
        for bit in 0..<bytes.count * 8 {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            // A longer length waits for bytes that never come; everything else is refused.
            let taken = try? messages(in: damaged, step: damaged.count)
            #expect(taken?.isEmpty ?? true)
        }
    }

    @Test("After an error the decoder only repeats it")
    func poisoned() {
        var decoder = FrameDecoder(limits: Self.limits)
        decoder.feed([0xFF, 0xFF, 0xFF, 0xFF])
        #expect(throws: SyncWireFailure.self) { try decoder.next() }
        decoder.feed(FramedMessage(type: 11, payload: [1]).frames())
        #expect(throws: SyncWireFailure.self) { try decoder.next() }
    }

    @Test("Random bytes never stop the process")
    func fuzz() {
        let seed = testSeed("random frames")
        var random = SeededRandom(seed: seed)
        let codec = SyncMessageCodec()
        let samples = SyncMessage.samples.flatMap { codec.encode($0).frames() }
        for _ in 0..<1_000 {
            var bytes = samples
            for _ in 0..<4 {
                let index = bytes.indices.randomElement(using: &random) ?? 0
                bytes[index] = UInt8.random(in: 0...255, using: &random)
            }
            var decoder = FrameDecoder()
            decoder.feed(bytes)
            do throws(SyncWireFailure) {
                while let message = try decoder.next() {
                    #expect(message.payload.count <= bytes.count, "seed \(seed)")
                }
            } catch {
                #expect(!error.description.isEmpty, "seed \(seed)")
            }
        }
    }
}
