/// One run of the simulator.
package struct Simulation: Sendable {
    package let script: Script
    /// What must never be and was; the run ended with it.
    package let violation: World.Violation?
    package let tally: Tally
    package let hash: TraceHash

    /// Plays a script from its beginning to its end.
    package init(playing script: Script) throws {
        self.script = script
        let world = try World(script)
        world.play()
        (violation, tally, hash) = (world.violations.first, world.tally, world.trace)
    }
}
