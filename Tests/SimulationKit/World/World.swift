import CRM
import Causality
import GRDB
import SyncProtocol
import Synchronization
import TestKit

@testable import ReplicaStore

/// Plays a script: real nodes on disks in memory, real sessions between them, and time that passes when nothing is
/// left to do.
///
/// Everything happens on one thread, one event after the other, so the same script gives the same run. A violation of
/// what must hold is noted with the name of its invariant.
package final class World {
    /// Something that must never be.
    package struct Violation: Hashable, Sendable, CustomStringConvertible {
        /// The invariant: `I1` and so on.
        package let invariant: String
        package let sentence: String
        /// Milliseconds since the beginning.
        package let at: UInt64
        package var description: String { "\(invariant) after \(at) ms: \(sentence)" }
    }

    private enum Happening {
        case step(Int)
        /// The next of what is on its way to one of the two.
        case arrive(line: Int, end: Int)
        case work(line: Int, end: Int, isFetch: Bool)
        case timer(line: Int, end: Int, SyncSession.Timer, number: UInt64)
        case logGrew(node: Int)
        case start(node: Int)
        case stop(node: Int, start: Int, milliseconds: UInt64)
        case callAgain(node: Int, isOneShot: Bool, SimulatedLine.Quality, calls: Int)
    }

    private struct Event {
        let at: UInt64
        /// Drawn, so that what comes at the same time comes in any order.
        let order: UInt64
        let happening: Happening
    }

    let script: Script
    let time = VirtualTime()
    var nodes: [SimulatedNode] = []
    var ledger = Ledger()
    private(set) var lines: [Int: SimulatedLine] = [:]
    private var events: [Event] = []
    private(set) var random: SeededRandom
    private var lineCount = 0
    private var timerCount: UInt64 = 0
    private var calls: [Int: Int] = [:]
    private let grown = GrownLogs()
    /// The power that goes with a change of a node's disk: when it comes back, and what is left.
    private var cutsToCome: [Int: (milliseconds: UInt64, seed: UInt64, manner: CrashDisk.Manner)] = [:]
    var tally = Tally()
    /// Whether a node was put back to what it once was, or copied.
    var hasCopies = false
    private(set) var violations: [Violation] = []
    var trace = TraceHash()
    /// By all sessions together.
    var framesSent = 0
    /// How often head office's rows were held against its log.
    var wholeLooks = 0
    var lastMark = 0
    /// Whether head office ever forgot what it had accepted.
    var wasHubPutBack = false
    /// By origin, what head office knew to be at its branches when it was looked at last.
    var acknowledged: [Int64: Int64] = [:]
    /// Whether the whole machine of head office was put back, with everything that could tell.
    var wasHubPutBackUnseen = false
    /// The text whose way is told, and to whom.
    private let followed: (mark: Mark, tell: (String) -> Void)?
    /// Whether people are called to decide what no program can.
    var hasAlarm = false
    let limits: SyncLimits

    init(_ script: Script, following text: Int? = nil, tell: @escaping (String) -> Void = { _ in }) throws {
        self.script = script
        followed = text.map { (Mark($0), tell) }
        random = SeededRandom(seed: script.seed)
        var limits = SyncLimits()
        limits.batchEntriesMax = max(1, Int(script.scale.batchEntries))
        limits.batchBytesMax = max(256, Int(script.scale.batchBytes))
        limits.frameBytesMax = max(128, Int(script.scale.frameBytes))
        limits.partBytesMax = min(limits.partBytesMax, limits.batchBytesMax)
        // An hour of an open line is three looks, not hundreds.
        limits.heartbeat = .seconds(1200)
        self.limits = limits
        nodes = try Founding.of(branches: script.branches).found(time, scale: script.scale)
        for index in nodes.indices { try open(index) }
        for node in nodes { node.firstOrigin = node.replica?.node.origin }
        for (index, step) in script.steps.enumerated() {
            schedule(.step(index), at: VirtualTime.beginning + step.at)
        }
    }

    var hub: SimulatedNode { nodes[0] }

    // MARK: Time

    private func schedule(_ happening: Happening, at moment: UInt64) {
        let event = Event(at: max(moment, time.milliseconds), order: random.next(), happening: happening)
        // The next one is last.
        var (low, high) = (0, events.count)
        while low < high {
            let middle = (low + high) / 2
            let other = events[middle]
            if (other.at, other.order) > (event.at, event.order) { low = middle + 1 } else { high = middle }
        }
        events.insert(event, at: low)
    }

    private func schedule(_ happening: Happening, after milliseconds: UInt64) {
        schedule(happening, at: time.milliseconds + milliseconds)
    }

    /// Lets everything happen up to some time.
    ///
    /// - Parameter isDone: Ends it early.
    func run(until end: UInt64, isDone: () -> Bool = { false }) {
        while let event = events.last, event.at <= end, violations.isEmpty, !isDone() {
            events.removeLast()
            time.milliseconds = max(time.milliseconds, event.at)
            happen(event.happening)
            settle()
        }
        if !isDone() { time.milliseconds = max(time.milliseconds, end) }
    }

    /// What is still to come from the script does not come any more.
    func forgetSteps() {
        events.removeAll { if case .step = $0.happening { true } else { false } }
    }

    private func happen(_ happening: Happening) {
        switch happening {
        case .step(let index):
            let step = script.steps[index]
            guard step.node < nodes.count else { return }
            note(1, step.node, index)
            if let followed, !step.verb.isDaily {
                followed.tell("\(step.at) node \(step.node): \(step.verb) \(step.numbers)")
            }
            perform(step)
        case .arrive(let number, let end):
            arrive(number, end)
        case .work(let number, let end, let isFetch):
            work(number, end, isFetch: isFetch)
        case .timer(let number, let end, let timer, let count):
            guard let line = lines[number], line.isAlive(end), line.ends[end].timers[timer] == count else { return }
            tell(.timerFired(timer), line, end)
        case .logGrew(let index):
            for line in lines.values.sorted(by: { $0.number < $1.number }) {
                for end in 0...1 where line.ends[end].node === nodes[index] && line.isAlive(end) {
                    tell(.logGrew, line, end)
                }
            }
        case .start(let index):
            guard !nodes[index].isOpen else { return }
            note(5, index, 0)
            restart(index)
        case .stop(let index, let start, let milliseconds):
            guard nodes[index].isOpen, nodes[index].start == start else { return }
            stop(index, milliseconds)
        case .callAgain(let index, let isOneShot, let quality, let calls):
            self.calls[index] = calls
            call(index, isOneShot: isOneShot, quality, seed: random.next())
        }
    }

    /// What follows from an event at once.
    private func settle() {
        for index in nodes.indices where !nodes[index].disk.isPowered {
            let cut = cutsToCome.removeValue(forKey: index) ?? (1000, 0, .allDropped)
            losePower(index, milliseconds: cut.milliseconds, seed: cut.seed, manner: cut.manner)
        }
        for index in grown.take() {
            observe(nodes[index])
            schedule(.logGrew(node: index), after: 1)
        }
        for line in lines.values.sorted(by: { $0.number < $1.number })
        where line.isOver && [0, 1].allSatisfy({ (end: Int) -> Bool in line.ends[end].isIdle || !line.isAlive(end) }) {
            lines[line.number] = nil
        }
    }

    /// Says that something must not be.
    func violate(_ invariant: String, _ sentence: String) {
        violations.append(
            Violation(invariant: invariant, sentence: sentence, at: time.milliseconds - VirtualTime.beginning)
        )
    }

    /// Makes what happens a part of the run's trace.
    func note(_ kind: Int, _ a: Int, _ b: Int) {
        trace.add(UInt64(kind))
        trace.add(time.milliseconds)
        trace.add(UInt64(bitPattern: Int64(a)))
        trace.add(UInt64(bitPattern: Int64(b)))
    }

    // MARK: Lines

    /// Lets a branch call head office.
    func call(_ index: Int, isOneShot: Bool, _ quality: SimulatedLine.Quality, seed: UInt64) {
        let node = nodes[index]
        guard index != 0, node.isOpen, hub.isOpen, node.awayUntil <= time.milliseconds else {
            tally.count("call: nobody there")
            return
        }
        lineCount += 1
        tally.sessions += 1
        let line = SimulatedLine(
            lineCount,
            child: node,
            hub: hub,
            isOneShot: isOneShot,
            quality: quality,
            limits: limits,
            seed: seed
        )
        lines[line.number] = line
        note(6, index, line.number)
        for end in 0...1 {
            tell(.linkOpened, line, end)
        }
    }

    /// Tells a session something, and starts what it wants done.
    private func tell(_ event: SyncSession.Event, _ line: SimulatedLine, _ end: Int) {
        let actions = line.ends[end].session.handle(event)
        if line.ends[end].session.isPeerTrusted { line.ends[end].decoder.trustPeer() }
        for action in actions {
            switch action {
            case .send(let message):
                let framed = line.codec.encode(message)
                for index in 0..<framed.frameCount(limits: limits) {
                    let frame = framed.frame(index, limits: limits)
                    framesSent += 1
                    send(frame.header + frame.payload, line, from: end)
                }
            case .startTimer(let timer, let duration):
                timerCount += 1
                line.ends[end].timers[timer] = timerCount
                let milliseconds = UInt64(clamping: duration.components.seconds) * 1000
                schedule(.timer(line: line.number, end: end, timer, number: timerCount), after: milliseconds)
            case .joined:
                break
            case .close(let failure):
                close(line, end, failure)
            default:
                if action.isFetch {
                    line.ends[end].fetches.append(action)
                } else {
                    line.ends[end].questions.append(action)
                }
                scheduleWork(line, end)
            }
        }
    }

    private func scheduleWork(_ line: SimulatedLine, _ end: Int, after milliseconds: UInt64? = nil) {
        if !line.ends[end].fetches.isEmpty, !line.ends[end].isFetching {
            line.ends[end].isFetching = true
            let delay = milliseconds ?? UInt64(line.random.below(4))
            schedule(.work(line: line.number, end: end, isFetch: true), after: delay)
        }
        if !line.ends[end].questions.isEmpty, !line.ends[end].isAsking {
            line.ends[end].isAsking = true
            let delay = milliseconds ?? UInt64(line.random.below(4))
            schedule(.work(line: line.number, end: end, isFetch: false), after: delay)
        }
    }

    private func close(_ line: SimulatedLine, _ end: Int, _ failure: SyncFailure?) {
        guard !line.ends[end].isOver else { return }
        line.ends[end].failure = .some(failure)
        line.ends[end].timers = [:]
        let node = line.ends[end].node
        judge(failure, of: node, isChild: end == SimulatedLine.child, line)
        if !line.isCut {
            deliver(nil, line, to: 1 - end, after: 1)
        }
        guard end == SimulatedLine.child else { return }
        if case .reconnecting = failure, calls[node.number, default: 0] < 8 {
            schedule(
                .callAgain(
                    node: node.number,
                    isOneShot: line.ends[end].session.role == .child(isOneShot: true),
                    line.quality,
                    calls: calls[node.number, default: 0] + 1
                ),
                after: 10
            )
        } else {
            calls[node.number] = 0
        }
    }

    /// Whether a session may end as it did.
    private func judge(_ failure: SyncFailure?, of node: SimulatedNode, isChild: Bool, _ line: SimulatedLine) {
        note(7, node.number, line.number)
        guard let failure else { return tally.count("session: done") }
        tally.count("session: \(failure.kind)")
        let isExcused = line.ends.contains { $0.node.isDiskBad || !$0.node.disk.isPowered }
        guard !isExcused, failure.isViolation || failure.isStoreFailure else { return }
        violate("I8", "a session of node \(node.number) ended as it never should: \(failure)")
    }

    private func send(_ bytes: [UInt8], _ line: SimulatedLine, from end: Int) {
        let quality = line.quality
        let other = 1 - end
        var bytes = bytes[...]
        let count = bytes.count
        if let cut = quality.cutAfter, line.bytes + bytes.count > cut { bytes = bytes.prefix(max(0, cut - line.bytes)) }
        line.bytes += count
        var isLost = line.isCut || bytes.isEmpty
        if let silent = quality.silentAfter, line.bytes > silent, other == quality.silentEnd { isLost = true }
        while !isLost, !bytes.isEmpty {
            let size = quality.pieceMax == 0 ? bytes.count : 1 + line.random.below(quality.pieceMax)
            let latency = quality.latencyMax == 0 ? 1 : line.random.next() % quality.latencyMax
            deliver(Array(bytes.prefix(size)), line, to: other, after: latency)
            bytes = bytes.dropFirst(size)
        }
        tell(.bytesSent(count), line, end)
        if let cut = quality.cutAfter, line.bytes > cut { breakLine(line) }
    }

    /// Both sides hear that the line is gone, after what is on its way.
    func breakLine(_ line: SimulatedLine) {
        guard !line.isCut else { return }
        line.isCut = true
        for end in 0...1 { deliver(nil, line, to: end, after: 1) }
    }

    /// Puts bytes, or nil for the line's end, on their way.
    private func deliver(_ bytes: [UInt8]?, _ line: SimulatedLine, to end: Int, after milliseconds: UInt64) {
        line.ends[end].inbox.append(bytes)
        line.ends[end].lastArrival = max(line.ends[end].lastArrival, time.milliseconds + milliseconds)
        schedule(.arrive(line: line.number, end: end), at: line.ends[end].lastArrival)
    }

    private func arrive(_ number: Int, _ end: Int) {
        guard let line = lines[number], !line.ends[end].inbox.isEmpty else { return }
        let arrived = line.ends[end].inbox.removeFirst()
        guard line.isAlive(end) else {
            // A machine that was started again knows nothing of the line, and says so.
            if line.ends[end].node.isOpen, arrived != nil { deliver(nil, line, to: 1 - end, after: 1) }
            return
        }
        guard let bytes = arrived else {
            note(3, number, end)
            return tell(.linkClosed, line, end)
        }
        guard !line.ends[end].isOver, let replica = line.ends[end].node.replica else { return }
        tally.busy(line.ends[end].node.number, at: time.milliseconds)
        tally.bytes += bytes.count
        tell(.bytesReceived(bytes.count), line, end)
        line.ends[end].decoder.feed(bytes)
        do throws(SyncWireFailure) {
            while let framed = try line.ends[end].decoder.next() {
                let message = try line.codec.decode(framed)
                tell(.received(message, atMilliseconds: replica.nowMilliseconds()), line, end)
            }
        } catch {
            tell(.malformed(error), line, end)
        }
    }

    /// Does the next thing that a session wants of its store.
    private func work(_ number: Int, _ end: Int, isFetch: Bool) {
        guard let line = lines[number], line.isAlive(end), let replica = line.ends[end].node.replica else { return }
        if isFetch { line.ends[end].isFetching = false } else { line.ends[end].isAsking = false }
        let action: SyncSession.Action
        if isFetch {
            guard !line.ends[end].fetches.isEmpty else { return }
            action = line.ends[end].fetches.removeFirst()
        } else {
            guard !line.ends[end].questions.isEmpty else { return }
            action = line.ends[end].questions.removeFirst()
        }
        let event = try? replica.perform(action)
        if case .record(.compared(let isEqual, at: _), of: _) = action {
            lookAtComparison(line.ends[0].node, isEqual: isEqual)
        }
        if case .decideWelcome(let hello, _) = action, case .welcomeDecided(.success)? = event, takesOver(line, hello) {
            // What an older session of the node was applying may move what this one is told.
            line.ends[end].questions.insert(action, at: 0)
            return scheduleWork(line, end, after: 2)
        }
        scheduleWork(line, end)
        if let event { tell(event, line, end) }
    }

    /// Ends older sessions of a node. True while there was one, or one is not yet at its end.
    private func takesOver(_ line: SimulatedLine, _ hello: Hello) -> Bool {
        var wasThere = false
        for older in lines.values.sorted(by: { $0.number < $1.number })
        where older.number < line.number && older.ends[0].node === line.ends[0].node
            && older.isAlive(SimulatedLine.hub)
        {
            let end = older.ends[SimulatedLine.hub]
            guard !end.isOver || !end.isIdle else { continue }
            wasThere = true
            if !end.isOver { tell(.replaced, older, SimulatedLine.hub) }
        }
        return wasThere
    }

    /// Looks at what is new in a node's log.
    func observe(_ node: SimulatedNode) {
        guard let replica = node.replica, node.disk.isPowered, !node.isDiskBad else { return }
        do {
            // Kept only for who wants to know: a log is long, and looked at after every commit.
            let before = followed == nil ? nil : node.log
            node.held.formUnion(try ledger.observe(replica, &node.log))
            if let followed, let before {
                tell(of: followed.mark, in: node.log, from: before, of: node, to: followed.tell)
            }
        } catch {
            violate("I2", "the log of node \(node.number) cannot be read: \(error)")
        }
    }

    /// Says that a text came into a node's log, or is there no more, and that a node has another number.
    private func tell(
        of mark: Mark,
        in log: KnownLog,
        from before: KnownLog,
        of node: SimulatedNode,
        to tell: (String) -> Void
    ) {
        let moment = "\(time.milliseconds - VirtualTime.beginning) node \(node.number)"
        if log.origin != before.origin { tell("\(moment) writes as \(log.origin)") }
        let known = Set(before.keys)
        for key in log.keys where !known.contains(key) && ledger.marks(of: key).contains(mark) {
            tell("\(moment) has \(mark) in \(key.id) with chain \(key.chain.prefix)")
        }
        if before.marks.contains(mark), !log.marks.contains(mark) { tell("\(moment) has no \(mark) any more") }
    }

    /// The branch's lines, and at head office all of them.
    func lines(of index: Int) -> [SimulatedLine] {
        lines.values.filter { $0.ends.contains { $0.node === nodes[index] } }.sorted { $0.number < $1.number }
    }

    /// Ends a node's lines in order.
    func hangUp(_ index: Int) {
        for line in lines(of: index) {
            for end in 0...1 where line.ends[end].node === nodes[index] && line.isAlive(end) {
                tell(.finishRequested, line, end)
            }
        }
    }

    // MARK: Processes

    private func open(_ index: Int) throws {
        try nodes[index].open()
        watch(nodes[index])
        observe(nodes[index])
    }

    /// Hears of every commit that makes a node's log longer, or other than it was.
    private func watch(_ node: SimulatedNode) {
        let (number, grown) = (node.number, grown)
        _ = node.replica?.observeCommits { grown.insert(number) }
    }

    /// Starts a node again and looks at it.
    func restart(_ index: Int) {
        let node = nodes[index]
        node.clock.start()
        do {
            try node.open()
        } catch {
            if node.isDiskBad {
                schedule(.start(node: index), after: 600_000)
            } else if node.disk.isPowered {
                violate("I2", "node \(index) does not open: \(error)")
            }
            return
        }
        watch(node)
        let before = node.log
        observe(node)
        recheck(node, before: before)
    }

    /// What was in the log must be, unless it was written anew or its disk was put back.
    private func recheck(_ node: SimulatedNode, before: KnownLog) {
        guard !node.isDiskBad else { return }
        let lost = before.marks.subtracting(node.log.marks)
        if !lost.isEmpty, before.origin == node.log.origin {
            let others = nodes.filter { $0 !== node }.map(\.log.marks)
            violate(
                "I1",
                "node \(node.number) came back without \(lost.sorted().prefix(5)), "
                    + "which \(others.contains { !lost.isDisjoint(with: $0) } ? "others" : "nobody else") has"
            )
        }
        do {
            guard let replica = node.replica else { return }
            for problem in try replica.problems(isRewritten: true) { violate("I2", "node \(node.number): \(problem)") }
            if node === hub { try lookAtWholeChangeSets() }
        } catch {
            violate("I2", "node \(node.number) cannot be looked at: \(error)")
        }
    }

    /// The process dies; what it gave to the system stays.
    func kill(_ index: Int, milliseconds: UInt64) {
        let node = nodes[index]
        let state = node.disk.state()
        bury(index)
        node.disk.restore(state)
        schedule(.start(node: index), after: milliseconds)
    }

    /// The machine loses its power; of what was not synced some is left.
    func losePower(_ index: Int, milliseconds: UInt64, seed: UInt64, manner: CrashDisk.Manner) {
        let node = nodes[index]
        let state = node.disk.state()
        bury(index)
        node.disk.restart(state, seed: seed, manner: manner)
        schedule(.start(node: index), after: milliseconds)
    }

    /// Lets the power go with a change of the disk that is still to come.
    func cutLater(_ index: Int, change: Int, milliseconds: UInt64, seed: UInt64, manner: CrashDisk.Manner) {
        cutsToCome[index] = (milliseconds, seed, manner)
        nodes[index].disk.cut(atChange: change)
    }

    /// The process is gone; whoever talks to it hears of that at once, or never.
    func bury(_ index: Int) {
        for line in lines(of: index) {
            for end in 0...1 where line.ends[end].node !== nodes[index] {
                if line.random.oneIn(2) { deliver(nil, line, to: end, after: 1) }
            }
        }
        nodes[index].die()
    }

    /// Ends the process in order, a little later.
    func stopSoon(_ index: Int, milliseconds: UInt64) {
        hangUp(index)
        schedule(.stop(node: index, start: nodes[index].start, milliseconds: milliseconds), after: 5000)
    }

    private func stop(_ index: Int, _ milliseconds: UInt64) {
        for line in lines(of: index) { breakLine(line) }
        do {
            try nodes[index].close()
        } catch {
            if !nodes[index].isDiskBad, nodes[index].disk.isPowered {
                violate("I2", "node \(index) does not close: \(error)")
            }
        }
        schedule(.start(node: index), after: milliseconds)
    }
}

