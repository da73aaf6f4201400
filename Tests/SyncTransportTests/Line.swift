import Glibc
import Logging
import NIOCore
import NIOPosix
import SyncProtocol
import Synchronization
import TestKit
import Trust

@testable import SyncTransport

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

extension SyncLimits {
    /// For tests that are not about time: a machine that is busy with something else breaks no promise.
    static let patient: SyncLimits = {
        var limits = SyncLimits()
        limits.connectTimeout = .seconds(120)
        limits.handshakeTimeout = .seconds(120)
        limits.helloTimeout = .seconds(120)
        return limits
    }()
}

extension NodeAddress {
    static func loopback(_ port: Int) -> NodeAddress { NodeAddress(host: "127.0.0.1", port: port) }
}

/// The nodes that may come in: all, until a test says otherwise.
final class TestTable: NodeTable {
    private struct State {
        var refusal: Refusal?
        var admission = NodeAdmission.full
        var asked: [CertifiedPeer] = []
        var observers: [Int: @Sendable () -> Void] = [:]
    }

    private let state = Mutex(State())

    /// Who wanted to come in so far.
    var asked: [CertifiedPeer] { state.withLock { $0.asked } }

    func admit(_ admission: NodeAdmission) { state.withLock { $0.admission = admission } }

    func refuse(_ refusal: Refusal?) {
        let observers = state.withLock { state in
            state.refusal = refusal
            return Array(state.observers.values)
        }
        for observer in observers { observer() }
    }

    func admit(_ peer: CertifiedPeer) throws(SyncStoreFailure) -> NodeAdmission {
        let refusal = state.withLock { state in
            state.asked.append(peer)
            return state.refusal
        }
        if let refusal { throw .refused(refusal) }
        return state.withLock { $0.admission }
    }

    func observeNodes(_ callback: @escaping @Sendable () -> Void) -> @Sendable () -> Void {
        let number = state.withLock { state in
            state.observers[state.observers.count] = callback
            return state.observers.count - 1
        }
        return { self.state.withLock { $0.observers[number] = nil } }
    }
}

extension TestAuthority {
    /// The identity of a node of the samples.
    static func identity(of node: UniqueID, isHub: Bool = false) throws -> NodeIdentity {
        try identity(organisation: UniqueID.sample(1).bytes, node: node.bytes, isHub: isHub)
    }
}

extension SyncClient {
    /// With the certificate that the node of the store has.
    convenience init(store: MemoryStore, limits: SyncLimits = .patient, logger: Logger) {
        self.init(
            store: store,
            security: {
                ChildSecurity(identity: try TestAuthority.identity(of: store.node), hub: .sample(9), earliest: 0)
            },
            limits: limits,
            logger: logger
        )
    }
}

extension SyncServer {
    /// With the certificate that the node of the store has.
    convenience init(
        store: MemoryStore,
        nodes: TestTable = TestTable(),
        limits: SyncLimits = .patient,
        logger: Logger
    ) {
        self.init(
            store: store,
            nodes: nodes,
            identity: { try TestAuthority.identity(of: store.node, isHub: true) },
            limits: limits,
            logger: logger
        )
    }
}

/// Runs a hub while `body` runs, and stops it in order afterwards.
func withHub<Value: Sendable>(
    _ store: MemoryStore,
    nodes: TestTable = TestTable(),
    limits: SyncLimits = .patient,
    _ body: @Sendable (SyncServer, NodeAddress) async throws -> Value
) async throws -> Value {
    let server = SyncServer(store: store, nodes: nodes, limits: limits, logger: quiet)
    let ports = AsyncStream.makeStream(of: Int.self)
    return try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask {
            try await server.run(at: .loopback(0)) { ports.continuation.yield($0) }
        }
        defer { group.cancelAll() }
        var iterator = ports.stream.makeAsyncIterator()
        let port = await iterator.next() ?? 0
        return try await body(server, .loopback(port))
    }
}

