import Causality

// What a child and a hub say in their greeting about logs that the hub has lost, and about nodes that it has
// forgotten.

extension Hello {
    /// The last own change set that the child can send now. Less than ``ownSeq`` while later ones name a
    /// prefix of a lost log that the hub does not know all of yet.
    package var offeredSeq: UInt64 { min(ownSeq, extras.offered?.seq ?? ownSeq) }
}

extension SyncExtras {
    private static let keptPrefixesTag: UInt16 = 30
    private static let offeredTag: UInt16 = 31
    private static let voucherTag: UInt16 = 32
    private static let voucherHeldTag: UInt16 = 33
    private static let lostTag: UInt16 = 34
    /// More lost logs than this no child keeps.
    package static let keptPrefixesMax = 32
    private static let voucherBytesMax = 8192

    /// In a hello: the ends of lost logs of the hub's that the child had taken, newest first.
    package var keptPrefixes: [LogPrefix] {
        get {
            guard let bytes = self[Self.keptPrefixesTag] else { return [] }
            return bytes.withUnsafeBytes { buffer in
                var reader = ByteReader(buffer)
                guard
                    let prefixes = try? reader.prefixes(max: Self.keptPrefixesMax),
                    reader.remaining == 0
                else { return [] }
                return prefixes
            }
        }
        set {
            var writer = ByteWriter()
            writer.write(newValue.prefix(Self.keptPrefixesMax))
            self[Self.keptPrefixesTag] = newValue.isEmpty ? nil : writer.bytes
        }
    }

    /// In a hello: the child has just offered all it could of the lost logs.
    package var offered: OfferedLogs? {
        get {
            self[Self.offeredTag]?.withUnsafeBytes { buffer in
                var reader = ByteReader(buffer)
                guard let seq = try? reader.varint(), let end = try? reader.prefixes(max: 1).first else { return nil }
                return OfferedLogs(seq: seq, hubEnd: end)
            }
        }
        set {
            self[Self.offeredTag] = newValue.map { offered in
                var writer = ByteWriter()
                writer.varint(offered.seq)
                writer.write([offered.hubEnd])
                return writer.bytes
            }
        }
    }

    /// In a welcome: a statement of head office's that lets this child in again if head office forgets it. In a
    /// hello: that statement.
    package var voucher: [UInt8]? {
        get { self[Self.voucherTag].flatMap { $0.count <= Self.voucherBytesMax ? $0 : nil } }
        set { self[Self.voucherTag] = newValue }
    }

    /// In a hello: the child has a voucher for its present number.
    package var holdsVoucher: Bool {
        get { self[Self.voucherHeldTag] != nil }
        set { self[Self.voucherHeldTag] = newValue ? [] : nil }
    }

    /// In a welcome: the hub's log is not the one that the child has taken.
    package var lost: LostLog? {
        get { self[Self.lostTag].flatMap { $0.first }.map { LostLog(isCursorLost: $0 & 1 != 0) } }
        set { self[Self.lostTag] = newValue.map { [$0.isCursorLost ? 3 : 2] } }
    }
}

/// A child has offered all it could of a hub's lost logs, and comes back.
package struct OfferedLogs: Hashable, Sendable {
    /// Own change sets beyond this one wait: they name what the hub could not take yet.
    package var seq: UInt64
    /// Where the hub's log ended then. A hub that does not have it is another one.
    package var hubEnd: LogPrefix

    package init(seq: UInt64, hubEnd: LogPrefix) {
        self.seq = seq
        self.hubEnd = hubEnd
    }
}

/// What a hub lacks of what a child has shown.
package struct LostLog: Hashable, Sendable {
    /// The child's cursor is not in the hub's log. If it is, only change sets under kept prefixes are missing.
    package var isCursorLost: Bool

    package init(isCursorLost: Bool) {
        self.isCursorLost = isCursorLost
    }
}

extension ByteWriter {
    /// Appends a count, then each prefix: position, digest.
    package mutating func write(_ prefixes: some Collection<LogPrefix>) {
        varint(UInt64(prefixes.count))
        for prefix in prefixes {
            varint(prefix.position)
            fixed64(prefix.digest)
        }
    }
}

extension ByteReader {
    /// Reads what ``ByteWriter/write(_:)`` writes.
    package mutating func prefixes(max: Int) throws(MalformedBytes) -> [LogPrefix] {
        var prefixes: [LogPrefix] = []
        for _ in 0..<(try count(bytesEach: 9, max: max)) {
            prefixes.append(LogPrefix(position: try varint(), digest: try fixed64()))
        }
        return prefixes
    }
}
