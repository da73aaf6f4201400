import Foundation
import Testing

@testable import CRM

@Suite("Jalali calendar")
struct JalaliCalendarTests {
    private let vectors = PersianVectors.shared

    @Test(
        "Jalali days are the Gregorian days and weekdays of the vectors, and those that do not exist are refused"
    )
    func days() throws {
        #expect(vectors.jalali.count == 12)
        for vector in vectors.jalali {
            guard vector.valid, let gregorian = vector.gregorian else {
                #expect(throws: DayFault.self, "\(vector.jalali)") { try JalaliCalendar.read(vector.jalali) }
                continue
            }
            #expect(try JalaliCalendar.read(vector.jalali) == gregorian)
            #expect(JalaliCalendar.text(ofDay: gregorian) == PersianText.persianDigits(vector.jalali))
            let weekday = try #require(JalaliCalendar.weekday(ofDay: gregorian))
            #expect(JalaliCalendar.weekdayNames[weekday] == vector.weekday)
        }
    }

    @Test("Leap years have a thirtieth of Esfand")
    func leapYears() {
        for year in vectors.jalaliLeapYearsSample {
            #expect(JalaliCalendar.monthLength(year: year, month: 12) == 30, "\(year)")
        }
        #expect(JalaliCalendar.monthLength(year: 1404, month: 12) == 29)
    }

    @Test("Every day of 1200 to 1502 comes back from its Gregorian day, and days follow one another")
    func roundTrip() throws {
        let first = try #require(
            CivilTime.days(ofDay: JalaliCalendar.day(year: 1200, month: 1, day: 1) ?? "")
        )
        let last = try #require(
            CivilTime.days(ofDay: JalaliCalendar.day(year: 1502, month: 12, day: 29) ?? "")
        )
        var previous: JalaliCalendar.Day?
        for days in stride(from: first, through: last, by: 1) {
            let iso = try #require(CivilTime.day(ofDays: days))
            let jalali = try #require(JalaliCalendar.jalali(ofDay: iso))
            let isSound =
                JalaliCalendar.day(year: jalali.year, month: jalali.month, day: jalali.day) == iso
                && (previous.map { $0 < jalali } ?? true)
            if !isSound { Issue.record("\(iso)") }
            previous = jalali
        }
    }

    @Test(
        "A day is read in either script, with any separator or none",
        arguments: [
            ("1405/09/01", "2026-11-22"), ("۱۴۰۵/۹/۱", "2026-11-22"), ("١٤٠٥-٠٩-٠١", "2026-11-22"),
            ("1405.9.1", "2026-11-22"), ("14050901", "2026-11-22"), ("2026-11-22", "2026-11-22"),
            ("19970101", "1997-01-01"), (" 2024/2/29 ", "2024-02-29"),
            ("\u{200F}1405 / 09 / 01", "2026-11-22"),
        ]
    )
    func typedDays(typed: String, day: String) throws {
        #expect(try JalaliCalendar.read(typed) == day)
    }

    @Test(
        "A day that cannot be told is refused with the reason",
        arguments: [
            ("", DayFault.empty), ("tomorrow", .unreadable), ("1405/09", .unreadable),
            ("1405/9-1", .unreadable),
            ("05/09/01", .yearOfTwoDigits), ("۵/۹/۱", .yearOfTwoDigits), ("050901", .yearOfTwoDigits),
            ("22/11/2026", .yearLast), ("1550/01/01", .yearOutOfRange), ("3000-01-01", .yearOutOfRange),
            ("1503/01/01", .yearOutOfRange), ("1403/00/10", .noSuchMonth), ("2026-13-01", .noSuchMonth),
            ("1404/12/30", .noSuchDay(monthLength: 29)), ("2023-02-29", .noSuchDay(monthLength: 28)),
            ("1403/01/00", .noSuchDay(monthLength: 31)), ("99999999999999999999", .unreadable),
            ("140/1/1", .unreadable), ("1405//1", .unreadable),
        ]
    )
    func refusedDays(typed: String, fault: DayFault) {
        #expect(throws: fault) { try JalaliCalendar.read(typed) }
    }

    @Test("The refusal of a two-digit year asks for four digits, in both languages")
    func fourDigits() {
        #expect(DayFault.yearOfTwoDigits.description.contains("four digits"))
        #expect(DayFault.yearOfTwoDigits.persian.contains("چهار رقم"))
    }

    @Test("An instant shows as the day and time of Tehran: Jalali in Persian, ISO in English")
    func localTime() throws {
        let instant = try #require(CivilTime.milliseconds(ofRFC3339: "2026-11-21T20:30:00.000Z"))
        #expect(JalaliCalendar.persianDateTime(ofMilliseconds: instant) == "۱۴۰۵/۰۹/۰۱ ۰۰:۰۰:۰۰")
        #expect(JalaliCalendar.isoDateTime(ofMilliseconds: instant) == "2026-11-22 00:00:00")
        #expect(JalaliCalendar.isoDateTime(ofMilliseconds: instant - 1) == "2026-11-21 23:59:59")
        #expect(JalaliCalendar.day(ofMilliseconds: instant) == "2026-11-22")
        #expect(JalaliCalendar.startMilliseconds(ofDay: "2026-11-22") == instant)
    }

    @Test("The summer time that Iran kept until 2022 counts for days of that time")
    func summerTime() throws {
        let instant = try #require(CivilTime.milliseconds(ofRFC3339: "2021-07-01T00:00:00.000Z"))
        #expect(JalaliCalendar.isoDateTime(ofMilliseconds: instant) == "2021-07-01 04:30:00")
    }

    @Test("An instant that no calendar knows still shows as something", arguments: [Int64.min, 0, Int64.max])
    func extremeInstants(instant: Int64) {
        #expect(!JalaliCalendar.persianDateTime(ofMilliseconds: instant).isEmpty)
        #expect(!JalaliCalendar.isoDateTime(ofMilliseconds: instant).isEmpty)
    }
}

