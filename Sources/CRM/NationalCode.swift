/// The ten-digit code of a person (کد ملی).
///
/// - Source: DOMAIN.md 3.3.
package enum NationalCode {
    /// Reads a typed code; the valid form is ten ASCII digits.
    ///
    /// Eight or nine digits get back the leading zeros that spreadsheets drop.
    package static func read(_ typed: String) -> CodeReading<String> {
        let cleaned = CodeText.clean(typed)
        guard !cleaned.isEmpty else { return .invalid(CodeFault(.nationalCode, .empty)) }
        guard let found = CodeText.digits(of: cleaned) else {
            return .invalid(CodeFault(.nationalCode, .notDigits))
        }
        guard (8...10).contains(found.count) else {
            return .invalid(CodeFault(.nationalCode, .wrongLength(found: found.count)))
        }
        let digits = Array(repeating: 0, count: 10 - found.count) + found
        if CodeText.areAllEqual(digits) { return .invalid(CodeFault(.nationalCode, .allDigitsEqual)) }
        if digits[3...8].allSatisfy({ $0 == 0 }) { return .invalid(CodeFault(.nationalCode, .serialZero)) }
        guard digits[9] == checkDigit(of: digits) else {
            return .invalid(CodeFault(.nationalCode, .checkDigit))
        }
        return .valid(CodeText.text(of: digits))
    }

    private static func checkDigit(of digits: [Int]) -> Int {
        var sum = 0
        for index in 0..<9 { sum += digits[index] * (10 - index) }
        let remainder = sum % 11
        return remainder < 2 ? remainder : 11 - remainder
    }
}
