import NIOCore
import NIOPosix

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
        try await executeThenClose { connections in
            try await withThrowingDiscardingTaskGroup { group in
                for try await connection in connections {
                    group.addTask {
                        do {
                            await serve(try await ByteChannel.take(over: connection))
                        } catch {
                            // Gone before it was served.
                            connection.close(promise: nil)
                        }
                    }
                }
            }
        }
    }
}

/// Keeps what a channel brings before it is taken over.
///
/// Not reading does not keep it in the kernel: when the peer ends its side, NIO reads everything up to the end
/// at once, and nobody would ever hear of it.
private final class WaitingRoom: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private var pieces: [ByteBuffer] = []
    private var hasEnded = false

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { pieces.append(unwrapInboundIn(data)) }

    func channelReadComplete(context: ChannelHandlerContext) {}

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed? = event as? ChannelEvent {
            hasEnded = true
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func removeHandler(context: ChannelHandlerContext, removalToken: ChannelHandlerContext.RemovalToken) {
        for piece in pieces { context.fireChannelRead(wrapInboundOut(piece)) }
        if !pieces.isEmpty { context.fireChannelReadComplete() }
        if hasEnded { context.fireUserInboundEventTriggered(ChannelEvent.inputClosed) }
        pieces = []
        context.leavePipeline(removalToken: removalToken)
    }
}
