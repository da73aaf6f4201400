import Foundation
import SyncProtocol

extension Replica {
    /// Two clocks that differ by this more or less than before: one of them was set.
    private static let stepMillisecondsMin = 50

    /// The wall clock for a hello, remembered together with the time since the machine was started.
    func readClockForHello() -> UInt64 {
        let reading = clock.read()
        contacts.withLock { $0.own.greeting = reading }
        return reading.wallMilliseconds
    }

    /// A step of every session: corrects the times of what has not left this node, and follows the hub's clock
    /// from here on.
    func followHubClock(_ occasion: ConsultationOccasion) throws -> SyncStep {
        guard case .welcomed(let welcome, let measured) = occasion else { return .goOn }
        let greeting = contacts.withLock { $0.own.greeting }
        return try withWriter { writer in
            let now = clock.read()
            if let greeting, greeting.boot == now.boot {
                let step = (now.wall - greeting.wall) - (now.sinceBoot - greeting.sinceBoot)
                // The wall clock was set while it was measured.
                if step.magnitude >= Self.stepMillisecondsMin { return .reconnect }
            }
            try writer.followHubClock(
                measured,
                at: now,
                acceptedSeq: welcome.acceptedSeq,
                isTrusted: welcome.extras.isClockTrusted
            )
            return .goOn
        }
    }

    /// What the end of a session means for times, and for what is known of a child.
    func noteEnd(_ failure: SyncFailure?, of peer: SyncPeer) throws {
        try withWriter { writer in
            switch failure {
            case .refused(let refusal)
            where writer.node.role == .branch && [.clockAhead, .clockBehind].contains(refusal.code):
                // What was sent was corrected before, or could not be: it may not be corrected again.
                try writer.transaction { try writer.note(.mustRenew, 1) }
            case .refusedPeer(let refusal) where writer.node.role == .headOffice:
                try writer.transaction {
                    try writer.db.execute(
                        sql: "UPDATE registeredNode SET refusals = refusals + 1, lastRefusal = ? WHERE node = ?",
                        arguments: [refusal.sentence, Data(peer.node.bytes)]
                    )
                }
            default:
                break
            }
        }
    }
}
