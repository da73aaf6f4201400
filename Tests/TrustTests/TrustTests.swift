import Testing
import Trust

@Suite("Certificates")
struct TrustTests {
    private static let now: UInt64 = 1_795_000_000_000
    private static let day: UInt64 = 86_400_000
    private let organisation = [UInt8](repeating: 0x3C, count: 16)
    private let node = [UInt8](repeating: 0x0A, count: 16)

    private func certified(_ authority: Authority, _ key: NodeKey, isHub: Bool = false) throws -> [UInt8] {
        try authority.certify(
            SigningRequest(key.request()),
            organisation: organisation,
            node: node,
            isHub: isHub,
            from: Authority.beginning(now: Self.now)
        )
    }

    @Test("A certificate says who the node is, which key it has, which end it may be, and how long")
    func content() async throws {
        let authority = try Authority(organisation: organisation, now: Self.now)
        let key = NodeKey()
        let chain = try authority.chain
        for isHub in [false, true] {
            let own = try certified(authority, key, isHub: isHub)
            for anchor in [TrustAnchor.root(chain.root), .rootKey(try authority.rootKeyDigest)] {
                let read = try await anchor.check([own, chain.issuer, chain.root])
                #expect(read.node == node && read.organisation == organisation && read.isHub == isHub)
                #expect(try read.keyDigest == key.digest)
                #expect(read.standing(at: Self.now) == .valid)
                #expect(read.standing(at: Self.now - 2 * Self.day) == .notYetValid)
                #expect(read.standing(at: Self.now + 180 * Self.day) == .expired)
            }
        }
        // The root need not come along when it is known.
        let own = try certified(authority, key)
        #expect(try await TrustAnchor.root(chain.root).check([own, chain.issuer]).node == node)
    }

    @Test("What does not lead to the root is not believed")
    func foreign() async throws {
        let authority = try Authority(organisation: organisation, now: Self.now)
        let other = try Authority(organisation: organisation, now: Self.now)
        let (chain, theirs) = (try authority.chain, try other.chain)
        let own = try certified(authority, NodeKey())
        let foreign = try certified(other, NodeKey())
        for presented in [
            [foreign, theirs.issuer, theirs.root], [foreign, chain.issuer], [own], [own, theirs.issuer],
            [own, chain.root], [], [[1, 2, 3], chain.issuer],
        ] {
            for anchor in [TrustAnchor.root(chain.root), .rootKey(try authority.rootKeyDigest)] {
                await #expect(throws: TrustFailure.self) { _ = try await anchor.check(presented) }
            }
        }
        // Authorities are no nodes.
        await #expect(throws: TrustFailure.self) {
            _ = try await TrustAnchor.root(chain.root).check([chain.issuer, chain.root])
        }
    }

    @Test("A node cannot sign for others")
    func nodeAsIssuer() async throws {
        let authority = try Authority(organisation: organisation, now: Self.now)
        let other = try Authority(organisation: organisation, now: Self.now)
        let chain = try authority.chain
        let own = try certified(authority, NodeKey())
        let forged = try certified(other, NodeKey())
        await #expect(throws: TrustFailure.foreignAuthority) {
            _ = try await TrustAnchor.root(chain.root).check([forged, own, chain.issuer])
        }
    }

    @Test("No flipped bit of a certificate or a request changes what it says unnoticed")
    func flippedBits() async throws {
        let authority = try Authority(organisation: organisation, now: Self.now)
        let chain = try authority.chain
        let key = NodeKey()
        let own = try certified(authority, key)
        for index in stride(from: 0, to: own.count, by: 7) {
            var damaged = own
            damaged[index] ^= 0x10
            // A signature may be written in several ways; what was signed may not.
            if let read = try? await TrustAnchor.root(chain.root).check([damaged, chain.issuer]) {
                let meant = try NodeCertificate(own)
                #expect(read.node == meant.node && read.keyDigest == meant.keyDigest, "byte \(index)")
                #expect(read.notAfter == meant.notAfter && read.isHub == meant.isHub, "byte \(index)")
            }
        }
        let request = try key.request()
        for index in request.indices {
            var damaged = request
            damaged[index] ^= 1
            if let read = try? SigningRequest(damaged) {
                let digest = try key.digest
                #expect(read.keyDigest == digest, "byte \(index)")
            }
        }
        #expect(throws: TrustFailure.self) { _ = try SigningRequest([UInt8](repeating: 0, count: 1 << 20)) }
    }

    @Test("A new issuer counts at once, the old one's certificates go on, and none outlives its issuer")
    func rotation() async throws {
        let first = try Authority(organisation: organisation, now: Self.now)
        let later = Self.now + 400 * Self.day
        #expect(!first.isIssuerDue(at: Self.now) && first.isIssuerDue(at: later))
        let second = try first.withNewIssuer(now: later)
        #expect(!second.isIssuerDue(at: later))
        let (old, new) = (try first.chain, try second.chain)
        #expect(old.root == new.root && old.issuer != new.issuer)
        for (authority, issuer) in [(first, old.issuer), (second, new.issuer)] {
            let own = try authority.certify(
                SigningRequest(NodeKey().request()),
                organisation: organisation,
                node: node,
                isHub: false,
                from: later,
                days: 10_000
            )
            let read = try await TrustAnchor.root(old.root).check([own, issuer])
            #expect(read.notAfter < later + 740 * Self.day)
        }
    }

    @Test("An authority comes back from its files; without the root's key it signs nodes, and makes no issuer")
    func papers() throws {
        let authority = try Authority(organisation: organisation, now: Self.now)
        var papers = try authority.papers
        let again = try Authority(papers)
        #expect(try again.papers == papers)
        papers.rootKey = nil
        let away = try Authority(papers)
        _ = try certified(away, NodeKey())
        #expect(throws: TrustFailure.rootKeyMissing) { _ = try away.withNewIssuer(now: Self.now) }
        papers.issuerKey = try Authority(organisation: organisation, now: Self.now).papers.issuerKey
        #expect(throws: TrustFailure.self) { _ = try Authority(papers) }
    }

    @Test("A certificate and a key that do not belong together make no identity, and no key is printed")
    func identity() throws {
        let authority = try Authority(organisation: organisation, now: Self.now)
        let key = NodeKey()
        let own = try certified(authority, key)
        let chain = try authority.chain
        let identity = try NodeIdentity(chain: [own, chain.issuer], root: chain.root, key: key)
        #expect(!"\(identity)".contains("KEY") && !String(reflecting: identity).contains("KEY"))
        #expect(try NodeKey(pem: key.pem).digest == key.digest)
        #expect(throws: TrustFailure.self) {
            _ = try NodeIdentity(chain: [own, chain.issuer], root: chain.root, key: NodeKey())
        }
    }
}
