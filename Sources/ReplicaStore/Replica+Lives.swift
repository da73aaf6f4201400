import Causality
import Foundation
import GRDB
import SyncProtocol

// A copy of a node that was restored, or cloned, takes a new origin number before anything moves: it looks for
// the last change set that it and head office have in common (the fork), sets aside what it wrote after that,
// and goes on under the new number. When it has taken head office's whole log, what was set aside is issued
// again.
//
// What proves a former life is the chain over everything that a life has written, and how far a life has
// acknowledged head office's log. The fence (see `Fence`) notices earlier, but proves nothing.

/// Why a node takes a new life by itself. Raw values are stored.
enum RenewalReason: Int64 {
    /// Head office has refused its work for its time, which may not be corrected any more.
    case time = 1
    /// The file is not where it was, or not as it was left.
    case fence = 2
    /// A backup was restored.
    case restored = 3
    /// Head office has refused what this life wrote.
    case refused = 4
    /// Head office has lost what it was written after, and nobody can bring that back.
    case lostLog = 5

    /// For people.
    var sentence: String {
        switch self {
        case .time: "head office could not take the times of its work"
        case .fence: "its directory is a copy, or was put back to an older state"
        case .restored: "it was restored from a backup"
        case .refused: "head office could not take what it wrote under its number"
        case .lostLog: "head office has lost what its work was written after, and no branch has kept that"
        }
    }
}

/// The search for the fork, between two questions.
struct ForkSearch {
    let reason: String
    /// The fork, once it is found.
    var fork: UInt64?
    /// Change sets up to the fork that bear another time at head office.
    var times: [UInt64: HybridTimestamp] = [:]
}

// MARK: - At the branch

extension Replica {
    /// Takes a new life if this copy of the node is a former one; issues again what waits for it.
    func renewLife(_ occasion: ConsultationOccasion) throws -> SyncStep {
        switch occasion {
        case .welcomed(let welcome, _):
            return try withWriter { writer in
                // What head office has lost and another branch brings back must not be issued again.
                guard welcome.extras.lost == nil, let reason = try writer.formerLifeReason(welcome) else {
                    return .goOn
                }
                forkSearch.withLock { $0 = ForkSearch(reason: reason) }
                let own = writer.vector[writer.node.origin]?.seq ?? 0
                return nextForkQuestion(upTo: min(own, welcome.acceptedSeq), writer.node.origin)
            }
        case .during(.settled):
            return try askForWaiting()
        case .during(.handedIn):
            return .goOn
        }
    }

    /// Asks for the chains that end at a change set, or, when there are none, for the new number.
    private func nextForkQuestion(upTo last: UInt64, _ origin: Origin) -> SyncStep {
        if last == 0 {
            let search = forkSearch.withLock { $0 }
            return .ask(NewLifeQuestion(fork: search?.fork ?? 0, reason: search?.reason ?? "").question)
        }
        let count = min(last, UInt64(ChainsQuestion.countMax))
        return .ask(ChainsQuestion(origin: origin, first: last - count + 1, count: Int(count)).question)
    }

    func takenChains(_ answer: SyncAnswer, to question: SyncQuestion) throws -> SyncStep {
        let asked = try ChainsQuestion(question)
        let theirs = try asked.entries(in: answer)
        let own = try ownChains(asked)
        guard var search = forkSearch.withLock({ $0 }) else { return .goOn }
        var common = min(theirs.count, own.count)
        if search.fork == nil {
            // A chain covers everything before it, so the greatest one that is equal is the fork.
            while common > 0, theirs[common - 1].chain != own[common - 1].chain { common -= 1 }
            if common > 0 { search.fork = asked.first + UInt64(common) - 1 }
        }
        for index in 0..<common where theirs[index].time != own[index].time {
            search.times[asked.first + UInt64(index)] = theirs[index].time
        }
        // Times differ in one run at the end, which may begin further back.
        let isDone = common > 0 && (theirs[0].time == own[0].time || search.times.count > Self.adoptedTimesMax)
        forkSearch.withLock { $0 = search }
        return nextForkQuestion(upTo: isDone ? 0 : asked.first - 1, asked.origin)
    }

    /// More than that many change sets are not corrected here; comparing the tables finds what is left.
    private static let adoptedTimesMax = 1_000_000

