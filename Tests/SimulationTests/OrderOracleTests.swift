import Causality
import SimulationKit
import SyncProtocol
import Testing

@Suite("What the order of head office's log must be")
struct OrderOracleTests {
    private let first = Origin(rawValue: 2) ?? .none
    private let second = Origin(rawValue: 3) ?? .none

    /// The names of what is wrong in a log of change sets: who, the how manieth, when, and up to which position its writer
    /// had seen the log.
    private func problems(_ log: [(origin: Origin, seq: UInt64, time: UInt64, seen: UInt64)]) -> [String] {
        var oracle = OrderOracle()
        var prefixes = [LogPrefix.empty]
        for entry in log {
            let id = ChangeSetID(origin: entry.origin, seq: entry.seq)
            let chain = ChangeChain.empty
            let header = ChangeSetHeader(
                id: id,
                schemaVersion: 1,
                context: CausalContext(
                    lives: [],
                    hubs: [Int(entry.seen) < prefixes.count ? prefixes[Int(entry.seen)] : .empty]
                ),
                previousChain: 0
            )
            oracle.add(header, time: HybridTimestamp(milliseconds: entry.time), chain: chain)
            prefixes.append(prefixes[prefixes.count - 1].appending(id, chain: chain))
        }
        return oracle.found.map(\.invariant)
    }

    @Test("A log in which everybody wrote after what he had seen is right")
    func right() {
        #expect(problems([(first, 1, 10, 0), (second, 1, 5, 0), (first, 2, 11, 1), (second, 2, 12, 3)]).isEmpty)
    }

    @Test("An edit that is not later than what its writer had seen is found")
    func beforeWhatWasSeen() {
        #expect(problems([(first, 1, 10, 0), (second, 1, 10, 1)]) == ["I5"])
    }

    @Test("A gap, a repetition, and a time that goes back are found")
    func disorder() {
        #expect(problems([(first, 2, 10, 0)]) == ["I11"])
        #expect(problems([(first, 1, 10, 0), (first, 1, 11, 0)]) == ["I11"])
        #expect(problems([(first, 1, 10, 0), (first, 2, 9, 0)]) == ["I14"])
    }
}
