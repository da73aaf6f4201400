/// What the doctor says of one thing that he has looked at.
struct Finding: Encodable, Hashable, Sendable {
    /// What he looked at. For scripts; permanent.
    enum Check: String, Encodable, CaseIterable, Sendable {
        case directory, permissions, database, otherPrograms, space, fileSystem, encryption, clock, openFiles
        case node, service
    }

    private enum CodingKeys: String, CodingKey { case check, state, sentence }

    let check: Check
    /// Nil when it cannot be told here.
    let state: HealthState?
    /// What is, and what to do about it.
    let sentence: String
    /// The same in Persian; JSON does not have it.
    let persian: String

    init(_ check: Check, _ state: HealthState?, _ sentence: String, _ persian: String) {
        (self.check, self.state, self.sentence, self.persian) = (check, state, sentence, persian)
    }
}
