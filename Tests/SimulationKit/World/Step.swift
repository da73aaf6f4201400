/// One line of a script: at some time something happens at a node.
///
/// A script is a list of them, as text a line each: `time node verb number...`, time in milliseconds since the
/// beginning, node 0 head office. Numbers that name a row or a node count modulo what there is, so a script stays
/// playable when lines are taken out of it.
package struct Step: Hashable, Sendable {
    package enum Verb: String, CaseIterable, Sendable {
        // People. The first number chooses the row.
        case add, call, edit, delete, restore, many, erase, answer
        // Another program on the node's file: what it does, the row.
        case program
        // Lines. `meet`: 0 leaves, 1 stays, 2 calls though there is a line; most milliseconds on the way, most bytes at once, cut after bytes, silent
        // after bytes (and which way), seed.
        case meet
        // All lines of the node: broken; ended in order.
        case cut, hangUp
        // The process and the machine: milliseconds until it comes back, seed, manner.
        case kill, powerCut, stop
        // Power that goes with one of the next changes of the disk: which, milliseconds, seed, manner.
        case powerCutAt
        // The disk: which operations, the how manieth from now, full?, for ever?
        case fail
        case mend
        // The wall clock, off by so many milliseconds: number, behind? Frozen. Right again.
        case setClock, freezeClock, mendClock
        // Disks put back: remember the present state; put it back, with the fence as remembered, another's, or none;
        // a machine more from it.
        case remember, putBack, clone
        // A backup with the node's own commands, and its restoration.
        case backup, recover
        // What a running node does by itself now and then: 0 as far as the search index.
        case upkeep
        // No line for so many milliseconds.
        case away
        // An index of the administrator that refuses some rows, and its end.
        case forbid, allow
        // The next version of the program.
        case upgrade
        // A branch that sends what no node of ours would: which lie.
        case lie
        // All of this node's tables are compared with head office's, and put right.
        case compare

        /// Whether it is nothing but work and calls.
        var isDaily: Bool {
            switch self {
            case .add, .call, .edit, .delete, .restore, .many, .answer, .program, .meet, .cut, .hangUp, .away: true
            default: false
            }
        }
    }

    package var at: UInt64
    package var node: Int
    package var verb: Verb
    package var numbers: [UInt64]

    package init(at: UInt64, node: Int, _ verb: Verb, _ numbers: [UInt64] = []) {
        self.at = at
        self.node = node
        self.verb = verb
        self.numbers = numbers
    }

    /// A number of the step; 0 where it has fewer.
    package subscript(_ index: Int) -> UInt64 { index < numbers.count ? numbers[index] : 0 }
}

/// What happens in a run: how many nodes there are, how their world is, and what comes to pass.
package struct Script: Hashable, Sendable {
    /// Chooses what no step says: the order of what happens at the same time, latencies.
    package var seed: UInt64
    /// Branches; head office comes on top.
    package var branches: Int
    /// How large batches and frames are, and for how long head office keeps what.
    package var scale: Scale
    package var steps: [Step]

    /// Bounds that make rare things frequent.
    package struct Scale: Hashable, Sendable {
        package var batchEntries: UInt64 = 8192
        package var batchBytes: UInt64 = 1 << 20
        package var frameBytes: UInt64 = 1 << 20
        package var leaseDays: UInt64 = 90
        package var historyDays: UInt64 = 90
        package var snapshotRows: UInt64 = 20_000

        var numbers: [UInt64] { [batchEntries, batchBytes, frameBytes, leaseDays, historyDays, snapshotRows] }
    }

    package init(seed: UInt64, branches: Int, scale: Scale, steps: [Step]) {
        self.seed = seed
        self.branches = branches
        self.scale = scale
        self.steps = steps
    }
}

extension Script: CustomStringConvertible {
    /// The script as a file has it.
    package var description: String {
        func line(_ words: [String]) -> String { words.joined(separator: " ") + "\n" }
        return line(["peyvand-script", "1"]) + line(["seed", "\(seed)"]) + line(["branches", "\(branches)"])
            + line(["scale"] + scale.numbers.map(String.init))
            + steps.map { step in
                line(["\(step.at)", "\(step.node)", step.verb.rawValue] + step.numbers.map(String.init))
            }.joined()
    }

    /// What is wrong with a script's text.
    package struct Malformed: Error, CustomStringConvertible {
        package let line: Int
        package let text: String
        package var description: String {
            "Line \(line) of the script, \"\(text)\", is none. It should be: time node verb number..."
        }
    }

    /// Reads a script. Lines that are empty or begin with `#` are left out.
    package init(text: String) throws {
        self.init(seed: 0, branches: 1, scale: Scale(), steps: [])
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let words = line.split(separator: " ")
            guard let first = words.first, !first.hasPrefix("#") else { continue }
            let numbers = words.dropFirst().compactMap { UInt64($0) }
            func malformed() -> Malformed { Malformed(line: index + 1, text: String(line)) }
            switch first {
            case "peyvand-script":
                guard numbers == [1] else { throw malformed() }
            case "seed":
                guard numbers.count == 1 else { throw malformed() }
                seed = numbers[0]
            case "branches":
                guard numbers.count == 1, (1...60).contains(numbers[0]) else { throw malformed() }
                branches = Int(numbers[0])
            case "scale":
                guard numbers.count == scale.numbers.count else { throw malformed() }
                scale = Scale(
                    batchEntries: numbers[0],
                    batchBytes: numbers[1],
                    frameBytes: numbers[2],
                    leaseDays: numbers[3],
                    historyDays: numbers[4],
                    snapshotRows: numbers[5]
                )
            default:
                guard words.count >= 3, let at = UInt64(first), let node = Int(words[1]),
                    let verb = Step.Verb(rawValue: String(words[2])), numbers.count == words.count - 2
                else { throw malformed() }
                steps.append(Step(at: at, node: node, verb, Array(numbers.dropFirst())))
            }
        }
    }
}
