/// One run of the simulator.
package struct Simulation: Sendable {
    package let script: Script
    package let violations: [World.Violation]
    package let tally: Tally
    package let hash: TraceHash

    /// Plays a script from its beginning to its end.
    package init(playing script: Script) throws {
        self.script = script
        let world = try World(script)
        world.play()
        (violations, tally, hash) = (world.violations, world.tally, world.trace)
    }
}
