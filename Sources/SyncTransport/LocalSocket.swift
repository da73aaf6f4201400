import Glibc
import Logging
import NIOCore
import NIOPosix
import Synchronization

// The socket for the node's own commands. One request a connection:
//
//   command -> node    4 length, little-endian; then so many bytes: the request
//   node -> command    any number of: 4 length, 1 kind, then length bytes
//                      kind 0: a piece of the reply
//                      kind 1: the end, empty
//                      kind 2: failed; a sentence in UTF-8. Also an end

/// The Unix-domain socket through which commands ask a running node. What is said over it is not this
/// type's business.
package enum LocalSocket {
    /// The longest path the system can bind.
    package static let pathBytesMax = 107
    /// The largest request, and the largest piece of a reply.
    package static let messageBytesMax = 64 << 20

    /// While a request is answered: the account of the process that has asked, as the kernel says (SO_PEERCRED).
    @TaskLocal package static var peerUserID: UInt32?

    /// Answers one request. It may reply any number of times; the end is sent when it returns. An error
    /// reaches the command as a sentence. It is cancelled when the command goes away.
    package typealias Handler =
        @Sendable (
            _ request: [UInt8],
            _ reply: @Sendable ([UInt8]) async throws -> Void
        ) async throws -> Void
}

/// The requests that run, so that they can be cancelled together.
private final class Requests: Sendable {
    private struct State {
        var tasks: [Int: Task<Void, Never>] = [:]
        var made = 0
        var isCancelled = false
    }

    private let state = Mutex(State())

    /// Runs one request to its end.
    func run(_ request: @escaping @Sendable () async -> Void) async {
        let task = Task { await request() }
        let number = state.withLock { state in
            if state.isCancelled { task.cancel() }
            state.made += 1
            state.tasks[state.made] = task
            return state.made
        }
        await task.value
        state.withLock { $0.tasks[number] = nil }
    }

    func cancelAll() {
        let tasks = state.withLock { state in
            state.isCancelled = true
            return Array(state.tasks.values)
        }
        for task in tasks { task.cancel() }
    }
}

private enum ReplyKind {
    static let piece: UInt8 = 0
    static let end: UInt8 = 1
    static let failed: UInt8 = 2
}

// MARK: - Server

extension LocalSocket {
    /// Serves until the task is cancelled; requests that run are cancelled then, too. Removes the socket
    /// file at the end.
    ///
    /// A file left by a node that died is replaced. The socket has mode 0660.
    ///
    /// - Parameter onListening: Called once commands can connect.
    /// - Throws: ``SyncTransportFailure`` when the socket cannot be made, or another node answers there.
    package static func serve(
        at path: String,
        logger: Logger,
        onListening: @Sendable () -> Void = {},
        handler: @escaping Handler
    ) async throws(SyncTransportFailure) {
        if let answered = try await connect(to: path) {
            answered.close(promise: nil)
            throw .alreadyServed(path: path)
        }
        let address = try socketAddress(path)
        let listener: Listener
        do {
            try removeStaleSocket(at: path)
            listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .serverChannelOption(.backlog, value: 64)
                .bind(to: address) { ByteChannel.prepare($0) }
        } catch {
            throw .cannotServe(path: path, reason: "\(error)")
        }
        // Until here the mode is what the umask left; connecting needs the right to write, which no usual
        // umask gives to others.
        guard chmod(path, 0o660) == 0 else {
            throw .cannotServe(path: path, reason: String(cString: strerror(errno)))
        }
        onListening()
        let requests = Requests()
        // A task of its own, for the reason given in ``SyncServer/run(at:onListening:)``.
        let serving = Task {
            do {
                try await listener.serveAll { connection in
                    await requests.run { await answer(connection, logger: logger, handler: handler) }
                }
            } catch {
                logger.debug("The local socket ended", metadata: ["error": "\(error)"])
            }
        }
        await withTaskCancellationHandler {
            await serving.value
        } onCancel: {
            listener.channel.close(promise: nil)
            requests.cancelAll()
        }
        unlink(path)
    }

    /// The address of a path. NIO's own refuses paths that Linux can bind (above 103 bytes).
    private static func socketAddress(_ path: String) throws(SyncTransportFailure) -> SocketAddress {
        let bytes = path.utf8.count
        guard bytes <= pathBytesMax else { throw .pathTooLong(path, bytes: bytes) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        return SocketAddress(address)
    }

    /// Removes the file of a node that died. Any other file stays, and binding fails.
    private static func removeStaleSocket(at path: String) throws {
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return }
        guard unlink(path) == 0 else { throw IOError(errnoCode: errno, reason: "unlink") }
    }

