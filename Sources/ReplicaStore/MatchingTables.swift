import CRM
import Causality
import Foundation
import GRDB

// What this node keeps so that likely duplicates are found without comparing everything: derived from the rows, never
// sent, and made anew whenever it is missing or made by other rules.

/// The local tables that came with format 7.
enum Format7 {
    static let matching = """
        -- The customers that matching knows: the keys they are found by, eight bytes each, and the sound of the name.
        CREATE TABLE matchingRecord(customer INTEGER PRIMARY KEY, sound INTEGER NOT NULL, keys BLOB NOT NULL);
        CREATE TABLE matchingKey(
            key INTEGER NOT NULL,
            customer INTEGER NOT NULL,
            PRIMARY KEY (key, customer)
        ) WITHOUT ROWID;
        -- Keys of values that so many people share that they say nothing.
        CREATE TABLE genericKey(key INTEGER PRIMARY KEY);
        -- Pairs that look like one customer, or are one by rule (0: by none). Open: it waits for somebody.
        CREATE TABLE matchingPair(
            low INTEGER NOT NULL,
            high INTEGER NOT NULL,
            score INTEGER NOT NULL,
            rule INTEGER NOT NULL,
            isOpen INTEGER NOT NULL,
            PRIMARY KEY (low, high)
        ) WITHOUT ROWID;
        CREATE INDEX matchingPairByHigh ON matchingPair(high);
        CREATE INDEX openPair ON matchingPair(score DESC, low, high) WHERE isOpen = 1;
        -- Customers that have changed since they were compared.
        CREATE TABLE matchingDue(customer INTEGER PRIMARY KEY);
        """
}

/// Changes what matching keeps, as part of one transaction of the writer.
struct MatchingTables {
    static let names = ["matchingRecord", "matchingKey", "genericKey", "matchingPair", "matchingDue"]

    private let writer: ReplicaWriter
    private let reader: ReplicaReader
    private var comparison: MatchingComparison
    /// What head office has named as nobody's own.
    private let named: Set<MatchingKey>
    private var records: [RowID: MatchingRecord?] = [:]

    private var db: Database { writer.db }

    init(_ writer: ReplicaWriter) throws {
        self.writer = writer
        reader = ReplicaReader(writer.db, schema: writer.schema)
        comparison = MatchingComparison(genericValues: try reader.genericKeys())
        named = try GenericValues.keys(from: reader)
    }

    /// Takes note of what head office names as nobody's own, and no longer.
    mutating func takeNamed() throws {
        for key in named.union(comparison.genericValues).sorted() { try judge(key) }
    }

    /// Compares customers again, as their rows are now, and finds out which pairs wait for somebody.
    ///
    /// Cost: some look-ups for each key, and one comparison with each record that shares one.
    mutating func take(_ ids: [RowID]) throws {
        var affected = Set(ids)
        for id in ids {
            try db.cachedStatement(sql: "DELETE FROM matchingDue WHERE customer = ?").execute(arguments: [id.rawValue])
            affected.formUnion(try writer.removeMatchingPairs(of: id))
            try replaceKeys(of: id)
        }
        for id in ids {
            guard let own = try record(id) else { continue }
            for other in try candidates(of: own) {
                guard let pair = CustomerPair(id, other.id) else { continue }
                let (score, rule) = (comparison.score(own, other), comparison.rule(own, other))
                guard score >= comparison.weights.threshold || rule != nil else { continue }
                try db.cachedStatement(sql: "INSERT OR REPLACE INTO matchingPair VALUES (?, ?, ?, ?, 0)").execute(
                    arguments: [pair.low.rawValue, pair.high.rawValue, score, rule?.rawValue ?? 0]
                )
                if rule != nil { affected.insert(other.id) }
            }
        }
        try settle(affected)
    }

    private mutating func record(_ id: RowID) throws -> MatchingRecord? {
        if let known = records[id] { return known }
        let record = try reader.matchingRecord(of: id)
        records[id] = .some(record)
        return record
    }

    private mutating func replaceKeys(of id: RowID) throws {
        let old = Set(try writer.matchingKeys(of: id.rawValue))
        let own = try record(id)
        let new = Set(own?.keys ?? [])
        for key in old.subtracting(new).sorted() { try writer.removeMatchingKey(key, of: id.rawValue) }
        for key in new.subtracting(old).sorted() {
            try db.cachedStatement(sql: "INSERT OR IGNORE INTO matchingKey VALUES (?, ?)")
                .execute(arguments: [Int64(bitPattern: key.rawValue), id.rawValue])
        }
        if let own {
            try db.cachedStatement(sql: "INSERT OR REPLACE INTO matchingRecord VALUES (?, ?, ?)").execute(
                arguments: [id.rawValue, Int64(bitPattern: own.soundNumber), Self.bytes(own.keys)]
            )
        } else {
            try db.cachedStatement(sql: "DELETE FROM matchingRecord WHERE customer = ?").execute(arguments: [
                id.rawValue
            ])
        }
        // Under another name the same value may be generic now.
        for key in old.union(new).sorted() { try judge(key) }
    }

