import SimulationKit
import TestKit
import Testing

/// What a few seconds of `peyvand-sim frames` show.
@Suite("Frames that no node of ours would send", .serialized)
struct FramesTests {
    @Test("No flipped bit, and no message that ends early, is taken for anything")
    func flippedBits() throws {
        let outcome = BitFlips.everywhere(try FrameTape(isShort: true))
        #expect(outcome.problems.isEmpty, "\(outcome.problems.joined(separator: "\n"))")
        #expect(outcome.kinds >= 30)
        #expect(outcome.flips > 20_000)
    }

    @Test("No changed frame is taken for something else, and none keeps a session busy")
    func changedFrames() throws {
        let seed = testSeed("changed frames")
        let fuzz = FrameFuzz(try FrameTape(isShort: true), seed: seed)
        var problems: [String] = []
        for number in 0..<15_000 {
            problems += fuzz.play(UInt64(number)).map { "\(seed), case \(number): \($0)" }
        }
        print("changed frames: \(fuzz.tally)")
        #expect(problems.isEmpty, "\(problems.prefix(5).joined(separator: "\n"))")
        #expect(fuzz.tally.frames > 20_000)
        // Most get past the checksum, and many past the readers behind it.
        #expect(fuzz.tally.refusedFrames * 4 < fuzz.tally.frames)
        #expect(fuzz.tally.takenMessages * 10 > fuzz.tally.frames)
        #expect(fuzz.tally.takenContents > 100)
        #expect(fuzz.tally.refusedContents > 100)
    }

    @Test("Nodes between which somebody changes messages stay nodes that fit together")
    func tamperedSessions() throws {
        let seed = testSeed("tampered sessions")
        let sessions = TamperedSessions(try FrameTape(isShort: true), seed: seed)
        var problems: [String] = []
        for number in 0..<3 { problems += try sessions.play(UInt64(number)) }
        print("tampered sessions: \(sessions.tally)")
        #expect(problems.isEmpty, "\(problems.prefix(5).joined(separator: "\n"))")
        #expect(sessions.tally.changed > 3)
    }
}
