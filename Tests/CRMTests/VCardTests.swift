import CRM
import Foundation
import TestKit
import Testing

/// The components of a file.
private func components(_ text: String, _ kinds: Set<String>) -> [ContentComponent] {
    var lines = ContentLineReader()
    var reader = ContentComponentReader(kinds)
    var found: [ContentComponent] = []
    for (number, line) in text.utf8.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated() {
        if let property = lines.take(Array(line), line: number + 1), let one = reader.take(property) {
            found.append(one)
        }
    }
    if let property = lines.finish(), let one = reader.take(property) { found.append(one) }
    if let one = reader.finish() { found.append(one) }
    return found
}

@Suite("vCard")
struct VCardTests {
    private var maryam: VCard {
        var card = VCard()
        card.uid = "customer-1-1@ab"
        card.revision = 1_795_317_330_123
        card.name = "مریم رضایی"
        card.familyName = "رضایی"
        card.givenName = "مریم"
        card.points = [
            .init(kind: "mobile", value: "+989121234567"), .init(kind: "phone", value: "+982188776655 ext 12"),
            .init(kind: "email", value: "m@example.ir"),
        ]
        card.address = .init(street: "ولیعصر، پلاک ۲", city: "تهران", province: "تهران", postalCode: "1969833511")
        card.birthDay = "1991-04-04"
        card.note = "یک; دو, سه\\\nچهار"
        return card
    }

    @Test("Version 4.0, byte for byte")
    func four() {
        let expected = [
            "BEGIN:VCARD", "VERSION:4.0", "PRODID:-//Peyvand//Peyvand//EN", "UID;VALUE=text:customer-1-1@ab",
            "KIND:individual", "FN:مریم رضایی", "N:رضایی;مریم;;;", "TEL;VALUE=uri;TYPE=cell:tel:+989121234567",
            "TEL;VALUE=uri;TYPE=voice:tel:+982188776655;ext=12", "EMAIL:m@example.ir",
            "ADR;TYPE=home:;;ولیعصر، پلاک ۲;تهران;تهران;196983351\r\n 1;", "BDAY:19910404",
            "NOTE:یک\\; دو\\, سه\\\\\\nچهار", "REV:20261122T031530Z", "END:VCARD", "",
        ]
        let text = maryam.text(.four)
        #expect(text.replacing("\r\n ", with: "") == expected.joined(separator: "\r\n").replacing("\r\n ", with: ""))
        #expect(text.components(separatedBy: "VERSION:").count == 2)
    }

