import Causality
import Crypto

/// The hash chain over everything one life has written: it proves that two nodes mean the same history.
///
/// `chain(n) = SHA-256(chain(n - 1) || content(n))`, with 32 zero bytes before the first. The content
/// leaves out the time, so that a clock may be corrected before the change set has left home.
package struct ChangeChain: Hashable, Sendable {
    /// 32 bytes.
    package let bytes: [UInt8]

    /// The chain of a life that has written nothing.
    package static let empty = ChangeChain(unchecked: [UInt8](repeating: 0, count: byteCount))
    package static let byteCount = 32

    /// Reads a stored chain; nil unless it has 32 bytes.
    package init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        self.init(unchecked: bytes)
    }

    private init(unchecked bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// The chain after one more change set.
    package func appending(content: UnsafeRawBufferPointer) -> ChangeChain {
        var hash = SHA256()
        hash.update(data: bytes)
        hash.update(bufferPointer: content)
        return ChangeChain(unchecked: [UInt8](hash.finalize()))
    }

    /// The first 8 bytes, little-endian: enough to notice that two chains differ by accident.
    package var prefix: UInt64 { firstEight(of: bytes) }
}

extension LogPrefix {
    /// The prefix that ends with one more change set.
    package func appending(_ id: ChangeSetID, chain: ChangeChain) -> LogPrefix {
        var writer = ByteWriter(capacity: 64)
        writer.fixed64(digest)
        writer.fixed64(UInt64(id.origin.rawValue))
        writer.fixed64(id.seq)
        writer.raw(chain.bytes)
        return LogPrefix(
            position: position + 1,
            digest: firstEight(of: [UInt8](SHA256.hash(data: writer.bytes)))
        )
    }
}

private func firstEight(of bytes: [UInt8]) -> UInt64 {
    bytes.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
}

extension ChangeChain {
    /// The first 8 bytes of a SHA-256: a checksum against accidents.
    package static func checksum(of bytes: UnsafeRawBufferPointer) -> UInt64 {
        var hash = SHA256()
        hash.update(bufferPointer: bytes)
        return firstEight(of: [UInt8](hash.finalize()))
    }
}
