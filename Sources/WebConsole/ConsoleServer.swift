import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// The HTTP server of a node, for programs and browsers on the same machine.
///
/// It speaks HTTP/1.1, answers one request a connection, takes no body, and closes. What is answered is not this
/// type's business. Nothing is encrypted and nobody is asked who he is, so it listens on this machine only.
package enum ConsoleServer {
    /// Connections at a time; one more is closed at once.
    package static let connectionsMax = 32
    /// The addresses that no other machine reaches.
    package static let loopbackHosts = ["127.0.0.1", "::1", "localhost"]

    /// What is answered to a request.
    package struct Reply: Hashable, Sendable {
        /// The status of RFC 9110, section 15.
        package let status: Int
        /// A media type, as in the field `Content-Type`.
        package let contentType: String
        package let body: [UInt8]

        package init(status: Int = 200, contentType: String, body: [UInt8]) {
            self.status = status
            self.contentType = contentType
            self.body = body
        }
    }

    /// Answers GET of one path, without its query; nil where nothing lies. Runs on no particular thread.
    package typealias Responder = @Sendable (_ path: String) async -> Reply?

    /// Serves until the task is cancelled.
    ///
    /// - Parameters:
    ///   - host: One of ``loopbackHosts``.
    ///   - port: 0 lets the system choose one.
    ///   - connectionTimeout: How long one connection may take from its first byte to its last.
    ///   - onListening: Gets the port, once connections can be made.
    /// - Throws: ``ConsoleFailure`` when it cannot listen there.
    package static func serve(
        at host: String,
        port: Int,
        connectionTimeout: Duration = .seconds(10),
        logger: Logger,
        onListening: @Sendable (Int) -> Void = { _ in },
        respond: @escaping Responder
    ) async throws(ConsoleFailure) {
        guard loopbackHosts.contains(host) else { throw .notLoopback(host: host) }
        let counter = ConnectionCounter()
        let bootstrap = ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.backlog, value: 32)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                let hasPlace = counter.enter()
                channel.closeFuture.whenComplete { _ in counter.leave() }
                guard hasPlace else { return channel.close() }
                let cut = channel.eventLoop.scheduleTask(in: TimeAmount(connectionTimeout)) {
                    channel.close(promise: nil)
                }
                channel.closeFuture.whenComplete { _ in cut.cancel() }
                return channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline(withErrorHandling: true)
                    try channel.pipeline.syncOperations.addHandler(RequestHandler(respond: respond))
                }
            }
        let listener: any Channel
        do {
            listener = try await bootstrap.bind(host: host, port: port).get()
        } catch {
            throw .cannotListen(host: host, port: port, reason: "\(error)")
        }
        let chosen = listener.localAddress?.port ?? port
        logger.info("The console listens", metadata: ["address": "\(host):\(chosen)"])
        onListening(chosen)
        await withTaskCancellationHandler {
            // However it was closed, nothing more is answered.
            try? await listener.closeFuture.get()
        } onCancel: {
            listener.close(promise: nil)
        }
    }
}

/// Why the console cannot listen.
package enum ConsoleFailure: Error, Hashable, Sendable {
    case notLoopback(host: String)
    case cannotListen(host: String, port: Int, reason: String)
}

extension ConsoleFailure: CustomStringConvertible {
    package var description: String {
        switch self {
        case .notLoopback(let host):
            "The console would listen on \(host), which other machines may reach, and it is not encrypted. Use "
                + "127.0.0.1 or ::1, and a tunnel (for example SSH) from other machines."
        case .cannotListen(let host, let port, let reason):
            "The console cannot listen on port \(port) of \(host) (\(reason)). Choose another one with --console."
        }
    }
}

/// Counts connections that are open. Used from every event loop.
private final class ConnectionCounter: Sendable {
    private let open = Mutex(0)

    /// Whether there is a place for one more, which then is taken.
    func enter() -> Bool {
        open.withLock { open in
            open += 1
            return open <= ConsoleServer.connectionsMax
        }
    }

    func leave() { open.withLock { $0 -= 1 } }
}

/// One connection: reads a request, answers it, closes.
private final class RequestHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let respond: ConsoleServer.Responder
    private var head: HTTPRequestHead?
    private var isAnswered = false

    init(respond: @escaping ConsoleServer.Responder) { self.respond = respond }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isAnswered else { return }
        switch unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
        case .body:
            isAnswered = true
            Self.send(.text(413, "Nothing is taken here."), withBody: true, to: context.channel)
        case .end:
            guard let head else { return }
            isAnswered = true
            let channel = context.channel
            guard head.method == .GET || head.method == .HEAD else {
                Self.send(.text(405, "Only GET is answered here."), withBody: true, to: channel)
                return
            }
            let (respond, isHead) = (respond, head.method == .HEAD)
            let path = head.uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false).first ?? ""
            let reply = channel.eventLoop.makePromise(of: ConsoleServer.Reply.self)
            reply.completeWithTask { [path = String(path)] in
                await respond(path) ?? .text(404, "There is nothing at this address.")
            }
            reply.futureResult.whenSuccess { Self.send($0, withBody: !isHead, to: channel) }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // What is no HTTP was answered with 400 before it is told here; the rest of it is not worth reading.
        context.close(promise: nil)
    }

    private static func send(_ reply: ConsoleServer.Reply, withBody: Bool, to channel: any Channel) {
        var headers = HTTPHeaders()
        headers.add(name: "content-type", value: reply.contentType)
        headers.add(name: "content-length", value: String(reply.body.count))
        headers.add(name: "cache-control", value: "no-store")
        headers.add(name: "x-content-type-options", value: "nosniff")
        if reply.status == 405 { headers.add(name: "allow", value: "GET, HEAD") }
        headers.add(name: "connection", value: "close")
        let head = HTTPResponseHead(version: .http1_1, status: .init(statusCode: reply.status), headers: headers)
        channel.write(HTTPServerResponsePart.head(head), promise: nil)
        if withBody {
            channel.write(HTTPServerResponsePart.body(.byteBuffer(ByteBuffer(bytes: reply.body))), promise: nil)
        }
        channel.writeAndFlush(HTTPServerResponsePart.end(nil)).whenComplete { _ in channel.close(promise: nil) }
    }
}

extension ConsoleServer.Reply {
    fileprivate static func text(_ status: Int, _ sentence: String) -> Self {
        Self(status: status, contentType: "text/plain; charset=utf-8", body: Array((sentence + "\n").utf8))
    }
}
