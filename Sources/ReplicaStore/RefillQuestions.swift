import Causality
import SyncProtocol

// What a branch and a head office that has lost the end of its log say to each other. `v` is a LEB128 number.
//
//   question            payload                                        answer
//   10 common prefix    count v; each position v, digest 8; ascending  which of them is the last in the hub's log v
//   11 vectors          vector                                         outcome, vector, end
//   12 offer            1 byte: 0 in order, 1 in no order, 2 own and   outcome, entries taken v, end
//                       new; start position v, digest 8; count v,
//                       each entry
//   13 piece            origin v, seq v, offset v, bytes: the rest     bytes held v
//   14 progress         1, position v, digest 8; count v, each:        1 byte: 1 all of it is held; 1 byte: 1 another
//                       origin v, seq v: what stood up to there        branch may bring what is not
//
//   vector:  count v, each: origin v, seq v, first 8 bytes of the chain
//   entry:   origin v, seq v, first 8 bytes of the chain, 1 byte: 0 no body, 1 plain, 2 compressed, 3 sent in pieces;
//            1 and 2: time 8, length v, bytes; 3: time 8, length v
//   end:     1, position v, digest 8: of the hub's log
//   outcome: 1 byte: 0 all, 1 the next entry waits, 2 the next one, or a head of the vector, contradicts: origin v,
//            seq v, chain here 8, chain there 8

/// The last change set of an origin, with the first 8 bytes of the chain up to it.
struct ChainHead: Hashable {
    let id: ChangeSetID
    let chain: UInt64
}

/// One change set of a lost log, as a branch offers it.
struct RefillEntry: Hashable {
    /// What comes with it.
    enum Body: Hashable {
        /// Nothing: the hub holds it.
        case none
        case whole(HybridTimestamp, ChangeBody)
        /// So many bytes that have been sent before.
        case pieces(HybridTimestamp, bytes: Int)
    }

    let head: ChainHead
    let body: Body
}

/// Change sets that a branch offers to a hub that has lost them.
struct RefillOffer: Hashable {
    /// What is known of where they belong.
    enum Kind: UInt8 {
        /// They followed each other in the lost log.
        case inOrder = 0
        /// The lost log had them, nobody knows where.
        case loose = 1
        /// The branch's own, that no hub has had.
        case fresh = 2
    }

    let kind: Kind
    /// What they followed; empty unless they are in order.
    let start: LogPrefix
    var entries: [RefillEntry]
}

/// How far a hub has taken an offer.
enum RefillOutcome: Hashable {
    case all
    /// Something that the next entry builds on is not here yet.
    case waits
    /// Two contents for one change set.
    case contradicts(ChangeSetID, here: UInt64, there: UInt64)
}

extension ByteWriter {
    mutating func write(_ head: ChainHead) {
        varint(UInt64(head.id.origin.rawValue))
        varint(head.id.seq)
        fixed64(head.chain)
    }

    mutating func write(_ vector: [ChainHead]) {
        varint(UInt64(vector.count))
        for head in vector { write(head) }
    }

    mutating func write(_ offer: RefillOffer) {
        byte(offer.kind.rawValue)
        varint(offer.start.position)
        fixed64(offer.start.digest)
        varint(UInt64(offer.entries.count))
        for entry in offer.entries {
            write(entry.head)
            switch entry.body {
            case .none: byte(0)
            case .whole(let time, let body):
                byte(body.isCompressed ? 2 : 1)
                fixed64(time.packed)
                sized(body.bytes)
            case .pieces(let time, let bytes):
                byte(3)
                fixed64(time.packed)
                varint(UInt64(bytes))
            }
        }
    }

    mutating func write(_ outcome: RefillOutcome) {
        switch outcome {
        case .all: byte(0)
        case .waits: byte(1)
        case .contradicts(let id, let here, let there):
            byte(2)
            write(ChainHead(id: id, chain: here))
            fixed64(there)
        }
    }
}

extension ByteReader {
    mutating func changeSetID() throws(MalformedBytes) -> ChangeSetID {
        let start = offset
        let number = try varint()
        let seq = try varint()
        guard let origin = UInt32(exactly: number).flatMap(Origin.init(rawValue:)), origin != .none, seq > 0,
            seq <= UInt64(Int64.max)
        else { throw .outOfRange("a change set \(number):\(seq)", offset: start) }
        return ChangeSetID(origin: origin, seq: seq)
    }

    mutating func chainHead() throws(MalformedBytes) -> ChainHead {
        ChainHead(id: try changeSetID(), chain: try fixed64())
    }

    mutating func vector(max: Int) throws(MalformedBytes) -> [ChainHead] {
        var heads: [ChainHead] = []
        for _ in 0..<(try count(bytesEach: 10, max: max)) { heads.append(try chainHead()) }
        return heads
    }

    mutating func refillOffer() throws(MalformedBytes) -> RefillOffer {
        let at = offset
        guard let kind = RefillOffer.Kind(rawValue: try byte()) else { throw .outOfRange("kind of offer", offset: at) }
        let start = LogPrefix(position: try varint(), digest: try fixed64())
        guard start.position <= UInt64(Int64.max) / 2 else { throw .outOfRange("position", offset: at) }
        var entries: [RefillEntry] = []
        for _ in 0..<(try count(bytesEach: 11)) {
            let head = try chainHead()
            let body: RefillEntry.Body
            let form = try byte()
            switch form {
            case 0: body = .none
            case 1, 2:
                let time = try time()
                body = .whole(time, ChangeBody(isCompressed: form == 2, bytes: [UInt8](try sized())))
            case 3:
                let time = try time()
                let length = try varint()
                guard length <= UInt64(ChangeSet.contentBytesMax) else {
                    throw .outOfRange("\(length) bytes", offset: offset)
                }
                body = .pieces(time, bytes: Int(length))
            default: throw .outOfRange("form of a body", offset: offset)
            }
            entries.append(RefillEntry(head: head, body: body))
        }
        return RefillOffer(kind: kind, start: start, entries: entries)
    }

    mutating func refillOutcome() throws(MalformedBytes) -> RefillOutcome {
        let start = offset
        switch try byte() {
        case 0: return .all
        case 1: return .waits
        case 2:
            let head = try chainHead()
            return .contradicts(head.id, here: head.chain, there: try fixed64())
        default: throw .outOfRange("outcome of an offer", offset: start)
        }
    }

    private mutating func time() throws(MalformedBytes) -> HybridTimestamp {
        let start = offset
        guard let time = HybridTimestamp(packed: try fixed64()) else { throw .outOfRange("time", offset: start) }
        return time
    }
}

/// Reads a payload to its end.
///
/// - Throws: ``Refusal`` when it is not what the question says.
func reading<Value>(
    _ payload: [UInt8],
    _ body: (inout ByteReader) throws(MalformedBytes) -> Value
) throws -> Value {
    try payload.withUnsafeBytes { buffer in
        var reader = ByteReader(buffer)
        do throws(MalformedBytes) {
            let value = try body(&reader)
            try reader.finish()
            return value
        } catch {
            throw Refusal(.invalidChange, "A question or an answer cannot be read. \(error)")
        }
    }
}
