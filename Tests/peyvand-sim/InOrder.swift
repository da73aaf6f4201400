import Foundation

/// Does some pieces of work on several threads, and hands over what came of them in their order, each as soon as those
/// before it are there.
///
/// - Parameters:
///   - goesOn: Whether another piece is begun; nothing is left undone that was.
///   - then: Called on the thread of the caller.
func inOrder<Result: Sendable>(
    _ count: Int,
    jobs: Int,
    while goesOn: @escaping @Sendable () -> Bool = { true },
    _ work: @escaping @Sendable (Int) -> Result,
    then: (Int, Result) -> Void
) {
    let desk = Desk<Result>(count, goesOn)
    for _ in 0..<min(jobs, count) {
        let thread = Thread {
            while let number = desk.take() { desk.put(work(number), at: number) }
        }
        // Sessions and decoders go deeper than a thread's usual half megabyte.
        thread.stackSize = 8 << 20
        thread.start()
    }
    for number in 0..<count {
        guard let result = desk.wait(for: number) else { return }
        then(number, result)
    }
}

/// Where the work lies, and what has come of it.
private final class Desk<Result: Sendable>: @unchecked Sendable {
    // `@unchecked`: everything is guarded by the condition.
    private let condition = NSCondition()
    private var count: Int
    private let goesOn: @Sendable () -> Bool
    private var next = 0
    private var results: [Int: Result] = [:]

    init(_ count: Int, _ goesOn: @escaping @Sendable () -> Bool) { (self.count, self.goesOn) = (count, goesOn) }

    func take() -> Int? {
        condition.lock()
        defer { condition.unlock() }
        if next < count, !goesOn() {
            count = next
            condition.broadcast()
        }
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

    /// Nil for what was not begun.
    func wait(for number: Int) -> Result? {
        condition.lock()
        defer { condition.unlock() }
        while true {
            if let result = results.removeValue(forKey: number) { return result }
            if number >= count { return nil }
            condition.wait()
        }
    }
}
