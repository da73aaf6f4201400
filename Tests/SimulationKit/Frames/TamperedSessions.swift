import Causality
import SyncProtocol
import TestKit

@testable import ReplicaStore

/// Whole sessions between real nodes on real files, on a line where somebody changes messages and mends their checksums:
/// whatever a node is told, it stays a node that fits together.
package final class TamperedSessions {
    package struct Tally: Sendable {
        package var sessions = 0
        package var messages = 0
        package var changed = 0
        package var slowestMicroseconds = 0
    }

    private let tape: FrameTape
    private let mutator: FrameMutator
    private let seed: UInt64
    private let codec = SyncMessageCodec()
    package private(set) var tally = Tally()
    private var prepared: [Int: Preparation] = [:]

    /// Two nodes from which sessions begin.
    private struct Preparation {
        let stage: Stage
        let mark: Stage.Mark
        /// What is wrong with them, because the script wants it so.
        let problems: Set<String>
    }

    private static let scripts: [CrashScript] = [
        .exchange, .refilling, .comparing, .eraseAtBranch, .newLife, .firstLoad, .sessionAtHub, .refill,
    ]

    package init(_ tape: FrameTape, seed: UInt64) {
        self.tape = tape
        self.seed = seed
        mutator = FrameMutator(tape)
    }

    /// Plays one script several times from the same beginning, and says what was wrong.
    package func play(_ number: UInt64) throws -> [String] {
        var random = SeededRandom(seed: seed &* 0xD134_2543_DE82_EF95 ^ number)
        let index = random.below(Self.scripts.count)
        let script = Self.scripts[index]
        let preparation = try preparation(index)
        let stage = preparation.stage
        var found: [String] = []
        for _ in 0..<Self.times {
            stage.goBack(to: preparation.mark)
            stage.deliveredMax = 300
            let oneIn = [2, 5, 12][random.below(3)]
            tally.sessions += 1
            var asked: UInt16?
            var last = ProcessorTime.microseconds
            stage.onArrival = { [self] receiver, message, session in
                let now = ProcessorTime.microseconds
                tally.slowestMicroseconds = max(tally.slowestMicroseconds, now - last)
                tally.messages += 1
                var question: SyncQuestion?
                let meaning = try? codec.decode(message)
                if case .ask(let new) = meaning { asked = new.kind }
                if case .answer = meaning, let asked { question = SyncQuestion(kind: asked, payload: []) }
                if random.oneIn(oneIn), message.payload.count <= 1 << 16 {
                    let arrival = FrameTape.Arrival(receiver, message, session, asked: question)
                    message = mutator.mutated(arrival, &random)
                    message.type &= 0x7F
                    tally.changed += 1
                }
                last = ProcessorTime.microseconds
            }
            // It is no surprise that a session ends early.
            try? script.playRest(on: stage)
            stage.onArrival = nil
            found += try Self.problems(of: stage).filter { !preparation.problems.contains($0) }
                .map { "\(script.name): \($0)" }
        }
        return found
    }

    private static let times = 3

    private static func problems(of stage: Stage) throws -> [String] {
        try [stage.hub, stage.branch].filter(\.isOpen).flatMap { try $0.replica.problems(isRewritten: true) }
    }

    private func preparation(_ index: Int) throws -> Preparation {
        if let known = prepared[index] { return known }
        let stage = try Stage()
        try Self.scripts[index].prepare(stage)
        for node in [stage.hub, stage.branch] where !node.isOpen { try node.open() }
        let problems = try Set(Self.problems(of: stage))
        for node in [stage.hub, stage.branch] { try node.close() }
        let made = Preparation(stage: stage, mark: stage.mark(), problems: problems)
        prepared[index] = made
        return made
    }
}
