import SyncProtocol
import Testing

@Suite("Windows of a line")
struct BandwidthPlanTests {
    @Test(
        "The window that holds the minute counts, the first of several; outside the line is free",
        arguments: [
            (479, Int?.none), (480, 20 << 10), (959, 20 << 10), (960, 0), (1079, 0), (1080, nil), (1320, 2 << 10),
            (1439, 2 << 10),
            (0, 2 << 10), (359, 2 << 10), (360, nil),
        ]
    )
    func windows(minute: Int, rate: Int?) throws {
        let plan = try BandwidthPlan("08:00-16:00 20, 15:00-18:00 0,22:00-06:00  2")
        #expect(plan.bytesPerSecond(atMinute: minute) == rate)
    }

    @Test("A plan of no window, and one of the whole day")
    func ends() throws {
        #expect(try BandwidthPlan(" ") == .unlimited)
        let day = try BandwidthPlan("00:00-24:00 64")
        #expect([0, 1439].map { day.bytesPerSecond(atMinute: $0) } == [64 << 10, 64 << 10])
    }

    @Test(
        "What is no window is refused",
        arguments: [
            "08:00-16:00", "8-16 20", "08:00-16:00 x", "08:00-16:00 -1", "08:60-16:00 20", "24:01-02:00 20",
            "08:00-08:00 20",
            "08:00-16:00 20 KB", "24:00-08:00 20", "08:00-16:00 99999999",
        ]
    )
    func unreadable(text: String) {
        #expect(throws: BandwidthPlanFailure.unreadable(window: text)) { try BandwidthPlan(text) }
    }

    @Test("The slowest line and the most windows, one less and one more")
    func limits() throws {
        #expect(throws: BandwidthPlanFailure.tooSlow(window: "08:00-16:00 1")) { try BandwidthPlan("08:00-16:00 1") }
        for speed in [0, 2, 3] { _ = try BandwidthPlan("08:00-16:00 \(speed)") }
        func plan(_ count: Int) -> String { [String](repeating: "08:00-16:00 20", count: count).joined(separator: ",") }
        let most = BandwidthPlan.windowsMax
        for count in [most - 1, most] { _ = try BandwidthPlan(plan(count)) }
        #expect(throws: BandwidthPlanFailure.tooMany(windows: most + 1)) { try BandwidthPlan(plan(most + 1)) }
    }
}
