import Causality
import NIOCore
import NIOPosix
import NIOSSL
import SyncProtocol
import Synchronization
import TestKit
import Testing
import Trust

@testable import SyncTransport

extension Key256 {
    /// The digest of the root's key of all tests.
    static var ofTests: Key256 {
        get throws { try #require(Key256(bytes: try TestAuthority.authority.rootKeyDigest)) }
    }
}

@Suite("Who is let onto a line", .timeLimit(.minutes(5)))
struct LineSecurityTests {
    private let child = MemoryStore(hub: false)
    private let hub = MemoryStore(hub: true)

    /// A branch that calls with an identity and expectations of its own.
    private func client(
        _ identity: NodeIdentity,
        hub expected: UniqueID? = .sample(9),
        earliest: UInt64 = 0
    ) -> SyncClient {
        SyncClient(
            store: child as any SyncStore,
            security: { ChildSecurity(identity: identity, hub: expected, earliest: earliest) },
            logger: quiet
        )
    }

    /// Why head office sends a branch away.
    private func refusal(_ report: SessionReport) throws -> Refusal {
        guard case .refused(let refusal)? = report.failure else {
            throw Unexpected(end: String(describing: report.failure))
        }
        return refusal
    }

    private struct Unexpected: Error { let end: String }

    /// What a client of TLS hears with settings of its own; nil when the handshake fails.
    ///
    /// - Parameter then: What it says once it has heard something.
    private func hear(
        from address: NodeAddress,
        identity: NodeIdentity? = nil,
        saying bytes: [UInt8],
        then more: [UInt8] = [],
        _ change: (inout TLSConfiguration) -> Void = { _ in }
    ) async throws -> [SyncMessage]? {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.certificateVerification = .none
        configuration.applicationProtocols = [LinePurpose.session.rawValue]
        if let identity {
            configuration.certificateChain = try identity.chain.map {
                .certificate(try NIOSSLCertificate(bytes: $0, format: .der))
            }
            configuration.privateKey = .privateKey(
                try NIOSSLPrivateKey(bytes: Array(identity.keyPEM.utf8), format: .pem)
            )
        }
        change(&configuration)
        let context = try NIOSSLContext(configuration: configuration)
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(host: address.host, port: address.port) { channel in
                ByteChannel.prepare(channel) { try NIOSSLClientHandler(context: context, serverHostname: nil) }
            }
        do {
            _ = try await ByteChannel.greeting(of: channel, within: .seconds(120))
            let received = try await ByteChannel.take(over: channel).executeThenClose { inbound, outbound in
                var received: [UInt8] = []
                // A hub that has gone in the meantime is heard of by what it has said.
                do {
                    try await outbound.write(ByteBuffer(bytes: bytes))
                    for try await buffer in inbound {
                        if received.isEmpty, !more.isEmpty { try await outbound.write(ByteBuffer(bytes: more)) }
                        received += buffer.readableBytesView
                    }
                } catch {}
                return received
            }
            return try messages(in: received)
        } catch {
            return nil
        }
    }

    private var hello: [UInt8] { SyncMessageCodec().encode(.hello(.sample())).frames() }
    private var bye: [UInt8] { SyncMessageCodec().encode(.bye(reason: "done")).frames() }

    @Test("A branch with a certificate of the organisation is let in, and its certificate says who it is")
    func certified() async throws {
        let nodes = TestTable()
        let identity = try TestAuthority.identity(of: child.node)
        let report = try await withHub(hub, nodes: nodes) { _, address in await client(identity).sync(with: address) }
        #expect(report.failure == nil)
        #expect(nodes.asked.map(\.node) == [child.node])
        #expect(nodes.asked.map(\.key.bytes) == [identity.certificate.keyDigest])
    }

    @Test("Whoever speaks without TLS hears nothing, and others are served")
    func plain() async throws {
        let bytes = hello
        try await withHub(hub) { _, address in
            let line = try PlainLine(port: address.port)
            let answer = await line.ask(String(decoding: bytes, as: UTF8.self))
            #expect(!answer.contains("Peyvand"))
            #expect(await SyncClient(store: child, logger: quiet).sync(with: address).failure == nil)
        }
    }

