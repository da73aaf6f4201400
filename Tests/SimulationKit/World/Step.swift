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
        package let expected: String
        package var description: String {
            "Line \(line) of the script, \"\(text.prefix(80))\", is none. It should be: \(expected)."
        }
    }

    /// The greatest number in a script: more milliseconds than thirty years have, and no sum of them is too large.
    private static let numberMax: UInt64 = 1 << 40

    /// Reads a script. Lines that are empty or begin with `#` are left out.
    ///
    /// - Throws: ``Malformed``, also for a text that does not say what it is.
    package init(text: String) throws {
        self.init(seed: 0, branches: 1, scale: Scale(), steps: [])
        var hasHead = false
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let words = line.split(separator: " ")
            guard let first = words.first, !first.hasPrefix("#") else { continue }
            func malformed(_ expected: String) -> Malformed {
                Malformed(line: index + 1, text: String(line), expected: expected)
            }
            let isSeed = first == "seed"
            let numbers = words.dropFirst().compactMap { UInt64($0) }.filter { isSeed || $0 <= Self.numberMax }
            switch first {
            case "peyvand-script":
                guard numbers == [1] else { throw malformed(Self.head) }
                hasHead = true
            case "seed":
                guard numbers.count == 1 else { throw malformed("seed and a number") }
                seed = numbers[0]
            case "branches":
                guard numbers.count == 1, (1...60).contains(numbers[0]) else {
                    throw malformed("branches and a number from 1 to 60")
                }
                branches = Int(numbers[0])
            case "scale":
                guard numbers.count == scale.numbers.count else {
                    throw malformed("scale and \(scale.numbers.count) numbers")
                }
                scale = Scale(
                    batchEntries: numbers[0],
                    batchBytes: numbers[1],
                    frameBytes: numbers[2],
                    leaseDays: min(numbers[3], Self.daysMax),
                    historyDays: min(numbers[4], Self.daysMax),
                    snapshotRows: numbers[5]
                )
            default:
                let verb = words.count >= 3 ? Step.Verb(rawValue: String(words[2])) : nil
                guard let at = UInt64(first), at <= Self.numberMax, let verb, let node = numbers.first,
                    numbers.count == words.count - 2
                else { throw malformed("time node verb number..., no number above \(Self.numberMax)") }
                steps.append(Step(at: at, node: Int(node), verb, Array(numbers.dropFirst())))
            }
        }
        guard hasHead else {
            throw Malformed(line: 1, text: String(text.prefix { !$0.isNewline }), expected: Self.head)
        }
    }

    private static let head = "peyvand-script 1"
    private static let daysMax: UInt64 = 36_500
}
