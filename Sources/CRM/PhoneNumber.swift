/// A telephone number of Iran, in the one form in which it is stored and matched.
///
/// - Source: ITU-T E.164; DOMAIN.md 3.3.
package struct PhoneNumber: Hashable, Sendable {
    /// What the number reaches. Operators are never told apart: numbers move between them.
    package enum Kind: String, Hashable, Sendable {
        case mobile, landline
    }

    /// `+98` and ten digits.
    package let e164: String
    /// One to ten digits to dial behind the exchange, or nil.
    package let `extension`: String?
    /// What the number reaches.
    package let kind: Kind
    /// Whether the area code was not typed but taken from the branch.
    package let isAreaCodeAssumed: Bool

    /// The form that people in Iran write, `09121234567`.
    package var national: String { "0" + e164.dropFirst(3) }

    /// The area code of a landline, `021`; nil for a mobile number.
    package var areaCode: String? { kind == .landline ? String(national.prefix(3)) : nil }

    /// Reads a typed number.
    ///
    /// - Parameters:
    ///   - typed: Digits of any script, with or without +98, 0, brackets and an extension.
    ///   - branchAreaCode: The area code of the branch, `021`, for numbers of eight digits. Nil: they are
    ///     invalid.
    package static func read(_ typed: String, branchAreaCode: String? = nil) -> CodeReading<PhoneNumber> {
        let (main, tail) = parts(of: CodeText.clean(typed).lowercased())
        guard !main.isEmpty else { return .invalid(CodeFault(.phone, .empty)) }
        if let tail {
            guard (1...10).contains(tail.count), CodeText.digits(of: tail) != nil else {
                return .invalid(CodeFault(.phone, .badExtension))
            }
        }
        let isInternational = main.hasPrefix("+")
        guard CodeText.digits(of: isInternational ? main.dropFirst() : main[...]) != nil else {
            return .invalid(CodeFault(.phone, .notDigits))
        }
        var rest = withoutPrefix(main)
        var isAreaCodeAssumed = false
        if rest.count == 8, rest.count == main.count {
            guard let branchAreaCode else { return .invalid(CodeFault(.phone, .missingAreaCode)) }
            rest = Substring(branchAreaCode.drop { $0 == "0" } + rest)
            isAreaCodeAssumed = true
        }
        guard !rest.hasPrefix("+") else { return .invalid(CodeFault(.phone, .unknownAreaCode)) }
        guard rest.count == 10 else {
            return .invalid(CodeFault(.phone, .wrongLength(found: rest.count)))
        }
        let kind: Kind
        if rest.hasPrefix("9"), !isAreaCodeAssumed {
            kind = .mobile
        } else if AreaCode.named("0" + rest.prefix(2)) != nil {
            kind = .landline
        } else {
            return .invalid(CodeFault(.phone, .unknownAreaCode))
        }
        return .valid(
            PhoneNumber(
                e164: "+98" + rest,
                extension: tail,
                kind: kind,
                isAreaCodeAssumed: isAreaCodeAssumed
            )
        )
    }

    /// Returns the national form of a stored number, `09121234567`, or the text itself when it is no such one.
    package static func national(ofStored stored: String) -> String {
        guard stored.hasPrefix("+98"), stored.utf8.count == 13 else { return stored }
        return "0" + stored.dropFirst(3)
    }

    /// Cuts a cleaned number at the first word for an extension.
    private static func parts(of cleaned: String) -> (main: String, tail: String?) {
        let text = PersianText.display(cleaned).filter { !"()./_:".contains($0) }
        var index = text.startIndex
        while index < text.endIndex {
            let rest = text[index...]
            if let word = extensionWords.first(where: { rest.hasPrefix($0) }) {
                return (String(text[..<index]), String(rest.dropFirst(word.count)))
            }
            index = text.index(after: index)
        }
        return (text, nil)
    }

    // Longer words first: "x" begins none of them, but ends "ext".
    private static let extensionWords = ["داخلی", "extension", "ext", "x", "#"]

    /// Strips 0098, +98, 98 (of twelve digits) or 0, and the 0 that some write behind +98.
    private static func withoutPrefix(_ main: String) -> Substring {
        for country in ["0098", "+98"] where main.hasPrefix(country) {
            let rest = main.dropFirst(country.count)
            return rest.hasPrefix("0") ? rest.dropFirst() : rest
        }
        if main.hasPrefix("98"), main.count == 12 { return main.dropFirst(2) }
        return main.hasPrefix("0") ? main.dropFirst() : main[...]
    }
}

