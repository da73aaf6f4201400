import Causality

/// 128 random bits that name a node, an organisation or an invitation.
package struct UniqueID: Hashable, Comparable, Sendable {
    /// 16 bytes.
    package let bytes: [UInt8]
    package static let byteCount = 16

    /// Reads 16 bytes; nil for any other count.
    package init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = bytes
    }

    /// The first 8 bytes.
    package var prefix: UInt64 { bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) } }

    package static func < (left: UniqueID, right: UniqueID) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }
}

extension UniqueID: CustomStringConvertible {
    package var description: String { hexadecimal(bytes) }
}

/// A key or a secret of 256 bits. Prints as dots, so that it cannot slip into a log.
package struct Key256: Hashable, Sendable {
    /// 32 bytes.
    package let bytes: [UInt8]
    package static let byteCount = 32

    /// Reads 32 bytes; nil for any other count.
    package init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        self.bytes = bytes
    }
}

extension Key256: CustomStringConvertible, CustomDebugStringConvertible {
    package var description: String { "(key)" }
    package var debugDescription: String { description }
}

private func hexadecimal(_ bytes: [UInt8]) -> String {
    bytes.reduce(into: "") { result, byte in
        result += String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
    }
}

/// What two nodes say to each other. The bytes are described in `SyncMessage+Wire.swift`.
package enum SyncMessage: Hashable, Sendable {
    /// A new node shows its invitation, before any hello.
    case join(Join)
    case joined(Joined)
    /// The child speaks first.
    case hello(Hello)
    case welcome(Welcome)
    case refuse(Refusal)
    /// Either way: a child sends its own work, a hub its log.
    case changes(ChangeBatch)
    /// Either way: a change set that is larger than a batch comes in parts.
    case offer(LargeBody)
    /// In answer to an offer, and after each part: so many of its first bytes are here.
    case held(UInt64)
    /// The next bytes of what was offered.
    case part(offset: UInt64, [UInt8])
    /// Child to hub, after COMMIT: everything up to here is durable at the child.
    case appliedPosition(LogPrefix)
    /// Hub to child, after COMMIT: the child's work up to `seq` is durable at the hub. `chain` is the
    /// first 8 bytes of its chain there.
    case appliedSeq(UInt64, chain: UInt64)
    /// Hub to child: there is no more for now.
    case caughtUp(CaughtUp)
    /// Child to hub: whether the tables of both were equal at that prefix.
    case digestResult(isEqual: Bool, at: LogPrefix)
    /// Child to hub: a question beside the stream.
    case ask(SyncQuestion)
    /// Hub to child.
    case answer(SyncAnswer)
    case ping(nonce: UInt64)
    case pong(nonce: UInt64)
    /// The last word of whoever ends the session.
    case bye(reason: String)
}

extension SyncMessage {
    /// The kind of message without what is in it, for logs.
    package var label: String {
        switch self {
        case .join: "join"
        case .joined: "joined"
        case .hello: "hello"
        case .welcome: "welcome"
        case .refuse: "refuse"
        case .changes: "changes"
        case .offer: "offer"
        case .held: "held"
        case .part: "part"
        case .appliedPosition: "appliedPosition"
        case .appliedSeq: "appliedSeq"
        case .caughtUp: "caughtUp"
        case .digestResult: "digestResult"
        case .ask: "ask"
        case .answer: "answer"
        case .ping: "ping"
        case .pong: "pong"
        case .bye: "bye"
        }
    }
}

/// A new node asks to take part.
package struct Join: Hashable, Sendable {
    /// Which invitation.
    package var tokenID: UniqueID
    /// Proves that the invitation was seen, to whoever knows its secret: HMAC-SHA256 (RFC 2104) with the SHA-256 of the
    /// secret as its key, over the hub's nonce and the SHA-256 of ``request``.
    package var proof: Key256
    /// The name the new node chose for itself.
    package var node: UniqueID
    package var nodeKey: Key256
    /// Name and version of the program.
    package var software: String
    /// The request for a certificate (RFC 2986), DER; empty where there are no certificates.
    package var request: [UInt8]
    /// What the hub gave this newcomer to prove itself with. It does not travel: the hub's end of the line fills it in.
    package var nonce: Key256?

    package init(
        tokenID: UniqueID,
        proof: Key256,
        node: UniqueID,
        nodeKey: Key256,
        software: String,
        request: [UInt8] = []
    ) {
        self.tokenID = tokenID
        self.proof = proof
        self.node = node
        self.nodeKey = nodeKey
        self.software = software
        self.request = request
    }
}

