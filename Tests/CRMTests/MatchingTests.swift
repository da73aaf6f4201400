import Causality
import MatchingKit
import TestKit
import Testing

@testable import CRM

/// The identifier of a record of branch 2.
func record(_ counter: Int64) -> RowID { RowID(rawValue: 2 << RowID.counterBits | counter)! }

@Suite("Matching customers")
struct MatchingTests {
    private let comparison = MatchingComparison()

    private func level(_ left: String, _ right: String) -> MatchingLevel? {
        MatchingComparison.nameLevel(Array(left.utf16), Array(right.utf16))
    }

    @Test("Names are equal, close or different as people would say")
    func names() {
        #expect(level("رضایی", "رضایی") == .equal)
        #expect(level("صادقی", "صاقدی") == .close)
        #expect(level("کریمی", "رحیمی") == .different)
        // Beginning alike is not being alike.
        #expect(level("علی", "علیرضا") == .different)
        #expect(level("محمد", "محمدعلی") == .different)
        #expect(level("علی", "") == nil)
    }

    @Test("One step is one letter more, fewer or other, or two neighbours swapped")
    func oneStep() {
        func isNear(_ left: String, _ right: String) -> Bool {
            Likeness.isWithinOneStep(Array(left.utf16), Array(right.utf16))
        }
        for (left, right) in [("abcd", "abcd"), ("abcd", "abc"), ("abcd", "xabcd"), ("abcd", "abxd"), ("abcd", "bacd")]
        {
            #expect(isNear(left, right) && isNear(right, left), "\(left) \(right)")
        }
        for (left, right) in [("abcd", "ab"), ("abcd", "badc"), ("abcd", "dbca"), ("abc", "bca"), ("", "ab")] {
            #expect(!isNear(left, right) && !isNear(right, left), "\(left) \(right)")
        }
    }

    @Test("Numbers are within one step exactly when their digits are")
    func digits() {
        var random = SeededRandom(seed: testSeed("Digits within one step"))
        for _ in 0..<20_000 {
            let left = UInt64(10_000_000 + random.below(90_000_000))
            var text = String(left).utf16.map { $0 }
            for _ in 0...random.below(2) {
                let place = random.below(7)
                if random.oneIn(2) {
                    text.swapAt(place, place + 1)
                } else {
                    text[place + 1] = UInt16(48 + random.below(10))
                }
            }
            guard text[0] != 48, let right = UInt64(String(decoding: text, as: UTF16.self)) else { continue }
            let expected = Likeness.isWithinOneStep(Array(String(left).utf16), text)
            #expect(Likeness.isWithinOneStep(left, right) == expected, "\(left) \(right)")
        }
    }

    @Test(
        "Whole numbers decide as the formula of Jaro and Winkler does",
        arguments: [
            // Published pairs: Winkler 1994.
            ("martha", "marhta", 961), ("dwayne", "duane", 840), ("dixon", "dicksonx", 813), ("jones", "johnson", 832),
            ("abroms", "abrams", 922), ("dunningham", "cunnigham", 896), ("nichleson", "nichulson", 956),
        ]
    )
    func jaroWinkler(left: String, right: String, thousandths: Int) {
        let (one, other) = (Array(left.utf16), Array(right.utf16))
        #expect(Likeness.reachesJaroWinkler(one, other, percent: thousandths / 10))
        #expect(Likeness.reachesJaroWinkler(other, one, percent: thousandths / 10))
        #expect(!Likeness.reachesJaroWinkler(one, other, percent: thousandths / 10 + 1))
    }

    @Test("Two valid national codes are two people, however alike; a slip in one is not")
    func codes() {
        func reason(_ left: String, _ right: String) -> MatchingLevel? {
            let pair = [left, right].enumerated().map { MatchingRecord(id: record(Int64($0 + 1)), nationalCode: $1) }
            return comparison.reasons(pair[0], pair[1]).first?.level
        }
        #expect(reason("0012345679", "12345679") == .equal)
        #expect(reason("0012345679", "0012345678") == .close)
        #expect(reason("0012345678", "0012345678") == .close)
        #expect(reason("0012345679", "0684159414") == .different)
        #expect(reason("0012345679", "9912345670") == .different)
    }

    @Test("What is missing on either side counts for nothing")
    func missing() {
        let left = MatchingRecord(id: record(1), givenName: "علی", familyName: "نوری", birthDay: "1970-01-01")
        let right = MatchingRecord(id: record(2), familyName: "نوری", nationalCode: "0012345679", city: "یزد")
        #expect(comparison.score(left, right) == 4)
        #expect(comparison.reasons(left, right).map(\.field) == [.familyName])
    }

