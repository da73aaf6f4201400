import CRM
import Causality
import GRDB
import MatchingKit
import TestKit
import Testing

@testable import ReplicaStore

@Suite("The queue of likely duplicates follows what was written")
struct MatchingQueueTests {
    /// What comparing all rows at once gives.
    private func whole(_ replica: Replica) throws -> [ScoredPair] {
        try replica.read { reader in
            var (index, decided) = (MatchingIndex(named: try GenericValues.keys(from: reader)), [RowValues]())
            try reader.forEachRow(.customer) { row in
                let points = try reader.values(.contactPoint, where: "customer", is: .integer(row.id.rawValue))
                index.set(MatchingRecord(RowValues(row), contactPoints: points))
            }
            try reader.forEachRow(.identityDecision) { decided.append(RowValues($0)) }
            let decisions = IdentityDecisions.states(of: decided)
            let matches = index.allMatches()
            let clusters = CustomerClusters(decisions: decisions, links: matches.links)
            return matches.likely.filter { decisions[$0.pair] == nil && !clusters.areOne($0.pair) }
        }
    }

    private func queue(_ replica: Replica) throws -> [ScoredPair] {
        try replica.followMatching()
        return try replica.read { reader in
            let open = try reader.openDuplicates(limit: 10_000)
            #expect(try reader.openDuplicateCount() == open.count)
            return open
        }
    }

    private func clusters(_ ids: [RowID], at office: Office) throws -> [[RowID]] {
        try office.replica.read { reader in try ids.map { try CustomerCluster(of: $0, from: reader).members } }
    }

