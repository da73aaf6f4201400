/// Days and times of the Gregorian calendar as the replica stores them, by plain arithmetic.
///
/// A day is `YYYY-MM-DD`, an instant is milliseconds since 1970-01-01 UTC. Years run from 0000 to 9999. Nothing
/// here traps: what is out of range comes back as nil. A dump formats an instant per row, so this calls
/// no Foundation.
///
/// - Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"; RFC 3339.
package enum CivilTime {
    /// The instants that RFC 3339 can write, in milliseconds: years 0000 to 9999.
    package static let millisecondsRange: ClosedRange<Int64> = -62_167_219_200_000...253_402_300_799_999

    /// Milliseconds in a day of UTC.
    package static let dayMilliseconds: Int64 = 86_400_000

    /// The days that ``day(ofDays:)`` can write, counted from 1970-01-01.
    package static let daysRange: ClosedRange<Int> = -719_528...2_932_896

    /// Writes an instant as `2026-11-22T03:15:30.123Z`; nil outside ``millisecondsRange``.
    package static func rfc3339(ofMilliseconds milliseconds: Int64) -> String? {
        guard millisecondsRange.contains(milliseconds) else { return nil }
        return String(unsafeUninitializedCapacity: 24) { write(milliseconds, to: $0) }
    }

    /// Appends the 24 bytes of ``rfc3339(ofMilliseconds:)``; false, and nothing appended, when out of range.
    package static func appendRFC3339(ofMilliseconds milliseconds: Int64, to bytes: inout [UInt8]) -> Bool {
        guard millisecondsRange.contains(milliseconds) else { return false }
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 24) { buffer in
            _ = write(milliseconds, to: buffer)
            bytes.append(contentsOf: buffer)
        }
        return true
    }

    /// Reads an RFC 3339 date-time as milliseconds since 1970-01-01 UTC; nil when it is not one.
    ///
    /// Takes any offset, not only `Z`, a space for `T`, and 1 to 9 fraction digits, of which those behind the
    /// milliseconds are cut off. Refuses a leap second: milliseconds cannot name it.
    package static func milliseconds(ofRFC3339 text: String) -> Int64? {
        var text = text
        return text.withUTF8 { parse($0) }
    }

    /// Reads `YYYY-MM-DD` as days since 1970-01-01; nil when it is not a day that exists.
    package static func days(ofDay day: String) -> Int? {
        var day = day
        return day.withUTF8 { $0.count == 10 ? days($0) : nil }
    }

    /// Writes days since 1970-01-01 as `YYYY-MM-DD`; nil outside ``daysRange``.
    package static func day(ofDays days: Int) -> String? {
        guard daysRange.contains(days) else { return nil }
        return String(unsafeUninitializedCapacity: 10) { buffer in
            writeDay(days, to: buffer)
            return 10
        }
    }

    /// Returns days since 1970-01-01, or nil when there is no such day in the years 0 to 9999.
    package static func days(year: Int, month: Int, day: Int) -> Int? {
        guard (0...9999).contains(year), let length = monthLength(year: year, month: month),
            (1...length).contains(day)
        else { return nil }
        // The year begins in March here, so that the leap day is its last. An era is 400 years.
        let shifted = month <= 2 ? year - 1 : year
        let era = (shifted >= 0 ? shifted : shifted - 399) / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return era * 146_097 + dayOfEra - 719_468
    }

    /// Returns the number of days of a Gregorian month, or nil when there is no such month.
    package static func monthLength(year: Int, month: Int) -> Int? {
        switch month {
        case 1, 3, 5, 7, 8, 10, 12: 31
        case 4, 6, 9, 11: 30
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        default: nil
        }
    }
}

extension CivilTime {
    /// Splits days since 1970-01-01 into a date of the Gregorian calendar.
    private static func civil(ofDays days: Int) -> (year: Int, month: Int, day: Int) {
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return (year, month, dayOfYear - (153 * monthFromMarch + 2) / 5 + 1)
    }

