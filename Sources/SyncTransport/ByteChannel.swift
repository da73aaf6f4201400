import NIOCore
import NIOPosix
import NIOSSL
import SyncProtocol
import Trust

/// A connection as a stream of bytes each way, whose two directions end one after the other.
typealias ByteChannel = NIOAsyncChannel<ByteBuffer, ByteBuffer>

/// Connections that nobody has taken over yet, as a listener hands them out.
///
/// Plain channels, because an asynchronous one stops the process when it is dropped without having been
/// used, and a listener that ends may drop some.
typealias Listener = NIOAsyncChannel<any Channel, Never>

extension NIOAsyncChannel where Inbound == ByteBuffer, Outbound == ByteBuffer {
    /// Takes over a channel that was made with ``prepare(_:)``. The caller must then use it with
    /// `executeThenClose`.
    static func take(over channel: any Channel) async throws -> ByteChannel {
        try await channel.eventLoop.submit {
            let taken = try ByteChannel(
                wrappingChannelSynchronously: channel,
                configuration: .init(
                    isOutboundHalfClosureEnabled: true,
                    inboundType: ByteBuffer.self,
                    outboundType: ByteBuffer.self
                )
            )
            // Hands on what came meanwhile, to the handlers that are there now.
            if let waiting = try? channel.pipeline.syncOperations.context(handlerType: WaitingRoom.self) {
                channel.pipeline.syncOperations.removeHandler(context: waiting, promise: nil)
            }
            do {
                try channel.syncOptions?.setOption(.autoRead, value: true)
            } catch {
                // Closed meanwhile: whoever uses the channel finds its end.
            }
            return taken
        }.get()
    }

    /// Readies a new channel that is to be secured; it waits for ``greeting(of:within:)``.
    ///
    /// - Parameters:
    ///   - handler: What secures it, made in its event loop.
    ///   - preambleBytes: How many bytes the other side sends before all messages.
    static func prepare(
        _ channel: any Channel,
        preambleBytes: Int = 0,
        securedBy handler: @Sendable () throws -> some ChannelHandler
    ) -> EventLoopFuture<any Channel> {
        channel.eventLoop.makeCompletedFuture {
            try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
            try channel.syncOptions?.setOption(.autoRead, value: false)
            try channel.pipeline.syncOperations.addHandlers([
                try handler(),
                WaitingRoom(
                    greeted: channel.eventLoop.makePromise(of: WaitingRoom.Greeted.self),
                    preambleBytes: preambleBytes
                ),
            ])
            return channel
        }
    }

    /// Waits until the handshake of a channel is over.
    ///
    /// - Throws: When it fails, or takes longer than `limit`. The channel is closed then.
    static func greeting(of channel: any Channel, within limit: Duration) async throws -> LineGreeting {
        let cut = channel.eventLoop.scheduleTask(in: TimeAmount(limit)) { channel.close(promise: nil) }
        defer { cut.cancel() }
        do {
            let greeted = try await channel.eventLoop.flatSubmit {
                channel.eventLoop.makeCompletedFuture {
                    let room = try channel.pipeline.syncOperations.handler(type: WaitingRoom.self)
                    guard let greeted = room.greeted else { throw ChannelError.operationUnsupported }
                    try channel.syncOptions?.setOption(.autoRead, value: true)
                    return greeted.futureResult
                }.flatMap { (future: EventLoopFuture<WaitingRoom.Greeted>) in future }
            }.get()
            let certificate = try await channel.nioSSL_peerCertificate().get()
            return LineGreeting(
                purpose: greeted.purpose.flatMap(LinePurpose.init(rawValue:)),
                peer: try certificate.map { try NodeCertificate(try $0.toDERBytes()) },
                preamble: greeted.preamble
            )
        } catch {
            channel.close(promise: nil)
            throw error
        }
    }

    /// Readies a new channel to wait until it is taken over: nothing is read before.
    static func prepare(_ channel: any Channel) -> EventLoopFuture<any Channel> {
        channel.eventLoop.makeCompletedFuture {
            try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
            try channel.syncOptions?.setOption(.autoRead, value: false)
            try channel.pipeline.syncOperations.addHandler(WaitingRoom())
            return channel
        }
    }
}

extension NIOAsyncChannel where Inbound == any Channel, Outbound == Never {
    /// Hands every connection to `serve`, each in a task of its own, until the listener is closed. Returns
    /// when all of them are done.
    func serveAll(_ serve: @escaping @Sendable (ByteChannel) async -> Void) async throws {
        try await serveEach { connection in
            do {
                await serve(try await ByteChannel.take(over: connection))
            } catch {
                // Gone before it was served.
                connection.close(promise: nil)
            }
        }
    }

    /// The same, for whoever takes the connections over, or closes them.
    func serveEach(_ serve: @escaping @Sendable (any Channel) async -> Void) async throws {
        try await executeThenClose { connections in
            try await withThrowingDiscardingTaskGroup { group in
                for try await connection in connections { group.addTask { await serve(connection) } }
            }
        }
    }
}
