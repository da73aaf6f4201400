/// How many columns of a terminal text takes, and how to make any text safe to print there.
package enum DisplayText {
    /// Returns the columns that a terminal gives the text.
    ///
    /// Combining marks, ZWNJ and bidi controls take none, wide East Asian letters and emoji two. Control
    /// characters count nothing: escape them first.
    package static func width(of text: String) -> Int {
        var text = text
        let asciiCount = text.withUTF8 { bytes -> Int? in
            var count = 0
            for byte in bytes {
                if byte >= 0x80 { return nil }
                if byte >= 0x20 && byte != 0x7F { count += 1 }
            }
            return count
        }
        return asciiCount ?? text.unicodeScalars.reduce(0) { $0 + width(of: $1) }
    }

    /// Returns the text with everything that could move the cursor or reorder a line made visible.
    ///
    /// Control characters, line separators and bidi embeddings, overrides and isolates become `\n`, `\t` or
    /// `\u{202E}`. Marks that only hint at a direction (LRM, RLM) and ZWNJ stay: Persian needs them.
    package static func escaped(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: mustEscape) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where mustEscape(scalar):
                result += "\\u{\(String(scalar.value, radix: 16, uppercase: true))}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// Whether the text holds a letter or digit that is written from right to left.
    ///
    /// Persian digits alone do not count: they run from left to right and disturb nothing.
    package static func holdsRightToLeft(_ text: String) -> Bool {
        text.unicodeScalars.contains { scalar in
            switch scalar.value {
            case 0x06F0...0x06F9: false
            case 0x0590...0x08FF, 0x200F, 0xFB1D...0xFDFF, 0xFE70...0xFEFE, 0x10800...0x10FFF,
                0x1E800...0x1EFFF:
                true
            default: false
            }
        }
    }

    /// Returns the text with its direction shut in, so that what stands around it keeps its place.
    ///
    /// FSI and PDI isolate the text on terminals that know them. The LRM behind them keeps two right-to-left
    /// cells apart, and the line left-to-right, also where only older bidi rules are known. All take no column. Text
    /// without right-to-left letters comes back as it is.
    package static func isolated(_ text: String) -> String {
        holdsRightToLeft(text) ? "\u{200E}\u{2068}\(text)\u{2069}\u{200E}" : text
    }

    /// Returns the text cut to at most `columns`, the last of them `…` when something was cut.
    ///
    /// Cuts between characters: never a letter from its marks.
    package static func truncated(_ text: String, columns: Int) -> String {
        guard width(of: text) > columns else { return text }
        guard columns > 0 else { return "" }
        var result = ""
        var used = 0
        for character in text {
            let width = width(of: String(character))
            if used + width > columns - 1 { break }
            result.append(character)
            used += width
        }
        while let last = result.unicodeScalars.last, last == "\u{200C}" || last == " " {
            result.unicodeScalars.removeLast()
        }
        return result + "…"
    }

    private static func mustEscape(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x00...0x1F, 0x7F...0x9F, 0x2028, 0x2029, 0x202A...0x202E, 0x2066...0x2069: true
        default: false
        }
    }

    private static func width(of scalar: Unicode.Scalar) -> Int {
        switch scalar.value {
        case 0x00...0x1F, 0x7F...0x9F: return 0
        case 0x20...0x02FF: return 1
        case 0x0621...0x064A, 0x0660...0x066F, 0x0671...0x06D3, 0x06F0...0x06F9: return 1
        // Signs that Unicode calls format characters, but that show.
        case 0x0600...0x0605, 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2: return 1
        // The inner letters of Korean syllables share the columns of the first.
        case 0x1160...0x11FF, 0xD7B0...0xD7FF: return 0
        // One half of a flag.
        case 0x1F1E6...0x1F1FF: return 1
        case 0x1100...0x115F, 0x2329...0x232A, 0x2E80...0x303E, 0x3041...0x4DBF, 0x4E00...0xA4CF,
            0xA960...0xA97F, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE10...0xFE19, 0xFE30...0xFE6F,
            0xFF01...0xFF60, 0xFFE0...0xFFE6, 0x16FE0...0x18DFF, 0x1AFF0...0x1B2FF, 0x1F200...0x1F2FF,
            0x20000...0x2FFFD, 0x30000...0x3FFFD:
            return isZeroWidth(scalar) ? 0 : 2
        default:
            if isZeroWidth(scalar) { return 0 }
            return scalar.properties.isEmojiPresentation ? 2 : 1
        }
    }

    private static func isZeroWidth(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .nonspacingMark, .enclosingMark, .format: true
        default: false
        }
    }
}
