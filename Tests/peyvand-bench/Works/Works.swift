import CRM
import Causality
import TestKit

/// All works, in the order in which they are done.
struct Works {
    let isQuick: Bool
    let seed: UInt64

    private var customers: Int { isQuick ? 10_000 : 100_000 }

    /// Drawn once for all works that begin with the whole of it.
    private final class Shared {
        private let make: () -> DataSet
        private(set) lazy var data = make()
        private var madeSource: LoadSource?
        private var madeLine: LineBytes?

        init(_ make: @escaping () -> DataSet) { self.make = make }

        func source() throws -> LoadSource {
            if let madeSource { return madeSource }
            let made = try LoadSource(data)
            madeSource = made
            return made
        }

        func line() throws -> LineBytes {
            if let madeLine { return madeLine }
            let made = try LineBytes(DataSet(customers: 10_000, activitiesEach: 2, seed: 2))
            madeLine = made
            return made
        }
    }

    var all: [Work] {
        let (seed, count) = (seed, customers)
        let shared = Shared { DataSet(customers: count, activitiesEach: 5, seed: seed) }
        let updates = 10_000
        return [
            insertion("insert-1", rows: isQuick ? 200 : 1000, each: 1),
            insertion("insert-1000", rows: isQuick ? 10_000 : 50_000, each: 1000),
            editing("update-1", rows: isQuick ? 200 : 1000, each: 1, shared),
            editing("update-1000", rows: isQuick ? 10_000 : 50_000, each: 1000, shared),
            Work(
                name: "load-log",
                about: "a branch takes head office's whole log, beside upserts of the same rows",
                kind: .compared(.speed) { try FirstLoad(shared.source()) }
            ),
            Work(
                name: "merge-updates",
                about: "a branch takes \(updates) random updates in one change set",
                kind: .compared(.speed) {
                    try Updates(shared.data, updates: updates, isRedelivery: false, seed: seed)
                }
            ),
            Work(
                name: "redelivery",
                about: "the same \(updates) updates again, beside plain updates",
                kind: .compared(.speed) {
                    try Updates(shared.data, updates: updates, isRedelivery: true, seed: seed)
                }
            ),
        ]
            + [10_000, 1000, 100, 10, 1].map { size in
                Work(
                    name: "bytes-update-\(size)",
                    about: "bytes on the line for each of \(size) updated rows",
                    kind: .figure("bytes a row") { try shared.line().perUpdate(size) }
                )
            } + [
                Work(
                    name: "bytes-new",
                    about: "bytes on the line for each of 1000 new rows with a text",
                    kind: .figure("bytes a row") { try shared.line().perNewRow(1000) }
                ),
                Work(
                    name: "find-1000",
                    about: "finding 1000 changes behind all others",
                    kind: .figure("milliseconds") { try Self.findingTime(shared.source()) }
                ),
            ]
    }

    private func insertion(_ name: String, rows: Int, each: Int) -> Work {
        Work(
            name: name,
            about: "\(rows) new activities through the API, \(each) in a transaction",
            kind: .compared(.cost) { [seed] in
                try Insertion(activities: rows, rowsEach: each, seed: seed)
            }
        )
    }

    private func editing(_ name: String, rows: Int, each: Int, _ shared: Shared) -> Work {
        Work(
            name: name,
            about: "\(rows) random edits through the API, \(each) in a transaction",
            kind: .compared(.cost) { [seed] in
                try Editing(shared.data, edits: rows, rowsEach: each, seed: seed)
            }
        )
    }

    /// The median time of reading the last 1,000 changed rows of a log.
    private static func findingTime(_ source: LoadSource) throws -> Double {
        let customers = source.ids.customers.prefix(1000)
        let before = try source.hub.end()
        for customer in customers.enumerated() where customer.offset % 10 == 0 {
            _ = try source.hub.replica.write { transaction in
                for id in customers.dropFirst(customer.offset).prefix(10) {
                    try transaction.update("customer", id: id, ["note": .text("\(before)")])
                }
            }
        }
        let times = try (0..<21).map { _ in
            try Cost.of {
                let found = try source.hub.replica.readLog(
                    afterPosition: before,
                    for: .none,
                    bytesMax: 1 << 20,
                    entriesMax: 1000
                )
                guard found.rows == customers.count else {
                    throw NotTheSame(description: "\(found.rows) changed rows were found, of \(customers.count).")
                }
            }.wall * 1000
        }
        return Spread(times).median
    }
}
