extension SyncExtras {
    private static let untrustedClockTag: UInt16 = 10

    /// In a welcome: whether the hub takes its own clock to be right. If not, nobody corrects times by it.
    package var isClockTrusted: Bool {
        get { self[Self.untrustedClockTag] == nil }
        set { self[Self.untrustedClockTag] = newValue ? nil : [] }
    }
}
