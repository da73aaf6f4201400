import Foundation

/// The forms of Persian text: one to store and show, three to compare, two for digits, one to sort.
///
/// Every function is pure and total: no text makes it fail. Applying a form twice changes nothing, and
/// `key(display(s))` has the bytes of `key(s)`. Compare the results by their UTF-8 bytes, as SQLite does:
/// Swift's `==` calls texts equal that SQLite tells apart.
///
/// - Source: DOMAIN.md 3.1.
package enum PersianText {
    /// The version of the rules behind ``key(_:)``, ``joined(_:)`` and ``phon(_:)``. Derived keys carry it.
    package static let ruleVersion = 1

    /// Returns the form that is stored and shown: composed, with Persian letters and clean spacing.
    ///
    /// Cost: a scan of the bytes for text that is in this form already, and no call into Foundation for
    /// ASCII and ordinary Persian; other scripts take the general way.
    package static func display(_ text: String) -> String {
        var text = text
        switch text.withUTF8(displayQuickly) {
        case .unchanged: return text
        case .rewritten(let result): return result
        case .beyondQuickRules: return displayGenerally(text)
        }
    }

    /// Returns the form for comparing and full-text search: folded letters and digits, words apart.
    ///
    /// Read numbers first: decimal and thousands marks become spaces here.
    package static func key(_ text: String) -> String {
        var text = text
        switch text.withUTF8(keyQuickly) {
        case .unchanged: return text
        case .rewritten(let result): return result
        case .beyondQuickRules: return keyGenerally(text)
        }
    }

    /// Returns the key without spaces, so that words written apart and together compare equal.
    package static func joined(_ text: String) -> String {
        settle(text) { withoutSpaces(key($0)) }
    }

    /// Returns a rough sound of the name: for finding candidates only, never evidence of a match.
    ///
    /// It cannot tell many different names apart, and is empty for a name of long vowels only.
    package static func phon(_ text: String) -> String {
        settle(text) { sound(of: joined($0)) }
    }

    /// Returns the text with Persian and Arabic digits as ASCII digits, otherwise unchanged.
    package static func foldDigits(_ text: String) -> String {
        guard text.utf8.contains(where: { $0 == 0xD9 || $0 == 0xDB }) else { return text }
        return mappingScalars(of: text) { scalar in
            switch scalar {
            case 0x0660...0x0669: scalar - 0x0660 + 0x30
            case 0x06F0...0x06F9: scalar - 0x06F0 + 0x30
            default: scalar
            }
        }
    }

    /// Returns the text with ASCII and Arabic digits as Persian digits, otherwise unchanged.
    package static func persianDigits(_ text: String) -> String {
        mappingScalars(of: text) { scalar in
            switch scalar {
            case 0x30...0x39: scalar - 0x30 + 0x06F0
            case 0x0660...0x0669: scalar - 0x0660 + 0x06F0
            default: scalar
            }
        }
    }

    /// Compares in the order of the Persian alphabet, in which پ چ ژ ک گ stand where a reader expects them.
    ///
    /// Texts that the alphabet ranks alike are ordered by their bytes, so that a list has one order only.
    package static func compare(_ left: String, _ right: String) -> ComparisonResult {
        let order = left.compare(right, locale: persianLocale)
        guard order == .orderedSame else { return order }
        if left.utf8.elementsEqual(right.utf8) { return .orderedSame }
        return left.utf8.lexicographicallyPrecedes(right.utf8) ? .orderedAscending : .orderedDescending
    }

    /// Whether `left` stands before `right` in a Persian list: for `sorted(by:)`.
    package static func sortsBefore(_ left: String, _ right: String) -> Bool {
        compare(left, right) == .orderedAscending
    }

    private static let persianLocale = Locale(identifier: "fa_IR")
}

// MARK: - The general way: the rules as DOMAIN.md words them

