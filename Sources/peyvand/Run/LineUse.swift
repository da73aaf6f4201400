import CRM
import ReplicaStore
import SyncProtocol
import SyncTransport
import Synchronization

/// How a branch uses its line, as its settings say: how much of it when, and what cannot wait.
final class LineUse: Sendable {
    let rate: LineRate
    private struct Urgent {
        /// The numbers of the tables.
        var tables: Set<Int>
        /// Up to where nothing urgent was found in what this branch has written.
        var lookedThrough: UInt64 = 0
    }

    private let urgent: Mutex<Urgent>

    /// - Throws: ``CommandFailure`` when a setting cannot be used.
    init(_ settings: Settings) throws {
        rate = LineRate(try Self.plan(settings))
        urgent = Mutex(Urgent(tables: try Self.urgentTables(settings)))
    }

    /// Takes up settings that were read again.
    func adopt(_ settings: Settings) throws {
        let (plan, tables) = (try Self.plan(settings), try Self.urgentTables(settings))
        rate.adopt(plan)
        urgent.withLock { $0 = Urgent(tables: tables) }
    }

    /// Whether a change that cannot wait was not handed in yet. Blocks.
    func isSomethingUrgent(in replica: Replica) -> Bool {
        let known = urgent.withLock { $0 }
        // Trouble with the file shows elsewhere; nothing is sent because of it.
        guard !known.tables.isEmpty,
            let found = try? replica.findUnsent(in: known.tables, after: known.lookedThrough)
        else { return false }
        urgent.withLock { if $0.tables == known.tables { $0.lookedThrough = found.through } }
        return found.isThere
    }

    private static func plan(_ settings: Settings) throws -> BandwidthPlan {
        do throws(BandwidthPlanFailure) {
            return try BandwidthPlan(settings.value(.bandwidth) ?? "")
        } catch {
            throw CommandFailure(.usage, "The setting bandwidth cannot be used: \(error)")
        }
    }

    private static func urgentTables(_ settings: Settings) throws -> Set<Int> {
        let names = (settings.value(.urgent) ?? "").split(whereSeparator: { ", ".contains($0) })
        return Set(
            try names.map { name in
                guard let table = Schema.current.tables.first(where: { $0.name == name }) else {
                    throw CommandFailure(
                        .usage,
                        "The setting urgent names \"\(name)\", which is no table. The tables are: "
                            + Schema.current.tables.map(\.name).joined(separator: ", ") + "."
                    )
                }
                return table.number
            }
        )
    }
}
