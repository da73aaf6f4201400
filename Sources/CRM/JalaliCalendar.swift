import Foundation

/// The calendar and clock of the people who use the program: Jalali days, in Asia/Tehran.
///
/// Only the edges use it: the replica stores Gregorian days and milliseconds of UTC, see ``CivilTime``.
/// Nothing here traps; what the calendar does not know comes back as nil or in Gregorian form.
///
/// - Source: Foundation's Persian calendar, found right for 1200 to 1502; DOMAIN.md 4.
package enum JalaliCalendar {
    /// The Jalali years in which the calendar is known to be right.
    package static let years: ClosedRange<Int> = 1200...1502

    /// The Gregorian years that a typed day may have.
    package static let gregorianYears: ClosedRange<Int> = 1600...2999

    /// A day of the Jalali calendar that exists.
    package struct Day: Hashable, Comparable, Sendable {
        /// 1200 to 1502.
        package let year: Int
        /// 1 to 12, from Farvardin.
        package let month: Int
        /// 1 to 31.
        package let day: Int

        fileprivate init(year: Int, month: Int, day: Int) {
            self.year = year
            self.month = month
            self.day = day
        }

        /// The day as `۱۴۰۵/۰۹/۰۱`.
        package var text: String {
            let parts = [padded(year, 4), padded(month, 2), padded(day, 2)]
            return PersianText.persianDigits(parts.joined(separator: "/"))
        }

        /// Whether `left` is the earlier day.
        package static func < (left: Day, right: Day) -> Bool {
            (left.year, left.month, left.day) < (right.year, right.month, right.day)
        }
    }

    // MARK: Days

    /// Returns the Jalali day of `YYYY-MM-DD`; nil when that is no day, or outside ``years``.
    package static func jalali(ofDay day: String) -> Day? {
        CivilTime.days(ofDay: day).flatMap(jalali(ofDays:))
    }

    /// Returns `YYYY-MM-DD` of a Jalali day; nil when there is no such day in ``years``.
    package static func day(year: Int, month: Int, day: Int) -> String? {
        days(year: year, month: month, day: day).flatMap(CivilTime.day(ofDays:))
    }

    /// Returns the Jalali text of `YYYY-MM-DD`, `۱۴۰۵/۰۹/۰۱`; nil when that is no day, or outside ``years``.
    package static func text(ofDay day: String) -> String? { jalali(ofDay: day)?.text }

    /// Returns the number of days of a Jalali month; nil when there is no such month in ``years``.
    package static func monthLength(year: Int, month: Int) -> Int? {
        guard years.contains(year) else { return nil }
        switch month {
        case 1...6: return 31
        case 7...11: return 30
        case 12: return days(year: year, month: 12, day: 30) == nil ? 29 : 30
        default: return nil
        }
    }

    /// Returns how many days after Saturday, the first of the week, the day is: 0 to 6. Nil when it is no day.
    package static func weekday(ofDay day: String) -> Int? {
        // 1970-01-01 was a Thursday, the sixth day of this week.
        CivilTime.days(ofDay: day).map { (($0 + 5) % 7 + 7) % 7 }
    }

    /// The names of the days of the week, from Saturday.
    package static let weekdayNames = ["شنبه", "یکشنبه", "دوشنبه", "سه‌شنبه", "چهارشنبه", "پنجشنبه", "جمعه"]

    /// The names of the months, from Farvardin.
    package static let monthNames = [
        "فروردین", "اردیبهشت", "خرداد", "تیر", "مرداد", "شهریور",
        "مهر", "آبان", "آذر", "دی", "بهمن", "اسفند",
    ]

    // MARK: Days that people type

    /// Reads a day that a person typed and returns it as `YYYY-MM-DD`.
    ///
    /// Takes digits of any script, year first, parts divided by `/`, `-` or `.`, or eight digits run together.
    /// A year of ``years`` is Jalali, one of ``gregorianYears`` is Gregorian.
    package static func read(_ typed: String) throws(DayFault) -> String {
        let parts = try parts(of: typed)
        let (year, month, day) = (parts[0], parts[1], parts[2])
        let isJalali = years.contains(year)
        guard isJalali || gregorianYears.contains(year) else { throw .yearOutOfRange }
        let length =
            isJalali
            ? monthLength(year: year, month: month) : CivilTime.monthLength(year: year, month: month)
        guard let length else { throw .noSuchMonth }
        let found =
            isJalali
            ? Self.day(year: year, month: month, day: day)
            : CivilTime.days(year: year, month: month, day: day).flatMap(CivilTime.day(ofDays:))
        guard let found else { throw .noSuchDay(monthLength: length) }
        return found
    }

    private static func parts(of typed: String) throws(DayFault) -> [Int] {
        let cleaned = String(
            String.UnicodeScalarView(
                PersianText.foldDigits(typed).unicodeScalars.filter {
                    !$0.properties.isWhitespace && $0.properties.generalCategory != .format
                }
            )
        )
        guard !cleaned.isEmpty else { throw .empty }
        var texts = [Substring(cleaned)]
        for separator in "/-." where cleaned.contains(separator) {
            texts = cleaned.split(separator: separator, omittingEmptySubsequences: false)
        }
        guard texts.allSatisfy({ CodeText.digits(of: $0) != nil }) else { throw .unreadable }
        if texts.count == 1 {
            if cleaned.count == 6 { throw .yearOfTwoDigits }
            guard cleaned.count == 8 else { throw .unreadable }
            texts = [cleaned.prefix(4), cleaned.dropFirst(4).prefix(2), cleaned.suffix(2)]
        }
        guard texts.count == 3, texts.allSatisfy({ (1...4).contains($0.count) }) else { throw .unreadable }
        if texts[2].count == 4 { throw .yearLast }
        if texts[0].count <= 2 { throw .yearOfTwoDigits }
        guard texts[0].count == 4, texts[1].count <= 2, texts[2].count <= 2 else { throw .unreadable }
        return texts.compactMap { Int($0) }
    }

    // MARK: Instants

    /// Writes an instant for a Persian reader: Jalali day and time in Asia/Tehran, `۱۴۰۵/۰۹/۰۱ ۰۶:۴۵:۳۰`.
    ///
    /// - Parameter milliseconds: Milliseconds since 1970-01-01 UTC. Outside ``years`` the day is Gregorian.
    package static func persianDateTime(ofMilliseconds milliseconds: Int64) -> String {
        let (days, time) = local(ofMilliseconds: milliseconds)
        let day = jalali(ofDays: days)?.text ?? CivilTime.day(ofDays: days) ?? "—"
        return PersianText.persianDigits("\(day) \(time)")
    }

    /// Writes an instant for an English reader: ISO day and time in Asia/Tehran, `2026-11-22 06:45:30`.
    ///
    /// - Parameter milliseconds: Milliseconds since 1970-01-01 UTC. Years beyond 0 to 9999 show as a dash.
    package static func isoDateTime(ofMilliseconds milliseconds: Int64) -> String {
        let (days, time) = local(ofMilliseconds: milliseconds)
        return "\(CivilTime.day(ofDays: days) ?? "—") \(time)"
    }

    /// Returns the day, `YYYY-MM-DD`, that it is in Asia/Tehran at an instant; nil beyond the years 0 to 9999.
    ///
    /// - Parameter milliseconds: Milliseconds since 1970-01-01 UTC.
    package static func day(ofMilliseconds milliseconds: Int64) -> String? {
        CivilTime.day(ofDays: local(ofMilliseconds: milliseconds).days)
    }

    /// Returns the first instant of a day in Asia/Tehran, in milliseconds since 1970-01-01 UTC; nil when
    /// `day` is no day `YYYY-MM-DD`.
    package static func startMilliseconds(ofDay day: String) -> Int64? {
        guard let days = CivilTime.days(ofDay: day) else { return nil }
        // Noon is always that day; midnight was skipped when summer time began, until 2022.
        let noon = Double(days) * 86_400 + 43_200 - 12_600
        let start = tehranCalendar.startOfDay(for: Date(timeIntervalSince1970: noon))
        return Int64(start.timeIntervalSince1970.rounded()) * 1000
    }
}

