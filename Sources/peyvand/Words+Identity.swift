import CRM

// Sentences about records that are one customer.

extension Words {
    var score: String { choose("score", "امتیاز") }
    var reasons: String { choose("reasons", "دلیل‌ها") }
    var noDuplicates: String { choose("No likely duplicates.\n", "رکورد تکراری محتملی نیست.\n") }

    /// Why a pair got its score: each field with how it compares and what that weighs.
    func reasons(of pair: PrintedDuplicate) -> String {
        pair.reasons.map { reason in
            let weight = reason.weight < 0 ? "\(reason.weight)" : "+\(reason.weight)"
            return "\(title(reason.field)) \(level(reason.level)) \(weight)"
        }.joined(separator: ", ")
    }

    private func level(_ level: String) -> String {
        switch MatchingLevel(rawValue: level) {
        case .equal: choose("equal", "برابر")
        case .close: choose("close", "نزدیک")
        case .different: choose("different", "ناهمانند")
        case nil: level
        }
    }

    /// How many of all are shown; nothing when all are.
    func shown(_ count: Int, of total: Int) -> String {
        guard count < total else { return "" }
        return choose(
            "\(count) of \(total) pairs; --limit shows more.\n",
            "\(count) از \(total) جفت؛ --limit بیشتر نشان می‌دهد.\n"
        )
    }

    /// Who is one customer after a decision.
    func decided(_ written: WrittenDecision) -> String {
        let unchanged =
            written.position == nil
            ? choose("It was decided so already.\n", "پیش‌تر هم همین تصمیم گرفته شده بود.\n") : ""
        guard written.members.count > 1 else {
            return unchanged
                + choose("\(written.id) stands alone.\n", "\(written.id) جدا از دیگران است.\n")
        }
        let members = written.members.joined(separator: ", ")
        return unchanged
            + choose(
                "One customer now: \(members). Its number is \(written.golden).\n",
                "اکنون یک مشتری: \(members). شمارهٔ آن \(written.golden) است.\n"
            )
    }

    /// Which records a page is about, if there are several.
    func members(of view: CustomerView) -> String {
        guard view.members.count > 1 else { return "" }
        let members = view.members.joined(separator: ", ")
        return choose("Records of this customer: \(members)\n", "رکوردهای این مشتری: \(members)\n")
    }

    // MARK: Values that are nobody's own

    var noGenericValues: String { choose("None are named.\n", "هیچ‌یک نام برده نشده است.\n") }

    func namedGeneric(_ value: String) -> String {
        choose(
            "\(value) makes no two records one customer any more, at every office that hears of it.\n",
            "\(value) از این پس در هیچ شعبه‌ای دو پرونده را یکی نمی‌کند.\n"
        )
    }

    func removedGeneric(_ value: String) -> String {
        choose("\(value) counts again.\n", "\(value) دوباره به حساب می‌آید.\n")
    }
}
