import TestKit

extension Script {
    /// What may go wrong in a run; a seed chooses some of them.
    private enum Weather: CaseIterable {
        case badLines, silence, crashes, cuts, disks, clocks, copies, clones, hubLoss, absence, programs, parking
        case versions, lies, erasure, deletions, smallBatches, snapshots, trimming, comparing
    }

    private static let hour: UInt64 = 3_600_000

    /// Draws a script: people work, lines come and go, and some kinds of trouble happen.
    package init(drawnFrom seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let weather = Set(Weather.allCases.filter { _ in random.oneIn(2) })
        // Most that can go wrong needs few; what grows with their number is seen now and then.
        let sizes = random.oneIn(20) ? [8, 8, 8, 8, 8, 8, 12, 12, 12, 40] : [1, 1, 1, 2, 2, 3, 3, 3, 4, 5]
        let branches = sizes[random.below(10)]
        var scale = Scale()
        if weather.contains(.smallBatches) {
            scale.batchEntries = UInt64(1 + random.below(12))
            scale.batchBytes = UInt64(600 + random.below(4000))
            scale.frameBytes = UInt64(300 + random.below(4000))
        }
        if weather.contains(.trimming) { (scale.leaseDays, scale.historyDays) = (3, 1) }
        if weather.contains(.snapshots) { scale.snapshotRows = 40 }
        let hours = UInt64(max(24, 1400 / (branches + 1) + random.below(100)))
        self.init(seed: seed, branches: branches, scale: scale, steps: [])
        var drawn: [Step] = []
        func time() -> UInt64 { random.next() % (hours * Self.hour) }
        func anyNode() -> Int { random.below(branches + 1) }
        func headOffice() -> Int { 0 }
        func branch() -> Int { 1 + random.below(branches) }
        func number() -> UInt64 { random.next() % 1000 }
        func add(_ count: Int, _ verb: Step.Verb, node: () -> Int, _ numbers: () -> [UInt64]) {
            for _ in 0..<count { drawn.append(Step(at: time(), node: node(), verb, numbers())) }
        }
        func some(_ count: Int) -> Int { 1 + random.below(count * 2) }

        // People write everywhere, often the same rows; several things at once, or within a minute.
        for _ in 0..<110 {
            let (node, at) = (anyNode(), time())
            let spread = random.oneIn(4) ? 60_000 : 20
            for _ in 0..<(1 + random.below(8)) {
                let verb = [Step.Verb.add, .call, .edit, .edit, .edit, .many][random.below(6)]
                let row = random.oneIn(2) ? UInt64(random.below(8)) : number()
                let numbers = [row, random.oneIn(12) ? 5 : UInt64(random.below(5)), number()]
                drawn.append(Step(at: at + UInt64(random.below(spread)), node: node, verb, numbers))
            }
        }
        if weather.contains(.deletions) {
            add(some(30), .delete, node: anyNode) { [random.oneIn(2) ? UInt64(random.below(8)) : number()] }
            add(some(20), .restore, node: anyNode) { [number()] }
        }
        if weather.contains(.erasure) { add(some(4), .erase, node: headOffice) { [number()] } }
        add(some(6), .answer, node: anyNode) { [number()] }

        // Lines: about one call for each branch in some hours; many stay open.
        func meeting() -> [UInt64] {
            let isBad = weather.contains(.badLines) && !random.oneIn(4)
            return [
                random.oneIn(12) ? 2 : random.oneIn(3) ? 0 : 1,
                isBad && random.oneIn(4) ? 20_000 : UInt64(1 + random.below(isBad ? 3000 : 200)),
                isBad && random.oneIn(3) ? UInt64(1 + random.below(40)) : 0,
                isBad && !random.oneIn(4) ? UInt64(50 + random.below(random.oneIn(2) ? 600 : 8000)) : 0,
                weather.contains(.silence) && random.oneIn(4) ? UInt64(50 + random.below(4000)) : 0,
                random.next() % 1_000_000,
            ]
        }
        add(Int(hours) * branches / 6 + 10, .meet, node: branch, meeting)
        add(some(Int(hours) * branches / 60 + 2), .hangUp, node: branch) { [] }
        add(weather.contains(.badLines) ? some(20) : 0, .cut, node: branch) { [] }
        add(Int(hours) / 8, .upkeep, node: anyNode) { [number()] }
        if weather.contains(.absence) {
            add(some(2), .away, node: branch) { [Self.hour * (random.oneIn(2) ? 5 : 24 * UInt64(1 + random.below(6)))] }
        }

        func pause() -> UInt64 { UInt64(1 + random.below(random.oneIn(3) ? 7_200_000 : 60_000)) }
        if weather.contains(.crashes) {
            add(some(8), .kill, node: anyNode) { [pause()] }
            add(some(8), .powerCut, node: anyNode) { [pause(), number(), number()] }
            add(some(4), .stop, node: anyNode) { [pause()] }
        }
        if weather.contains(.cuts) {
            add(some(20), .powerCutAt, node: anyNode) { [number(), pause(), number(), number()] }
        }
        if weather.contains(.disks) {
            for _ in 0..<some(8) {
                let (node, at) = (anyNode(), time())
                let fault = [number(), number(), UInt64(random.below(2)), random.oneIn(3) ? 1 : 0]
                drawn.append(Step(at: at, node: node, .fail, fault))
                drawn.append(Step(at: at + UInt64(1 + random.below(20_000_000)), node: node, .mend))
            }
        }
        if weather.contains(.clocks) {
            for _ in 0..<some(4) {
                let (node, at) = (anyNode(), time())
                let sizes: [UInt64] = [90_000, 7_200_000, 86_400_000 * 3, 86_400_000 * 365 * 30]
                let off = [sizes[random.below(4)] + number(), UInt64(random.below(2))]
                drawn.append(Step(at: at, node: node, random.oneIn(6) ? .freezeClock : .setClock, off))
                drawn.append(Step(at: at + UInt64(1 + random.below(100_000_000)), node: node, .mendClock))
            }
        }
        func remembering(_ node: Int, _ verb: Step.Verb) {
            let at = time()
            drawn.append(Step(at: at, node: node, .remember))
            let later = at + 1 + random.next() % (Self.hour * 24)
            drawn.append(Step(at: later, node: node, verb, [number(), random.oneIn(2) ? 0 : number()]))
        }
        if weather.contains(.copies) { for _ in 0..<some(3) { remembering(branch(), .putBack) } }
        if weather.contains(.clones) { for _ in 0..<some(1) { remembering(branch(), .clone) } }
        if weather.contains(.hubLoss) {
            for _ in 0..<some(1) {
                if random.oneIn(2) {
                    remembering(0, .putBack)
                } else {
                    let at = time()
                    drawn.append(Step(at: at, node: 0, .backup))
                    drawn.append(Step(at: at + 1 + random.next() % (Self.hour * 24), node: 0, .recover))
                }
            }
        }
        if weather.contains(.trimming) { add(4, .backup, node: headOffice) { [] } }
        if weather.contains(.programs) {
            add(some(12), .program, node: anyNode) {
                [number(), number(), number(), UInt64(random.below(2))]
            }
        }
        if weather.contains(.parking) {
            let (node, at) = (anyNode(), time())
            drawn.append(Step(at: at, node: node, .forbid))
            drawn.append(Step(at: at + UInt64(1 + random.below(80_000_000)), node: node, .allow))
        }
        if weather.contains(.versions) { add(some(2), .upgrade, node: anyNode) { [] } }
        if weather.contains(.lies) { add(some(4), .lie, node: branch) { [number()] } }
        if weather.contains(.comparing) { add(some(3), .compare, node: branch) { [] } }
        steps = drawn.sorted { ($0.at, $0.node, $0.verb.rawValue) < ($1.at, $1.node, $1.verb.rawValue) }
    }
}
