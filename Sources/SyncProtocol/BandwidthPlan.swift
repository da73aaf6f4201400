/// How much of its line a node may use at which time of the day.
///
/// Written as windows, `08:00-16:00 20, 16:00-18:00 0`: from, until (which may lie on the next day), and kilobytes of 1,024
/// bytes a second in each direction. With 0 the line is left alone. Of windows that overlap the first counts; outside of all
/// the line is used as it is.
package struct BandwidthPlan: Hashable, Sendable {
    private struct Window: Hashable, Sendable {
        /// Minutes of the day.
        let from: Int
        let until: Int
        let kilobytesPerSecond: Int

        func holds(_ minute: Int) -> Bool {
            from <= until ? (from..<until).contains(minute) : minute >= from || minute < until
        }
    }

    /// The line may always be used as it is.
    package static let unlimited = BandwidthPlan(windows: [])
    /// How many windows there may be.
    package static let windowsMax = 48
    /// Less than this counts as a peer that has gone; 0 is allowed.
    package static let kilobytesPerSecondMin = 2
    private static let minutesOfDay = 24 * 60

    private let windows: [Window]

    private init(windows: [Window]) { self.windows = windows }

    /// Reads a plan; an empty text is none.
    ///
    /// - Throws: ``BandwidthPlanFailure`` with the window that cannot be read.
    package init(_ text: String) throws(BandwidthPlanFailure) {
        var windows: [Window] = []
        for part in text.split(separator: ",") {
            let words = part.split(separator: " ")
            guard !words.isEmpty else { continue }
            let written = words.joined(separator: " ")
            let times = words[0].split(separator: "-", omittingEmptySubsequences: false)
            guard words.count == 2, times.count == 2, let from = Self.minute(times[0]),
                let until = Self.minute(times[1]),
                from != until, from < Self.minutesOfDay, let speed = Int(words[1]), (0...(1 << 20)).contains(speed)
            else { throw .unreadable(window: written) }
            guard speed == 0 || speed >= Self.kilobytesPerSecondMin else { throw .tooSlow(window: written) }
            windows.append(Window(from: from, until: until, kilobytesPerSecond: speed))
        }
        guard windows.count <= Self.windowsMax else { throw .tooMany(windows: windows.count) }
        self.init(windows: windows)
    }

    /// `HH:MM`, up to `24:00`; nil when it is not that.
    private static func minute(_ text: Substring) -> Int? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ (1...2).contains($0.utf8.count) }), parts[1].utf8.count == 2,
            parts.allSatisfy({ $0.utf8.allSatisfy { (48...57).contains($0) } }),
            let hour = Int(parts[0]), let minute = Int(parts[1]), minute < 60, hour * 60 + minute <= minutesOfDay
        else { return nil }
        return hour * 60 + minute
    }

    /// How many bytes a second each direction may take; nil for as many as the line carries, 0 for none.
    ///
    /// - Parameter minute: Of the day, local time, 0 to 1439.
    package func bytesPerSecond(atMinute minute: Int) -> Int? {
        windows.first { $0.holds(minute) }.map { $0.kilobytesPerSecond << 10 }
    }
}

/// Why a plan cannot be used.
package enum BandwidthPlanFailure: Error, Hashable, CustomStringConvertible {
    case unreadable(window: String)
    case tooSlow(window: String)
    case tooMany(windows: Int)

    package var description: String {
        switch self {
        case .unreadable(let window):
            "\"\(window)\" is no window. Write it as 08:00-16:00 20: from, until, and kilobytes a second, or 0 for none."
        case .tooSlow(let window):
            "\"\(window)\" is too slow to hold a session. Give at least \(BandwidthPlan.kilobytesPerSecondMin) kilobytes a "
                + "second, or 0 to leave the line alone."
        case .tooMany(let windows):
            "There are \(windows) windows; at most \(BandwidthPlan.windowsMax) are allowed."
        }
    }
}
