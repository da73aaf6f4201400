import Causality

extension SyncExtras {
    private static let safePositionTag: UInt16 = 70
    private static let leaseDaysTag: UInt16 = 71
    private static let historyDaysTag: UInt16 = 72
    private static let daysMax: UInt64 = 100_000

    /// In a welcome: the hub's log is in a verified backup up to here.
    package var safePosition: UInt64? {
        get { number(Self.safePositionTag, max: UInt64(Int64.max)) }
        set { self[Self.safePositionTag] = newValue.map(Self.bytes) }
    }

    /// In a welcome: for how many more days of its own life the hub keeps what the child lacks.
    package var leaseDays: UInt64? {
        get { number(Self.leaseDaysTag, max: Self.daysMax) }
        set { self[Self.leaseDaysTag] = newValue.map(Self.bytes) }
    }

    /// In a welcome: for how many days the organisation keeps what was changed by whom.
    package var historyDays: UInt64? {
        get { number(Self.historyDaysTag, max: Self.daysMax) }
        set { self[Self.historyDaysTag] = newValue.map(Self.bytes) }
    }

    private func number(_ tag: UInt16, max: UInt64) -> UInt64? {
        self[tag].flatMap { bytes in
            bytes.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                return try? reader.varint(max: max)
            }
        }
    }

    private static func bytes(_ number: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.varint(number)
        return writer.bytes
    }
}
