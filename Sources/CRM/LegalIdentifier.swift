/// The eleven-digit identifier of an organisation (شناسهٔ ملی).
///
/// - Source: DOMAIN.md 3.3.
package enum LegalIdentifier {
    /// Reads a typed identifier; the valid form is eleven ASCII digits.
    package static func read(_ typed: String) -> CodeReading<String> {
        let cleaned = CodeText.clean(typed)
        guard !cleaned.isEmpty else { return .invalid(CodeFault(.legalId, .empty)) }
        guard let digits = CodeText.digits(of: cleaned) else {
            return .invalid(CodeFault(.legalId, .notDigits))
        }
        guard digits.count == 11 else {
            return .invalid(CodeFault(.legalId, .wrongLength(found: digits.count)))
        }
        if digits[3...8].allSatisfy({ $0 == 0 }) { return .invalid(CodeFault(.legalId, .serialZero)) }
        guard digits[10] == checkDigit(of: digits) else { return .invalid(CodeFault(.legalId, .checkDigit)) }
        return .valid(cleaned)
    }

    private static let weights = [29, 27, 23, 19, 17]

    private static func checkDigit(of digits: [Int]) -> Int {
        let shift = digits[9] + 2
        var sum = 0
        for index in 0..<10 { sum += (digits[index] + shift) * weights[index % weights.count] }
        let remainder = sum % 11
        return remainder == 10 ? 0 : remainder
    }
}
