import NIOPosix

/// The threads on which stores may block.
///
/// One for writes, because SQLite has one writer anyway: sessions then take turns, first come first served.
/// A few for reads, which go on meanwhile. One set for the whole process, never shut down.
enum StoreThreads {
    static let writes = start(1)
    static let reads = start(4)
    /// For name look-ups.
    static let names = start(2)

    private static func start(_ count: Int) -> NIOThreadPool {
        let pool = NIOThreadPool(numberOfThreads: count)
        pool.start()
        return pool
    }
}

extension NIOThreadPool {
    /// Runs something that blocks, and returns what it returned or threw.
    func run<Success: Sendable, Failure: Error>(
        _ work: @escaping @Sendable () throws(Failure) -> Success
    ) async -> Result<Success, Failure> {
        await withCheckedContinuation { continuation in
            // Never `cancelled`: the pool is not shut down while the process lives.
            submit { _ in
                do throws(Failure) {
                    continuation.resume(returning: .success(try work()))
                } catch {
                    continuation.resume(returning: .failure(error))
                }
            }
        }
    }
}
