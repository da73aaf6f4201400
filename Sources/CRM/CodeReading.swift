/// What came of reading a code or number that a person typed.
///
/// Nothing here stops entry or sync: an invalid value is kept as it was typed, marked, and warned about.
package enum CodeReading<Value: Hashable & Sendable>: Hashable, Sendable {
    /// The value in its one stored form.
    case valid(Value)
    /// A value that is possible, but looks unlike those in use.
    case suspect(Value, CodeFault)
    /// No value, and why.
    case invalid(CodeFault)

    /// The stored form, also of a suspect value; nil when invalid.
    package var value: Value? {
        switch self {
        case .valid(let value), .suspect(let value, _): value
        case .invalid: nil
        }
    }

    /// What to warn about; nil when valid.
    package var fault: CodeFault? {
        switch self {
        case .valid: nil
        case .suspect(_, let fault), .invalid(let fault): fault
        }
    }

    /// Whether nothing speaks against the value. Only then may it count as evidence about identity.
    package var isValid: Bool { fault == nil }
}

/// Why a code is invalid or suspect, as a sentence for the person who typed it.
///
/// Carries lengths only, never the code itself: the sentence may reach a log.
package struct CodeFault: Error, Hashable, Sendable {
    /// The codes and numbers that this module reads.
    package enum Code: String, Hashable, Sendable, CaseIterable {
        case nationalCode, legalId, phone, postalCode, iban
    }

    /// What is wrong with it.
    package enum Problem: Hashable, Sendable {
        case empty
        case notDigits
        case wrongLength(found: Int)
        case allDigitsEqual
        case serialZero
        case checkDigit
        case startsWithZero
        case unusualDigits
        case unknownAreaCode
        case missingAreaCode
        case badExtension
        case foreign
    }

    /// Which code it was.
    package let code: Code
    /// What is wrong with it.
    package let problem: Problem

    /// Names a fault.
    package init(_ code: Code, _ problem: Problem) {
        self.code = code
        self.problem = problem
    }
}

extension CodeFault: CustomStringConvertible {
    /// The sentence in English.
    package var description: String {
        switch problem {
        case .empty: "The \(name) is empty."
        case .notDigits: "The \(name) holds something other than digits. Type it again."
        case .wrongLength(let found):
            "The \(name) must have \(length); this one has \(found). Check for a missing or doubled digit."
        case .allDigitsEqual: "All digits of the \(name) are equal; no such one is issued."
        case .serialZero: "The serial part of the \(name) is zero; no such one is issued."
        case .checkDigit:
            "The check digit of the \(name) does not fit. One digit is wrong, or two are swapped."
        case .startsWithZero: "The \(name) cannot begin with 0."
        case .unusualDigits: "The \(name) has an unusual pattern of digits. Compare it with the document."
        case .unknownAreaCode: "The \(name) begins with no area code of Iran and is no mobile number."
        case .missingAreaCode: "The \(name) has no area code, and there is no branch to take it from. Add it."
        case .badExtension: "The extension of the \(name) must be 1 to 10 digits."
        case .foreign: "The \(name) must begin with IR."
        }
    }

    /// The sentence in Persian.
    package var persian: String {
        switch problem {
        case .empty: "\(persianName) خالی است."
        case .notDigits: "در \(persianName) نویسه‌ای جز رقم هست. دوباره بنویسید."
        case .wrongLength(let found):
            "\(persianName) باید \(persianLength) باشد؛ این یکی \(PersianText.persianDigits("\(found)")) رقم دارد."
        case .allDigitsEqual: "همهٔ رقم‌های \(persianName) یکسان است؛ چنین شماره‌ای صادر نمی‌شود."
        case .serialZero: "بخش سریال \(persianName) صفر است؛ چنین شماره‌ای صادر نمی‌شود."
        case .checkDigit: "رقم کنترل \(persianName) درست نیست. رقمی اشتباه یا جابه‌جا نوشته شده است."
        case .startsWithZero: "\(persianName) با صفر آغاز نمی‌شود."
        case .unusualDigits: "رقم‌های \(persianName) نامعمول است. با سند مقایسه کنید."
        case .unknownAreaCode: "\(persianName) نه پیش‌شمارهٔ استانی دارد و نه شمارهٔ همراه است."
        case .missingAreaCode: "\(persianName) پیش‌شماره ندارد. پیش‌شماره را بنویسید."
        case .badExtension: "داخلی \(persianName) باید ۱ تا ۱۰ رقم باشد."
        case .foreign: "\(persianName) باید با IR آغاز شود."
        }
    }

    private var name: String {
        switch code {
        case .nationalCode: "national code"
        case .legalId: "legal identifier"
        case .phone: "phone number"
        case .postalCode: "postal code"
        case .iban: "IBAN"
        }
    }

    private var persianName: String {
        switch code {
        case .nationalCode: "کد ملی"
        case .legalId: "شناسهٔ ملی"
        case .phone: "شمارهٔ تلفن"
        case .postalCode: "کد پستی"
        case .iban: "شبا"
        }
    }

    private var length: String {
        switch code {
        case .nationalCode, .postalCode: "10 digits"
        case .legalId: "11 digits"
        case .phone: "10 digits after the leading 0 or +98, or 8 within a branch's area"
        case .iban: "24 digits after IR"
        }
    }

    private var persianLength: String {
        switch code {
        case .nationalCode, .postalCode: "۱۰ رقم"
        case .legalId: "۱۱ رقم"
        case .phone: "پس از ۰ یا ‎+۹۸‎ ده رقم"
        case .iban: "پس از IR ۲۴ رقم"
        }
    }
}

/// The digits of a typed code, after what people put between them is gone.
enum CodeText {
    /// Returns the text with ASCII digits and without white space, hyphens, control and format characters.
    static func clean(_ typed: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in PersianText.foldDigits(typed).unicodeScalars {
            switch scalar.value {
            case 0x2D, 0x2010...0x2015, 0x2212, 0xFE63, 0xFF0D: continue
            default: break
            }
            switch scalar.properties.generalCategory {
            case .control, .format, .spaceSeparator, .lineSeparator, .paragraphSeparator: continue
            default: result.append(scalar)
            }
        }
        return String(result)
    }

    /// Returns the values of the digits, or nil when anything else is among them.
    static func digits(of cleaned: some StringProtocol) -> [Int]? {
        var digits: [Int] = []
        for byte in cleaned.utf8 {
            guard (0x30...0x39).contains(byte) else { return nil }
            digits.append(Int(byte) - 0x30)
        }
        return digits
    }

    /// Whether there are digits and all are the same.
    static func areAllEqual(_ digits: [Int]) -> Bool {
        digits.allSatisfy { $0 == digits.first }
    }

    /// Writes digits as text.
    static func text(of digits: some Sequence<Int>) -> String {
        digits.map { String($0) }.joined()
    }
}
