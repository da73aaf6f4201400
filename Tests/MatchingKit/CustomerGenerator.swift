import CRM
import Causality
import Foundation
import TestKit

/// Invented customers of 31 branches, many of them recorded more than once, and who is who.
///
/// The same seed gives the same customers everywhere. Nobody in it exists; a code may belong to somebody by chance.
package struct CustomerGenerator {
    /// A record as an officer typed it, and the person that it is of.
    package struct Entry: Sendable {
        package let person: Int
        package let record: MatchingRecord
        /// As typed, by column.
        package let fields: [String: String]
    }

    private struct Person {
        let isOrganisation: Bool
        let given, family, father, city, areaCode: String
        let isWoman: Bool
        let birthDay: (year: Int, month: Int, day: Int)
        let nationalCode, mobile, landline, postalCode, email: String
    }

    private var random: SeededRandom
    private let noise: CustomerNoise
    private var counters: [Int64] = Array(repeating: 0, count: 32)

    package init(seed: UInt64, noise: CustomerNoise = CustomerNoise()) {
        random = SeededRandom(seed: seed)
        self.noise = noise
    }

    /// Makes records of so many people, person after person.
    package mutating func entries(people: Int) -> [Entry] {
        var entries: [Entry] = []
        var last: Person?
        for number in 0..<people {
            let person = makePerson(livingWith: last)
            last = person.isOrganisation ? last : person
            var count = 1
            if happens(noise.recordedAgain) {
                count = 2
                while count < 4, happens(noise.recordedOnceMore) { count += 1 }
            }
            for _ in 0..<count { entries.append(record(person, number)) }
        }
        return entries
    }

    /// Makes so many records, of as many people as that takes.
    package mutating func entries(count: Int) -> [Entry] {
        var entries: [Entry] = []
        entries.reserveCapacity(count)
        var last: Person?
        var number = 0
        while entries.count < count {
            let person = makePerson(livingWith: last)
            last = person.isOrganisation ? last : person
            repeat {
                entries.append(record(person, number))
            } while entries.count < count && happens(noise.recordedAgain)
            number += 1
        }
        return entries
    }

    private mutating func happens(_ hundredths: Int) -> Bool { random.below(100) < hundredths }

    private mutating func one<Element>(of list: [Element]) -> Element { list[random.below(list.count)] }

    /// Few names are common and many are rare: the smaller of two draws stands further in front.
    private mutating func common(_ list: [String]) -> String {
        list[min(random.below(list.count), random.below(list.count))]
    }

    private mutating func digits(_ count: Int) -> String {
        (0..<count).map { _ in String(random.below(10)) }.joined()
    }
}

// MARK: - Who there is

extension CustomerGenerator {
    private mutating func makePerson(livingWith other: Person?) -> Person {
        if happens(noise.organisation) { return makeOrganisation() }
        let isWoman = random.oneIn(2)
        let isAtHome = other != nil && happens(noise.household)
        let isSibling = isAtHome && random.oneIn(2)
        let area = one(of: AreaCode.all)
        let given = common(isWoman ? NameLists.women : NameLists.men)
        let city = isAtHome ? other?.city : nil
        let areaCode = isAtHome ? other?.areaCode : nil
        let sharesMobile = isAtHome && happens(noise.sharedMobile)
        let family = isSibling ? other?.family : nil
        return Person(
            isOrganisation: false,
            given: given,
            family: family ?? makeFamilyName(),
            father: (isSibling ? other?.father : nil) ?? common(NameLists.men),
            city: city ?? area.province,
            areaCode: areaCode ?? area.code,
            isWoman: isWoman,
            birthDay: (1320 + random.below(65), 1 + random.below(12), 1 + random.below(29)),
            nationalCode: makeNationalCode(),
            mobile: (sharesMobile ? other?.mobile : nil) ?? makeMobile(),
            landline: (isAtHome ? other?.landline : nil) ?? "\(1 + random.below(8))" + digits(7),
            postalCode: (isAtHome ? other?.postalCode : nil) ?? makePostalCode(),
            email: "\(one(of: NameLists.latin))\(digits(4))@\(one(of: ["example.ir", "example.com", "mail.example"]))"
        )
    }

