/// One run of the simulator.
package struct Simulation: Sendable {
    package let script: Script
    /// What must never be and was; the run ended with it.
    package private(set) var violation: World.Violation?
    package let tally: Tally
    package let hash: TraceHash
    /// The end of each node's log, a line each, when something must not be: position, change set, rows, hub's position.
    package let logs: [String]

    /// This run if another one of the same script was the same; otherwise one that says so.
    package func confirmed(by other: Simulation) -> Simulation {
        if other.hash == hash { return self }
        let sentence = "the same script had trace \(hash), and then \(other.hash)"
        var run = self
        run.violation = World.Violation(invariant: "I34", sentence: sentence, at: 0)
        return run
    }

    /// Plays a script from its beginning to its end.
    ///
    /// - Parameters:
    ///   - text: The number of the write whose way through the logs is told, with every step that is not a write or a
    ///     call.
    ///   - tell: Called with a line for each.
    package init(
        playing script: Script,
        following text: Int? = nil,
        tell: @escaping (String) -> Void = { _ in }
    ) throws {
        self.script = script
        let world = try World(script, following: text, tell: tell)
        world.play()
        logs = world.violations.isEmpty ? [] : world.lastOfLogs()
        (violation, tally, hash) = (world.violations.first, world.tally, world.trace)
    }
}