extension JalaliCalendar {
    private static let utc = TimeZone(secondsFromGMT: 0) ?? .gmt

    // Without tzdata, the offset that Iran has kept since it gave up summer time in 2022.
    private static let tehran = TimeZone(identifier: "Asia/Tehran") ?? TimeZone(secondsFromGMT: 12_600) ?? utc

    private static let persianCalendar: Calendar = {
        var calendar = Calendar(identifier: .persian)
        calendar.timeZone = utc
        return calendar
    }()

    private static let tehranCalendar: Calendar = {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = tehran
        return calendar
    }()

    private static func jalali(ofDays days: Int) -> Day? {
        guard CivilTime.daysRange.contains(days) else { return nil }
        let noon = Date(timeIntervalSince1970: Double(days) * 86_400 + 43_200)
        let parts = persianCalendar.dateComponents([.year, .month, .day], from: noon)
        guard let year = parts.year, let month = parts.month, let day = parts.day, years.contains(year) else {
            return nil
        }
        return Day(year: year, month: month, day: day)
    }

    private static func days(year: Int, month: Int, day: Int) -> Int? {
        guard years.contains(year), (1...12).contains(month), (1...31).contains(day) else { return nil }
        let parts = DateComponents(year: year, month: month, day: day, hour: 12)
        guard let noon = persianCalendar.date(from: parts) else { return nil }
        let days = Int((noon.timeIntervalSince1970 / 86_400).rounded(.down))
        // Foundation lets a day that does not exist run over into the next month.
        guard jalali(ofDays: days) == Day(year: year, month: month, day: day) else { return nil }
        return days
    }

