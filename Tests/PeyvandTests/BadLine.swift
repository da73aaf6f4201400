import Foundation
import Glibc
import Synchronization
import Testing

/// A line between a branch and head office that does what lines do: a relay on loopback that counts the bytes,
/// and breaks off, damages or makes them up when the test says so.
final class BadLine: Sendable {
    /// What happens to the bytes.
    enum Fault: Sendable {
        case none
        /// Both directions end after so many bytes, counted together.
        case cut(afterBytes: Int)
        /// One bit of the byte at this place is turned.
        case flip(atByte: Int, towardsHub: Bool)
        /// Whoever calls hears this, and nothing of head office.
        case says([UInt8])
        /// This happens when so many bytes have passed; they go on.
        case event(afterBytes: Int, @Sendable () -> Void)
    }

    private struct State {
        var fault = Fault.none
        var byteCount = 0
        var countTowards = [true: 0, false: 0]
        var heard: [UInt8] = []
        var sockets: [Int32] = []
    }

    /// Where the branch calls.
    let port: Int
    private let hubPort: @Sendable () -> Int
    private let listener: Int32
    private let state = Mutex(State())

    /// - Parameter hubPort: Where head office listens, asked for every call.
    init(to hubPort: @escaping @Sendable () -> Int) throws {
        self.hubPort = hubPort
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = Self.loopback(port: 0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(listener, address, length) == 0 && listen(listener, 64) == 0
                    && getsockname(listener, address, &length) == 0
            }
        }
        try #require(listener >= 0 && bound)
        self.listener = listener
        port = Int(UInt16(bigEndian: address.sin_port))
        Thread.detachNewThread { [weak self] in
            while true {
                let caller = accept(listener, nil, nil)
                guard caller >= 0 else { return }
                guard let line = self else {
                    close(caller)
                    return
                }
                line.serve(caller)
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }

    /// Changes what happens from the next call on; counts begin at 0 again.
    func set(_ fault: Fault) {
        state.withLock { state in
            state.fault = fault
            state.byteCount = 0
            state.countTowards = [true: 0, false: 0]
            state.heard = []
        }
    }

    /// How many bytes have passed, both ways together.
    var byteCount: Int { state.withLock { $0.byteCount } }

    /// What branches have said since the last fault was set.
    var heardFromBranches: [UInt8] { state.withLock { $0.heard } }

    /// Connects to a port on loopback; says something, and returns what comes back until the other side ends.
    static func speak(_ bytes: [UInt8], toPort port: Int) -> [UInt8] {
        let line = connected(toPort: port)
        defer { close(line) }
        _ = bytes.withUnsafeBytes { send(line, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        shutdown(line, Int32(SHUT_WR))
        var answer: [UInt8] = []
        while let piece = received(line) { answer += piece }
        return answer
    }

    private func serve(_ caller: Int32) {
        if case .says(let bytes) = state.withLock({ $0.fault }) {
            Thread.detachNewThread {
                _ = bytes.withUnsafeBytes { send(caller, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
                shutdown(caller, Int32(SHUT_WR))
                while Self.received(caller) != nil {}
                close(caller)
            }
            return
        }
        let hub = Self.connected(toPort: hubPort())
        let open = Mutex(2)
        for (from, to, towardsHub) in [(caller, hub, true), (hub, caller, false)] {
            Thread.detachNewThread { [weak self] in
                while let bytes = Self.received(from), let passed = self?.pass(bytes, towardsHub: towardsHub) {
                    _ = passed.bytes.withUnsafeBytes {
                        send(to, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                    }
                    if passed.isLast {
                        shutdown(from, Int32(SHUT_RDWR))
                        shutdown(to, Int32(SHUT_RDWR))
                    }
                }
                shutdown(to, Int32(SHUT_WR))
                let left = open.withLock { open in
                    open -= 1
                    return open
                }
                if left == 0 {
                    close(caller)
                    close(hub)
                }
            }
        }
    }

    /// What becomes of a piece.
    private func pass(_ bytes: [UInt8], towardsHub: Bool) -> (bytes: [UInt8], isLast: Bool) {
        var event: (@Sendable () -> Void)?
        let result = state.withLock { state in
            var bytes = bytes
            var isLast = false
            let before = state.byteCount
            switch state.fault {
            case .cut(let limit) where before + bytes.count >= limit:
                bytes = Array(bytes.prefix(max(0, limit - before)))
                isLast = true
            case .flip(let place, towardsHub):
                let index = place - (state.countTowards[towardsHub] ?? 0)
                if bytes.indices.contains(index) { bytes[index] ^= 0x10 }
            case .event(let limit, let body) where before < limit && before + bytes.count >= limit:
                event = body
            default:
                break
            }
            state.byteCount += bytes.count
            state.countTowards[towardsHub, default: 0] += bytes.count
            if towardsHub { state.heard += bytes }
            return (bytes, isLast)
        }
        event?()
        return result
    }

    private static func received(_ socket: Int32) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        let count = recv(socket, &buffer, buffer.count, 0)
        return count > 0 ? Array(buffer.prefix(count)) : nil
    }

    private static func connected(toPort port: Int) -> Int32 {
        let line = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(port: port)
        _ = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(line, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        return line
    }

    private static func loopback(port: Int) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }
}