/// Head office takes a new node in.
package struct Joined: Hashable, Sendable {
    package var organisation: UniqueID
    /// The number of the new node's first life.
    package var origin: Origin
    /// What people call the new node.
    package var name: String
    package var hubNode: UniqueID
    package var hubName: String
    package var hubOrigin: Origin
    /// The row of table `branch` that stands for the new node.
    package var branchRow: RowID
    /// Head office's public key, 32 bytes; nil from a head office that has none yet.
    package var organisationKey: [UInt8]?
    /// DER: the new node's certificate, its issuer's and the root's; none from a head office without an authority.
    package var certificates: [[UInt8]]
    /// More are not taken.
    package static let certificatesMax = 8

    package init(
        organisation: UniqueID,
        origin: Origin,
        name: String,
        hubNode: UniqueID,
        hubName: String,
        hubOrigin: Origin,
        branchRow: RowID,
        organisationKey: [UInt8]? = nil,
        certificates: [[UInt8]] = []
    ) {
        self.organisation = organisation
        self.origin = origin
        self.name = name
        self.hubNode = hubNode
        self.hubName = hubName
        self.hubOrigin = hubOrigin
        self.branchRow = branchRow
        self.organisationKey = organisationKey
        self.certificates = certificates
    }
}

/// A child introduces itself and says what it has.
package struct Hello: Hashable, Sendable {
    /// The protocol versions it speaks; the session fills them in.
    package var protocolMin: UInt32 = SyncProtocolVersion.lowest
    package var protocolMax: UInt32 = SyncProtocolVersion.highest
    package var schemaVersion: UInt32
    /// The first 8 bytes of its organisation: enough to notice a wrong address.
    package var organisationPrefix: UInt64
    package var node: UniqueID
    package var key: Key256
    package var origin: Origin
    /// The last change set it wrote itself; 0 for none.
    package var ownSeq: UInt64
    /// The first 8 bytes of its chain at ``ownSeq``.
    package var ownChain: UInt64
    /// How much of the hub's log it has taken.
    package var cursor: LogPrefix
    /// Its wall clock when it sent this, in milliseconds since 1970-01-01 UTC.
    package var sentAtMilliseconds: UInt64
    package var parked: UInt64
    package var conflicts: UInt64
    /// Name and version of the program; empty when the hub has heard it before.
    package var software: String
    /// What later versions added.
    package var extras = SyncExtras()

    package init(
        schemaVersion: UInt32,
        organisationPrefix: UInt64,
        node: UniqueID,
        key: Key256,
        origin: Origin,
        ownSeq: UInt64,
        ownChain: UInt64,
        cursor: LogPrefix,
        sentAtMilliseconds: UInt64,
        parked: UInt64,
        conflicts: UInt64,
        software: String
    ) {
        self.schemaVersion = schemaVersion
        self.organisationPrefix = organisationPrefix
        self.node = node
        self.key = key
        self.origin = origin
        self.ownSeq = ownSeq
        self.ownChain = ownChain
        self.cursor = cursor
        self.sentAtMilliseconds = sentAtMilliseconds
        self.parked = parked
        self.conflicts = conflicts
        self.software = software
    }
}

/// The protocol versions this program speaks.
package enum SyncProtocolVersion {
    package static let lowest: UInt32 = 2
    package static let highest: UInt32 = 2

    /// The version two nodes should use: the highest that both speak, or nil.
    package static func common(min: UInt32, max: UInt32) -> UInt32? {
        let version = Swift.min(max, highest)
        return version >= Swift.max(min, lowest) ? version : nil
    }
}

