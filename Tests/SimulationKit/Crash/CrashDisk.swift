import CCrashDisk
import TestKit

/// A disk in memory below real SQLite, whose power can be cut and whose operations can be made to fail.
///
/// It serves the databases below ``directory``, with their journals, write-ahead logs and the shared memory of several
/// connections of this process. Everything else in the process goes on with the real disk, so tests may run side by
/// side, each with disks of its own. What is no database (a fence, a spool) lies in the directory as a real file; it is
/// kept and put back with the rest, and counts as durable when it is written.
///
///     let disk = try CrashDisk()
///     let node = try Replica.create(disk.directory + "/node", ...)   // GRDB, and SQLite, notice nothing
///     disk.cut(atChange: 17)                                         // the power goes with the 17th change
///     ... work until something throws ...
///     let left = disk.state()                                        // what the disk held at that moment
///     for seed in 0..<8 {
///         disk.restart(left, seed: seed)                             // some of the unsynced writes are gone
///         ... open, check ...
///     }
///
/// A handle from before a cut, restart or restore is dead: whatever it does fails and changes nothing.
package final class CrashDisk: @unchecked Sendable {
    // `@unchecked`: the pointer is never changed, and what it points to is locked.

    /// What a power cut leaves of the writes that were not synced.
    package enum Manner: Int32, CaseIterable, Sendable {
        /// Each is kept, dropped, torn at 512 bytes or garbled, as the seed says, in any order.
        case anyhow
        case allKept
        case allDropped
        /// Kept up to one of them, which is torn.
        case inOrder
        /// Like `anyhow`, but what is torn is torn at 4,096 bytes.
        case pages
        /// Each is kept, dropped, or half of it is nonsense.
        case garbled
    }

    /// What is done to a disk.
    package struct Operations: OptionSet, Sendable {
        package let rawValue: Int32
        package init(rawValue: Int32) { self.rawValue = rawValue }

        package static let reads = Operations(rawValue: 1)
        package static let writes = Operations(rawValue: 2)
        package static let syncs = Operations(rawValue: 4)
        package static let truncations = Operations(rawValue: 8)
        package static let removals = Operations(rawValue: 16)
        /// What makes a difference to a power cut.
        package static let changes: Operations = [.writes, .syncs, .truncations, .removals]
    }

    /// What the disk answers when it fails.
    package enum Fault: Int32, Sendable {
        /// SQLITE_IOERR
        case inputOutput = 10
        /// SQLITE_FULL
        case full = 13
    }

    /// What lies on a disk and in its directory at one moment, synced or not.
    package final class State: @unchecked Sendable {
        // `@unchecked`: never changed.
        fileprivate let pointer: OpaquePointer
        fileprivate init(_ pointer: OpaquePointer) { self.pointer = pointer }
        deinit { crash_state_free(pointer) }

        /// How many writes and truncations were not synced.
        package var unsynced: Int { Int(crash_state_unsynced(pointer)) }

        /// What a power cut leaves of it. All of that is durable; the same seed leaves the same.
        package func cut(seed: UInt64, manner: Manner = .anyhow) -> State {
            State(crash_state_cut(pointer, seed, manner.rawValue))
        }

        /// Whether there is a file; paths begin with a slash, which stands for ``CrashDisk/directory``.
        package func has(_ path: String) -> Bool { crash_state_has(pointer, path) != 0 }

        /// A number for what is durable in the files whose paths end so: equal for equal bytes.
        package func print(ofFilesEndingIn ending: String = "") -> UInt64 { crash_state_print(pointer, ending) }

        /// Lets SQLite recover a database as the next one who opens it would, and put its write-ahead log into the file,
        /// in memory alone. A hundred times faster than opening a node.
        ///
        /// - Returns: A result code of SQLite, and what it leaves.
        package func recovered(_ path: String) -> (code: Int, left: State) {
            let left = State(crash_state_copy(pointer))
            return (Int(crash_state_recover(left.pointer, path)), left)
        }
    }

    /// SQLite does not take the disk.
    package struct NotTaken: Error {}

    private let home = TemporaryDirectory(inMemory: true)
    private let pointer: OpaquePointer

    /// A new disk, empty.
    package init() throws {
        guard let pointer = crash_disk_make(home.path) else { throw NotTaken() }
        self.pointer = pointer
    }

    deinit {
        crash_disk_watch(pointer, nil, nil)
        crash_disk_free(pointer)
    }

    /// Databases below this path are on the disk.
    package var directory: String { home.path }

    /// How many operations there were since the disk was made.
    package func count(_ operations: Operations) -> Int { Int(crash_disk_count(pointer, operations.rawValue)) }

    // MARK: Power

    /// Whether the power is on.
    package var isPowered: Bool { crash_disk_is_powered(pointer) != 0 }

    /// Cuts the power with the nth change from now on; 1 is the next one, 0 takes the order back.
    package func cut(atChange number: Int) { crash_disk_cut_at(pointer, Int64(number)) }

    /// Cuts the power now.
    package func cut() { crash_disk_cut(pointer) }

    /// What the disk holds; without power, what it held when that went.
    package func state() -> State { State(crash_disk_capture(pointer)) }

    /// Calls a closure whenever ``state()`` is what a power cut would meet next: with every change, before anything of
    /// it is durable. The closure may use other disks, and put the state on them. Nil ends it.
    ///
    /// So one run of something shows all the moments at which the power may go.
    package func watchChanges(_ body: (() -> Void)?) {
        guard let body else {
            crash_disk_watch(pointer, nil, nil)
            watcher = nil
            return
        }
        let kept = Watcher(body)
        watcher = kept
        crash_disk_watch(
            pointer,
            { context in
                guard let context else { return }
                Unmanaged<Watcher>.fromOpaque(context).takeUnretainedValue().body()
            },
            Unmanaged.passUnretained(kept).toOpaque()
        )
    }

    private final class Watcher {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }

    private nonisolated(unsafe) var watcher: Watcher?

    /// Puts everything back as it was in a state, of this disk or of another, synced or not, and switches the power on.
    package func restore(_ state: State) { crash_disk_restore(pointer, state.pointer) }

    /// Puts in the place of everything what a power cut leaves of a state, and switches the power on.
    package func restart(_ state: State, seed: UInt64, manner: Manner = .anyhow) {
        restore(state.cut(seed: seed, manner: manner))
    }

    // MARK: Faults

    /// Lets the nth of some operations from now on fail, once or from there on for ever.
    ///
    /// A write that fails has written half. What a failed sync should have written can still be read, and is gone after
    /// a power cut, whatever is synced later: so Linux does it.
    package func fail(_ operations: Operations, at number: Int, with fault: Fault, forEver: Bool = false) {
        crash_disk_fail_at(pointer, operations.rawValue, Int64(number), fault.rawValue, forEver ? 1 : 0)
    }

    /// Ends all faults.
    package func mend() { crash_disk_fail_at(pointer, 0, 0, 0, 0) }

    /// How many operations have failed since the last order to fail.
    package var failures: Int { Int(crash_disk_failures(pointer)) }

    /// Whether syncs do nothing, although they say that they did.
    package func lie(_ lies: Bool) { crash_disk_lie(pointer, lies ? 1 : 0) }
}
