import Causality
import Crypto
import Foundation
import GRDB
import SyncProtocol
import Trust

// Change sets in a file, for a branch without a line. The messages are those of a session, in a RecordFile:
//
//   kind 1  format 1 (1), organisation 16, writer's node 16, receiver's node 16, salt 32,
//           the writer's certificate (DER; empty from head office)
//   kind 2  a message in its frames, sealed (RFC 8439, ChaCha20-Poly1305) under a key that the two nodes alone can derive
//           (RFC 5869, HKDF) from the secret that they have shared since enrolment; the nonce is the message's number
//   kind 4  a signature over the SHA-256 of the contents before it: the branch's key of its certificate (ECDSA P-256), or
//           head office's organisation key (Ed25519)
//
// A bundle begins where the receiver is known to be, not where the last one ended: so bundles may be lost, read twice, or in
// another order, and each brings back what the other side has confirmed.

/// Why a bundle was not written, or nothing was taken from it.
package enum BundleFailure: Error, Hashable, Sendable, CustomStringConvertible {
    case noReceiver
    case unknownNode(String)
    case notForThisNode(String)
    case notSigned(String)
    case notCertified
    case trimmed(String)
    case mustMeet
    case inSession(String)
    case refused(String)

    package var description: String {
        switch self {
        case .noReceiver: "Head office writes a bundle for one branch: add --for NAME, or --snapshot for all rows."
        case .unknownNode(let name): "There is no node \(name) that takes part. `peyvand fleet` shows them."
        case .notForThisNode(let path):
            "\(path) was written for another node, or by one that this one does not know. Nothing was taken from it."
        case .notSigned(let path):
            "\(path) was not signed by the node that it says has written it, or was changed since. Nothing was taken "
                + "from it; copy it again."
        case .notCertified: "This node has no certificate to sign with. Let it meet head office once by its line."
        case .trimmed(let name):
            "Head office has let go of what \(name) lacks. Write all rows for it: `peyvand bundle write FILE --snapshot`."
        case .mustMeet:
            "The branch was restored or copied, and must be given a new number first. Let it meet head office once by "
                + "its line. Nothing was taken."
        case .inSession(let name):
            "\(name) has a session now, which brings the same. Read the bundle when it has ended. Nothing was taken."
        case .refused(let sentence): sentence
        }
    }
}

/// What a bundle holds, or what was taken from one.
package struct BundleReport: Hashable, Sendable {
    package var changeSets = 0
    package var rows = 0
    package var bytes = 0
    /// Change sets that the writer confirms to have from the reader, up to this number; nil for none.
    package var confirmed: UInt64?
}

private enum BundleFormat {
    static let magic = Array("peyvand bundle 1".utf8)
    static let version: UInt8 = 1
    static let saltBytes = 32
    /// One message in its frames, with their headers and the tag.
    static let recordBytesMax = SyncLimits.standard.messageBytesMax + (64 << 10)

    static func key(_ secret: [UInt8], salt: [UInt8], from: [UInt8], to: [UInt8]) -> SymmetricKey {
        HKDF<SHA256>.deriveKey(
            inputKeyMaterial: SymmetricKey(data: secret),
            salt: salt,
            info: magic + from + to,
            outputByteCount: 32
        )
    }

    static func nonce(_ number: UInt64) throws -> ChaChaPoly.Nonce {
        try ChaChaPoly.Nonce(
            data: (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * UInt64($0))) } + [0, 0, 0, 0]
        )
    }
}

extension Replica {
    /// Whether a file is a bundle of change sets.
    package static func isBundle(_ path: String) -> Bool { RecordFile.isOf(BundleFormat.magic, path) }

