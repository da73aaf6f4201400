import Foundation

/// A plain connection to a port of this machine.
package final class PlainLine: Sendable {
    private let socket: Int32

    /// - Throws: ``NoConnection`` when nobody listens there.
    package init(port: Int) throws {
        signal(SIGPIPE, SIG_IGN)
        socket = Foundation.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else {
            close(socket)
            throw NoConnection(port: port)
        }
    }

    deinit { close(socket) }

    /// Sends text, and returns what comes until the other side closes.
    package func ask(_ text: String) async -> String { await ask(Array(text.utf8)) }

    /// The same with bytes.
    package func ask(_ bytes: [UInt8]) async -> String {
        // Whoever answers may need the threads of tasks, of which a waiting test must not take one.
        await withCheckedContinuation { done in
            DispatchQueue.global().async { [self] in
                write(bytes)
                done.resume(returning: readToEnd())
            }
        }
    }

    /// Sends text, or as much of it as is taken.
    package func write(_ text: String) { write(Array(text.utf8)) }

    /// Sends bytes, or as many of them as are taken.
    package func write(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Foundation.write(socket, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }

    /// Everything until the other side closes or breaks the connection.
    package func readToEnd() -> String {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(socket, &piece, piece.count)
            guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += piece.prefix(count)
        }
    }
}

/// Nobody listens at a port.
package struct NoConnection: Error {
    package let port: Int
}
