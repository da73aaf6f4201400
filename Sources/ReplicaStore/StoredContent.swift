import Foundation
import SyncProtocol

/// The bytes of a change set as a log row holds them, and as they travel.
///
/// The first byte tells what they are: a zstd frame begins with 0x28, plain content with its format, 1 or a little
/// more. What an erasure has left begins with 0x52; then come 32 bytes of chain and 64 of head office's signature (zeros
/// until it has given it), because the content no longer proves where it belongs; then one of the other two.
struct StoredContent {
    /// Content, or a zstd frame of it.
    let stored: ArraySlice<UInt8>
    /// When rows of it were erased: what stands for its chain.
    let redaction: Redaction?

    static let redactedFirstByte: UInt8 = 0x52
    private static let headBytes = 1 + ChangeChain.byteCount + Redaction.signatureBytes

    /// Nil when the bytes end too early.
    init?(_ bytes: [UInt8]) {
        guard let first = bytes.first else { return nil }
        guard first == Self.redactedFirstByte else {
            stored = bytes[...]
            redaction = nil
            return
        }
        guard bytes.count > Self.headBytes,
            let chain = ChangeChain(bytes: Array(bytes[1...ChangeChain.byteCount]))
        else { return nil }
        stored = bytes[Self.headBytes...]
        redaction = Redaction(chain: chain, signature: Array(bytes[(1 + ChangeChain.byteCount)..<Self.headBytes]))
    }

    /// Whether the bytes are what an erasure has left, and head office has not signed that yet.
    static func isUnsigned(_ bytes: Data) -> Bool {
        guard bytes.first == redactedFirstByte else { return false }
        return StoredContent([UInt8](bytes.prefix(headBytes + 1)))?.redaction?.isSigned != true
    }

    var isCompressed: Bool { stored.first == Replica.zstdFirstByte }

    /// The content.
    ///
    /// - Throws: ``SyncProtocol/ZstdFailure``.
    func content(_ decompressor: ZstdDecompressor) throws -> [UInt8] {
        guard isCompressed else { return Array(stored) }
        return try stored.withUnsafeBytes { try decompressor.decompress($0, sizeMax: ChangeSet.contentBytesMax) }
    }

    /// The stored form of what an erasure has left.
    static func redacted(_ stored: [UInt8], _ redaction: Redaction) -> [UInt8] {
        [redactedFirstByte] + redaction.chain.bytes + redaction.signature + stored
    }
}
