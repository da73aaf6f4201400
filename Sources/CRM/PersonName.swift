/// The name of a person, taken apart for comparison; what is shown stays as it was typed.
///
/// Titles are moved aside and marks of descent are ignored, because one branch types them and the next does not.
/// Compound names are written apart, together or with a joiner, so each part is kept without spaces.
///
/// - Source: DOMAIN.md 3.2.
package struct PersonName: Hashable, Sendable {
    /// The given name as ``PersianText/joined(_:)``; empty when not known.
    package let given: String
    /// The family name in the same form; empty when not known.
    package let family: String
    /// Titles that stood in front, as keys, in order of appearance.
    package let titles: [String]

    /// Takes a name apart.
    ///
    /// - Parameters:
    ///   - name: The name in one text. Read only if neither part is there.
    ///   - given: The given name, if it is known by itself.
    ///   - family: The family name, if it is known by itself.
    package init(name: String?, given: String?, family: String?) {
        var titles: [String] = []
        let givenWords = Self.words(of: given, titles: &titles)
        let familyWords = Self.words(of: family, titles: &titles)
        if givenWords.isEmpty, familyWords.isEmpty {
            let words = Self.words(of: name, titles: &titles)
            let givenCount = words.count >= 3 && Self.compoundBeginnings.contains(words[0]) ? 2 : 1
            self.given = words.prefix(givenCount).joined()
            self.family = words.dropFirst(givenCount).joined()
        } else {
            self.given = givenWords.joined()
            self.family = familyWords.joined()
        }
        self.titles = titles
    }

    /// The words that count, endings of compounds attached to the word before them.
    private static func words(of text: String?, titles: inout [String]) -> [String] {
        guard let text else { return [] }
        var words = PersianText.key(text).split(separator: " ").map(String.init)
        // Only in front, and never the last word: several titles are family names too.
        while words.count > 1, titleWords.contains(words[0]) { titles.append(words.removeFirst()) }
        let counted = words.filter { !descentWords.contains($0) }
        if !counted.isEmpty { words = counted }
        var joined: [String] = []
        for word in words {
            if compoundEndings.contains(word), let last = joined.popLast() {
                joined.append(last + word)
            } else {
                joined.append(word)
            }
        }
        return joined
    }

    private static func keys(_ words: String) -> Set<String> {
        Set(words.split(separator: " ").map { PersianText.key(String($0)) })
    }

    private static let titleWords = keys(
        "آقای خانم جناب سرکار دکتر مهندس استاد حاج حاجی حاجیه کربلایی مشهدی"
    )
    private static let descentWords = keys("سید سیده میر سادات السادات")
    private static let compoundBeginnings = keys("محمد علی امیر غلام عبد ابو فاطمه زهرا")
    private static let compoundEndings = keys("الله الدین زاده پور نژاد نیا فر منش وند")
}

/// The name of an organisation without the words that only tell its legal form.
///
/// - Source: DOMAIN.md 3.2.
package enum OrganisationName {
    /// Returns the name as ``PersianText/joined(_:)`` without words of legal form; a name of nothing else stays whole.
    package static func comparable(_ name: String) -> String {
        let words = PersianText.key(name).split(separator: " ").map(String.init)
        var kept: [String] = []
        var index = 0
        while index < words.count {
            if let form = legalForms.first(where: { words[index...].starts(with: $0) }) {
                index += form.count
            } else {
                kept.append(words[index])
                index += 1
            }
        }
        return (kept.isEmpty ? words : kept).joined()
    }

    // The same word is written with hamza on its seat, or with another letter in its place.
    private static let legalForms: [[String]] = [
        "با مسئولیت محدود", "با مسوولیت محدود", "سهامی خاص", "سهامی عام", "شرکت", "موسسه",
    ].map { PersianText.key($0).split(separator: " ").map(String.init) }
}