    /// Splits an instant into days since 1970-01-01 and the time `HH:MM:SS`, both in Asia/Tehran.
    private static func local(ofMilliseconds milliseconds: Int64) -> (days: Int, time: String) {
        guard CivilTime.millisecondsRange.contains(milliseconds) else { return (Int.max, "—") }
        let instant = Date(timeIntervalSince1970: Double(milliseconds) / 1000)
        let local = milliseconds + Int64(tehran.secondsFromGMT(for: instant)) * 1000
        var days = Int(local / CivilTime.dayMilliseconds)
        var rest = Int(local % CivilTime.dayMilliseconds)
        if rest < 0 {
            days -= 1
            rest += Int(CivilTime.dayMilliseconds)
        }
        let parts = [rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60]
        return (days, parts.map { padded($0, 2) }.joined(separator: ":"))
    }

    private static func padded(_ number: Int, _ digits: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, digits - text.count)) + text
    }
}

/// Why a typed day was refused, as a sentence for the person who typed it. Never holds the day itself.
package enum DayFault: Error, Hashable, Sendable {
    case empty
    case unreadable
    case yearOfTwoDigits
    case yearLast
    case yearOutOfRange
    case noSuchMonth
    case noSuchDay(monthLength: Int)
}

extension DayFault: CustomStringConvertible {
    /// The sentence in English.
    package var description: String {
        switch self {
        case .empty: "The day is empty. Write it as 1405/09/01 or 2026-11-22."
        case .unreadable: "This is not a day. Write year, month and day, as 1405/09/01 or 2026-11-22."
        case .yearOfTwoDigits:
            "Write the year with four digits, as 1405/09/01: two digits can mean several years."
        case .yearLast: "The year must come first: 1405/09/01 or 2026-11-22."
        case .yearOutOfRange:
            "The year must be 1200 to 1502 in the Jalali or 1600 to 2999 in the Gregorian calendar."
        case .noSuchMonth: "There is no such month. Months run from 1 to 12."
        case .noSuchDay(let length): "There is no such day: that month has \(length) days in that year."
        }
    }

    /// The sentence in Persian.
    package var persian: String {
        switch self {
        case .empty: "تاریخ خالی است. آن را مانند ۱۴۰۵/۰۹/۰۱ بنویسید."
        case .unreadable: "این تاریخ نیست. سال، ماه و روز را مانند ۱۴۰۵/۰۹/۰۱ بنویسید."
        case .yearOfTwoDigits: "سال را با چهار رقم بنویسید، مانند ۱۴۰۵/۰۹/۰۱؛ دو رقم چند معنا دارد."
        case .yearLast: "نخست سال را بنویسید، مانند ۱۴۰۵/۰۹/۰۱."
        case .yearOutOfRange: "سال باید ۱۲۰۰ تا ۱۵۰۲ شمسی یا ۱۶۰۰ تا ۲۹۹۹ میلادی باشد."
        case .noSuchMonth: "چنین ماهی نیست. ماه‌ها از ۱ تا ۱۲ است."
        case .noSuchDay(let length):
            "چنین روزی نیست: آن ماه در آن سال \(PersianText.persianDigits(String(length))) روز دارد."
        }
    }
}
