import Causality

/// A customer as address books know it.
///
/// - Source: RFC 6350 for version 4.0, RFC 2426 for 3.0; 2.1 is read as telephones still write it.
package struct VCard: Hashable, Sendable {
    /// What it is written as.
    package enum Version: String, Hashable, Sendable, CaseIterable {
        case four = "4.0"
        case three = "3.0"
    }

    /// A number, address or page.
    package struct Point: Hashable, Sendable {
        /// As a contact point has it: `mobile`, `phone`, `email`, `web`, `address`.
        package let kind: String
        package let value: String
        package var label: String?

        package init(kind: String, value: String, label: String? = nil) {
            (self.kind, self.value, self.label) = (kind, value, label)
        }
    }

    /// A postal address.
    package struct Address: Hashable, Sendable {
        package var street = ""
        package var city = ""
        package var province = ""
        package var postalCode = ""

        package var isEmpty: Bool { [street, city, province, postalCode].allSatisfy(\.isEmpty) }

        package init(street: String = "", city: String = "", province: String = "", postalCode: String = "") {
            (self.street, self.city, self.province, self.postalCode) = (street, city, province, postalCode)
        }
    }

    /// The same for the same customer, whenever it is written.
    package var uid: String?
    /// When the customer was last changed, in milliseconds since 1970-01-01 UTC.
    package var revision: Int64?
    package var isOrganisation = false
    package var name = ""
    /// Whether the name is made of something else, since a card must have one. Whoever reads it back leaves it out.
    package var isNameDerived = false
    package var familyName = ""
    package var givenName = ""
    package var title = ""
    /// The organisation that a person works for.
    package var organisation = ""
    package var address = Address()
    /// The first of each kind is the customer's own, the others are further ones.
    package var points: [Point] = []
    /// `YYYY-MM-DD`.
    package var birthDay: String?
    package var note = ""
    /// Codes of the state, by the name of the field: only for those who may have them.
    package var codes: [(field: String, value: String)] = []

    package init() {}

    package static func == (left: VCard, right: VCard) -> Bool {
        left.properties(.four) == right.properties(.four)
    }

    package func hash(into hasher: inout Hasher) { hasher.combine(properties(.four)) }

    // MARK: Writing

    /// The card with its line breaks.
    package func text(_ version: Version) -> String {
        let lines =
            [ContentLine("BEGIN", value: "VCARD"), ContentLine("VERSION", value: version.rawValue)]
            + properties(version) + [ContentLine("END", value: "VCARD")]
        return lines.map(\.folded).joined()
    }

    private func properties(_ version: Version) -> [ContentLine] {
        let isFour = version == .four
        var lines = [ContentLine("PRODID", value: "-//Peyvand//Peyvand//EN")]
        if let uid { lines.append(ContentLine("UID", isFour ? [("VALUE", "text")] : [], text: uid)) }
        if isFour {
            lines.append(ContentLine("KIND", value: isOrganisation ? "org" : "individual"))
        } else if isOrganisation {
            // Version 3.0 has no word for it; this is what address books of several makers read.
            lines.append(ContentLine("X-ABShowAs", value: "COMPANY"))
        }
        lines.append(ContentLine("FN", isNameDerived ? ContentLine.derived : [], text: name))
        let parts = isOrganisation ? ["", "", "", "", ""] : [familyName, givenName, "", title, ""]
        lines.append(ContentLine("N", value: parts.map(ContentLine.escaped).joined(separator: ";")))
        let employer = isOrganisation ? name : organisation
        if !employer.isEmpty { lines.append(ContentLine("ORG", text: employer)) }
        lines += points.map { Self.line(of: $0, isFour) }
        if !address.isEmpty {
            let parts = ["", "", address.street, address.city, address.province, address.postalCode, ""]
            let value = parts.map(ContentLine.escaped).joined(separator: ";")
            lines.append(ContentLine("ADR", [("TYPE", isOrganisation ? "work" : "home")], value: value))
        }
        if let birthDay {
            lines.append(ContentLine("BDAY", value: isFour ? birthDay.replacing("-", with: "") : birthDay))
        }
        for code in codes {
            lines.append(ContentLine("X-PEYVAND-" + code.field.uppercased(), text: code.value))
        }
        if !note.isEmpty { lines.append(ContentLine("NOTE", text: note)) }
        if let time = revision.flatMap({ ContentTime.text(ofMilliseconds: $0, isBasic: isFour) }) {
            lines.append(ContentLine("REV", value: time))
        }
        return lines
    }

    private static func line(of point: Point, _ isFour: Bool) -> ContentLine {
        switch point.kind {
        case "mobile", "phone":
            let type = point.kind == "mobile" ? (isFour ? "cell" : "CELL") : (isFour ? "voice" : "VOICE")
            let parts = point.value.split(separator: " ", maxSplits: 1)
            let number = parts.first.map(String.init) ?? ""
            guard isFour, number.hasPrefix("+"), number.dropFirst().allSatisfy(\.isASCIIDigit) else {
                return ContentLine("TEL", [("TYPE", type)], text: point.value)
            }
            let tail = parts.count == 2 ? parts[1].filter(\.isASCIIDigit) : ""
            let uri = "tel:\(number)" + (tail.isEmpty ? "" : ";ext=\(tail)")
            return ContentLine("TEL", [("VALUE", "uri"), ("TYPE", type)], value: uri)
        case "email": return ContentLine("EMAIL", text: point.value)
        case "web": return ContentLine("URL", value: point.value.filter { !$0.isNewline })
        default:
            let value = ";;" + ContentLine.escaped(point.value) + ";;;;"
            return ContentLine("ADR", [("TYPE", "other")], value: value)
        }
    }

    // MARK: Reading

    /// Reads a card; what it says beyond what a customer has is left out.
    package init(_ component: ContentComponent) {
        func text(_ name: String) -> String { component.first(name).map { PersianText.display($0.text) } ?? "" }
        let parts = component.first("N")?.parts().map(PersianText.display) ?? []
        func part(_ index: Int) -> String { index < parts.count ? parts[index] : "" }
        uid = component.first("UID").map { PersianText.display($0.text) }.flatMap { $0.isEmpty ? nil : $0 }
        revision = component.first("REV").flatMap { ContentTime.milliseconds(of: $0.value, zone: "UTC") }
        let organisation = component.first("ORG")?.parts().map(PersianText.display).filter { !$0.isEmpty } ?? []
        let formatted = component.first("FN").map { $0.isDerived ? "" : PersianText.display($0.text) } ?? ""
        let isCompany =
            text("KIND").lowercased() == "org" || text("X-ABSHOWAS").lowercased() == "company"
            || parts.allSatisfy(\.isEmpty) && !organisation.isEmpty
                && (formatted.isEmpty || formatted == organisation[0])
        isOrganisation = isCompany
        if isCompany {
            name = formatted.isEmpty ? organisation.first ?? "" : formatted
        } else {
            familyName = part(0)
            givenName = [part(1), part(2)].filter { !$0.isEmpty }.joined(separator: " ")
            title = part(3)
            name =
                formatted.isEmpty
                ? [givenName, familyName].filter { !$0.isEmpty }.joined(separator: " ") : formatted
            self.organisation = organisation.joined(separator: "، ")
        }
        points = component.properties.compactMap(Self.point)
        var addresses = component.all("ADR").map(Self.address).filter { !$0.isEmpty }
        if !addresses.isEmpty { address = addresses.removeFirst() }
        for other in addresses {
            let value = [other.province, other.city, other.street, other.postalCode].filter { !$0.isEmpty }
            points.append(Point(kind: "address", value: value.joined(separator: "، ")))
        }
        birthDay = component.first("BDAY").flatMap { ContentTime.day(of: $0.value) }
        note = text("NOTE")
        for line in component.properties where line.name.hasPrefix("X-PEYVAND-") {
            codes.append((String(line.name.dropFirst("X-PEYVAND-".count)), PersianText.display(line.text)))
        }
    }

    private static func point(_ line: ContentLine) -> Point? {
        let value = PersianText.display(line.text)
        guard !value.isEmpty else { return nil }
        switch line.name {
        case "TEL":
            let types = line.values("TYPE")
            var number = value
            if number.lowercased().hasPrefix("tel:") {
                let parts = number.dropFirst(4).split(separator: ";")
                let ext = parts.dropFirst().first { $0.lowercased().hasPrefix("ext=") }?.dropFirst(4)
                number = (parts.first.map(String.init) ?? "") + (ext.map { " ext \($0)" } ?? "")
            }
            if types.contains("fax") { return Point(kind: "phone", value: number, label: "fax") }
            let isMobile = PhoneNumber.read(number).value.map { $0.kind == .mobile } ?? types.contains("cell")
            return Point(kind: isMobile ? "mobile" : "phone", value: number)
        case "EMAIL":
            return Point(
                kind: "email",
                value: value.lowercased().hasPrefix("mailto:") ? String(value.dropFirst(7)) : value
            )
        case "URL": return Point(kind: "web", value: value)
        default: return nil
        }
    }

    private static func address(_ line: ContentLine) -> Address {
        let parts = line.parts().map(PersianText.display)
        func part(_ index: Int) -> String { index < parts.count ? parts[index] : "" }
        let street = [part(0), part(1), part(2)].filter { !$0.isEmpty }.joined(separator: "، ")
        return Address(street: street, city: part(3), province: part(4), postalCode: part(5))
    }
}

extension Character {
    fileprivate var isASCIIDigit: Bool { ("0"..."9").contains(self) }
}
