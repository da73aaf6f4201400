import Foundation
import GRDB
import TestKit

// The program itself: a head office and a branch as two processes that talk over loopback TCP, and how long it takes to
// begin.

/// How a newcomer gets what is there.
enum LoadWay {
    case log, snapshot
}

/// A branch that has just joined takes everything from a head office that runs; beside upserts of the same rows.
///
/// Both processes' time counts, and the larger peak of memory.
final class LoadOverLine: Contest {
    private let source: LoadSource
    private let way: LoadWay
    private let home = TemporaryDirectory()
    private let headOffice: Program
    private let address: String
    private var plain: PlainDatabase
    private var branches = 0
    private var loaded = ""

    private var directory: String { home.path + "/b\(branches)" }

    init(_ source: LoadSource, by way: LoadWay) throws {
        (self.source, self.way) = (source, way)
        plain = try PlainDatabase()
        if way == .snapshot { try source.preferSnapshots() }
        try source.hub.close()
        headOffice = try Program(["run", "--data", source.hub.directory, "--listen", "127.0.0.1:0"])
        address = try Self.address(of: headOffice)
    }

    /// Where it listens, once it does.
    private static func address(of program: Program) throws -> String {
        for _ in 0..<6000 {
            let listening = program.messages.firstMatch(of: #/listens on (127\.0\.0\.1:\d+)\./#)
            if let listening { return String(listening.1) }
            if program.reap(waiting: false) { break }
            usleep(10_000)
        }
        throw NotTheSame(description: "Head office does not come up. \(program.messages)")
    }

    func prepare() throws {
        branches += 1
        plain = try PlainDatabase()
        let name = "b\(UInt32.random(in: 0...UInt32.max))"
        let invitation = try Program.run(["enroll", name, "--data", source.hub.directory, "--address", address]).output
        let line = invitation.trimmingCharacters(in: .whitespacesAndNewlines)
        try Program.run(["init", "--data", directory, "--role", "branch", "--join", line, "--without-load"])
        try waitUntilIdle()
    }

    /// Head office indexes customers and looks through its rows when nobody wants anything of it.
    private func waitUntilIdle() throws {
        for _ in 0..<600 {
            let before = headOffice.measured.processorSeconds
            usleep(500_000)
            if headOffice.measured.processorSeconds - before < 0.02 { return }
        }
        throw NotTheSame(description: "Head office does not come to rest.")
    }

    func runPlain() throws { try source.upsert(into: plain) }

    func runPeyvand() throws { _ = try costOfPeyvand() }

    func costOfPeyvand() throws -> Cost {
        let empty = try DatabaseQueue(path: directory + "/replica.db").read {
            try Int.fetchOne($0, sql: "SELECT count(*) FROM customer")
        }
        guard empty == 0 else { throw NotTheSame(description: "The rows were there before.") }
        headOffice.measured.forgetPeak()
        let before = headOffice.measured.processorSeconds
        let (output, cost) = try Program.run(["sync", "--data", directory, "--json"])
        loaded = output
        return cost.beside(
            processor: headOffice.measured.processorSeconds - before,
            peakMemoryBytes: headOffice.measured.peakMemoryBytes
        )
    }

    func check() throws {
        let file = directory + "/replica.db"
        let logged = try DatabaseQueue(path: file).read { try Int.fetchOne($0, sql: "SELECT sum(rows) FROM log") } ?? 0
        // After a snapshot the log of what came later: that this branch has joined.
        guard way == .log ? logged >= source.rowCount : logged < source.rowCount / 1000 else {
            throw NotTheSame(description: "\(logged) rows came in change sets, not as a \(way) brings them: \(loaded)")
        }
        try plain.checkSame(as: file)
        try FileManager.default.removeItem(atPath: directory)
    }

    func finish() throws {
        headOffice.stop()
        try source.hub.reopen()
    }

    /// What of a peak is not SQLite's page cache of a writer, in megabytes; a small file does not fill that.
    static func megabytesBeyondCache(_ source: LoadSource) throws -> Double {
        let fileBytes = try FileManager.default.attributesOfItem(atPath: source.hub.path)[.size] as? Int ?? 0
        let cacheBytes = min(64 << 20, fileBytes)
        return try [LoadWay.log, .snapshot].map { way in
            let load = try LoadOverLine(source, by: way)
            let peak = try load.round(0).peyvand.peakMemoryBytes
            try load.finish()
            return Double(peak - cacheBytes) / 1_048_576
        }.max() ?? 0
    }
}
