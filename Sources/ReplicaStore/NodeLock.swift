import Foundation

/// The lock that one process holds on a node's directory while it works with the replica.
///
/// Advisory (`flock`), released by the system when the process ends, however it ends.
final class NodeLock: Sendable {
    private let descriptor: Int32

    /// Takes the lock, or returns nil when another process has it.
    ///
    /// - Throws: When the lock file cannot be made.
    init?(directory: String) throws {
        let path = directory + "/lock"
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o660)
        guard descriptor >= 0 else {
            throw StoreFailure.database(
                "The lock file \(path) cannot be opened: \(String(cString: strerror(errno))). "
                    + "Check who owns the directory."
            )
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            return nil
        }
    }

    deinit { close(descriptor) }

    /// Lets go of it before it is forgotten.
    func release() { flock(descriptor, LOCK_UN) }
}
