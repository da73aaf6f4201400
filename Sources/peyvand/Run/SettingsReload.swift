import Foundation
import Logging
import ServiceLifecycle
import Synchronization
import UnixSignals

/// The settings of a running node. On SIGHUP the file is read again.
final class LiveSettings: Service {
    private let current: Mutex<Settings>
    private let logger: Logger

    private let manager: ServiceManager?
    private let onListening: @Sendable () -> Void
    private let onChange: @Sendable (Settings) throws -> Void

    /// - Parameters:
    ///   - onListening: Called once SIGHUP no longer ends the process.
    ///   - onChange: Takes up what was read; what it throws leaves the settings as they were.
    init(
        _ settings: Settings,
        manager: ServiceManager?,
        logger: Logger,
        onListening: @escaping @Sendable () -> Void,
        onChange: @escaping @Sendable (Settings) throws -> Void
    ) {
        current = Mutex(settings)
        self.manager = manager
        self.onListening = onListening
        self.onChange = onChange
        self.logger = logger
    }

    var value: Settings { current.withLock { $0 } }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            let signals = await UnixSignalsSequence(trapping: .sighup)
            self.onListening()
            for await _ in signals {
                self.manager?.reloading()
                defer { self.manager?.ready() }
                do {
                    let read = try Settings(data: self.value.directory)
                    try self.onChange(read)
                    self.current.withLock { $0 = read }
                    self.logger.info("Settings were read again. A changed listen address counts from the next start.")
                } catch {
                    self.logger.error(
                        "Settings stay as they were",
                        metadata: ["reason": "\(CommandFailure(error).sentence)"]
                    )
                }
            }
        }
    }
}
