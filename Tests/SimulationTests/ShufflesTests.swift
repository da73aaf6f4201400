import SimulationKit
import TestKit
import Testing

/// What a second of `peyvand-sim shuffles` shows.
@Suite("The same change sets in many orders")
struct ShufflesTests {
    @Test("Every lawful order of the same change sets, in any batches, ends as the definition says")
    func orders() throws {
        let seed = testSeed("orders")
        let shuffles = try Shuffles(seed: seed, changeSets: 250)
        var problems: [String] = []
        for number in 0..<8 { problems += try shuffles.play(UInt64(number)).map { "\(seed), order \(number): \($0)" } }
        print("orders: \(shuffles.tally), \(shuffles.summary)")
        #expect(problems.isEmpty, "\(problems.prefix(5).joined(separator: "\n"))")
        #expect(shuffles.tally.changeSets == 8 * 250)
        #expect(shuffles.tally.rows > 50)
    }
}
