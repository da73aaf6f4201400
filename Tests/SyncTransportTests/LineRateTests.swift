import SyncProtocol
import Synchronization
import TestKit
import Testing

@testable import SyncTransport

@Suite("How much of its line a branch uses, and when", .timeLimit(.minutes(5)))
struct LineRateTests {
    /// A time of day that a test can change.
    private final class Day: Sendable {
        private let minute: Mutex<Int>

        init(_ minute: Int) { self.minute = Mutex(minute) }

        var now: Int { minute.withLock { $0 } }
        func move(to minute: Int) { self.minute.withLock { $0 = minute } }
    }

    private final class Count: Sendable {
        private let count = Mutex(0)

        var value: Int { count.withLock { $0 } }

        func increase() -> Int {
            count.withLock { count in
                count += 1
                return count
            }
        }
    }

    @Test("Bytes take as long as the window of the hour says, each way for itself")
    func pace() throws {
        let day = Day(600)
        let rate = LineRate(try BandwidthPlan("08:00-16:00 20, 16:00-18:00 0"), minuteOfDay: { day.now })
        let now = ContinuousClock.now
        #expect(rate.take(20 << 10, .outgoing, now: now) == .seconds(1))
        #expect(rate.take(10 << 10, .outgoing, now: now) == .milliseconds(1500))
        #expect(rate.take(20 << 10, .incoming, now: now) == .seconds(1))
        // What was not used is not saved up.
        #expect(rate.take(20 << 10, .outgoing, now: now + .seconds(100)) == .seconds(1))
        #expect(rate.pieceBytes == 5 << 10)
        day.move(to: 16 * 60)
        #expect(rate.isClosed)
        day.move(to: 18 * 60)
        #expect(!rate.isClosed && rate.pieceBytes == nil && rate.take(1 << 30, .outgoing, now: now) == .zero)
    }

    @Test("While the line is to be left alone nothing is called, and afterwards it is")
    func closed() async throws {
        let day = Day(0)
        let (child, hub) = (MemoryStore(hub: false), MemoryStore(hub: true))
        child.write(2)
        let rate = LineRate(try BandwidthPlan("00:00-12:00 0"), minuteOfDay: { day.now })
        try await withHub(hub) { _, address in
            let client = try client(of: child, rate)
            let waits = Count()
            let calling = Task {
                await client.stayConnected(
                    to: { address },
                    pause: { _ in
                        // Twice it was found closed.
                        if waits.increase() == 2 { day.move(to: 720) }
                        if waits.value > 2 { throw CancellationError() }
                    }
                )
            }
            await eventually { hub.held.count == 2 }
            #expect(waits.value == 2)
            calling.cancel()
            await calling.value
        }
    }

    @Test("What is urgent goes out although the line is to be left alone, in a session that ends with it")
    func urgent() async throws {
        let (child, hub) = (MemoryStore(hub: false), MemoryStore(hub: true))
        child.write(2)
        let rate = LineRate(try BandwidthPlan("00:00-24:00 0"), minuteOfDay: { 5 })
        try await withHub(hub) { _, address in
            let client = try client(of: child, rate) { hub.held.count < 2 }
            await client.stayConnected(
                to: { address },
                pause: { _ in
                    if hub.held.count == 2 { throw CancellationError() }
                }
            )
        }
        #expect(hub.held.count == 2)
    }

    private func client(
        of store: MemoryStore,
        _ rate: LineRate,
        isUrgent: @escaping @Sendable () -> Bool = { false }
    ) throws -> SyncClient {
        let identity = try TestAuthority.identity(of: store.node)
        return SyncClient(
            store: store as any SyncStore,
            security: { ChildSecurity(identity: identity, hub: .sample(9), earliest: 0) },
            rate: rate,
            isUrgent: isUrgent,
            logger: quiet
        )
    }
}
