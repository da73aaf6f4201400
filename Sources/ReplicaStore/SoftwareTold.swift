import SyncProtocol

// The name and version of the program stay the same for months, so a branch tells them once.

extension ReplicaWriter {
    /// Whether head office has heard, in a session that came to its end, what program this is.
    func hasToldSoftware() throws -> Bool { try fact(.softwareTold) == Self.softwareNumber }

    /// Text as a number: FNV-1a.
    fileprivate static let softwareNumber = Int64(
        bitPattern: Replica.software.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
    )
}

extension Replica {
    /// A step of the consultation: what the hello said has arrived.
    func noteSoftwareTold(_ occasion: ConsultationOccasion) throws -> SyncStep {
        guard case .during = occasion else { return .goOn }
        try withWriter { writer in
            guard try !writer.hasToldSoftware() else { return }
            try writer.transaction { try writer.note(.softwareTold, ReplicaWriter.softwareNumber) }
        }
        return .goOn
    }
}
