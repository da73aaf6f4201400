/// Compares two records field by field.
///
/// Symmetric and without state: the same two records give the same answer at every node and in any order.
package struct MatchingComparison: Sendable {
    /// Why a pair got its score: one field.
    package struct Reason: Hashable, Sendable {
        package let field: MatchingField
        package let level: MatchingLevel
        package let weight: Int
        /// The values that were compared, in the order of the records, as ``MatchingRecord`` holds them.
        package let left, right: String
    }

    package let weights: MatchingWeights
    /// Values that so many people share that they say nothing about anybody.
    package let genericValues: Set<MatchingKey>

    package init(weights: MatchingWeights = .customers, genericValues: Set<MatchingKey> = []) {
        self.weights = weights
        self.genericValues = genericValues
    }

    /// Returns the sum of the weights of all fields that both records know.
    package func score(_ left: MatchingRecord, _ right: MatchingRecord) -> Int {
        var sum = 0
        visit(left, right) { field, level, _, _ in sum += weight(field).points(level) }
        return sum
    }

    /// Returns what ``score(_:_:)`` adds up, field by field.
    package func reasons(_ left: MatchingRecord, _ right: MatchingRecord) -> [Reason] {
        var reasons: [Reason] = []
        visit(left, right) { field, level, leftValue, rightValue in
            reasons.append(
                Reason(
                    field: field,
                    level: level,
                    weight: weight(field).points(level),
                    left: leftValue.text,
                    right: rightValue.text
                )
            )
        }
        return reasons
    }

    /// The weight of a field.
    package func weight(_ field: MatchingField) -> MatchingWeights.Weight {
        switch field {
        case .familyName: weights.familyName
        case .givenName: weights.givenName
        case .nationalCode: weights.nationalCode
        case .birthDay: weights.birthDay
        case .phone: weights.phone
        case .city: weights.city
        case .fatherName: weights.fatherName
        case .email: weights.email
        case .postalCode: weights.postalCode
        case .street: weights.street
        case .legalId: weights.legalId
        case .organisationName: weights.organisationName
        }
    }

    /// Which rule, if any, makes the two records one customer without asking anybody.
    ///
    /// A phone alone never does: families share it.
    package func rule(_ left: MatchingRecord, _ right: MatchingRecord) -> LinkRule? {
        guard left.isOrganisation == right.isOrganisation else { return nil }
        let (name, field) =
            left.isOrganisation ? ("legalId", \MatchingRecord.legalId) : ("nationalCode", \.nationalCode)
        if let leftCode = left[keyPath: field], let rightCode = right[keyPath: field], leftCode.isValid,
            rightCode.isValid
        {
            guard leftCode.text == rightCode.text else { return nil }
            if !genericValues.contains(KeyMaker.code(name, leftCode)), namesAreAlike(left, right),
                birthDay(left, right) != .different
            {
                return .code
            }
        }
        guard !left.isOrganisation, left.birthDay > 0, left.birthDay == right.birthDay, !left.given.isEmpty,
            !left.family.isEmpty, left.given == right.given, left.family == right.family
        else { return nil }
        let isShared = left.mobile > 0 && left.mobile == right.mobile && !isGeneric(KeyMaker.mobile(left.mobile))
        return isShared ? .mobileAndBirthDay : nil
    }

    private func namesAreAlike(_ left: MatchingRecord, _ right: MatchingRecord) -> Bool {
        if left.isOrganisation {
            return Self.nameLevel(left.organisation, right.organisation).map { $0 != .different } ?? false
        }
        func alike(_ one: [UInt16], _ other: [UInt16]) -> Bool {
            Self.nameLevel(one, other).map { $0 != .different } ?? false
        }
        return alike(left.given, right.given) && alike(left.family, right.family)
            || alike(left.given, right.family) && alike(left.family, right.given)
    }
}

/// Why two records are one customer without anybody having said so.
package enum LinkRule: Int, Hashable, Sendable, Comparable {
    /// Equal valid codes, names at least close, birth days not different.
    case code = 1
    /// Equal names, birth day and mobile number, and no two different valid codes.
    case mobileAndBirthDay = 2

    package static func < (left: LinkRule, right: LinkRule) -> Bool { left.rawValue < right.rawValue }
}

extension MatchingComparison {
    /// A compared value, written out only when somebody wants to read it.
    fileprivate enum Value {
        case letters([UInt16])
        case digits(UInt64)
        case string(String)

        var text: String {
            switch self {
            case .letters(let letters): String(decoding: letters, as: UTF16.self)
            case .digits(let digits): String(digits)
            case .string(let string): string
            }
        }
    }

    private typealias Visitor = (MatchingField, MatchingLevel, Value, Value) -> Void

    /// Calls for each field that both records know.
    private func visit(_ left: MatchingRecord, _ right: MatchingRecord, _ found: Visitor) {
        if left.isOrganisation || right.isOrganisation {
            if let level = Self.nameLevel(left.organisation, right.organisation) {
                found(.organisationName, level, .letters(left.organisation), .letters(right.organisation))
            }
        } else {
            visitNames(left, right, found)
        }
        visitCode(.nationalCode, left.nationalCode, right.nationalCode, found)
        visitCode(.legalId, left.legalId, right.legalId, found)
        if let level = birthDay(left, right) {
            found(.birthDay, level, .digits(left.birthDay), .digits(right.birthDay))
        }
        visitPhones(left, right, found)
        visitEmails(left, right, found)
        if let level = Self.textLevel(left.city, right.city) {
            found(.city, level, .letters(left.city), .letters(right.city))
        }
        if let level = Self.nameLevel(left.father, right.father) {
            found(.fatherName, level, .letters(left.father), .letters(right.father))
        }
        if let level = Self.textLevel(left.postalCode, right.postalCode) {
            found(.postalCode, level, .letters(left.postalCode), .letters(right.postalCode))
        }
        if weights.street.equal != 0, let level = Self.nameLevel(left.street, right.street) {
            found(.street, level, .letters(left.street), .letters(right.street))
        }
    }