/// Waits until something becomes true, giving way to others meanwhile. The test's time limit is the limit.
func eventually(_ condition: @Sendable () -> Bool) async {
    while !condition(), !Task.isCancelled { await Task.yield() }
}

/// A secured connection to a node, of the branch of the samples: sends bytes, and collects what comes back until the end
/// of the line.
func speak(_ bytes: [UInt8], to address: NodeAddress, thenClose: Bool = false) async throws -> [UInt8] {
    let end = try ChildEnd(
        ChildSecurity(identity: try TestAuthority.identity(of: .sample(17)), hub: .sample(9), earliest: 0)
    )
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .connect(host: address.host, port: address.port) { channel in
            ByteChannel.prepare(channel) { try end.handler() }
        }
    _ = try await ByteChannel.greeting(of: channel, within: .seconds(120))
    return try await ByteChannel.take(over: channel).executeThenClose { inbound, outbound in
        try await outbound.write(ByteBuffer(bytes: bytes))
        if thenClose { outbound.finish() }
        var received: [UInt8] = []
        for try await buffer in inbound { received += buffer.readableBytesView }
        return received
    }
}

/// The messages in a piece of a line.
func messages(in bytes: [UInt8]) throws -> [SyncMessage] {
    let codec = SyncMessageCodec()
    var decoder = FrameDecoder()
    decoder.trustPeer()
    decoder.feed(bytes)
    var messages: [SyncMessage] = []
    while let framed = try decoder.next() { messages.append(try codec.decode(framed)) }
    return messages
}

/// A line that breaks: stands between a child and its hub, and cuts both ways after so many bytes.
func withBrokenLine<Value: Sendable>(
    to hub: NodeAddress,
    bytesMax: Int,
    _ body: @Sendable (NodeAddress) async throws -> Value
) async throws -> (value: Value, bytes: Int) {
    let left = Budget(bytesMax)
    let listener: Listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .bind(host: "127.0.0.1", port: 0) { ByteChannel.prepare($0) }
    let port = listener.channel.localAddress?.port ?? 0
    let line = Task {
        try await listener.serveAll { near in
            try? await near.executeThenClose { nearIn, nearOut in
                let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                    .connect(host: hub.host, port: hub.port) { ByteChannel.prepare($0) }
                let far = try await ByteChannel.take(over: channel)
                try await far.executeThenClose { farIn, farOut in
                    await withTaskGroup(of: Void.self) { pipes in
                        let cut: @Sendable () -> Void = {
                            near.channel.close(promise: nil)
                            far.channel.close(promise: nil)
                        }
                        pipes.addTask { await pump(nearIn, farOut, left, cut) }
                        pipes.addTask { await pump(farIn, nearOut, left, cut) }
                    }
                }
            }
        }
    }
    let value = try await body(.loopback(port))
    listener.channel.close(promise: nil)
    try? await line.value
    return (value, bytesMax - left.rest)
}

/// The bytes that may still pass.
private final class Budget: Sendable {
    private let left: Mutex<Int>

    init(_ bytes: Int) { left = Mutex(bytes) }

    var rest: Int { left.withLock { $0 } }

    func take(_ wanted: Int) -> Int {
        left.withLock { left in
            let taken = min(left, wanted)
            left -= taken
            return taken
        }
    }
}

private func pump(
    _ inbound: NIOAsyncChannelInboundStream<ByteBuffer>,
    _ outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>,
    _ left: Budget,
    _ cut: @Sendable () -> Void
) async {
    do {
        for try await var buffer in inbound {
            let allowed = left.take(buffer.readableBytes)
            let isWhole = allowed == buffer.readableBytes
            if let part = buffer.readSlice(length: allowed), allowed > 0 { try await outbound.write(part) }
            if !isWhole { return cut() }
        }
        outbound.finish()
    } catch {
        cut()
    }
}