extension PersianText {
    /// ``display(_:)`` by the rules as written, for any text. The quick way must give the same bytes.
    static func displayGenerally(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        var gap: Unicode.Scalar?
        for scalar in text.precomposedStringWithCanonicalMapping.unicodeScalars {
            if isDropped(scalar) { continue }
            if scalar.properties.isWhitespace {
                gap = " "
            } else if scalar == "\u{200C}" {
                gap = gap ?? scalar
            } else {
                if let gap, !result.isEmpty { result.append(gap) }
                gap = nil
                switch scalar {
                case "\u{064A}", "\u{0649}": result.append("\u{06CC}")
                case "\u{0643}": result.append("\u{06A9}")
                default: result.append(scalar)
                }
            }
        }
        return String(result).precomposedStringWithCanonicalMapping
    }

    /// ``key(_:)`` by the rules as written, for any text. The quick way must give the same bytes.
    static func keyGenerally(_ text: String) -> String {
        settle(text, by: keyOnce)
    }

    private static func keyOnce(_ text: String) -> String {
        let bare = String(String.UnicodeScalarView(text.unicodeScalars.filter { !isDropped($0) }))
        var result = String.UnicodeScalarView()
        var isGap = false
        for scalar in bare.precomposedStringWithCompatibilityMapping.unicodeScalars {
            if isDropped(scalar) || isMark(scalar) || scalar == "\u{0621}" { continue }
            if isSeparator(scalar) {
                isGap = true
                continue
            }
            if isGap, !result.isEmpty { result.append(" ") }
            isGap = false
            let folded = foldedLetter(scalar.value)
            if folded != scalar.value, let letter = Unicode.Scalar(folded) {
                result.append(letter)
            } else {
                appendCaseFolded(scalar, to: &result)
            }
        }
        return String(result)
    }

    /// Applies a form until it changes nothing any more.
    ///
    /// One pass is enough for Persian and nearly all else. But dropping a mark or a space can let two
    /// neighbours compose (Japanese voicing marks, Korean letters), and folding İ makes a new mark; without
    /// more passes the forms would not be idempotent. The limit is never reached: it only bounds a loop.
    private static func settle(_ text: String, by form: (String) -> String) -> String {
        var settled = form(text)
        for _ in 0..<8 {
            let next = form(settled)
            if next.utf8.elementsEqual(settled.utf8) { break }
            settled = next
        }
        return settled
    }

    /// Full case folding, from the mappings that the standard library has.
    ///
    /// Lower case of upper case of lower case equals Unicode's CaseFolding.txt (checked for all scalars of
    /// Unicode 14) but for the dotless i, which folds to itself, and Cherokee, which folds to upper case.
    private static func appendCaseFolded(_ scalar: Unicode.Scalar, to result: inout String.UnicodeScalarView) {
        switch scalar.value {
        case 0x0131, 0x13A0...0x13F5:
            result.append(scalar)
        case 0x13F8...0x13FD, 0xAB70...0xABBF:
            result.append(contentsOf: scalar.properties.uppercaseMapping.unicodeScalars)
        default:
            for lower in scalar.properties.lowercaseMapping.unicodeScalars {
                for upper in lower.properties.uppercaseMapping.unicodeScalars {
                    result.append(contentsOf: upper.properties.lowercaseMapping.unicodeScalars)
                }
            }
        }
    }

