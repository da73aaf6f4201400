/// A way in which a disk fails.
package struct DiskFailing: Sendable {
    package let name: String
    package let operations: CrashDisk.Operations
    package let fault: CrashDisk.Fault
    /// Whether it fails from one operation on, or at that one alone.
    package let forEver: Bool

    package static let all = [
        DiskFailing(name: "a write fails once", operations: .writes, fault: .inputOutput, forEver: false),
        DiskFailing(name: "writes fail", operations: .writes, fault: .inputOutput, forEver: true),
        DiskFailing(name: "the disk is full for a moment", operations: .writes, fault: .full, forEver: false),
        DiskFailing(name: "the disk is full", operations: .writes, fault: .full, forEver: true),
        DiskFailing(name: "a sync fails once", operations: .syncs, fault: .inputOutput, forEver: false),
        DiskFailing(name: "syncs fail", operations: .syncs, fault: .inputOutput, forEver: true),
        DiskFailing(name: "a read fails once", operations: .reads, fault: .inputOutput, forEver: false),
        DiskFailing(name: "reads fail", operations: .reads, fault: .inputOutput, forEver: true),
        DiskFailing(name: "a file cannot be cut", operations: .truncations, fault: .inputOutput, forEver: false),
        DiskFailing(name: "a file cannot be removed", operations: .removals, fault: .inputOutput, forEver: false),
    ]
}
