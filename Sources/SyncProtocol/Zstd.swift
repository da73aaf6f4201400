import CZstd

/// Why bytes could not be decompressed.
package enum ZstdFailure: Error, Hashable, Sendable {
    case notAFrame
    case sizeUnknown
    case tooLarge(UInt64, limit: Int)
    case damaged(String)
    case unknownDictionary(UInt32)
}

extension ZstdFailure: CustomStringConvertible {
    package var description: String {
        switch self {
        case .notAFrame: "The compressed block is not a zstd frame."
        case .sizeUnknown: "The compressed block does not say how large it is."
        case .tooLarge(let size, let limit):
            "The compressed block announces \(size) bytes; at most \(limit) are accepted here."
        case .damaged(let reason): "The compressed block is damaged (\(reason))."
        case .unknownDictionary(let number):
            "The compressed block was made with dictionary \(number), which this version does not have. Upgrade this node."
        }
    }
}

/// The largest window that a compressed block may ask a receiver to keep: 4 MiB.
private let windowLogMax = SyncLimits.compressionWindowLogMax

/// Compresses blocks with zstd. Owned by one caller at a time; it keeps its working memory.
package final class ZstdCompressor {
    private let context: OpaquePointer

    package init() {
        guard let context = ZSTD_createCCtx() else { preconditionFailure("No memory for zstd") }
        self.context = context
    }

    deinit { ZSTD_freeCCtx(context) }

    /// Returns one frame that names its decompressed size, and the dictionary if it was made with one: small blocks are.
    package func compress(_ bytes: [UInt8]) -> [UInt8] {
        let bound = ZSTD_compressBound(bytes.count)
        return [UInt8](unsafeUninitializedCapacity: bound) { output, count in
            // The level comes with the dictionary, and is zstd's own without.
            let dictionary = bytes.count <= CompressionDictionary.contentBytesMax ? CompressionDictionary.newest : nil
            precondition(ZSTD_isError(ZSTD_CCtx_refCDict(context, dictionary?.compressing)) == 0, "No dictionary")
            count = bytes.withUnsafeBytes { input in
                ZSTD_compress2(context, output.baseAddress, bound, input.baseAddress, input.count)
            }
            // The output has the size zstd asked for, so only a bug can make this fail.
            precondition(ZSTD_isError(count) == 0, "zstd refused to compress")
        }
    }
}

/// Decompresses blocks from peers and files. Owned by one caller at a time.
package final class ZstdDecompressor {
    private let context: OpaquePointer

    package init() {
        guard let context = ZSTD_createDCtx() else { preconditionFailure("No memory for zstd") }
        self.context = context
        ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, windowLogMax)
    }

    deinit { ZSTD_freeDCtx(context) }

    /// Decompresses one frame.
    ///
    /// The announced size is checked against `sizeMax` before anything is allocated, and the output has
    /// just that size, so a lying frame fails instead of growing.
    package func decompress(
        _ frame: UnsafeRawBufferPointer,
        sizeMax: Int
    ) throws(ZstdFailure) -> [UInt8] {
        let size = try announcedSize(of: frame, sizeMax: sizeMax)
        var failure: ZstdFailure?
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { output, count in
            let output = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(output)[0..<size])
            do throws(ZstdFailure) {
                try decompress(frame, into: output)
                count = size
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// The size that a frame announces, at most `sizeMax`. Nothing is decompressed.
    package func announcedSize(of frame: UnsafeRawBufferPointer, sizeMax: Int) throws(ZstdFailure) -> Int {
        let announced = ZSTD_getFrameContentSize(frame.baseAddress, frame.count)
        if announced == UInt64.max - 1 { throw .notAFrame }
        if announced == UInt64.max { throw .sizeUnknown }
        guard announced <= UInt64(sizeMax) else { throw .tooLarge(announced, limit: sizeMax) }
        return Int(announced)
    }

    /// Decompresses one frame into memory of just its announced size. It may have been made with any dictionary that was
    /// ever in use.
    package func decompress(
        _ frame: UnsafeRawBufferPointer,
        into output: UnsafeMutableRawBufferPointer
    ) throws(ZstdFailure) {
        let number = ZSTD_getDictID_fromFrame(frame.baseAddress, frame.count)
        let dictionary = CompressionDictionary.all[number]
        guard number == 0 || dictionary != nil else { throw .unknownDictionary(number) }
        precondition(ZSTD_isError(ZSTD_DCtx_refDDict(context, dictionary?.decompressing)) == 0, "No dictionary")
        let count = ZSTD_decompressDCtx(context, output.baseAddress, output.count, frame.baseAddress, frame.count)
        if ZSTD_isError(count) != 0 { throw .damaged(String(cString: ZSTD_getErrorName(count))) }
        guard count == output.count else { throw .damaged("shorter than announced") }
    }
}
