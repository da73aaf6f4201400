import CRM
import Causality
import Foundation
import TestKit

/// All works, in the order in which they are done.
struct Works {
    let isQuick: Bool
    let seed: UInt64

    private var customers: Int { isQuick ? 10_000 : 100_000 }

    /// Something that several works begin with: made when the first one needs it, gone after the last one.
    private final class Shared<Value> {
        private let make: () throws -> Value
        private var made: Value?

        init(_ make: @escaping () throws -> Value) { self.make = make }

        func callAsFunction() throws -> Value {
            if let made { return made }
            let value = try make()
            made = value
            return value
        }
    }

    var all: [Work] {
        let (seed, customers) = (seed, customers)
        let site = Shared { try Site(customers: customers, seed: seed) }
        // The rounds make a database larger: those that write most have one of their own.
        let written = Shared { try Site(customers: customers, seed: seed) }
        // The loads come last, because they keep the data set in memory, and memory that was used once stays with the process.
        return local(written) + codes(written) + sessions() + reads(site) + merges(site) + growth(site) + finds(site)
            + loads()
    }

    // MARK: Writes

    private func local(_ site: Shared<Site>) -> [Work] {
        let (single, many) = isQuick ? (2000, 40_000) : (4000, 50_000)
        return [
            compared("insert-1", .cost, "\(single) new activities through the API, 1 in a transaction") {
                Insertion(try site(), rows: single, each: 1)
            },
            compared("insert-1000", .cost, "\(many) new activities through the API, 1000 in a transaction") {
                Insertion(try site(), rows: many, each: 1000)
            },
            compared("update-1", .cost, "\(single) random edits through the API, 1 in a transaction") {
                Editing(try site(), edits: single, each: 1)
            },
            compared("update-1000", .cost, "\(many) random edits through the API, 1000 in a transaction") {
                Editing(try site(), edits: many, each: 1000)
            },
            compared("foreign-insert-1", .cost, "\(single) new activities by another program, 1 in a transaction") {
                Insertion(try site(), by: .foreign, rows: single, each: 1)
            },
            compared("foreign-insert-1000", .cost, "\(many) new activities by another program, 1000 in a transaction") {
                Insertion(try site(), by: .foreign, rows: many, each: 1000)
            },
            compared("foreign-update-1", .cost, "\(single) random edits by another program, 1 in a transaction") {
                Editing(try site(), by: .foreign, edits: single, each: 1)
            },
            compared("foreign-update-1000", .cost, "\(many) random edits by another program, 1000 in a transaction") {
                Editing(try site(), by: .foreign, edits: many, each: 1000)
            },
            compared("seal", .cost, "taking up \(many / 2) new rows and as many edits of another program") {
                Sealing(try site(), many / 2)
            },
        ]
    }

    private func codes(_ site: Shared<Site>) -> [Work] {
        let rows = 40_000
        return [
            compared("encode", .cost, "\(rows) new rows made into change sets, beside plain inserts of them") {
                Encoding(try site(), rows: rows)
            },
            compared("decode", .cost, "\(rows) new rows read out of change sets, beside plain inserts of them") {
                Decoding(try site(), rows: rows)
            },
        ]
    }

    private func merges(_ site: Shared<Site>) -> [Work] {
        let rows = 40_000
        let (updates, changeSets) = (10_000, isQuick ? 5 : 3)
        // A tenth of the data has no 60,000 activities.
        let (large, largeChangeSets) = isQuick ? (40_000, 2) : (60_000, 2)
        return [
            compared(
                "merge-updates",
                .speed,
                "a branch takes \(updates) random updates in each of \(changeSets) change sets"
            ) {
                Updates(try site(), updates: updates, changeSets: changeSets)
            },
            compared(
                "merge-updates-60000",
                .speed,
                "a branch takes \(large) random updates in each of \(largeChangeSets) change sets"
            ) {
                Updates(try site(), updates: large, changeSets: largeChangeSets)
            },
            compared("redelivery", .speed, "the same change sets again, beside plain updates") {
                Updates(try site(), updates: updates, changeSets: changeSets, isRedelivery: true)
            },
            compared("merge-new", .speed, "a branch takes \(rows) new rows") { Arrivals(try site(), rows: rows) },
            compared("hub-100x100", .speed, "100 branches call head office with 100 changes each") {
                ManyBranches(try site(), branches: 100, changes: 100)
            },
        ]
    }

    // MARK: Loads

