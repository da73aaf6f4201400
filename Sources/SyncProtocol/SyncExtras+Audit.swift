import Causality

extension SyncExtras {
    /// How far an audit log reaches: its last entry, and how the hash of all entries up to it begins.
    package struct AuditHead: Hashable, Sendable {
        /// 96 bits: told in every session, and too many to be met by trying.
        package static let hashBytes = 12

        package let number: UInt64
        /// 12 bytes.
        package let hash: [UInt8]

        package init(number: UInt64, hash: [UInt8]) {
            self.number = number
            self.hash = hash
        }
    }

    private static let auditHeadTag: UInt16 = 80
    private static let auditHeadKeptTag: UInt16 = 81

    /// How far the sender's audit log reaches.
    package var auditHead: AuditHead? {
        get { self[Self.auditHeadTag].flatMap(Self.auditHead) }
        set { self[Self.auditHeadTag] = newValue.map(Self.bytes) }
    }

    /// How far the receiver's audit log reached when the sender last heard of it; what cannot be read counts as nothing.
    package var auditHeadKept: AuditHead? {
        get { self[Self.auditHeadKeptTag].flatMap(Self.auditHead) }
        set { self[Self.auditHeadKeptTag] = newValue.map(Self.bytes) }
    }

    private static func bytes(_ head: AuditHead) -> [UInt8] {
        var writer = ByteWriter()
        writer.varint(head.number)
        writer.raw(head.hash)
        return writer.bytes
    }

    private static func auditHead(_ bytes: [UInt8]) -> AuditHead? {
        bytes.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            guard let number = try? reader.varint(max: UInt64(Int64.max)), reader.remaining == AuditHead.hashBytes,
                let hash = try? reader.raw(AuditHead.hashBytes)
            else { return nil }
            return AuditHead(number: number, hash: [UInt8](hash))
        }
    }
}