    /// The node's own chains in the range of a question.
    private func ownChains(_ asked: ChainsQuestion) throws -> [ChainsQuestion.Entry] {
        try readState { try ChainsQuestion.Entry.read(asked, $0) }
    }

    func takenNewLife(_ answer: SyncAnswer, to question: SyncQuestion) throws -> SyncStep {
        let given = try NewLifeQuestion.given(in: answer)
        guard
            let search = forkSearch.withLock({ search in
                defer { search = nil }
                return search
            })
        else { return .goOn }
        try withWriter { writer in
            try writer.transaction {
                let touched = try writer.beginNewLife(given.origin, search, hubMilliseconds: hubMilliseconds)
                // Rows that nobody else wrote are gone, which no change set tells the index.
                for id in touched { try indexForSearch(id, writer) }
                if let voucher = given.voucher { try writer.keepVoucher(voucher, for: given.origin) }
            }
            contacts.withLock { $0.own.acceptedSeq = 0 }
        }
        return .reconnect
    }

    /// The hub's clock, as this session has measured it.
    private var hubMilliseconds: UInt64 {
        let skew = contacts.withLock { $0.own.skewMilliseconds } ?? 0
        return UInt64(clamping: Int64(clamping: wallClock()) - skew)
    }

    // MARK: What waits

    /// Asks which of the change sets that wait head office has already.
    private func askForWaiting() throws -> SyncStep {
        let waiting = try readState { try WaitingChange.first(AlreadyHaveQuestion.countMax, $0) }
        guard !waiting.isEmpty else { return .goOn }
        return .ask(AlreadyHaveQuestion(identities: waiting.map(\.identity)).question)
    }

    func takenAlreadyHave(_ answer: SyncAnswer, to question: SyncQuestion) throws -> SyncStep {
        let asked = try AlreadyHaveQuestion(question)
        let found = try asked.found(in: answer)
        guard !found.isEmpty else {
            throw Refusal(.protocolVersion, "Head office did not answer which change sets it has. Upgrade it.")
        }
        try withWriter { writer in
            try writer.transaction {
                try writer.issueWaiting(
                    Array(zip(asked.identities, found)),
                    hubMilliseconds: self.hubMilliseconds
                )
            }
        }
        return try askForWaiting()
    }
}

extension ReplicaWriter {
    /// Why this copy of the node must take a new life; nil when it need not.
    fileprivate func formerLifeReason(_ welcome: Welcome) throws -> String? {
        if let told = welcome.extras.formerLife { return told }
        let own = vector[node.origin]?.seq ?? 0
        guard welcome.acceptedSeq <= own else {
            return "head office holds \(welcome.acceptedSeq) change sets of origin \(node.origin), this copy \(own)"
        }
        let id = ChangeSetID(origin: node.origin, seq: welcome.acceptedSeq)
        guard try chain(of: id)?.prefix == welcome.acceptedChain else {
            return "head office holds another history of origin \(node.origin) up to \(welcome.acceptedSeq)"
        }
        if let time = welcome.extras.acceptedTime, try self.time(of: id) != time {
            return "head office holds change set \(id) with another time"
        }
        return try fact(.mustRenew).map { (RenewalReason(rawValue: $0) ?? .fence).sentence }
    }

    /// The time of a change set that this node holds.
    func time(of id: ChangeSetID) throws -> HybridTimestamp? {
        try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT time FROM log WHERE origin = ? AND seq = ?"),
            arguments: [Int64(id.origin.rawValue), Int64(clamping: id.seq)]
        ).flatMap { HybridTimestamp(packed: UInt64(bitPattern: $0)) }
    }

    /// The former lives whose work the hub's log, up to the cursor, may not cover yet: an own change set's
    /// context names them.
    func formerLives() throws -> [ChangeSetID] {
        guard node.role == .branch else { return [] }
        let statement = try db.cachedStatement(
            sql: """
                SELECT formerLife.origin, formerLife.seq FROM formerLife LEFT JOIN log USING (origin, seq)
                WHERE formerLife.seq > 0 AND (log.hubPosition IS NULL OR log.hubPosition > ?)
                ORDER BY formerLife.origin
                """
        )
        return try Row.fetchAll(statement, arguments: [Int64(clamping: cursor.position)]).compactMap { row in
            Origin(rawValue: row[0]).map { ChangeSetID(origin: $0, seq: UInt64(clamping: row[1] as Int64)) }
        }
    }

    /// Notes that this node takes a new life at its next contact.
    func mustRenew(_ reason: RenewalReason) throws { try note(.mustRenew, reason.rawValue) }
}

