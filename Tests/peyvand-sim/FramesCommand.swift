import ArgumentParser
import Foundation
import SimulationKit

/// Sends sessions frames that no node of ours would send.
///
/// The frames are played by processes of their own: a trap ends one of them, and is told here, with what repeats it.
struct FramesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "frames",
        abstract: "Sends real sessions frames that no node of ours would send."
    )

    @Option(help: "How many frames; of fifteen thousand about one comes out as it was, and does not count.")
    var frames = 5_010_000

    @Option(help: "What the frames follow from.")
    var seed: UInt64 = 1

    @Option(help: "Ends after so many seconds, whatever is left.")
    var seconds: Int?

    @Option(help: "How many processes play; one for each processor without it.")
    var jobs = ProcessInfo.processInfo.activeProcessorCount

    @Option(help: "Plays one case, in this process.")
    var only: UInt64?

    @Flag(help: "Lists the messages that the frames are made from.")
    var kinds = false

    @Option(help: "Writes to this directory what a fuzzer of decoders may begin with, one input a file.")
    var inputs: String?

    @Option(help: .hidden)
    var worker: Int?

    @Option(help: .hidden)
    var from: UInt64 = 0

    @Option(help: .hidden)
    var board: String?

    func validate() throws {
        guard frames > 0, jobs > 0, seconds ?? 1 > 0 else {
            throw ValidationError("Frames, jobs and seconds are numbers from 1 on.")
        }
    }

    func run() throws {
        if let worker, let board {
            try work(worker, board)
        } else if let inputs {
            for (number, input) in try FrameTape().fuzzerInputs().enumerated() {
                try Data(input).write(to: URL(fileURLWithPath: inputs).appendingPathComponent("recorded-\(number)"))
            }
        } else if let only {
            try replay(only)
        } else {
            try lead()
        }
    }

    // MARK: In a process of its own

    private func work(_ worker: Int, _ path: String) throws {
        guard let board = FrameBoard(path) else { throw ValidationError("\(path) cannot be written.") }
        let tape = try FrameTape()
        let work = FrameWork(tape, seed: seed, board: board, violated: report)
        let clock = ContinuousClock()
        let end = seconds.map { clock.now + .seconds($0) }
        var number = from
        while work.frames < frames, board[.violations] < Self.violationsMax {
            try work.play(number)
            number += UInt64(jobs)
            if number / UInt64(jobs) % 256 == 0 {
                work.tell()
                if let end, clock.now > end { break }
            }
        }
        work.tell()
    }

    private static let violationsMax = 20

    private func report(_ number: UInt64, _ problem: String) {
        print("case \(number): \(problem.prefix(1500))\n    peyvand-sim frames --seed \(seed) --only \(number)")
    }

    private func replay(_ number: UInt64) throws {
        let path = NSTemporaryDirectory() + "peyvand-frames-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        guard let board = FrameBoard(path) else { throw ValidationError("\(path) cannot be written.") }
        let work = try FrameWork(FrameTape(), seed: seed, board: board, violated: report)
        try work.play(number)
        print("\(board.line.count) bytes, \(board[.violations]) violations")
        if board[.violations] > 0 { throw ExitCode.failure }
    }

    // MARK: At the head of them

    private static let memoryKilobytesMax = 512 << 10

    /// One process that plays.
    private final class Player {
        let process = Process()
        let board: FrameBoard
        let path: String
        var shown = -1
        var shownAt = ContinuousClock.now

        init(_ arguments: [String], path: String) throws {
            guard let board = FrameBoard(path) else { throw ValidationError("\(path) cannot be written.") }
            self.board = board
            self.path = path
            process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            process.arguments = arguments + ["--board", path]
            try process.run()
        }

        deinit { try? FileManager.default.removeItem(atPath: path) }
    }

    private func player(_ index: Int, from first: UInt64, frames: Int) throws -> Player {
        var arguments = ["frames", "--seed", "\(seed)", "--frames", "\(frames)", "--jobs", "\(jobs)"]
        arguments += ["--worker", "\(index)", "--from", "\(first)"]
        if let seconds { arguments += ["--seconds", "\(seconds)"] }
        return try Player(arguments, path: NSTemporaryDirectory() + "peyvand-frames-\(UUID().uuidString)")
    }

    private func lead() throws {
        let tape = try FrameTape()
        if kinds { for label in tape.labels { print(label) } }
        let flips = BitFlips.everywhere(tape)
        var violations = flips.problems.count
        for problem in flips.problems.prefix(Self.violationsMax) { print(problem) }

        var finished: [Player] = []
        var playing: [Player] = []
        for index in 0..<jobs {
            playing.append(try player(index, from: UInt64(index), frames: (frames + jobs - 1) / jobs))
        }
        let progress = ProgressLine()
        while !playing.isEmpty {
            Thread.sleep(forTimeInterval: 0.2)
            progress.show("frames", (finished + playing).reduce(0) { $0 + $1.board[.frames] }, of: frames)
            for (index, player) in playing.enumerated().reversed() {
                if player.process.isRunning {
                    end(player, ifHanging: &violations)
                    continue
                }
                playing.remove(at: index)
                finished.append(player)
                guard player.process.terminationReason == .uncaughtSignal || player.process.terminationStatus != 0
                else { continue }
                progress.clear()
                violations += 1
                tellCrash(player)
                let left = (frames + jobs - 1) / jobs - player.board[.frames]
                if violations < Self.violationsMax, left > 0 {
                    let next = UInt64(player.board[.number]) + UInt64(jobs)
                    playing.append(try self.player(index, from: next, frames: left))
                }
            }
        }
        progress.clear()
        violations += finished.reduce(0) { $0 + $1.board[.violations] }
        summarise(finished.map(\.board), flips, tape.labels.count)
        let memory = finished.map { $0.board[.memoryKilobytes] }.max() ?? 0
        if memory > Self.memoryKilobytesMax {
            violations += 1
            print("A process took \(grouped(memory)) KiB of memory; \(grouped(Self.memoryKilobytesMax)) are enough.")
        }
        printVerdict(violations)
        if violations > 0 { throw ExitCode.failure }
    }

    private func tellCrash(_ player: Player) {
        let number = player.board[.number]
        guard player.board[.isPlaying] == 1 else {
            return print("A process ended with \(player.process.terminationStatus), and played nothing.")
        }
        let path = "frames-\(seed)-\(number).bytes"
        let isKept = (try? Data(player.board.line).write(to: URL(fileURLWithPath: path))) != nil
        print(
            "case \(number): the process ended with signal or status \(player.process.terminationStatus)"
                + (isKept ? "; the bytes are in \(path)" : "")
                + "\n    peyvand-sim frames --seed \(seed) --only \(number)"
        )
    }

    /// Ends a process that has been with one case for too long.
    private func end(_ player: Player, ifHanging violations: inout Int) {
        let now = ContinuousClock.now
        if player.board[.number] != player.shown || player.board[.isPlaying] == 0 {
            (player.shown, player.shownAt) = (player.board[.number], now)
        } else if now - player.shownAt > .seconds(30) {
            print("case \(player.shown) hangs")
            player.process.terminate()
            kill(player.process.processIdentifier, SIGKILL)
        }
    }

    private func summarise(_ boards: [FrameBoard], _ flips: BitFlips.Outcome, _ kinds: Int) {
        func sum(_ slot: FrameBoard.Slot) -> Int { boards.reduce(0) { $0 + $1[slot] } }
        func most(_ slot: FrameBoard.Slot) -> Int { boards.map { $0[slot] }.max() ?? 0 }
        let coreSeconds = Double(sum(.coreMilliseconds)) / 1000
        printSummary([
            ("kinds of messages", grouped(kinds)),
            ("bits flipped, each refused", grouped(flips.flips)),
            ("messages cut at each byte", grouped(flips.cuts)),
            ("cases", grouped(sum(.cases))),
            ("changed frames", grouped(sum(.frames))),
            ("  refused as frames", grouped(sum(.refusedFrames))),
            ("  refused as messages", grouped(sum(.refusedMessages))),
            ("  taken as messages, the same when written", grouped(sum(.takenMessages))),
            ("contents taken behind them", grouped(sum(.takenContents))),
            ("contents refused behind them", grouped(sum(.refusedContents))),
            ("sessions ended by them", grouped(sum(.closedSessions))),
            ("slowest case, microseconds", grouped(most(.slowestMicroseconds))),
            ("sessions of real nodes", grouped(sum(.sessions))),
            ("  messages in them", grouped(sum(.messages))),
            ("  of which changed", grouped(sum(.changedMessages))),
            ("  slowest message, microseconds", grouped(most(.slowestStoreMicroseconds))),
            ("most memory, KiB", grouped(most(.memoryKilobytes))),
            ("core-seconds", grouped(Int(coreSeconds))),
            ("frames a core-second", grouped(Int(Double(sum(.frames)) / max(coreSeconds, 0.001)))),
        ])
    }
}