    /// Writes what the receiver lacks into a file, which appears under its name when it is whole. Blocks.
    ///
    /// - Parameters:
    ///   - name: At head office: which branch it is for. A branch writes for head office.
    ///   - progress: Is told the change sets written so far.
    /// - Throws: ``BundleFailure``, ``SnapshotFileFailure`` when the file cannot be written.
    package func writeBundle(
        to path: String,
        for name: String?,
        randomBytes: (Int) -> [UInt8],
        progress: (Int) throws -> Void
    ) throws -> BundleReport {
        try sealForeignWrites()
        let ends = try bundleEnds(for: name)
        let sealing = try BundleSealing(ends, salt: randomBytes(BundleFormat.saltBytes), path)
        do {
            var report = BundleReport()
            let limits = SyncLimits.standard
            func write(_ outgoing: OutgoingBatch) throws -> Bool {
                guard !outgoing.batch.entries.isEmpty else { return false }
                if let body = outgoing.batch.largeBody { try writeParts(of: body, sealing, limits) }
                try sealing.write(.changes(outgoing.batch))
                report.changeSets += outgoing.changeSets
                report.rows += outgoing.rows
                try progress(report.changeSets)
                return !outgoing.isAtEnd
            }
            if node.role == .headOffice {
                try sealing.write(.welcome(bundleWelcome(to: ends)))
                if let accepted = ends.accepted {
                    try sealing.write(.appliedSeq(accepted.seq, chain: accepted.chain.prefix))
                }
                if let reader = UniqueID(bytes: ends.to),
                    let receipt = try withWriter({ try $0.receipt(for: reader, ends.origin) })
                {
                    try sealing.write(.answer(SyncAnswer(payload: receipt.signed.payload)))
                }
                var position = ends.position
                while true {
                    let next = try readLog(after: position, for: ends.origin, named: name ?? "")
                    position = max(position, next.batch.end.position)
                    guard try write(next) else { break }
                }
            } else {
                let hello = try childFacts()
                try sealing.write(.hello(hello))
                try sealing.write(.appliedPosition(hello.cursor))
                var seq = contacts.withLock { $0.own.acceptedSeq } ?? 0
                while true {
                    let next = try readOwn(
                        afterSeq: seq,
                        bytesMax: limits.batchBytesMax,
                        entriesMax: limits.batchEntriesMax
                    )
                    seq += UInt64(next.batch.entries.count)
                    guard try write(next) else { break }
                }
                try noteCarried(through: seq)
            }
            report.bytes = try sealing.finish { try self.signBundle($0) }
            return report
        } catch {
            sealing.file.abandon()
            throw error
        }
    }

    /// What head office says of itself and, for the branch to keep, of its audit log.
    private func bundleWelcome(to ends: BundleEnds) throws -> Welcome {
        guard let own = UniqueID(bytes: node.node), let reader = UniqueID(bytes: ends.to) else {
            throw StoreFailure.notJoined
        }
        return try withWriter { writer in
            let now = writer.wallClock()
            var welcome = Welcome(
                schemaVersion: UInt32(schema.version),
                node: own,
                origin: writer.node.origin,
                acceptedSeq: ends.accepted?.seq ?? 0,
                acceptedChain: ends.accepted?.chain.prefix ?? ChangeChain.empty.prefix,
                end: writer.end,
                receivedAtMilliseconds: now,
                sentAtMilliseconds: now,
                root: nil
            )
            try tellAudit(in: &welcome.extras, to: reader, writer)
            return welcome
        }
    }

    /// Notes how much of this node's work is in a file that may be read at any time, so that its times stay as they are.
    private func noteCarried(through seq: UInt64) throws {
        try withWriter { writer in
            guard try writer.fact(.carriedSeq) ?? 0 < Int64(clamping: seq) else { return }
            try writer.transaction { try writer.note(.carriedSeq, Int64(clamping: seq)) }
        }
    }

    /// What a branch lacks next.
    private func readLog(after position: UInt64, for reader: Origin, named name: String) throws -> OutgoingBatch {
        let limits = SyncLimits.standard
        do {
            return try readLog(
                afterPosition: position,
                for: reader,
                bytesMax: limits.batchBytesMax,
                entriesMax: limits.batchEntriesMax
            )
        } catch {
            guard case .refused(let refusal) = error, refusal.code == .retryLater else { throw error }
            throw BundleFailure.trimmed(name)
        }
    }

    private func writeParts(of body: LargeBody, _ sealing: BundleSealing, _ limits: SyncLimits) throws {
        try sealing.write(.offer(body))
        var offset = 0
        while offset < body.byteCount {
            let part = try readPart(PartRequest(body: body, offset: offset, bytesMax: limits.partBytesMax))
            try sealing.write(.part(offset: UInt64(offset), part))
            offset += part.count
        }
    }

    private func signBundle(_ digest: [UInt8]) throws -> [UInt8] {
        if node.role == .branch {
            guard let identity = try lineIdentity() else { throw BundleFailure.notCertified }
            return try identity.sign(digest)
        }
        let key = try withWriter { writer in try writer.transaction { try writer.organisationKey() } }
        guard let signature = try key?.sign(digest) else { throw BundleFailure.notCertified }
        return signature
    }