    /// Finds out anew whether a value is generic. If that changes, all who have it are to be compared again.
    private mutating func judge(_ key: MatchingKey) throws {
        guard let namesMax = key.namesMax else { return }
        let number = Int64(bitPattern: key.rawValue)
        let wasGeneric = comparison.genericValues.contains(key)
        let isNamed = named.contains(key)
        if !wasGeneric, !isNamed, try !hasMore(number, than: namesMax) { return }
        let names =
            try isNamed
            ? nil
            : Int.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT count(DISTINCT sound) FROM matchingKey CROSS JOIN matchingRecord USING (customer)
                        WHERE key = ?
                        """
                ),
                arguments: [number]
            )
        let isGeneric = isNamed || (names ?? 0) > namesMax
        guard isGeneric != wasGeneric else { return }
        var values = comparison.genericValues
        if isGeneric { values.insert(key) } else { values.remove(key) }
        comparison = MatchingComparison(weights: comparison.weights, genericValues: values)
        let change = isGeneric ? "INSERT OR IGNORE INTO genericKey VALUES (?)" : "DELETE FROM genericKey WHERE key = ?"
        try db.cachedStatement(sql: change).execute(arguments: [number])
        try db.cachedStatement(
            sql: "INSERT OR IGNORE INTO matchingDue SELECT customer FROM matchingKey WHERE key = ?"
        ).execute(arguments: [number])
    }

    private func hasMore(_ key: Int64, than holdersMax: Int) throws -> Bool {
        let count = try Int.fetchOne(
            db.cachedStatement(sql: "SELECT count(*) FROM (SELECT 1 FROM matchingKey WHERE key = ? LIMIT ?)"),
            arguments: [key, holdersMax + 1]
        )
        return (count ?? 0) > holdersMax
    }

    /// The records that share a key with one, by identifier.
    private mutating func candidates(of own: MatchingRecord) throws -> [MatchingRecord] {
        var found: Set<Int64> = []
        for key in own.keys where !comparison.genericValues.contains(key) {
            let holders = try Int64.fetchAll(
                db.cachedStatement(sql: "SELECT customer FROM matchingKey WHERE key = ? LIMIT ?"),
                arguments: [Int64(bitPattern: key.rawValue), key.holdersMax.map { $0 + 1 } ?? -1]
            )
            if holders.count <= key.holdersMax ?? .max { found.formUnion(holders) }
        }
        found.remove(own.id.rawValue)
        return try found.sorted().compactMap { try RowID(rawValue: $0).flatMap { try record($0) } }
    }

    // MARK: What waits for somebody

    /// Finds out which pairs wait for somebody, around some customers.
    private func settle(_ ids: Set<RowID>) throws {
        var settled: Set<RowID> = []
        for id in ids.sorted() where !settled.contains(id) {
            var decisions: [CustomerPair: IdentityVerdict] = [:]
            var links: Set<RuleLink> = []
            var reached: Set<RowID> = [id]
            var waiting = [id]
            while let next = waiting.popLast() {
                let decided = try IdentityDecisions.states(of: next, from: reader)
                decisions.merge(decided) { one, _ in one }
                let found = try reader.matchingPairs(of: next).compactMap { pair in
                    LinkRule(rawValue: pair.rule).map { RuleLink(pair: pair.scored.pair, rule: $0) }
                }
                links.formUnion(found)
                for pair in decided.filter({ $0.value == .same }).map(\.key) + found.map(\.pair) {
                    for other in [pair.low, pair.high] where reached.insert(other).inserted { waiting.append(other) }
                }
            }
            let clusters = CustomerClusters(decisions: decisions, links: Array(links))
            for member in reached {
                for found in try reader.matchingPairs(of: member) {
                    let pair = found.scored.pair
                    let isOpen =
                        found.scored.score >= comparison.weights.threshold && decisions[pair] == nil
                        && !clusters.areOne(pair)
                    guard isOpen != found.isOpen else { continue }
                    try db.cachedStatement(sql: "UPDATE matchingPair SET isOpen = ? WHERE low = ? AND high = ?")
                        .execute(arguments: [isOpen, pair.low.rawValue, pair.high.rawValue])
                }
            }
            settled.formUnion(reached)
        }
    }

    static func bytes(_ keys: [MatchingKey]) -> Data {
        keys.map { $0.rawValue.littleEndian }.withUnsafeBytes { Data($0) }
    }
}

extension ReplicaWriter {
    /// By which rules this program matches. What was made by others is made anew.
    var matchingRules: Int64 {
        Int64(schema.version) << 32 | Int64(MatchingWeights.ruleVersion) << 16 | Int64(PersianText.ruleVersion)
    }

    /// Up to where in the log changed customers were noted; nil when all are to be compared anew.
    func matchedPosition() throws -> UInt64? {
        guard let position = try fact(.matchedPosition), try fact(.matchedRules) == matchingRules,
            UInt64(clamping: position) <= end.position
        else { return nil }
        return UInt64(clamping: position)
    }

    /// Notes that rows have changed that no change set behind ``matchedPosition()`` tells of.
    func noteMatching(_ ids: some Sequence<Int64>, of table: TableDescription) throws {
        let columns: [String]
        switch table.number {
        case TableDescription.customer.number: columns = ["id"]
        case TableDescription.contactPoint.number:
            columns = ["customer"]
            try noteHolders(ofPoints: ids)
        case TableDescription.identityDecision.number: columns = ["low", "high"]
        default: return
        }
        let insert = try db.cachedStatement(sql: "INSERT OR IGNORE INTO matchingDue VALUES (?)")
        for id in ids {
            if table.number == TableDescription.customer.number {
                try insert.execute(arguments: [id])
                continue
            }
            let list = columns.joined(separator: ", ")
            let row = try Row.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT \(list) FROM \(table.name) WHERE id = ?1
                        UNION ALL SELECT \(list) FROM \(table.graveyard) WHERE id = ?1
                        """
                ),
                arguments: [id]
            )
            for place in columns.indices {
                if let customer = row?[place] as Int64? { try insert.execute(arguments: [customer]) }
            }
        }
    }

    /// Notes all who were found by what contact points say: one may have belonged to another customer before.
    private func noteHolders(ofPoints ids: some Sequence<Int64>) throws {
        let table = TableDescription.contactPoint.name
        for id in ids {
            let value = try String.fetchOne(
                db.cachedStatement(sql: "SELECT value FROM \(table) WHERE id = ?"),
                arguments: [id]
            )
            for key in value.map(GenericValues.keys) ?? [] {
                try db.cachedStatement(
                    sql: """
                        INSERT OR IGNORE INTO matchingDue SELECT customer FROM matchingKey
                        WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM genericKey WHERE key = ?1)
                        """
                ).execute(arguments: [Int64(bitPattern: key.rawValue)])
            }
        }
    }

    /// What a customer was found by when it was compared last.
    func matchingKeys(of customer: Int64) throws -> [MatchingKey] {
        let data = try Data.fetchOne(
            db.cachedStatement(sql: "SELECT keys FROM matchingRecord WHERE customer = ?"),
            arguments: [customer]
        )
        guard let data else { return [] }
        return data.withUnsafeBytes { bytes in
            stride(from: 0, to: bytes.count / 8 * 8, by: 8).map { offset in
                MatchingKey(
                    rawValue: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
                )
            }
        }
    }

    func removeMatchingKey(_ key: MatchingKey, of customer: Int64) throws {
        try db.cachedStatement(sql: "DELETE FROM matchingKey WHERE key = ? AND customer = ?")
            .execute(arguments: [Int64(bitPattern: key.rawValue), customer])
    }

    /// Takes the pairs of a customer away.
    ///
    /// - Returns: Those with whom it was one customer by rule.
    @discardableResult
    func removeMatchingPairs(of id: RowID) throws -> [RowID] {
        var linked: [RowID] = []
        for (own, other) in [("low", "high"), ("high", "low")] {
            linked += try Int64.fetchAll(
                db.cachedStatement(sql: "SELECT \(other) FROM matchingPair WHERE \(own) = ? AND rule > 0"),
                arguments: [id.rawValue]
            ).compactMap(RowID.init(rawValue:))
            try db.cachedStatement(sql: "DELETE FROM matchingPair WHERE \(own) = ?").execute(arguments: [id.rawValue])
        }
        return linked
    }

    /// Takes a customer out of all that matching keeps.
    func removeFromMatching(_ id: Int64) throws {
        for key in try matchingKeys(of: id) { try removeMatchingKey(key, of: id) }
        try db.cachedStatement(sql: "DELETE FROM matchingRecord WHERE customer = ?").execute(arguments: [id])
        guard let id = RowID(rawValue: id) else { return }
        try noteMatching(removeMatchingPairs(of: id).map(\.rawValue), of: .customer)
    }
}