    private static func isDropped(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x00AD, 0x061C, 0x0640, 0x200D...0x200F, 0x202A...0x202E, 0x2060, 0x2066...0x2069, 0xFEFF: true
        default: false
        }
    }

    private static func isMark(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x0300...0x036F, 0x0610...0x061A, 0x064B...0x065F, 0x0670, 0x06D6...0x06ED: true
        default: false
        }
    }

    private static func isSeparator(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .spaceSeparator, .lineSeparator, .paragraphSeparator, .control, .format,
            .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
            .initialPunctuation, .finalPunctuation, .otherPunctuation,
            .mathSymbol, .currencySymbol, .modifierSymbol, .otherSymbol:
            true
        default: false
        }
    }

    /// The letter or digit that stands for a whole family of look-alikes; others stand for themselves.
    private static func foldedLetter(_ scalar: UInt32) -> UInt32 {
        switch scalar {
        case 0x064A, 0x0649, 0x06CD, 0x06CE, 0x06D0, 0x06D2, 0x06D3, 0x0626: 0x06CC
        case 0x0643, 0x06AA...0x06AE: 0x06A9
        case 0x0629, 0x06BE, 0x06C0...0x06C3, 0x06D5, 0x06FF: 0x0647
        case 0x0622, 0x0623, 0x0625, 0x0671...0x0673: 0x0627
        case 0x0624, 0x06C6...0x06C8, 0x06CB: 0x0648
        case 0x06F0...0x06F9: scalar - 0x06F0 + 0x30
        case 0x0660...0x0669: scalar - 0x0660 + 0x30
        default: scalar
        }
    }

    private static func withoutSpaces(_ text: String) -> String {
        guard text.utf8.contains(0x20) else { return text }
        return String(String.UnicodeScalarView(text.unicodeScalars.filter { $0 != " " }))
    }

    private static func sound(of joined: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in joined.unicodeScalars {
            let letter: Unicode.Scalar
            switch scalar {
            case "ص", "ث": letter = "س"
            case "ذ", "ض", "ظ": letter = "ز"
            case "ط": letter = "ت"
            case "ح": letter = "ه"
            case "غ": letter = "ق"
            case "ع": continue
            case "ا", "و", "ی":
                guard result.isEmpty else { continue }
                letter = scalar
            default: letter = scalar
            }
            if result.last != letter { result.append(letter) }
        }
        return String(result)
    }

    private static func mappingScalars(of text: String, _ map: (UInt32) -> UInt32) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            result.append(Unicode.Scalar(map(scalar.value)) ?? scalar)
        }
        return String(result)
    }
}

// MARK: - The quick way: one pass over the bytes of ASCII and ordinary Persian

extension PersianText {
    /// What one pass over the bytes came to.
    private enum QuickResult {
        case unchanged
        case rewritten(String)
        case beyondQuickRules
    }

    /// What a scalar means to a quick pass.
    private enum QuickClass {
        /// It is kept as the given scalar. It starts a cluster and never composes with a neighbour.
        case kept(UInt32)
        /// A mark that is kept. One alone cannot be out of canonical order; two in a row can.
        case mark
        case dropped
        case white
        case joiner
        /// Only the general rules know.
        case unknown
    }

    private static func displayQuickly(_ bytes: UnsafeBufferPointer<UInt8>) -> QuickResult {
        if isDisplayedASCII(bytes) { return .unchanged }
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        var gap: UInt32?
        var isAfterMark = false
        var index = 0
        while index < bytes.count {
            guard let scalar = nextScalar(in: bytes, at: &index) else { return .beyondQuickRules }
            switch displayClass(of: scalar) {
            case .kept(let kept):
                if let gap, !result.isEmpty { append(gap, to: &result) }
                gap = nil
                append(kept, to: &result)
                isAfterMark = false
            case .mark:
                if isAfterMark && gap == nil { return .beyondQuickRules }
                if let gap, !result.isEmpty { append(gap, to: &result) }
                gap = nil
                append(scalar, to: &result)
                isAfterMark = true
            case .dropped: break
            case .white: gap = 0x20
            case .joiner: gap = gap ?? scalar
            case .unknown: return .beyondQuickRules
            }
        }
        return finish(result, of: bytes)
    }

    private static func keyQuickly(_ bytes: UnsafeBufferPointer<UInt8>) -> QuickResult {
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        var isGap = false
        var index = 0
        while index < bytes.count {
            guard let scalar = nextScalar(in: bytes, at: &index) else { return .beyondQuickRules }
            switch keyClass(of: scalar) {
            case .kept(let kept):
                if isGap, !result.isEmpty { result.append(0x20) }
                isGap = false
                append(kept, to: &result)
            case .dropped, .mark: break
            case .white, .joiner: isGap = true
            case .unknown: return .beyondQuickRules
            }
        }
        return finish(result, of: bytes)
    }

    private static func finish(_ result: [UInt8], of bytes: UnsafeBufferPointer<UInt8>) -> QuickResult {
        result.elementsEqual(bytes) ? .unchanged : .rewritten(String(decoding: result, as: UTF8.self))
    }

