import Causality
import Foundation
import Glibc

/// A file beside the database that notices, without a line, that the database was put back to an older state or
/// copied: it remembers how often the database was opened to be written, where it lies, and up to which number
/// new rows were reserved.
///
/// The file is written and synced before the database is, so it is never behind. It is a convenience: what is
/// copied together with it passes, and is found at the next contact by the chain of what was written.
///
/// Two things that look like a copy are none: a directory that was moved (the inode stays), and a disk that got
/// another device number (path and inode stay). Belongs to the writer.
final class Fence {
    /// What the file says.
    struct State: Hashable, Codable {
        var format = 1
        /// How often the database was opened to be written.
        var openings: Int64 = 0
        /// The last opening may not have reached the database.
        var isOpening = false
        /// Row counters up to this one may have been given out.
        var reserved: Int64 = 0
        /// Of the machine; empty when it has no name.
        var machine = ""
        var device: UInt64 = 0
        var inode: UInt64 = 0
        var path = ""
    }

    /// How file and database fit.
    enum Finding: Hashable {
        case fits
        /// There is no fence yet, and the database knows of none.
        case new
        /// The database is a copy, or older than the file.
        case broken
    }

    /// So many row counters are reserved at a time; more when many rows are made.
    private static let blockMin: Int64 = 4096
    private static let blockMax: Int64 = 1 << 20
    /// How many counters are left out when nobody knows how far another copy has come.
    static let leftOut: Int64 = 1 << 16

    private let path: String
    private let databasePath: String
    private(set) var state: State
    private var isCounted = false
    /// Whether the database has still to say how often it was opened.
    var mustCount: Bool { !isCounted || state.isOpening }
    private var block = blockMin

    /// The file of a node's directory.
    static func path(in directory: String) -> String { directory + "/fence" }

    /// Reads the file of a node's directory.
    init(directory: String) {
        path = Self.path(in: directory)
        databasePath = Replica.path(in: directory)
        let stored = FileManager.default.contents(atPath: path)
        isMissing = stored == nil
        state = stored.flatMap { try? JSONDecoder().decode(State.self, from: $0) } ?? State()
    }

    private let isMissing: Bool

    /// Holds the file against the database, once, at opening.
    ///
    /// - Parameter openings: What the database says; nil when it never heard of a fence.
    func compare(openings: Int64?) -> Finding {
        let present = place()
        guard let openings else {
            // The first fence of this file: there is nothing that it could contradict.
            state = present
            return .new
        }
        let isSamePlace =
            state.inode == present.inode && (state.device == present.device || state.path == present.path)
            && (state.machine.isEmpty || present.machine.isEmpty || state.machine == present.machine)
        let isSameOpening = state.openings == openings || (state.isOpening && state.openings == openings + 1)
        let fits = !isMissing && isSamePlace && isSameOpening
        state.machine = present.machine
        state.device = present.device
        state.inode = present.inode
        state.path = present.path
        state.openings = max(state.openings, openings)
        return fits || isPlanted(.fenceInDatabase) ? .fits : .broken
    }

    /// Counts this opening: to be called in the first transaction, before it commits.
    ///
    /// - Returns: What the database has to say of it.
    func count() throws -> Int64 {
        if !isCounted {
            state.openings += 1
            state.isOpening = true
            try save(synced: true)
            Failpoint.fenceCounted.pass()
            isCounted = true
        }
        return state.openings
    }

    /// The database has said it, durably. May be lost.
    func wasCommitted() throws {
        guard isCounted, state.isOpening else { return }
        state.isOpening = false
        try save(synced: false)
    }

    /// Reserves counters before one is given out that was not reserved.
    ///
    /// - Returns: Up to which one, if that is news.
    func reserve(_ counter: Int64) throws -> Int64? {
        guard counter > state.reserved else { return nil }
        state.reserved = counter + block
        block = min(block * 2, Self.blockMax)
        try save(synced: true)
        return state.reserved
    }

    /// A new life counts its rows from the beginning.
    func beginLife() throws {
        state.reserved = 0
        block = Self.blockMin
        try save(synced: true)
    }

    /// Where the database is now.
    private func place() -> State {
        var information = stat()
        var state = State()
        if stat(databasePath, &information) == 0 {
            state.device = UInt64(information.st_dev)
            state.inode = UInt64(information.st_ino)
        }
        state.path =
            realpath(databasePath, nil).map { name in
                defer { free(name) }
                return String(cString: name)
            } ?? databasePath
        state.machine =
            (try? String(contentsOfFile: "/etc/machine-id", encoding: .utf8))?
            .trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
        return state
    }

    /// Written in place: the content fits one sector, which a disk writes whole or not at all.
    private func save(synced: Bool) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        var bytes = [UInt8](try encoder.encode(state))
        bytes.append(UInt8(ascii: "\n"))
        let isNew = access(path, F_OK) != 0
        let file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o640)
        guard file >= 0 else { throw failure() }
        defer { close(file) }
        let written = bytes.withUnsafeBytes { pwrite(file, $0.baseAddress, $0.count, 0) }
        guard written == bytes.count, ftruncate(file, off_t(bytes.count)) == 0, !synced || fdatasync(file) == 0
        else { throw failure() }
        if isNew { syncDirectory(of: path) }
    }

    private func failure() -> StoreFailure {
        if errno == ENOSPC { return .diskFull }
        return .database(
            "The file \(path) cannot be written: \(String(cString: strerror(errno))). Check the directory."
        )
    }
}

/// Makes a new name in a directory survive a power cut.
func syncDirectory(of path: String) {
    let directory = open((path as NSString).deletingLastPathComponent, O_RDONLY | O_DIRECTORY)
    guard directory >= 0 else { return }
    fsync(directory)
    close(directory)
}
