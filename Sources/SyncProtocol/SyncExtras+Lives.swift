import Causality

// What the greeting says about lives. Tags 20 to 29.

extension SyncExtras {
    private enum Tag {
        static let formerLife: UInt16 = 20
        static let acceptedTime: UInt16 = 21
    }

    /// In a welcome: the child is an older copy of itself, and takes a new origin number before anything else;
    /// a sentence that says why.
    package var formerLife: String? {
        get { self[Tag.formerLife].map { String(decoding: $0.prefix(1024), as: UTF8.self) } }
        set { self[Tag.formerLife] = newValue.map { Array($0.utf8.prefix(1024)) } }
    }

    /// In a welcome: the time of the last change set that the hub has of the child. Copies of one node differ in
    /// it when one of them has corrected its clock and the other has not.
    package var acceptedTime: HybridTimestamp? {
        get {
            guard let bytes = self[Tag.acceptedTime] else { return nil }
            return bytes.withUnsafeBytes { buffer in
                var reader = ByteReader(buffer)
                return (try? reader.fixed64()).flatMap(HybridTimestamp.init(packed:))
            }
        }
        set {
            self[Tag.acceptedTime] = newValue.map { time in
                var writer = ByteWriter(capacity: 8)
                writer.fixed64(time.packed)
                return writer.bytes
            }
        }
    }
}
