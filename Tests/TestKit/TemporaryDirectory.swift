import Foundation

/// A directory that is removed when the test lets go of it.
package final class TemporaryDirectory: Sendable {
    package let path: String

    /// - Parameter inMemory: Puts it where the system keeps files in memory, if it does: a sync costs nothing there.
    package init(inMemory: Bool = false) {
        let memory = "/dev/shm"
        let home =
            inMemory && FileManager.default.isWritableFile(atPath: memory)
            ? URL(fileURLWithPath: memory) : FileManager.default.temporaryDirectory
        path = home.appendingPathComponent("peyvand-\(UUID().uuidString)").path
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
