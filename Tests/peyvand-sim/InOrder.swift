import Foundation

/// Does some pieces of work on several threads, and hands over what came of them in their order, each as soon as those
/// before it are there.
///
/// - Parameter then: Called on the thread of the caller.
func inOrder<Result: Sendable>(
    _ count: Int,
    jobs: Int,
    _ work: @escaping @Sendable (Int) -> Result,
    then: (Int, Result) -> Void
) {
    let desk = Desk<Result>(count)
    for _ in 0..<min(jobs, count) {
        let thread = Thread {
            while let number = desk.take() { desk.put(work(number), at: number) }
        }
        // Sessions and decoders go deeper than a thread's usual half megabyte.
        thread.stackSize = 8 << 20
        thread.start()
    }
    for number in 0..<count { then(number, desk.wait(for: number)) }
}

/// Where the work lies, and what has come of it.
private final class Desk<Result: Sendable>: @unchecked Sendable {
    // `@unchecked`: everything is guarded by the condition.
    private let condition = NSCondition()
    private let count: Int
    private var next = 0
    private var results: [Int: Result] = [:]

    init(_ count: Int) { self.count = count }

    func take() -> Int? {
        condition.lock()
        defer { condition.unlock() }
        guard next < count else { return nil }
        next += 1
        return next - 1
    }

    func put(_ result: Result, at number: Int) {
        condition.lock()
        results[number] = result
        condition.broadcast()
        condition.unlock()
    }

    func wait(for number: Int) -> Result {
        condition.lock()
        defer { condition.unlock() }
        while true {
            if let result = results.removeValue(forKey: number) { return result }
            condition.wait()
        }
    }
}