@Suite("Civil time")
struct CivilTimeTests {
    @Test("Instants are written and read as Foundation does it")
    func agreesWithFoundation() throws {
        var generator = SeededGenerator("RFC 3339")
        let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        for _ in 0..<5_000 {
            // Whole seconds go to Foundation, which computes with floating point.
            let seconds = Int64.random(in: -11_000_000_000...250_000_000_000, using: &generator)
            let fraction = Int64.random(in: 0...999, using: &generator)
            let text = try #require(CivilTime.rfc3339(ofMilliseconds: seconds * 1000 + fraction))
            let whole = Date(timeIntervalSince1970: Double(seconds)).formatted(style)
            #expect(text.prefix(19) == whole.prefix(19), "seed \(generator.seed): \(seconds)")
            #expect(CivilTime.milliseconds(ofRFC3339: text) == seconds * 1000 + fraction)
        }
    }

    @Test("Both ends of the range are written, and what lies beyond is refused")
    func range() {
        let range = CivilTime.millisecondsRange
        #expect(CivilTime.rfc3339(ofMilliseconds: range.lowerBound) == "0000-01-01T00:00:00.000Z")
        #expect(CivilTime.rfc3339(ofMilliseconds: range.upperBound) == "9999-12-31T23:59:59.999Z")
        #expect(CivilTime.milliseconds(ofRFC3339: "0000-01-01T00:00:00.000Z") == range.lowerBound)
        #expect(CivilTime.day(ofDays: CivilTime.daysRange.lowerBound) == "0000-01-01")
        #expect(CivilTime.day(ofDays: CivilTime.daysRange.upperBound) == "9999-12-31")
        for outside in [range.lowerBound - 1, range.upperBound + 1, .min, .max] {
            #expect(CivilTime.rfc3339(ofMilliseconds: outside) == nil)
        }
        #expect(CivilTime.day(ofDays: .max) == nil)
        #expect(CivilTime.days(year: .max, month: 1, day: 1) == nil)
    }

    @Test(
        "Every form that RFC 3339 allows is read",
        arguments: [
            ("1970-01-01T00:00:00Z", 0), ("1970-01-01t00:00:00z", 0), ("1970-01-01 00:00:00.5Z", 500),
            ("1970-01-01T03:30:00+03:30", 0), ("1969-12-31T23:00:00.001-01:00", 1),
            ("1970-01-01T00:00:00.123456789Z", 123),
        ]
    )
    func readForms(text: String, milliseconds: Int64) {
        #expect(CivilTime.milliseconds(ofRFC3339: text) == milliseconds)
    }

    @Test(
        "What is not an instant is refused",
        arguments: [
            "", "1970-01-01", "1970-01-01T00:00:00", "1970-01-01T24:00:00Z", "1970-01-01T00:60:00Z",
            "2016-12-31T23:59:60Z", "1970-02-30T00:00:00Z", "1970-01-01T00:00:00.Z", "1970-01-01T00:00:00ZZ",
            "1970-01-01T00:00:00.1234567890Z", "1970-01-01T00:00:00+0330", "1970-01-01T00:00:00+24:00",
            "0000-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "۱۹۷۰-01-01T00:00:00Z",
            "1970-01-01T00:00:00+",
        ]
    )
    func refusedForms(text: String) {
        #expect(CivilTime.milliseconds(ofRFC3339: text) == nil)
    }

    @Test("Bytes of any kind are read or refused, never fatal")
    func anyBytes() throws {
        var generator = SeededGenerator("Any bytes as RFC 3339")
        let alphabet = Array("0123456789-:.TZ+ tz".utf8)
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...36, using: &generator)
            let text = String(
                decoding: (0..<count).map { _ in alphabet.randomElement(using: &generator) ?? 0 },
                as: UTF8.self
            )
            _ = CivilTime.milliseconds(ofRFC3339: text)
            _ = CivilTime.days(ofDay: text)
            _ = try? JalaliCalendar.read(text)
        }
    }

    @Test("The bytes appended for a dump are those of the text")
    func appended() {
        var bytes: [UInt8] = [0x22]
        #expect(CivilTime.appendRFC3339(ofMilliseconds: 1, to: &bytes))
        #expect(!CivilTime.appendRFC3339(ofMilliseconds: .max, to: &bytes))
        #expect(String(decoding: bytes, as: UTF8.self) == "\"1970-01-01T00:00:00.001Z")
    }

    @Test(
        "Days that do not exist are refused",
        arguments: ["2023-02-29", "2026-1-01", "2026-00-01", "1900-02-29", "x"]
    )
    func noSuchDay(day: String) {
        #expect(CivilTime.days(ofDay: day) == nil)
    }
}
