import CRM
import Foundation

/// How a number is shown, as far as it changes what the number says.
enum CellFormat: Hashable, Sendable {
    case plain
    /// With zeros in front up to so many digits: how codes are often kept that were typed as numbers.
    case zeros(Int)
    /// A day, with a time if the number has one.
    case day
    /// A time of day.
    case time
    /// Hours that go on beyond a day.
    case elapsed
}

extension CellFormat {
    /// A format by its number, which the standard gives to some.
    ///
    /// - Source: ECMA-376 Part 1, 18.8.30; 27 to 36 and 50 to 58 are dates in the languages that have them.
    static func builtIn(_ number: Int) -> CellFormat {
        switch number {
        case 14...17, 22, 27...31, 36, 50...54, 57, 58: .day
        case 18...21, 32...35, 45, 47, 55, 56: .time
        case 46: .elapsed
        default: .plain
        }
    }

    /// Reads what the format of positive numbers, the first section, is made of.
    init(code: String) {
        let marks = Marks(code)
        if marks.isElapsed {
            self = .elapsed
        } else if marks.hasDay || (marks.hasMonth && !marks.hasTime) {
            self = .day
        } else if marks.hasTime {
            self = .time
        } else if (2...SpreadsheetLimits.zerosMax).contains(marks.zeros), !marks.hasOther {
            self = .zeros(marks.zeros)
        } else {
            self = .plain
        }
    }

    private struct Marks {
        var isElapsed = false
        var hasDay = false
        var hasMonth = false
        var hasTime = false
        var zeros = 0
        var hasOther = false

        init(_ code: String) {
            var rest = Substring(code.lowercased())
            while let mark = rest.first, mark != ";" {
                rest = rest.dropFirst()
                switch mark {
                case "\"":
                    hasOther = true
                    rest = rest.drop { $0 != "\"" }.dropFirst()
                case "\\", "_", "*":
                    hasOther = true
                    rest = rest.dropFirst()
                case "[":
                    // A colour, a condition, a language; or a unit of time that is not carried over.
                    let inside = rest.prefix { $0 != "]" }
                    rest = rest.dropFirst(inside.count + 1)
                    if let unit = inside.first, "hms".contains(unit), inside.allSatisfy({ $0 == unit }) {
                        isElapsed = true
                    }
                case "g" where rest.hasPrefix("eneral"):
                    hasOther = true
                    rest = rest.dropFirst(6)
                case "a" where rest.hasPrefix("m/pm"):
                    hasTime = true
                    rest = rest.dropFirst(4)
                case "a" where rest.hasPrefix("/p"):
                    hasTime = true
                    rest = rest.dropFirst(2)
                case "y", "d": hasDay = true
                case "m": hasMonth = true
                case "h", "s": hasTime = true
                case "0": zeros += 1
                default: hasOther = true
                }
            }
        }
    }
}

/// The formats of a workbook's cells.
final class CellFormats: XMLElements {
    private var byNumber: [Int: CellFormat] = [:]
    private var numbers: [Int] = []
    private var isInCells = false

    /// The format that a cell names; nil when there is none of that number.
    subscript(index: Int) -> CellFormat? {
        guard numbers.indices.contains(index) else { return nil }
        return byNumber[numbers[index]] ?? .builtIn(numbers[index])
    }

    func start(_ name: XMLName, _ attributes: XMLAttributes, depth: Int) throws(SpreadsheetFailure.Problem) {
        switch name {
        case _ where depth == 2: isInCells = name == "cellXfs"
        case "numFmt" where depth == 3:
            guard let number = attributes.number("numFmtId"), let code = attributes.text("formatCode") else { return }
            guard byNumber.count < SpreadsheetLimits.formatsMax else { throw .tooLarge(.styles) }
            byNumber[number] = CellFormat(code: code)
        case "xf" where depth == 3 && isInCells:
            guard numbers.count < SpreadsheetLimits.formatsMax else { throw .tooLarge(.styles) }
            numbers.append(attributes.number("numFmtId") ?? 0)
        default: break
        }
    }
}

/// What a number in a cell says.
enum NumberText {
    /// The text of a number as the file has it.
    ///
    /// Digits stay as they are. Anything else is written without an exponent and with 15 digits, as the programs show it:
    /// what they keep beyond is the noise of their arithmetic.
    static func text(_ written: String, _ format: CellFormat, countsFrom1904: Bool) -> String {
        let isWhole = written.utf8.allSatisfy { (0x30...0x39).contains($0) }
        if format == .plain, isWhole { return written }
        guard let number = Double(written), number.isFinite else { return written }
        switch format {
        case .plain: break
        case .zeros(let count):
            let plain = isWhole ? written : self.plain(number, written)
            guard plain.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return plain }
            return String(repeating: "0", count: max(0, count - plain.utf8.count)) + plain
        case .day, .time, .elapsed:
            if let moment = moment(number, format, countsFrom1904) { return moment }
        }
        return isWhole ? written : plain(number, written)
    }

    /// Days since the beginning, with a fraction for the time, as a day, a time or both; nil for what is none.
    private static func moment(_ number: Double, _ format: CellFormat, _ countsFrom1904: Bool) -> String? {
        // 9999-12-31 is the last day.
        guard number >= 0, number < 2_958_466 else { return nil }
        let seconds = Int((number * 86_400).rounded())
        let (day, second) = seconds.quotientAndRemainder(dividingBy: 86_400)
        if format == .elapsed { return clock(seconds / 3600, seconds) }
        if format == .time || second > 0, day == 0 { return clock(second / 3600, second) }
        guard let text = dayText(day, countsFrom1904) else { return nil }
        return second == 0 && format == .day ? text : text + "T" + clock(second / 3600, second)
    }

    private static func dayText(_ day: Int, _ countsFrom1904: Bool) -> String? {
        // 1904-01-01 is day 0.
        if countsFrom1904 { return CivilTime.day(ofDays: day - 24_107) }
        switch day {
        case 0: return nil
        // 1900-01-01 is day 1.
        case 1..<60: return CivilTime.day(ofDays: day - 25_568)
        // The programs believe that 1900 was a leap year. What does not exist is told as it is shown.
        case 60: return "1900-02-29"
        default: return CivilTime.day(ofDays: day - 25_569)
        }
    }

    private static func clock(_ hours: Int, _ seconds: Int) -> String {
        let parts = [hours, seconds / 60 % 60, seconds % 60]
        return parts.map { ($0 < 10 ? "0" : "") + String($0) }.joined(separator: ":")
    }

    private static func plain(_ number: Double, _ written: String) -> String {
        // Up to here each whole number is a double of its own.
        if number.rounded() == number, abs(number) < 9_007_199_254_740_992 { return String(Int64(number)) }
        let parts = String(format: "%.14E", number).split(separator: "E")
        guard parts.count == 2, let exponent = Int(parts[1]), (-20...30).contains(exponent) else { return written }
        var digits = parts[0].filter { $0 != "." && $0 != "-" }
        while digits.last == "0" { digits.removeLast() }
        let sign = number < 0 ? "-" : ""
        if exponent < 0 { return sign + "0." + String(repeating: "0", count: -exponent - 1) + digits }
        let whole = exponent + 1
        if digits.count <= whole { return sign + digits + String(repeating: "0", count: whole - digits.count) }
        return sign + digits.prefix(whole) + "." + digits.dropFirst(whole)
    }
}