    /// A third of the families tell by a second word where they came from, or whose they were.
    private mutating func makeFamilyName() -> String {
        let name = common(NameLists.families)
        return random.oneIn(3) ? "\(name) \(one(of: NameLists.secondParts))" : name
    }

    private mutating func makeOrganisation() -> Person {
        let area = one(of: AreaCode.all)
        let name = "\(one(of: NameLists.trades)) \(one(of: NameLists.firms)) \(common(NameLists.families))"
        return Person(
            isOrganisation: true,
            given: "",
            family: name,
            father: "",
            city: area.province,
            areaCode: area.code,
            isWoman: false,
            birthDay: (1380, 1, 1),
            nationalCode: makeLegalId(),
            mobile: makeMobile(),
            landline: "\(1 + random.below(8))" + digits(7),
            postalCode: makePostalCode(),
            email: "info@\(one(of: NameLists.latin))\(digits(3)).example"
        )
    }

    private mutating func makeMobile() -> String { "9\(one(of: ["12", "13", "35", "90", "19"]))" + digits(7) }

    private mutating func makePostalCode() -> String {
        (0..<10).map { _ in String(one(of: [1, 3, 4, 6, 7, 9])) }.joined()
    }

    private mutating func makeNationalCode() -> String {
        while true {
            let start = digits(9)
            for last in 0...9 {
                if case .valid(let code) = NationalCode.read(start + String(last)) { return code }
            }
        }
    }

    private mutating func makeLegalId() -> String {
        while true {
            let start = "1" + digits(9)
            for last in 0...9 {
                if case .valid(let code) = LegalIdentifier.read(start + String(last)) { return code }
            }
        }
    }
}

// MARK: - How it is written down

extension CustomerGenerator {
    private mutating func record(_ person: Person, _ number: Int) -> Entry {
        let branch = 1 + random.below(31)
        counters[branch] += 1
        // Head office is 1, so the branches begin with 2.
        let id = RowID(origin: Origin(rawValue: UInt32(branch + 1)) ?? .none, counter: counters[branch])
        var fields: [String: String] = [:]
        if person.isOrganisation {
            fields["kind"] = "organisation"
            fields["name"] = organisationName(person)
            if !happens(noise.legalIdMissing) { fields["legalId"] = code(person.nationalCode) }
        } else {
            writeName(person, in: &fields)
            if !happens(noise.nationalCodeMissing) { fields["nationalCode"] = code(person.nationalCode) }
            if !happens(noise.birthDayMissing) { fields["birthDay"] = day(person) }
            if !happens(noise.fatherMissing) { fields["fatherName"] = text(person.father, noise.nameTypo) }
        }
        let hasMoved = happens(noise.moved)
        let area = one(of: AreaCode.all)
        if !happens(noise.mobileMissing) {
            fields["mobile"] = phone(happens(noise.newMobile) ? makeMobile() : person.mobile)
        }
        if !happens(noise.landlineMissing) {
            let landline = hasMoved ? area.code.dropFirst() + digits(8) : person.areaCode.dropFirst() + person.landline
            fields["phone"] = phone(String(landline))
        }
        if !happens(noise.cityMissing) { fields["city"] = text(hasMoved ? area.province : person.city, noise.cityTypo) }
        if !happens(noise.postalCodeMissing) { fields["postalCode"] = hasMoved ? makePostalCode() : person.postalCode }
        if !happens(noise.emailMissing) { fields["email"] = person.email }
        let record = MatchingRecord(
            id: id,
            isOrganisation: person.isOrganisation,
            name: fields["name"],
            givenName: fields["givenName"],
            familyName: fields["familyName"],
            fatherName: fields["fatherName"],
            birthDay: fields["birthDay"],
            nationalCode: fields["nationalCode"],
            legalId: fields["legalId"],
            mobile: fields["mobile"],
            phones: [fields["phone"]].compactMap { $0 },
            emails: [fields["email"]].compactMap { $0 },
            city: fields["city"],
            postalCode: fields["postalCode"]
        )
        return Entry(person: number, record: record, fields: fields)
    }

