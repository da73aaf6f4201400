import Causality

// Beside the stream of change sets a child may consult its hub: it asks, the hub answers, one question at a
// time. The session only carries questions and answers; what they mean is the stores' business.

/// Something that a child asks its hub.
package struct SyncQuestion: Hashable, Sendable {
    /// Which question; permanent, because it travels. See ``Kind``.
    package var kind: UInt16
    /// As the kind says.
    package var payload: [UInt8]

    package init(kind: UInt16, payload: [UInt8]) {
        self.kind = kind
        self.payload = payload
    }
}

/// What the hub answers. To be read by whoever asked, who knows what was asked.
package struct SyncAnswer: Hashable, Sendable {
    package var payload: [UInt8]

    package init(payload: [UInt8]) {
        self.payload = payload
    }
}

/// When a child's store may consult the hub.
package enum SyncOccasion: Hashable, Sendable {
    /// Everything this node has was sent and everything of the hub was taken. `isEqual` tells how the tables
    /// compared, if they could be.
    case settled(at: LogPrefix, ownSeq: UInt64, isEqual: Bool?)
    /// The hub sends no log in this session, and everything this node has was sent.
    case handedIn(ownSeq: UInt64)
}

/// What a child does next, as its store decides.
package enum SyncStep: Hashable, Sendable {
    /// Nothing more to ask: the session goes on.
    case goOn
    /// Asks, and lets the store decide again with the answer.
    case ask(SyncQuestion)
    /// What this node is has changed: the session ends, and another begins at once.
    case reconnect
}

/// What flows in a session.
package enum SyncMode: UInt8, Hashable, Sendable, CaseIterable {
    /// Both directions.
    case both = 0
    /// The child's own work only: the hub's log no longer holds what the child lacks.
    case handIn = 1
    /// Nothing: the child has to consult the hub first.
    case consult = 2
}

/// Fields that were added to a message, by tag. A reader leaves alone what it does not know.
package struct SyncExtras: Hashable, Sendable {
    private var fields: [UInt16: [UInt8]] = [:]

    package init() {}

    /// Tags are permanent. `SyncExtras+NAME.swift` gives each a typed face.
    package subscript(tag: UInt16) -> [UInt8]? {
        get { fields[tag] }
        set { fields[tag] = newValue }
    }

    /// Ascending by tag.
    var sorted: [(tag: UInt16, bytes: [UInt8])] { fields.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } }
}