extension ChainsQuestion.Entry {
    /// Reads a range of a log; it ends early where the log does.
    fileprivate static func read(_ asked: ChainsQuestion, _ db: Database) throws -> [Self] {
        let rows = try Row.fetchAll(
            db.cachedStatement(
                sql: "SELECT seq, chain, time FROM log WHERE origin = ? AND seq >= ? ORDER BY seq LIMIT ?"
            ),
            arguments: [Int64(asked.origin.rawValue), Int64(clamping: asked.first), asked.count]
        )
        var entries: [Self] = []
        for row in rows {
            guard row[0] as Int64 == Int64(clamping: asked.first) + Int64(entries.count),
                let chain = ChangeChain(bytes: [UInt8](row[1] as Data)),
                let time = HybridTimestamp(packed: UInt64(bitPattern: row[2] as Int64))
            else { break }
            entries.append(Self(chain: chain.prefix, time: time))
        }
        return entries
    }
}

// MARK: - At head office

/// One life of a node, as head office has noted it.
struct RegisteredLife {
    let origin: Origin
    /// Whether a hello of it has come.
    let hasBegun: Bool
    let acknowledgedPosition: UInt64
}

extension Replica {
    func answerChains(_ question: SyncQuestion, from peer: SyncPeer) throws -> SyncAnswer {
        let asked = try ChainsQuestion(question)
        return try readState { db in
            guard try Self.isLife(asked.origin, of: peer.node, db) else { throw Self.notItsLife(asked.origin) }
            return ChainsQuestion.answer(try ChainsQuestion.Entry.read(asked, db))
        }
    }

    func answerNewLife(_ question: SyncQuestion, from peer: SyncPeer) throws -> SyncAnswer {
        let asked = try NewLifeQuestion(question)
        let now = Int64(clamping: wallClock())
        return try withWriter { writer in
            try writer.transaction {
                let lives = try Int.fetchOne(
                    writer.db.cachedStatement(sql: "SELECT count(*) FROM registeredLife WHERE node = ?"),
                    arguments: [Data(peer.node.bytes)]
                )
                guard (1...Self.livesMax).contains(lives ?? 0) else {
                    throw Refusal(
                        .busy,
                        "This node has taken \(lives ?? 0) origin numbers, as many as one may. Stop its copies, "
                            + "retire it, and enrol a new node."
                    )
                }
                let origin = try writer.nextOrigin()
                try writer.db.cachedStatement(
                    sql: """
                        INSERT INTO registeredLife(origin, node, givenAt, formerOrigin, forkedAt, reason)
                        VALUES (?, ?, ?, ?, ?, ?)
                        """
                ).execute(arguments: [
                    origin.rawValue, Data(peer.node.bytes), now, peer.origin.rawValue, Int64(clamping: asked.fork),
                    asked.reason,
                ])
                return NewLifeQuestion.answer(origin, voucher: try writer.voucher(for: peer.node, origin))
            }
        }
    }

    /// So many numbers one node may use up.
    static let livesMax = 1000

    func answerAlreadyHave(_ question: SyncQuestion, from peer: SyncPeer) throws -> SyncAnswer {
        let asked = try AlreadyHaveQuestion(question)
        return try readState { db in
            var found: [AlreadyHaveQuestion.Found?] = []
            var bytes = 0
            for identity in asked.identities where bytes < AlreadyHaveQuestion.answerBytesMax {
                guard try Self.isLife(identity.id.origin, of: peer.node, db) else {
                    throw Self.notItsLife(identity.id.origin)
                }
                let have = try identity.found(in: db)
                bytes += 24 + (have?.renumbered.count ?? 0) * 24
                found.append(have)
            }
            return AlreadyHaveQuestion.answer(found)
        }
    }

    static func isLife(_ origin: Origin, of node: UniqueID, _ db: Database) throws -> Bool {
        try Bool.fetchOne(
            db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM registeredLife WHERE origin = ? AND node = ?)"),
            arguments: [origin.rawValue, Data(node.bytes)]
        ) ?? false
    }

    private static func notItsLife(_ origin: Origin) -> Refusal {
        Refusal(.invalidChange, "Origin \(origin) was never a number of the node that asks about it.")
    }
}

