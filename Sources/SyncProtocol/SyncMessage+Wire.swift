import Causality

// The payload of each message. `v` is a LEB128 number, `text` a length v and UTF-8, `prefix` a position v
// and a digest of 8 bytes; all other numbers are counts of bytes. Times are milliseconds since 1970.
//
//   type  message           payload
//   1     join              token 16, proof 32, node 16, key 32, software text,
//                           length v, request for a certificate
//   2     joined            organisation 16, origin v, name text, hub node 16, hub name text,
//                           hub origin v, branch row 8, length v (32, or 0 for none), head office's public key,
//                           number v of certificates, each length v, bytes
//   3     hello             protocol min v, max v, schema v, organisation 8, node 16, key 32, origin v,
//                           own seq v, own chain 8, cursor prefix, sent at v, parked v, conflicts v,
//                           software text, extras
//   4     welcome           protocol v, schema v, node 16, origin v, repeats 1 (1: as the hello said, so the next
//                           three are not there), accepted seq v, accepted chain 8, end prefix,
//                           received at v, sent at v zigzag, minus received at, root, mode 1, extras
//   5     refuse            code v, sentence text, retry after seconds v (0: not said)
//   6     changes           form 1: 0 plain, 1 the rest is one zstd frame; then:
//                           first position v, end prefix, number of entries v, then each entry
//   7     appliedPosition   prefix
//   8     appliedSeq        seq v, chain 8
//   9     caughtUp          end prefix, child seq v, root
//   10    digestResult      equal 1: 0 or 1, prefix
//   11    ping              nonce 8
//   12    pong              nonce 8
//   13    bye               reason 1: 0 other, then text; 1 done; 2 stopping; 3 again
//   14    ask               kind v, length v, payload
//   15    answer            length v, payload
//   16    offer             large body
//   17    held              bytes v
//   18    part              offset v, length v, bytes
//
//   extras: number v, then each: tag v, length v, bytes; ascending by tag
//   root:  1 byte, 0 none or 1, then 8, 8, rows v
//   entry: 1 byte, then
//          0 stub                  origin v, seq v
//          1 plain body            time 8, length v, bytes
//          2 compressed body       time 8, length v, bytes
//          3 large body            time 8, large body
//   large body: origin v, seq v, bytes v, SHA-256 32
//
// Messages 1 to 5 are read before both sides know each other's version, so bytes after the last field
// that is known are ignored there: a newer peer may add fields. All others must end where they end.

enum MessageType: UInt8, CaseIterable {
    case join = 1
    case joined, hello, welcome, refuse, changes, appliedPosition, appliedSeq, caughtUp, digestResult
    case ping, pong, bye, ask, answer, offer, held, part
}

/// One message as bytes, before it is cut into frames.
package struct FramedMessage: Hashable, Sendable {
    /// 1...127.
    package var type: UInt8
    package var payload: [UInt8]

    package init(type: UInt8, payload: [UInt8]) {
        self.type = type
        self.payload = payload
    }
}

