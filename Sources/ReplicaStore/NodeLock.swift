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
        let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o660)
        guard file >= 0 else {
            throw StoreFailure.database(
                "The lock file \(path) cannot be opened: \(String(cString: strerror(errno))). "
                    + "Check who owns the directory."
            )
        }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            close(file)
            return nil
        }
        descriptor = file
    }

    deinit {
        // A process that is just being started still has everything open that this one has, and would go on holding it.
        release()
        close(descriptor)
    }

    /// Lets go of it before it is forgotten.
    func release() { flock(descriptor, LOCK_UN) }
}
