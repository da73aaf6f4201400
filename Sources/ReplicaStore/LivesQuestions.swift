import Causality
import SyncProtocol

// What copies of a node ask about their lives, as bytes. `v` is a LEB128 number.

/// Which of a life's change sets the hub holds: origin v, first seq v, count v.
/// Answer: count v, then each, from the first on without a gap: first 8 bytes of the chain, time 8.
struct ChainsQuestion {
    /// In one question.
    static let countMax = 4096

    let origin: Origin
    let first: UInt64
    let count: Int

    /// What the hub has.
    struct Entry: Hashable {
        let chain: UInt64
        let time: HybridTimestamp
    }

    var question: SyncQuestion {
        var writer = ByteWriter()
        writer.varint(UInt64(origin.rawValue))
        writer.varint(first)
        writer.varint(UInt64(count))
        return SyncQuestion(kind: QuestionKind.chains.rawValue, payload: writer.bytes)
    }

    init(origin: Origin, first: UInt64, count: Int) {
        self.origin = origin
        self.first = first
        self.count = count
    }

    init(_ question: SyncQuestion) throws {
        self = try decoded(question.payload) { reader throws(MalformedBytes) in
            let id = try reader.changeSetID()
            let count = try reader.varint()
            guard count <= UInt64(Self.countMax) else { throw .outOfRange("count", offset: reader.offset) }
            return ChainsQuestion(origin: id.origin, first: id.seq, count: Int(count))
        }
    }

    static func answer(_ entries: [Entry]) -> SyncAnswer {
        var writer = ByteWriter(capacity: entries.count * 16 + 4)
        writer.varint(UInt64(entries.count))
        for entry in entries {
            writer.fixed64(entry.chain)
            writer.fixed64(entry.time.packed)
        }
        return SyncAnswer(payload: writer.bytes)
    }

    func entries(in answer: SyncAnswer) throws -> [Entry] {
        try decoded(answer.payload) { reader throws(MalformedBytes) in
            var entries: [Entry] = []
            for _ in 0..<(try reader.count(bytesEach: 16, max: count)) {
                let chain = try reader.fixed64()
                guard let time = HybridTimestamp(packed: try reader.fixed64()) else {
                    throw .outOfRange("time", offset: reader.offset)
                }
                entries.append(Entry(chain: chain, time: time))
            }
            return entries
        }
    }
}

/// A new origin number, please: the fork's seq v, length v, why. Answer: origin v.
struct NewLifeQuestion {
    /// The last change set of the present life that the hub has too.
    let fork: UInt64
    let reason: String

    var question: SyncQuestion {
        var writer = ByteWriter()
        writer.varint(fork)
        writer.sized(Array(reason.utf8.prefix(1024)))
        return SyncQuestion(kind: QuestionKind.newLife.rawValue, payload: writer.bytes)
    }

    init(fork: UInt64, reason: String) {
        self.fork = fork
        self.reason = reason
    }

    init(_ question: SyncQuestion) throws {
        self = try decoded(question.payload) { reader throws(MalformedBytes) in
            let fork = try reader.varint()
            guard fork <= UInt64(Int64.max) else { throw .outOfRange("seq", offset: 0) }
            return NewLifeQuestion(fork: fork, reason: String(decoding: try reader.sized(max: 1024), as: UTF8.self))
        }
    }

    /// The answer: the new number v, and head office's voucher for it, which a cut after this must not lose; empty
    /// for none.
    static func answer(_ origin: Origin, voucher: [UInt8]?) -> SyncAnswer {
        var writer = ByteWriter()
        writer.varint(UInt64(origin.rawValue))
        writer.sized(voucher ?? [])
        return SyncAnswer(payload: writer.bytes)
    }

    static func given(in answer: SyncAnswer) throws -> (origin: Origin, voucher: [UInt8]?) {
        try decoded(answer.payload) { reader throws(MalformedBytes) in
            guard let number = UInt32(exactly: try reader.varint()), number > 0, let origin = Origin(rawValue: number)
            else { throw .outOfRange("origin", offset: 0) }
            let voucher = [UInt8](try reader.sized(max: 8192))
            return (origin, voucher.isEmpty ? nil : voucher)
        }
    }
}

/// Which of these change sets the hub has already, under this name or issued again: count v, then each a
/// first identity. Answer: for as many as fit, from the first on: 0; or 1, and the name it has there, and the
/// length v and list of its renumbered rows.
struct AlreadyHaveQuestion {
    /// In one question.
    static let countMax = 2000
    /// An answer is not made longer once it has so many bytes.
    static let answerBytesMax = 600 << 10

    let identities: [FirstIdentity]

    /// What the hub has.
    struct Found: Hashable {
        let id: ChangeSetID
        /// What became of the rows that were made in it.
        let renumbered: [RenumberedRow]
    }

    var question: SyncQuestion {
        var writer = ByteWriter(capacity: identities.count * 48)
        writer.varint(UInt64(identities.count))
        for identity in identities { identity.write(to: &writer) }
        return SyncQuestion(kind: QuestionKind.alreadyHave.rawValue, payload: writer.bytes)
    }

    init(identities: [FirstIdentity]) { self.identities = identities }

    init(_ question: SyncQuestion) throws {
        self = try decoded(question.payload) { reader throws(MalformedBytes) in
            var identities: [FirstIdentity] = []
            for _ in 0..<(try reader.count(bytesEach: 34, max: Self.countMax)) {
                identities.append(try FirstIdentity(from: &reader))
            }
            return AlreadyHaveQuestion(identities: identities)
        }
    }

    static func answer(_ found: [Found?]) -> SyncAnswer {
        var writer = ByteWriter()
        writer.varint(UInt64(found.count))
        for found in found {
            guard let found else {
                writer.byte(0)
                continue
            }
            writer.byte(1)
            writer.varint(UInt64(found.id.origin.rawValue))
            writer.varint(found.id.seq)
            writer.sized(RenumberedRow.bytes(of: found.renumbered))
        }
        return SyncAnswer(payload: writer.bytes)
    }

    func found(in answer: SyncAnswer) throws -> [Found?] {
        try decoded(answer.payload) { reader throws(MalformedBytes) in
            var found: [Found?] = []
            for _ in 0..<(try reader.count(bytesEach: 1, max: identities.count)) {
                guard try reader.byte() != 0 else {
                    found.append(nil)
                    continue
                }
                let id = try reader.changeSetID()
                var rows = ByteReader(try reader.sized())
                found.append(Found(id: id, renumbered: try RenumberedRow.list(from: &rows)))
                try rows.finish()
            }
            return found
        }
    }
}

/// Reads all of what a peer has sent beside the stream.
func decoded<Value>(
    _ payload: [UInt8],
    _ read: (inout ByteReader) throws(MalformedBytes) -> Value
) throws -> Value {
    try payload.withUnsafeBytes { buffer in
        var reader = ByteReader(buffer)
        do {
            let value = try read(&reader)
            try reader.finish()
            return value
        } catch {
            throw Refusal(.protocolVersion, "A question or its answer is malformed. \(error)")
        }
    }
}
