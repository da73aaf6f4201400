extension SyncExtras {
    private static let keyWantedTag: UInt16 = 60
    private static let organisationKeyTag: UInt16 = 61
    private static let organisationKeyBytes = 32

    /// In a hello: the child does not know head office's public key yet.
    package var wantsOrganisationKey: Bool {
        get { self[Self.keyWantedTag] != nil }
        set { self[Self.keyWantedTag] = newValue ? [] : nil }
    }

    /// In a welcome: head office's public key, 32 bytes (Ed25519). Anything of another length is nil.
    package var organisationKey: [UInt8]? {
        get { self[Self.organisationKeyTag].flatMap { $0.count == Self.organisationKeyBytes ? $0 : nil } }
        set { self[Self.organisationKeyTag] = newValue }
    }
}
