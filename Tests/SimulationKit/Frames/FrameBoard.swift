import Foundation
import Glibc

/// What a process that plays cases says of itself, in a file that outlives it: which case it plays, with which bytes, and
/// what it has done so far.
package final class FrameBoard {
    /// Numbers that are kept.
    package enum Slot: Int, CaseIterable, Sendable {
        /// The case that is being played.
        case number
        /// Whether a case is being played, 1 or 0.
        case isPlaying
        case cases, frames, bytes, refusedFrames, refusedMessages, takenMessages, takenContents, refusedContents
        case closedSessions, slowestMicroseconds
        case sessions, messages, changedMessages, slowestStoreMicroseconds
        case violations, coreMilliseconds, memoryKilobytes
        /// How many bytes of the case are kept.
        case lineCount
    }

    private static let lineStart = 1024
    private static let fileBytes = 64 << 10
    private let memory: UnsafeMutableRawBufferPointer

    /// Makes the file if it is missing.
    package init?(_ path: String) {
        let file = Glibc.open(path, O_RDWR | O_CREAT, 0o600)
        guard file >= 0 else { return nil }
        defer { Glibc.close(file) }
        guard ftruncate(file, off_t(Self.fileBytes)) == 0,
            let mapped = mmap(nil, Self.fileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), mapped != MAP_FAILED
        else { return nil }
        memory = UnsafeMutableRawBufferPointer(start: mapped, count: Self.fileBytes)
    }

    deinit { munmap(memory.baseAddress, memory.count) }

    package subscript(slot: Slot) -> Int {
        get { memory.load(fromByteOffset: slot.rawValue * 8, as: Int.self) }
        set { memory.storeBytes(of: newValue, toByteOffset: slot.rawValue * 8, as: Int.self) }
    }

    /// The bytes of the case, or the first of them.
    package var line: [UInt8] {
        get {
            let count = min(max(self[.lineCount], 0), memory.count - Self.lineStart)
            return Array(memory[Self.lineStart..<Self.lineStart + count])
        }
        set {
            let kept = newValue.prefix(memory.count - Self.lineStart)
            UnsafeMutableRawBufferPointer(rebasing: memory[Self.lineStart...]).copyBytes(from: kept)
            self[.lineCount] = kept.count
        }
    }
}

/// Plays many cases in this process, and keeps a board up to date.
package final class FrameWork {
    private let tape: FrameTape
    private let fuzz: FrameFuzz
    private let tampered: TamperedSessions
    private let board: FrameBoard
    private let violated: (UInt64, String) -> Void

    /// One case in so many is a handful of whole sessions between real nodes.
    private static let casesPerTampering: UInt64 = 32_749

    package init(_ tape: FrameTape, seed: UInt64, board: FrameBoard, violated: @escaping (UInt64, String) -> Void) {
        self.tape = tape
        self.board = board
        self.violated = violated
        fuzz = FrameFuzz(tape, seed: seed)
        tampered = TamperedSessions(tape, seed: seed)
    }

    /// Plays one case.
    package func play(_ number: UInt64) throws {
        board[.number] = Int(number)
        board[.isPlaying] = 1
        let found: [String]
        if number % Self.casesPerTampering == Self.casesPerTampering - 1 {
            board[.lineCount] = 0
            found = try tampered.play(number)
        } else {
            found = fuzz.play(number) { board.line = fuzz.line }
        }
        for problem in found { violated(number, problem) }
        board[.violations] += found.count
        board[.isPlaying] = 0
    }

    /// Tells the board what was done.
    package func tell() {
        let (done, sessions) = (fuzz.tally, tampered.tally)
        let told: [(FrameBoard.Slot, Int)] = [
            (.cases, done.cases), (.frames, done.frames), (.bytes, done.bytes), (.refusedFrames, done.refusedFrames),
            (.refusedMessages, done.refusedMessages), (.takenMessages, done.takenMessages),
            (.takenContents, done.takenContents), (.refusedContents, done.refusedContents),
            (.closedSessions, done.closedSessions), (.slowestMicroseconds, done.slowestMicroseconds),
            (.sessions, sessions.sessions), (.messages, sessions.messages), (.changedMessages, sessions.changed),
            (.slowestStoreMicroseconds, sessions.slowestMicroseconds),
        ]
        for (slot, number) in told { board[slot] = number }
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        board[.memoryKilobytes] = usage.ru_maxrss
        board[.coreMilliseconds] =
            (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000
            + (Int(usage.ru_utime.tv_usec) + Int(usage.ru_stime.tv_usec)) / 1000
    }

    package var frames: Int { fuzz.tally.frames + tampered.tally.changed }
}