extension FirstIdentity {
    /// Where a node has this work, under its first name or issued again; nil when it has not.
    func found(in db: Database) throws -> AlreadyHaveQuestion.Found? {
        let issued = try db.cachedStatement(
            sql: """
                SELECT issuedOrigin, issuedSeq, renumbered FROM firstIdentity WHERE origin = ? AND seq = ? AND chain = ?
                """
        )
        let arguments: StatementArguments = [
            Int64(id.origin.rawValue), Int64(clamping: id.seq), Data(chain.bytes),
        ]
        if let row = try Row.fetchOne(issued, arguments: arguments), let origin = Origin(rawValue: row[0]) {
            let renumbered = try decoded([UInt8](row[2] as Data)) { reader throws(MalformedBytes) in
                try RenumberedRow.list(from: &reader)
            }
            return AlreadyHaveQuestion.Found(
                id: ChangeSetID(origin: origin, seq: UInt64(clamping: row[1] as Int64)),
                renumbered: renumbered
            )
        }
        let plain = try db.cachedStatement(
            sql: "SELECT EXISTS (SELECT 1 FROM log WHERE origin = ? AND seq = ? AND chain = ?)"
        )
        guard try Bool.fetchOne(plain, arguments: arguments) == true else { return nil }
        return AlreadyHaveQuestion.Found(id: id, renumbered: [])
    }
}

extension ReplicaWriter {
    /// The next origin number that nobody has ever had. Part of the present transaction.
    ///
    /// - Throws: When all are used up.
    func nextOrigin() throws -> Origin {
        let given = try Int64.fetchOne(db.cachedStatement(sql: "SELECT max(origin) FROM registeredLife")) ?? 0
        let greatest = max(given, try greatestOrigin())
        let number = max(greatest + 1, try fact(.nextOrigin) ?? 0)
        guard let origin = Origin(rawValue: UInt32(clamping: number)) else {
            throw Refusal(.busy, "Head office has given away all its origin numbers.")
        }
        try note(.nextOrigin, number + 1)
        return origin
    }

    /// Checks that a child is who it says, and finds the life that speaks.
    ///
    /// - Throws: ``Refusal`` for a node that is not known here.
    func life(of hello: Hello) throws -> RegisteredLife {
        let keyHash = try Data.fetchOne(
            db.cachedStatement(sql: "SELECT keyHash FROM registeredNode WHERE node = ?"),
            arguments: [Data(hello.node.bytes)]
        )
        guard let keyHash, [UInt8](keyHash) == Replica.hash(hello.key.bytes) else { throw Self.unknownNode }
        let life = try Row.fetchOne(
            db.cachedStatement(
                sql: "SELECT node, beganAt IS NOT NULL, acknowledgedPosition FROM registeredLife WHERE origin = ?"
            ),
            arguments: [hello.origin.rawValue]
        )
        if let life {
            guard [UInt8](life[0] as Data) == hello.node.bytes else { throw Self.unknownNode }
            return RegisteredLife(
                origin: hello.origin,
                hasBegun: life[1],
                acknowledgedPosition: UInt64(clamping: life[2] as Int64)
            )
        }
        // A number below the next one that nobody has was given by a life of head office that is lost.
        guard hello.origin != node.origin, try Int64(hello.origin.rawValue) < fact(.nextOrigin) ?? 0,
            vector[hello.origin] == nil || node.role == .headOffice
        else { throw Self.unknownNode }
        try transaction {
            try db.cachedStatement(sql: "INSERT INTO registeredLife(origin, node, givenAt) VALUES (?, ?, ?)").execute(
                arguments: [hello.origin.rawValue, Data(hello.node.bytes), Int64(clamping: wallClock())]
            )
        }
        return RegisteredLife(origin: hello.origin, hasBegun: false, acknowledgedPosition: 0)
    }

    private static let unknownNode = Refusal(
        .unknownNode,
        "Head office does not know this node. Enrol it (`peyvand enroll NAME`), then join."
    )