    @Test("TLS 1.2 is refused in the handshake")
    func oldVersion() async throws {
        let identity = try TestAuthority.identity(of: child.node)
        try await withHub(hub) { _, address in
            let old = try await hear(from: address, identity: identity, saying: hello) {
                $0.maximumTLSVersion = .tlsv12
            }
            #expect(old == nil)
            // The same client is let in with what it should speak.
            let present = try await hear(from: address, identity: identity, saying: hello, then: bye)
            #expect(present?.first?.label == "welcome")
        }
    }

    @Test("Who shows no certificate is told so, and gets no further than that")
    func noCertificate() async throws {
        let answer = try await withHub(hub) { _, address in try await hear(from: address, saying: hello) }
        guard case .refuse(let refusal)? = answer?.first else {
            Issue.record("Answered \(String(describing: answer?.map(\.label)))")
            return
        }
        #expect(refusal.code == .unknownNode && refusal.sentence.contains("no certificate"))
        #expect(answer?.count == 1)
    }

    @Test("Who does not say what a line is for hears nothing")
    func noPurpose() async throws {
        let identity = try TestAuthority.identity(of: child.node)
        let answer = try await withHub(hub) { _, address in
            try await hear(from: address, identity: identity, saying: hello) { $0.applicationProtocols = [] }
        }
        #expect(answer?.isEmpty ?? true)
    }

    @Test("A certificate of another authority, even one with the same names, opens nothing")
    func foreignAuthority() async throws {
        let other = try Authority(organisation: UniqueID.sample(1).bytes, now: TestAuthority.madeAt)
        let foreign = try TestAuthority.identity(
            organisation: UniqueID.sample(1).bytes,
            node: child.node.bytes,
            by: other
        )
        let nodes = TestTable()
        try await withHub(hub, nodes: nodes) { _, address in
            let answer = try await hear(from: address, identity: foreign, saying: hello)
            #expect(answer?.isEmpty ?? true)
            // And a branch of that organisation does not believe this head office.
            let failure = await client(foreign).sync(with: address).failure
            guard case .refusedPeer(let refusal)? = failure else {
                Issue.record("Ended with \(String(describing: failure))")
                return
            }
            #expect(refusal.code == .wrongOrganisation)
        }
        #expect(nodes.asked.isEmpty)
        #expect(hub.held.isEmpty)
    }

    @Test("A branch with another branch's certificate is refused: who it is says its certificate, not its hello")
    func swapped() async throws {
        child.write(2)
        let nodes = TestTable()
        let other = try TestAuthority.identity(of: .sample(18))
        let report = try await withHub(hub, nodes: nodes) { _, address in await client(other).sync(with: address) }
        #expect(try refusal(report).sentence.contains("another node's"))
        #expect(nodes.asked.isEmpty && hub.held.isEmpty)
    }

    @Test("Head office's own certificate opens no door, and a branch's does not make a head office")
    func wrongEnd() async throws {
        let asHub = try TestAuthority.identity(of: child.node, isHub: true)
        try await withHub(hub) { _, address in
            #expect(await client(asHub).sync(with: address).failure != nil)
        }
        let server = SyncServer(
            store: hub as any SyncStore,
            nodes: TestTable(),
            identity: { [hub] in try TestAuthority.identity(of: hub.node) },
            logger: quiet
        )
        let ports = AsyncStream.makeStream(of: Int.self)
        let running = Task { try await server.run(at: .loopback(0)) { ports.continuation.yield($0) } }
        var iterator = ports.stream.makeAsyncIterator()
        let address = NodeAddress.loopback(await iterator.next() ?? 0)
        guard case .refusedPeer? = await SyncClient(store: child, logger: quiet).sync(with: address).failure else {
            Issue.record("A branch was taken for head office.")
            return
        }
        running.cancel()
        try await running.value
    }

    @Test("Another node of the organisation cannot answer for head office")
    func otherHub() async throws {
        let identity = try TestAuthority.identity(of: child.node)
        let report = try await withHub(hub) { _, address in
            await client(identity, hub: .sample(77)).sync(with: address)
        }
        guard case .refusedPeer? = report.failure else {
            Issue.record("Ended with \(String(describing: report.failure))")
            return
        }
        #expect(hub.facts.isEmpty)
    }

