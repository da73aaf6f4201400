import Causality

/// What matching knows of one record of a customer, each value in the form in which it is compared.
///
/// Derived from rows, never stored or sent. Texts are UTF-16 of keys; an empty one is not known.
package struct MatchingRecord: Hashable, Sendable {
    /// A code, and whether it passed its own check.
    package struct Code: Hashable, Sendable {
        package let text: [UInt16]
        package let isValid: Bool
    }

    package let id: RowID
    package let isOrganisation: Bool
    package let given, family, organisation, father, city, street, postalCode: [UInt16]
    /// YYYYMMDD; 0 when not known.
    package let birthDay: UInt64
    package let nationalCode, legalId: Code?
    /// The mobile number of the person, digits of E.164; 0 when not known. Also among ``phones``.
    package let mobile: UInt64
    /// Valid numbers as digits of E.164, in ascending order.
    package let phones: [UInt64]
    /// In ascending order.
    package let emails: [String]
    /// What other records with the same evidence are found by.
    package let keys: [MatchingKey]
    /// Stands for the sound of the whole name: how many different ones share a value tells whether it is generic.
    package let soundNumber: UInt64

    /// Makes the record of a customer.
    ///
    /// - Parameters:
    ///   - customer: Its row.
    ///   - contactPoints: Its further numbers and addresses. Those known to be wrong are no evidence.
    package init(_ customer: RowValues, contactPoints: [RowValues] = []) {
        let points = contactPoints.filter { $0.text("state") != "wrong" }
        func values(_ kinds: Set<String>) -> [String] {
            points.filter { $0.text("kind").map(kinds.contains) ?? false }.compactMap { $0.text("value") }
        }
        let numbers = [customer.text("phone")].compactMap { $0 } + values(["mobile", "phone"])
        self.init(
            id: customer.id,
            isOrganisation: customer.text("kind") == "organisation",
            name: customer.text("name"),
            givenName: customer.text("givenName"),
            familyName: customer.text("familyName"),
            fatherName: customer.text("fatherName"),
            birthDay: customer.text("birthDay"),
            nationalCode: customer.text("nationalCode"),
            legalId: customer.text("legalId"),
            mobile: customer.text("mobile"),
            phones: numbers,
            emails: [customer.text("email")].compactMap { $0 } + values(["email"]),
            city: customer.text("city"),
            street: customer.text("street"),
            postalCode: customer.text("postalCode")
        )
    }

    /// Makes a record out of values as they are stored, or as a file has them.
    ///
    /// - Parameter birthDay: Eight digits, year first, with anything between them.
    package init(
        id: RowID,
        isOrganisation: Bool = false,
        name: String? = nil,
        givenName: String? = nil,
        familyName: String? = nil,
        fatherName: String? = nil,
        birthDay: String? = nil,
        nationalCode: String? = nil,
        legalId: String? = nil,
        mobile: String? = nil,
        phones: [String] = [],
        emails: [String] = [],
        city: String? = nil,
        street: String? = nil,
        postalCode: String? = nil
    ) {
        self.id = id
        // Without a word about its kind, a legal identifier alone makes it an organisation.
        let hasOnlyLegalId = legalId != nil && nationalCode == nil && givenName == nil && familyName == nil
        self.isOrganisation = isOrganisation || hasOnlyLegalId
        if self.isOrganisation {
            (given, family) = ([], [])
            organisation = name.map { Array(OrganisationName.comparable($0).utf16) } ?? []
        } else {
            let person = PersonName(name: name, given: givenName, family: familyName)
            (given, family) = (Array(person.given.utf16), Array(person.family.utf16))
            organisation = []
        }
        father = Self.joined(fatherName)
        self.city = Self.joined(city)
        self.street = Self.joined(street)
        self.postalCode = postalCode.map { Array((PostalCode.read($0).value ?? CodeText.clean($0)).utf16) } ?? []
        let digits = CodeText.digits(of: PersianText.foldDigits(birthDay ?? "").filter { $0.isASCII && $0.isNumber })
        self.birthDay = digits.flatMap { $0.count == 8 ? $0.reduce(0) { $0 * 10 + UInt64($1) } : nil } ?? 0
        self.nationalCode = Self.code(nationalCode, NationalCode.read)
        self.legalId = Self.code(legalId, LegalIdentifier.read)
        self.mobile = mobile.flatMap(Self.number).flatMap { Self.isMobile($0) ? $0 : nil } ?? 0
        self.phones = Set((phones + [mobile].compactMap { $0 }).compactMap(Self.number)).sorted()
        self.emails = Set(emails.compactMap(Self.mail)).sorted()

        var maker = KeyMaker()
        let (familySound, givenSound) = (Self.sound(family), Self.sound(given))
        let name = self.isOrganisation ? [Self.sound(organisation)] : [familySound, givenSound].sorted()
        soundNumber = KeyMaker.number(name)
        maker.keys += self.phones.map(KeyMaker.phone) + self.emails.map(KeyMaker.email)
        if self.mobile > 0 { maker.keys.append(KeyMaker.mobile(self.mobile)) }
        if let code = self.nationalCode, code.isValid { maker.keys.append(KeyMaker.code("nationalCode", code)) }
        if let code = self.legalId, code.isValid { maker.keys.append(KeyMaker.code("legalId", code)) }
        let place = Self.text(self.city)
        if self.isOrganisation {
            if !organisation.isEmpty { maker.add(.block, "organisation", Self.sound(organisation)) }
        } else {
            // In either order, because people type the family name first now and then.
            if !family.isEmpty, !given.isEmpty { maker.add(.block, "names", name[0], name[1]) }
            let names = [("family", family.isEmpty ? "" : familySound), ("given", given.isEmpty ? "" : givenSound)]
            let postalCode = Self.text(self.postalCode)
            for (kind, sound) in names where !sound.isEmpty {
                if !place.isEmpty { maker.add(.block, kind, "city", sound, place) }
                if !postalCode.isEmpty { maker.add(.block, kind, "postalCode", sound, postalCode) }
                if self.birthDay > 0 { maker.add(.block, kind, "year", sound, String(self.birthDay / 10_000)) }
            }
            if self.birthDay > 0 {
                let day = String(self.birthDay)
                maker.add(.block, "birthDay", day)
                // A day that stands for "not known" fills its block; with a beginning of the name it is still of use.
                if !family.isEmpty { maker.add(.block, "birthDay", day, String(familySound.prefix(2))) }
            }
            if self.mobile > 0, self.birthDay > 0, !family.isEmpty, !given.isEmpty {
                let (mobile, day) = (String(self.mobile), String(self.birthDay))
                maker.add(.exact, Self.text(given), Self.text(family), mobile, day)
            }
        }
        keys = Set(maker.keys).sorted()
    }

    /// The keys by which records with this phone or mail address are found.
    static func contactKeys(_ typed: String) -> [MatchingKey] {
        [number(typed).map(KeyMaker.phone), mail(typed).map(KeyMaker.email)].compactMap { $0 }
    }

    static func isMobile(_ phone: UInt64) -> Bool { phone / 1_000_000_000 == 989 }

    private static func joined(_ text: String?) -> [UInt16] { text.map { Array(PersianText.joined($0).utf16) } ?? [] }

    private static func text(_ letters: [UInt16]) -> String { String(decoding: letters, as: UTF16.self) }

    /// The sound of a name, without Latin vowels as it is without Persian ones; the name itself when nothing is left.
    private static func sound(_ letters: [UInt16]) -> String {
        let joined = text(letters)
        let sound = PersianText.phon(joined)
        guard let first = sound.first else { return joined }
        return String(first) + sound.dropFirst().filter { !"aeiouy".contains($0) }
    }

    private static func code(_ typed: String?, _ read: (String) -> CodeReading<String>) -> Code? {
        guard let typed else { return nil }
        if case .valid(let code) = read(typed) { return Code(text: Array(code.utf16), isValid: true) }
        let cleaned = CodeText.clean(typed)
        return cleaned.isEmpty ? nil : Code(text: Array(cleaned.utf16), isValid: false)
    }

    private static func number(_ typed: String) -> UInt64? {
        guard let phone = PhoneNumber.read(typed).value else { return nil }
        return UInt64(phone.e164.dropFirst())
    }

    private static func mail(_ typed: String) -> String? {
        let address = PersianText.display(typed).lowercased()
        return address.contains("@") ? address : nil
    }
}