    /// Who writes, who reads, and from where on.
    private func bundleEnds(for name: String?) throws -> BundleEnds {
        guard node.isJoined, let organisation = node.organisation else { throw StoreFailure.notJoined }
        if node.role == .branch {
            guard let hub = node.hub?.node, let certificate = try lineIdentity()?.chain.first else {
                throw BundleFailure.notCertified
            }
            return BundleEnds(
                organisation: organisation,
                from: node.node,
                to: hub,
                secret: Replica.hash(node.nodeKey),
                certificate: certificate,
                origin: node.origin
            )
        }
        guard let name else { throw BundleFailure.noReceiver }
        return try withWriterState { writer in
            let row = try Row.fetchOne(
                writer.db.cachedStatement(
                    sql: """
                        SELECT registeredNode.node, keyHash, registeredNode.origin, registeredLife.acknowledgedPosition
                        FROM registeredNode LEFT JOIN registeredLife ON registeredLife.origin = registeredNode.origin
                        WHERE name = ? AND retiredAt IS NULL AND revokedAt IS NULL
                        """
                ),
                arguments: [name]
            )
            guard let row, let origin = Origin(rawValue: row[2] as UInt32) else {
                throw BundleFailure.unknownNode(name)
            }
            let told = contacts.withLock { $0.acknowledgedByLife[origin]?.position }
            return BundleEnds(
                organisation: organisation,
                from: node.node,
                to: [UInt8](row[0] as Data),
                secret: [UInt8](row[1] as Data),
                certificate: [],
                origin: origin,
                position: told ?? UInt64(clamping: (row[3] as Int64?) ?? 0),
                accepted: writer.vector[origin]
            )
        }
    }

    // MARK: Reading

    /// Takes change sets out of a file. Who has written it, for whom, and all of it is checked before anything is taken; what
    /// is here already is passed over. Blocks.
    ///
    /// - Parameter progress: Is told the change sets taken so far.
    /// - Throws: ``BundleFailure``, ``SnapshotFileFailure`` when the file is damaged.
    package func readBundle(from path: String, progress: (Int) throws -> Void) throws -> BundleReport {
        let file = try RecordFileReader(path, BundleFormat.magic, recordBytesMax: BundleFormat.recordBytesMax)
        try file.checkAll()
        let opening = try BundleOpening(file) { try self.bundleSecret(of: $0, path) }
        guard try hasSigned(opening) else { throw BundleFailure.notSigned(path) }
        var taking = BundleTaking()
        try opening.eachMessage { message in
            do {
                try take(message, opening, &taking)
            } catch let failure as SyncStoreFailure {
                throw BundleFailure.refused(failure.description)
            }
            try progress(taking.report.changeSets)
        }
        if let peer = taking.peer { try saveContact(with: peer, forgettingRefusal: true) }
        taking.report.bytes = file.offset
        return taking.report
    }

    /// What opens a bundle that says from whom and for whom it is.
    private func bundleSecret(of head: BundleEnds, _ path: String) throws -> [UInt8] {
        guard node.isJoined, head.organisation == node.organisation, head.to == node.node else {
            throw BundleFailure.notForThisNode(path)
        }
        if node.role == .branch {
            guard head.from == node.hub?.node else { throw BundleFailure.notForThisNode(path) }
            return Replica.hash(node.nodeKey)
        }
        let secret = try read { reader in
            try Data.fetchOne(
                reader.db.cachedStatement(sql: "SELECT keyHash FROM registeredNode WHERE node = ?"),
                arguments: [Data(head.from)]
            )
        }
        guard let secret else { throw BundleFailure.notForThisNode(path) }
        return [UInt8](secret)
    }

    private func hasSigned(_ opening: BundleOpening) throws -> Bool {
        let (head, digest, signature) = (opening.head, opening.digest, opening.signature)
        if node.role == .branch {
            let key = try read { try OrganisationKey.read($0.db) }
            return key?.hasSigned(digest, signature: signature) ?? false
        }
        guard let certificate = try? NodeCertificate(head.certificate), certificate.node == head.from,
            certificate.hasSigned(digest, signature: signature), let id = UniqueID(bytes: head.from),
            let key = Key256(bytes: certificate.keyDigest)
        else { return false }
        // The table of nodes says whether the key is the node's and the node may take part, as for a line.
        do {
            return try readState { try Admission.read(id, key, $0)?.check() } == .known
        } catch let refusal as Refusal {
            throw BundleFailure.refused(refusal.sentence)
        }
    }

