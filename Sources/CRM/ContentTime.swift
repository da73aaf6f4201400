import Foundation

/// Days and times as vCard and iCalendar files write them.
///
/// - Source: RFC 5545 section 3.3.5; RFC 6350 section 4.3.
package enum ContentTime {
    /// The day and the second in UTC: `20261124T021500Z`, or `2026-11-24T02:15:00Z` if it is not basic.
    package static func text(ofMilliseconds milliseconds: Int64, isBasic: Bool) -> String? {
        guard let text = CivilTime.rfc3339(ofMilliseconds: milliseconds - modulo(milliseconds, 1000)) else {
            return nil
        }
        let seconds = text.prefix(19) + "Z"
        return isBasic ? String(seconds.filter { $0 != "-" && $0 != ":" }) : String(seconds)
    }

    /// The day of a text that begins with one; nil for a day without a year.
    package static func day(of text: String) -> String? {
        let digits = text.prefix { $0 != "T" }.filter { $0 != "-" && !$0.isWhitespace }
        guard digits.count == 8, digits.allSatisfy({ ("0"..."9").contains($0) }), !text.hasPrefix("--") else {
            return nil
        }
        let day = "\(digits.prefix(4))-\(digits.dropFirst(4).prefix(2))-\(digits.suffix(2))"
        return CivilTime.days(ofDay: day) == nil ? nil : day
    }

    /// The moment of a text: in UTC if it says so, else in a time zone. A day is the moment in which it begins.
    ///
    /// - Parameter zone: A name such as `Asia/Tehran`; nil for one that nobody knows.
    /// - Returns: Milliseconds since 1970-01-01 UTC; nil for what is no moment.
    package static func milliseconds(of text: String, zone: String) -> Int64? {
        let text = text.filter { !$0.isWhitespace }
        guard let day = day(of: text), let days = CivilTime.days(ofDay: day) else { return nil }
        var seconds: Int64 = 0
        var rest = text.drop { $0 != "T" }.dropFirst()
        var isUniversal = false
        if rest.hasSuffix("Z") || rest.hasSuffix("z") {
            isUniversal = true
            rest = rest.dropLast()
        }
        // Thousandths are not kept.
        let digits = rest.prefix { $0 != "." && $0 != "+" }.filter { $0 != ":" }
        if !digits.isEmpty {
            guard digits.count == 4 || digits.count == 6, let number = Int64(digits) else { return nil }
            let time = digits.count == 6 ? number : number * 100
            guard time / 10000 < 24, time / 100 % 100 < 60, time % 100 <= 60 else { return nil }
            seconds = time / 10000 * 3600 + time / 100 % 100 * 60 + time % 100
        }
        let local = Int64(days) * 86_400_000 + seconds * 1000
        if isUniversal || zone == "UTC" { return local }
        guard let zone = TimeZone(identifier: zone) else { return nil }
        // The offset of a local time is that of the moment which it names: at most a day away.
        var offset = Int64(zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double(local) / 1000))) * 1000
        offset = Int64(zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double(local - offset) / 1000))) * 1000
        return local - offset
    }

    private static func modulo(_ number: Int64, _ divisor: Int64) -> Int64 {
        let rest = number % divisor
        return rest < 0 ? rest + divisor : rest
    }
}
