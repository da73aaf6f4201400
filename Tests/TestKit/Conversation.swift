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
    /// Why each side has closed; nil while it has not.
    private var ends: [SyncFailure??] = [nil, nil]
    /// Messages that have arrived so far.
    package private(set) var delivered = 0
    /// Bytes that both sides have put on the line.
    package private(set) var bytes = 0
    private let deliveredMax: Int
    private let limits: SyncLimits
    /// Sees each message just before its receiver does, and may change it: who receives it (0 is the child, 1 the hub),
    /// and how far the receiver is. Whoever changes messages gets sessions that end as broken ones do.
    package var onArrival: ((_ receiver: Int, _ message: inout FramedMessage, _ session: SyncSession) -> Void)?

    /// - Parameter isOneShot: Whether the child ends the session when there is nothing more to exchange.
    package init(
        child: any SyncStore,
        hub: any SyncStore,
        isOneShot: Bool = true,
        limits: SyncLimits = .standard,
        deliveredMax: Int = .max
    ) {
        sides = [
            Side(session: SyncSession(role: .child(isOneShot: isOneShot), limits: limits), store: child),
            Side(session: SyncSession(role: .hub, limits: limits), store: hub),
        ]
        self.deliveredMax = deliveredMax
        self.limits = limits
    }

    /// What the child says it has moved.
    package var childTotals: SessionTotals { sides[0].session.totals }

    /// Runs until both sides are closed, and returns why each was.
    package mutating func run(_ random: inout SeededRandom) -> [SyncFailure?] {
        open()
        while ends.contains(where: { $0 == nil }) {
            if step(&random) { continue }
            // Only a broken line can end this.
            for index in sides.indices { sides[index].todo += sides[index].session.handle(.linkClosed) }
            if sides.allSatisfy(\.todo.isEmpty) { break }
        }
        return ends.map { $0 ?? .linkLost }
    }

    /// Opens the line. What follows is done step by step.
    package mutating func open() {
        for index in sides.indices { sides[index].todo += sides[index].session.handle(.linkOpened) }
    }

    /// Goes on until nobody has anything to do.
    ///
    /// - Returns: Whether both sides still hold the line.
    package mutating func settle(_ random: inout SeededRandom) -> Bool {
        while step(&random) {}
        return ends.allSatisfy { $0 == nil }
    }

    /// A timer of both sides has run out.
    package mutating func fire(_ timer: SyncSession.Timer) {
        for index in sides.indices { sides[index].todo += sides[index].session.handle(.timerFired(timer)) }
    }

    /// A step of either side: an action it has to do, or a message that waits for it.
    ///
    /// - Returns: False when there is none.
    private mutating func step(_ random: inout SeededRandom) -> Bool {
        let choices = sides.indices.flatMap { index -> [(side: Int, isAction: Bool)] in
            (sides[index].todo.isEmpty ? [] : [(index, true)])
                + (sides[index].inbox.isEmpty || ends[index] != nil ? [] : [(index, false)])
        }
        guard let choice = choices.randomElement(using: &random) else { return false }
        if choice.isAction {
            if let end = perform(sides[choice.side].todo.removeFirst(), of: choice.side) { ends[choice.side] = end }
        } else {
            deliver(to: choice.side)
        }
        return true
    }

    private mutating func deliver(to index: Int) {
        var framed = sides[index].inbox.removeFirst()
        guard delivered < deliveredMax else { return }
        delivered += 1
        onArrival?(index, &framed, sides[index].session)
        do {
            let message = try sides[index].codec.decode(framed)
            sides[index].todo += sides[index].session.handle(
                .received(message, atMilliseconds: sides[index].store.nowMilliseconds())
            )
        } catch {
            guard onArrival != nil else { preconditionFailure("A message of our own cannot be read: \(error)") }
            sides[index].todo += sides[index].session.handle(.malformed(error))
        }
    }

    private mutating func perform(_ action: SyncSession.Action, of index: Int) -> SyncFailure?? {
        var event: SyncSession.Event?
        switch action {
        case .send(let message):
            let framed = sides[index].codec.encode(message)
            for index in 0..<framed.frameCount(limits: limits) {
                let frame = framed.frame(index, limits: limits)
                bytes += frame.header.count + frame.payload.count
            }
            sides[1 - index].inbox.append(framed)
        case .close(let failure):
            return .some(failure)
        case .startTimer, .decideJoin, .joined:
            break
        default:
            event = try? sides[index].store.perform(action)
        }
        if let event { sides[index].todo += sides[index].session.handle(event) }
        return nil
    }
}
