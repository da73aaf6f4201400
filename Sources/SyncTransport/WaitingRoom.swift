import NIOCore
import NIOTLS

/// Keeps what a channel brings before it is taken over, and tells when its handshake is over.
///
/// Not reading does not keep it in the kernel: when the peer ends its side, NIO reads everything up to the end
/// at once, and nobody would ever hear of it.
final class WaitingRoom: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    /// What was agreed in the handshake, and the bytes that came first.
    typealias Greeted = (purpose: String?, preamble: [UInt8])

    /// Kept when the handshake is over and the first bytes are there; broken when that can no longer be.
    let greeted: EventLoopPromise<Greeted>?
    private let preambleBytes: Int
    private var purpose: String?
    private var isSecured = false
    private var isGreeted = false
    private var pieces: [ByteBuffer] = []
    private var hasEnded = false

    /// - Parameters:
    ///   - greeted: Nil on a line without a handshake.
    ///   - preambleBytes: How many bytes come before all messages.
    init(greeted: EventLoopPromise<Greeted>? = nil, preambleBytes: Int = 0) {
        self.greeted = greeted
        self.preambleBytes = preambleBytes
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        pieces.append(unwrapInboundIn(data))
        greetIfReady()
    }

    func channelReadComplete(context: ChannelHandlerContext) {}

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed? = event as? ChannelEvent {
            hasEnded = true
            fail(ChannelError.inputClosed)
        } else if case .handshakeCompleted(let negotiated)? = event as? TLSUserEvent {
            isSecured = true
            purpose = negotiated
            greetIfReady()
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(error)
        context.fireErrorCaught(error)
    }

    func channelInactive(context: ChannelHandlerContext) {
        fail(ChannelError.ioOnClosedChannel)
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) { fail(ChannelError.ioOnClosedChannel) }

    func removeHandler(context: ChannelHandlerContext, removalToken: ChannelHandlerContext.RemovalToken) {
        for piece in pieces where piece.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(piece)) }
        if !pieces.isEmpty { context.fireChannelReadComplete() }
        if hasEnded { context.fireUserInboundEventTriggered(ChannelEvent.inputClosed) }
        pieces = []
        context.leavePipeline(removalToken: removalToken)
    }

    private func fail(_ error: any Error) {
        guard !isGreeted else { return }
        isGreeted = true
        greeted?.fail(error)
    }

    private func greetIfReady() {
        guard isSecured, !isGreeted, pieces.reduce(0, { $0 + $1.readableBytes }) >= preambleBytes else { return }
        var preamble: [UInt8] = []
        for index in pieces.indices where preamble.count < preambleBytes {
            let wanted = min(preambleBytes - preamble.count, pieces[index].readableBytes)
            preamble += pieces[index].readBytes(length: wanted) ?? []
        }
        isGreeted = true
        greeted?.succeed((purpose, preamble))
    }
}