    private mutating func writeName(_ person: Person, in fields: inout [String: String]) {
        let given = text(person.given, noise.nameTypo)
        let family = text(person.family, noise.nameTypo)
        var parts = happens(noise.familyNameFirst) ? [family, given] : [given, family]
        let title = happens(noise.title) ? one(of: person.isWoman ? NameLists.ladies : NameLists.gentlemen) : nil
        if happens(noise.nameInOneText) {
            fields["name"] = ([title].compactMap { $0 } + parts).joined(separator: " ")
        } else {
            if let title { parts[0] = "\(title) \(parts[0])" }
            (fields["givenName"], fields["familyName"]) = (parts[0], parts[1])
        }
    }

    private mutating func organisationName(_ person: Person) -> String {
        let name = text(person.family, noise.nameTypo)
        switch random.below(4) {
        case 0: return "شرکت \(name)"
        case 1: return "شرکت \(name) (سهامی خاص)"
        case 2: return "\(name) با مسئولیت محدود"
        default: return name
        }
    }

    /// Text as somebody types it, with a slip in so many of a hundred.
    private mutating func text(_ text: String, _ typo: Int) -> String {
        var text = text
        if happens(noise.respelled), let pair = NameLists.respellings.first(where: { text.contains($0.0) }) {
            text = text.replacingOccurrences(of: pair.0, with: pair.1)
        }
        if happens(typo) { text = slip(text, of: Array("ابتدرسشعلمنهیکو").map(String.init)) }
        if happens(noise.otherSpacing) {
            text = text.replacingOccurrences(of: "\u{200C}", with: random.oneIn(2) ? " " : "")
        }
        if happens(noise.arabicLetters) {
            text = text.replacingOccurrences(of: "ی", with: "ي").replacingOccurrences(of: "ک", with: "ك")
        }
        return text
    }

    private mutating func code(_ code: String) -> String {
        var code = happens(noise.codeTypo) ? slip(code, of: (0...9).map(String.init)) : code
        if code.hasPrefix("0"), random.oneIn(4) { code.removeFirst() }
        return script(code)
    }

    private mutating func phone(_ national: String) -> String {
        let number = happens(noise.phoneTypo) ? slip(national, of: (0...9).map(String.init)) : national
        let prefix = one(of: ["0", "0", "0", "+98", "0098", "98"])
        return prefix.hasPrefix("0") ? script(prefix + number) : prefix + number
    }

    private mutating func script(_ digits: String) -> String {
        happens(noise.persianDigits) ? PersianText.persianDigits(digits) : digits
    }

    /// The day as it is stored: read from what was typed in the Jalali calendar, where the slip happens.
    private mutating func day(_ person: Person) -> String? {
        var (year, month, day) = person.birthDay
        if happens(noise.birthDayTypo) {
            switch random.below(3) {
            case 0: year += one(of: [-10, -1, 1, 10])
            case 1: month = 1 + random.below(12)
            default: day = 1 + random.below(29)
            }
        }
        return JalaliCalendar.day(year: year, month: month, day: day)
    }

    private mutating func slip(_ text: String, of letters: [String]) -> String {
        var parts = text.map(String.init)
        guard parts.count > 2 else { return text }
        let place = random.below(parts.count - 1)
        switch random.below(4) {
        case 0: parts[place] = one(of: letters)
        case 1: parts.remove(at: place)
        case 2: parts.insert(parts[place], at: place)
        default: parts.swapAt(place, place + 1)
        }
        return parts.joined()
    }
}
