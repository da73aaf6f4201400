/// The shortest script found that still fails: delta debugging.
///
/// Steps are taken out, in ever smaller runs of them; then branches; then the times and the numbers become small.
/// What comes out is again a script that fails, and nothing more was found that could be taken from it.
///
/// - Parameters:
///   - fails: Plays a script, and says whether it goes wrong in the same way.
///   - playsMax: After so many plays the shortest one found until then is taken.
package func shrunk(_ script: Script, while fails: (Script) -> Bool, playsMax: Int) -> Script {
    withoutActuallyEscaping(fails) { fails in
        var shrinking = Shrinking(best: script, playsLeft: playsMax, fails: fails)
        shrinking.run()
        return shrinking.best
    }
}

private struct Shrinking {
    private(set) var best: Script
    private var playsLeft: Int
    private let fails: (Script) -> Bool

    init(best: Script, playsLeft: Int, fails: @escaping (Script) -> Bool) {
        self.best = best
        self.playsLeft = playsLeft
        self.fails = fails
    }

    mutating func run() {
        var before: Script
        repeat {
            before = best
            dropSteps()
            dropBranches()
            calm()
            lowerNumbers()
        } while best != before && playsLeft > 0
    }

    /// Keeps a script that is smaller if it fails, too.
    private mutating func tries(_ script: Script) -> Bool {
        guard script != best, playsLeft > 0 else { return false }
        playsLeft -= 1
        guard fails(script) else { return false }
        best = script
        return true
    }

    private mutating func tries(_ change: (inout Script) -> Void) -> Bool {
        var script = best
        change(&script)
        return tries(script)
    }

    /// From the end: what comes after the failure goes first.
    private mutating func dropSteps() {
        var size = (best.steps.count + 1) / 2
        while size > 0, playsLeft > 0 {
            var end = best.steps.count
            while end > 0, playsLeft > 0 {
                let begin = max(0, end - size)
                // One is left, so that there is something to look at.
                if end - begin == best.steps.count { break }
                _ = tries { $0.steps.removeSubrange(begin..<end) }
                end = begin
            }
            size /= 2
        }
    }

    private mutating func dropBranches() {
        // Those that do nothing go all at once, and cost nothing to try.
        let used = Set(best.steps.map(\.node))
        let idle = (1...best.branches).filter { !used.contains($0) }
        if !tries({ script in for node in idle.reversed() { Self.drop(node, from: &script) } }) {
            for node in idle.reversed() { _ = tries { Self.drop(node, from: &$0) } }
        }
        for node in (1...best.branches).reversed() { _ = tries { Self.drop(node, from: &$0) } }
    }

    /// The branches behind it, and the copies, move up by one.
    private static func drop(_ node: Int, from script: inout Script) {
        guard script.branches > 1 else { return }
        script.branches -= 1
        script.steps.removeAll { $0.node == node }
        for index in script.steps.indices where script.steps[index].node > node { script.steps[index].node -= 1 }
    }

    /// An ordinary world, in which little time passes.
    private mutating func calm() {
        _ = tries { $0.scale = Script.Scale() }
        _ = tries { $0.seed = 0 }
        for divisor: UInt64 in [1000, 10, 2] {
            _ = tries { for index in $0.steps.indices { $0.steps[index].at /= divisor } }
        }
        for index in best.steps.indices where playsLeft > 0 {
            let gap = best.steps[index].at - (index == 0 ? 0 : best.steps[index - 1].at)
            for shorter in [gap % 1000, gap / 10] where shorter < gap {
                if tries({ for later in $0.steps[index...].indices { $0.steps[later].at -= gap - shorter } }) { break }
            }
        }
    }

    private mutating func lowerNumbers() {
        for step in best.steps.indices {
            for number in best.steps[step].numbers.indices {
                for lower in [0, 1, best.steps[step].numbers[number] / 16, best.steps[step].numbers[number] / 2]
                where lower < best.steps[step].numbers[number] {
                    if tries({ $0.steps[step].numbers[number] = lower }) { break }
                }
            }
            while best.steps[step].numbers.last == 0, tries({ $0.steps[step].numbers.removeLast() }) {}
        }
    }
}