    /// Names in their places, or swapped if that fits better: people type the family name first now and then.
    private func visitNames(_ left: MatchingRecord, _ right: MatchingRecord, _ found: Visitor) {
        let family = Self.nameLevel(left.family, right.family)
        let given = Self.nameLevel(left.given, right.given)
        let direct = points(family, given)
        if family != .equal || given != .equal {
            // Which of the two names is the family's cannot be known then: the weights go where they give less.
            let first = Self.nameLevel(left.family, right.given)
            let second = Self.nameLevel(left.given, right.family)
            let isLeftRight = points(first, second) <= points(second, first)
            let (swappedFamily, swappedGiven) = isLeftRight ? (first, second) : (second, first)
            if points(swappedFamily, swappedGiven) > direct {
                if let first {
                    let field: MatchingField = isLeftRight ? .familyName : .givenName
                    found(field, first, .letters(left.family), .letters(right.given))
                }
                if let second {
                    let field: MatchingField = isLeftRight ? .givenName : .familyName
                    found(field, second, .letters(left.given), .letters(right.family))
                }
                return
            }
        }
        if let family { found(.familyName, family, .letters(left.family), .letters(right.family)) }
        if let given { found(.givenName, given, .letters(left.given), .letters(right.given)) }
    }

    private func points(_ family: MatchingLevel?, _ given: MatchingLevel?) -> Int {
        (family.map(weights.familyName.points) ?? 0) + (given.map(weights.givenName.points) ?? 0)
    }

    private func visitCode(
        _ field: MatchingField,
        _ left: MatchingRecord.Code?,
        _ right: MatchingRecord.Code?,
        _ found: Visitor
    ) {
        guard let left, let right, !isGeneric(field, left), !isGeneric(field, right) else { return }
        let areValid = left.isValid && right.isValid
        let level: MatchingLevel
        if left.text == right.text {
            level = areValid ? .equal : .close
        } else {
            // Two valid codes are of two people, however alike they look.
            level = !areValid && Likeness.isWithinOneStep(left.text, right.text) ? .close : .different
        }
        found(field, level, .letters(left.text), .letters(right.text))
    }

    private func birthDay(_ left: MatchingRecord, _ right: MatchingRecord) -> MatchingLevel? {
        guard left.birthDay > 0, right.birthDay > 0 else { return nil }
        if left.birthDay == right.birthDay { return .equal }
        return Likeness.isWithinOneStep(left.birthDay, right.birthDay) ? .close : .different
    }

    /// The pair of numbers that fits best: a person has several, and gives one here and another there.
    private func visitPhones(_ left: MatchingRecord, _ right: MatchingRecord, _ found: Visitor) {
        var best: (level: MatchingLevel, left: UInt64, right: UInt64)?
        for one in left.phones where !isGeneric(KeyMaker.phone(one)) {
            for other in right.phones where !isGeneric(KeyMaker.phone(other)) {
                if one == other {
                    found(.phone, .equal, .digits(one), .digits(other))
                    return
                }
                if best?.level != .close {
                    let level: MatchingLevel = Likeness.isWithinOneStep(one, other) ? .close : .different
                    if best == nil || level == .close { best = (level, one, other) }
                }
            }
        }
        if let best { found(.phone, best.level, .digits(best.left), .digits(best.right)) }
    }

    private func visitEmails(_ left: MatchingRecord, _ right: MatchingRecord, _ found: Visitor) {
        var best: (level: MatchingLevel, left: String, right: String)?
        for one in left.emails where !isGeneric(KeyMaker.email(one)) {
            for other in right.emails where !isGeneric(KeyMaker.email(other)) {
                if one == other {
                    found(.email, .equal, .string(one), .string(other))
                    return
                }
                if best?.level != .close {
                    let isClose = Likeness.isWithinOneStep(Array(one.utf16), Array(other.utf16))
                    if best == nil || isClose { best = (isClose ? .close : .different, one, other) }
                }
            }
        }
        if let best { found(.email, best.level, .string(best.left), .string(best.right)) }
    }

    private func isGeneric(_ key: @autoclosure () -> MatchingKey) -> Bool {
        !genericValues.isEmpty && genericValues.contains(key())
    }

    private func isGeneric(_ field: MatchingField, _ code: MatchingRecord.Code) -> Bool {
        code.isValid && isGeneric(KeyMaker.code(field.rawValue, code))
    }

    /// The level of two names; nil when one of them is not known.
    static func nameLevel(_ left: [UInt16], _ right: [UInt16]) -> MatchingLevel? {
        guard !left.isEmpty, !right.isEmpty else { return nil }
        if left == right { return .equal }
        let isLonger = abs(left.count - right.count) >= MatchingWeights.longerLettersMin
        if isLonger, left.starts(with: right) || right.starts(with: left) { return .different }
        if Likeness.reachesJaroWinkler(left, right, percent: MatchingWeights.closeNamePercent) { return .close }
        let hasEnough = min(left.count, right.count) >= MatchingWeights.oneStepLettersMin
        return hasEnough && Likeness.isWithinOneStep(left, right) ? .close : .different
    }

    /// The level of two other texts; nil when one of them is not known.
    static func textLevel(_ left: [UInt16], _ right: [UInt16]) -> MatchingLevel? {
        guard !left.isEmpty, !right.isEmpty else { return nil }
        if left == right { return .equal }
        return Likeness.isWithinOneStep(left, right) ? .close : .different
    }
}
