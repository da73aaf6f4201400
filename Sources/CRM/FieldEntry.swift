import Causality

/// What the person who typed a value should know. The value was kept; nothing here stops entry.
package struct EntryWarning: Hashable, Sendable {
    /// Why there is a warning.
    package enum Cause: Hashable, Sendable {
        /// The value is invalid or suspect, and kept.
        case fault(CodeFault)
        /// The area code of the branch was put before a number of eight digits.
        case areaCodeAssumed(String)
    }

    package let column: String
    package let cause: Cause
}

extension EntryWarning: CustomStringConvertible {
    /// The sentence in English.
    package var description: String { "\(column): \(reason)" }

    /// The sentence in Persian.
    package var persian: String { "\(column): \(persianReason)" }

    /// The sentence in English, without the name of the field.
    package var reason: String {
        switch cause {
        case .fault(let fault): "\(fault) The value was kept as typed."
        case .areaCodeAssumed(let code): "The area code \(code) of this branch was put before the number."
        }
    }

    /// The sentence in Persian, without the name of the field.
    package var persianReason: String {
        switch cause {
        case .fault(let fault): "\(fault.persian) مقدار همان‌گونه که نوشته شد نگه داشته شد."
        case .areaCodeAssumed(let code):
            "پیش‌شمارهٔ \(PersianText.persianDigits(code)) این شعبه پیش از شماره گذاشته شد."
        }
    }
}

/// Brings typed codes and numbers into their stored form, beyond what their column type asks.
///
/// - Source: DOMAIN.md 3.3: an invalid value warns and is kept; it never stops entry or sync.
package enum FieldEntry {
    /// A value to store, and what to say about it.
    package struct Reading: Hashable, Sendable {
        package let value: FieldValue
        package let warning: EntryWarning?

        package init(value: FieldValue, warning: EntryWarning? = nil) {
            self.value = value
            self.warning = warning
        }
    }

    /// Reads an input, by the rules of its column and those for codes.
    ///
    /// - Parameter branchAreaCode: For telephone numbers of eight digits.
    package static func read(
        _ input: FieldInput,
        for column: ColumnDescription,
        of table: TableDescription,
        branchAreaCode: String? = nil
    ) throws(FieldFailure) -> Reading {
        let value = try FieldText.parse(input, for: column, of: table)
        guard case .text(let text) = value, case .text = column.type else {
            return Reading(value: value, warning: nil)
        }
        switch column.name {
        case "mobile", "phone":
            return phone(text, column: column.name, branchAreaCode: branchAreaCode)
        case "nationalCode":
            return code(text, NationalCode.read(text), column: column.name)
        case "legalId":
            return code(text, LegalIdentifier.read(text), column: column.name)
        case "postalCode":
            return code(text, PostalCode.read(text), column: column.name)
        default:
            return Reading(value: value, warning: nil)
        }
    }

    private static func phone(_ text: String, column: String, branchAreaCode: String?) -> Reading {
        let reading = PhoneNumber.read(text, branchAreaCode: branchAreaCode)
        guard let number = reading.value else {
            return Reading(
                value: .text(PersianText.foldDigits(text)),
                warning: warning(reading.fault, column)
            )
        }
        // An extension has no field of its own here, so it stays behind the number, where it is read again.
        let stored = number.extension.map { "\(number.e164) ext \($0)" } ?? number.e164
        let assumed = number.isAreaCodeAssumed ? number.areaCode : nil
        return Reading(
            value: .text(stored),
            warning: assumed.map { EntryWarning(column: column, cause: .areaCodeAssumed($0)) }
        )
    }

    private static func code(_ text: String, _ reading: CodeReading<String>, column: String) -> Reading {
        let cleaned = CodeText.clean(text)
        // Words in place of a code, "unknown" for one, are kept as words.
        let kept = CodeText.digits(of: cleaned) == nil ? text : cleaned
        return Reading(value: .text(reading.value ?? kept), warning: warning(reading.fault, column))
    }

    private static func warning(_ fault: CodeFault?, _ column: String) -> EntryWarning? {
        fault.map { EntryWarning(column: column, cause: .fault($0)) }
    }
}
