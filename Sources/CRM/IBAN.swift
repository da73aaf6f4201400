/// The number of a bank account in Iran (شبا): IR and 24 digits.
///
/// - Source: ISO 13616; DOMAIN.md 3.3.
package enum IBAN {
    /// Reads a typed number; the valid form is `IR` and 24 ASCII digits. IR itself may be left out.
    package static func read(_ typed: String) -> CodeReading<String> {
        let cleaned = CodeText.clean(typed).uppercased()
        guard !cleaned.isEmpty else { return .invalid(CodeFault(.iban, .empty)) }
        var rest = Substring(cleaned)
        if rest.hasPrefix("IR") {
            rest = rest.dropFirst(2)
        } else if rest.prefix(2).utf8.allSatisfy({ (0x41...0x5A).contains($0) }) {
            return .invalid(CodeFault(.iban, .foreign))
        }
        guard let digits = CodeText.digits(of: rest) else { return .invalid(CodeFault(.iban, .notDigits)) }
        guard digits.count == 24 else {
            return .invalid(CodeFault(.iban, .wrongLength(found: digits.count)))
        }
        // The first four characters go to the end, and letters count as I = 18, R = 27.
        let moved = digits.dropFirst(2) + [1, 8, 2, 7] + digits.prefix(2)
        let remainder = moved.reduce(0) { ($0 * 10 + $1) % 97 }
        guard remainder == 1 else { return .invalid(CodeFault(.iban, .checkDigit)) }
        return .valid("IR" + rest)
    }
}
