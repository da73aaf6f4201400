import Causality
import Glibc
import Logging
import NIOCore
import NIOPosix
import SyncProtocol
import Synchronization
import TestKit
import Testing
import Trust

@testable import SyncTransport

@Suite("Sync over a real line", .timeLimit(.minutes(15)))
struct SyncServerTests {
    /// Small batches, so that a little work takes many messages.
    private static let small: SyncLimits = {
        var limits = SyncLimits()
        limits.batchBytesMax = 100
        limits.bytesInFlightMax = 250
        limits.batchesInFlightMax = 3
        return limits
    }()

    private func offices() -> (child: MemoryStore, hub: MemoryStore) {
        let child = MemoryStore(hub: false)
        let hub = MemoryStore(hub: true)
        child.write(12)
        hub.write(9)
        hub.write(1, bytesEach: 700)
        return (child, hub)
    }

    @Test("One sync leaves the branch and head office with the same")
    func exchange() async throws {
        let (child, hub) = offices()
        let report = try await withHub(hub, limits: Self.small) { _, address in
            await SyncClient(store: child, limits: Self.small, logger: quiet).sync(with: address)
        }
        #expect(report.failure == nil)
        #expect(report.totals.sent.changeSets == 12)
        #expect(report.totals.received.changeSets == 10)
        #expect(report.totals.sent.bytes > 0 && report.totals.received.bytes > 700)
        #expect(child.held == hub.held)
        #expect(child.observerCount == 0 && hub.observerCount == 0)
    }

    @Test("A change set as large as several frames arrives, in parts")
    func large() async throws {
        let child = MemoryStore(hub: false)
        let hub = MemoryStore(hub: true)
        child.write(2, bytesEach: 5 << 20)
        hub.write(2, bytesEach: 3 << 20)
        let report = try await withHub(hub) { _, address in
            await SyncClient(store: child, logger: quiet).sync(with: address)
        }
        #expect(report.failure == nil)
        #expect(child.held == hub.held)
    }

    @Test("A second sync with nothing new moves a few hundred bytes at most")
    func nothingNew() async throws {
        let (child, hub) = offices()
        let report = try await withHub(hub) { _, address in
            let client = SyncClient(store: child, logger: quiet)
            _ = await client.sync(with: address)
            return await client.sync(with: address)
        }
        #expect(report.failure == nil)
        #expect(report.totals.sent.changeSets + report.totals.received.changeSets == 0)
        #expect(report.totals.sent.bytes + report.totals.received.bytes < 500)
    }

    @Test("A line cut anywhere loses nothing, and the next sync finishes the work")
    func cutAnywhere() async throws {
        let (wholeChild, wholeHub) = offices()
        let whole = try await withHub(wholeHub, limits: Self.small) { _, address in
            try await withBrokenLine(to: address, bytesMax: .max) { line in
                await SyncClient(store: wholeChild, limits: Self.small, logger: quiet).sync(with: line)
            }
        }
        #expect(whole.value.failure == nil)
        for cut in stride(from: 0, to: whole.bytes, by: 37) {
            let (child, hub) = offices()
            try await withHub(hub, limits: Self.small) { _, address in
                let client = SyncClient(store: child, limits: Self.small, logger: quiet)
                _ = try await withBrokenLine(to: address, bytesMax: cut) { line in
                    await client.sync(with: line)
                }
                let failure = await client.sync(with: address).failure
                #expect(failure == nil, "cut after \(cut) bytes")
            }
            #expect(child.held == hub.held, "cut after \(cut) bytes")
            #expect(child.cursor == hub.end, "cut after \(cut) bytes")
        }
    }

