import SimulationKit
import Testing

@Suite("Histories of whole organisations")
struct HistoryTests {
    /// The beginning of a drawn history: some seconds of it are enough here, `scripts/simulate` plays whole ones.
    private static func beginning(ofSeed seed: UInt64) -> Script {
        var script = Script(drawnFrom: seed)
        script.steps.removeLast(max(0, script.steps.count - 200))
        return script
    }

    @Test("The same seed is the same run, and another seed another", arguments: [3, 6] as [UInt64])
    func repeatable(seed: UInt64) throws {
        let script = Self.beginning(ofSeed: seed)
        let first = try Simulation(playing: script)
        #expect(first.violation == nil)
        #expect(try Simulation(playing: script).hash == first.hash)
        #expect(try Simulation(playing: Self.beginning(ofSeed: seed + 1)).hash != first.hash)
    }

    @Test("A script that was written down is the same script")
    func text() throws {
        let script = Script(drawnFrom: 8)
        #expect(try Script(text: script.description) == script)
        #expect(try Script(text: "# a remark\n\n" + script.description) == script)
    }

    @Test(
        "A line that is none is named by its number",
        arguments: ["0 1 fly", "soon 1 add", "0 1 add many", "branches 0", "peyvand-script 2"]
    )
    func malformed(line: String) {
        let failure = #expect(throws: Script.Malformed.self) { try Script(text: "seed 1\n\(line)\n") }
        #expect(failure?.line == 2)
    }

    @Test("An empty file was played as a history in which nothing goes wrong")
    func empty() {
        for text in ["", "\n\n", "seed 1\nbranches 2\n"] {
            #expect(throws: Script.Malformed.self) { try Script(text: text) }
        }
    }

    @Test(
        "Whatever numbers a script has, it is refused or played",
        arguments: [UInt64.max, 1 << 63, 1 << 41, 1 << 40, 0],
        Step.Verb.allCases
    )
    func wildNumbers(number: UInt64, verb: Step.Verb) throws {
        let words = [String](repeating: "\(number)", count: 7).joined(separator: " ")
        let lines = ["5 99 \(verb.rawValue) \(words)", "\(number) 1 \(verb.rawValue) \(words)"]
        for line in lines {
            guard let script = try? Script(text: "peyvand-script 1\nbranches 1\n0 1 meet 0 1\n3 1 add 1 1\n\(line)\n")
            else { continue }
            #expect(number <= 1 << 40)
            #expect(try Simulation(playing: script).violation == nil)
        }
    }
}
