import CRM
import Causality
import GRDB
import MatchingKit
import TestKit
import Testing

@testable import ReplicaStore

/// One group of records of a few people, which five offices write, judge, delete and bring back.
///
/// Many histories are played at once on the same replicas: they share the sessions, and nothing else.
private struct IdentityHistory {
    private(set) var ids: [RowID] = []
    /// What is still to be recorded.
    private var entries: [[String: FieldValue]]

    init(seed: UInt64) throws {
        var generator = CustomerGenerator(seed: seed)
        entries = try generator.entries(people: 2).prefix(6).map { entry in
            var values: [String: FieldValue] = [:]
            for (name, typed) in entry.fields {
                guard let column = TableDescription.customer.column(named: name) else { continue }
                values[name] = try FieldEntry.read(.text(typed), for: column, of: .customer, branchAreaCode: "021")
                    .value
            }
            return values
        }
    }

    /// Does one thing at an office, with what is known there.
    mutating func step(at office: Office, _ random: inout SeededRandom) throws {
        let known = try office.replica.read { reader in try ids.filter { try reader.row(.customer, id: $0) != nil } }
        guard ids.count > 1, !random.oneIn(4) || entries.isEmpty, let id = known.randomElement(using: &random) else {
            guard let entry = entries.popLast() else { return }
            ids.append(try office.add(entry))
            return
        }
        switch random.below(8) {
        case 0...2:
            guard let other = known.randomElement(using: &random), let pair = CustomerPair(id, other) else { return }
            try office.judge(pair, IdentityVerdict.allCases[random.below(3)])
        case 3:
            let other = try office.replica.read { try $0.row(.customer, id: known[0]) }
            guard let code = other?["nationalCode"], let name = other?["name"] else { return }
            try office.edit(id, ["nationalCode": code, "name": name])
        case 4: try office.delete(id)
        case 5:
            let gone = try office.replica.read { reader in
                try ids.filter { try reader.deletedRow(.customer, id: $0) != nil }
            }
            if let id = gone.randomElement(using: &random) { try office.restore(id) }
        default:
            try office.add(["customer": .integer(id.rawValue), "kind": .text("call")], to: "activity")
        }
    }

    /// The clusters of the records, as an office sees each of them.
    func clusters(at office: Office) throws -> [[RowID]] {
        try office.replica.read { reader in try ids.map { try CustomerCluster(of: $0, from: reader).members } }
    }

    /// What holds for an office that has heard of everything.
    func expectWhole(at office: Office) throws {
        try office.replica.read { reader in
            var (index, decided) = (MatchingIndex(), Set<RowValues>())
            for id in ids {
                if let row = try reader.values(.customer, id: id) { index.set(MatchingRecord(row)) }
                for column in ["low", "high"] {
                    decided.formUnion(try reader.values(.identityDecision, where: column, is: .integer(id.rawValue)))
                }
            }
            let decisions = Self.states(of: decided)
            let all = CustomerClusters(decisions: decisions, links: index.allMatches().links)
            for id in ids {
                let cluster = try CustomerCluster(of: id, from: reader)
                #expect(cluster.members == all.members(of: id))
                for (pair, verdict) in decisions where verdict == .different {
                    #expect(!cluster.members.contains(pair.low) || !cluster.members.contains(pair.high))
                }
                guard let golden = cluster.golden, cluster.visible.contains(id) else { continue }
                #expect(golden == cluster.visible.min())
                let seen = try CustomerView(of: id, from: reader)
                let view = try #require(seen)
                #expect(view.golden == golden.description)
                let written = try cluster.visible.reduce(0) { count, member in
                    try count + reader.rows(.activity, where: "customer", is: .integer(member.rawValue)).count
                }
                #expect(view.sums.activities == written && view.timeline.count == written)
            }
        }
    }

    /// What holds for each pair: `different` if any row says so, else `same` if any does. Not taken from the program.
    private static func states(of rows: Set<RowValues>) -> [CustomerPair: IdentityVerdict] {
        var said: [CustomerPair: Set<String>] = [:]
        for row in rows {
            guard let low = row.reference("low"), let high = row.reference("high"), let pair = CustomerPair(low, high)
            else { continue }
            said[pair, default: []].insert(row.text("verdict") ?? "")
        }
        return said.compactMapValues { words in
            words.contains("different") ? .different : words.contains("same") ? .same : nil
        }
    }