    /// What proves that a child is a former life; nil when nothing does.
    ///
    /// - Parameter acknowledged: How far this life has acknowledged the log.
    func formerLifeProof(_ hello: Hello, acknowledged: UInt64) throws -> String? {
        let accepted = vector[hello.origin]
        let seq = accepted?.seq ?? 0
        if hello.ownSeq < seq {
            return "it shows \(hello.ownSeq) change sets of origin \(hello.origin), head office holds \(seq)"
        }
        if let accepted, hello.ownSeq == seq, hello.ownChain != accepted.chain.prefix {
            return "it shows another history of origin \(hello.origin) up to \(seq)"
        }
        // A head office that has lost what the node had taken sends it back itself.
        if hello.cursor.position < acknowledged, try begins(with: hello.cursor),
            try !hasFallenBack(hello, from: acknowledged)
        {
            return "it shows position \(hello.cursor.position), it has acknowledged \(acknowledged)"
        }
        return nil
    }

    /// Makes a life the present one of its node, when its first hello has come: in the node's row of the table
    /// of branches, too.
    func begin(_ life: RegisteredLife, _ hello: Hello, _ transaction: LocalTransaction) throws {
        let now = Int64(clamping: wallClock())
        try db.cachedStatement(sql: "UPDATE registeredLife SET beganAt = ? WHERE origin = ?").execute(arguments: [
            now, life.origin.rawValue,
        ])
        try db.cachedStatement(
            sql: """
                UPDATE registeredNode SET origin = ?, acknowledgedPosition = 0, claimedSeq = ? WHERE node = ?
                """
        ).execute(arguments: [life.origin.rawValue, Int64(clamping: hello.ownSeq), Data(hello.node.bytes)])
        let row = try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT branchRow FROM registeredNode WHERE node = ?"),
            arguments: [Data(hello.node.bytes)]
        )
        guard let row = row.flatMap(RowID.init(rawValue:)), try transaction.contains("branch", id: row) else { return }
        try transaction.update("branch", id: row, ["origin": .integer(Int64(life.origin.rawValue))])
        _ = try transaction.finish()
    }

    /// Checks, at head office, that work which was issued again is here only once.
    ///
    /// - Throws: ``Refusal`` with `alreadyHave`: the child drops it, in a new life.
    func checkFirstIdentity(of set: IncomingChangeSet, chain: ChangeChain, from source: ChangeSource) throws {
        // What comes back from a lost log was taken there before; whoever brings it has not issued it.
        guard source == .child else { return }
        let header = set.reader.header
        let identity: FirstIdentity
        if let first = header.extensions.firstIdentity {
            identity = first
        } else {
            let statement = try db.cachedStatement(
                sql: "SELECT EXISTS (SELECT 1 FROM firstIdentity WHERE origin = ? AND seq = ?)"
            )
            let arguments: StatementArguments = [Int64(header.id.origin.rawValue), Int64(clamping: header.id.seq)]
            guard try Bool.fetchOne(statement, arguments: arguments) == true else { return }
            identity = FirstIdentity(id: header.id, chain: chain)
        }
        guard let found = try identity.found(in: db) else { return }
        throw Refusal(
            .alreadyHave,
            "Change set \(header.id) is here already as \(found.id): another copy of the node has issued it."
        )
    }

    /// Remembers what a change set that was issued again had been called, and its rows.
    func noteFirstIdentity(_ id: ChangeSetID, _ extensions: ChangeSetExtensions) throws {
        guard let first = extensions.firstIdentity else { return }
        let renumbered = extensions.renumbered
        try db.cachedStatement(sql: "INSERT OR IGNORE INTO firstIdentity VALUES (?, ?, ?, ?, ?, ?)").execute(
            arguments: [
                Int64(first.id.origin.rawValue), Int64(clamping: first.id.seq), Data(first.chain.bytes),
                Int64(id.origin.rawValue), Int64(clamping: id.seq), Data(RenumberedRow.bytes(of: renumbered)),
            ]
        )
        for row in renumbered {
            try db.cachedStatement(sql: "INSERT OR IGNORE INTO formerIdentifier VALUES (?, ?, ?)").execute(
                arguments: [row.table, row.former.rawValue, row.present.rawValue]
            )
        }
    }
}

extension ReplicaWriter {
    /// Checks that a child speaks only of its own former lives when it issues something again.
    func checkClaims(of set: IncomingChangeSet, _ peer: SyncPeer) throws {
        let header = set.reader.header
        guard let first = header.extensions.firstIdentity else { return }
        guard try Replica.isLife(first.id.origin, of: peer.node, db),
            header.extensions.renumbered.allSatisfy({ $0.present.origin == header.id.origin })
        else {
            throw Refusal(
                .invalidChange,
                "Change set \(header.id) claims to be \(first.id), which another node has written."
            )
        }
    }

