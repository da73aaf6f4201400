import Causality
import TestKit

@testable import SyncProtocol

/// Makes out of a lawful message one that no node of ours would send, or one that says something else.
struct FrameMutator {
    let tape: FrameTape
    private let compressor = ZstdCompressor()
    /// zstd frames that announce too much, too little, nothing, or more than they are worth.
    private let bombs: [[UInt8]]

    /// Numbers at which something ends: of bytes, of bits, of a limit.
    private static let edges: [UInt64] = {
        let limits = SyncLimits.standard
        let sizes = [
            limits.frameBytesMax, limits.messageBytesMax, limits.unauthenticatedBytesMax, limits.partBytesMax,
            limits.batchEntriesMax, limits.nameBytesMax, limits.sentenceBytesMax, limits.ratioFreeBytesMax,
            ChangeSet.contentBytesMax, ChangeSet.textBytesMax, ChangeSet.blobBytesMax, 64, 127, 4096, 40_000, 65_535,
        ].flatMap { [UInt64($0) - 1, UInt64($0), UInt64($0) + 1] }
        let powers = [7, 14, 16, 21, 28, 31, 32, 47, 48, 53, 62, 63].flatMap {
            [(UInt64(1) << $0) - 1, UInt64(1) << $0, (UInt64(1) << $0) + 1]
        }
        return [0, 1, 2, 3, .max - 1, .max] + sizes + powers
    }()

    private static let badTexts: [[UInt8]] = [
        [0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x80], [0x80], [0xD9],
        [0xF0, 0x9F, 0x98], [0x00], [0x1B, 0x5B, 0x32, 0x4A], [0xE2, 0x80, 0xAE], [],
    ]

    init(_ tape: FrameTape) {
        self.tape = tape
        let compressor = ZstdCompressor()
        let zeros = compressor.compress([UInt8](repeating: 0, count: 60 << 10))
        var lies: [[UInt8]] = [
            zeros, compressor.compress([UInt8](repeating: 0, count: 300 << 10)), compressor.compress([]),
            [0x28, 0xB5, 0x2F, 0xFD], Array(zeros.dropLast()), zeros + zeros, zeros + [0],
            // A frame that can be skipped, one without a size, and one with a window of 128 MiB.
            [0x50, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, 9], [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58, 0x01, 0, 0],
            [0x28, 0xB5, 0x2F, 0xFD, 0x80, 0x88, 0xFF, 0xFF, 0x00, 0x00, 0x01, 0, 0],
        ]
        // The size stands in bytes 5 and on; what follows does not make it true.
        for size in [UInt64(0), 1, 65_535, 1 << 20, 64 << 20, (64 << 20) + 1, 1 << 31, 1 << 63, .max] {
            var writer = ByteWriter()
            writer.raw([0x28, 0xB5, 0x2F, 0xFD, 0xE0])
            writer.fixed64(size)
            writer.raw([0x01, 0, 0])
            lies.append(writer.bytes)
        }
        bombs = lies
    }

    // MARK: Payloads

    /// A changed copy of what somebody was sent.
    func mutated(_ arrival: FrameTape.Arrival, _ random: inout SeededRandom) -> FramedMessage {
        var message = arrival.message
        let layout = arrival.layout
        switch random.below(24) {
        case 0..<7: number(layout, &message.payload, &random)
        case 7: field(layout, &message.payload, &random)
        case 8, 9: splice(layout, &message.payload, &random)
        case 10, 11: item(layout, &message.payload, &random)
        case 12: text(layout, &message.payload, &random)
        case 13: message.payload = Array(message.payload.prefix(random.below(message.payload.count + 1)))
        case 14: tail(&message.payload, &random)
        case 15: join(&message.payload, &random)
        case 16: message.type = UInt8(random.oneIn(4) ? random.below(128) : 1 + random.below(18))
        case 17: pack(&message, layout, &random)
        default:
            for _ in 0...random.below(3) { byte(&message.payload, &random) }
        }
        if random.oneIn(6) { byte(&message.payload, &random) }
        return message
    }