    @Test("A head office whose certificate has certainly expired is not believed, whatever the branch's clock says")
    func expiredHub() async throws {
        let identity = try TestAuthority.identity(of: child.node)
        let year: UInt64 = 365 * 86_400_000
        try await withHub(hub) { _, address in
            let late = await client(identity, earliest: TestAuthority.madeAt + year).sync(with: address)
            guard case .refusedPeer? = late.failure else {
                Issue.record("Ended with \(String(describing: late.failure))")
                return
            }
            // One that is told nothing of the time, and believes it is 1970, gets through.
            #expect(await client(identity, earliest: 0).sync(with: address).failure == nil)
        }
    }

    @Test("Who is no longer admitted loses the session that it has, and is told why")
    func expelled() async throws {
        let nodes = TestTable()
        let reason = Refusal(.revoked, "The certificate of this node was revoked.")
        try await withHub(hub, nodes: nodes) { server, address in
            let client = SyncClient(store: child, logger: quiet)
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    await client.stayConnected(to: { address }, pause: { _ in throw CancellationError() })
                }
                await eventually { client.status.isConnected && server.connectedNodes == [child.node] }
                nodes.refuse(reason)
                await eventually { server.connectedNodes.isEmpty && client.status.lastFailure != nil }
            }
            #expect(client.status.lastFailure == .refused(reason))
            let again = await client.sync(with: address)
            #expect(again.failure == .refused(reason))
            nodes.refuse(nil)
            #expect(await client.sync(with: address).failure == nil)
        }
    }

    @Test("With a certificate that has expired nothing moves, and no question but the one for another is answered")
    func expiredCertificate() async throws {
        child.write(3)
        hub.write(2)
        let nodes = TestTable()
        nodes.admit(.renewalOnly)
        let identity = try TestAuthority.identity(of: child.node)
        try await withHub(hub, nodes: nodes) { _, address in
            func ask(_ kind: UInt16, then last: [UInt8] = []) async throws -> [String]? {
                let question = SyncMessageCodec().encode(.ask(SyncQuestion(kind: kind, payload: [7]))).frames()
                return try await hear(from: address, identity: identity, saying: hello, then: question + last)?
                    .map(\.label)
            }
            let other = try await ask(20)
            #expect(other == ["welcome", "refuse"])
            let renewal = try await ask(SyncQuestion.renewal, then: bye)
            #expect(renewal?.first == "welcome" && renewal?.contains("refuse") == false)
        }
        #expect(hub.held.count == 2 && child.held.count == 3)
    }

    @Test("On a line for enrolment nobody holds a session, and on one for sessions nobody enrols")
    func purposes() async throws {
        let identity = try TestAuthority.identity(of: child.node)
        let join = SyncMessageCodec().encode(.join(.sample)).frames()
        try await withHub(hub) { _, address in
            let enrolling = try await hear(from: address, identity: identity, saying: join)
            #expect(enrolling?.map(\.label) == ["refuse"])
        }
        let failure = try await withHub(hub) { _, address -> SyncFailure? in
            do throws(SyncFailure) {
                // Whoever pins another root never shows its invitation.
                _ = try await SyncClient.join(
                    at: address,
                    rootKey: .sample(3),
                    join: { _ in
                        Issue.record("The invitation was shown to somebody else.")
                        return .sample
                    },
                    logger: quiet
                )
                return nil
            } catch {
                return error
            }
        }
        guard case .refusedPeer? = failure else {
            Issue.record("Ended with \(String(describing: failure))")
            return
        }
    }

    @Test("A hub that stops does not wait for whoever never ends a handshake")
    func stopsDuringHandshake() async throws {
        var limits = SyncLimits()
        // Longer than this test may last.
        limits.handshakeTimeout = .seconds(3600)
        let lines = Mutex<[PlainLine]>([])
        try await withHub(hub, limits: limits) { _, address in
            for _ in 0..<5 {
                let line = try PlainLine(port: address.port)
                lines.withLock { $0.append(line) }
            }
            #expect(await SyncClient(store: child, logger: quiet).sync(with: address).failure == nil)
        }
    }
}