extension SyncFailure {
    /// Its name, without its values.
    var kind: String {
        switch self {
        case .linkLost: "linkLost"
        case .reconnecting: "reconnecting"
        case .stopped: "stopped"
        case .replaced: "replaced"
        case .refused(let refusal): "refused: \(refusal.code)"
        case .refusedPeer(let refusal): "refused the peer: \(refusal.code)"
        default: Mirror(reflecting: self).children.first?.label ?? "other"
        }
    }

    var isStoreFailure: Bool { if case .storeFailed = self { true } else { false } }
}

/// Nodes whose logs have grown since somebody looked; told by the threads of their writers.
private final class GrownLogs: Sendable {
    private let numbers = Mutex<Set<Int>>([])

    func insert(_ number: Int) { numbers.withLock { _ = $0.insert(number) } }

    func take() -> [Int] {
        numbers.withLock { numbers in
            defer { numbers = [] }
            return numbers.sorted()
        }
    }
}

/// FNV-1a (Fowler, Noll, Vo) over everything that happens.
package struct TraceHash: Hashable, Sendable, CustomStringConvertible {
    private var value: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func add(_ number: UInt64) {
        for shift in stride(from: 0, to: 64, by: 8) { add(UInt8(truncatingIfNeeded: number >> UInt64(shift))) }
    }

    mutating func add(_ byte: UInt8) { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }

    /// Adds the trace of a whole run.
    package mutating func add(_ run: TraceHash) { add(run.value) }

    package init() {}

    mutating func add(_ text: String) { for byte in text.utf8 { add(byte) } }

    package var description: String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

/// What a run has gone through, or several.
package struct Tally: Sendable {
    package init() {}

    /// Adds another run.
    package mutating func add(_ other: Tally) {
        writes += other.writes
        sessions += other.sessions
        bytes += other.bytes
        faults.merge(other.faults, uniquingKeysWith: +)
        outcomes.merge(other.outcomes, uniquingKeysWith: +)
        earlierBusyNodeHours += other.busyNodeHours
    }

    private var earlierBusyNodeHours = 0
    package var writes = 0
    package var sessions = 0
    package var bytes = 0
    /// By kind.
    package var faults: [String: Int] = [:]
    /// What came to pass, by name.
    package var outcomes: [String: Int] = [:]
    private var busyHours: Set<UInt64> = []

    /// Hours in which a node wrote or talked, added over all nodes.
    package var busyNodeHours: Int { earlierBusyNodeHours + busyHours.count }

    mutating func busy(_ node: Int, at milliseconds: UInt64) {
        busyHours.insert(UInt64(node) << 40 | milliseconds / 3_600_000)
    }

    mutating func fault(_ kind: String) { faults[kind, default: 0] += 1 }

    mutating func count(_ outcome: String, _ times: Int = 1) { outcomes[outcome, default: 0] += times }
}
