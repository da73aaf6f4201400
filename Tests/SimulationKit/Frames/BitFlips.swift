import Causality

@testable import SyncProtocol

/// Flips every bit of frames, one at a time, and mends no checksum: none of them may be taken for anything.
package struct BitFlips {
    package struct Outcome: Sendable {
        package var kinds = 0
        package var flips = 0
        /// Cuts of a message at every byte, in frames that are whole.
        package var cuts = 0
        package var problems: [String] = []
    }

    /// Frames of no more than this are taken.
    private static let bytesMax = 1024

    /// One frame of each kind of message.
    package static func everywhere(_ tape: FrameTape) -> Outcome {
        var outcome = Outcome()
        let codec = SyncMessageCodec()
        let ping = codec.encode(.ping(nonce: 1)).frames()
        for (kind, label) in zip(tape.kinds, tape.labels) {
            let fitting = kind.map { tape.arrivals[$0] }.filter { $0.message.payload.count <= bytesMax }
            guard let arrival = fitting.max(by: { $0.message.payload.count < $1.message.payload.count }) else {
                continue
            }
            outcome.kinds += 1
            flip(arrival, label, followedBy: ping, &outcome)
            cut(arrival, label, codec, &outcome)
        }
        return outcome
    }

    private static func flip(
        _ arrival: FrameTape.Arrival,
        _ label: String,
        followedBy ping: [UInt8],
        _ outcome: inout Outcome
    ) {
        let frame = arrival.message.frames()
        for bit in 0..<(frame.count * 8) {
            outcome.flips += 1
            var bytes = frame
            bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            var decoder = FrameDecoder()
            if arrival.session.isPeerTrusted { decoder.trustPeer() }
            // What follows is lawful, and must not make it whole.
            decoder.feed(bytes + ping + ping + ping)
            do {
                if let message = try decoder.next() {
                    outcome.problems.append("\(label): with bit \(bit) flipped it was taken for \(message)")
                }
            } catch {
                var session = arrival.session
                let actions = session.handle(.malformed(error))
                let isIdle = actions.allSatisfy { action in
                    switch action {
                    case .send(.bye), .record, .close: true
                    default: false
                    }
                }
                if !isIdle || !session.isClosed {
                    outcome.problems.append("\(label): after flipped bit \(bit) the session wants \(actions)")
                }
            }
        }
    }

    /// A message that ends early is no message, or a lawful one that says just that much.
    private static func cut(
        _ arrival: FrameTape.Arrival,
        _ label: String,
        _ codec: SyncMessageCodec,
        _ outcome: inout Outcome
    ) {
        for count in 0..<arrival.message.payload.count {
            outcome.cuts += 1
            let cut = FramedMessage(type: arrival.message.type, payload: Array(arrival.message.payload.prefix(count)))
            guard let message = try? codec.decode(cut) else { continue }
            // A node of an earlier version said less: it left out a whole field.
            if case .joined(let joined) = message, joined.organisationKey == nil { continue }
            outcome.problems.append("\(label): cut at \(count) it was taken for \(message)")
        }
    }
}
