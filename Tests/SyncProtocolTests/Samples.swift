import Causality
import SyncProtocol

extension UniqueID {
    static func sample(_ byte: UInt8) -> UniqueID {
        UniqueID(bytes: [UInt8](repeating: byte, count: byteCount))!
    }
}

extension Key256 {
    static func sample(_ byte: UInt8) -> Key256 {
        Key256(bytes: [UInt8](repeating: byte, count: byteCount))!
    }
}

extension Origin {
    static let hub = Origin(rawValue: 1)!
    static let child = Origin(rawValue: 17)!
    static let other = Origin(rawValue: 18)!
}

extension Hello {
    static func sample(
        ownSeq: UInt64 = 0,
        cursor: LogPrefix = .empty,
        sentAtMilliseconds: UInt64 = 1_000
    ) -> Hello {
        Hello(
            schemaVersion: 1,
            organisationPrefix: UniqueID.sample(1).prefix,
            node: .sample(17),
            key: .sample(2),
            origin: .child,
            ownSeq: ownSeq,
            ownChain: 7,
            cursor: cursor,
            sentAtMilliseconds: sentAtMilliseconds,
            parked: 0,
            conflicts: 3,
            software: "peyvand test"
        )
    }
}

extension Hello {
    /// With fields of a later version.
    static var withExtras: Hello {
        var hello = Hello.sample()
        hello.extras[3] = [1, 2, 3]
        hello.extras[9_999] = []
        return hello
    }
}

extension Welcome {
    static func sample(
        acceptedSeq: UInt64 = 0,
        end: LogPrefix = .empty,
        root: DatabaseRoot? = nil
    ) -> Welcome {
        Welcome(
            schemaVersion: 1,
            node: .sample(9),
            origin: .hub,
            acceptedSeq: acceptedSeq,
            acceptedChain: 7,
            end: end,
            receivedAtMilliseconds: 5_010,
            sentAtMilliseconds: 5_020,
            root: root
        )
    }
}

extension Join {
    static let sample = Join(
        tokenID: .sample(4),
        proof: .sample(5),
        node: .sample(6),
        nodeKey: .sample(7),
        software: "peyvand"
    )
}

extension Joined {
    static let sample = Joined(
        organisation: .sample(1),
        origin: .child,
        name: "اصفهان",
        hubNode: .sample(9),
        hubName: "تهران",
        hubOrigin: .hub,
        branchRow: RowID(origin: .hub, counter: 4)
    )

    /// From a head office with an authority.
    static var withCertificates: Joined {
        var joined = Joined.sample
        joined.organisationKey = [UInt8](repeating: 8, count: 32)
        joined.certificates = [[1, 2, 3], [4], [UInt8](repeating: 5, count: 700)]
        return joined
    }
}

extension Join {
    /// With a request for a certificate.
    static var withRequest: Join {
        var join = Join.sample
        join.request = [UInt8](repeating: 3, count: 300)
        return join
    }
}

extension DatabaseRoot {
    static let sample = DatabaseRoot(first: 1, second: .max, rows: 600_000)
}

extension ChangeEntry {
    static func sample(_ text: String, isCompressed: Bool = false) -> ChangeEntry {
        .changeSet(
            time: HybridTimestamp(milliseconds: 1_700_000_000_000),
            body: ChangeBody(isCompressed: isCompressed, bytes: [UInt8](text.utf8))
        )
    }
}

extension LargeBody {
    static let sample = LargeBody(
        id: ChangeSetID(origin: .child, seq: 3),
        byteCount: 40 << 20,
        hash: [UInt8](repeating: 5, count: hashByteCount)
    )
}

extension LogPrefix {
    static func sample(_ position: UInt64) -> LogPrefix {
        LogPrefix(position: position, digest: position &* 77)
    }
}

extension ChangeBatch {
    /// A piece of a hub's log.
    static func log(_ positions: ClosedRange<UInt64>, bytesEach: Int = 5) -> ChangeBatch {
        ChangeBatch(
            firstPosition: positions.lowerBound,
            entries: positions.map { _ in .sample(String(repeating: "x", count: bytesEach)) },
            end: .sample(positions.upperBound)
        )
    }

    /// What a child wrote.
    static func own(_ count: Int, bytesEach: Int = 5) -> ChangeBatch {
        ChangeBatch(
            firstPosition: 0,
            entries: (0..<count).map { _ in .sample(String(repeating: "x", count: bytesEach)) },
            end: .empty
        )
    }
}

extension OutgoingBatch {
    init(_ batch: ChangeBatch, isAtEnd: Bool = true) {
        self.init(
            batch: batch,
            changeSets: batch.changeSetCount,
            rows: batch.changeSetCount * 2,
            isAtEnd: isAtEnd
        )
    }
}

extension SyncMessage {
    static let samples: [SyncMessage] = [
        .join(.sample), .joined(.sample), .join(.withRequest), .joined(.withCertificates),
        .hello(.sample(ownSeq: 300, cursor: .sample(70_000))),
        .hello(.withExtras),
        .welcome(.sample()), .welcome(.sample(acceptedSeq: 12, end: .sample(9), root: .sample)),
        .refuse(Refusal(.busy, "Come back later.", retryAfterSeconds: 30)),
        .refuse(Refusal(.other(999), "پیام")), .changes(.log(1...3)), .changes(.own(2)),
        .changes(
            ChangeBatch(
                firstPosition: 5,
                entries: [
                    .stub(ChangeSetID(origin: .child, seq: 8)), .sample("packed", isCompressed: true),
                ],
                end: .sample(6)
            )
        ),
        .changes(ChangeBatch(firstPosition: 5, entries: [.large(time: .zero, .sample)], end: .sample(5))),
        .offer(.sample), .held(70_000), .part(offset: 1 << 20, [1, 2, 3]),
        .appliedPosition(.sample(7)), .appliedSeq(8, chain: .max),
        .caughtUp(CaughtUp(end: .sample(7), childSeq: 8, root: .sample)),
        .caughtUp(CaughtUp(end: .sample(7), childSeq: 8, root: nil)),
        .digestResult(isEqual: true, at: .sample(7)), .ping(nonce: .max), .pong(nonce: 0),
        .bye(reason: "done"), .ask(SyncQuestion(kind: 300, payload: [1, 2])), .ask(SyncQuestion(kind: 1, payload: [])),
        .answer(SyncAnswer(payload: [7])),
    ]
}