    /// Two live records of which nothing is decided.
    func undecided(at office: Office, _ random: inout SeededRandom) throws -> CustomerPair? {
        try office.replica.read { reader in
            let live = try ids.filter { try reader.row(.customer, id: $0) != nil }
            guard let one = live.randomElement(using: &random), let other = live.randomElement(using: &random),
                let pair = CustomerPair(one, other), try IdentityDecisions.rows(of: pair, from: reader).isEmpty
            else { return nil }
            return pair
        }
    }
}

@Suite("One customer out of many records, whatever happens")
struct IdentityHistoryTests {
    private static let histories = 3000
    /// So many are played at once.
    private static let together = 100

    @Test("3,000 random histories at five offices end in the same customers everywhere, and every decision holds")
    func histories() throws {
        let seed = testSeed("One customer")
        var random = SeededRandom(seed: seed)
        var order = SeededRandom(seed: seed &+ 1)
        let hub = try Office.headOffice()
        let branches = try (1...4).map { try Office.branch("branch\($0)", of: hub) }
        let offices = [hub] + branches
        func meetAll() throws {
            // Twice, so that what the last has brought reaches the first; in any order, with repeats.
            for branch in branches.shuffled(using: &order) + branches.shuffled(using: &order) {
                try branch.sync(with: hub)
            }
        }
        for batch in 0..<Self.histories / Self.together {
            var histories = try (0..<Self.together).map {
                try IdentityHistory(seed: seed &+ UInt64(batch * Self.together + $0))
            }
            var turns = (0..<Self.together).flatMap { Array(repeating: $0, count: 12) }
            turns.shuffle(using: &random)
            for (number, turn) in turns.enumerated() {
                try histories[turn].step(at: offices[random.below(5)], &random)
                if number % 60 == 0 { try branches[random.below(4)].sync(with: hub) }
            }
            try meetAll()
            let digests = try offices.map { try $0.tableDigests() }
            #expect(Set(digests).count == 1, "batch \(batch) of seed \(seed)")
            for history in histories {
                let other = offices[1 + random.below(4)]
                #expect(try history.clusters(at: hub) == history.clusters(at: other), "batch \(batch) of seed \(seed)")
                try history.expectWhole(at: offices[random.below(5)])
            }
            try expectDecisionsHold(histories, offices, &random, meetAll)
        }
    }

    /// Whoever decides now, having seen everything, prevails; and a decision that is taken back leaves nothing.
    private func expectDecisionsHold(
        _ histories: [IdentityHistory],
        _ offices: [Office],
        _ random: inout SeededRandom,
        _ meetAll: () throws -> Void
    ) throws {
        var judged: [(history: IdentityHistory, pair: CustomerPair, before: [[RowID]])] = []
        for history in histories {
            guard let pair = try history.undecided(at: offices[0], &random) else { continue }
            judged.append((history, pair, try history.clusters(at: offices[0])))
        }
        for verdict in [IdentityVerdict.same, .different, .retracted] {
            for (_, pair, _) in judged { try offices[random.below(5)].judge(pair, verdict) }
            try meetAll()
            for (history, pair, before) in judged {
                let office = offices[random.below(5)]
                let state = try office.replica.read { try IdentityDecisions.states(of: pair.low, from: $0)[pair] }
                #expect(state == (verdict == .retracted ? nil : verdict))
                let clusters = try history.clusters(at: office)
                let areOne = clusters.contains { $0.contains(pair.low) && $0.contains(pair.high) }
                if verdict == .different { #expect(!areOne) }
                if verdict == .retracted { #expect(clusters == before) }
            }
        }
    }
}

extension Office {
    /// The sums of all tables, as one text.
    fileprivate func tableDigests() throws -> String {
        try replica.verify { _, _ in }.map { "\($0.name) \($0.kept.hexadecimal)" }.joined(separator: "\n")
    }
}
