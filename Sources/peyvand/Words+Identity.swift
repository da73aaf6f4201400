import CRM

// Sentences about records that are one customer.

extension Words {
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
}
