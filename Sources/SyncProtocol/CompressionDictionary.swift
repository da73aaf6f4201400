import CZstd

/// What small blocks of rows have in common, so that a change set of one row need not say it again: the form of its
/// blocks, and words that customers' records are full of.
///
/// A frame names the dictionary that it was made with (RFC 8878, section 3.1.1.1.3), and logs keep frames for years. So
/// each dictionary that was ever in use stays, with its number, and a better one comes beside it. They are
/// trained by `scripts/train-dictionary` on invented rows, and hold no data of anybody.
///
/// Never changed once made; any thread may compress and decompress with it.
package final class CompressionDictionary: Sendable {
    /// By number.
    package static let all = Dictionary(
        uniqueKeysWithValues: [CompressionDictionary(firstDictionary)].map { ($0.number, $0) }
    )
    /// The one that new blocks are made with.
    package static let newest = all.values.max { $0.number < $1.number }
    /// Of larger blocks the beginning serves as their dictionary.
    package static let contentBytesMax = 1 << 14
    /// Greater than what zstd reserves for dictionaries that are registered.
    package static let firstNumber: UInt32 = 0x7065_0001

    package let number: UInt32
    nonisolated(unsafe) let compressing: OpaquePointer
    nonisolated(unsafe) let decompressing: OpaquePointer

    /// - Parameter hexadecimal: The dictionary as zstd's trainer made it; line breaks do not count.
    private init(_ hexadecimal: StaticString) {
        var bytes: [UInt8] = []
        var high: UInt8?
        hexadecimal.withUTF8Buffer { digits in
            bytes.reserveCapacity(digits.count / 2)
            for digit in digits where digit != UInt8(ascii: "\n") {
                let value = digit <= UInt8(ascii: "9") ? digit - UInt8(ascii: "0") : digit - UInt8(ascii: "a") + 10
                if let first = high { bytes.append(first << 4 | value) }
                high = high == nil ? value : nil
            }
        }
        number = ZSTD_getDictID_fromDict(bytes, bytes.count)
        guard number != 0, let compressing = ZSTD_createCDict(bytes, bytes.count, ZSTD_defaultCLevel()),
            let decompressing = ZSTD_createDDict(bytes, bytes.count)
        else { preconditionFailure("The dictionary for compression is none, or there is no memory for it") }
        (self.compressing, self.decompressing) = (compressing, decompressing)
    }

    deinit {
        ZSTD_freeCDict(compressing)
        ZSTD_freeDDict(decompressing)
    }
}
