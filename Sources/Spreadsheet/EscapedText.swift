/// Characters that XML cannot hold, as the format writes them: `_x000D_` is a carriage return.
///
/// A text that only looks like that, such as `_x000D_` typed by somebody, has its first `_` written as `_x005F_`.
///
/// - Source: ECMA-376 Part 1, 22.9.2.19, ST_Xstring.
enum EscapedText {
    /// A text as it is written into a cell.
    static func escape(_ text: String) -> String {
        var text = text
        let isPlain = text.withUTF8 { bytes in
            bytes.allSatisfy { ($0 >= 0x20 && $0 != underscore && $0 != 0xEF) || $0 == 0x09 || $0 == 0x0A }
        }
        if isPlain { return text }
        var result = String.UnicodeScalarView()
        let scalars = Array(text.unicodeScalars)
        for (index, scalar) in scalars.enumerated() {
            if scalar == "_", looksEscaped(scalars[index...]) {
                result.append(contentsOf: "_x005F_".unicodeScalars)
            } else if mustEscape(scalar) {
                let digits = String(scalar.value, radix: 16, uppercase: true)
                result.append(
                    contentsOf: "_x\(String(repeating: "0", count: 4 - digits.count))\(digits)_".unicodeScalars
                )
            } else {
                result.append(scalar)
            }
        }
        return String(result)
    }

    /// Replaces what is escaped in UTF-8 from `start` on. Half of a pair of surrogates becomes U+FFFD.
    static func unescape(_ bytes: inout [UInt8], from start: Int = 0) {
        guard bytes[start...].contains(underscore) else { return }
        var source = start
        var target = start
        while source < bytes.count {
            guard var unit = unit(bytes, at: source) else {
                bytes[target] = bytes[source]
                source += 1
                target += 1
                continue
            }
            source += length
            if (0xD800..<0xDC00).contains(unit), let low = Self.unit(bytes, at: source), (0xDC00..<0xE000).contains(low)
            {
                unit = 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)
                source += length
            }
            // At most four bytes, in place of seven.
            for byte in String(Unicode.Scalar(unit) ?? "\u{FFFD}").utf8 {
                bytes[target] = byte
                target += 1
            }
        }
        bytes.removeSubrange(target...)
    }

    private static let underscore = UInt8(ascii: "_")
    /// `_xHHHH_`
    private static let length = 7

    private static func mustEscape(_ scalar: Unicode.Scalar) -> Bool {
        (scalar.value < 0x20 && scalar != "\t" && scalar != "\n") || scalar.value == 0xFFFE || scalar.value == 0xFFFF
    }

    private static func looksEscaped(_ scalars: ArraySlice<Unicode.Scalar>) -> Bool {
        let bytes = scalars.prefix(length).map { $0.isASCII ? UInt8($0.value) : 0 }
        return unit(bytes, at: 0) != nil
    }

    private static func unit(_ bytes: [UInt8], at start: Int) -> UInt32? {
        guard start + length <= bytes.count, bytes[start] == underscore, bytes[start + 1] == UInt8(ascii: "x"),
            bytes[start + length - 1] == underscore
        else { return nil }
        var value: UInt32 = 0
        for byte in bytes[start + 2..<start + 6] {
            guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue else { return nil }
            value = value << 4 | UInt32(digit)
        }
        return value
    }
}
