import CRM
import Causality
import SyncProtocol
import TestKit

@testable import ReplicaStore

/// Delivers the change sets of one history to fresh branches, each time in another lawful order, in other batches, and
/// some of it twice: all must end as the same.
package final class Shuffles {
    package struct Tally: Sendable {
        package var shuffles = 0
        package var changeSets = 0
        package var batches = 0
        package var again = 0
        /// Rows that the definition of a merge was asked about.
        package var rows = 0

        package init() {}
    }

    private let history: ShuffleHistory
    private let node: SimulatedNode
    private let seed: UInt64
    package private(set) var tally = Tally()
    /// What the first one ended as.
    private var first: (hash: ChangeChain, lines: [String])?

    /// - Parameter count: How many change sets the history has.
    package init(seed: UInt64, changeSets count: Int) throws {
        self.seed = seed
        history = try ShuffleHistory(seed: seed, count: count)
        // Long after: nobody's clock is ahead.
        node = try SimulatedNode(1, time: VirtualTime(VirtualTime.beginning + 86_400_000)) { _ in }
    }

    /// What the history is made of, for showing it.
    package var summary: [(String, Int)] {
        let names: [(RowOperation, String)] = [
            (.birth, "births"), (.update, "edits"), (.delete, "deletions"), (.restore, "restorations"),
            (.erase, "erasures"),
        ]
        return [("change sets in the history", history.entries.count)]
            + [("origins", Set(history.entries.map(\.id.origin)).count), ("equal times", history.ties)]
            + names.map { ($0.1 + " of rows", history.operations[$0.0] ?? 0) }
    }

    /// Delivers everything once more, and says what is wrong with the outcome.
    package func play(_ number: UInt64) throws -> [String] {
        var random = SeededRandom(seed: seed &* 0x9E37_79B9_7F4A_7C15 ^ number)
        // The first one takes it as it was.
        let order = first == nil ? Array(history.entries.indices) : history.order(&random)
        node.die()
        node.disk.restore(history.listener)
        try node.open()
        defer { node.die() }
        guard let replica = node.replica else { return [] }
        do {
            try deliver(order, to: replica, &random)
        } catch {
            return ["it does not take them all: \(error)"]
        }
        tally.shuffles += 1
        tally.changeSets += order.count
        let lines = try replica.dumpLines()
        let print = lines.reduce(ChangeChain.empty) { hash, line in
            line.withUnsafeBytes { hash.appending(content: $0) }
        }
        guard let first else {
            self.first = (print, lines.map { String(decoding: $0, as: UTF8.self) })
            return try compareWithDefinition(replica)
        }
        if print != first.hash {
            let now = lines.map { String(decoding: $0, as: UTF8.self) }
            return now.difference(from: first.lines).prefix(4).map { "\($0)" }
        }
        return number % 50 == 0 ? try compareWithDefinition(replica) : []
    }

    private func deliver(_ order: [Int], to replica: Replica, _ random: inout SeededRandom) throws {
        let entriesMax = [3, 40, 100, 200, 400, 1000][random.below(6)]
        var prefix = LogPrefix.empty
        var start = 0
        while start < order.count {
            let count = min(1 + random.below(entriesMax), order.count - start)
            let batch = batch(order[start..<start + count], after: &prefix)
            _ = try replica.apply([batch], from: history.hub)
            tally.batches += 1
            if random.oneIn(5) {
                // Nobody has heard that it was taken.
                tally.again += count
                _ = try replica.apply([batch], from: history.hub)
            }
            start += count
        }
    }

    private func batch(_ order: ArraySlice<Int>, after prefix: inout LogPrefix) -> ChangeBatch {
        let position = prefix.position + 1
        var entries: [ChangeEntry] = []
        for index in order {
            let entry = history.entries[index]
            prefix = prefix.appending(entry.id, chain: entry.chain)
            entries.append(.changeSet(time: entry.time, body: entry.body))
        }
        return ChangeBatch(firstPosition: position, entries: entries, end: prefix)
    }

    /// Each row must be what the set of change sets says.
    private func compareWithDefinition(_ replica: Replica) throws -> [String] {
        let compared = try replica.differences(from: history.oracle, max: 4)
        tally.rows += compared.rows
        return compared.found
    }
}

extension Replica {
    /// The canonical dump, with the sums that are kept of it, and everything beside it that converges.
    fileprivate func dumpLines() throws -> [[UInt8]] {
        var lines: [[UInt8]] = []
        try read { reader in
            for table in Schema.current.tables.sorted(by: { $0.name < $1.name }) {
                _ = try reader.dump(table, chunkBytes: 1) { lines.append($0) }
            }
        }
        let root = try withWriter { try $0.databaseRoot() }
        lines.append(Array("\(root.sum1) \(root.sum2) \(root.rows)".utf8))
        return lines
    }
}
