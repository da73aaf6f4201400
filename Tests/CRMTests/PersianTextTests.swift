import Foundation
import Testing

@testable import CRM

@Suite("Persian text")
struct PersianTextTests {
    private let vectors = PersianVectors.shared

    @Test("The vectors hold the very code points that they name")
    func vectorsAreIntact() {
        for vector in vectors.text {
            let found = vector.input.unicodeScalars.map { String(format: "%04X", $0.value) }
            #expect(found.joined(separator: " ") == vector.codepoints)
        }
    }

    @Test("Text is shown, keyed and joined as the vectors say")
    func forms() {
        #expect(vectors.text.count == 21)
        for vector in vectors.text {
            #expect(bytes(PersianText.display(vector.input)) == bytes(vector.display), "\(vector.codepoints)")
            #expect(bytes(PersianText.key(vector.input)) == bytes(vector.key), "\(vector.codepoints)")
            #expect(bytes(PersianText.joined(vector.input)) == bytes(vector.joined), "\(vector.codepoints)")
        }
    }

    @Test("Two spellings of a name have one key")
    func sameKey() {
        for pair in vectors.textSameKey {
            #expect(bytes(PersianText.key(pair[0])) == bytes(PersianText.key(pair[1])), "\(pair)")
        }
    }

    @Test("A name written apart and together is one when joined")
    func sameJoined() {
        for pair in vectors.textSameJoined {
            #expect(bytes(PersianText.joined(pair[0])) == bytes(PersianText.joined(pair[1])), "\(pair)")
        }
    }

    @Test("Different names stay different")
    func mustDiffer() {
        for pair in vectors.textMustDiffer {
            #expect(bytes(PersianText.joined(pair[0])) != bytes(PersianText.joined(pair[1])), "\(pair)")
        }
    }

    @Test("Names that sound alike have one sound, as the vectors say")
    func sounds() {
        for pair in vectors.phoneticSame + vectors.phoneticMustDiffer {
            #expect(bytes(PersianText.phon(pair.a)) == bytes(pair.keyA), "\(pair.a)")
            #expect(bytes(PersianText.phon(pair.b)) == bytes(pair.keyB), "\(pair.b)")
        }
    }

    @Test(
        "Stray spaces, joiners and invisible controls leave no trace",
        arguments: [
            ("", ""), ("   ", ""), ("\u{200C}", ""), (" a\t\r\n b ", "a b"), ("می \u{200C}خواهم", "می خواهم"),
            ("\u{200C}علی\u{200C}", "علی"), ("a\u{AD}b", "ab"), ("a \u{200F} b", "a b"),
            ("\u{FEFF}علی", "علی"), ("e\u{301}", "\u{E9}"),
            ("\u{1F469}\u{200D}\u{1F467}", "\u{1F469}\u{1F467}"),
        ]
    )
    func trimming(input: String, shown: String) {
        #expect(bytes(PersianText.display(input)) == bytes(shown))
    }

    @Test(
        "Letters of other scripts are folded too",
        arguments: [
            ("Straße", "strasse"), ("İZMİR", "izmir"), ("ΣΊΣΥΦΟΣ", "σίσυφοσ"), ("ﬁn", "fin"),
            ("ｱ", "ア"), ("ısı", "ısı"), ("A-B_C+D", "a b c d"), ("Ꭰꭰ", "ᎠᎠ"),
        ]
    )
    func otherScripts(input: String, key: String) {
        #expect(bytes(PersianText.key(input)) == bytes(key.precomposedStringWithCanonicalMapping))
    }

    @Test("Every form is idempotent, and a shown text has the key of the typed one")
    func laws() {
        var generator = SeededGenerator("Laws of Persian text")
        for _ in 0..<10_000 {
            let text = randomText(&generator)
            let context: Comment = "seed \(generator.seed): \(codePoints(text))"
            let display = PersianText.display(text)
            let key = PersianText.key(text)
            let joined = PersianText.joined(text)
            let phon = PersianText.phon(text)
            #expect(bytes(PersianText.display(display)) == bytes(display), context)
            #expect(bytes(PersianText.key(key)) == bytes(key), context)
            #expect(bytes(PersianText.joined(joined)) == bytes(joined), context)
            #expect(bytes(PersianText.phon(phon)) == bytes(phon), context)
            #expect(bytes(PersianText.key(display)) == bytes(key), context)
        }
    }

