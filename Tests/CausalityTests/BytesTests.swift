import Testing

@testable import Causality

@Suite("Numbers as bytes")
struct BytesTests {
    @Test(
        "Every number is read as it was written",
        arguments: [0, 1, 127, 128, 16_383, 16_384, 1 << 62, 1 << 63, .max]
    )
    func roundTrip(number: UInt64) throws {
        var writer = ByteWriter()
        writer.varint(number)
        #expect(writer.bytes.count == number.varintCount)
        #expect(try read(writer.bytes) == number)
    }

    @Test(
        "A number in a longer form than it needs is refused: the same content would have two hashes",
        arguments: [
            [0x80, 0x00], [0xB5, 0x00], [0xFF, 0x80, 0x00],
            [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
        ]
    )
    func longerForm(bytes: [UInt8]) {
        #expect(throws: MalformedBytes.numberTooLong(offset: 0)) { try read(bytes) }
    }

    @Test("A number beyond 64 bits is refused", arguments: [2, 0x7F, 0x80] as [UInt8])
    func tooLarge(last: UInt8) {
        #expect(throws: MalformedBytes.numberTooLong(offset: 0)) {
            try read([UInt8](repeating: 0xFF, count: 9) + [last, 1])
        }
    }

    private func read(_ bytes: [UInt8]) throws -> UInt64 {
        try bytes.withUnsafeBytes { buffer in
            var reader = ByteReader(buffer)
            return try reader.varint()
        }
    }
}
