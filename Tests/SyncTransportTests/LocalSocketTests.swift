import Foundation
import Synchronization
import TestKit
import Testing

@testable import SyncTransport

@Suite("The node's local socket", .timeLimit(.minutes(15)))
struct LocalSocketTests {
    private struct Sentence: Error, CustomStringConvertible {
        let description: String
    }

    private func withNode<Value: Sendable>(
        at path: String,
        _ handler: @escaping LocalSocket.Handler,
        _ body: @Sendable () async throws -> Value
    ) async throws -> Value {
        let started = AsyncStream.makeStream(of: Void.self)
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { started.continuation.finish() }
                try await LocalSocket.serve(
                    at: path,
                    logger: quiet,
                    onListening: { started.continuation.finish() },
                    handler: handler
                )
            }
            for await _ in started.stream {}
            defer { group.cancelAll() }
            return try await body()
        }
    }

    private func ask(_ request: [UInt8], at path: String) async throws -> [[UInt8]]? {
        var pieces: [[UInt8]] = []
        let isAnswered = try await LocalSocket.request(request, at: path) { pieces.append($0) }
        return isAnswered ? pieces : nil
    }

    @Test("A command without a running node learns so at once")
    func noNode() async throws {
        let directory = TemporaryDirectory()
        #expect(try await ask([1], at: directory.path + "/peyvand.sock") == nil)
    }

    @Test("A request is answered in as many pieces as it takes")
    func pieces() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/peyvand.sock"
        let answer = try await withNode(at: path) { request, reply in
            for byte in request { try await reply([UInt8](repeating: byte, count: Int(byte))) }
        } _: {
            try await ask([3, 0, 2], at: path)
        }
        #expect(answer == [[3, 3, 3], [], [2, 2]])
    }

    @Test("Large requests and replies arrive whole")
    func large() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/peyvand.sock"
        let request = [UInt8](repeating: 7, count: 5 << 20)
        let answer = try await withNode(at: path) { request, reply in
            try await reply(request)
        } _: {
            try await ask(request, at: path)
        }
        #expect(answer == [request])
    }

    @Test("A request that fails gives its sentence to the command")
    func failure() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/peyvand.sock"
        try await withNode(at: path) { _, reply in
            try await reply([1])
            throw Sentence(description: "Customer 2-1 is not here.")
        } _: {
            await #expect(throws: SyncTransportFailure.localRequestFailed("Customer 2-1 is not here.")) {
                try await ask([1], at: path)
            }
            // The next request is served as if nothing had been.
            await #expect(throws: SyncTransportFailure.self) { try await ask([1], at: path) }
        }
    }

    @Test("A request beyond the limit is refused before it is sent")
    func tooLarge() async throws {
        let request = [UInt8](repeating: 0, count: LocalSocket.messageBytesMax + 1)
        await #expect(throws: SyncTransportFailure.self) { try await ask(request, at: "/nowhere") }
    }

    @Test("The socket is for its owner and group, and goes with the node")
    func mode() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/peyvand.sock"
        try await withNode(at: path) { _, _ in
        } _: {
            let attributes = try FileManager.default.attributesOfItem(atPath: path)
            #expect((attributes[.posixPermissions] as? NSNumber)?.intValue == 0o660)
        }
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test("A socket file that a dead node left is replaced")
    func stale() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/peyvand.sock"
        try makeStaleSocket(at: path)
        #expect(try await ask([1], at: path) == nil)
        let answer = try await withNode(at: path) { request, reply in
            try await reply(request)
        } _: {
            try await ask([5], at: path)
        }
        #expect(answer == [[5]])
    }

    @Test("A second node does not take the socket of a running one")
    func alreadyServed() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/peyvand.sock"
        let answer = try await withNode(at: path) { request, reply in
            try await reply(request)
        } _: {
            await #expect(throws: SyncTransportFailure.alreadyServed(path: path)) {
                try await LocalSocket.serve(at: path, logger: quiet) { _, _ in }
            }
            return try await ask([5], at: path)
        }
        #expect(answer == [[5]])
    }

    @Test("A file that is no socket is left alone")
    func foreignFile() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/peyvand.sock"
        #expect(FileManager.default.createFile(atPath: path, contents: Data([1])))
        await #expect(throws: SyncTransportFailure.self) {
            try await LocalSocket.serve(at: path, logger: quiet) { _, _ in }
        }
        #expect(FileManager.default.contents(atPath: path) == Data([1]))
    }

    @Test("A path at the limit works, a longer one is refused with a sentence", arguments: [106, 107, 108])
    func pathLimit(count: Int) async throws {
        let directory = TemporaryDirectory()
        let path = (directory.path + "/").padding(toLength: count, withPad: "x", startingAt: 0)
        if count <= 107 {
            let answer = try await withNode(at: path) { _, reply in
                try await reply([1])
            } _: {
                try await ask([], at: path)
            }
            #expect(answer == [[1]])
        } else {
            await #expect(throws: SyncTransportFailure.pathTooLong(path, bytes: count)) {
                try await LocalSocket.serve(at: path, logger: quiet) { _, _ in }
            }
            await #expect(throws: SyncTransportFailure.pathTooLong(path, bytes: count)) {
                try await ask([], at: path)
            }
        }
    }

    @Test("A command that goes away cancels its request")
    func abandoned() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/peyvand.sock"
        let isCancelled = Mutex(false)
        try await withNode(at: path) { _, reply in
            try await reply([1])
            while !Task.isCancelled { await Task.yield() }
            isCancelled.withLock { $0 = true }
        } _: {
            await #expect(throws: CancellationError.self) {
                _ = try await LocalSocket.request([1], at: path) { _ in throw CancellationError() }
            }
            await eventually { isCancelled.withLock { $0 } }
        }
    }

    @Test("A node that goes away in the middle of its reply is noticed")
    func cutReply() async throws {
        let directory = TemporaryDirectory()
        let path = directory.path + "/peyvand.sock"
        let started = AsyncStream.makeStream(of: Void.self)
        let node = Task {
            try await LocalSocket.serve(
                at: path,
                logger: quiet,
                onListening: { started.continuation.finish() },
                handler: { _, reply in
                    try await reply([1])
                    while !Task.isCancelled { await Task.yield() }
                    throw CancellationError()
                }
            )
        }
        for await _ in started.stream {}
        await #expect(throws: SyncTransportFailure.self) {
            _ = try await LocalSocket.request([1], at: path) { _ in node.cancel() }
        }
        _ = try await node.value
    }

    private func makeStaleSocket(at path: String) throws {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(result == 0)
    }
}
