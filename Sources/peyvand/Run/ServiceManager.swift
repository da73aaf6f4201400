import Foundation
import Logging
import ServiceLifecycle
import SyncTransport
import Synchronization

/// Whoever started the node and wants to hear how it is: systemd, or a program that does as systemd does.
///
/// Each notice is one datagram of lines `NAME=value` to the Unix-domain socket that `NOTIFY_SOCKET` names: a path, or
/// a name in the abstract namespace that begins with `@`. Nothing comes back.
///
/// - Source: sd_notify(3), sd_watchdog_enabled(3).
struct ServiceManager: Sendable {
    /// Where it listens, as the system writes it: abstract names begin with a zero byte.
    private let socketName: [UInt8]
    /// How long the manager waits for a sign of life before it ends the node; nil when it does not wait.
    let watchdogInterval: Duration?

    /// The manager that the environment names; nil when nobody wants to hear.
    init?(environment: [String: String] = ProcessInfo.processInfo.environment) {
        guard let named = environment["NOTIFY_SOCKET"], named.count > 1 else { return nil }
        var name = Array(named.utf8)
        switch name[0] {
        case UInt8(ascii: "/"): break
        case UInt8(ascii: "@"): name[0] = 0
        default: return nil
        }
        guard name.count <= LocalSocket.pathBytesMax else { return nil }
        socketName = name
        // What was meant for another process, for one that started this, is not for this one.
        let isMeant = environment["WATCHDOG_PID"].map { $0 == String(getpid()) } ?? true
        let microseconds = environment["WATCHDOG_USEC"].flatMap(Int64.init) ?? 0
        watchdogInterval = isMeant && microseconds > 0 ? .microseconds(microseconds) : nil
    }

    /// Sends one notice.
    ///
    /// - Returns: False when the manager does not take it. There is nobody else to tell, and the node goes on.
    @discardableResult
    func tell(_ lines: String...) -> Bool {
        let socket = Foundation.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { return false }
        defer { close(socket) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: socketName) }
        // An abstract name has no end but its length; a path may have one.
        let length = MemoryLayout<sa_family_t>.size + socketName.count + (socketName[0] == 0 ? 0 : 1)
        let message = Array(lines.joined(separator: "\n").utf8)
        let sent = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                sendto(socket, message, message.count, Int32(MSG_NOSIGNAL), address, socklen_t(length))
            }
        }
        return sent == message.count
    }

    /// Says that settings are being read again; ``ready(_:)`` says that it is done.
    func reloading() {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        tell("RELOADING=1", "MONOTONIC_USEC=\(Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1000)")
    }

    /// Says that the node does its work.
    ///
    /// - Parameter status: A sentence for the administrator.
    func ready(_ status: String? = nil) {
        if let status { tell("READY=1", "STATUS=\(status)", "MAINPID=\(getpid())") } else { tell("READY=1") }
    }

    func stopping() { tell("STOPPING=1", "STATUS=Stopping") }

    func isAlive() { tell("WATCHDOG=1") }
}

/// Waits for everything that has to be there before the node does its work.
final class Readiness: Sendable {
    private struct State {
        var missing: Set<Part>
        var whenReady: (@Sendable () -> Void)?
    }

    /// What has to be there.
    enum Part: Hashable, Sendable { case settings, commands, line, console }

    private let state: Mutex<State>

    /// - Parameter whenReady: Called once, when the last of the parts is there.
    init(of parts: Set<Part>, whenReady: @escaping @Sendable () -> Void) {
        state = Mutex(State(missing: parts, whenReady: whenReady))
    }

    /// Notes that a part is there.
    func has(_ part: Part) {
        let whenReady = state.withLock { state -> (@Sendable () -> Void)? in
            state.missing.remove(part)
            guard state.missing.isEmpty else { return nil }
            defer { state.whenReady = nil }
            return state.whenReady
        }
        whenReady?()
    }
}

/// Gives the service manager signs of life, as long as the node answers commands.
///
/// A sign that came from a timer alone would come from a node that hangs as well. This one is given after a command has
/// gone through the socket, the event loops and a thread for requests. It does not ask the replica: another program may
/// lawfully hold that for long.
struct WatchdogService: Service {
    let manager: ServiceManager
    let interval: Duration
    let settings: Settings

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                if (try? await NodeConnection.isServed(settings)) == true { manager.isAlive() }
                // As the manual recommends: at half the time.
                do { try await Task.sleep(for: interval / 2) } catch { return }
            }
        }
    }
}

/// Sees to it that stopping is announced and does not take for ever.
struct StopService: Service {
    /// Somebody who says SIGTERM waits five seconds.
    private static let secondsMax = 4.5

    let manager: ServiceManager?
    let logger: Logger

    func run() async throws {
        try await gracefulShutdown()
        manager?.stopping()
        let logger = logger
        DispatchQueue.global(qos: .userInitiated).asyncAfter(deadline: .now() + Self.secondsMax) {
            logger.warning(
                "Not everything had ended in time, so the process ends now. What was acknowledged is on disk.",
                metadata: ["afterSeconds": "\(Self.secondsMax)"]
            )
            // Nothing is written at exit that is not written already: the same as losing power, which loses nothing.
            _exit(ExitStatus.failed.rawValue)
        }
    }
}
