import Causality
import Foundation

@testable import ReplicaStore

/// A node of a simulated organisation.
final class SimulatedNode: NodeOnDisk {
    let number: Int
    var replica: Replica? { opened }
    /// How often the process was started: whoever belongs to an earlier start is gone.
    private(set) var start = 0
    /// No line before that time.
    var awayUntil: UInt64 = 0
    /// What its disk held at moments that a script wanted remembered.
    var remembered: CrashDisk.State?
    /// Its log was in a backup up to here.
    var backedUp: UInt64 = 0
    /// Its number when the world began.
    var firstOrigin: Origin?
    /// What its log is known to hold.
    var log = KnownLog()
    /// What its disk has had since it was put back last: what waits to be issued again is in no log for a while.
    var held: Set<Mark> = []
    /// The number under which it was last found equal to head office.
    var equalAs: Origin?
    /// Whether somebody did something to its disk, so that what it does may fail.
    var isDiskBad = false
    /// Whether an administrator's index refuses rows.
    var isForbidding = false { didSet { hasForbidden = hasForbidden || isForbidding } }
    /// Whether it ever did: rows of a snapshot may have been left out then.
    private(set) var hasForbidden = false

    init(_ number: Int, time: VirtualTime, policy: @escaping (inout ReplicaPolicy) -> Void) throws {
        self.number = number
        try super.init(MachineClock(time, seed: UInt64(number)))
        self.policy = policy
    }

    override func started(_ replica: Replica) {
        super.started(replica)
        start += 1
    }

    /// The file beside the replica that notices copies: taken away, or made one of another file.
    func breakFence(isMissing: Bool) {
        if isMissing {
            try? FileManager.default.removeItem(atPath: Fence.path(in: directory))
        } else {
            changeFence { text in
                text.replacing(/"inode":\d+/, with: "\"inode\":1")
                    .replacing(/"path":"[^"]*"/, with: "\"path\":\"/other\"")
            }
        }
    }
}
