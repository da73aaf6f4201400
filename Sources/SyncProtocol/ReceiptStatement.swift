import Causality

// A receipt, as head office signs it. `v` is a LEB128 number.
//
//   bytes  content
//   16     "peyvand receipt" and the format, 1
//   16     organisation
//   16     node
//   v      origin: the present life of the node
//   v      seq, n: everything of the origin up to here is durable
//   32     chain up to n
//   v      head office's time, in milliseconds since 1970-01-01 UTC
//   v      safe seq, m: everything up to here is in a verified backup as well; 0 for nothing

/// What head office states about the work of one node: all of it up to ``seq`` is durable at head office.
///
/// The chain says what that work is, so that a copy of the node cannot pass the receipt off as its own.
package struct ReceiptStatement: Hashable, Sendable {
    package let organisation: UniqueID
    package let node: UniqueID
    package let origin: Origin
    /// At least 1.
    package let seq: UInt64
    package let chain: ChangeChain
    /// Head office's clock when it stated this, in milliseconds since 1970-01-01 UTC.
    package let sinceMilliseconds: UInt64
    /// At most ``seq``.
    package let safeSeq: UInt64

    package init(
        organisation: UniqueID,
        node: UniqueID,
        origin: Origin,
        seq: UInt64,
        chain: ChangeChain,
        sinceMilliseconds: UInt64,
        safeSeq: UInt64
    ) {
        self.organisation = organisation
        self.node = node
        self.origin = origin
        self.seq = seq
        self.chain = chain
        self.sinceMilliseconds = sinceMilliseconds
        self.safeSeq = safeSeq
    }

    private static let head = Array("peyvand receipt".utf8) + [1]

    /// The bytes that are signed, as the table above says.
    package var bytes: [UInt8] {
        var writer = ByteWriter(capacity: 128)
        writer.raw(Self.head)
        writer.raw(organisation.bytes)
        writer.raw(node.bytes)
        writer.varint(UInt64(origin.rawValue))
        writer.varint(seq)
        writer.raw(chain.bytes)
        writer.varint(sinceMilliseconds)
        writer.varint(safeSeq)
        return writer.bytes
    }

    /// Reads a statement.
    ///
    /// - Throws: ``Causality/MalformedBytes`` for anything that ``bytes`` would not write.
    package init(bytes: [UInt8]) throws(MalformedBytes) {
        let result = bytes.withUnsafeBytes { buffer -> Result<ReceiptStatement, MalformedBytes> in
            do throws(MalformedBytes) { return .success(try Self.read(buffer)) } catch { return .failure(error) }
        }
        self = try result.get()
    }

    private static func read(_ buffer: UnsafeRawBufferPointer) throws(MalformedBytes) -> ReceiptStatement {
        var reader = ByteReader(buffer)
        guard try reader.raw(head.count).elementsEqual(head) else { throw .outOfRange("head of a receipt", offset: 0) }
        guard let organisation = UniqueID(bytes: [UInt8](try reader.raw(UniqueID.byteCount))),
            let node = UniqueID(bytes: [UInt8](try reader.raw(UniqueID.byteCount))),
            let origin = Origin(rawValue: UInt32(clamping: try reader.varint())), origin != .none
        else { throw .outOfRange("origin", offset: reader.offset) }
        let seq = try reader.varint()
        guard seq > 0, seq <= UInt64(Int64.max),
            let chain = ChangeChain(bytes: [UInt8](try reader.raw(ChangeChain.byteCount)))
        else { throw .outOfRange("seq", offset: reader.offset) }
        let since = try reader.varint()
        guard since <= HybridTimestamp.millisecondsMax else { throw .outOfRange("time", offset: reader.offset) }
        let safeSeq = try reader.varint()
        guard safeSeq <= seq else { throw .outOfRange("safe seq", offset: reader.offset) }
        try reader.finish()
        return ReceiptStatement(
            organisation: organisation,
            node: node,
            origin: origin,
            seq: seq,
            chain: chain,
            sinceMilliseconds: since,
            safeSeq: safeSeq
        )
    }
}

/// A statement with head office's signature: what travels as the answer to the question for a receipt.
package struct SignedReceipt: Hashable, Sendable {
    /// The signed bytes, of a ``ReceiptStatement``.
    package let statement: [UInt8]
    /// 64 bytes, Ed25519.
    package let signature: [UInt8]

    package static let signatureByteCount = 64

    package init(statement: [UInt8], signature: [UInt8]) {
        self.statement = statement
        self.signature = signature
    }

    /// The signature, then the statement.
    package var payload: [UInt8] { signature + statement }

    /// Reads an answer; nil when it is too short to be one.
    package init?(payload: [UInt8]) {
        guard payload.count > Self.signatureByteCount else { return nil }
        self.init(
            statement: Array(payload.dropFirst(Self.signatureByteCount)),
            signature: Array(payload.prefix(Self.signatureByteCount))
        )
    }
}