    private func byte(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
        guard !bytes.isEmpty else { return bytes.append(UInt8(random.below(256))) }
        // What decides about the rest stands in front.
        let place = random.oneIn(2) ? random.below(min(bytes.count, 48)) : random.below(bytes.count)
        switch random.below(6) {
        case 0: bytes[place] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)]
        case 1: bytes[place] = UInt8(random.below(256))
        case 2: bytes.insert(UInt8(random.below(256)), at: place)
        case 3: bytes.remove(at: place)
        default: bytes[place] ^= 1 << UInt8(random.below(8))
        }
    }

    private func varint(_ former: UInt64, _ random: inout SeededRandom) -> [UInt8] {
        var writer = ByteWriter(capacity: 12)
        switch random.below(10) {
        case 0: writer.varint(former &+ 1)
        case 1: writer.varint(former &- 1)
        case 2: writer.varint(random.next() >> UInt64(random.below(64)))
        case 3:
            // Longer than need be.
            writer.varint(former | 1 << 63)
            var bytes = writer.bytes
            bytes[9] = former >> 63 == 1 ? 1 : 0
            return bytes
        case 4: return [UInt8](repeating: 0xFF, count: 1 + random.below(11)) + [UInt8(random.below(3))]
        default: writer.varint(Self.edges[random.below(Self.edges.count)])
        }
        return writer.bytes
    }

    private func number(_ layout: Layout, _ bytes: inout [UInt8], _ random: inout SeededRandom) {
        guard let field = pick(layout.fields, &random) else { return byte(&bytes, &random) }
        guard field.kind == .number else {
            guard field.start < field.end else { return byte(&bytes, &random) }
            // Of plain bytes, another value as long.
            let place = field.start + random.below(min(field.end - field.start, 16))
            bytes[place] = [0, 0xFF, 0x7F, 0x80, bytes[place] &+ 1, bytes[place] ^ 1][random.below(6)]
            let content = bytes[field.start..<field.end]
            return layout.replace(field.start..<field.end, of: &bytes, with: Array(content), wrap: field.wrap)
        }
        let new = varint(Layout.number(in: bytes, at: field.start), &random)
        layout.replace(field.start..<field.end, of: &bytes, with: new, wrap: random.oneIn(8) ? -1 : field.wrap)
    }

    private func field(_ layout: Layout, _ bytes: inout [UInt8], _ random: inout SeededRandom) {
        guard let field = pick(layout.fields, &random) else { return byte(&bytes, &random) }
        let content = Array(bytes[field.start..<field.end])
        let new: [UInt8] =
            switch random.below(4) {
            case 0: []
            case 1: content + content
            case 2: Array(content.prefix(random.below(content.count + 1)))
            default: Array(content.reversed())
            }
        layout.replace(field.start..<field.end, of: &bytes, with: new, wrap: random.oneIn(8) ? -1 : field.wrap)
    }

    /// Puts a field of another message in the place of one of this.
    private func splice(_ layout: Layout, _ bytes: inout [UInt8], _ random: inout SeededRandom) {
        let other = tape.arrivals[random.below(tape.arrivals.count)]
        let isItem = random.oneIn(3) && !layout.items.isEmpty && !other.layout.items.isEmpty
        guard let field = pick(isItem ? layout.items : layout.fields, &random),
            let new = pick(isItem ? other.layout.items : other.layout.fields, &random)
        else { return byte(&bytes, &random) }
        let content = other.message.payload[new.start..<new.end]
        guard content.count <= 8192 else { return byte(&bytes, &random) }
        layout.replace(field.start..<field.end, of: &bytes, with: content, wrap: random.oneIn(8) ? -1 : field.wrap)
    }

    /// Items once more, gone, or in another order, with and without the count that fits.
    private func item(_ layout: Layout, _ bytes: inout [UInt8], _ random: inout SeededRandom) {
        guard let item = pick(layout.items, &random) else { return number(layout, &bytes, &random) }
        let content = Array(bytes[item.start..<item.end])
        let isTold = !random.oneIn(4)
        switch random.below(4) {
        case 0:
            layout.replace(item.start..<item.end, of: &bytes, with: [], wrap: item.wrap, countBy: isTold ? -1 : 0)
        case 1:
            let place = item.end..<item.end
            layout.replace(place, of: &bytes, with: content, wrap: item.wrap, countBy: isTold ? 1 : 0)
        case 2:
            let copies = min(1 + random.below(40), 16_384 / max(content.count, 1))
            let place = item.end..<item.end
            let new = Array(repeatElement(content, count: copies).joined())
            layout.replace(place, of: &bytes, with: new, wrap: item.wrap, countBy: isTold ? copies : 0)
        default:
            // The one behind it, before it.
            guard let other = layout.items.first(where: { $0.start == item.end && $0.wrap == item.wrap }) else {
                return number(layout, &bytes, &random)
            }
            let swapped = Array(bytes[other.start..<other.end]) + content
            layout.replace(item.start..<other.end, of: &bytes, with: swapped, wrap: item.wrap)
        }
    }

    private func text(_ layout: Layout, _ bytes: inout [UInt8], _ random: inout SeededRandom) {
        guard let field = pick(layout.texts, &random) else { return number(layout, &bytes, &random) }
        var new = Array(bytes[field.start..<field.end])
        if random.oneIn(8) {
            let edge = [255, 256, 257, 1023, 1024, 1025][random.below(6)]
            new = Array(repeatElement(UInt8(ascii: "x"), count: edge))
        } else {
            let bad = Self.badTexts[random.below(Self.badTexts.count)]
            new.insert(contentsOf: bad, at: random.below(new.count + 1))
        }
        layout.replace(field.start..<field.end, of: &bytes, with: new, wrap: random.oneIn(8) ? -1 : field.wrap)
    }

    private func tail(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
        for _ in 0...random.below(12) { bytes.append(UInt8(random.below(256))) }
    }

    /// The beginning of one message, and the end of another.
    private func join(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
        let other = tape.arrivals[random.below(tape.arrivals.count)].message.payload
        guard other.count <= 8192 else { return tail(&bytes, &random) }
        bytes = Array(bytes.prefix(random.below(bytes.count + 1))) + other.suffix(random.below(other.count + 1))
    }

    /// What is compressed: damaged before it is compressed, or put in a frame that lies.
    private func pack(_ message: inout FramedMessage, _ layout: Layout, _ random: inout SeededRandom) {
        let isBatch = message.type == 6
        switch random.below(4) {
        case 0 where isBatch:
            message.payload = [1] + bombs[random.below(bombs.count)]
        case 1 where isBatch && message.payload.first == 0 && message.payload.count <= 16_384:
            number(layout, &message.payload, &random)
            message.payload = [1] + compressor.compress(Array(message.payload.dropFirst()))
        default:
            // In the place of a body.
            guard let field = pick(layout.fields.filter { $0.end - $0.start > 8 }, &random) else {
                return byte(&message.payload, &random)
            }
            let bomb = bombs[random.below(bombs.count)]
            layout.replace(field.start..<field.end, of: &message.payload, with: bomb, wrap: field.wrap)
        }
    }

    private func pick(_ fields: [Layout.Field], _ random: inout SeededRandom) -> Layout.Field? {
        fields.isEmpty ? nil : fields[random.below(fields.count)]
    }

    // MARK: Frames

    /// Cuts a message into frames as nobody must, and says how many they are.
    ///
    /// - Parameter isWhole: Leaves the frames as they should be.
    func frame(
        _ message: FramedMessage,
        isWhole: Bool,
        into line: inout [UInt8],
        _ random: inout SeededRandom
    ) -> Int {
        let payload = message.payload
        let type = message.type & 0x7F
        guard !isWhole else {
            append(type, payload[...], &line)
            return 1
        }
        switch random.below(16) {
        case 0:
            // In pieces of any size, an empty one among them, or one of another type.
            var start = 0
            var count = 0
            repeat {
                let size = min(payload.count - start, random.below(max(payload.count / 2, 2) + 1))
                let isLast = start + size == payload.count && !random.oneIn(16)
                let other = random.oneIn(40) ? UInt8(1 + random.below(18)) : type
                append(isLast ? other : other | 0x80, payload[start..<start + size], &line)
                start += size
                count += 1
                if isLast { break }
            } while count < 24
            return count
        case 1:
            let start = line.count
            append(type, payload[...], &line)
            // Anywhere, and nobody mends the checksum.
            line[start + random.below(line.count - start)] ^= 1 << UInt8(random.below(8))
            return 1
        case 2:
            append(type, payload[...], &line)
            append(type, payload[...], &line)
            return 2
        case 3:
            // A length that lies, with a checksum that says so too.
            var header = ByteWriter()
            header.raw(varint(UInt64(payload.count), &random))
            header.byte(random.oneIn(4) ? type | 0x80 : type)
            line += header.bytes + FrameFormat.checksum(of: header.bytes, payload[...]) + payload
            return 1
        case 4:
            let start = line.count
            append(type, payload[...], &line)
            line.removeLast(random.below(line.count - start))
            return 1
        default:
            append(type, payload[...], &line)
            return 1
        }
    }

    private func append(_ type: UInt8, _ payload: ArraySlice<UInt8>, _ line: inout [UInt8]) {
        var writer = ByteWriter(capacity: FrameFormat.headerBytesMax)
        writer.varint(UInt64(payload.count))
        writer.byte(type)
        line += writer.bytes
        line += FrameFormat.checksum(of: writer.bytes, payload)
        line += payload
    }
}