/// A landline area code: each is one province.
package struct AreaCode: Hashable, Sendable {
    /// Three digits with the trunk zero, `021`.
    package let code: String
    /// The province in Persian.
    package let province: String
    /// The province in English.
    package let provinceEnglish: String

    /// Returns the area code with these three digits.
    package static func named(_ code: String) -> AreaCode? { byCode[code] }

    private static let byCode = Dictionary(uniqueKeysWithValues: all.map { ($0.code, $0) })

    /// The 31 area codes.
    ///
    /// - Source: data of the Python package phonenumbers 9.0.43 (Apache-2.0), without the words for province.
    package static let all: [AreaCode] = [
        AreaCode(code: "011", province: "مازندران", provinceEnglish: "Mazandaran"),
        AreaCode(code: "013", province: "گیلان", provinceEnglish: "Gilan"),
        AreaCode(code: "017", province: "گلستان", provinceEnglish: "Golestan"),
        AreaCode(code: "021", province: "تهران", provinceEnglish: "Tehran"),
        AreaCode(code: "023", province: "سمنان", provinceEnglish: "Semnan"),
        AreaCode(code: "024", province: "زنجان", provinceEnglish: "Zanjan"),
        AreaCode(code: "025", province: "قم", provinceEnglish: "Qom"),
        AreaCode(code: "026", province: "البرز", provinceEnglish: "Alborz"),
        AreaCode(code: "028", province: "قزوین", provinceEnglish: "Qazvin"),
        AreaCode(code: "031", province: "اصفهان", provinceEnglish: "Isfahan"),
        AreaCode(code: "034", province: "کرمان", provinceEnglish: "Kerman"),
        AreaCode(code: "035", province: "یزد", provinceEnglish: "Yazd"),
        AreaCode(code: "038", province: "چهارمحال و بختیاری", provinceEnglish: "Chahar-mahal and Bakhtiari"),
        AreaCode(code: "041", province: "آذربایجان شرقی", provinceEnglish: "East Azarbaijan"),
        AreaCode(code: "044", province: "آذربایجان غربی", provinceEnglish: "West Azarbaijan"),
        AreaCode(code: "045", province: "اردبیل", provinceEnglish: "Ardabil"),
        AreaCode(code: "051", province: "خراسان رضوی", provinceEnglish: "Razavi Khorasan"),
        AreaCode(code: "054", province: "سیستان و بلوچستان", provinceEnglish: "Sistan and Baluchestan"),
        AreaCode(code: "056", province: "خراسان جنوبی", provinceEnglish: "South Khorasan"),
        AreaCode(code: "058", province: "خراسان شمالی", provinceEnglish: "North Khorasan"),
        AreaCode(code: "061", province: "خوزستان", provinceEnglish: "Khuzestan"),
        AreaCode(code: "066", province: "لرستان", provinceEnglish: "Lorestan"),
        AreaCode(code: "071", province: "فارس", provinceEnglish: "Fars"),
        AreaCode(code: "074", province: "کهگیلویه و بویراحمد", provinceEnglish: "Kohgiluyeh and Boyer-Ahmad"),
        AreaCode(code: "076", province: "هرمزگان", provinceEnglish: "Hormozgan"),
        AreaCode(code: "077", province: "بوشهر", provinceEnglish: "Bushehr"),
        AreaCode(code: "081", province: "همدان", provinceEnglish: "Hamadan"),
        AreaCode(code: "083", province: "کرمانشاه", provinceEnglish: "Kermanshah"),
        AreaCode(code: "084", province: "ایلام", provinceEnglish: "Ilam"),
        AreaCode(code: "086", province: "مرکزی", provinceEnglish: "Markazi"),
        AreaCode(code: "087", province: "کردستان", provinceEnglish: "Kurdistan"),
    ]
}