    private static func write(_ milliseconds: Int64, to buffer: UnsafeMutableBufferPointer<UInt8>) -> Int {
        var days = milliseconds / dayMilliseconds
        var rest = Int(milliseconds % dayMilliseconds)
        if rest < 0 {
            days -= 1
            rest += Int(dayMilliseconds)
        }
        writeDay(Int(days), to: buffer)
        buffer[10] = UInt8(ascii: "T")
        put(rest / 3_600_000, digits: 2, at: 11, in: buffer)
        buffer[13] = UInt8(ascii: ":")
        put(rest / 60_000 % 60, digits: 2, at: 14, in: buffer)
        buffer[16] = UInt8(ascii: ":")
        put(rest / 1000 % 60, digits: 2, at: 17, in: buffer)
        buffer[19] = UInt8(ascii: ".")
        put(rest % 1000, digits: 3, at: 20, in: buffer)
        buffer[23] = UInt8(ascii: "Z")
        return 24
    }

    private static func writeDay(_ days: Int, to buffer: UnsafeMutableBufferPointer<UInt8>) {
        let date = civil(ofDays: days)
        put(date.year, digits: 4, at: 0, in: buffer)
        buffer[4] = UInt8(ascii: "-")
        put(date.month, digits: 2, at: 5, in: buffer)
        buffer[7] = UInt8(ascii: "-")
        put(date.day, digits: 2, at: 8, in: buffer)
    }

    private static func put(
        _ number: Int,
        digits: Int,
        at index: Int,
        in buffer: UnsafeMutableBufferPointer<UInt8>
    ) {
        var rest = number
        for position in stride(from: index + digits - 1, through: index, by: -1) {
            buffer[position] = UInt8(truncatingIfNeeded: 0x30 + rest % 10)
            rest /= 10
        }
    }

    private static func parse(_ bytes: UnsafeBufferPointer<UInt8>) -> Int64? {
        guard bytes.count >= 20, let days = days(bytes),
            [UInt8(ascii: "T"), UInt8(ascii: "t"), UInt8(ascii: " ")].contains(bytes[10]),
            let hour = number(bytes, 11, 2), hour < 24, bytes[13] == UInt8(ascii: ":"),
            let minute = number(bytes, 14, 2), minute < 60, bytes[16] == UInt8(ascii: ":"),
            let second = number(bytes, 17, 2), second < 60
        else { return nil }
        var index = 19
        var fraction = 0
        if bytes[index] == UInt8(ascii: ".") {
            index += 1
            let start = index
            var scale = 100
            while index < bytes.count, (0x30...0x39).contains(bytes[index]) {
                fraction += (Int(bytes[index]) - 0x30) * scale
                scale /= 10
                index += 1
            }
            guard (1...9).contains(index - start) else { return nil }
        }
        guard let offsetMinutes = offsetMinutes(bytes, at: index) else { return nil }
        let minutes = hour * 60 + minute - offsetMinutes
        let milliseconds =
            Int64(days) * dayMilliseconds + Int64(minutes * 60_000 + second * 1000 + fraction)
        return millisecondsRange.contains(milliseconds) ? milliseconds : nil
    }

    private static func offsetMinutes(_ bytes: UnsafeBufferPointer<UInt8>, at index: Int) -> Int? {
        guard index < bytes.count else { return nil }
        let sign = bytes[index]
        if sign == UInt8(ascii: "Z") || sign == UInt8(ascii: "z") {
            return index + 1 == bytes.count ? 0 : nil
        }
        guard sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-"), index + 6 == bytes.count,
            let hours = number(bytes, index + 1, 2), hours < 24, bytes[index + 3] == UInt8(ascii: ":"),
            let minutes = number(bytes, index + 4, 2), minutes < 60
        else { return nil }
        return sign == UInt8(ascii: "-") ? -(hours * 60 + minutes) : hours * 60 + minutes
    }

    /// Reads the day in the first ten bytes.
    private static func days(_ bytes: UnsafeBufferPointer<UInt8>) -> Int? {
        guard bytes.count >= 10, let year = number(bytes, 0, 4), bytes[4] == UInt8(ascii: "-"),
            let month = number(bytes, 5, 2), bytes[7] == UInt8(ascii: "-"), let day = number(bytes, 8, 2)
        else { return nil }
        return days(year: year, month: month, day: day)
    }

    private static func number(_ bytes: UnsafeBufferPointer<UInt8>, _ index: Int, _ digits: Int) -> Int? {
        var number = 0
        for byte in bytes[index..<index + digits] {
            guard (0x30...0x39).contains(byte) else { return nil }
            number = number * 10 + Int(byte) - 0x30
        }
        return number
    }
}