/// A hub lets a child in and says what it has.
package struct Welcome: Hashable, Sendable {
    /// The version both use from here on; the session fills it in.
    package var protocolVersion: UInt32 = SyncProtocolVersion.highest
    package var schemaVersion: UInt32
    package var node: UniqueID
    package var origin: Origin
    /// Whether ``acceptedSeq``, ``acceptedChain`` and ``end`` are what the hello said of them. They are not sent
    /// then; the session fills them in, and nobody else needs to look.
    package var repeatsHello = false
    /// How much of the child's own work is durable here.
    package var acceptedSeq: UInt64
    /// The first 8 bytes of the child's chain at ``acceptedSeq``, as the hub has it.
    package var acceptedChain: UInt64
    /// The whole log of the hub.
    package var end: LogPrefix
    /// The hub's wall clock when the hello arrived.
    package var receivedAtMilliseconds: UInt64
    /// The hub's wall clock when it sent this.
    package var sentAtMilliseconds: UInt64
    /// The hub's tables, when the child stands at ``end`` and has nothing unsent.
    package var root: DatabaseRoot?
    /// What flows in this session.
    package var mode = SyncMode.both
    /// What later versions added.
    package var extras = SyncExtras()

    package init(
        schemaVersion: UInt32,
        node: UniqueID,
        origin: Origin,
        acceptedSeq: UInt64,
        acceptedChain: UInt64,
        end: LogPrefix,
        receivedAtMilliseconds: UInt64,
        sentAtMilliseconds: UInt64,
        root: DatabaseRoot?
    ) {
        self.schemaVersion = schemaVersion
        self.node = node
        self.origin = origin
        self.acceptedSeq = acceptedSeq
        self.acceptedChain = acceptedChain
        self.end = end
        self.receivedAtMilliseconds = receivedAtMilliseconds
        self.sentAtMilliseconds = sentAtMilliseconds
        self.root = root
    }
}

/// Stands for the content of all replicated tables; equal tables have equal roots.
package struct DatabaseRoot: Hashable, Sendable {
    package var first: UInt64
    package var second: UInt64
    package var rows: UInt64

    package init(first: UInt64, second: UInt64, rows: UInt64) {
        self.first = first
        self.second = second
        self.rows = rows
    }
}

/// A hub has no more for a child for now.
package struct CaughtUp: Hashable, Sendable {
    /// The whole log of the hub, all of it acknowledged by the child.
    package var end: LogPrefix
    /// How much of the child's own work is in it.
    package var childSeq: UInt64
    /// The hub's tables at ``end``, when it could tell.
    package var root: DatabaseRoot?

    package init(end: LogPrefix, childSeq: UInt64, root: DatabaseRoot?) {
        self.end = end
        self.childSeq = childSeq
        self.root = root
    }
}

/// Why a node does not go on. Travels, and is thrown by stores for the peer to read.
package struct Refusal: Error, Hashable, Sendable {
    /// Raw values are permanent: they travel.
    package enum Code: Hashable, Sendable {
        case unknownNode, revoked, wrongOrganisation, protocolVersion, forked, unknownCursor
        case invitationUnknown, invitationUsed, invitationExpired
        case busy, retryLater, invalidChange, internalFailure
        /// A change set bears a time that cannot be, or that it cannot have.
        case clockAhead, clockBehind
        /// The child's work was issued again by another life of it, and is here already.
        case alreadyHave
        /// The time of its certificate is over, or has not begun, by the hub's clock.
        case certificateExpired, certificateNotYetValid
        /// Head office lets the node wait: until somebody has compared fingerprints, or for a while.
        case waitsForApproval, paused
        /// A code of a newer peer.
        case other(UInt16)
    }

    package var code: Code
    /// What happened and what to do, for people. No customer data.
    package var sentence: String
    /// When it makes sense to come back; nil when the hub does not say.
    package var retryAfterSeconds: UInt32?

    package init(_ code: Code, _ sentence: String, retryAfterSeconds: UInt32? = nil) {
        self.code = code
        self.sentence = sentence
        self.retryAfterSeconds = retryAfterSeconds
    }
}

extension Refusal: CustomStringConvertible {
    package var description: String { sentence }
}