    private func take(_ message: SyncMessage, _ opening: BundleOpening, _ taking: inout BundleTaking) throws {
        guard let from = UniqueID(bytes: opening.head.from) else { return }
        switch message {
        case .hello(let hello) where node.role == .headOffice && taking.peer == nil:
            guard hello.node == from else { throw BundleFailure.notForThisNode(opening.path) }
            try meet(hello, named: opening.path)
            taking.peer = SyncPeer(node: from, origin: hello.origin)
        case .appliedPosition(let prefix) where node.role == .headOffice:
            guard let peer = taking.peer, try withWriterState({ try $0.begins(with: prefix) }) else { return }
            try record(.childAcknowledged(prefix), of: peer)
            taking.report.confirmed = prefix.position
        case .appliedSeq(let seq, let chain) where node.role == .branch:
            let known = try withWriterState { try $0.chain(of: ChangeSetID(origin: $0.node.origin, seq: seq)) }
            guard let peer = try hubPeer(from, &taking), known?.prefix == chain else { return }
            try record(.hubAccepted(seq: seq, chain: chain), of: peer)
            taking.report.confirmed = seq
        case .welcome(let welcome) where node.role == .branch:
            guard welcome.node == from else { throw BundleFailure.notForThisNode(opening.path) }
            try checkSchema(welcome.schemaVersion, of: "head office")
            try withWriter { try hearAudit(welcome.extras, from: from, $0) }
        case .answer(let receipt) where node.role == .branch:
            try takeCarriedReceipt(receipt)
        case .offer(let body):
            guard let peer = try hubPeer(from, &taking) else { return }
            taking.body = (body, try openSpool(for: body, from: peer))
        case .part(let offset, let bytes):
            guard let peer = taking.peer, let body = taking.body, body.held == Int(clamping: offset) else { return }
            taking.body?.held = try spool(bytes, at: body.held, of: body.body, from: peer)
        case .changes(let batch):
            guard let peer = try hubPeer(from, &taking) else { return }
            let outcome = try apply([batch], from: peer)
            taking.report.changeSets += outcome.changeSets
            taking.report.rows += outcome.rows
        default:
            return
        }
    }

    /// At head office: checks what a branch says of itself, as when it calls, but measures no clock by it: the file may have
    /// been on its way for weeks.
    private func meet(_ hello: Hello, named path: String) throws {
        let isConnected = contacts.withLock { $0[hello.node].isConnected }
        guard !isConnected else { throw BundleFailure.inSession(path) }
        try withWriter { writer in
            try writer.sealIfNeeded()
            try checkSchema(hello.schemaVersion, of: "the branch")
            // Written before what is here already: there is nothing in it, and nothing wrong with it.
            let own = ChangeSetID(origin: hello.origin, seq: hello.ownSeq)
            if hello.ownSeq < writer.vector[hello.origin]?.seq ?? 0,
                try writer.chain(of: own)?.prefix == hello.ownChain
            {
                return
            }
            guard try check(hello, writer) == nil else { throw BundleFailure.mustMeet }
            try writer.hear(hello, at: writer.wallClock())
            try hearAudit(hello.extras, from: hello.node, writer)
        }
    }

    /// The other end; at a branch it is head office, whoever writes in its name.
    private func hubPeer(_ from: UniqueID, _ taking: inout BundleTaking) throws -> SyncPeer? {
        if taking.peer == nil, node.role == .branch { taking.peer = SyncPeer(node: from, origin: .none) }
        return taking.peer
    }
}

/// Who writes a bundle, and for whom.
private struct BundleEnds {
    let organisation: [UInt8]
    let from: [UInt8]
    let to: [UInt8]
    /// What both know, and nobody else.
    var secret: [UInt8] = []
    /// The writer's, DER; empty from head office.
    let certificate: [UInt8]
    /// The branch's number.
    var origin = Origin.none
    /// At head office: up to where the branch has its log, and what it has of the branch.
    var position: UInt64 = 0
    var accepted: (seq: UInt64, chain: ChangeChain)?
}

/// How far a bundle was taken.
private struct BundleTaking {
    var report = BundleReport()
    var peer: SyncPeer?
    /// A large change set that comes in parts.
    var body: (body: LargeBody, held: Int)?
}