    private static func answer(
        _ connection: ByteChannel,
        logger: Logger,
        handler: @escaping Handler
    ) async {
        do {
            try await connection.executeThenClose { inbound, outbound in
                var bytes = inbound.makeAsyncIterator()
                var received = ByteBuffer()
                while received.readableBytes < 4, let more = try await bytes.next() {
                    received.writeImmutableBuffer(more)
                }
                guard let length = received.readInteger(endianness: .little, as: UInt32.self) else { return }
                guard length <= messageBytesMax else {
                    let failure = SyncTransportFailure.localRequestTooLarge(
                        bytes: Int(length),
                        limit: messageBytesMax
                    )
                    try await outbound.write(reply(.init(failure.description.utf8), kind: ReplyKind.failed))
                    outbound.finish()
                    return
                }
                while received.readableBytes < length, let more = try await bytes.next() {
                    received.writeImmutableBuffer(more)
                }
                guard let request = received.readBytes(length: Int(length)) else { return }
                let user = await userID(of: connection.channel)
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        await $peerUserID.withValue(user) { await perform(request, outbound, handler) }
                    }
                    // Nothing more comes but the end: the reply is complete, or the command is gone. A
                    // command whose output is paused may take for ever to read the last of it.
                    do { while try await bytes.next() != nil {} } catch {
                        logger.debug("A command broke off", metadata: ["error": "\(error)"])
                    }
                    group.cancelAll()
                }
            }
        } catch {
            logger.debug("A command went away", metadata: ["error": "\(error)"])
        }
    }

    /// What the kernel fills in for SO_PEERCRED; see unix(7).
    private struct Credentials {
        var process: Int32 = 0
        var user: UInt32 = 0
        var group: UInt32 = 0
    }

    private static func userID(of channel: any Channel) async -> UInt32? {
        guard let provider = channel as? any SocketOptionProvider else { return nil }
        let option = NIOBSDSocket.Option(rawValue: SO_PEERCRED)
        let future: EventLoopFuture<Credentials> = provider.unsafeGetSocketOption(level: .socket, name: option)
        return try? await future.get().user
    }

    private static func perform(
        _ request: [UInt8],
        _ outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>,
        _ handler: @escaping Handler
    ) async {
        do {
            try await handler(request) { piece in
                for part in parts(of: piece) {
                    try await outbound.write(reply(part, kind: ReplyKind.piece))
                }
            }
            try await outbound.write(reply([], kind: ReplyKind.end))
        } catch {
            // A command that is gone hears nothing, and there is no one else to tell.
            try? await outbound.write(reply(.init("\(error)".utf8), kind: ReplyKind.failed))
        }
        outbound.finish()
    }

    private static func parts(of piece: [UInt8]) -> [ArraySlice<UInt8>] {
        guard piece.count > messageBytesMax else { return [piece[...]] }
        return stride(from: 0, to: piece.count, by: messageBytesMax).map { start in
            piece[start..<min(start + messageBytesMax, piece.count)]
        }
    }

    private static func reply(_ bytes: ArraySlice<UInt8>, kind: UInt8) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(bytes.count + 5)
        buffer.writeInteger(UInt32(bytes.count), endianness: .little)
        buffer.writeInteger(kind)
        buffer.writeBytes(bytes)
        return buffer
    }
}

// MARK: - Client

extension LocalSocket {
    /// Asks the node that serves at `path`, and hands over the pieces of its reply as they come.
    ///
    /// - Returns: False, at once, when no node serves there; true when the reply was complete.
    /// - Throws: ``SyncTransportFailure``, or what `onReply` throws.
    package static func request(
        _ request: [UInt8],
        at path: String,
        onReply: ([UInt8]) async throws -> Void
    ) async throws -> Bool {
        guard request.count <= messageBytesMax else {
            throw SyncTransportFailure.localRequestTooLarge(bytes: request.count, limit: messageBytesMax)
        }
        guard let connected = try await connect(to: path) else { return false }
        do {
            try await converse(ByteChannel.take(over: connected), request, onReply: onReply)
        } catch let error where error is ChannelError || error is IOError || error is NIOAsyncWriterError {
            // The line's own errors all say the same: the node has gone.
            throw SyncTransportFailure.localReplyCut
        }
        return true
    }

    private static func converse(
        _ channel: ByteChannel,
        _ request: [UInt8],
        onReply: ([UInt8]) async throws -> Void
    ) async throws {
        try await channel.executeThenClose { inbound, outbound in
            var buffer = ByteBuffer()
            buffer.reserveCapacity(request.count + 4)
            buffer.writeInteger(UInt32(request.count), endianness: .little)
            buffer.writeBytes(request)
            try await outbound.write(buffer)
            var received = ByteBuffer()
            for try await more in inbound {
                received.writeImmutableBuffer(more)
                while let (kind, bytes) = try takeReply(&received) {
                    switch kind {
                    case ReplyKind.piece: try await onReply(bytes)
                    case ReplyKind.end: return
                    case ReplyKind.failed:
                        let sentence = String(decoding: bytes, as: UTF8.self)
                        throw SyncTransportFailure.localRequestFailed(sentence)
                    default:
                        throw SyncTransportFailure.localReplyMalformed("kind \(kind)")
                    }
                }
                received.discardReadBytes()
            }
            throw SyncTransportFailure.localReplyCut
        }
    }

    /// Takes one whole frame of a reply; nil when it is not all there.
    private static func takeReply(
        _ buffer: inout ByteBuffer
    ) throws(SyncTransportFailure) -> (kind: UInt8, bytes: [UInt8])? {
        let start = buffer.readerIndex
        guard let length = buffer.getInteger(at: start, endianness: .little, as: UInt32.self) else {
            return nil
        }
        guard length <= messageBytesMax else { throw .localReplyMalformed("\(length) bytes") }
        guard let kind = buffer.getInteger(at: start + 4, as: UInt8.self),
            let bytes = buffer.getBytes(at: start + 5, length: Int(length))
        else { return nil }
        buffer.moveReaderIndex(forwardBy: 5 + Int(length))
        return (kind, bytes)
    }

    /// Connects, or returns nil when no one listens.
    private static func connect(to path: String) async throws(SyncTransportFailure) -> (any Channel)? {
        let address = try socketAddress(path)
        do {
            return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connect(to: address) { ByteChannel.prepare($0) }
        } catch {
            switch (error as? IOError)?.errnoCode {
            case ENOENT, ECONNREFUSED, ENOTSOCK: return nil
            default: throw .cannotServe(path: path, reason: "\(error)")
            }
        }
    }
}
