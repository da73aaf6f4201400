import CRM
import Causality
import Foundation
import GRDB
import SimulationKit
import TestKit
import Testing

@testable import ReplicaStore

/// Backups, restoring them, and the fence beside a replica.
@Suite("Backups and the fence")
struct BackupTests {
    private let home = TemporaryDirectory()
    private var file: String { home.path + "/backup.db" }
    private let clock = NodeClock(wallClock: { 1_800_000_000_000 })

    @Test("A backup is verified, marked, and refused as a replica until it is restored")
    func marked() throws {
        let hub = try Office.headOffice()
        try hub.add(["name": .text("مریم")])
        let report = try hub.replica.backup(to: file) { _, _ in }
        #expect(report.rows == 2)
        #expect(report.position == (try hub.replica.status().end.position))
        #expect(throws: BackupFailure.self) { try hub.replica.backup(to: file) { _, _ in } }
        let safe = try hub.replica.read { try LocalFact.read(.safePosition, $0.db) }
        #expect(safe == Int64(report.position))

        let directory = home.path + "/byHand"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: file, toPath: Replica.path(in: directory))
        #expect {
            _ = try Replica.open(directory) { 1 }
        } throws: { error in
            if case StoreFailure.isBackup = error { true } else { false }
        }
    }

    @Test("A restored branch gets back what it had sent, and its later rows keep other numbers")
    func restoredBranch() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("b", of: hub)
        try branch.add(["name": .text("پیش")])
        try branch.sync(with: hub)
        _ = try branch.replica.backup(to: file) { _, _ in }
        let sent = try branch.add(["name": .text("پس")])
        try branch.sync(with: hub)

        let restored = try Office(restoring: file, in: home.path + "/restored")
        let made = try restored.add(["name": .text("تازه")])
        #expect(made != sent)
        try restored.sync(with: hub)
        try restored.sync(with: hub)
        #expect(restored.replica.node.origin != branch.replica.node.origin)
        #expect(try restored.value("name", of: sent) == .text("پس"))
        try expectEqual([hub, restored])
    }

    @Test("A restored head office writes under a new number and gives out none that it gave before")
    func restoredHeadOffice() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("b", of: hub)
        try branch.sync(with: hub)
        _ = try hub.replica.backup(to: file) { _, _ in }
        let lost = try Office.branch("x", of: hub)

        let restored = try Office(restoring: file, in: home.path + "/restored")
        #expect(restored.replica.node.origin.rawValue > lost.replica.node.origin.rawValue + 900)
        let next = try Office.branch("y", of: restored)
        #expect(next.replica.node.origin > restored.replica.node.origin)
        // Opened again it stays who it is.
        let origin = restored.replica.node.origin
        try restored.replica.close()
        let again = try Replica.open(home.path + "/restored") { 1_800_000_000_000 }
        #expect(again.node.origin == origin)
        #expect(try again.verify { _, _ in }.allSatisfy(\.isRight))
    }

    @Test("Head offices restored from one backup are different lives")
    func restoredTwice() throws {
        let hub = try Office.headOffice()
        _ = try hub.replica.backup(to: file) { _, _ in }
        let origins = try (0..<3).map { number in
            try Replica.restore(file, to: home.path + "/\(number)", replacing: false, older: false, clock: clock).origin
        }
        #expect(Set(origins).count > 1)
    }

    @Test("An older backup than the safe one is refused, with what would be missing")
    func olderBackup() throws {
        let hub = try Office.headOffice()
        _ = try hub.replica.backup(to: file) { _, _ in }
        for _ in 0..<5 { try hub.add(["name": .text("مریم")]) }
        _ = try hub.replica.backup(to: file + "2") { _, _ in }
        let directory = hub.directory
        try hub.replica.close()
        #expect(throws: BackupFailure.nodeThere(directory: directory)) {
            try Replica.restore(file, to: directory, replacing: false, older: false, clock: clock)
        }
        #expect(throws: BackupFailure.older(position: 1, safe: 6, end: 6)) {
            try Replica.restore(file, to: directory, replacing: true, older: false, clock: clock)
        }
        let report = try Replica.restore(file, to: directory, replacing: true, older: true, clock: clock)
        #expect(report.missing == 5)
        #expect(report.origin != report.formerOrigin)
        #expect(FileManager.default.fileExists(atPath: try #require(report.keptAside)))
    }

    @Test("A backup with a flipped byte in a row is not restored")
    func damaged() throws {
        let hub = try Office.headOffice()
        try hub.add(["name": .text("AAAAAAAAAAAAAAAAAAAAAAAA")])
        _ = try hub.replica.backup(to: file) { _, _ in }
        var bytes = try Data(contentsOf: URL(filePath: file))
        var found = 0
        var start = bytes.startIndex
        while let range = bytes.range(of: Data("AAAAAAAAAAAAAAAAAAAAAAAA".utf8), in: start..<bytes.endIndex) {
            bytes[range.lowerBound] = UInt8(ascii: "B")
            found += 1
            start = range.upperBound
        }
        #expect(found > 0)
        try bytes.write(to: URL(filePath: file))
        #expect(throws: (any Error).self) {
            try Replica.restore(file, to: home.path + "/restored", replacing: false, older: false, clock: clock)
        }
    }

    @Test("A backup made before an upgrade could not be restored by the newer program, which knows more columns")
    func restoredAfterUpgrade() throws {
        let hub = try Office.headOffice()
        let id = try hub.add(["name": .text("مریم")])
        _ = try hub.replica.backup(to: file) { _, _ in }
        let directory = home.path + "/restored"
        let report = try Replica.restore(
            file,
            to: directory,
            replacing: false,
            older: false,
            schema: .next,
            clock: clock
        )
        #expect(report.backup.rows == 2)
        let restored = try Replica.open(directory, schema: .next, clock: clock)
        _ = try restored.write { try $0.update("customer", id: id, ["loyalty": .text("طلایی")]) }
        #expect(try restored.verify { _, _ in }.allSatisfy(\.isRight))

        // The other way round nothing is touched.
        let newer = home.path + "/newer.db"
        _ = try restored.backup(to: newer) { _, _ in }
        try hub.replica.close()
        let before = try Data(contentsOf: URL(filePath: Replica.path(in: hub.directory)))
        #expect {
            _ = try Replica.restore(newer, to: hub.directory, replacing: true, older: true, clock: clock)
        } throws: { error in
            if case StoreFailure.newerSchema = error { true } else { false }
        }
        #expect(try Data(contentsOf: URL(filePath: Replica.path(in: hub.directory))) == before)
    }

    @Test("A restore that could not copy its file ended with words for programmers")
    func cannotCopy() throws {
        let hub = try Office.headOffice()
        _ = try hub.replica.backup(to: file) { _, _ in }
        let directory = home.path + "/restored"
        let inTheWay = Replica.path(in: directory) + ".restoring"
        try FileManager.default.createDirectory(atPath: inTheWay, withIntermediateDirectories: true)
        #expect {
            _ = try Replica.restore(file, to: directory, replacing: false, older: false, clock: clock)
        } throws: { error in
            if case BackupFailure.failed(let sentence) = error { sentence.contains(file) } else { false }
        }
        #expect(!Replica.exists(in: directory))
        // A directory is no backup.
        #expect(throws: BackupFailure.noFile(directory)) {
            try Replica.restore(directory, to: directory, replacing: false, older: false, clock: clock)
        }
    }

    @Test("A directory that was copied is noticed when it is opened, and gives no number twice")
    func copiedDirectory() throws {
        let hub = try Office.headOffice()
        let branch = try Office.branch("b", of: hub)
        try branch.add(["name": .text("پیش")])
        let copy = try branch.copy()
        let number = try branch.add(["name": .text("پس")])
        for fence in [Office.CopiedFence.asCopied, .missing] {
            let started = try Office(from: copy, fence: fence)
            #expect(try started.replica.status().lives.mustRenew != nil)
            #expect(try started.add(["name": .text("تازه")]) != number)
            let foreign = try started.otherProgram { try Int64.fetchOne($0, sql: "SELECT customer FROM nextId") }
            #expect(try #require(foreign) > number.rawValue)
        }
        let fitting = try Office(from: copy, fence: .fitting)
        #expect(try fitting.replica.status().lives.mustRenew == nil)
    }

    @Test("A replica put back beside its fence is noticed; one that was moved or opened again is not")
    func putBackInPlace() throws {
        let branch = try Office.branch("b", of: try Office.headOffice())
        try branch.add(["name": .text("یک")])
        let directory = branch.directory
        try branch.replica.close()
        let old = try Data(contentsOf: URL(filePath: Replica.path(in: directory)))
        func open(_ directory: String, writing: Bool) throws -> Bool {
            let replica = try Replica.open(directory) { 1_800_000_000_000 }
            defer { try? replica.close() }
            if writing { _ = try replica.write { try $0.insert("customer", ["name": .text("دو")]) } }
            return try replica.status().lives.mustRenew != nil
        }
        #expect(try !open(directory, writing: false))
        #expect(try !open(directory, writing: true))
        let moved = home.path + "/moved"
        try FileManager.default.moveItem(atPath: directory, toPath: moved)
        #expect(try !open(moved, writing: true))
        // In place: the inode stays, the count of openings does not.
        let handle = try FileHandle(forWritingTo: URL(filePath: Replica.path(in: moved)))
        try handle.truncate(atOffset: 0)
        try handle.write(contentsOf: old)
        try handle.close()
        #expect(try open(moved, writing: false))
    }

    @Test("Head office's directory that was put back takes a new number when it is opened")
    func copiedHeadOffice() throws {
        let hub = try Office.headOffice()
        try hub.add(["name": .text("مریم")])
        let started = try Office(from: try hub.copy(), fence: .asCopied)
        #expect(started.replica.node.origin != hub.replica.node.origin)
        #expect(try started.add(["name": .text("زهرا")]).origin == started.replica.node.origin)
        #expect(try started.replica.verify { _, _ in }.allSatisfy(\.isRight))
    }
}
