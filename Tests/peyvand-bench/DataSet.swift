import CRM
import Causality
import TestKit

/// Customers and their activities, as a seed draws them: Persian names, and texts of about 120 characters.
struct DataSet {
    /// One row, by column number; the first value is the identifier's place and null.
    typealias Values = [FieldValue]

    private(set) var customers: [Values] = []
    /// With the index of the customer that each belongs to.
    private var drawnActivities: [(customer: Int, values: Values)] = []

    init(customers count: Int, activitiesEach: Int, seed: UInt64) {
        var random = SeededRandom(seed: seed)
        customers.reserveCapacity(count)
        drawnActivities.reserveCapacity(count * activitiesEach)
        let customer = ColumnPlaces(.customer)
        let activity = ColumnPlaces(.activity)
        for number in 0..<count {
            customers.append(
                customer.values([
                    "createdAt": .integer(Self.moment(&random)),
                    "kind": .text("person"),
                    "name": .text("\(Self.pick(Self.givenNames, &random)) \(Self.pick(Self.familyNames, &random))"),
                    "nationalCode": .text(String(1_000_000_000 + number * 7)),
                    "mobile": .text("+98912\(1_000_000 + number)"),
                    "city": .text(Self.pick(Self.cities, &random)),
                    "street": .text(Self.text(&random, characters: 24)),
                ])
            )
            for _ in 0..<activitiesEach {
                drawnActivities.append(
                    (
                        number,
                        activity.values([
                            "createdAt": .integer(Self.moment(&random)),
                            "kind": .text(Self.pick(["call", "visit", "meeting", "message"], &random)),
                            "direction": .text(Self.pick(["in", "out"], &random)),
                            "subject": .text(Self.text(&random, characters: 20)),
                            "body": .text(Self.text(&random, characters: 120)),
                            "at": .integer(Self.moment(&random)),
                        ])
                    )
                )
            }
        }
    }

    /// The activities, each with the identifier of its customer. Of fewer identifiers than customers some serve several.
    func activities(of customers: [RowID]) -> [Values] {
        let place = ColumnPlaces(.activity)["customer"]
        return drawnActivities.map { activity in
            var values = activity.values
            values[place] = .integer(customers[activity.customer % customers.count].rawValue)
            return values
        }
    }

    /// So many new activities, of customers that are there.
    static func activities(_ count: Int, of customers: [RowID], seed: UInt64) -> [Values] {
        var random = SeededRandom(seed: seed)
        let each = 5
        let chosen = (0..<(count + each - 1) / each).map { _ in customers[random.below(customers.count)] }
        let drawn = DataSet(customers: chosen.count, activitiesEach: each, seed: seed)
        return Array(drawn.activities(of: chosen).prefix(count))
    }

    /// Some words, of at least so many characters.
    private static func text(_ random: inout SeededRandom, characters: Int) -> String {
        var text = pick(words, &random)
        while text.unicodeScalars.count < characters { text += " " + pick(words, &random) }
        return text
    }

    private static func pick(_ choices: [String], _ random: inout SeededRandom) -> String {
        choices[random.below(choices.count)]
    }

    /// In the years before 2026.
    private static func moment(_ random: inout SeededRandom) -> Int64 {
        1_600_000_000_000 + Int64(random.below(160_000_000)) * 1000
    }

    private static let givenNames = [
        "مریم", "زهرا", "فاطمه", "نرگس", "سارا", "لیلا", "علی", "محمد", "رضا", "حسین", "امیر", "مهدی", "کاوه", "آرش",
    ]
    private static let familyNames = [
        "محمدی", "حسینی", "احمدی", "رضایی", "کریمی", "موسوی", "جعفری", "صادقی", "رحیمی", "ابراهیمی", "یزدانی", "شیرازی",
    ]
    private static let cities = ["تهران", "مشهد", "اصفهان", "شیراز", "تبریز", "قم", "کرج", "اهواز", "رشت", "یزد"]
    private static let words = [
        "مشتری", "تماس", "گرفت", "و", "درباره", "سفارش", "تازه", "پرسید", "قرار", "شد", "فردا", "قیمت", "برای", "او",
        "فرستاده", "شود", "تحویل", "کالا", "دیر", "رسیده", "است", "می‌خواهد", "حضوری", "بیاید", "شماره", "جدید", "داد",
        "نماینده", "شهرستان", "پیگیری", "کند", "قرارداد", "امضا", "نشده", "مدارک", "ناقص", "ماند", "تخفیف",
    ]
}

/// Where the columns of a table lie, by name.
struct ColumnPlaces {
    private let table: TableDescription
    private let byName: [String: Int]

    init(_ table: TableDescription) {
        self.table = table
        byName = Dictionary(uniqueKeysWithValues: table.columns.map { ($0.name, $0.number) })
    }

    subscript(name: String) -> Int {
        guard let number = byName[name] else { preconditionFailure("\(table.name) has no column \(name)") }
        return number
    }

    /// A row with these values, and null everywhere else.
    func values(_ named: [String: FieldValue]) -> DataSet.Values {
        var values = [FieldValue](repeating: .null, count: table.columns.count)
        for (name, value) in named { values[self[name]] = value }
        return values
    }
}
