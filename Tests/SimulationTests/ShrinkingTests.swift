import SimulationKit
import Testing

/// A failing script becomes one that a person can read.
@Suite("Scripts that are made short")
struct ShrinkingTests {
    @Test("What is left fails in the same way, and nothing of it can be left out")
    func shrinks() {
        let drawn = Script(drawnFrom: 5)
        // Fails when branch 1 writes something long after head office has made a row.
        func fails(_ script: Script) -> Bool {
            guard let first = script.steps.firstIndex(where: { $0.node == 0 && $0.verb == .add }) else { return false }
            return script.steps[first...].contains { (step: Step) -> Bool in
                step.verb == .edit && step.node == 1 && step[2] > 20
            }
        }
        #expect(fails(drawn))
        let short = shrunk(drawn, while: fails, playsMax: 2000)
        #expect(fails(short))
        #expect(short.steps.map(\.verb) == [.add, .edit])
        #expect(short.branches == 1)
        #expect(short.steps.allSatisfy { $0.at <= 1 })
        let number = short.steps.last?[2] ?? 0
        #expect(number < 42)
    }

    @Test("It ends after the plays it may take, with a script that fails")
    func ends() {
        var plays = 0
        let short = shrunk(
            Script(drawnFrom: 5),
            while: { script in
                plays += 1
                return script.steps.count > 100
            },
            playsMax: 20
        )
        #expect(plays == 20)
        #expect(short.steps.count > 100)
    }
}
