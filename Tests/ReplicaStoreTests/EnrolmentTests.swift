import Foundation
import GRDB
import SyncProtocol
import Synchronization
import TestKit
import Testing
import Trust

@testable import ReplicaStore

@Suite("Enrolment with certificates")
struct EnrolmentTests {
    private static let day: UInt64 = 86_400_000
    private let nonce = Key256(bytes: [UInt8](repeating: 9, count: 32))!

    private func headOffice() throws -> Office {
        let hub = try Office.headOffice()
        try hub.replica.prepareAuthority()
        return hub
    }

    private func random(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: .min ... .max) } }

    /// What a newcomer with a key shows to the hub.
    private func join(_ invitation: Invitation, _ key: NodeKey, node: UInt8 = 1) throws -> Join {
        var join = invitation.join(
            nonce: nonce,
            request: try key.request(),
            node: UniqueID(bytes: [UInt8](repeating: node, count: 16))!,
            nodeKey: Key256(bytes: [UInt8](repeating: node, count: 32))!,
            software: "test"
        )
        join.nonce = nonce
        return join
    }

    private func invite(_ hub: Office, _ name: String = "isfahan", approval: Bool = false) throws -> Invitation {
        try hub.replica.invite(
            name,
            address: "h:1",
            lifetimeSeconds: 3600,
            needsApproval: approval,
            randomBytes: random
        )
    }

    private func refusal(_ body: () throws -> Void) throws -> Refusal {
        do { try body() } catch SyncStoreFailure.refused(let refusal) { return refusal }
        throw StoreFailure.notJoined
    }

    /// The peer that a line would name for a certificate.
    private func peer(_ certificate: NodeCertificate) throws -> CertifiedPeer {
        CertifiedPeer(
            organisation: try #require(UniqueID(bytes: certificate.organisation)),
            node: try #require(UniqueID(bytes: certificate.node)),
            key: try #require(Key256(bytes: certificate.keyDigest)),
            validFrom: certificate.notBefore,
            validUntil: certificate.notAfter
        )
    }

    @Test("An invitation names the root, and the line says so as it was written")
    func line() throws {
        let hub = try headOffice()
        let invitation = try invite(hub)
        #expect(try invitation.rootKey?.bytes == hub.replica.authority()?.rootKeyDigest)
        #expect(Invitation(line: invitation.line) == invitation)
        #expect(Invitation(line: String(invitation.line.dropLast())) == nil)
    }

    @Test("A hundred newcomers with one invitation get exactly one certificate")
    func hundred() throws {
        let hub = try headOffice()
        let invitation = try invite(hub)
        let joins = try (0..<100).map { try join(invitation, NodeKey(), node: UInt8($0 + 1)) }
        let outcomes = Mutex<(joined: [Joined], refused: [Refusal.Code])>(([], []))
        DispatchQueue.concurrentPerform(iterations: joins.count) { index in
            do throws(SyncStoreFailure) {
                let joined = try hub.replica.decideJoin(joins[index])
                outcomes.withLock { $0.joined.append(joined) }
            } catch {
                if case .refused(let refusal) = error { outcomes.withLock { $0.refused.append(refusal.code) } }
            }
        }
        let (joined, refused) = outcomes.withLock { $0 }
        #expect(joined.count == 1 && joined.first?.certificates.count == 3)
        #expect(refused == [Refusal.Code](repeating: .invitationUsed, count: 99))
        #expect(try hub.replica.registeredNodes().count == 1)
        #expect(try hub.replica.readState { try Int.fetchOne($0, sql: "SELECT count(*) FROM registeredKey") } == 1)
    }

    @Test("The same key again gets the same certificate; another key is refused, and head office sees it")
    func again() async throws {
        let hub = try headOffice()
        let invitation = try invite(hub)
        let key = NodeKey()
        let first = try hub.replica.decideJoin(join(invitation, key))
        hub.wallMilliseconds += 50_000
        #expect(try hub.replica.decideJoin(join(invitation, key)) == first)
        let certificate = try await TrustAnchor.rootKey(try #require(invitation.rootKey).bytes)
            .check(first.certificates)
        #expect(try certificate.keyDigest == key.digest)
        #expect(certificate.node == [UInt8](repeating: 1, count: 16) && !certificate.isHub)
        let other = try refusal { _ = try hub.replica.decideJoin(join(invitation, NodeKey())) }
        #expect(other.code == .invitationUsed)
        #expect(try hub.replica.registeredNodes().first?.lastRefusal == other.sentence)
        #expect(try hub.replica.registeredNodes().first?.key?.digest == key.digest)
    }

    @Test("Five wrong tries kill an invitation, and the right secret comes too late")
    func wrongTries() throws {
        let hub = try headOffice()
        let invitation = try invite(hub)
        for _ in 0..<5 {
            var wrong = try join(invitation, NodeKey())
            wrong.proof = Key256(bytes: [UInt8](repeating: 0, count: 32))!
            #expect(try refusal { _ = try hub.replica.decideJoin(wrong) }.sentence.contains("secret"))
        }
        let late = try refusal { _ = try hub.replica.decideJoin(join(invitation, NodeKey())) }
        #expect(late.code == .invitationUnknown)
        #expect(try hub.replica.registeredNodes().isEmpty)
    }

    @Test("A proof counts on its own line and for its own key only")
    func proofIsBound() throws {
        let hub = try headOffice()
        let invitation = try invite(hub)
        var elsewhere = try join(invitation, NodeKey())
        elsewhere.nonce = Key256(bytes: [UInt8](repeating: 8, count: 32))
        var withoutLine = try join(invitation, NodeKey())
        withoutLine.nonce = nil
        var otherKey = try join(invitation, NodeKey())
        otherKey.request = try NodeKey().request()
        var unsigned = try join(invitation, NodeKey())
        unsigned.request[unsigned.request.count - 1] ^= 1
        for join in [elsewhere, withoutLine, otherKey, unsigned] {
            #expect(try refusal { _ = try hub.replica.decideJoin(join) }.code == .invitationUnknown)
        }
        #expect(try hub.replica.registeredNodes().isEmpty)
    }

    @Test("An identity that takes part already cannot be had with another invitation")
    func takenIdentity() throws {
        let hub = try headOffice()
        let key = NodeKey()
        _ = try hub.replica.decideJoin(join(invite(hub), key))
        let second = try invite(hub, "shiraz")
        // The node's name of another, then its key, then head office's own name.
        for (key, node) in [(NodeKey(), UInt8(1)), (key, 2)] {
            let refused = try refusal { _ = try hub.replica.decideJoin(join(second, key, node: node)) }
            #expect(refused.code == .invitationUsed)
        }
        #expect(try hub.replica.decideJoin(join(second, NodeKey(), node: 2)).name == "shiraz")
    }

    @Test("Head office admits whom its table names, by its own clock, and says why it does not")
    func admission() throws {
        let hub = try headOffice()
        let key = NodeKey()
        let joined = try hub.replica.decideJoin(join(invite(hub), key))
        let certificate = try NodeCertificate(try #require(joined.certificates.first))
        let known = try peer(certificate)
        func code(_ peer: CertifiedPeer) throws -> Refusal.Code? {
            do {
                return try hub.replica.admit(peer) == .full ? nil : .other(0)
            } catch SyncStoreFailure.refused(let refusal) {
                return refusal.code
            }
        }
        #expect(try code(known) == nil)
        var copy = CertifiedPeer(
            organisation: UniqueID(bytes: [UInt8](repeating: 5, count: 16))!,
            node: known.node,
            key: known.key,
            validFrom: 0,
            validUntil: .max
        )
        #expect(try code(copy) == .wrongOrganisation)
        copy = CertifiedPeer(
            organisation: known.organisation,
            node: known.node,
            key: Key256(bytes: [UInt8](repeating: 5, count: 32))!,
            validFrom: 0,
            validUntil: .max
        )
        #expect(try code(copy) == .revoked, "Another key of the same node")

        let now = hub.wallMilliseconds
        hub.wallMilliseconds = certificate.notBefore - 1
        #expect(try code(known) == .certificateNotYetValid)
        hub.wallMilliseconds = certificate.notAfter
        #expect(try code(known) == nil)
        // A month for renewal, another one after somebody was asked.
        hub.wallMilliseconds = certificate.notAfter + 1
        #expect(try code(known) == .other(0))
        hub.wallMilliseconds = certificate.notAfter + 30 * Self.day - 1
        #expect(try code(known) == .other(0))
        hub.wallMilliseconds += 1
        #expect(try code(known) == .waitsForApproval)
        #expect(try hub.replica.decide(.approve, about: "isfahan"))
        #expect(try code(known) == .other(0))
        hub.wallMilliseconds = certificate.notAfter + 60 * Self.day - 1
        #expect(try code(known) == .other(0))
        hub.wallMilliseconds += 1
        #expect(try code(known) == .certificateExpired)
        hub.wallMilliseconds = now

        let told = Mutex(0)
        let stop = hub.replica.observeNodes { told.withLock { $0 += 1 } }
        for (decision, expected) in [
            (NodeDecision.pause, Refusal.Code.paused), (.resume, nil), (.revoke, .revoked),
        ] as [(NodeDecision, Refusal.Code?)] {
            #expect(try hub.replica.decide(decision, about: "isfahan"))
            #expect(try !hub.replica.decide(decision, about: "isfahan"))
            #expect(try code(known) == expected)
        }
        #expect(try hub.replica.retire("isfahan"))
        #expect(try code(known) == .revoked)
        #expect(told.withLock { $0 } == 4)
        stop()
        #expect(try !hub.replica.retire("isfahan") && told.withLock { $0 } == 4)
        #expect(throws: RetirementFailure.unknownNode("nobody")) {
            try hub.replica.decide(.pause, about: "nobody")
        }
    }

    @Test("A newcomer that must be approved waits until somebody has compared its fingerprint")
    func approval() throws {
        let hub = try headOffice()
        let joined = try hub.replica.decideJoin(join(invite(hub, approval: true), NodeKey()))
        let known = try peer(NodeCertificate(try #require(joined.certificates.first)))
        #expect(try refusal { _ = try hub.replica.admit(known) }.code == .waitsForApproval)
        #expect(try hub.replica.registeredNodes().first?.standing == .waiting)
        #expect(try hub.replica.decide(.approve, about: "isfahan"))
        #expect(try hub.replica.admit(known) == .full)
        #expect(try hub.replica.registeredNodes().first?.standing == .active)
    }

    // MARK: Renewal

    /// A branch that has joined a head office with an authority.
    private func certifiedBranch(_ hub: Office) async throws -> Office {
        let branch = try Office.unjoined("isfahan")
        let invitation = try invite(hub)
        var shown = try branch.replica.join(with: invitation, nonce: nonce)
        shown.nonce = nonce
        try await branch.replica.completeJoin(hub.replica.decideJoin(shown), with: invitation)
        return branch
    }

    @Test(
        "A session after a third of a certificate's time brings another one, for a new key; the old one counts meanwhile"
    )
    func renewedInSession() async throws {
        let hub = try headOffice()
        let branch = try await certifiedBranch(hub)
        try branch.sync(with: hub)
        let first = try #require(try branch.replica.lineIdentity())
        for office in [hub, branch] { office.wallMilliseconds += 50 * Self.day }
        try branch.sync(with: hub)
        #expect(try branch.replica.lineIdentity() == first)
        for office in [hub, branch] { office.wallMilliseconds += 20 * Self.day }
        try branch.sync(with: hub)
        let second = try #require(try branch.replica.lineIdentity())
        #expect(second.certificate.keyDigest != first.certificate.keyDigest)
        #expect(second.certificate.notAfter > first.certificate.notAfter + 60 * Self.day)
        #expect(try branch.replica.keyFiles.identity() == second)
        #expect(try branch.replica.keyFiles.read(.nextNodeKey) == nil)
        for identity in [first, second] { #expect(try hub.replica.admit(peer(identity.certificate)) == .full) }
        #expect(try await TrustAnchor.root(first.root).check(second.chain) == second.certificate)
        #expect(try branch.isProvedEqual(to: hub))
    }

    @Test(
        "A branch that comes back with an expired certificate has another one when the call is over, and all its work is in"
    )
    func renewedLate() async throws {
        let hub = try headOffice()
        let branch = try await certifiedBranch(hub)
        try branch.sync(with: hub)
        let first = try #require(try branch.replica.lineIdentity())
        try branch.add(["name": .text("unsent")])
        for office in [hub, branch] { office.wallMilliseconds = first.certificate.notAfter + Self.day }
        try branch.sync(with: hub)
        let second = try #require(try branch.replica.lineIdentity())
        #expect(second.certificate.standing(at: hub.wallMilliseconds) == .valid)
        #expect(try branch.isProvedEqual(to: hub))
    }

    @Test("Nobody gets another node's key signed for itself")
    func foreignKey() async throws {
        let hub = try headOffice()
        let branch = try await certifiedBranch(hub)
        let files = branch.replica.keyFiles
        let own = try NodeKey(pem: try #require(try files.identity()).keyPEM)
        let question = SyncQuestion(kind: SyncQuestion.renewal, payload: try own.request())
        let other = SyncPeer(node: UniqueID(bytes: [UInt8](repeating: 4, count: 16))!, origin: hub.replica.node.origin)
        #expect(throws: SyncStoreFailure.self) { _ = try hub.replica.answer(question, from: other) }
    }

    // MARK: Files

    @Test("Keys are for their owner alone, made once, and a lost issuer never becomes another root")
    func files() throws {
        let hub = try headOffice()
        let keys = hub.replica.directory + "/keys"
        let root = try #require(try hub.replica.keyFiles.read(.root))
        for name in try FileManager.default.contentsOfDirectory(atPath: keys) {
            let mode = try FileManager.default.attributesOfItem(atPath: keys + "/" + name)[.posixPermissions] as? Int
            #expect(mode == 0o600, "\(name)")
        }
        #expect(try FileManager.default.attributesOfItem(atPath: keys)[.posixPermissions] as? Int == 0o700)
        #expect(try !hub.replica.prepareAuthority())
        hub.replica.keys.withLock { $0 = KeyCache() }
        #expect(try !hub.replica.prepareAuthority())
        #expect(try hub.replica.keyFiles.read(.root) == root)

        hub.replica.keyFiles.remove(.issuer)
        hub.replica.keys.withLock { $0 = KeyCache() }
        #expect(throws: StoreFailure.self) { try hub.replica.prepareAuthority() }
        #expect(try hub.replica.keyFiles.read(.root) == root)
    }

    @Test(
        "Head office's own certificate is renewed after a third of its time, and the issuer while the root's key is here"
    )
    func renewal() throws {
        let hub = try headOffice()
        let first = try #require(try hub.replica.lineIdentity())
        hub.wallMilliseconds += 50 * Self.day
        #expect(try !hub.replica.prepareAuthority())
        hub.wallMilliseconds += 20 * Self.day
        #expect(try hub.replica.prepareAuthority())
        let second = try #require(try hub.replica.lineIdentity())
        #expect(second.root == first.root && second.chain[1] == first.chain[1] && second.chain[0] != first.chain[0])

        let rootKey = try #require(try hub.replica.keyFiles.read(.rootKey))
        hub.replica.keyFiles.remove(.rootKey)
        hub.replica.keys.withLock { $0 = KeyCache() }
        hub.wallMilliseconds += 400 * Self.day
        #expect(try hub.replica.prepareAuthority())
        #expect(try hub.replica.lineIdentity()?.chain[1] == first.chain[1])
        try hub.replica.keyFiles.write(.rootKey, rootKey)
        hub.replica.keys.withLock { $0 = KeyCache() }
        hub.wallMilliseconds += 70 * Self.day
        #expect(try hub.replica.prepareAuthority())
        let third = try #require(try hub.replica.lineIdentity())
        #expect(third.root == first.root && third.chain[1] != first.chain[1])
    }

    @Test("A branch keeps its key until it has a certificate, and takes none that is not its own")
    func branchKeeps() async throws {
        let hub = try headOffice()
        let branch = try Office.unjoined("isfahan")
        let invitation = try invite(hub)
        var shown = try branch.replica.join(with: invitation, nonce: nonce)
        shown.nonce = nonce
        let again = try branch.replica.join(with: invitation, nonce: nonce)
        #expect(try SigningRequest(again.request).keyDigest == SigningRequest(shown.request).keyDigest)
        let joined = try hub.replica.decideJoin(shown)
        var forged = joined
        let key = NodeKey()
        forged.certificates[0] = try TestAuthority.identity(
            organisation: joined.organisation.bytes,
            node: branch.replica.node.node
        ).chain[0]
        var others = joined
        others.certificates[0] = try #require(try hub.replica.authority()).certify(
            SigningRequest(key.request()),
            organisation: joined.organisation.bytes,
            node: branch.replica.node.node,
            isHub: false,
            from: hub.wallMilliseconds
        )
        var none = joined
        none.certificates = []
        for wrong in [forged, others, none] {
            await #expect(throws: (any Error).self) { try await branch.replica.completeJoin(wrong, with: invitation) }
            #expect(!branch.replica.node.isJoined)
            #expect(try branch.replica.lineIdentity() == nil)
        }
        try await branch.replica.completeJoin(joined, with: invitation)
        #expect(branch.replica.node.isJoined)
        let identity = try #require(try branch.replica.lineIdentity())
        #expect(identity.chain == Array(joined.certificates.dropLast()))
        #expect(try branch.replica.keyFiles.read(.nextNodeKey) == nil)
    }

    @Test("A backup brings the keys along, and no replica has them in its file")
    func backup() throws {
        let hub = try headOffice()
        let home = TemporaryDirectory()
        let file = home.path + "/hq.backup"
        _ = try hub.replica.backup(to: file) { _, _ in }
        #expect(try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int == 0o600)
        let directory = home.path + "/other"
        _ = try Replica.restore(
            file,
            to: directory,
            replacing: false,
            older: false,
            clock: NodeClock { hub.wallMilliseconds }
        )
        let restored = try Replica.open(directory) { hub.wallMilliseconds }
        #expect(try restored.lineIdentity() == hub.replica.lineIdentity())
        #expect(try !restored.prepareAuthority())
        #expect(try restored.authority()?.papers == hub.replica.authority()?.papers)
        let kept = try restored.readState { try Int.fetchOne($0, sql: "SELECT count(*) FROM keptFile") }
        #expect(kept == 0)
        let secret = try #require(try restored.keyFiles.read(.rootKey)).split(separator: "\n")[1]
        try restored.close()
        let bytes = try Data(contentsOf: URL(fileURLWithPath: directory + "/replica.db"))
        #expect(bytes.range(of: Data(secret.utf8)) == nil)
    }
}
