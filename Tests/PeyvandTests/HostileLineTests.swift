import Causality
import Foundation
import SyncProtocol
import TestKit
import Testing

@testable import peyvand

@Suite("What strangers send to head office", .serialized, .timeLimit(.minutes(15)))
struct HostileLineTests {
    /// As a `VmHWM` line says it: what the process has had in memory at most.
    private func mostMemory(of process: PeyvandProcess) throws -> Int {
        let status = try String(contentsOfFile: "/proc/\(process.number)/status", encoding: .utf8)
        return try #require(status.firstMatch(of: #/VmHWM:\s+(\d+) kB/#).flatMap { Int($0.1) })
    }

    /// Whole frames whose payload is no message, or a message that lies.
    private static func framed(_ type: UInt8, _ payload: [UInt8]) -> [UInt8] {
        FramedMessage(type: type, payload: payload).frames()
    }

    private static let hello: UInt8 = 3
    private static let changes: UInt8 = 6

    static let attacks: [(name: String, bytes: [UInt8])] = [
        ("a frame of 2^63 bytes", [UInt8](repeating: 0x80, count: 9) + [1, hello]),
        ("a frame of 2^31 bytes", [0x80, 0x80, 0x80, 0x80, 0x08, hello]),
        ("a frame of two megabytes", [0xFF, 0xFF, 0x7F, hello, 0, 0, 0, 0] + [UInt8](repeating: 7, count: 1 << 20)),
        // A million origins, and a billion, where there is room for a few thousand.
        (
            "a million origins",
            framed(hello, [UInt8](repeating: 1, count: 40) + [0xC0, 0x84, 0x3D] + [UInt8](repeating: 1, count: 60_000))
        ),
        ("numbers without end", framed(hello, [UInt8](repeating: 0xFF, count: 60_000))),
        (
            "64 MiB in two thousand bytes",
            framed(changes, [1] + ZstdCompressor().compress([UInt8](repeating: 0, count: 64 << 20)))
        ),
        (
            "a message in frames without end",
            (0..<2000).flatMap { _ in Array(framed(hello, [1, 2, 3]).enumerated().map { $0 == 1 ? $1 | 0x80 : $1 }) }
        ),
        ("a page's address", Array("GET / HTTP/1.1\r\nHost: head-office\r\n\r\n".utf8)),
        ("nothing that means anything", (0..<50_000).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) }),
    ]

    @Test("Lies about sizes and counts end their line at once, cost no memory, and keep nobody waiting")
    func lies() async throws {
        let office = try await ProcessOffice.open()
        let branch = try await office.branch("isfahan")
        _ = try await peyvand("write", "--jsonl", "-", "--data", branch, input: customers(200, "x"))
        try await synchronise(branch)
        // Once each, so that what is made but once does not count.
        for attack in Self.attacks { _ = await (try PlainLine(port: office.port)).ask(attack.bytes) }
        let before = try mostMemory(of: office.process)
        for attack in Self.attacks {
            for _ in 0..<20 { _ = await (try PlainLine(port: office.port)).ask(attack.bytes) }
            let grown = try mostMemory(of: office.process) - before
            #expect(grown <= 8 << 10, "\(attack.name): \(grown) KiB")
        }
        _ = try await peyvand("write", "--jsonl", "-", "--data", branch, input: customers(1, "y"))
        try await synchronise(branch)
        #expect(try await dump(branch) == dump(office.headOffice))
        let messages = try office.process.messages
        #expect(!messages.contains("Fatal error") && !messages.contains("GET /"))
    }
}