    private func loads() -> [Work] {
        let (seed, customers) = (seed, customers)
        let source = Shared {
            try LoadSource(DataSet(customers: customers, activitiesEach: Site.activitiesEach, seed: seed))
        }
        return [
            // The order matters: once head office has a backup, newcomers no longer take the log.
            compared("load-log-merge", .speed, "a branch takes the whole log, without a line") {
                try FirstLoad(source())
            },
            compared("load-log", .speed, "two processes: a branch takes the whole log, beside upserts") {
                try LoadOverLine(source(), by: .log)
            },
            figure("load-memory", "MB", "the most memory of a node in a first load, beyond the page cache") {
                try LoadOverLine.megabytesBeyondCache(source())
            },
            compared("load-snapshot", .speed, "two processes: a branch loads a snapshot, beside upserts") {
                try LoadOverLine(source(), by: .snapshot)
            },
            figure("file-with-log", "x plain", "the file of head office with the log of the load, both compact") {
                try source().sizeRatio(of: source().hub)
            },
            figure("file-without-log", "x plain", "the file of a branch that has loaded a snapshot, both compact") {
                try source().sizeRatio(of: source().withoutLog())
            },
            command("start-up", ["status"], times: 10, codes: [0, 1], source),
            command("verify", ["verify"], times: 10, source),
            command("verify-deep", ["verify", "--deep"], times: 1, source),
            Work(
                name: "start-up-help",
                about: "`peyvand --help`",
                kind: .timed("ms", milliseconds) { { try Program.mean(of: 10, ["--help"]) } }
            ),
        ]
    }

    /// A command of the program at a node that does not run, from its start to its end.
    private func command(
        _ name: String,
        _ words: [String],
        times: Int,
        codes: Set<Int32> = [0],
        _ source: Shared<LoadSource>
    ) -> Work {
        let rows = customers * (1 + Site.activitiesEach)
        return Work(
            name: name,
            about: "`peyvand \(words.joined(separator: " "))` at a node with \(rows) rows, with its start",
            kind: .timed("ms", milliseconds) {
                let hub = try source().hub
                return {
                    try hub.close()
                    let cost = try Program.mean(of: times, words + ["--data", hub.directory], codes: codes)
                    try hub.reopen()
                    return cost
                }
            }
        )
    }

    // MARK: Sessions

    private func sessions() -> [Work] {
        let line = Shared { try LineBytes(DataSet(customers: 10_000, activitiesEach: 2, seed: 2)) }
        let sizes = [1, 10, 100, 1000, 10_000]
        return [
            figure("heartbeat", "bytes", "both ways in 30 s of an open session that has nothing to say") {
                try line().ofHeartbeat()
            }
        ]
            + sizes.map { size in
                figure("bytes-update-\(size)", "bytes a row", "on the line for each of \(size) updated rows") {
                    try line().perUpdate(size)
                }
            }
            + sizes.map { size in
                figure("bytes-new-\(size)", "bytes a row", "on the line for each of \(size) new rows with a text") {
                    try line().perNewRow(size)
                }
            }
    }

    // MARK: Reads

    private func reads(_ site: Shared<Site>) -> [Work] {
        [
            Work(
                name: "search",
                about: "finding 20 of \(customers) customers by the beginnings of two words",
                kind: .timed("ms", milliseconds) {
                    let hub = try site().hub
                    try hub.replica.followLogForSearch()
                    return { try Self.searching(hub) }
                }
            )
        ]
    }

    private static func searching(_ node: Node) throws -> Cost {
        var texts = ["مریم محم", "علی حس", "کاوه یزد", "سارا کری", "امیر جعف", "زهرا رحی", "آرش شیر", "لیلا صاد"]
        return try Cost.ofOne(of: texts.count * 5) {
            texts.append(texts.removeFirst())
            guard try node.replica.findCustomers(texts[0], limit: 20).count == 20 else {
                throw NotTheSame(description: "Too few customers were found.")
            }
        }
    }

    private func finds(_ site: Shared<Site>) -> [Work] {
        let small = Shared { [seed] in try Site(customers: 10_000, seed: seed) }
        return find(60_000, small) + (isQuick ? [] : find(600_000, site))
    }

    private func find(_ rows: Int, _ site: Shared<Site>) -> [Work] {
        [1000, 10_000].map { origins in
            Work(
                name: "find-\(rows)-\(origins)",
                about: "finding 1000 changes among \(rows) rows of \(origins) nodes",
                kind: .timed("ms", milliseconds) { try Finding(site(), origins: origins).once }
            )
        }
    }

    // MARK: Growth

    private func growth(_ small: Shared<Site>) -> [Work] {
        guard !isQuick else { return [] }
        let large = Shared { [seed] in try Site(customers: 1_000_000, seed: seed) }
        func grown(_ name: String, _ make: @escaping (Site) -> any Contest) -> Work {
            Work(
                name: "growth-\(name)",
                about: "what \(name) costs with 6,000,000 rows, of what it costs with 600,000",
                kind: .growth { (make(try small()), make(try large())) }
            )
        }
        return [
            grown("insert-1000") { Insertion($0, rows: 50_000, each: 1000) },
            grown("update-1000") { Editing($0, edits: 50_000, each: 1000) },
            grown("merge-updates") { Updates($0, updates: 10_000, changeSets: 5) },
        ] + find(6_000_000, large)
    }

    // MARK: Kinds

    private let milliseconds: (Double) -> Double = { $0 * 1000 }

    private func compared(
        _ name: String,
        _ comparison: Work.Comparison,
        _ about: String,
        _ make: @escaping () throws -> any Contest
    ) -> Work {
        Work(name: name, about: about, kind: .compared(comparison, make))
    }

    private func figure(
        _ name: String,
        _ unit: String,
        _ about: String,
        _ take: @escaping () throws -> Double
    ) -> Work {
        Work(name: name, about: about, kind: .figure(unit, take))
    }
}