extension Refusal.Code {
    /// Every code this program knows, in the order of their numbers, which count from 1.
    static let known: [Refusal.Code] = [
        .unknownNode, .revoked, .wrongOrganisation, .protocolVersion, .forked, .unknownCursor,
        .invitationUnknown, .invitationUsed, .invitationExpired,
        .busy, .retryLater, .invalidChange, .internalFailure,
        .clockAhead, .clockBehind, .alreadyHave,
        .certificateExpired, .certificateNotYetValid, .waitsForApproval, .paused,
    ]

    /// Reads a number from the wire. Numbers this program does not know are kept.
    package init(number: UInt16) {
        let index = Int(number) - 1
        self = Self.known.indices.contains(index) ? Self.known[index] : .other(number)
    }

    /// Whether a child that is told this in the middle of its work comes back at once with a new origin number,
    /// and issues the work again under it: under the old one it can never be taken.
    var endsLife: Bool { self == .forked || self == .alreadyHave }

    /// The number on the wire.
    package var number: UInt16 {
        if case .other(let number) = self { return number }
        return UInt16((Self.known.firstIndex(of: self) ?? 0) + 1)
    }
}

extension Refusal.Code: CustomStringConvertible {
    package var description: String {
        switch self {
        case .unknownNode: "unknownNode"
        case .revoked: "revoked"
        case .wrongOrganisation: "wrongOrganisation"
        case .protocolVersion: "protocolVersion"
        case .forked: "forked"
        case .unknownCursor: "unknownCursor"
        case .invitationUnknown: "invitationUnknown"
        case .invitationUsed: "invitationUsed"
        case .invitationExpired: "invitationExpired"
        case .busy: "busy"
        case .retryLater: "retryLater"
        case .invalidChange: "invalidChange"
        case .internalFailure: "internalFailure"
        case .clockAhead: "clockAhead"
        case .clockBehind: "clockBehind"
        case .alreadyHave: "alreadyHave"
        case .certificateExpired: "certificateExpired"
        case .certificateNotYetValid: "certificateNotYetValid"
        case .waitsForApproval: "waitsForApproval"
        case .paused: "paused"
        case .other(let number): "other(\(number))"
        }
    }
}

/// The canonical content of one change set as it lies in a log: plain, or one zstd frame.
package struct ChangeBody: Hashable, Sendable {
    package var isCompressed: Bool
    package var bytes: [UInt8]

    package init(isCompressed: Bool, bytes: [UInt8]) {
        self.isCompressed = isCompressed
        self.bytes = bytes
    }
}

/// One change set of a log, as its receiver needs it.
package enum ChangeEntry: Hashable, Sendable {
    /// The receiver's own: it has the body.
    case stub(ChangeSetID)
    case changeSet(time: HybridTimestamp, body: ChangeBody)
    /// One whose body came, or goes, in parts. Alone in its batch.
    case large(time: HybridTimestamp, LargeBody)
}

/// Consecutive change sets: of a hub's log, or of what a child wrote itself.
package struct ChangeBatch: Hashable, Sendable {
    /// The position of the first entry in the hub's log; 0 from a child.
    package var firstPosition: UInt64
    package var entries: [ChangeEntry]
    /// The hub's log after the last entry; ``Causality/LogPrefix/empty`` from a child.
    package var end: LogPrefix

    package init(firstPosition: UInt64, entries: [ChangeEntry], end: LogPrefix) {
        self.firstPosition = firstPosition
        self.entries = entries
        self.end = end
    }

    /// The bytes of all bodies: what the windows of both sides count.
    package var bodyBytes: Int {
        entries.reduce(0) { sum, entry in
            if case .changeSet(_, let body) = entry { sum + body.bytes.count } else { sum }
        }
    }

    /// Entries that are not stubs.
    package var changeSetCount: Int {
        entries.reduce(0) { sum, entry in
            switch entry {
            case .stub: sum
            case .changeSet, .large: sum + 1
            }
        }
    }

    /// The body that came, or goes, in parts.
    package var largeBody: LargeBody? {
        for entry in entries {
            if case .large(_, let body) = entry { return body }
        }
        return nil
    }
}
