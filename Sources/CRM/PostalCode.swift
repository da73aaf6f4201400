/// The ten-digit postal code of an address.
///
/// - Source: DOMAIN.md 3.3.
package enum PostalCode {
    /// Reads a typed code; the stored form is ten ASCII digits.
    ///
    /// Codes off the pattern of the post are suspect only: the pattern is older than some codes in use.
    package static func read(_ typed: String) -> CodeReading<String> {
        let cleaned = CodeText.clean(typed)
        guard !cleaned.isEmpty else { return .invalid(CodeFault(.postalCode, .empty)) }
        guard let digits = CodeText.digits(of: cleaned) else {
            return .invalid(CodeFault(.postalCode, .notDigits))
        }
        guard digits.count == 10 else {
            return .invalid(CodeFault(.postalCode, .wrongLength(found: digits.count)))
        }
        if CodeText.areAllEqual(digits) { return .invalid(CodeFault(.postalCode, .allDigitsEqual)) }
        if digits[0] == 0 { return .invalid(CodeFault(.postalCode, .startsWithZero)) }
        return isUsual(digits) ? .valid(cleaned) : .suspect(cleaned, CodeFault(.postalCode, .unusualDigits))
    }

    /// `(?!(\d)\1{3})[13-9]{4}[1346-9][013-9]{5}`
    private static func isUsual(_ digits: [Int]) -> Bool {
        let area = digits[0...3]
        return Set(area).count > 1
            && area.allSatisfy { $0 != 0 && $0 != 2 }
            && ![0, 2, 5].contains(digits[4])
            && digits[5...9].allSatisfy { $0 != 2 }
    }
}
