import Causality
import Foundation
import GRDB
import SyncProtocol
import Trust

// A third of its time before all else is over, a node asks for a new certificate, for a new key, on a line that the old one
// has secured. When the old one has expired meanwhile, that is all that it may do on that line, and it calls again at once.

extension Replica {
    /// A step of the consultation: asks for a new certificate when that is due by head office's clock.
    func renewCertificate(_ occasion: ConsultationOccasion) throws -> SyncStep {
        guard case .welcomed(let welcome, _) = occasion, let certificate = try lineIdentity()?.certificate,
            Self.isDue(certificate, at: welcome.sentAtMilliseconds)
        else { return .goOn }
        renewsExpired.withLock { $0 = certificate.standing(at: welcome.sentAtMilliseconds) == .expired }
        return .ask(SyncQuestion(kind: SyncQuestion.renewal, payload: try keyFiles.nextKey().request()))
    }

    /// Keeps the certificate that head office has given.
    ///
    /// - Throws: ``StoreFailure/notCertified(reason:)`` when it is not for this node. The old one stays then.
    func takeCertificate(_ answer: SyncAnswer) throws -> SyncStep {
        let chain = try Self.certificates(in: answer.payload)
        try keys.withLock { keys in
            guard let present = try keys.identity ?? keyFiles.identity() else { return }
            let renewed: NodeIdentity
            do {
                renewed = try NodeIdentity(chain: chain, root: present.root, key: keyFiles.nextKey())
            } catch let failure as TrustFailure {
                throw StoreFailure.notCertified(reason: failure.description)
            }
            guard renewed.certificate.node == present.certificate.node,
                renewed.certificate.organisation == present.certificate.organisation
            else { throw StoreFailure.notCertified(reason: TrustFailure.notForThis.description) }
            try keyFiles.write(renewed)
            keys.identity = renewed
        }
        return renewsExpired.withLock { $0 } ? .reconnect : .goOn
    }

    /// At head office: signs a new key of a node that is let in.
    func answerRenewal(_ question: SyncQuestion, from peer: SyncPeer) throws -> SyncAnswer {
        guard let authority = try authority() else {
            throw Refusal(.internalFailure, "This head office has no authority to sign certificates with.")
        }
        let request: SigningRequest
        do {
            request = try SigningRequest(question.payload)
        } catch {
            throw Refusal(.invalidChange, error.description)
        }
        try withWriter { writer in
            try writer.transaction {
                let owner = try Data.fetchOne(
                    writer.db.cachedStatement(sql: "SELECT node FROM registeredKey WHERE keyDigest = ?"),
                    arguments: [Data(request.keyDigest)]
                )
                guard owner.map({ [UInt8]($0) == peer.node.bytes }) ?? true else {
                    throw Refusal(.invalidChange, "This key is another node's. Make a new one.")
                }
                try writer.register(key: request.keyDigest, of: peer.node)
                // Those that nobody can use any more, not even to renew them.
                try writer.db.cachedStatement(sql: "DELETE FROM registeredKey WHERE node = ? AND validUntil < ?")
                    .execute(
                        arguments: [
                            Data(peer.node.bytes),
                            Int64(clamping: writer.wallClock()) - 100 * Int64(ReplicaWriter.dayMilliseconds),
                        ]
                    )
            }
        }
        var writer = ByteWriter()
        for certificate in try certificates(of: peer.node, request, authority).dropLast() { writer.sized(certificate) }
        return SyncAnswer(payload: writer.bytes)
    }

    private static func certificates(in payload: [UInt8]) throws -> [[UInt8]] {
        try payload.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            var certificates: [[UInt8]] = []
            do throws(MalformedBytes) {
                while reader.remaining > 0, certificates.count < Joined.certificatesMax {
                    certificates.append([UInt8](try reader.sized()))
                }
            } catch {
                throw StoreFailure.notCertified(reason: "head office's answer cannot be read")
            }
            return certificates
        }
    }
}