    @Test("Score and reasons agree, and the order of the two does not matter")
    func symmetric() {
        var generator = CustomerGenerator(seed: testSeed("Scores of pairs"))
        let entries = generator.entries(people: 300)
        for left in entries {
            for right in entries.prefix(60) {
                let score = comparison.score(left.record, right.record)
                #expect(comparison.reasons(left.record, right.record).reduce(0) { $0 + $1.weight } == score)
                #expect(comparison.score(right.record, left.record) == score)
                #expect(comparison.rule(left.record, right.record) == comparison.rule(right.record, left.record))
            }
        }
    }

    @Test("Rules link by a code with alike names, or by mobile, birth day and names; never by a phone alone")
    func rules() {
        func make(_ counter: Int64, _ given: String, day: String?, code: String?, mobile: String?) -> MatchingRecord {
            MatchingRecord(
                id: record(counter),
                givenName: given,
                familyName: "نوری",
                birthDay: day,
                nationalCode: code,
                mobile: mobile
            )
        }
        let (mobile, day, code) = ("09121234567", "1970-01-01", "0012345679")
        let one = make(1, "علی", day: day, code: code, mobile: mobile)
        #expect(comparison.rule(one, make(2, "علی", day: nil, code: code, mobile: nil)) == .code)
        #expect(comparison.rule(one, make(2, "مریم", day: nil, code: code, mobile: mobile)) == nil)
        #expect(comparison.rule(one, make(2, "علی", day: "1988-05-27", code: code, mobile: mobile)) == nil)
        #expect(comparison.rule(one, make(2, "علی", day: day, code: nil, mobile: mobile)) == .mobileAndBirthDay)
        #expect(comparison.rule(one, make(2, "علی", day: day, code: "0684159414", mobile: mobile)) == nil)
        #expect(comparison.rule(one, make(2, "علی", day: nil, code: nil, mobile: mobile)) == nil)
    }

    @Test("A phone of many different names says nothing any more, and speaks again when they are gone")
    func genericPhone() {
        var index = MatchingIndex()
        let names = "کریمی رحیمی نوری صادقی فلاح گنجی بیات راد تقوی همتی زمانی".split(separator: " ").map(String.init)
        func person(_ number: Int) -> MatchingRecord {
            MatchingRecord(id: record(Int64(number + 1)), familyName: names[number], phones: ["02112345678"])
        }
        for number in 0..<10 { #expect(index.set(person(number)) == []) }
        let again = MatchingRecord(id: record(50), familyName: names[0], phones: ["02112345678"])
        #expect(index.matches(of: again).likely.map(\.score) == [10])
        #expect(index.set(person(10)).count == 10)
        #expect(index.matches(of: again).likely == [])
        #expect(index.remove(record(11)).count == 10)
        #expect(index.matches(of: again).likely.count == 1)
        let named = MatchingIndex(named: Set(GenericValues.keys(of: "021-12345678")))
        #expect(named.comparing.score(person(0), again) == 4)
    }

    @Test("Adding, changing and removing one by one leaves what matching the whole finds")
    func incremental() {
        let seed = testSeed("Matching one by one")
        var random = SeededRandom(seed: seed)
        var generator = CustomerGenerator(seed: seed)
        let entries = generator.entries(people: 400)
        var index = MatchingIndex()
        var present: [RowID: MatchingRecord] = [:]
        for _ in 0..<3000 {
            let chosen = entries[random.below(entries.count)].record
            if random.oneIn(3) {
                index.remove(chosen.id)
                present[chosen.id] = nil
            } else {
                index.set(chosen)
                present[chosen.id] = chosen
            }
        }
        var whole = MatchingIndex()
        for record in present.values.sorted(by: { $0.id > $1.id }) { whole.set(record) }
        let expected = whole.allMatches()
        #expect(index.allMatches().likely == expected.likely)
        #expect(index.allMatches().links == expected.links)
        #expect(!expected.links.isEmpty)
        for record in present.values.sorted(by: { $0.id < $1.id }).prefix(100) {
            let own = expected.likely.filter { $0.pair.low == record.id || $0.pair.high == record.id }
            #expect(index.matches(of: record).likely == own)
        }
    }

    @Test("FEBRL people are found from one threshold on", arguments: [("dataset1", 0.985), ("dataset2", 0.975)])
    func febrl(name: String, floor: Double) throws {
        let entries = try FEBRLFile.entries(name)
        let matches = MatchingIndex(entries, weights: .febrl).allMatches()
        #expect(MatchingResult(matches.likely.map(\.pair), among: entries).f1 >= floor)
    }

    @Test("Links by rule between invented customers are right", arguments: 1...3)
    func ruleLinks(seed: UInt64) {
        var generator = CustomerGenerator(seed: seed, noise: .first)
        let entries = generator.entries(people: 6000)
        let links = MatchingResult(MatchingIndex(entries).allMatches().links.map(\.pair), among: entries)
        #expect(links.found > 500)
        #expect(links.precision >= 0.999)
    }
}
