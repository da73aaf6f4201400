/// Every number that decides whether two records look like one customer. They stand here and nowhere else.
///
/// They were set beforehand, from how telling a field is, and are not fitted to the answers of any test.
/// Whoever changes one raises ``ruleVersion``: links by rule are derived at every node, and must come out alike.
///
/// - Source: DOMAIN.md 3.4 to 3.6.
package struct MatchingWeights: Hashable, Sendable {
    /// What a field adds to the score. A value that is missing on either side adds nothing.
    package struct Weight: Hashable, Sendable {
        package let equal, close, different: Int

        package init(_ equal: Int, _ close: Int, _ different: Int) {
            self.equal = equal
            self.close = close
            self.different = different
        }

        /// What this weight gives for a level.
        package func points(_ level: MatchingLevel) -> Int {
            switch level {
            case .equal: equal
            case .close: close
            case .different: different
            }
        }
    }

    /// The version of the rules behind keys, weights and links.
    package static let ruleVersion = 1
    /// The similarity of Jaro and Winkler from which names are close, in hundredths.
    package static let closeNamePercent = 88
    /// The letters from which names are close when one step makes one of them the other.
    package static let oneStepLettersMin = 4
    /// From so many letters more on, a name that begins with another is another: علی and علیرضا.
    package static let longerLettersMin = 2
    /// Records that share a key are not compared when there are more of them.
    package static let blockMax = 200
    /// A phone or mail address under more different names than this says nothing: a switchboard, a helper's mobile.
    package static let namesOfContactMax = 10
    /// The same for national codes and legal identifiers.
    package static let namesOfCodeMax = 5

    /// Records of customers, as this program keeps them.
    package static let customers = MatchingWeights(
        threshold: 7,
        familyName: Weight(4, 3, -4),
        givenName: Weight(3, 2, -4),
        nationalCode: Weight(9, 4, -4),
        birthDay: Weight(5, 2, -3),
        phone: Weight(6, 2, -1),
        city: Weight(2, 0, -1),
        fatherName: Weight(3, 2, -3),
        email: Weight(5, 2, -1),
        postalCode: Weight(3, 1, 0),
        street: Weight(0, 0, 0),
        legalId: Weight(12, 4, -6),
        organisationName: Weight(6, 4, -4)
    )

    /// The public FEBRL data: no phones and no codes, but streets and suburbs, so these count for more.
    package static let febrl = MatchingWeights(
        threshold: 4,
        familyName: Weight(4, 3, -4),
        givenName: Weight(3, 2, -4),
        nationalCode: Weight(0, 0, 0),
        birthDay: Weight(5, 2, -3),
        phone: Weight(0, 0, 0),
        city: Weight(2, 1, -1),
        fatherName: Weight(0, 0, 0),
        email: Weight(0, 0, 0),
        postalCode: Weight(2, 0, 0),
        street: Weight(3, 2, 0),
        legalId: Weight(0, 0, 0),
        organisationName: Weight(0, 0, 0)
    )

    /// The score from which a pair is put before a person.
    package let threshold: Int
    package let familyName, givenName, nationalCode, birthDay, phone, city, fatherName, email, postalCode: Weight
    package let street, legalId, organisationName: Weight
}

/// How two values of a field stand to each other.
package enum MatchingLevel: String, Hashable, Sendable, Codable {
    case equal, close, different
}

/// The fields that are compared.
package enum MatchingField: String, Hashable, Sendable, Codable, CaseIterable {
    case familyName, givenName, nationalCode, birthDay, phone, city, fatherName, email, postalCode, street
    case legalId, organisationName
}
