import Testing

@testable import CRM

@Suite("Names of people and organisations")
struct PersonNameTests {
    @Test(
        "A name in one text falls into given and family name, compounds whole",
        arguments: [
            ("علی کریمی", "علی", "کریمی"), ("محمد رضا کریمی", "محمدرضا", "کریمی"),
            ("محمد‌رضا کریمی", "محمدرضا", "کریمی"),
            ("علی حسین زاده", "علی", "حسینزاده"), ("عبد الله نوری", "عبدالله", "نوری"), ("مریم", "مریم", ""),
            ("مریم کریمی تهرانی", "مریم", "کریمیتهرانی"), ("محمد کریمی", "محمد", "کریمی"), ("", "", ""),
            ("فاطمه زهرا نوری", "فاطمهزهرا", "نوری"),
        ]
    )
    func oneText(name: String, given: String, family: String) {
        let found = PersonName(name: name, given: nil, family: nil)
        #expect(bytes(found.given) == bytes(given))
        #expect(bytes(found.family) == bytes(family))
    }

    @Test("Titles in front are moved aside, and a family name that is a title word stays")
    func titles() {
        let doctor = PersonName(name: "جناب آقای دکتر علی اکبر کریمی", given: nil, family: nil)
        #expect(doctor.titles == ["جناب", "اقای", "دکتر"])
        #expect(doctor.given == "علیاکبر" && doctor.family == "کریمی")
        let pilgrim = PersonName(name: "علی مشهدی", given: nil, family: nil)
        #expect(pilgrim.titles == [] && pilgrim.family == "مشهدی")
    }

    @Test("Marks of descent are ignored, unless there is nothing else")
    func descent() {
        let one = PersonName(name: "فاطمه سادات موسوی", given: nil, family: nil)
        #expect(one == PersonName(name: "فاطمه‌السادات موسوی", given: nil, family: nil))
        #expect(PersonName(name: nil, given: "سیّد", family: "موسوی").given == "سید")
    }

    @Test("Separate parts are believed before the name in one text")
    func parts() {
        let name = PersonName(name: "کریمی علی", given: "علي", family: "كريمي")
        #expect(name.given == "علی" && name.family == "کریمی")
    }

    @Test("Every pair of the vectors may be one person")
    func vectors() {
        for pair in PersianVectors.shared.namePairs {
            let left = MatchingRecord(id: record(1), name: pair.a)
            let right = MatchingRecord(id: record(2), name: pair.b)
            #expect(pair.samePersonPossible)
            #expect(MatchingComparison().score(left, right) >= MatchingWeights.customers.threshold, "\(pair.a)")
        }
    }

    @Test("Every title and mark of descent of the vectors is known")
    func vectorWords() {
        for title in PersianVectors.shared.namePrefix.stripToAttribute {
            #expect(PersonName(name: "\(title) مریم نوری", given: nil, family: nil).given == "مریم", "\(title)")
        }
        for mark in PersianVectors.shared.namePrefix.keepAsFlag {
            #expect(PersonName(name: "\(mark) مریم نوری", given: nil, family: nil).given == "مریم", "\(mark)")
        }
    }

    @Test(
        "Organisations compare without the words of their legal form",
        arguments: [
            ("شرکت پارس نوین (سهامی خاص)", "پارسنوین"), ("پارس‌نوین با مسئولیت محدود", "پارسنوین"),
            ("مؤسسه پارس نوین", "پارسنوین"), ("شرکت", "شرکت"), ("سهامی", "سهامی"),
        ]
    )
    func organisations(name: String, comparable: String) {
        #expect(bytes(OrganisationName.comparable(name)) == bytes(comparable))
    }
}
