/// Why a typed value does not fit its field. Never holds the value itself.
package struct FieldFailure: Error, Hashable, Sendable {
    /// What is wrong with the value.
    package enum Problem: Hashable, Sendable {
        case unknownWord(known: [String])
        case notANumber
        case notWhole
        case numberOutOfRange
        case notBoolean
        case notAnInstant
        case notADay(DayFault)
        case notAnIdentifier(of: String)
        case notBase64
        /// JSON gave a number or a truth value where the field holds something else.
        case wrongKind(expected: String)
    }

    package let table: String
    package let column: String
    package let problem: Problem

    package init(table: String, column: String, problem: Problem) {
        self.table = table
        self.column = column
        self.problem = problem
    }
}

extension FieldFailure: CustomStringConvertible {
    /// The sentence in English.
    package var description: String { "\(table).\(column): \(reason)" }

    /// The sentence in Persian.
    package var persian: String { "\(table).\(column): \(persianReason)" }

    /// The sentence in English, without the name of the field.
    package var reason: String {
        switch problem {
        case .unknownWord(let known): "This is not one of the known words: \(known.joined(separator: ", "))."
        case .notANumber: "This is not a whole number. Write digits, with or without separators: 1,250,000."
        case .notWhole: "Only whole numbers fit here. Write it without a fraction."
        case .numberOutOfRange: "The number is larger than can be stored (9,223,372,036,854,775,807)."
        case .notBoolean: "Write true or false."
        case .notAnInstant:
            "This is not a time. Write it as 2026-11-22T09:30:00Z, or as 1405/09/01 13:00 in Tehran's time."
        case .notADay(let fault): fault.description
        case .notAnIdentifier(let target): "This is not the id of a \(target). Ids look like 17-4711."
        case .notBase64: "The bytes must be written in base64."
        case .wrongKind(let expected): "The value must be \(expected)."
        }
    }

    /// The sentence in Persian, without the name of the field.
    package var persianReason: String {
        switch problem {
        case .unknownWord(let known): "این واژه شناخته نیست. واژه‌های مجاز: \(known.joined(separator: "، "))."
        case .notANumber: "این عدد درست نیست. رقم بنویسید، با جداکننده یا بی آن: ۱٬۲۵۰٬۰۰۰."
        case .notWhole: "اینجا فقط عدد درست (بی اعشار) پذیرفته می‌شود."
        case .numberOutOfRange: "عدد بزرگ‌تر از آن است که نگه داشته شود."
        case .notBoolean: "«بله» یا «خیر» بنویسید."
        case .notAnInstant: "این زمان نیست. مانند ۱۴۰۵/۰۹/۰۱ ۱۳:۰۰ بنویسید."
        case .notADay(let fault): fault.persian
        case .notAnIdentifier: "این شناسه نیست. شناسه مانند ۱۷-۴۷۱۱ است."
        case .notBase64: "بایت‌ها را به صورت base64 بنویسید."
        case .wrongKind: "نوع مقدار با این فیلد نمی‌خواند."
        }
    }
}
