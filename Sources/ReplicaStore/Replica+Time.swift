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

    /// Notes at a branch that the hub has refused its work for its time.
    ///
    /// What was sent was corrected before, or could not be, so it may not be corrected again.
    func noteEnd(_ failure: SyncFailure?) throws {
        guard case .refused(let refusal) = failure, [.clockAhead, .clockBehind].contains(refusal.code) else { return }
        try withWriter { writer in
            guard writer.node.role == .branch else { return }
            try writer.transaction { try writer.note(.mustRenew, 1) }
        }
    }
}
