import CRM

// What the page of a customer says.

extension Words {
    var comma: String { choose(", ", "، ") }
    var from: String { choose("from", "از") }
    var because: String { choose("because", "چرا") }
    var otherwise: String { choose("others say", "دیگران") }
    var with: String { choose("with", "با") }
    var contactPoints: String { choose("Ways to reach", "راه‌های تماس") }
    var relations: String { choose("Relations", "ارتباط‌ها") }
    var mayBeTheSame: String {
        choose(
            "May be the same customer; `customer link` or `customer unlink` settles it",
            "شاید همین مشتری باشد؛ `customer link` یا `customer unlink` تکلیف را روشن می‌کند"
        )
    }

    /// Why a value stands and not another.
    func word(of rule: SurvivingFields.Rule) -> String {
        switch rule {
        case .only: choose("only value", "تنها مقدار")
        case .agreed: choose("all agree", "همه یکسان")
        case .pinned: choose("pinned", "ثابت‌شده")
        case .valid: choose("valid", "معتبر")
        case .verified: choose("verified", "راستی‌آزمایی‌شده")
        case .source: choose("better source", "منبع بهتر")
        case .confirmed: choose("confirmed later", "تأیید تازه‌تر")
        case .longer: choose("says more", "کامل‌تر")
        case .smallest: choose("smallest number", "کوچک‌ترین شماره")
        case .furthest: choose("furthest", "پیش‌تر از همه")
        case .united: choose("all together", "همه با هم")
        case .cautious: choose("caution", "احتیاط")
        case .earliest: choose("earliest", "نخستین")
        case .latest: choose("latest", "آخرین")
        }
    }

    /// How somebody stands to this customer, or this customer to somebody.
    func relation(_ kind: String, isOfOther: Bool) -> String {
        let words: (english: String, persian: String) =
            switch (kind, isOfOther) {
            case ("employee", true): ("employee", "کارمند")
            case ("employee", false): ("works at", "کارمندِ")
            case ("contactPerson", true): ("contact person", "رابط")
            case ("contactPerson", false): ("contact person of", "رابطِ")
            case ("manager", true): ("manager", "مدیر")
            case ("manager", false): ("manager of", "مدیرِ")
            case ("family", _): ("family", "خویشاوند")
            case ("referredBy", true): ("has referred", "معرفی کرده")
            case ("referredBy", false): ("referred by", "معرف")
            case ("subsidiaryOf", true): ("subsidiary", "شرکت تابعه")
            case ("subsidiaryOf", false): ("subsidiary of", "تابعهٔ")
            case ("partnerOf", _): ("partner", "شریک")
            case ("supplierOf", true): ("supplier", "تأمین‌کننده")
            case ("supplierOf", false): ("supplies", "تأمین‌کنندهٔ")
            default: (kind, kind)
            }
        return choose(words.english, words.persian)
    }

    /// What all records add up to.
    func sums(_ sums: CustomerView.Sums) -> String {
        var parts: [String] = []
        if sums.invoices + sums.creditNotes > 0 {
            parts.append(
                choose(
                    "Sale \(money(sums.sale)) rial in \(number(sums.invoices)) invoices, \(number(sums.creditNotes)) credit notes",
                    "فروش \(money(sums.sale)) ریال در \(number(sums.invoices)) فاکتور و \(number(sums.creditNotes)) برگشت"
                )
            )
        }
        if sums.orders > 0 {
            parts.append(
                choose(
                    "inquiries, quotes and orders: \(number(sums.orders))",
                    "استعلام و سفارش: \(number(sums.orders))"
                )
            )
        }
        if sums.activities > 0 {
            parts.append(choose("activities: \(number(sums.activities))", "فعالیت: \(number(sums.activities))"))
        }
        if let first = sums.firstContact, let last = sums.lastContact, first != last {
            parts.append(
                choose(
                    "first contact \(time(first)), last \(time(last))",
                    "نخستین تماس \(time(first)) و آخرین \(time(last))"
                )
            )
        }
        return parts.isEmpty ? "" : parts.joined(separator: choose("; ", "؛ ")) + "\n"
    }

    /// Links that were left out because somebody decided otherwise.
    func contradictions(of view: CustomerView) -> String {
        view.contradictions.map { left in
            let pair = left.id.replacing(" ", with: comma)
            let different = left.different.replacing(" ", with: comma)
            return choose(
                "\(pair) would be one customer too, but \(different) are decided to differ. Decide again about either pair "
                    + "with `customer link` or `customer unlink`.\n",
                "\(pair) هم یک مشتری به شمار می‌آمد، ولی دربارهٔ \(different) تصمیم گرفته شده که یکی نیستند. دربارهٔ یکی از "
                    + "این دو جفت با `customer link` یا `customer unlink` دوباره تصمیم بگیرید.\n"
            )
        }.joined()
    }
}
