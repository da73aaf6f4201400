import CZstd
import TestKit
import Testing

@testable import SyncProtocol

@Suite("Dictionaries for small blocks")
struct CompressionDictionaryTests {
    /// What a change set with one activity may look like: words between bytes of their own.
    private let small = Array("call\u{1}in\u{2}پیگیری پرداخت\u{7}تلفن را جواب نداد، فردا دوباره تماس بگیرید.\u{3}".utf8)

    @Test("A small block names its dictionary, and is shorter for it")
    func smallBlock() throws {
        let frame = ZstdCompressor().compress(small)
        #expect(ZSTD_getDictID_fromFrame(frame, frame.count) == CompressionDictionary.newest?.number)
        #expect(frame.count < withoutDictionary(small).count)
        #expect(try decompressed(frame) == small)
    }

    @Test("A large block needs none; one coder takes both in turn")
    func bothKinds() throws {
        let limit = CompressionDictionary.contentBytesMax
        let (compressor, decompressor) = (ZstdCompressor(), ZstdDecompressor())
        for count in [1, limit + 1, limit, 1 << 20, 0, 100] {
            let bytes = (0..<count).map { small[$0 % small.count] }
            let frame = compressor.compress(bytes)
            #expect((ZSTD_getDictID_fromFrame(frame, frame.count) == 0) == (count > limit))
            #expect(try frame.withUnsafeBytes { try decompressor.decompress($0, sizeMax: 1 << 20) } == bytes)
        }
    }

    @Test("What was compressed without a dictionary is read as before")
    func older() throws {
        #expect(try decompressed(withoutDictionary(small)) == small)
    }

    @Test("A block of a dictionary that is not here says which, and what to do")
    func unknown() throws {
        var frame = ZstdCompressor().compress(small)
        // RFC 8878, section 3.1.1.1: magic number, descriptor, and as there is no window, the number of four bytes.
        frame[5] ^= 0x40
        let number = CompressionDictionary.firstNumber ^ 0x40
        let error = #expect(throws: ZstdFailure.self) { try decompressed(frame) }
        #expect(error == .unknownDictionary(number))
        #expect(error?.description.contains("dictionary \(number)") == true)
    }

    @Test("Numbers are not those of registered dictionaries, and none is used twice")
    func numbers() {
        for dictionary in CompressionDictionary.all.values { #expect((1 << 15..<1 << 31).contains(dictionary.number)) }
        #expect(CompressionDictionary.all[CompressionDictionary.firstNumber] != nil)
    }

    private func decompressed(_ frame: [UInt8]) throws -> [UInt8] {
        try frame.withUnsafeBytes { try ZstdDecompressor().decompress($0, sizeMax: 1 << 20) }
    }

    private func withoutDictionary(_ bytes: [UInt8]) -> [UInt8] {
        var frame = [UInt8](repeating: 0, count: ZSTD_compressBound(bytes.count))
        let count = ZSTD_compress(&frame, frame.count, bytes, bytes.count, ZSTD_defaultCLevel())
        return Array(frame.prefix(count))
    }
}
