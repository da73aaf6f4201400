import Causality
import Glibc
import TestKit

@testable import SyncProtocol

/// Plays cases: each begins a real session somewhere, sends it a few changed messages, and looks at what it does.
///
/// A case follows from the seed and its number. A trap ends the process, so whoever plays many keeps the number, and
/// ``line``, where they survive it.
package final class FrameFuzz {
    /// What was done, and what came of it.
    package struct Tally: Sendable {
        package var cases = 0
        package var frames = 0
        package var bytes = 0
        /// Frames after which the line is no line any more.
        package var refusedFrames = 0
        /// Messages whose bytes are no message.
        package var refusedMessages = 0
        package var takenMessages = 0
        /// Contents that the readers behind the session have taken, and refused.
        package var takenContents = 0
        package var refusedContents = 0
        package var closedSessions = 0
        package var slowestMicroseconds = 0

        package init() {}
    }

    private let tape: FrameTape
    private let mutator: FrameMutator
    private let store: ReadingStore
    private let codec = SyncMessageCodec()
    private let seed: UInt64
    package private(set) var tally = Tally()
    /// The bytes of the case that is being played.
    package private(set) var line: [UInt8] = []

    /// A single frame must be dealt with in this time.
    package static let hangMicroseconds = 100_000

    package init(_ tape: FrameTape, seed: UInt64) {
        self.tape = tape
        self.seed = seed
        mutator = FrameMutator(tape)
        store = ReadingStore(tape)
    }

    /// Plays one case, and says what was wrong.
    ///
    /// - Parameter onLine: Called when ``line`` is made, before anybody reads it.
    package func play(_ number: UInt64, onLine: () -> Void = {}) -> [String] {
        var random = SeededRandom(seed: seed &* 0x9E37_79B9_7F4A_7C15 ^ number)
        let kind = tape.kinds[random.below(tape.kinds.count)]
        let start = kind[random.below(kind.count)]
        var sessions = [tape.arrivals[start]]
        while sessions.count < 4, !random.oneIn(3), let next = sessions.last?.next {
            sessions.append(tape.arrivals[next])
        }
        if random.oneIn(10) { sessions.swapAt(0, random.below(sessions.count)) }
        line.removeAll(keepingCapacity: true)
        var frames = 0
        // The last ones may be lawful, so that it is seen what the changed ones have left behind.
        for (index, arrival) in sessions.enumerated() {
            let isChanged = index == 0 || random.oneIn(2)
            let message = isChanged ? mutator.mutated(arrival, &random) : arrival.message
            frames += mutator.frame(message, isWhole: !isChanged, into: &line, &random)
        }
        onLine()
        let begin = ProcessorTime.microseconds
        var found = receive(sessions[0], &random)
        let elapsed = ProcessorTime.microseconds - begin
        tally.cases += 1
        tally.frames += frames
        tally.bytes += line.count
        tally.slowestMicroseconds = max(tally.slowestMicroseconds, elapsed)
        if elapsed > Self.hangMicroseconds { found.append("\(frames) frames took \(elapsed / 1000) ms") }
        found += store.takeViolations()
        return found
    }

    private func receive(_ arrival: FrameTape.Arrival, _ random: inout SeededRandom) -> [String] {
        var found: [String] = []
        var session = arrival.session
        var decoder = FrameDecoder()
        if session.isPeerTrusted { decoder.trustPeer() }
        store.received = arrival.received
        let isHub = arrival.receiver == 1
        var start = 0
        let isChopped = random.oneIn(4)
        reading: while start < line.count {
            let size = isChopped ? min(1 + random.below(40), line.count - start) : line.count - start
            decoder.feed(line[start..<start + size])
            start += size
            while true {
                do {
                    guard let framed = try decoder.next() else { break }
                    handle(framed, &session, isHub: isHub, &found, &random)
                    if session.isPeerTrusted { decoder.trustPeer() }
                } catch {
                    tally.refusedFrames += 1
                    refuse(error, &session, &found, &random, isHub: isHub)
                    if let second = try? decoder.next() { found.append("a broken line gave \(second)") }
                    break reading
                }
            }
        }
        if session.isClosed { tally.closedSessions += 1 }
        let event = [SyncSession.Event.linkClosed, .timerFired(.heartbeat), .timerFired(.greeting), .logGrew][
            random.below(4)
        ]
        perform(session.handle(event), &session, isHub: isHub, &found, &random)
        return found
    }

    private func handle(
        _ framed: FramedMessage,
        _ session: inout SyncSession,
        isHub: Bool,
        _ found: inout [String],
        _ random: inout SeededRandom
    ) {
        let message: SyncMessage
        do {
            message = try codec.decode(framed)
        } catch {
            tally.refusedMessages += 1
            return refuse(error, &session, &found, &random, isHub: isHub)
        }
        tally.takenMessages += 1
        // What was read as something is that, whoever reads it again.
        if isDue(message, framed), (try? codec.decode(codec.encode(message))) != message {
            found.append("\(message.label) is another message when it is written again: \(message)")
        }
        if isHub, case .changes(let batch) = message { store.received &+= UInt64(batch.entries.count) }
        perform(
            session.handle(.received(message, atMilliseconds: 1_800_000_000_000)),
            &session,
            isHub: isHub,
            &found,
            &random
        )
    }

    /// Writing a batch again means compressing it, which takes longer than all the rest: of those every fourth is.
    private func isDue(_ message: SyncMessage, _ framed: FramedMessage) -> Bool {
        if case .changes = message { framed.payload.count % 4 == 0 } else { true }
    }

    /// After bytes that are no message nothing is done with what came, and nothing more is heard.
    private func refuse(
        _ failure: SyncWireFailure,
        _ session: inout SyncSession,
        _ found: inout [String],
        _ random: inout SeededRandom,
        isHub: Bool
    ) {
        let before = store.changes
        perform(session.handle(.malformed(failure)), &session, isHub: isHub, &found, &random)
        if store.changes != before { found.append("something was done with what could not be read: \(failure)") }
        if !session.isClosed { found.append("a session goes on after \(failure)") }
    }

    /// Does what a session wants, and what it wants then.
    private func perform(
        _ actions: [SyncSession.Action],
        _ session: inout SyncSession,
        isHub: Bool,
        _ found: inout [String],
        _ random: inout SeededRandom
    ) {
        var todo = actions
        var done = 0
        while done < todo.count {
            let action = todo[done]
            done += 1
            if case .close = action, !session.isClosed { found.append("a session closes the line and goes on") }
            if let event = store.perform(action, isHub: isHub, &random) {
                let wasClosed = session.isClosed
                let more = session.handle(event)
                if wasClosed, !more.isEmpty { found.append("a closed session wants \(more)") }
                todo += more
            }
            if done > Self.actionsMax { return found.append("a session wants ever more: \(todo.suffix(3))") }
        }
        (tally.takenContents, tally.refusedContents) = (store.taken, store.refused)
    }

    private static let actionsMax = 5000
}

/// Processor time of this thread: nobody else's work counts.
enum ProcessorTime {
    static var microseconds: Int {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return time.tv_sec * 1_000_000 + time.tv_nsec / 1000
    }
}
