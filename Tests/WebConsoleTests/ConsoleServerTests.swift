import Logging
import TestKit
import Testing

@testable import WebConsole

@Suite("The HTTP server of the console", .timeLimit(.minutes(1)))
struct ConsoleServerTests {
    private let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// Serves one page at a port that is free, and gives it to a body.
    private func serving(
        connectionTimeout: Duration = .seconds(10),
        _ body: (Int) async throws -> Void
    ) async throws {
        let ports = AsyncStream.makeStream(of: Int.self)
        let server = Task { [silent] in
            try await ConsoleServer.serve(
                at: "127.0.0.1",
                port: 0,
                connectionTimeout: connectionTimeout,
                logger: silent,
                onListening: { ports.continuation.yield($0) }
            ) { path in
                path == "/page"
                    ? ConsoleServer.Reply(contentType: "text/plain", body: Array("سلام".utf8))
                    : nil
            }
        }
        var iterator = ports.stream.makeAsyncIterator()
        let port = try #require(await iterator.next())
        try await body(port)
        server.cancel()
        try await server.value
    }

    /// What a server says to bytes, until it closes.
    private func say(_ text: String, to port: Int) async throws -> String {
        try await PlainLine(port: port).ask(text)
    }

    @Test("A page is found, with and without a question behind it, and the connection is closed")
    func page() async throws {
        try await serving { port in
            for path in ["/page", "/page?a=b"] {
                let reply = try await say("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n", to: port)
                #expect(reply.hasPrefix("HTTP/1.1 200 OK\r\n") && reply.hasSuffix("\r\n\r\nسلام"))
                #expect(reply.contains("content-length: 8\r\n") && reply.contains("connection: close\r\n"))
            }
            let head = try await say("HEAD /page HTTP/1.1\r\nHost: localhost\r\n\r\n", to: port)
            #expect(head.contains("content-length: 8\r\n") && head.hasSuffix("\r\n\r\n"))
        }
    }

    @Test(
        "What is not a question for a page is refused",
        arguments: [
            ("GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
            ("GET /page/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
            ("DELETE /page HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
            ("POST /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", 413),
            ("not HTTP at all\r\n\r\n", 400),
        ]
    )
    func refusals(request: String, status: Int) async throws {
        try await serving { port in
            let reply = try await say(request, to: port)
            #expect(reply.hasPrefix("HTTP/1.1 \(status) "), "\(reply.prefix(40))")
        }
    }

    @Test("A question without end is not listened to for ever")
    func endlessHead() async throws {
        try await serving { port in
            let endless = "GET /page HTTP/1.1\r\nx: " + String(repeating: "y", count: 1 << 20)
            let reply = try await say(endless, to: port)
            #expect(!reply.contains("200 OK"), "\(reply.prefix(40))")
        }
    }

    @Test("One connection too many is closed; those that say nothing do not keep the others out for ever")
    func manyConnections() async throws {
        // On a busy machine ten seconds may pass before the last of them is counted.
        try await serving(connectionTimeout: .seconds(600)) { port in
            var silentOnes = try (0..<ConsoleServer.connectionsMax).map { _ in try PlainLine(port: port) }
            let question = "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"
            // Each is counted on a thread of its own.
            while try await say(question, to: port) != "" { try Task.checkCancellation() }
            silentOnes.removeLast(2)
            var isServed = false
            while !isServed {
                try Task.checkCancellation()
                isServed = try await say(question, to: port).contains("200 OK")
            }
        }
    }

    @Test("It listens on this machine only", arguments: ["0.0.0.0", "192.168.1.1", "::", "example.org", ""])
    func loopbackOnly(host: String) async throws {
        await #expect(throws: ConsoleFailure.notLoopback(host: host)) {
            try await ConsoleServer.serve(at: host, port: 0, logger: silent) { _ in nil }
        }
    }
}