    @Test("The quick way gives the bytes of the rules as written")
    func quickEqualsGeneral() {
        var generator = SeededGenerator("Quick Persian text")
        for _ in 0..<10_000 {
            let text = randomText(&generator)
            let context: Comment = "seed \(generator.seed): \(codePoints(text))"
            #expect(bytes(PersianText.display(text)) == bytes(PersianText.displayGenerally(text)), context)
            #expect(bytes(PersianText.key(text)) == bytes(PersianText.keyGenerally(text)), context)
        }
    }

    @Test("Every letter keeps the laws, alone and beside any Persian letter or mark")
    func everyScalar() {
        let neighbours = ["", "ا", "ي", "ه\u{654}", "\u{653}", " ", "\u{200C}"]
        for value in UInt32(0)...0x2FFFF {
            guard let scalar = Unicode.Scalar(value), value < 0x3000 || value % 7 == 0 || value > 0xF900
            else {
                continue
            }
            let isPaired = value < 0x0780 || (0x2000..<0x2070).contains(value)
            for neighbour in isPaired ? neighbours : [""] {
                for text in ["\(scalar)\(neighbour)", "\(neighbour)\(scalar)"] {
                    let display = PersianText.display(text)
                    let key = PersianText.key(text)
                    let isLawful =
                        bytes(PersianText.display(display)) == bytes(display)
                        && bytes(PersianText.key(key)) == bytes(key)
                        && bytes(PersianText.key(display)) == bytes(key)
                        && bytes(display) == bytes(PersianText.displayGenerally(text))
                        && bytes(key) == bytes(PersianText.keyGenerally(text))
                    if !isLawful { Issue.record("\(codePoints(text))") }
                }
            }
        }
    }

    @Test("Digits of both scripts fold to ASCII, and go back to Persian")
    func digits() {
        #expect(PersianText.foldDigits("۰۱۲۳۴۵۶۷۸۹ ٠١٢٣٤٥٦٧٨٩ علی") == "0123456789 0123456789 علی")
        #expect(PersianText.persianDigits("2026 ٤٥") == "۲۰۲۶ ۴۵")
    }

    @Test("A list follows the Persian alphabet: پ چ ژ ک گ stand in their places")
    func order() {
        let alphabet = "ا ب پ ت ث ج چ ح خ د ذ ر ز ژ س ش ص ض ط ظ ع غ ف ق ک گ ل م ن و ه ی".split(separator: " ")
        let names = alphabet.map { "\($0)ما" }
        #expect(names.reversed().sorted(by: PersianText.sortsBefore) == names)
    }

    @Test("Two texts that sort alike still have one order")
    func totalOrder() {
        #expect(PersianText.compare("علی", "علی") == .orderedSame)
        let (left, right) = ("آ", "\u{0627}\u{0653}")
        #expect(PersianText.sortsBefore(left, right) != PersianText.sortsBefore(right, left))
    }

    private func codePoints(_ text: String) -> String {
        text.unicodeScalars.map { String($0.value, radix: 16, uppercase: true) }.joined(separator: " ")
    }

    /// Text of up to twelve scalars, most of them those that the rules name.
    private func randomText(_ generator: inout SeededGenerator) -> String {
        let ranges: [ClosedRange<UInt32>] = [
            0x20...0x7E, 0x00...0x2FF, 0x0600...0x06FF, 0x0620...0x064A, 0x0640...0x0660, 0x2000...0x206F,
            0x0300...0x036F, 0x09...0x20, 0x200B...0x200F, 0xFB50...0xFEFF, 0x3040...0x30FF, 0x1100...0x11FF,
            0x00...0xD7FF, 0x1F300...0x1F6FF,
        ]
        // Most texts stay within ASCII and Persian, where the quick way applies.
        let isPersian = Bool.random(using: &generator)
        var text = String.UnicodeScalarView()
        for _ in 0..<Int.random(in: 0...12, using: &generator) {
            let range = ranges[
                isPersian
                    ? [0, 3, 3, 4, 8, 7].randomElement(using: &generator) ?? 0
                    : Int.random(in: 0..<ranges.count, using: &generator)
            ]
            if let scalar = Unicode.Scalar(UInt32.random(in: range, using: &generator)) {
                text.append(scalar)
            }
        }
        return String(text)
    }
}
