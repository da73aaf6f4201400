import Causality
import SyncProtocol

/// A child and a hub that talk over a line of bytes in memory, performing the actions of their sessions in
/// an order that a seed decides. The line breaks after a given number of messages.
package struct Conversation {
    private struct Side {
        var session: SyncSession
        let store: any SyncStore
        let codec = SyncMessageCodec()
        var todo: [SyncSession.Action] = []
        var inbox: [FramedMessage] = []
    }

    private var sides: [Side]
    /// Messages that have arrived so far.
    package private(set) var delivered = 0
    /// Bytes that both sides have put on the line.
    package private(set) var bytes = 0
    private let deliveredMax: Int
    private let limits: SyncLimits

    package init(
        child: any SyncStore,
        hub: any SyncStore,
        limits: SyncLimits = .standard,
        deliveredMax: Int = .max
    ) {
        sides = [
            Side(session: SyncSession(role: .child(isOneShot: true), limits: limits), store: child),
            Side(session: SyncSession(role: .hub, limits: limits), store: hub),
        ]
        self.deliveredMax = deliveredMax
        self.limits = limits
    }

    /// What the child says it has moved.
    package var childTotals: SessionTotals { sides[0].session.totals }

    /// Runs until both sides are closed, and returns why each was.
    package mutating func run(_ random: inout SeededRandom) -> [SyncFailure?] {
        var ends: [SyncFailure??] = [nil, nil]
        for index in sides.indices { sides[index].todo += sides[index].session.handle(.linkOpened) }
        while ends.contains(where: { $0 == nil }) {
            // A step of either side: an action it has to do, or a message that waits for it.
            let choices = sides.indices.flatMap { index -> [(side: Int, isAction: Bool)] in
                (sides[index].todo.isEmpty ? [] : [(index, true)])
                    + (sides[index].inbox.isEmpty || ends[index] != nil ? [] : [(index, false)])
            }
            guard let choice = choices.randomElement(using: &random) else {
                // Nobody has anything to do: only a broken line can end this.
                for index in sides.indices { sides[index].todo += sides[index].session.handle(.linkClosed) }
                if sides.allSatisfy(\.todo.isEmpty) { break }
                continue
            }
            if choice.isAction {
                if let end = perform(sides[choice.side].todo.removeFirst(), of: choice.side) {
                    ends[choice.side] = end
                }
            } else {
                deliver(to: choice.side)
            }
        }
        return ends.map { $0 ?? .linkLost }
    }

    private mutating func deliver(to index: Int) {
        let framed = sides[index].inbox.removeFirst()
        guard delivered < deliveredMax else { return }
        delivered += 1
        do {
            let message = try sides[index].codec.decode(framed)
            sides[index].todo += sides[index].session.handle(
                .received(message, atMilliseconds: sides[index].store.nowMilliseconds())
            )
        } catch {
            preconditionFailure("A message of our own cannot be read: \(error)")
        }
    }

    private mutating func perform(_ action: SyncSession.Action, of index: Int) -> SyncFailure?? {
        let store = sides[index].store
        func result<Value>(_ body: () throws(SyncStoreFailure) -> Value) -> Result<Value, SyncStoreFailure> {
            do throws(SyncStoreFailure) { return .success(try body()) } catch { return .failure(error) }
        }
        var event: SyncSession.Event?
        switch action {
        case .send(let message):
            let framed = sides[index].codec.encode(message)
            for index in 0..<framed.frameCount(limits: limits) {
                let frame = framed.frame(index, limits: limits)
                bytes += frame.header.count + frame.payload.count
            }
            sides[1 - index].inbox.append(framed)
        case .readFacts:
            event = .factsRead(result { () throws(SyncStoreFailure) in try store.childFacts() })
        case .adoptWelcome(let welcome, let clock):
            event = .welcomeAdopted(
                result { () throws(SyncStoreFailure) in
                    try store.adoptWelcome(welcome, clock: clock)
                }
            )
        case .takeAnswer(let answer, let question):
            event = .stepDecided(
                result { () throws(SyncStoreFailure) in try store.take(answer, to: question) }
            )
        case .consult(let occasion):
            event = .stepDecided(result { () throws(SyncStoreFailure) in try store.consult(on: occasion) })
        case .answer(let question, let peer):
            event = .answered(
                result { () throws(SyncStoreFailure) in try store.answer(question, from: peer) }
            )
        case .decideWelcome(let hello, let time):
            event = .welcomeDecided(
                result { () throws(SyncStoreFailure) in
                    try store.decideWelcome(hello, receivedAtMilliseconds: time)
                }
            )
        case .readBatch(.own(let seq, let bytes, let entries)):
            event = .batchRead(
                result { () throws(SyncStoreFailure) in
                    try store.readOwn(afterSeq: seq, bytesMax: bytes, entriesMax: entries)
                }
            )
        case .readBatch(.log(let position, let reader, let bytes, let entries)):
            event = .batchRead(
                result { () throws(SyncStoreFailure) in
                    try store.readLog(
                        afterPosition: position,
                        for: reader,
                        bytesMax: bytes,
                        entriesMax: entries
                    )
                }
            )
        case .readPart(let request):
            event = .partRead(result { () throws(SyncStoreFailure) in try store.readPart(request) })
        case .openSpool(let body, let peer):
            event = .spooled(result { () throws(SyncStoreFailure) in try store.openSpool(for: body, from: peer) })
        case .spool(let bytes, let offset, let body, let peer):
            event = .spooled(
                result { () throws(SyncStoreFailure) in try store.spool(bytes, at: offset, of: body, from: peer) }
            )
        case .apply(let batches, let peer):
            event = .applied(result { () throws(SyncStoreFailure) in try store.apply(batches, from: peer) })
        case .readRoot(let prefix, let child):
            event = .rootRead(
                result { () throws(SyncStoreFailure) in try store.currentRoot(at: prefix, child: child) }
            )
        case .record(let fact, let peer):
            try? store.record(fact, of: peer)
        case .close(let failure):
            return .some(failure)
        case .startTimer, .decideJoin, .joined:
            break
        }
        if let event { sides[index].todo += sides[index].session.handle(event) }
        return nil
    }
}
