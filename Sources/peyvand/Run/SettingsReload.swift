import Foundation
import Logging
import ServiceLifecycle
import Synchronization
import UnixSignals

/// The settings of a running node. On SIGHUP the file is read again.
final class LiveSettings: Service {
    private let current: Mutex<Settings>
    private let logger: Logger

    private let onChange: @Sendable (Settings) throws -> Void

    init(_ settings: Settings, logger: Logger, onChange: @escaping @Sendable (Settings) throws -> Void) {
        current = Mutex(settings)
        self.onChange = onChange
        self.logger = logger
    }

    var value: Settings { current.withLock { $0 } }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            for await _ in await UnixSignalsSequence(trapping: .sighup) {
                do {
                    let read = try Settings(data: self.value.directory)
                    try self.onChange(read)
                    self.current.withLock { $0 = read }
                    self.logger.info("Settings were read again. A changed listen address counts from the next start.")
                } catch {
                    self.logger.error("Settings stay as they were", metadata: ["reason": "\(error)"])
                }
            }
        }
    }
}
