// The tables of the product. Numbers count up in the order written here and are permanent: a new column is
// appended to the `later` ones of its table, a new table takes the next number of the data model, nothing is
// removed. Either raises the version of the schema.

extension Schema {
    /// The schema of this version.
    package static let current = Schema(
        version: 5,
        tables: [
            .customer, .contactPoint, .relation, .activity, .salesOrder, .orderLine, .branch, .staff, .identityDecision,
            .conflict, .importBatch, .policy,
        ]
    )
}

extension TableDescription {
    /// People and organisations, from the first word on.
    package static let customer = TableDescription(
        1,
        "customer",
        .everyNode,
        [
            .one("kind", .choice(["person", "organisation"])),
            .one("roles", .words(["customer", "influencer", "partner", "subsidiary", "supplier"])),
            .group(
                "stage",
                .one("stage", .choice(["lead", "prospect", "customer", "lost"])),
                .one("stageAt", .instant),
                .one("lostReason")
            ),
            .group("name", .one("name"), .one("givenName"), .one("familyName"), .one("title")),
            .group(
                "identity",
                .one("nationalCode", indexed: true),
                .one("legalId", indexed: true),
                .one("foreignId"),
                .one("birthDay", .day),
                .one("fatherName"),
                .one("verifiedAt", .instant)
            ),
            .one("mobile", indexed: true),
            .one("phone"),
            .one("email"),
            .one("web"),
            .address,
            .one("homeBranch", .reference("branch")),
            .one("owner", .reference("staff")),
            .one("consentCall", .consent),
            .one("consentSms", .consent),
            .one("consentEmail", .consent),
            .one("preferredChannel", .channel),
            .one("source", .choice(["document", "officer", "web", "import"])),
            .one("confirmedAt", .instant, consequence: true),
            .one("pinned", .text),
            .one("note"),
            .importOrigin,
        ]
    )

    /// Further ways to reach a customer.
    package static let contactPoint = TableDescription(
        2,
        "contactPoint",
        .everyNode,
        [
            .one("customer", .reference("customer"), required: true, indexed: true),
            .group(
                "value",
                .one(
                    "kind",
                    .choice(["mobile", "phone", "email", "web", "address", "account"]),
                    required: true
                ),
                .one("value", required: true),
                .one("extension")
            ),
            .one("label"),
            .address,
            .one("state", .choice(["good", "bounced", "wrong", "old"])),
        ]
    )

    /// How one customer stands to another: `customer` is the employee, subsidiary or partner of `other`.
    package static let relation = TableDescription(
        3,
        "relation",
        .everyNode,
        [
            .one("customer", .reference("customer"), required: true, indexed: true),
            .one("other", .reference("customer"), required: true, indexed: true),
            .one(
                "kind",
                .choice([
                    "employee", "contactPerson", "manager", "family", "referredBy", "subsidiaryOf", "partnerOf",
                    "supplierOf", "other",
                ]),
                required: true
            ),
            .one("role"),
            .one("fromDay", .day),
            .one("untilDay", .day),
            .one("note"),
        ]
    )

    /// Calls, visits, meetings, messages, notes and tasks.
    package static let activity = TableDescription(
        4,
        "activity",
        .everyNode,
        [
            .one("customer", .reference("customer"), required: true, indexed: true),
            .one("alsoWith", .references("customer")),
            .one(
                "kind",
                .choice(["call", "visit", "meeting", "message", "note", "task"]),
                required: true
            ),
            .one("direction", .choice(["in", "out", "none"])),
            .one("channel", .channel),
            .one("subject"),
            .one("body"),
            .one("staff", .reference("staff")),
            .group("at", .one("at", .instant), .one("seconds", .integer)),
            .one(
                "outcome",
                .choice(["done", "reached", "noAnswer", "refused", "wrongNumber", "cancelled"])
            ),
            .group("next", .one("nextStep"), .one("dueAt", .instant)),
            .one("doneAt", .instant),
            .one("caseFile", .reference("caseFile")),
            .one("deal", .reference("deal")),
            .importOrigin,
        ]
    )

    /// Inquiries, quotes, orders, invoices and credit notes.
    package static let salesOrder = TableDescription(
        9,
        "salesOrder",
        .everyNode,
        [
            .one("kind", .choice(["inquiry", "quote", "order", "invoice", "creditNote"]), required: true),
            .one("customer", .reference("customer"), required: true, indexed: true),
            .one("follows", .reference("salesOrder")),
            .one("deal", .reference("deal")),
            .one("branch", .reference("branch")),
            .one("staff", .reference("staff")),
            .one("day", .day),
            .one("dueDay", .day),
            .group(
                "state",
                .one("state", .choice(["draft", "sent", "accepted", "rejected", "issued", "cancelled"])),
                .one("stateAt", .instant)
            ),
            .one("number"),
            .one("priceList", .reference("priceList")),
            .one("wishes"),
            .one("total", .money),
            .importOrigin,
        ]
    )

    /// The lines of a sales order.
    package static let orderLine = TableDescription(
        10,
        "orderLine",
        .everyNode,
        [
            .one("salesOrder", .reference("salesOrder"), required: true, indexed: true),
            .one("position", .integer),
            .one("product", .reference("product")),
            .one("text"),
            .one("quantity", .integer),
            .one("unitPrice", .money),
            .one("discount", .money),
            .one("tax", .integer),
            .one("total", .money),
        ]
    )