    @Test("Five offices write, decide, delete and meet in any order: each queue is what comparing everything gives")
    func histories() throws {
        let seed = testSeed("Histories of five offices")
        var random = SeededRandom(seed: seed)
        let hub = try Office.headOffice()
        let branches = try (1...4).map { try Office.branch("branch\($0)", of: hub) }
        let offices = [hub] + branches
        for history in 0..<6 {
            var generator = CustomerGenerator(seed: seed &+ UInt64(history))
            var fields = generator.entries(people: 8).map { $0.fields.mapValues { FieldValue.text($0) } }
            var ids: [RowID] = []
            for _ in 0..<30 {
                let office = offices[random.below(5)]
                let known = try office.replica.read { reader in
                    try ids.filter { try reader.row(.customer, id: $0) != nil }
                }
                switch random.below(7) {
                case 0, 1:
                    guard let next = fields.popLast() else { continue }
                    ids.append(try office.add(next))
                case 2:
                    guard known.count > 1,
                        let pair = CustomerPair(known[random.below(known.count)], known[random.below(known.count)])
                    else { continue }
                    try office.judge(pair, IdentityVerdict.allCases[random.below(3)])
                case 3:
                    guard let id = known.randomElement(using: &random), let other = fields.last else { continue }
                    try office.edit(id, other.filter { $0.key != "kind" })
                case 4:
                    guard let id = known.randomElement(using: &random), random.oneIn(3) else { continue }
                    try office.delete(id)
                case 5:
                    guard let id = known.randomElement(using: &random) else { continue }
                    let point: [String: FieldValue] = [
                        "customer": .integer(id.rawValue), "kind": .text("mobile"), "value": .text("+989121234567"),
                    ]
                    try office.add(point, to: "contactPoint")
                default:
                    try branches[random.below(4)].sync(with: hub)
                }
                if random.oneIn(4) { #expect(try queue(office.replica) == whole(office.replica)) }
            }
            for _ in 0..<2 { for branch in branches { try branch.sync(with: hub) } }
            let first = try queue(hub.replica)
            #expect(try first == whole(hub.replica))
            let united = try clusters(ids, at: hub)
            for branch in branches {
                #expect(try queue(branch.replica) == first)
                #expect(try clusters(ids, at: branch) == united)
            }
            // Nobody who is decided to differ from another is one with him, and whoever decides now prevails.
            let left = try hub.replica.read { reader in try ids.filter { try reader.row(.customer, id: $0) != nil } }
            guard left.count > 1, let pair = CustomerPair(left[0], left[1]) else { continue }
            for verdict in [IdentityVerdict.same, .different, .retracted] {
                let office = offices[random.below(5)]
                try office.judge(pair, verdict)
                for _ in 0..<2 { for branch in branches { try branch.sync(with: hub) } }
                let other = offices[random.below(5)]
                let state = try other.replica.read { try IdentityDecisions.states(of: pair.low, from: $0)[pair] }
                #expect(state == (verdict == .retracted ? nil : verdict))
                if verdict == .different { #expect(try !clusters([pair.low], at: other)[0].contains(pair.high)) }
            }
        }
    }

    @Test("A node that was told to stop compared on until it was killed; now it stops anywhere, and goes on later")
    func stops() throws {
        struct Stopped: Error {}
        let office = try Office.headOffice()
        var generator = CustomerGenerator(seed: 7)
        for entry in generator.entries(people: 30) {
            try office.add(entry.fields.mapValues { FieldValue.text($0) })
        }
        var stops = 0
        for limit in 0... {
            var left = limit
            do {
                try office.replica.followMatching(checkpoint: {
                    if left == 0 { throw Stopped() }
                    left -= 1
                })
                break
            } catch is Stopped {
                stops += 1
                try #require(stops < 100)
            }
        }
        #expect(stops > 2)
        #expect(try queue(office.replica) == whole(office.replica))
    }

    @Test("A number that head office names as nobody's own unites nobody, at any office, until that is taken back")
    func named() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("isfahan", of: hub)
        try branch.sync(with: hub)
        let fields: [String: FieldValue] = [
            "name": .text("مریم رضایی"), "givenName": .text("مریم"), "familyName": .text("رضایی"),
            "mobile": .text("+989121234567"), "birthDay": .text("1991-04-04"),
        ]
        let ids = try [hub.add(fields), branch.add(fields)]
        try branch.sync(with: hub)
        try branch.sync(with: hub)
        for office in [hub, branch] { #expect(try clusters([ids[0]], at: office) == [ids]) }
        #expect(try queue(branch.replica).isEmpty)

        let value = FieldValue.text(GenericValues.document(of: "0912 123 4567"))
        let named = try hub.add(["name": .text(GenericValues.policyName), "value": value], to: "policy")
        try branch.sync(with: hub)
        for office in [hub, branch] {
            #expect(try clusters([ids[0]], at: office) == [[ids[0]]])
            // The names and the day still say that they may be one.
            #expect(try queue(office.replica).count == 1)
        }
        try hub.delete(named, from: "policy")
        try branch.sync(with: hub)
        for office in [hub, branch] {
            #expect(try queue(office.replica).isEmpty)
            #expect(try clusters([ids[0]], at: office) == [ids])
        }
    }

    @Test("A number that was moved from one customer to another is no evidence about the first any more")
    func movedPoint() throws {
        let office = try Office.headOffice()
        let mobile: [String: FieldValue] = ["kind": .text("mobile"), "value": .text("+989121234567")]
        let maryam = try office.add([
            "name": .text("مریم رضایی"), "familyName": .text("رضایی"), "givenName": .text("مریم"),
        ])
        let maryamToo = try office.add(
            ["familyName": .text("رضائی"), "givenName": .text("مریم"), "mobile": .text("+989121234567")]
        )
        let other = try office.add(["name": .text("شرکت نور"), "kind": .text("organisation")])
        let point = try office.add(
            mobile.merging(["customer": .integer(maryam.rawValue)]) { one, _ in one },
            to: "contactPoint"
        )
        let before = try queue(office.replica)
        #expect(before == (try whole(office.replica)) && before.first?.pair == CustomerPair(maryam, maryamToo))
        try office.edit(point, ["customer": .integer(other.rawValue)], in: "contactPoint")
        let after = try queue(office.replica)
        #expect(after == (try whole(office.replica)) && after.first?.score != before.first?.score)
    }

    @Test(
        "A number that more and more people share ends as nobody's evidence, and is evidence again when they are fewer"
    )
    func switchboard() throws {
        let hub = try Office.headOffice()
        let families = [
            "کریمی", "نوری", "احمدی", "رضایی", "موسوی", "حسینی", "جعفری", "قاسمی", "صادقی", "رحیمی", "باقری", "مرادی",
        ]
        var ids: [RowID] = []
        for family in families {
            ids.append(
                try hub.add(["givenName": .text("علی"), "familyName": .text(family), "phone": .text("+982188888888")])
            )
            #expect(try queue(hub.replica) == whole(hub.replica))
        }
        #expect(try hub.replica.read { try !$0.genericKeys().isEmpty })
        for id in ids.suffix(3) { try hub.delete(id) }
        #expect(try queue(hub.replica) == whole(hub.replica))
        #expect(try hub.replica.read { try $0.genericKeys().isEmpty })
    }

    @Test("The queue outlives a restart and comes anew in a restored node and after a first load")
    func survives() throws {
        let site = try Site.headOffice()
        let names = ["مریم کریمی", "مريم كريمي"]
        for name in names { try site.add(["name": .text(name), "city": .text("یزد")]) }
        try site.replica.followMatching()
        try site.reopen()
        #expect(try site.replica.matchingLag().isDone)
        #expect(try site.replica.read { try $0.openDuplicateCount() } == 1)
        try site.add(["name": .text("مریم کریمی"), "city": .text("یزد")])
        #expect(try !site.replica.matchingLag().isDone)
        #expect(try site.replica.followMatchingQuickly())
        #expect(try site.replica.read { try $0.openDuplicateCount() } == 3)

        let hub = try Office.headOffice()
        for name in names { try hub.add(["name": .text(name), "city": .text("یزد")]) }
        #expect(try queue(hub.replica).count == 1)
        let branch = try Office.branch("isfahan", of: hub)
        try branch.sync(with: hub)
        #expect(try queue(branch.replica) == queue(hub.replica))
        let revived = try hub.revived(isNoticed: true)
        try revived.add(["name": .text("مریم کریمی"), "city": .text("یزد")])
        #expect(try queue(revived.replica) == whole(revived.replica))
    }

    @Test("What is kept of an erased customer leaves with it")
    func erased() throws {
        let hub = try Office.headOffice()
        let ids = try ["مریم کریمی", "مريم كريمي"].map { try hub.add(["name": .text($0), "city": .text("یزد")]) }
        #expect(try queue(hub.replica).count == 1)
        _ = try hub.replica.erase(customer: ids[0])
        let left = try hub.otherProgram { db in
            try ["matchingRecord WHERE customer", "matchingKey WHERE customer", "matchingPair WHERE low"].map {
                try Int.fetchOne(db, sql: "SELECT count(*) FROM \($0) = ?", arguments: [ids[0].rawValue]) ?? -1
            }
        }
        #expect(left == [0, 0, 0])
        #expect(try queue(hub.replica).isEmpty)
    }
}