    @Test("Version 3.0 says the same in the words of its time")
    func three() {
        let text = maryam.text(.three).replacing("\r\n ", with: "")
        for line in [
            "VERSION:3.0\r\n", "UID:customer-1-1@ab\r\n", "TEL;TYPE=CELL:+989121234567\r\n", "BDAY:1991-04-04\r\n",
            "REV:2026-11-22T03:15:30Z\r\n",
        ] { #expect(text.contains(line)) }
        #expect(!text.contains("KIND"))
        var company = VCard()
        company.name = "شرکت نور"
        company.isOrganisation = true
        #expect(company.text(.three).contains("X-ABShowAs:COMPANY\r\n"))
        #expect(company.text(.four).contains("KIND:org\r\n"))
    }

    @Test("Lines have at most 75 octets and are divided between characters")
    func folding() {
        var card = VCard()
        card.name = String(repeating: "می‌خواهم؛ ", count: 40)
        card.note = String(repeating: "e\u{301}👨‍👩‍👧", count: 40)
        for version in VCard.Version.allCases {
            let lines = card.text(version).utf8.split(separator: 0x0A)
            #expect(lines.allSatisfy { $0.count <= 76 && $0.last == 0x0D })
            for line in lines { #expect(String(validating: line, as: UTF8.self) != nil) }
        }
    }

    @Test("What is written comes back, in both versions", arguments: VCard.Version.allCases)
    func roundTrip(version: VCard.Version) throws {
        var random = SeededRandom(seed: testSeed("vCard"))
        let letters = ["ا", "ی", "\u{200C}", ";", ",", "\\", ":", "\"", "n", " ", "۵", "é", "="]
        func text(_ random: inout SeededRandom) -> String {
            PersianText.display((0...random.below(60)).map { _ in letters[random.below(letters.count)] }.joined())
        }
        for _ in 0..<200 {
            var card = VCard()
            card.uid = "x" + text(&random)
            card.revision = 1_795_317_330_000
            card.isOrganisation = random.oneIn(3)
            card.name = "ن" + text(&random)
            if !card.isOrganisation {
                card.familyName = text(&random)
                card.givenName = text(&random)
                card.title = text(&random)
            }
            card.points = [.init(kind: "phone", value: "x" + text(&random)), .init(kind: "email", value: "a@b")]
            card.address.street = text(&random)
            card.note = text(&random)
            let found = components(card.text(version), ["VCARD"])
            #expect(found.count == 1)
            let read = try VCard(#require(found.first))
            #expect(read.text(.four) == card.text(.four))
        }
    }

    @Test("Cards as telephones and mail programs write them are read")
    func others() throws {
        let text = """
            BEGIN:VCARD
            VERSION:2.1
            N;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=D8=B1=D8=B6=D8=A7;=D8=B9(soft)=D9=84=DB=8C;;;
            TEL;CELL;PREF:0912 123 4567
            TEL;WORK;FAX:02188776655
            END:VCARD
            BEGIN:VCARD\r
            VERSION:3.0\r
            N:Karimi;Sara;Jane;Dr.;\r
            FN:Sara\r
              Karimi\r
            item1.TEL;type=HOME;type=VOICE:(021) 8877 6655\r
            item1.X-ABLabel:_$!<Home>!$_\r
            TEL;TYPE="cell,voice":+98 935 111 22 33\r
            ADR;TYPE=HOME:;;Valiasr\\, 5;Tehran;Tehran;19698;Iran\r
            BDAY:1991-04-04T00:00:00Z\r
            PHOTO;ENCODING=b;TYPE=JPEG:AAAA\r
            ORG:Nour;Sales\r
            END:VCARD\r
            BEGIN:VCARD
            VERSION:3.0
            ORG:شرکت نور;
            FN:شرکت نور
            N:;;;;
            END:VCARD
            """.replacing("(soft)", with: "=\n")
        let cards = components(text, ["VCARD"]).map(VCard.init)
        #expect(cards.count == 3)
        #expect(cards[0].familyName == "رضا" && cards[0].givenName == "علی" && cards[0].name == "علی رضا")
        #expect(cards[0].points.map(\.kind) == ["mobile", "phone"] && cards[0].points[1].label == "fax")
        #expect(cards[1].name == "Sara Karimi" && cards[1].givenName == "Sara Jane" && cards[1].title == "Dr.")
        #expect(cards[1].points.map(\.kind) == ["phone", "mobile"])
        #expect(cards[1].address.street == "Valiasr, 5" && cards[1].birthDay == "1991-04-04")
        #expect(cards[1].organisation == "Nour، Sales")
        #expect(cards[2].isOrganisation && cards[2].name == "شرکت نور")
    }

    @Test("A card that is broken, endless or nested without end is told, and the others are read")
    func hostile() {
        let endless = (0..<20_000).map { "X-\($0):y" }.joined(separator: "\n")
        let nested = String(repeating: "BEGIN:VEVENT\n", count: 50_000)
        let long = "NOTE:" + String(repeating: "x", count: 3 << 20)
        let text = """
            BEGIN:VCARD
            FN:one
            BEGIN:VCARD
            FN:two
            \(endless)
            END:VCARD
            BEGIN:VCARD
            \(long)
            END:VCARD
            no colon
            :nothing
            BEGIN:VCARD
            FN:three
            END:VCARD
            BEGIN:VCARD
            FN:four
            \(nested)
            """
        let found = components(text, ["VCARD"])
        #expect(found.map(\.flaw) == [.noEnd, .tooLarge, .tooLarge, nil, .noEnd])
        #expect(found.map(\.line) == [1, 3, 20_006, 20_011, 20_014])
    }
}

@Suite("iCalendar")
struct ICalendarTests {
    @Test("A meeting, a task and a call are what calendars have for them")
    func kinds() throws {
        var meeting = CalendarEntry(kind: "meeting")
        meeting.uid = "activity-1-1@ab"
        meeting.createdAt = 1_795_317_330_123
        meeting.revision = 1_795_317_400_000
        meeting.at = 1_795_400_000_000
        meeting.seconds = 5400
        meeting.subject = "قرارداد; نهایی"
        meeting.customer = "customer-1-1@ab"
        meeting.customerName = "مریم"
        let text = meeting.text.replacing("\r\n ", with: "")
        for line in [
            "BEGIN:VEVENT", "UID:activity-1-1@ab", "DTSTAMP:20261122T031640Z", "SEQUENCE:69",
            "DTSTART:20261123T021320Z",
            "DURATION:PT5400S", "SUMMARY:قرارداد\\; نهایی", "CATEGORIES:MEETING", "CONTACT:مریم",
            "X-PEYVAND-CUSTOMER:customer-1-1@ab", "END:VEVENT",
        ] { #expect(text.contains(line + "\r\n"), "\(line)") }
        var task = CalendarEntry(kind: "task")
        task.dueAt = 1_795_400_000_000
        #expect(task.text.contains("BEGIN:VTODO\r\n") && task.text.contains("STATUS:NEEDS-ACTION\r\n"))
        task.doneAt = task.dueAt
        #expect(task.text.contains("STATUS:COMPLETED\r\n"))
        #expect(CalendarEntry(kind: "call").text.contains("BEGIN:VJOURNAL\r\n"))
    }

    @Test("What is written comes back, and a summary that is only the customer's name does not")
    func roundTrip() throws {
        for kind in ["call", "visit", "meeting", "message", "note", "task"] {
            var entry = CalendarEntry(kind: kind)
            entry.uid = "activity-1-1@ab"
            entry.createdAt = 1_795_317_330_000
            entry.revision = 1_795_317_400_000
            entry.at = 1_795_400_000_000
            entry.body = "یک\nدو, سه"
            entry.customerName = "مریم"
            let found = components(CalendarEntry.beginning + entry.text + CalendarEntry.end, CalendarEntry.components)
            let component = try #require(found.first)
            let read = try #require(CalendarEntry(component))
            #expect(read.kind == kind && read.at == entry.at && read.uid == entry.uid && read.subject.isEmpty)
            #expect(read.revision == entry.revision && read.createdAt == entry.createdAt)
        }
    }

    @Test("Times in UTC, in Tehran before and after the clocks stood still, of other zones, and whole days")
    func zones() throws {
        func at(_ start: String) -> Int64? {
            let text = "BEGIN:VEVENT\n\(start)\nEND:VEVENT"
            return components(text, CalendarEntry.components).first.flatMap(CalendarEntry.init)?.at
        }
        func milliseconds(_ text: String) -> Int64? { CivilTime.milliseconds(ofRFC3339: text) }
        #expect(at("DTSTART:20261123T021320Z") == milliseconds("2026-11-23T02:13:20Z"))
        #expect(at("DTSTART;TZID=Asia/Tehran:20261123T054320") == milliseconds("2026-11-23T02:13:20Z"))
        #expect(at("DTSTART:20261123T054320") == milliseconds("2026-11-23T02:13:20Z"))
        // Summer time, for the last time in 2022.
        #expect(at("DTSTART;TZID=Asia/Tehran:20220701T120000") == milliseconds("2022-07-01T07:30:00Z"))
        #expect(at("DTSTART;TZID=Asia/Tehran:20230701T120000") == milliseconds("2023-07-01T08:30:00Z"))
        #expect(at("DTSTART;TZID=Europe/Berlin:20230701T120000") == milliseconds("2023-07-01T10:00:00Z"))
        #expect(at("DTSTART;VALUE=DATE:20261123") == milliseconds("2026-11-22T20:30:00Z"))
        #expect(at("DTSTART;TZID=Nowhere/At All:20230701T120000") == nil)
        #expect(at("DTSTART:20261323T021320Z") == nil)
        #expect(at("DTSTART:2026") == nil)
    }

    @Test("Events of other programs: an end instead of a duration, an alarm inside, a rule of repetition")
    func others() throws {
        let text = """
            BEGIN:VCALENDAR
            BEGIN:VEVENT
            UID:1
            DTSTART:20261123T021320Z
            DTEND:20261123T031320Z
            SUMMARY:Weekly
            RRULE:FREQ=WEEKLY
            BEGIN:VALARM
            UID:9
            DESCRIPTION:wake
            END:VALARM
            END:VEVENT
            BEGIN:VTODO
            UID:2
            DURATION:P1DT2H3M4S
            STATUS:CANCELLED
            END:VTODO
            END:VCALENDAR
            """
        let entries = components(text, CalendarEntry.components).compactMap(CalendarEntry.init)
        #expect(entries.map(\.kind) == ["meeting", "task"])
        #expect(entries[0].seconds == 3600 && entries[0].isRepeated && entries[0].uid == "1" && entries[0].body.isEmpty)
        #expect(entries[1].seconds == 93_784 && entries[1].isCancelled)
    }
}