    /// The offices of the organisation.
    package static let branch = TableDescription(
        17,
        "branch",
        .headOfficeOnly,
        [
            .one("name", required: true),
            .one("origin", .integer),
            .one("parent", .reference("branch")),
            .one("province"),
            .one("city"),
            .one("areaCode"),
            .one("weekend"),
            .one("active", .boolean),
        ]
    )

    /// The people who work with customers. No secrets are kept here.
    package static let staff = TableDescription(
        19,
        "staff",
        .headOfficeOnly,
        [
            .one("login", required: true),
            .one("name", required: true),
            .one("branch", .reference("branch")),
            .one("team", .reference("team")),
            .one("role", .choice(["officer", "supervisor", "headOffice", "administrator"])),
            .one("mobile"),
            .one("extension"),
            .one("active", .boolean),
        ]
    )

    /// What people decided about two records of customers; `low` is the smaller identifier.
    ///
    /// Neither is required, so that a decision outlives the erasure of a record: what was linked through it stays.
    package static let identityDecision = TableDescription(
        23,
        "identityDecision",
        .everyNode,
        [
            .one("low", .reference("customer"), indexed: true),
            .one("high", .reference("customer"), indexed: true),
            .group(
                "verdict",
                .one("verdict", .choice(IdentityVerdict.allCases.map(\.rawValue).sorted())),
                .one("reason"),
                .one("staff", .reference("staff")),
                .one("decidedAt", .instant),
                .one("score", .integer),
                .one("ruleVersion", .integer)
            ),
        ]
    )

    /// Losing writes, as head office has judged them: what was written without knowing of what stands there now.
    ///
    /// `kept` and `lost` are JSON objects of values by field, as `dump` prints them. `kept` is null when the row
    /// was deleted and an edit lost, `lost` when a deletion lost against an edit.
    package static let conflict = TableDescription(
        24,
        "conflict",
        .headOfficeMakes(othersUpdate: "resolution"),
        [
            .one("tableName", required: true),
            .one("ofRow", .integer, required: true, indexed: true),
            .one("columnNames"),
            .one("kept"),
            .one("lost"),
            .one("keptOrigin", .integer),
            .one("keptSeq", .integer),
            .one("keptAt", .instant),
            .one("lostOrigin", .integer),
            .one("lostSeq", .integer),
            .one("lostAt", .instant),
            .group(
                "resolution",
                .one("resolution", .choice(["open", "kept", "taken", "edited", "superseded"]), indexed: true),
                .one("resolvedBy", .reference("staff")),
                .one("resolvedAt", .instant)
            ),
        ]
    )

    /// Files whose rows were taken in. `options` and `counts` are JSON objects; `sha256` is that of the file, in
    /// hexadecimal digits.
    package static let importBatch = TableDescription(
        26,
        "importBatch",
        .everyNode,
        [
            .one("fileName"),
            .one("sha256"),
            .one("kind", .choice(["customers", "activities", "orders", "everything"])),
            .one("options"),
            .one("counts"),
            .group("state", .one("state", .choice(["active", "undone"])), .one("stateAt", .instant)),
        ]
    )

    /// What head office has laid down for all offices. `value` is a JSON object, whose shape follows from the name.
    package static let policy = TableDescription(
        27,
        "policy",
        .headOfficeOnly,
        [.one("name", required: true, indexed: true), .one("value"), .one("fromDay", .day)]
    )

    /// - Parameters:
    ///   - parts: The columns of the table's first schema.
    ///   - later: Those that were added since. They never count for rows that nobody has written them in.
    private convenience init(_ number: Int, _ name: String, _ writers: Writers, _ parts: [Part], later: [Part] = []) {
        let common: [Part] = [
            .one("id", .reference(name)), .one("createdAt", .instant),
            .one("createdBy", .reference("staff")),
        ]
        let base = (common + parts).flatMap(\.columns)
        let drafts = base + later.flatMap(\.columns)
        self.init(
            number: number,
            name: name,
            writers: writers,
            columns: drafts.enumerated().map { index, draft in
                ColumnDescription(
                    number: index,
                    name: draft.name,
                    type: draft.type,
                    group: draft.group,
                    isRequired: draft.isRequired,
                    isIndexed: draft.isIndexed,
                    isConsequence: draft.isConsequence
                )
            },
            baseColumnCount: base.count
        )
    }
}

extension ColumnType {
    fileprivate static let consent = ColumnType.choice(["unknown", "yes", "no"])
    fileprivate static let channel = ColumnType.choice(["phone", "sms", "email", "web", "inPerson", "post"])
}

/// One or several columns of a table, before they have numbers.
private struct Part {
    struct Draft {
        var name: String
        var type: ColumnType
        var group: String?
        var isRequired: Bool
        var isIndexed: Bool
        var isConsequence: Bool
    }

    var columns: [Draft]

    static func one(
        _ name: String,
        _ type: ColumnType = .text,
        required: Bool = false,
        indexed: Bool = false,
        consequence: Bool = false
    ) -> Part {
        Part(columns: [
            Draft(
                name: name,
                type: type,
                group: nil,
                isRequired: required,
                isIndexed: indexed,
                isConsequence: consequence
            )
        ])
    }

    static func group(_ name: String, _ parts: Part...) -> Part {
        Part(
            columns: parts.flatMap(\.columns).map { draft in
                var draft = draft
                draft.group = name
                return draft
            }
        )
    }

    static let address = Part.group(
        "address",
        .one("province"),
        .one("city"),
        .one("street"),
        .one("postalCode")
    )

    /// Where an imported row came from, so that the same file again changes nothing.
    static let importOrigin = Part.group(
        "import",
        .one("externalKey", indexed: true),
        .one("importBatch", .reference("importBatch"))
    )
}
