import SimulationKit
import Testing

/// Scripts that once showed something wrong, or would show it.
@Suite("The corpus")
struct CorpusTests {
    @Test("Nothing goes wrong in any script that is kept", arguments: try CorpusScript.all())
    func corpus(kept: CorpusScript) throws {
        let simulation = try Simulation(playing: kept.script)
        #expect(
            simulation.violation == nil,
            "\(kept.name): \(simulation.violation.map { "\($0)" } ?? "")"
        )
    }
}

extension CorpusScript: CustomTestStringConvertible {
    package var testDescription: String { name }
}