/// Writes the records of a bundle.
private final class BundleSealing {
    let file: RecordFileWriter
    private let key: SymmetricKey
    private let codec = SyncMessageCodec()
    private var digest = SHA256()
    private var number: UInt64 = 0

    init(_ ends: BundleEnds, salt: [UInt8], _ path: String) throws {
        file = try RecordFileWriter(path, BundleFormat.magic)
        key = BundleFormat.key(ends.secret, salt: salt, from: ends.from, to: ends.to)
        let head = [BundleFormat.version] + ends.organisation + ends.from + ends.to + salt + ends.certificate
        digest.update(data: head)
        try file.write(.head, head)
    }

    func write(_ message: SyncMessage) throws {
        let frames = codec.encode(message).frames(limits: .standard)
        let sealed = try ChaChaPoly.seal(frames, using: key, nonce: BundleFormat.nonce(number))
        let content = [UInt8](sealed.ciphertext + sealed.tag)
        number += 1
        digest.update(data: content)
        try file.write(.piece, content)
    }

    func finish(signing: ([UInt8]) throws -> [UInt8]) throws -> Int {
        try file.write(.seal, signing([UInt8](digest.finalize())))
        return try file.finish()
    }
}

/// Reads the records of a bundle.
private final class BundleOpening {
    let head: BundleEnds
    /// The SHA-256 of what was signed.
    let digest: [UInt8]
    let signature: [UInt8]
    var path: String { file.path }
    private let file: RecordFileReader
    private let key: SymmetricKey

    private static let fixedBytes = 1 + 3 * UniqueID.byteCount + BundleFormat.saltBytes

    /// - Parameter secret: What the receiver shares with the writer.
    init(_ file: RecordFileReader, secret: (BundleEnds) throws -> [UInt8]) throws {
        self.file = file
        var digest = SHA256()
        var signature: [UInt8]?
        var content: [UInt8] = []
        try file.rewind()
        while let record = try file.next() {
            switch record.kind {
            case .head:
                content = record.content
                digest.update(data: record.content)
            case .piece where signature == nil:
                digest.update(data: record.content)
            case .seal where signature == nil:
                signature = record.content
            case .end:
                break
            default:
                throw SnapshotFileFailure.damaged(file.path, offset: file.offset)
            }
        }
        guard let format = content.first else { throw SnapshotFileFailure.damaged(file.path, offset: 0) }
        guard format == BundleFormat.version else { throw SnapshotFileFailure.newerFormat(file.path, format: format) }
        guard content.count >= Self.fixedBytes, let signature else {
            throw SnapshotFileFailure.damaged(file.path, offset: 0)
        }
        let parts = (0..<3).map { Array(content.dropFirst(1 + $0 * UniqueID.byteCount).prefix(UniqueID.byteCount)) }
        let head = BundleEnds(
            organisation: parts[0],
            from: parts[1],
            to: parts[2],
            certificate: Array(content.dropFirst(Self.fixedBytes))
        )
        let salt = Array(content.dropFirst(1 + 3 * UniqueID.byteCount).prefix(BundleFormat.saltBytes))
        key = BundleFormat.key(try secret(head), salt: salt, from: head.from, to: head.to)
        self.head = head
        self.digest = [UInt8](digest.finalize())
        self.signature = signature
    }

    /// Opens one message after the other.
    func eachMessage(_ body: (SyncMessage) throws -> Void) throws {
        try file.rewind()
        var number: UInt64 = 0
        let codec = SyncMessageCodec()
        while let record = try file.next() {
            guard record.kind == .piece else { continue }
            let tag = record.content.suffix(16)
            guard tag.count == 16 else { throw SnapshotFileFailure.damaged(file.path, offset: file.offset) }
            let frames: Data
            do {
                let box = try ChaChaPoly.SealedBox(
                    nonce: BundleFormat.nonce(number),
                    ciphertext: record.content.dropLast(16),
                    tag: tag
                )
                frames = try ChaChaPoly.open(box, using: key)
            } catch {
                throw BundleFailure.notForThisNode(file.path)
            }
            number += 1
            var decoder = FrameDecoder(limits: .standard)
            decoder.trustPeer()
            decoder.feed([UInt8](frames))
            while let framed = try decoder.next() { try body(try codec.decode(framed)) }
        }
    }
}
