import Causality

/// Why a hub wants a child to load a snapshot. Raw values are permanent: they travel.
package enum SnapshotReason: UInt8, Hashable, Sendable {
    /// The hub has let go of change sets that the child lacks.
    case trimmed = 1
    /// It is less work than the log.
    case cheaper = 2
    /// The child has begun to load one.
    case begun = 3
    /// The child asked for one.
    case asked = 4
}

extension SyncExtras {
    private static let reasonTag: UInt16 = 40
    private static let loadingTag: UInt16 = 41
    private static let wantedTag: UInt16 = 42

    /// In a welcome of mode ``SyncMode/handIn``: why the child loads a snapshot.
    package var snapshotReason: SnapshotReason? {
        get { self[Self.reasonTag].flatMap { $0.count == 1 ? SnapshotReason(rawValue: $0[0]) : nil } }
        set { self[Self.reasonTag] = newValue.map { [$0.rawValue] } }
    }

    /// In a hello: the place in the hub's log where the snapshot began that the child is loading.
    package var loadingSnapshot: LogPrefix? {
        get {
            self[Self.loadingTag].flatMap { bytes in
                bytes.withUnsafeBytes { bytes in
                    var reader = ByteReader(bytes)
                    return try? reader.storedPrefix()
                }
            }
        }
        set {
            self[Self.loadingTag] = newValue.map { prefix in
                var writer = ByteWriter()
                writer.varint(prefix.position)
                writer.fixed64(prefix.digest)
                return writer.bytes
            }
        }
    }

    /// In a hello: the child wants a snapshot whatever the log says.
    package var wantsSnapshot: Bool {
        get { self[Self.wantedTag] != nil }
        set { self[Self.wantedTag] = newValue ? [] : nil }
    }
}