/// What records are found by: equal evidence gives equal keys.
///
/// A number, not a text, for size. Two values may meet in one number once in many years; then two records are
/// compared that share nothing, and the score says so.
package struct MatchingKey: Hashable, Comparable, Sendable {
    /// What a key is good for.
    package enum Kind: UInt64, Hashable, Sendable {
        /// A phone or mail address.
        case contact
        /// A valid code.
        case code
        /// A part of a name with something else.
        case block
        /// Both names, a mobile number and a birth day: links by rule are found by it.
        case exact
    }

    package let rawValue: UInt64

    /// What the key is good for.
    package var kind: Kind { Kind(rawValue: rawValue & 3) ?? .block }

    /// A key as it was stored.
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Under more different names than this the value says nothing; nil for keys of which that is not asked.
    package var namesMax: Int? {
        switch kind {
        case .contact: MatchingWeights.namesOfContactMax
        case .code: MatchingWeights.namesOfCodeMax
        case .block, .exact: nil
        }
    }

    /// Above so many holders a key is not looked at; nil where links by rule are found, which must not depend on it.
    package var holdersMax: Int? {
        switch kind {
        case .contact, .block: MatchingWeights.blockMax
        case .code, .exact: nil
        }
    }

    init(_ kind: Kind, number: UInt64) { rawValue = number & ~3 | kind.rawValue }

    package static func < (left: MatchingKey, right: MatchingKey) -> Bool { left.rawValue < right.rawValue }
}

/// Makes keys out of texts.
struct KeyMaker {
    var keys: [MatchingKey] = []

    mutating func add(_ kind: MatchingKey.Kind, _ parts: String...) {
        keys.append(MatchingKey(kind, number: Self.number(parts)))
    }

    /// FNV-1a over the parts, each with an end, then mixed so that all bits count.
    static func number(_ parts: [String]) -> UInt64 {
        var number: UInt64 = 0xCBF2_9CE4_8422_2325
        for part in parts {
            for byte in part.utf8 { number = (number ^ UInt64(byte)) &* 0x100_0000_01B3 }
            number = (number ^ 0xFF) &* 0x100_0000_01B3
        }
        number = (number ^ number >> 30) &* 0xBF58_476D_1CE4_E5B9
        return number ^ number >> 31
    }

    /// The key of a phone.
    static func phone(_ phone: UInt64) -> MatchingKey {
        MatchingKey(.contact, number: number(["phone", String(phone)]))
    }

    /// The key of a person's own mobile number: the rule that asks for it looks at no other numbers.
    static func mobile(_ phone: UInt64) -> MatchingKey {
        MatchingKey(.contact, number: number(["mobile", String(phone)]))
    }

    /// The key of a mail address.
    static func email(_ email: String) -> MatchingKey { MatchingKey(.contact, number: number(["email", email])) }

    /// The key of a code.
    static func code(_ name: String, _ code: MatchingRecord.Code) -> MatchingKey {
        MatchingKey(.code, number: number([name, String(decoding: code.text, as: UTF16.self)]))
    }
}