    /// Checks that a change set which is held already is the one that comes again.
    ///
    /// - Throws: When two lives have written different things under one number: ``Refusal`` of a child, and
    ///   ``TwoContents`` when it was head office that sent it.
    func checkIsSame(_ set: IncomingChangeSet, from source: ChangeSource) throws {
        // Of a change set whose rows were erased since, the content is another and the chain is head office's word.
        guard set.redaction == nil else { return }
        let id = set.reader.header.id
        let before = id.seq == 1 ? .empty : try chain(of: ChangeSetID(origin: id.origin, seq: id.seq - 1))
        // Before what a snapshot has brought, chains are not known. Then the prefix of head office's log, which covers
        // them, has to be the same at the end of the batch.
        if before == nil, source.position != nil, try isLogged(id) { return }
        let here = try chain(of: id)
        let there = try before.map { try provedChain(of: set, after: $0) }
        if let here, here == there { return }
        if source != .child, let here, let there { throw TwoContents(id: id, atHeadOffice: there, here: here) }
        throw Refusal(
            source == .child ? .forked : .invalidChange,
            "Change set \(id) is another one here: two copies of the node that wrote it are in use."
        )
    }
}

/// Head office has sent another change set under a number that this node knows: one of both was put back.
struct TwoContents: Error {
    let id: ChangeSetID
    let atHeadOffice: ChangeChain
    let here: ChangeChain
}

// MARK: - For people

/// What a node knows of its own lives.
package struct LifeState: Sendable {
    /// Why it takes a new origin number at its next contact; nil when it need not.
    package let mustRenew: String?
    /// Work of its former lives that waits to be issued again.
    package let waiting: (changeSets: UInt64, rows: Int)
    /// Its last former life: the number, and the last change set that head office had of this copy.
    package let former: ChangeSetID?

    static func read(_ db: Database) throws -> LifeState {
        let waiting = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT count(*), coalesce(sum(rows), 0) FROM waitingChange")
        )
        let former = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT origin, seq FROM formerLife ORDER BY endedAt DESC, origin DESC")
        )
        return LifeState(
            mustRenew: try LocalFact.read(.mustRenew, db).map { (RenewalReason(rawValue: $0) ?? .fence).sentence },
            waiting: (UInt64(clamping: (waiting?[0] as Int64?) ?? 0), (waiting?[1] as Int?) ?? 0),
            former: former.flatMap { row in
                Origin(rawValue: row[0]).map { ChangeSetID(origin: $0, seq: UInt64(clamping: row[1] as Int64)) }
            }
        )
    }
}

/// What head office knows of the lives of one node.
package struct RegisteredFork: Hashable, Sendable {
    /// Where the present life left the one before.
    package let former: ChangeSetID
    /// Milliseconds since 1970-01-01 UTC.
    package let at: UInt64
    /// Another copy of the node that has called since under this number; nil when there was none.
    package let otherCopy: Origin?

    /// By node, those that have forked.
    static func all(_ db: Database) throws -> [UniqueID: RegisteredFork] {
        var forks: [UniqueID: RegisteredFork] = [:]
        let rows = try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT life.node, life.formerOrigin, life.forkedAt, life.beganAt,
                        (SELECT other.origin FROM registeredLife AS other WHERE other.node = life.node
                            AND other.origin <> life.origin AND other.lastContact > life.beganAt ORDER BY origin LIMIT 1)
                    FROM registeredLife AS life JOIN registeredNode USING (origin)
                    WHERE life.formerOrigin IS NOT NULL AND life.beganAt IS NOT NULL
                    """
            )
        )
        for row in rows {
            guard let node = UniqueID(bytes: [UInt8](row[0] as Data)), let origin = Origin(rawValue: row[1]) else {
                continue
            }
            forks[node] = RegisteredFork(
                former: ChangeSetID(origin: origin, seq: UInt64(clamping: row[2] as Int64)),
                at: UInt64(clamping: row[3] as Int64),
                otherCopy: (row[4] as UInt32?).flatMap(Origin.init(rawValue:))
            )
        }
        return forks
    }
}
