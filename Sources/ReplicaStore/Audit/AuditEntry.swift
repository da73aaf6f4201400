import Causality
import Glibc
import SyncProtocol

/// What the audit log tells of. Raw values are permanent: they are stored and printed.
package enum AuditAction: String, Hashable, Sendable, CaseIterable {
    case enroll = "node.enroll"
    case join = "node.join"
    case approve = "node.approve"
    case pause = "node.pause"
    case resume = "node.resume"
    case revoke = "node.revoke"
    case retire = "node.retire"
    case setPolicy = "policy.set"
    /// A branch wrote what it may not.
    case voidWrite = "write.void"
    case erase = "privacy.erase"
    case export = "privacy.export"
    /// Rows were taken from a file, taken back, or handed out.
    case importRows = "import"
    case undoImport = "import.undo"
    case exportRows = "export"
    case dropParked = "parked.drop"
    /// This node goes on under a new number, because it was restored or copied.
    case newLife = "life.begin"
}

/// One thing that somebody did, or was refused. Holds names of nodes and identifiers of rows, and nothing of a person's.
package struct AuditEntry: Hashable, Sendable {
    /// From 1.
    package let number: UInt64
    /// By this node's clock, in milliseconds since 1970-01-01 UTC.
    package let at: UInt64
    /// The account on this machine, or the node, that did it.
    package let actor: String
    package let action: String
    package let object: String
    package let outcome: String
    /// Which policy about writes was in force; 0 for none.
    package let policyVersion: UInt64
    /// The SHA-256 of the hash before it and all of the above.
    package let hash: [UInt8]

    /// What stands for the log before its first entry.
    static func beginning(of node: [UInt8]) -> [UInt8] { Replica.hash(Array("peyvand audit 1".utf8) + node) }

    /// The hash that the entry must have.
    static func hash(
        after previous: [UInt8],
        number: UInt64,
        at: UInt64,
        actor: String,
        action: String,
        object: String,
        outcome: String,
        policyVersion: UInt64
    ) -> [UInt8] {
        var writer = ByteWriter()
        writer.sized(previous)
        writer.varint(number)
        writer.varint(at)
        for text in [actor, action, object, outcome] { writer.sized(Array(text.utf8)) }
        writer.varint(policyVersion)
        return Replica.hash(writer.bytes)
    }

    /// The hash that follows from what it says.
    func hash(after previous: [UInt8]) -> [UInt8] {
        Self.hash(
            after: previous,
            number: number,
            at: at,
            actor: actor,
            action: action,
            object: object,
            outcome: outcome,
            policyVersion: policyVersion
        )
    }
}

/// On whose behalf something is done.
package enum Actor {
    /// Set by whoever takes an order from another process.
    @TaskLocal package static var current: String?

    /// The account that is at work: the one that gave the order, else this process's own.
    package static var name: String { current ?? name(ofUser: geteuid()) }

    /// What an account of this machine is called; its number when it has no name.
    package static func name(ofUser user: UInt32) -> String {
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var buffer = [CChar](repeating: 0, count: 16 << 10)
        guard getpwuid_r(user, &entry, &buffer, buffer.count, &found) == 0, found != nil, let name = entry.pw_name
        else { return "\(user)" }
        return String(cString: name)
    }
}
