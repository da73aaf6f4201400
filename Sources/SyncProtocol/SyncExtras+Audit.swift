import Causality

extension SyncExtras {
    /// How far an audit log reaches: its last entry, and the hash of all entries up to it.
    package struct AuditHead: Hashable, Sendable {
        package static let hashBytes = 32

        package let number: UInt64
        /// 32 bytes.
        package let hash: [UInt8]

        package init(number: UInt64, hash: [UInt8]) {
            self.number = number
            self.hash = hash
        }
    }

    private static let auditHeadTag: UInt16 = 80
    private static let auditHeadsKeptTag: UInt16 = 81
    private static let auditHeadsMax = 8

    /// How far the sender's audit log reaches.
    package var auditHead: AuditHead? {
        get { self[Self.auditHeadTag].flatMap { Self.auditHeads($0).first } }
        set { self[Self.auditHeadTag] = newValue.map { Self.bytes([$0]) } }
    }

    /// How far the receiver's audit log reached when the sender heard of it; what cannot be read counts as nothing.
    package var auditHeadsKept: [AuditHead] {
        get { self[Self.auditHeadsKeptTag].map(Self.auditHeads) ?? [] }
        set { self[Self.auditHeadsKeptTag] = newValue.isEmpty ? nil : Self.bytes(newValue) }
    }

    private static func bytes(_ heads: [AuditHead]) -> [UInt8] {
        var writer = ByteWriter()
        for head in heads.prefix(auditHeadsMax) {
            writer.varint(head.number)
            writer.sized(head.hash)
        }
        return writer.bytes
    }

    private static func auditHeads(_ bytes: [UInt8]) -> [AuditHead] {
        bytes.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            var heads: [AuditHead] = []
            while reader.remaining > 0, heads.count < auditHeadsMax {
                guard let number = try? reader.varint(max: UInt64(Int64.max)),
                    let hash = try? reader.sized(max: AuditHead.hashBytes), hash.count == AuditHead.hashBytes
                else { return [] }
                heads.append(AuditHead(number: number, hash: [UInt8](hash)))
            }
            return heads
        }
    }
}