    /// Whether the bytes are ASCII with single spaces inside and none at the ends.
    private static func isDisplayedASCII(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        var previous: UInt8 = 0x20
        for byte in bytes {
            if byte >= 0x80 || (0x09...0x0D).contains(byte) { return false }
            if byte == 0x20 && previous == 0x20 { return false }
            previous = byte
        }
        return previous != 0x20 || bytes.isEmpty
    }

    /// The class for ``display(_:)``.
    ///
    /// All kept scalars have NFC_Quick_Check=Yes and combining class 0, so the text needs no composing.
    private static func displayClass(of scalar: UInt32) -> QuickClass {
        switch scalar {
        case 0x09...0x0D, 0x20, 0x85, 0xA0: .white
        case 0xAD, 0x061C, 0x0640: .dropped
        case 0x00...0x02FF: .kept(scalar)
        case 0x0643: .kept(0x06A9)
        case 0x0649, 0x064A: .kept(0x06CC)
        case 0x064B...0x0652, 0x0670: .mark
        case 0x060C, 0x061B, 0x061F...0x0648, 0x0660...0x066F, 0x0671...0x06D5, 0x06EE...0x06FF: .kept(scalar)
        case 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: .white
        case 0x200C: .joiner
        case 0x200D...0x200F, 0x202A...0x202E, 0x2060, 0x2066...0x2069, 0xFEFF: .dropped
        case 0x2010...0x2027: .kept(scalar)
        default: .unknown
        }
    }

    /// The class for ``key(_:)``.
    ///
    /// Marks may go before composing: what hamza and madda compose with folds to the same letter without them.
    private static func keyClass(of scalar: UInt32) -> QuickClass {
        switch scalar {
        case 0x41...0x5A: .kept(scalar + 0x20)
        case 0x30...0x39, 0x61...0x7A: .kept(scalar)
        case 0x00...0x7F, 0x80...0xA0, 0xAB, 0xBB: .white
        case 0xAD, 0x061C, 0x0640, 0x0621: .dropped
        case 0x064B...0x065F, 0x0670: .mark
        case 0x060C, 0x061B, 0x061F, 0x066A...0x066D, 0x06D4: .white
        case 0x0675...0x0678: .unknown
        case 0x0622...0x064A, 0x0660...0x0669, 0x066E...0x06D3, 0x06D5, 0x06EE...0x06FC, 0x06FF:
            .kept(foldedLetter(scalar))
        case 0x2000...0x200C, 0x2010...0x2027, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: .white
        case 0x200D...0x200F, 0x202A...0x202E, 0x2060, 0x2066...0x2069, 0xFEFF: .dropped
        default: .unknown
        }
    }

    /// Reads one scalar of up to three bytes and moves the index behind it; nil for a longer one.
    private static func nextScalar(in bytes: UnsafeBufferPointer<UInt8>, at index: inout Int) -> UInt32? {
        let first = UInt32(bytes[index])
        if first < 0x80 {
            index += 1
            return first
        }
        // A Swift string is always well-formed UTF-8, so the following bytes are there.
        if first < 0xE0 {
            let scalar = (first & 0x1F) << 6 | UInt32(bytes[index + 1]) & 0x3F
            index += 2
            return scalar
        }
        guard first < 0xF0 else { return nil }
        let scalar =
            (first & 0x0F) << 12 | (UInt32(bytes[index + 1]) & 0x3F) << 6 | UInt32(bytes[index + 2]) & 0x3F
        index += 3
        return scalar
    }

    private static func append(_ scalar: UInt32, to bytes: inout [UInt8]) {
        if scalar < 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: scalar))
        } else if scalar < 0x800 {
            bytes.append(UInt8(truncatingIfNeeded: 0xC0 | scalar >> 6))
            bytes.append(UInt8(truncatingIfNeeded: 0x80 | scalar & 0x3F))
        } else {
            bytes.append(UInt8(truncatingIfNeeded: 0xE0 | scalar >> 12))
            bytes.append(UInt8(truncatingIfNeeded: 0x80 | scalar >> 6 & 0x3F))
            bytes.append(UInt8(truncatingIfNeeded: 0x80 | scalar & 0x3F))
        }
    }
}