/// Turns messages into bytes and back. Keeps working memory for zstd, so each direction of a connection
/// owns one, and only one task uses it.
package final class SyncMessageCodec {
    private let limits: SyncLimits
    private let compressor = ZstdCompressor()
    private let decompressor = ZstdDecompressor()

    package init(limits: SyncLimits = .standard) {
        self.limits = limits
    }

    /// Returns the bytes of a message. Texts longer than the limits are cut.
    package func encode(_ message: SyncMessage) -> FramedMessage {
        let type: MessageType
        var writer = ByteWriter()
        switch message {
        case .join(let join):
            type = .join
            writer.write(join, limits)
        case .joined(let joined):
            type = .joined
            writer.write(joined, limits)
        case .hello(let hello):
            type = .hello
            writer.write(hello, limits)
        case .welcome(let welcome):
            type = .welcome
            writer.write(welcome, limits)
        case .refuse(let refusal):
            type = .refuse
            writer.varint(UInt64(refusal.code.number))
            writer.text(refusal.sentence, max: limits.sentenceBytesMax)
            writer.varint(UInt64(refusal.retryAfterSeconds ?? 0))
        case .changes(let batch):
            return FramedMessage(type: MessageType.changes.rawValue, payload: encode(batch))
        case .offer(let body):
            type = .offer
            writer.write(body)
        case .held(let bytes):
            type = .held
            writer.varint(bytes)
        case .part(let offset, let bytes):
            type = .part
            writer = ByteWriter(capacity: bytes.count + 16)
            writer.varint(offset)
            writer.sized(bytes)
        case .appliedPosition(let prefix):
            type = .appliedPosition
            writer.write(prefix)
        case .appliedSeq(let seq, let chain):
            type = .appliedSeq
            writer.varint(seq)
            writer.fixed64(chain)
        case .caughtUp(let caughtUp):
            type = .caughtUp
            writer.write(caughtUp.end)
            writer.varint(caughtUp.childSeq)
            writer.write(caughtUp.root)
        case .digestResult(let isEqual, let prefix):
            type = .digestResult
            writer.byte(isEqual ? 1 : 0)
            writer.write(prefix)
        case .ping(let nonce):
            type = .ping
            writer.fixed64(nonce)
        case .pong(let nonce):
            type = .pong
            writer.fixed64(nonce)
        case .ask(let question):
            type = .ask
            writer.varint(UInt64(question.kind))
            writer.sized(question.payload)
        case .answer(let answer):
            type = .answer
            writer.sized(answer.payload)
        case .bye(let reason):
            type = .bye
            writer.byte(Farewell.number(of: reason))
            if Farewell.number(of: reason) == 0 { writer.text(reason, max: limits.sentenceBytesMax) }
        }
        return FramedMessage(type: type.rawValue, payload: writer.bytes)
    }

    /// Reads what a peer sent.
    ///
    /// - Throws: ``SyncWireFailure``. Arbitrary bytes never trap, and nothing is allocated for a size that
    ///   the bytes or the limits do not allow.
    package func decode(_ message: FramedMessage) throws(SyncWireFailure) -> SyncMessage {
        guard let type = MessageType(rawValue: message.type) else { throw .unknownType(message.type) }
        // A result, because withUnsafeBytes rethrows without the type of the error.
        let result = message.payload.withUnsafeBytes { payload -> Result<SyncMessage, SyncWireFailure> in
            do throws(SyncWireFailure) {
                return .success(try decode(type, payload))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private func decode(
        _ type: MessageType,
        _ payload: UnsafeRawBufferPointer
    ) throws(SyncWireFailure) -> SyncMessage {
        if type == .changes { return .changes(try decodeBatch(payload)) }
        var reader = ByteReader(payload)
        do throws(MalformedBytes) {
            let message = try reader.message(type, limits)
            if !type.mayGrow { try reader.finish() }
            return message
        } catch {
            throw .malformed("\(type)", error)
        }
    }

    private func encode(_ batch: ChangeBatch) -> [UInt8] {
        var plain = ByteWriter(capacity: batch.bodyBytes + 16 * batch.entries.count + 32)
        plain.byte(ChangesForm.plain)
        plain.write(batch)
        guard batch.hasPlainBody else { return plain.bytes }
        var packed = ByteWriter()
        packed.byte(ChangesForm.zstd)
        packed.raw(compressor.compress([UInt8](plain.bytes.dropFirst())))
        // A block that shrinks too well looks like a bomb to its receiver.
        guard packed.count < plain.count,
            plain.count <= limits.sizeMax(decompressing: packed.count - 1)
        else { return plain.bytes }
        return packed.bytes
    }

    private func decodeBatch(_ payload: UnsafeRawBufferPointer) throws(SyncWireFailure) -> ChangeBatch {
        guard let form = payload.first else {
            throw .malformed("changes", .truncated(offset: 0, wanted: 1))
        }
        let rest = UnsafeRawBufferPointer(rebasing: payload.dropFirst())
        switch form {
        case ChangesForm.plain:
            return try ChangeBatch.read(rest, limits)
        case ChangesForm.zstd:
            let plain: [UInt8]
            do {
                plain = try decompressor.decompress(
                    rest,
                    sizeMax: limits.sizeMax(decompressing: rest.count)
                )
            } catch {
                throw .compressed("changes", error)
            }
            let result = plain.withUnsafeBytes { bytes -> Result<ChangeBatch, SyncWireFailure> in
                do throws(SyncWireFailure) {
                    return .success(try ChangeBatch.read(bytes, limits))
                } catch {
                    return .failure(error)
                }
            }
            return try result.get()
        default:
            throw .malformed("changes", .outOfRange("a form of \(form)", offset: 0))
        }
    }
}

private enum ChangesForm {
    static let plain: UInt8 = 0
    static let zstd: UInt8 = 1
}

private enum EntryKind {
    static let stub: UInt8 = 0
    static let plain: UInt8 = 1
    static let compressed: UInt8 = 2
    static let large: UInt8 = 3
    /// Kind, origin and seq of the shortest stub.
    static let bytesMin = 3
}

extension MessageType {
    fileprivate var mayGrow: Bool { rawValue <= MessageType.refuse.rawValue }
}

extension SyncLimits {
    /// The largest size that a compressed block of so many bytes may announce.
    fileprivate func sizeMax(decompressing bytes: Int) -> Int {
        min(messageBytesMax, max(ratioFreeBytesMax, bytes * decompressionRatioMax))
    }
}

extension ChangeBatch {
    fileprivate var hasPlainBody: Bool {
        entries.contains { entry in
            if case .changeSet(_, let body) = entry { !body.isCompressed } else { false }
        }
    }

    fileprivate static func read(
        _ bytes: UnsafeRawBufferPointer,
        _ limits: SyncLimits
    ) throws(SyncWireFailure) -> ChangeBatch {
        var reader = ByteReader(bytes)
        do throws(MalformedBytes) {
            let batch = try reader.batch(limits)
            try reader.finish()
            return batch
        } catch {
            throw .malformed("changes", error)
        }
    }
}

extension ByteWriter {
    fileprivate mutating func text(_ text: String, max: Int) {
        let bytes = Array(text.utf8.prefix(max))
        var count = bytes.count
        // A cut inside a character would leave bytes that are no UTF-8.
        if text.utf8.count > max {
            while count > 0, String(validating: bytes[..<count], as: UTF8.self) == nil { count -= 1 }
        }
        sized(bytes[..<count])
    }

    fileprivate mutating func write(_ prefix: LogPrefix) {
        varint(prefix.position)
        fixed64(prefix.digest)
    }

    fileprivate mutating func write(_ root: DatabaseRoot?) {
        byte(root == nil ? 0 : 1)
        guard let root else { return }
        fixed64(root.first)
        fixed64(root.second)
        varint(root.rows)
    }

    fileprivate mutating func write(_ join: Join, _ limits: SyncLimits) {
        raw(join.tokenID.bytes)
        raw(join.proof.bytes)
        raw(join.node.bytes)
        raw(join.nodeKey.bytes)
        text(join.software, max: limits.nameBytesMax)
        sized(join.request)
    }

    fileprivate mutating func write(_ joined: Joined, _ limits: SyncLimits) {
        raw(joined.organisation.bytes)
        varint(UInt64(joined.origin.rawValue))
        text(joined.name, max: limits.nameBytesMax)
        raw(joined.hubNode.bytes)
        text(joined.hubName, max: limits.nameBytesMax)
        varint(UInt64(joined.hubOrigin.rawValue))
        fixed64(UInt64(bitPattern: joined.branchRow.rawValue))
        sized(joined.organisationKey ?? [])
        varint(UInt64(joined.certificates.count))
        for certificate in joined.certificates { sized(certificate) }
    }

    fileprivate mutating func write(_ hello: Hello, _ limits: SyncLimits) {
        varint(UInt64(hello.protocolMin))
        varint(UInt64(hello.protocolMax))
        varint(UInt64(hello.schemaVersion))
        fixed64(hello.organisationPrefix)
        raw(hello.node.bytes)
        raw(hello.key.bytes)
        varint(UInt64(hello.origin.rawValue))
        varint(hello.ownSeq)
        fixed64(hello.ownChain)
        write(hello.cursor)
        varint(hello.sentAtMilliseconds)
        varint(hello.parked)
        varint(hello.conflicts)
        text(hello.software, max: limits.nameBytesMax)
        write(hello.extras)
    }

    fileprivate mutating func write(_ welcome: Welcome, _ limits: SyncLimits) {
        varint(UInt64(welcome.protocolVersion))
        varint(UInt64(welcome.schemaVersion))
        raw(welcome.node.bytes)
        varint(UInt64(welcome.origin.rawValue))
        byte(welcome.repeatsHello ? 1 : 0)
        if !welcome.repeatsHello {
            varint(welcome.acceptedSeq)
            fixed64(welcome.acceptedChain)
            write(welcome.end)
        }
        varint(welcome.receivedAtMilliseconds)
        zigzag(Int64(bitPattern: welcome.sentAtMilliseconds &- welcome.receivedAtMilliseconds))
        write(welcome.root)
        byte(welcome.mode.rawValue)
        write(welcome.extras)
    }

    fileprivate mutating func write(_ extras: SyncExtras) {
        let fields = extras.sorted
        varint(UInt64(fields.count))
        for field in fields {
            varint(UInt64(field.tag))
            sized(field.bytes)
        }
    }

    fileprivate mutating func write(_ batch: ChangeBatch) {
        varint(batch.firstPosition)
        write(batch.end)
        varint(UInt64(batch.entries.count))
        for entry in batch.entries {
            switch entry {
            case .stub(let id):
                byte(EntryKind.stub)
                varint(UInt64(id.origin.rawValue))
                varint(id.seq)
            case .changeSet(let time, let body):
                byte(body.isCompressed ? EntryKind.compressed : EntryKind.plain)
                fixed64(time.packed)
                sized(body.bytes)
            case .large(let time, let body):
                byte(EntryKind.large)
                fixed64(time.packed)
                write(body)
            }
        }
    }

    fileprivate mutating func write(_ body: LargeBody) {
        varint(UInt64(body.id.origin.rawValue))
        varint(body.id.seq)
        varint(UInt64(body.byteCount))
        raw(body.hash)
    }
}

extension ByteReader {
    fileprivate mutating func message(
        _ type: MessageType,
        _ limits: SyncLimits
    ) throws(MalformedBytes) -> SyncMessage {
        switch type {
        case .join: .join(try join(limits))
        case .joined: .joined(try joined(limits))
        case .hello: .hello(try hello(limits))
        case .welcome: .welcome(try welcome(limits))
        case .refuse: .refuse(try refusal(limits))
        case .changes: .changes(try batch(limits))
        case .offer: .offer(try largeBody())
        case .held: .held(try varint())
        case .part: .part(offset: try varint(), [UInt8](try sized(max: limits.partBytesMax)))
        case .appliedPosition: .appliedPosition(try prefix())
        case .appliedSeq: .appliedSeq(try varint(), chain: try fixed64())
        case .caughtUp:
            .caughtUp(CaughtUp(end: try prefix(), childSeq: try varint(), root: try root()))
        case .digestResult: .digestResult(isEqual: try flag(), at: try prefix())
        case .ping: .ping(nonce: try fixed64())
        case .pong: .pong(nonce: try fixed64())
        case .bye: .bye(reason: try farewell(limits))
        case .ask: .ask(SyncQuestion(kind: try number16(), payload: [UInt8](try sized(max: remaining))))
        case .answer: .answer(SyncAnswer(payload: [UInt8](try sized(max: remaining))))
        }
    }

    private mutating func farewell(_ limits: SyncLimits) throws(MalformedBytes) -> String {
        let start = offset
        let number = try byte()
        if number == 0 { return try text(max: limits.sentenceBytesMax) }
        guard let reason = Farewell.reason(number) else { throw .outOfRange("a farewell of \(number)", offset: start) }
        return reason
    }

    private mutating func number16() throws(MalformedBytes) -> UInt16 {
        let start = offset
        let value = try varint()
        guard let number = UInt16(exactly: value) else {
            throw .outOfRange("the number \(value)", offset: start)
        }
        return number
    }

    private mutating func extras() throws(MalformedBytes) -> SyncExtras {
        var extras = SyncExtras()
        for _ in 0..<(try count(bytesEach: 2, max: 64)) {
            let tag = try number16()
            extras[tag] = [UInt8](try sized(max: remaining))
        }
        return extras
    }

    private mutating func number32() throws(MalformedBytes) -> UInt32 {
        let start = offset
        let value = try varint()
        guard let number = UInt32(exactly: value) else {
            throw .outOfRange("the number \(value)", offset: start)
        }
        return number
    }

    /// A wall-clock time that a hybrid timestamp can hold, so that differences of times cannot overflow.
    private mutating func milliseconds() throws(MalformedBytes) -> UInt64 {
        let start = offset
        let value = try varint()
        guard value <= HybridTimestamp.millisecondsMax else {
            throw .outOfRange("a time of \(value) milliseconds", offset: start)
        }
        return value
    }

    private mutating func flag() throws(MalformedBytes) -> Bool {
        let start = offset
        let value = try byte()
        guard value <= 1 else { throw .outOfRange("a flag of \(value)", offset: start) }
        return value == 1
    }

    private mutating func text(max: Int) throws(MalformedBytes) -> String {
        let start = offset
        let bytes = try sized(max: max)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw .outOfRange("a text that is not UTF-8", offset: start)
        }
        return text
    }

    private mutating func uniqueID() throws(MalformedBytes) -> UniqueID {
        let start = offset
        guard let id = UniqueID(bytes: [UInt8](try raw(UniqueID.byteCount))) else {
            throw .truncated(offset: start, wanted: UniqueID.byteCount)
        }
        return id
    }

    private mutating func key() throws(MalformedBytes) -> Key256 {
        let start = offset
        guard let key = Key256(bytes: [UInt8](try raw(Key256.byteCount))) else {
            throw .truncated(offset: start, wanted: Key256.byteCount)
        }
        return key
    }

    private mutating func origin() throws(MalformedBytes) -> Origin {
        let start = offset
        let number = try number32()
        guard let origin = Origin(rawValue: number) else {
            throw .outOfRange("an origin of \(number)", offset: start)
        }
        return origin
    }

    private mutating func prefix() throws(MalformedBytes) -> LogPrefix {
        LogPrefix(position: try varint(), digest: try fixed64())
    }

    private mutating func root() throws(MalformedBytes) -> DatabaseRoot? {
        guard try flag() else { return nil }
        return DatabaseRoot(first: try fixed64(), second: try fixed64(), rows: try varint())
    }

    private mutating func join(_ limits: SyncLimits) throws(MalformedBytes) -> Join {
        var join = Join(
            tokenID: try uniqueID(),
            proof: try key(),
            node: try uniqueID(),
            nodeKey: try key(),
            software: try text(max: limits.nameBytesMax)
        )
        join.request = [UInt8](try sized(max: remaining))
        return join
    }

    private mutating func joined(_ limits: SyncLimits) throws(MalformedBytes) -> Joined {
        let organisation = try uniqueID()
        let origin = try origin()
        let name = try text(max: limits.nameBytesMax)
        let hubNode = try uniqueID()
        let hubName = try text(max: limits.nameBytesMax)
        let hubOrigin = try self.origin()
        let start = offset
        guard let branchRow = RowID(rawValue: Int64(bitPattern: try fixed64())) else {
            throw .outOfRange("the identifier of the branch", offset: start)
        }
        let keyStart = offset
        let key = [UInt8](try sized(max: Key256.byteCount))
        guard key.isEmpty || key.count == Key256.byteCount else {
            throw .outOfRange("the length of a public key", offset: keyStart)
        }
        var joined = Joined(
            organisation: organisation,
            origin: origin,
            name: name,
            hubNode: hubNode,
            hubName: hubName,
            hubOrigin: hubOrigin,
            branchRow: branchRow,
            organisationKey: key.isEmpty ? nil : key
        )
        for _ in 0..<(try count(bytesEach: 1, max: Joined.certificatesMax)) {
            joined.certificates.append([UInt8](try sized(max: remaining)))
        }
        return joined
    }

    private mutating func hello(_ limits: SyncLimits) throws(MalformedBytes) -> Hello {
        let protocolMin = try number32()
        let protocolMax = try number32()
        var hello = Hello(
            schemaVersion: try number32(),
            organisationPrefix: try fixed64(),
            node: try uniqueID(),
            key: try key(),
            origin: try origin(),
            ownSeq: try varint(),
            ownChain: try fixed64(),
            cursor: try prefix(),
            sentAtMilliseconds: try milliseconds(),
            parked: try varint(),
            conflicts: try varint(),
            software: try text(max: limits.nameBytesMax)
        )
        hello.protocolMin = protocolMin
        hello.protocolMax = protocolMax
        hello.extras = try extras()
        return hello
    }

    private mutating func welcome(_ limits: SyncLimits) throws(MalformedBytes) -> Welcome {
        let protocolVersion = try number32()
        let schemaVersion = try number32()
        let node = try uniqueID()
        let origin = try origin()
        let repeatsHello = try flag()
        let acceptedSeq = repeatsHello ? 0 : try varint()
        let acceptedChain = repeatsHello ? 0 : try fixed64()
        let end = repeatsHello ? .empty : try prefix()
        let receivedAt = try milliseconds()
        let timesStart = offset
        let sentAt = receivedAt &+ UInt64(bitPattern: try zigzag())
        guard sentAt <= HybridTimestamp.millisecondsMax else {
            throw .outOfRange("a time of \(sentAt) milliseconds", offset: timesStart)
        }
        var welcome = Welcome(
            schemaVersion: schemaVersion,
            node: node,
            origin: origin,
            acceptedSeq: acceptedSeq,
            acceptedChain: acceptedChain,
            end: end,
            receivedAtMilliseconds: receivedAt,
            sentAtMilliseconds: sentAt,
            root: try root()
        )
        welcome.repeatsHello = repeatsHello
        welcome.protocolVersion = protocolVersion
        let start = offset
        let mode = try byte()
        guard let mode = SyncMode(rawValue: mode) else { throw .outOfRange("a mode of \(mode)", offset: start) }
        welcome.mode = mode
        welcome.extras = try extras()
        return welcome
    }

    private mutating func refusal(_ limits: SyncLimits) throws(MalformedBytes) -> Refusal {
        let start = offset
        let number = try varint()
        guard let number = UInt16(exactly: number) else {
            throw .outOfRange("a code of \(number)", offset: start)
        }
        let sentence = try text(max: limits.sentenceBytesMax)
        let retryAfter = try number32()
        return Refusal(
            Refusal.Code(number: number),
            sentence,
            retryAfterSeconds: retryAfter == 0 ? nil : retryAfter
        )
    }

    fileprivate mutating func batch(_ limits: SyncLimits) throws(MalformedBytes) -> ChangeBatch {
        let firstPosition = try varint()
        let end = try prefix()
        let count = try count(bytesEach: EntryKind.bytesMin, max: limits.batchEntriesMax)
        var entries: [ChangeEntry] = []
        entries.reserveCapacity(count)
        for _ in 0..<count { entries.append(try entry()) }
        return ChangeBatch(firstPosition: firstPosition, entries: entries, end: end)
    }

    private mutating func timestamp() throws(MalformedBytes) -> HybridTimestamp {
        let start = offset
        guard let time = HybridTimestamp(packed: try fixed64()) else { throw .outOfRange("a timestamp", offset: start) }
        return time
    }

    private mutating func largeBody() throws(MalformedBytes) -> LargeBody {
        let id = ChangeSetID(origin: try origin(), seq: try varint())
        let start = offset
        let bytes = try varint()
        guard bytes > 0, bytes <= UInt64(ChangeSet.contentBytesMax) else {
            throw .outOfRange("a body of \(bytes) bytes", offset: start)
        }
        return LargeBody(id: id, byteCount: Int(bytes), hash: [UInt8](try raw(LargeBody.hashByteCount)))
    }

    private mutating func entry() throws(MalformedBytes) -> ChangeEntry {
        let start = offset
        let kind = try byte()
        switch kind {
        case EntryKind.stub:
            return .stub(ChangeSetID(origin: try origin(), seq: try varint()))
        case EntryKind.large:
            return .large(time: try timestamp(), try largeBody())
        case EntryKind.plain, EntryKind.compressed:
            let time = try timestamp()
            let bytes = try sized(max: ChangeSet.contentBytesMax)
            return .changeSet(
                time: time,
                body: ChangeBody(isCompressed: kind == EntryKind.compressed, bytes: [UInt8](bytes))
            )
        default:
            throw .outOfRange("an entry of kind \(kind)", offset: start)
        }
    }
}