    @Test("While a session is open, a commit on either side arrives at the other")
    func live() async throws {
        let (child, hub) = offices()
        try await withHub(hub) { server, address in
            let client = SyncClient(store: child, logger: quiet)
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await client.stayConnected(to: { address }) }
                await eventually { child.held == hub.held }
                #expect(client.status.isConnected)
                #expect(server.connectedNodes == [child.node])
                child.write(3)
                hub.write(3)
                await eventually { child.held.count == 28 && child.cursor == hub.end }
                group.cancelAll()
            }
            #expect(!client.status.isConnected)
        }
        #expect(child.held == hub.held)
    }

    @Test("Branches get each other's work through their hub")
    func twoBranches() async throws {
        let isfahan = MemoryStore(hub: false)
        let shiraz = MemoryStore(hub: false, origin: .other)
        let hub = MemoryStore(hub: true)
        isfahan.write(5)
        shiraz.write(4)
        try await withHub(hub) { server, address in
            await withTaskGroup(of: Void.self) { group in
                for store in [isfahan, shiraz] {
                    group.addTask {
                        await SyncClient(store: store, logger: quiet).stayConnected(to: { address })
                    }
                }
                await eventually { isfahan.held.count == 9 && shiraz.held.count == 9 }
                #expect(server.connectedNodes == [isfahan.node, shiraz.node])
                group.cancelAll()
            }
        }
        #expect(isfahan.held == shiraz.held)
    }

    @Test("A newer session of a node ends its older one, after what that one was applying")
    func newerSession() async throws {
        let (child, hub) = offices()
        try await withHub(hub) { server, address in
            let first = SyncClient(store: child, logger: quiet)
            let second = SyncClient(store: child, logger: quiet)
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    await first.stayConnected(to: { address }, pause: { _ in throw CancellationError() })
                }
                await eventually { child.held == hub.held && server.connectedNodes == [child.node] }
                #expect(await second.sync(with: address).failure == nil)
                await eventually { !first.status.isConnected }
            }
            guard case .peerLeft? = first.status.lastFailure else {
                Issue.record("The first session ended with \(String(describing: first.status.lastFailure))")
                return
            }
        }
    }

    @Test("A hub that stops finishes and acknowledges what it is applying")
    func cleanStop() async throws {
        let child = MemoryStore(hub: false)
        child.write(3)
        let isApplying = Mutex(false)
        let mayGoOn = Mutex(false)
        let hub = MemoryStore(hub: true) {
            isApplying.withLock { $0 = true }
            while !mayGoOn.withLock({ $0 }) { sched_yield() }
        }
        let client = SyncClient(store: child, logger: quiet)
        let report = try await withThrowingTaskGroup(of: SessionReport?.self) { group in
            let addresses = AsyncStream.makeStream(of: NodeAddress.self)
            let server = Task {
                try await SyncServer(store: hub, logger: quiet).run(at: .loopback(0)) {
                    addresses.continuation.yield(.loopback($0))
                }
            }
            var iterator = addresses.stream.makeAsyncIterator()
            let address = await iterator.next() ?? .loopback(0)
            group.addTask { await client.sync(with: address) }
            await eventually { isApplying.withLock { $0 } }
            server.cancel()
            mayGoOn.withLock { $0 = true }
            try await server.value
            return try await group.next() ?? nil
        }
        #expect(hub.held.count == 3)
        #expect(report?.totals.sent.changeSets == 3)
        #expect(report?.failure == .peerLeft("stopping"))
    }

    @Test("A store that fails tells the other side, and a later sync succeeds")
    func failingStore() async throws {
        let (child, hub) = offices()
        hub.failApplies(.unavailable("The disk is full. Make room, then wait."))
        try await withHub(hub) { _, address in
            let client = SyncClient(store: child, logger: quiet)
            let report = await client.sync(with: address)
            guard case .refused(let refusal)? = report.failure else {
                Issue.record("Ended with \(String(describing: report.failure))")
                return
            }
            #expect(refusal.code == .retryLater)
            #expect(report.totals.sent.changeSets == 0)
            hub.failApplies(nil)
            #expect(await client.sync(with: address).failure == nil)
        }
        #expect(child.held == hub.held)
    }

    // MARK: Joining

    @Test("A newcomer with an invitation is taken in")
    func join() async throws {
        let joined = try await withHub(MemoryStore(hub: true)) { _, address in
            try await SyncClient.join(at: address, rootKey: try .ofTests, join: { _ in .sample }, logger: quiet)
        }
        #expect(joined == .sample)
    }

    @Test("A newcomer with a false invitation is told so")
    func falseInvitation() async throws {
        var join = Join.sample
        join.proof = .sample(99)
        let shown = join
        let rootKey = try Key256.ofTests
        let failure = try await withHub(MemoryStore(hub: true)) { _, address -> SyncFailure? in
            do throws(SyncFailure) {
                _ = try await SyncClient.join(
                    at: address,
                    rootKey: rootKey,
                    join: { _ in shown },
                    limits: .patient,
                    logger: quiet
                )
                return nil
            } catch {
                return error
            }
        }
        guard case .refused(let refusal)? = failure else {
            Issue.record("Ended with \(String(describing: failure))")
            return
        }
        #expect(refusal.code == .invitationUnknown)
    }

    // MARK: Strangers

    @Test("A peer that talks something else is told so and cut off, and others are served")
    func garbage() async throws {
        let (child, hub) = offices()
        let failure = try await withHub(hub) { _, address in
            let request = [UInt8]("GET / HTTP/1.1\r\nHost: hub\r\n\r\n".utf8)
            let answer = try messages(in: try await speak(request, to: address))
            guard case .bye(let reason)? = answer.last else {
                Issue.record("Answered \(answer.map(\.label))")
                return SyncFailure?.none
            }
            #expect(reason.contains("Peyvand"))
            return await SyncClient(store: child, logger: quiet).sync(with: address).failure
        }
        #expect(failure == nil)
        #expect(child.held == hub.held)
    }

    @Test("A stranger cannot send a large message")
    func largeStranger() async throws {
        let answer = try await withHub(MemoryStore(hub: true)) { _, address in
            try messages(in: try await speak([0, 0, 1, 0, 3], to: address))
        }
        #expect(answer.map(\.label) == ["bye"])
    }

    @Test("A silent stranger is cut off when the greeting timer fires")
    func silentStranger() async throws {
        var limits = SyncLimits()
        limits.helloTimeout = .milliseconds(20)
        let answer = try await withHub(MemoryStore(hub: true), limits: limits) { _, address in
            try await speak([], to: address)
        }
        #expect(answer == [])
    }

    @Test("Connections that never say who they are give way to those that do")
    func silentConnections() async throws {
        var limits = SyncLimits()
        limits.unauthenticatedConnectionsMax = 2
        // Longer than this test may last.
        limits.handshakeTimeout = .seconds(3600)
        let (child, hub) = offices()
        let lines = Mutex<[PlainLine]>([])
        let report = try await withHub(hub, limits: limits) { server, address in
            for _ in 0..<20 {
                let line = try PlainLine(port: address.port)
                lines.withLock { $0.append(line) }
            }
            // Those that come after it could take its place in turn.
            await eventually { server.connectionCount == 20 }
            return await SyncClient(store: child, logger: quiet).sync(with: address)
        }
        #expect(report.failure == nil && report.wasWelcomed)
    }

    @Test("A hub that holds as many sessions as it may says when to come back", arguments: [0, 1])
    func noPlace(sessionsMax: Int) async throws {
        var limits = SyncLimits()
        limits.sessionsMax = sessionsMax
        let (child, hub) = offices()
        let report = try await withHub(hub, limits: limits) { _, address in
            await SyncClient(store: child, logger: quiet).sync(with: address)
        }
        guard sessionsMax == 0 else {
            #expect(report.failure == nil)
            return
        }
        guard case .refused(let refusal)? = report.failure else {
            Issue.record("Ended with \(String(describing: report.failure))")
            return
        }
        #expect(refusal.code == .busy)
        #expect(report.failure?.retryAfterSeconds == limits.busyRetrySeconds)
    }

    @Test("A dead hub is noticed by its silence")
    func deadHub() async throws {
        var limits = SyncLimits()
        limits.heartbeat = .milliseconds(5)
        limits.lingerTimeout = .milliseconds(5)
        let client = SyncClient(store: MemoryStore(hub: false), limits: limits, logger: quiet)
        try await withSilentHub { address in
            await client.stayConnected(to: { address }, pause: { _ in throw CancellationError() })
        }
        #expect(client.status.lastFailure == .peerSilent(during: .milliseconds(30)))
    }

    /// A hub that welcomes and then says nothing more.
    private func withSilentHub(_ body: @Sendable (NodeAddress) async -> Void) async throws {
        let identity = try TestAuthority.identity(of: .sample(9), isHub: true)
        let security = try HubSecurity(identity)
        let listener: Listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(host: "127.0.0.1", port: 0) { channel in
                ByteChannel.prepare(channel) { security.handler(trusting: identity.root) }
            }
        let port = listener.channel.localAddress?.port ?? 0
        let hub = Task {
            var welcome = Welcome.sample()
            welcome.end = .sample(50)
            let bytes = SyncMessageCodec().encode(.welcome(welcome)).frames()
            try await listener.serveEach { channel in
                _ = try? await ByteChannel.greeting(of: channel, within: .seconds(120))
                guard let connection = try? await ByteChannel.take(over: channel) else { return }
                try? await connection.executeThenClose { inbound, outbound in
                    var hellos = inbound.makeAsyncIterator()
                    _ = try await hellos.next()
                    try await outbound.write(ByteBuffer(bytes: bytes))
                    while try await hellos.next() != nil {}
                }
            }
        }
        await body(.loopback(port))
        listener.channel.close(promise: nil)
        try? await hub.value
    }

    // MARK: Addresses

    @Test("A name is looked up", arguments: ["localhost", "127.0.0.2", "::1"])
    func names(host: String) throws {
        #expect(try !NodeAddress(host: host, port: 1).resolve().isEmpty)
    }

    @Test("A name that does not exist is said to be so")
    func unknownName() async {
        let client = SyncClient(store: MemoryStore(hub: false), logger: quiet)
        let report = await client.sync(with: NodeAddress(host: "no-such-host.invalid", port: 7443))
        #expect(report.failure?.description.contains("no-such-host.invalid") == true)
    }

    @Test("A taken port is named, with what to do")
    func portInUse() async throws {
        try await withHub(MemoryStore(hub: true)) { _, address in
            let second = SyncServer(store: MemoryStore(hub: true), logger: quiet)
            await #expect(throws: SyncTransportFailure.portInUse(address)) {
                try await second.run(at: address)
            }
            #expect(SyncTransportFailure.portInUse(address).description.contains("\(address.port)"))
        }
    }

    @Test("A hub that is not there is named")
    func noHub() async throws {
        // Bound and not listened on, so that nobody else can have it meanwhile.
        let socket = try BoundSocket()
        defer { socket.close() }
        let address = NodeAddress.loopback(socket.port)
        let report = await SyncClient(store: MemoryStore(hub: false), logger: quiet).sync(with: address)
        guard case .unreachable(let sentence)? = report.failure else {
            Issue.record("Ended with \(String(describing: report.failure))")
            return
        }
        #expect(sentence.contains("\(address)"))
        #expect(!report.wasWelcomed)
    }

    @Test("Addresses are read as people write them")
    func addresses() {
        #expect(NodeAddress("127.0.0.1:7443") == .loopback(7443))
        #expect(NodeAddress("[::1]:1") == NodeAddress(host: "::1", port: 1))
        #expect(NodeAddress("[::1]:1")?.description == "[::1]:1")
        for text in ["", ":1", "host", "host:", "host:x", "host:65536", "::1:80", "host:-1"] {
            #expect(NodeAddress(text) == nil, "\(text)")
        }
    }

    // MARK: Coming back

    @Test("The wait doubles up to a minute, and its jitter is full")
    func backoff() {
        let backoff = Backoff()
        let longest = (0...9).map { backoff.delay(attempt: $0, retryAfterSeconds: nil, random: 1) }
        #expect(
            longest
                == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60].map { Duration.milliseconds(Int($0 * 1_000)) }
        )
        #expect(backoff.delay(attempt: 5, retryAfterSeconds: nil, random: 0) == .zero)
        #expect(backoff.delay(attempt: 5, retryAfterSeconds: nil, random: 0.5) == .seconds(8))
        #expect(backoff.delay(attempt: .max, retryAfterSeconds: nil, random: 1) == .seconds(60))
        #expect(backoff.delay(attempt: .min, retryAfterSeconds: nil, random: 7) == .milliseconds(500))
    }

    @Test("A hub that says when to come back is obeyed, within reason")
    func retryAfter() {
        let backoff = Backoff()
        #expect(backoff.delay(attempt: 0, retryAfterSeconds: 30, random: 1) == .milliseconds(30_500))
        #expect(backoff.delay(attempt: 0, retryAfterSeconds: .max, random: 0) == .seconds(3_600))
    }

    @Test("A hub that is away is called again and again, ever more slowly")
    func callsAgain() async throws {
        let address = try await withHub(MemoryStore(hub: true)) { _, address in address }
        let delays = Mutex<[Duration]>([])
        let client = SyncClient(store: MemoryStore(hub: false), logger: quiet)
        await client.stayConnected(
            to: { address },
            random: { 1 },
            pause: { delay in
                let count = delays.withLock { delays in
                    delays.append(delay)
                    return delays.count
                }
                if count == 4 { throw CancellationError() }
            }
        )
        #expect(delays.withLock { $0 } == [.milliseconds(500), .seconds(1), .seconds(2), .seconds(4)])
    }
}

/// A port of this machine that is taken and answers nobody.
private struct BoundSocket {
    private let descriptor: Int32
    let port: Int

    init() throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = descriptor
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                bind(descriptor, generic, length) == 0 ? getsockname(descriptor, generic, &length) : -1
            }
        }
        port = Int(UInt16(bigEndian: address.sin_port))
        try #require(result == 0)
    }

    func close() { Glibc.close(descriptor) }
}
