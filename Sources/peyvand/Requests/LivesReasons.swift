import Causality
import ReplicaStore

// What `status` and `fleet` say of nodes that were restored or copied.

extension HealthReason {
    /// So long `fleet` shows that a node has forked.
    private static let shownMilliseconds: UInt64 = 7 * 24 * 3_600_000

    static func lives(_ lives: LifeState) -> [HealthReason] {
        var reasons: [HealthReason] = []
        if let why = lives.mustRenew {
            reasons.append(
                HealthReason(
                    code: "renewing",
                    sentence:
                        "This node takes a new number at its next contact with head office: \(why). Work goes on; "
                        + "rows made until then get other numbers. Run `peyvand sync`.",
                    state: .yellow
                )
            )
        }
        if lives.waiting.changeSets > 0, let former = lives.former {
            reasons.append(
                HealthReason(
                    code: "forked",
                    sentence: "This copy of the node forked at seq \(former.seq) of number \(former.origin); "
                        + "\(lives.waiting.changeSets) of its change sets wait to be issued again. Run `peyvand sync`.",
                    state: .yellow
                )
            )
        }
        return reasons
    }

    static func lives(_ fork: RegisteredFork, of node: RegisteredNodeState) -> [HealthReason] {
        var reasons: [HealthReason] = []
        if let other = fork.otherCopy {
            reasons.append(
                HealthReason(
                    code: "copied",
                    sentence: "Two copies of it are in use, as numbers \(node.origin) and \(other). Stop one of them.",
                    state: .red
                )
            )
        }
        if let contact = node.lastContact, contact < fork.at + shownMilliseconds {
            reasons.append(
                HealthReason(
                    code: "forked",
                    sentence: "It was restored or copied, or its clock was wrong: it forked at seq "
                        + "\(fork.former.seq) of number \(fork.former.origin) and writes as \(node.origin) now. "
                        + "Nothing is lost.",
                    state: .yellow
                )
            )
        }
        return reasons
    }
}
